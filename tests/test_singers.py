"Singers in and out of domain: which voices, which fragments, and that every score is computed once and says what it is made of."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import vocalrep.papers.singer_identity.conditions as room
from vocalrep.data.corpora import CORPORA, m4singer_corpus, vocals_corpus, vocalset_corpus
from vocalrep.evaluation.embedding import fragment_places
from vocalrep.models.encoders import Encoder, MeanMFCC
from vocalrep.report.scores import System, clip_embeddings
from vocalrep.models.adapters import Listener
from vocalrep.evaluation.metrics import equal_error_rate, normalize_embeddings
from vocalrep.project import PAPER_PRESETS, VocalrepError
from vocalrep.papers.singer_identity.conditions import (CORPUS_LABELS, NARROW, SINGER_SYSTEMS, Voices, dry_and_mixed_scores, find_singer_systems, find_voices, fragment_embeddings, named_folders, on_fragments,
                              score_singers, summarise_singers)
from vocalrep.data.store import Sound, prepare
from vocalrep.evaluation.verification import RankRule, sample_trials, trial_eer, trial_mnr, write_trials


class Ear(Encoder):
    "Energies in bands up to half of its rate; it counts the fragments it hears."

    def __init__(self, rate=44100, layers=0):
        super().__init__()
        self.name, self.rate, self.seconds, self.dim, self.heard = "ear", rate, 4.0, 24, 0
        if layers:
            self.layers = lambda waves: torch.stack([self(waves) * (k + 1) for k in range(layers)], 1)     # (B, L, D)

    def forward(self, waveforms):
        self.heard += len(waveforms)
        power = torch.fft.rfft(waveforms).abs().square()
        return torch.stack([band.mean(1) for band in power.tensor_split(self.dim, dim=1)], 1).clamp(min=1e-9).log()


def system(ear, name="ear", **fields):
    return System(name, lambda device: ear, **{**dict(identity=f"{name}-{ear.rate}", scaling="peak", origin="made here"), **fields})


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def choir(dry):
    "Five singers with three tracks of two fragments."
    return dry([(f"singer {i}", "test", 8.5) for i in range(5) for _ in range(3)])


@pytest.fixture
def voices(choir):
    return Voices("choir", choir, "test", "in-domain")


ABSENT = System("H/ASP", None, origin="no weights here")
QUICK = dict(progress=False, device="cpu")


# ---- which voices ----

@pytest.mark.parametrize("text, expected", [
    ("", {}),
    (" ; ;", {}),
    ("techniques", {"techniques": ""}),
    ("vocalset=/data/Vocal Set, 1.1;vctk=/data/VCTK", {"vocalset": "/data/Vocal Set, 1.1", "vctk": "/data/VCTK"}),
    (" vocalset = /data/a=b ; techniques ;", {"vocalset": "/data/a=b", "techniques": ""}),
])
def test_named_folders(text, expected):
    assert named_folders(text) == expected


def test_a_misspelt_corpus_is_one_error():
    with pytest.raises(VocalrepError, match="unknown corpus 'vocal set'.*vocalset"):
        named_folders("vctk=/data;vocal set=/data")
    assert set(CORPUS_LABELS) <= set(CORPORA)


def test_voices_in_and_out_of_domain(choir, monkeypatch):
    asked = []
    monkeypatch.setattr(room, "open_store", lambda name, root, preset, paper, sound: asked.append((name, root, preset, paper, sound)) or f"store of {name}")
    found = find_voices(choir, "vctk=/data/VCTK;music4all=/data/real;folder=/data/f", "smoke", "vctk=/data/pairs.txt")
    assert found == [Voices("dry (test)", choir, "test", "in-domain"), Voices("VCTK", "store of vctk", None, "out-of-domain", "/data/pairs.txt"),
                     Voices("real voices", "store of music4all", None, "out-of-domain"), Voices("folder", "store of folder", None, "out-of-domain")]
    whole = Sound(44100, ("vocals",))                                    # of the corpora that released lists name; of songs, rests are shortened
    assert asked == [(name, root, "smoke", "singer_identity", sound) for name, root, sound in (("vctk", "/data/VCTK", whole), ("music4all", "/data/real", None), ("folder", "/data/f", None))]
    assert [v.store for v in find_voices(choir)[1:]] == ["store of techniques"]
    with pytest.raises(VocalrepError, match="unknown corpus of a list of trials 'vctk'.*techniques"):
        find_voices(choir, trial_lists="vctk=/data/pairs.txt")


# ---- fragments ----

def _file(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(round(seconds * 8000)) * 0.3), 8000)


def test_fragments_are_called_as_the_release_calls_them(tmp_path):
    _file(tmp_path / "vocals/Ada/Album 1/My song, live.wav", 9.0)
    _file(tmp_path / "vocals/Béla/solo.wav", 4.0)
    _file(tmp_path / "vocals/Béla/brief.wav", 3.9)
    _file(tmp_path / "vocalset/FULL/female1/arpeggios/belt/f1_arpeggios_belt_a.wav", 13.0)
    _file(tmp_path / "m4singer/Alto-1#newboy/0000.wav", 5.0)
    found = {}
    for name, corpus in (("vocals", vocals_corpus), ("vocalset", vocalset_corpus), ("m4singer", m4singer_corpus)):
        store = prepare(corpus(tmp_path / name), tmp_path / f"store of {name}", Sound(8000, ("vocals",), silence=1.3), workers=1, progress=False)
        found[name] = fragment_places(store)["name"].tolist()
    assert found == {
        "vocals": ["Ada/Ada-Album1-Mysonglive_0_4_4s.wav", "Ada/Ada-Album1-Mysonglive_4_8_4s.wav", "Béla/Béla-solo_0_4_4s.wav"],
        "vocalset": [f"female1/f1_arpeggios_belt_a_{k}_{k + 4}_4s.wav" for k in (0, 4, 8)],
        "m4singer": ["Alto-1/Alto-1#newboy-0000_0_4_4s.wav"],
    }


def test_fragments_lie_one_after_the_other_and_never_in_the_padding(dry):
    seconds = dict(Ada=[3.99, 4.0, 7.99], Béla=[8.0, 21.3], Cleo=[2.0])
    store = dry([(artist, "test" if artist == "Cleo" else "valid", s) for artist, all_ in seconds.items() for s in all_], rate=500)
    places = fragment_places(store)
    expected = [(f"{artist}-{i}", artist, k * 2000, f"{artist}/{artist}-{i}_{4 * k}_{4 * k + 4}_4s.wav") for artist, all_ in seconds.items() for i, s in enumerate(all_) for k in range(int(s // 4))]
    assert list(places[["clip", "artist", "offset", "name"]].itertuples(index=False, name=None)) == expected and places["name"].is_unique
    assert (store.segments.position.to_numpy()[places["row"]] == 0).all() and (store.segments["clip"].to_numpy()[places["row"]] == places["clip"]).all()
    waves = store.excerpts(places["row"].to_numpy(), places.offset.to_numpy(), 2000, "vocals")
    assert (waves > 0).all()                                                 # these voices never pause
    assert len(fragment_places(store, "valid")) == len(expected) and len(fragment_places(store, "valid", seconds=2.0)) == 1 + 2 + 3 + 4 + 10
    with pytest.raises(VocalrepError, match="no clip of .* in the test split lasts 4 s"):
        fragment_places(store, "test")


def test_embeddings_stand_in_the_order_of_the_fragments(voices):
    ear = Ear()
    places, vectors = fragment_embeddings(system(ear), voices, device="cpu")
    assert vectors.shape == (30, 24) and ear.heard == 30 and isinstance(vectors, np.memmap)
    listener = Listener(Ear(), 44100, 4.0, "peak")
    for place, vector in zip(places.itertuples(), vectors, strict=True):
        wave = voices.store.excerpts(np.array([place.row]), np.array([place.offset]), 176_400, "vocals")
        np.testing.assert_allclose(vector, listener(wave)[0], rtol=1e-4, atol=1e-4)
    again = fragment_embeddings(system(ear), voices, device="cpu")[1]
    assert ear.heard == 30 and np.array_equal(again, vectors)                # read, not computed
    fragment_embeddings(system(ear, identity="another"), voices, device="cpu")
    assert ear.heard == 60


def test_the_narrow_band_and_the_level_are_what_they_say(voices):
    ear = Ear()
    narrow, full, loud = (np.asarray(fragment_embeddings(system(ear, scaling=level), voices, through, device="cpu")[1]) for through, level in ((NARROW, "peak"), (None, "peak"), (None, "recorded")))
    assert ear.heard == 90                                                   # none stands in for another
    np.testing.assert_allclose(narrow[:, 0], full[:, 0], atol=0.02)          # these voices are below 1 kHz
    assert not np.allclose(narrow, full, atol=0.5) and not np.allclose(loud[:, 0], full[:, 0], atol=0.02)


def test_layers_of_an_encoder_that_has_several(voices):
    ear = Ear(layers=3)
    vectors = fragment_embeddings(system(ear), voices, layers=True, device="cpu")[1]
    plain = fragment_embeddings(system(ear), voices, device="cpu")[1]
    assert vectors.shape == (30, 3, 24) and plain.shape == (30, 24)
    np.testing.assert_allclose(vectors, plain[:, None] * np.array([1, 2, 3])[:, None], rtol=1e-4, atol=1e-5)
    with pytest.raises(VocalrepError, match="H/ASP cannot be run here: no weights here"):
        fragment_embeddings(ABSENT, voices)


# ---- scores ----

def test_similarity_scores_are_those_of_the_trials(voices):
    scores = score_singers([system(Ear())], [voices], rates=[None], trials=300, **QUICK)
    places, vectors = fragment_embeddings(system(Ear()), voices, device="cpu")
    pairs, x = sample_trials(places, 300), np.array(vectors)
    assert len(scores) == 6 and set(scores.normalisation) == {"none", "center", "zscore"}
    for row in scores.itertuples():
        expected = dict(eer=trial_eer, mnr=trial_mnr)[row.metric](places, normalize_embeddings(x, row.normalisation), pairs)
        assert row.value == pytest.approx(expected["value"], abs=1e-6) and (row.trials, row.singers, row.clips, row.reduced) == tuple(expected[k] for k in ("trials", "singers", "clips", "reduced"))


def test_scores_are_computed_once(voices, choir):
    ear = Ear()
    ask = lambda who=None, them=voices, task="similarity", **options: score_singers([who or system(ear)], [them], task, **QUICK, **options)
    first = ask(trials=200)
    assert ear.heard == 60                                                   # both rates
    worked = []
    before, room.TASKS["similarity"] = room.TASKS["similarity"], lambda *a, **o: worked.append(o) or before(*a, **o)
    try:
        pd.testing.assert_frame_equal(ask(trials=200), first)
        assert not worked and ear.heard == 60
        ask(trials=201), ask(trials=200, rule="paper"), ask(trials=200, rule=RankRule("trials", 7, "singer", count=3))
        assert len(worked) == 6 and ear.heard == 60                          # other scores of the same embeddings
        ask(them=dataclasses.replace(voices, label="the same choir", role="out-of-domain"), trials=200)
        assert len(worked) == 6
        ask(them=dataclasses.replace(voices, split=None), trials=200)
        ask(who=system(ear, identity="trained longer"), trials=200)
        assert len(worked) == 10 and ear.heard == 180
    finally:
        room.TASKS["similarity"] = before
    other = ask(them=dataclasses.replace(voices, label="the same choir", role="out-of-domain"), trials=200)
    assert set(other.corpus) == {"the same choir"} and set(other.role) == {"out-of-domain"} and np.array_equal(other.value, first.value)


def test_a_list_of_trials_is_used_and_a_changed_one_is_another(voices, tmp_path):
    places, vectors = fragment_embeddings(system(Ear()), voices, device="cpu")
    lists = [sample_trials(places, 100, seed) for seed in (1, 2)]
    heard = dataclasses.replace(voices, trials=str(tmp_path / "pairs.txt"))
    values = []
    for pairs in lists:
        write_trials(pairs, heard.trials)
        scores = score_singers([system(Ear())], [heard], rates=[None], **QUICK)
        values.append(scores[(scores.metric == "eer") & (scores.normalisation == "none")].value.item())
        assert values[-1] == pytest.approx(trial_eer(places, np.asarray(vectors), pairs)["value"])
    assert values[0] != values[1]
    write_trials(pd.DataFrame(dict(label=[1, 0], first=["x/y_0_4_4s.wav"] * 2, second=["x/y_4_8_4s.wav"] * 2)), heard.trials)
    with pytest.raises(VocalrepError, match="files of the trials are not among the 30 fragments, such as 'x/y_0_4_4s.wav'"):
        score_singers([system(Ear())], [heard], **QUICK)


@pytest.mark.parametrize("rate, rates, expected", [
    (44100, (NARROW, None), {16.0, 44.1}), (44100, (None,), {44.1}), (44100, (NARROW,), {16.0}),
    (16000, (NARROW, None), {16.0}), (16000, (NARROW,), {16.0}), (8000, (NARROW, None), {16.0}),
])
def test_an_encoder_is_heard_at_the_rates_it_has(voices, rate, rates, expected):
    scores = score_singers([system(Ear(rate))], [voices], rates=rates, trials=100, **QUICK)
    assert set(scores.rate) == expected and len(scores) == 6 * len(expected)


def test_what_cannot_be_run_is_left_out_and_nothing_at_all_is_one_error(voices):
    scores = score_singers([ABSENT, system(Ear())], [voices], trials=100, **QUICK)
    assert set(scores.system) == {"ear"}
    with pytest.raises(VocalrepError, match="nothing to score: H/ASP: no weights here"):
        score_singers([ABSENT], [voices], **QUICK)
    with pytest.raises(VocalrepError, match="unknown task 'gender'.*similarity, identification"):
        score_singers([system(Ear())], [voices], "gender", **QUICK)
    with pytest.raises(VocalrepError, match="unknown rank rule 'mine'.*paper, released"):
        score_singers([system(Ear())], [voices], rule="mine", **QUICK)


def test_voices_may_come_one_by_one(voices):
    scores = score_singers([system(Ear()), system(Ear(), "other")], (v for v in [voices]), trials=100, **QUICK)
    assert set(scores.system) == {"ear", "other"}


def test_a_narrow_encoder_asked_for_the_full_band_says_so(voices):
    with pytest.raises(VocalrepError) as error:
        score_singers([system(Ear(16000), "narrow")], [voices], rates=[None], **QUICK)
    assert "cannot be run" not in str(error.value) and "no system can be run" not in str(error.value)


def test_scores_of_few_voices_say_so(voices, dry):
    scores = score_singers([system(Ear())], [voices], rates=[None], trials=100, **QUICK).set_index(["metric", "normalisation"])
    reduced = scores.reduced["mnr", "none"]
    positives = scores.trials["mnr", "none"]
    assert 30 < positives < 70 and f"{positives} of 1000 queries" in reduced and "of 513 candidates" in reduced
    assert not scores.reduced["eer", "none"] and (scores.trials.xs("eer") == 100).all() and (scores.singers == 5).all() and scores.clips.le(15).all()
    named = score_singers([system(Ear())], [voices], "identification", rates=[None], folds=5, **QUICK)
    assert len(named) == 1 and named.metric[0] == "accuracy" and "3 of 5 folds" in named.reduced[0] and 0 <= named.value[0] <= 1 and named.trials[0] == 30
    single = Voices("one", dry([("Ada", "test", 9.0)] * 4), None, "out-of-domain")
    alone = score_singers([system(Ear())], [single], "identification", rates=[None], **QUICK)
    assert np.isnan(alone.value[0]) and "not possible" in alone.reduced[0]
    with pytest.raises(VocalrepError, match="two singers, found 1"):
        score_singers([system(Ear())], [single], **QUICK)


def test_summaries_against_a_loop():
    rng = np.random.default_rng(0)
    rows = [dict(system=s, seed=seed, corpus=c, role="in-domain", rate=16.0, metric="eer", normalisation=n, value=rng.random(), trials=100 + seed, singers=5, clips=9 - seed, reduced="few" * (seed == 1), trained_on="x")
            for s in ("b", "a") for c in ("u", "v") for n in ("none", "zscore") for seed in range(3)]
    table = summarise_singers(pd.DataFrame(rows), "table3", "smoke")
    assert len(table) == 8 and table.system.iloc[0] == "b" and (table[["seeds", "trials", "clips"]] == [3, 100, 7]).all(None) and (table.reduced == "few").all()
    for row in table.itertuples():
        values = [r["value"] for r in rows if (r["system"], r["corpus"], r["normalisation"]) == (row.system, row.corpus, row.normalisation)]
        mean = sum(values) / 3
        assert row.mean == pytest.approx(mean) and row.sd == pytest.approx((sum((v - mean) ** 2 for v in values) / 3) ** 0.5)
        assert (row.paper, row.item, row.preset) == ("singer_identity", "table3", "smoke")


# ---- systems ----

def test_systems_without_training(choir):
    names = ["mean MFCC", "H/ASP", "untrained"]
    found = find_singer_systems(choir, "smoke", seed=3, seeds=2, names=names, device="cpu", progress=False)
    assert [(s.name, s.seed) for s in found] == [("mean MFCC", 0), ("H/ASP", 0), ("untrained", 3), ("untrained", 4)] and {s.scaling for s in found} == {"peak"}
    assert found[1].make is None and "h-asp" in found[1].origin.lower()
    first, second = (s.make("cpu") for s in found[2:])
    waves = torch.randn(2, 44_100)
    with torch.no_grad():
        assert torch.equal(first(waves), found[2].make("cpu")(waves)) and not torch.equal(first(waves), second(waves))
    other = find_singer_systems(choir, "smoke", seed=3, names=["untrained"], protocol="paper", progress=False)
    assert len({s.identity for s in (*found[2:], *other)}) == 3 and other[0].make("cpu").spec["bands"] == 80
    with pytest.raises(VocalrepError, match="unknown system 'COLA'.*" + SINGER_SYSTEMS[-1]):
        find_singer_systems(choir, names=["COLA"])


def test_trained_systems_are_trained_once(dry, monkeypatch):
    smoke = dataclasses.replace(PAPER_PRESETS["singer_identity"]["smoke"], steps=1, step_pairs=2, batch=2, shifted_clips=None)
    monkeypatch.setitem(PAPER_PRESETS["singer_identity"], "smoke", smoke)
    monkeypatch.setattr("vocalrep.training.recipes.prefetch_augmented", lambda sides, *_: sides)
    store = dry([(f"s{i}", split, 4.1) for i, split in enumerate(["train"] * 3 + ["valid"] * 2)])
    first, again = (find_singer_systems(store, "smoke", names=["UNIF"], device="cpu", progress=False)[0] for _ in range(2))
    assert (first.origin, again.origin, first.identity, first.trained_on, first.scaling) == ("trained now", "a finished run", again.identity, "dry", "peak")
    assert first.make("cpu").spec["kind"] == "singer"


def test_a_system_that_hears_fragments(store):
    bare = System("mean MFCC", lambda device: MeanMFCC().eval(), "mfcc", scaling="peak", origin="nothing to train")
    heard = on_fragments(bare)
    assert on_fragments(ABSENT) is ABSENT and (heard.scaling, heard.seconds, heard.name) == ("recorded", 4.0, "mean MFCC")
    assert len({bare.identity, heard.identity, on_fragments(bare, 44100).identity, on_fragments(bare, seconds=5.0).identity, on_fragments(dataclasses.replace(bare, scaling="recorded")).identity}) == 5
    encoder = heard.make("cpu")
    waves = 0.1 * torch.randn(2, 64_000)
    expected = torch.stack([MeanMFCC()((waves / waves.abs().amax(1, keepdim=True))[:, k * 16000:(k + 1) * 16000]) for k in range(4)]).mean(0)
    assert (encoder.rate, encoder.seconds, encoder.training) == (16000, 4.0, False)
    torch.testing.assert_close(encoder(waves), expected, atol=1e-4, rtol=1e-4)


def test_dry_and_mixed_voices_against_loops(store):
    heard = on_fragments(System("mean MFCC", lambda device: MeanMFCC().eval(), "mfcc", scaling="peak"))
    artists = sorted(store.clips.artist.unique())[:6]
    table = dry_and_mixed_scores([heard], store, artists=artists, device="cpu")
    assert len(table) == 9
    clips, dry_vectors = clip_embeddings(heard, store, "vocals", None, "cpu")
    _, mixed = clip_embeddings(heard, store, "mixture", None, "cpu")
    keep = np.flatnonzero(clips.artist.isin(artists))
    names = clips.artist.to_numpy()[keep]
    for row in table.itertuples():
        sides = {"vocals": normalize_embeddings(dry_vectors[keep], row.normalisation), "mixture": normalize_embeddings(mixed[keep], row.normalisation)}
        first, _, second = row.mode.partition(" to ")
        a, b = sides[first], sides[second or first]
        cosine = lambda i, j: a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j])
        pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
        same = np.array([cosine(i, j) for i, j in pairs if names[i] == names[j]])
        different = np.array([cosine(i, j) for i, j in pairs if names[i] != names[j]])
        assert row.eer == pytest.approx(equal_error_rate(same, different), abs=1e-3) and (row.artists, row.clips) == (len(set(names)), len(names))
    with pytest.raises(VocalrepError, match="two artists with two clips, found 1 artists"):
        dry_and_mixed_scores([heard], store, artists=artists[:1], device="cpu")
