"Real voices: whose they are, what is heard of them, and how sure it is."
import numpy as np
import pandas as pd
import pytest
import soundfile

from vocalrep.evaluation.backend import BACKENDS
from vocalrep.evaluation.tasks import MIXTURE, VOCALS, vocals_in_words
from vocalrep.evaluation.verification import DRAWN
from vocalrep.models.encoders import MeanMFCC
from vocalrep.papers.cvsm.paper import PAPER
from vocalrep.papers.cvsm.voices import (
    SEPARATED, draw_voices, gains, heard_voices, leaders, readme_of, score_voices, with_intervals)
from vocalrep.report.systems import System

QUIET = dict(workers=1, progress=False)
SYSTEMS = [System(name, lambda device, n=n: MeanMFCC(n).eval(), f"mfcc-{n}", trained_on=trained)
           for name, n, trained in (("COLA", 12, "studio"), ("MSCOL", 16, "studio"), ("mean MFCC", 20, ""))]


@pytest.fixture(scope="module", autouse=True)
def _own_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOCALREP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def write_voices(root, stems):
    "Four artists with two clips of six seconds in Music4All's layout."
    rng, t = np.random.default_rng(0), np.arange(6 * 16000) / 16000
    (root / "audios").mkdir(parents=True)
    rows = [(f"{artist}{clip}", artist) for artist in "abcd" for clip in range(2)]
    for k, (name, artist) in enumerate(rows):
        voice = 0.3 * np.sign(np.sin(2 * np.pi * (150 + 60 * "abcd".index(artist) + k) * t))
        band = 0.2 * np.sin(2 * np.pi * 80 * t) + 0.05 * rng.normal(size=t.size)
        soundfile.write(root / "audios" / f"{name}.mp3", voice + band, 16000)
        if stems:
            (root / "stems" / name).mkdir(parents=True)
            soundfile.write(root / "stems" / name / "vocals.ogg", voice, 16000)
    pd.DataFrame(rows, columns=["id", "artist"]).to_csv(root / "id_information.csv", sep="\t", index=False)
    return root


@pytest.fixture(scope="module")
def heard(store, tmp_path_factory):
    root = write_voices(tmp_path_factory.mktemp("voices") / "public", True)
    return heard_voices("music4all", root, "smoke", "four oscillators", store, **QUIET)


@pytest.fixture(scope="module")
def scores(heard):
    return score_voices(SYSTEMS, heard, PAPER.tasks()["all pairs"], "cpu")


def test_true_vocals_and_what_a_user_has(heard):
    (true, both), (apart, separated) = heard
    assert both == (VOCALS, MIXTURE) and separated == (SEPARATED,)
    assert [vocals_in_words(them.store) for them in (true, apart)] == ["true vocals", "vocals separated by studio-umx"]
    assert true.store.folder != apart.store.folder and true.label == apart.label == "four oscillators"
    a, b = (them.store.excerpts(np.array([0]), np.array([0]), 16000, "vocals").numpy() for them in (true, apart))
    assert not np.allclose(a, b)


def test_without_stems_vocals_are_never_called_true(store, tmp_path):
    root = write_voices(tmp_path / "public", False)
    (voices, conditions), = heard_voices("music4all", root, "smoke", "x", store, **QUIET)
    assert conditions == (SEPARATED, MIXTURE) and vocals_in_words(voices.store).startswith("vocals separated by ")


def test_every_normalisation_has_an_interval_over_artists(scores):
    table = with_intervals(scores)
    assert set(table.normalisation) == {"none", "center", "zscore", *BACKENDS} and len(table) == 3 * 3 * 5
    known = table.dropna(subset=["low", "high"])
    assert len(known) and (known.low < known.high).all() and known[["low", "high"]].stack().between(0, 1).all()
    panels = draw_voices(table).axes
    assert [axis.get_title() for axis in panels] == ["vocals", "mixture", "separated vocals"]
    for axis in panels:
        assert {line.get_label() for line in axis.lines} >= {"as it is", "WCCN", "WCCN by clips"}
        for segment in (s for bars in axis.collections for s in bars.get_segments() if len(s) == 2):
            assert segment[1, 0] > segment[0, 0]                                   # none of zero width


def test_intervals_by_hand(scores):
    row = with_intervals(scores).dropna().iloc[-1]
    same = [scores[key] == row[key] for key in ("system", "condition", "normalisation")]
    own = scores[np.all(same, axis=0)]
    assert row.eer == own[own.metric == "eer"].value.item()
    drawn = own[own.metric == DRAWN].value
    assert (row.low, row.high) == pytest.approx(tuple(np.nanquantile(drawn, [0.025, 0.975])))


def test_gains_are_taken_draw_by_draw(scores):
    row = gains(scores).set_index(["system", "condition", "normalisation"]).loc["MSCOL", "vocals", "wccn"]
    own = scores[(scores.system == "MSCOL") & (scores["condition"] == "vocals")]
    wide = own[own.metric == DRAWN].pivot(index="repetition", columns="normalisation", values="value")
    expected = (wide["wccn"] - wide["center"]).dropna().quantile([0.025, 0.975])
    assert (row.low, row.high) == pytest.approx(tuple(expected))


def test_the_best_trained_system_stands_beside_the_others(scores):
    table = with_intervals(scores)
    best = leaders(table, ["COLA", "MSCOL"])
    assert list(best) == ["best trained", "its EER", "mean MFCC"] and len(best) == 15
    own = table[(table["condition"] == "mixture") & (table.normalisation == "none") & (table.system != "mean MFCC")]
    assert best.loc[("mixture", "as it is"), "its EER"] == 100 * own.eer.min()


def test_a_readme_says_whose_voices_they_are(tmp_path):
    assert readme_of(tmp_path / "nowhere" / "else") == ""
    (tmp_path / "README.md").write_text("# Choir\n\nSix friends.\n\nNot this.")
    (tmp_path / "audios").mkdir()
    assert readme_of(tmp_path) == readme_of(tmp_path / "audios") == "> Choir\n>\n> Six friends."
