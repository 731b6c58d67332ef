"Tables and figures of the singer-identity paper: ours and theirs never mixed up, every number where it belongs, sentences counted as they read."
from types import SimpleNamespace

import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle

from vocalrep.report.plots import COLOURS, look
from vocalrep.project import VocalrepError
from vocalrep.report.published import published_results
from vocalrep.papers.singer_identity.figures import (FIVE, FLOORS, METRICS, MODES, PRIVATE, SINGER_CLAIMS, SingerClaim, beside_floors, beside_published_singers, draw_dry_and_mixed, draw_identification,
                                     draw_similarity, judge_singers, measure_treble, print_singers)
from vocalrep.papers.singer_identity.conditions import SINGER_SYSTEMS, SPEECH_SYSTEMS, summarise_singers

NARROW = {"mean MFCC", "GE2E", *SPEECH_SYSTEMS}
VOICES = {"studio (test)": "in-domain", "techniques": "out-of-domain", "VocalSet": "out-of-domain"}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def summary(item="table3", systems=("mean MFCC", "GE2E", "untrained", *FIVE), voices=VOICES, seeds=1, reduced="", seed=0):
    "A summary as `summarise_singers` makes it, of random scores."
    rng, metrics = np.random.default_rng(seed), ("eer", "mnr") if item == "table3" else ("accuracy",)
    rows = [dict(system=s, seed=k, corpus=corpus, role=role, rate=rate, metric=metric, normalisation=how, value=rng.uniform(0.05, 0.45), trials=100, singers=20, clips=40, reduced=reduced)
            for s in systems for k in range(seeds) for corpus, role in voices.items() for rate in ((16.0,) if s in NARROW else (16.0, 44.1) if item == "table3" else (44.1,))
            for metric in metrics for how in (("none", "center", "zscore") if item == "table3" else ("none",))]
    return summarise_singers(pd.DataFrame(rows), item, "smoke")


def as_results(item):
    "The published table in the place of ours."
    theirs = published_results("singer_identity", item)
    return theirs.assign(role=np.where(theirs.corpus == "test", "in-domain", "out-of-domain"), normalisation="none", sd=0.0, seeds=1, trials=1, singers=1, clips=1, reduced="", preset="paper")


def markers(axis, row):
    "(x, rate by its fill) of every marker of a row of a figure, ticks left out."
    place = [t.get_text() for t in axis.figure.axes[0].get_yticklabels()].index(row)
    lines = [line for line in axis.lines if len(line.get_ydata()) == 1 and line.get_ydata()[0] == place and str(line.get_marker()) not in ("None", "|")]
    return {16.0 if line.get_markerfacecolor() == "white" else 44.1: round(float(line.get_xdata()[0]), 6) for line in lines}


# ---- ours beside theirs

def test_rows_meet_only_where_the_corpus_is_the_same():
    results = summary()
    beside = beside_published_singers(results, "table3")
    both = beside.dropna(subset=["ours", "published"])
    assert set(both.corpus) == {"VocalSet"} and set(both.system) == {"GE2E", *FIVE}
    assert beside[beside.corpus == PRIVATE].ours.isna().all() and beside[beside.corpus == "studio (test)"].published.isna().all() and "test" not in set(beside.corpus)
    own = results[results.normalisation == "none"]
    assert beside.ours.notna().sum() == len(own) and beside.published.notna().sum() == len(published_results("singer_identity", "table3"))
    merged = own.merge(beside, on=["system", "corpus", "rate", "metric"])
    assert len(merged) == len(own) and np.allclose(merged["mean"], merged.ours)
    row = beside.set_index(["system", "corpus", "rate", "metric"]).loc[("CONT-VC", "VocalSet", 44.1, "eer")]
    assert row.published == 0.2974 and list(dict.fromkeys(beside.corpus))[:4] == ["studio (test)", PRIVATE, "techniques", "VocalSet"]


def test_another_normalisation_is_asked_for_by_name():
    results = summary()
    centred = beside_published_singers(results, "table3", "center")
    own = results[(results.normalisation == "center") & (results.system == "BYOL") & (results.corpus == "techniques") & (results.metric == "eer") & (results.rate == 16)]
    assert centred.set_index(["system", "corpus", "rate", "metric"]).ours[("BYOL", "techniques", 16.0, "eer")] == own["mean"].item()


def test_printed_cells():
    beside = beside_published_singers(summary(seeds=3), "table3")
    printed = print_singers(beside)
    assert list(printed.index) == ["GE2E", *SPEECH_SYSTEMS, "mean MFCC", "untrained", "VICReg", "UNIF", "CONT", "CONT-VC", "BYOL"]
    here = lambda corpus, rate: printed[corpus, METRICS["eer"], "here, smoke", rate]
    row = beside.set_index(["system", "corpus", "rate", "metric"]).loc[("UNIF", "techniques", 44.1, "eer")]
    assert here("techniques", "44.1 kHz")["UNIF"] == f"{100 * row.ours:.2f} ± {100 * row.ours_sd:.2f}"
    assert here("techniques", "44.1 kHz")["GE2E"] == "–" and (printed.loc["H/ASP"].xs("here, smoke", level=2) == "not run").all()
    said = printed["VocalSet", METRICS["mnr"], "published", "44.1 kHz"]
    assert said["BYOL"] == "21.25" and said["H/ASP"] == "–" and said["mean MFCC"] == ""
    assert PRIVATE in printed and all(column[2] == "published" for column in printed.columns if column[0] == PRIVATE)


def test_printed_without_spread_reduced_and_impossible():
    results = summary("table4", seeds=1, reduced="3 of 5 folds")
    results.loc[(results.system == "CONT") & (results.corpus == "techniques"), "mean"] = np.nan
    printed = print_singers(beside_published_singers(results, "table4"))
    cells = printed["techniques", METRICS["accuracy"], "here, smoke"]
    assert printed.columns.nlevels == 3 and cells["CONT"] == "not possible†" and cells["BYOL"].endswith("†") and "±" not in cells["BYOL"] and cells["XLSR-53"] == "not run"


def test_a_system_and_a_corpus_that_nobody_published():
    results = summary(systems=("my network", "CONT"), voices={"vocals (test)": "in-domain"})
    beside = beside_published_singers(results, "table3")
    assert beside.dropna(subset=["ours", "published"]).empty
    assert print_singers(beside)["vocals (test)"].loc["my network"].tolist() != ["not run"] * 4


@pytest.mark.parametrize("spoil, words", [
    (lambda t: t[t["item"] == "table4"], "no result of singer_identity table3"),
    (lambda t: pd.concat([t, t.assign(preset="laptop")]), "laptop"),
    (lambda t: pd.concat([t, t]), "several results"),
])
def test_what_cannot_stand_in_one_table(spoil, words):
    with pytest.raises(VocalrepError, match=words):
        beside_published_singers(spoil(summary()), "table3")


# ---- figures

def test_similarity_draws_the_numbers_of_its_table():
    results = summary()
    figure = draw_similarity(results)
    assert [a.get_title().partition("\n")[0] for a in figure.axes] == list(VOICES)
    for axis, corpus in zip(figure.axes, VOICES):
        own = results[(results.corpus == corpus) & (results.metric == "eer")].set_index(["system", "normalisation", "rate"]).sort_index()["mean"]
        for row, system, how in (("CONT", "CONT", "none"), ("mean MFCC", "mean MFCC", "none"), ("mean MFCC, centred", "mean MFCC", "center"), ("mean MFCC, z-scored", "mean MFCC", "zscore")):
            assert markers(axis, row) == {rate: round(100 * x, 6) for rate, x in own[system, how].items()}
        assert sum(t.get_text() == "not run" for t in axis.texts) == len(SPEECH_SYSTEMS) and markers(axis, "H/ASP") == {}


def test_published_ticks_only_on_the_same_corpus():
    figure = draw_similarity(summary(), "mnr")
    theirs = published_results("singer_identity", "table3").query("corpus == 'VocalSet' and metric == 'mnr'")
    drawn = [sorted(float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "|") for axis in figure.axes]
    assert drawn[:2] == [[], []] and np.allclose(drawn[2], sorted(100 * theirs["mean"]))
    assert sum("published" in t.get_text() for t in figure.legends[0].get_texts()) == 2
    alone = draw_similarity(summary(voices={"studio (test)": "in-domain"}))
    assert not any("published" in t.get_text() for t in alone.legends[0].get_texts())


def test_whiskers_need_several_seeds():
    bars = lambda figure: sum(len(c.lines[2]) for axis in figure.axes for c in axis.containers)
    assert bars(draw_identification(summary("table4", seeds=1))) == 0 < bars(draw_identification(summary("table4", seeds=2)))


def test_identification_panels_and_an_impossible_score():
    results = summary("table4")
    results.loc[results.system == "CONT", "mean"] = np.nan
    figure = draw_identification(results)
    own = results.set_index(["system", "corpus"])["mean"]
    assert markers(figure.axes[1], "BYOL") == {44.1: round(100 * own["BYOL", "techniques"], 6)} and markers(figure.axes[1], "GE2E") == {16.0: round(100 * own["GE2E", "techniques"], 6)}


def test_dry_and_mixed():
    families = {"CVSM-ART": "CVSM", "COLA": "CVSM", "BYOL": "singer identity", "CONT": "singer identity", "mean MFCC": "baseline"}
    rng = np.random.default_rng(0)
    scores = pd.DataFrame([dict(system=s, family=f, mode=m, corpus=c, normalisation=n, eer=rng.uniform(0.1, 0.4)) for s, f in families.items() for m in MODES for c in ("a", "b") for n in ("none", "center") for _ in range(2)])
    figure = draw_dry_and_mixed(scores[(scores["mode"] != "vocals to mixture") | (scores.system != "COLA")], "center")
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["CVSM", "COLA", "CVSM-ART", "singer identity", "CONT", "BYOL", "baseline", "mean MFCC", "mean MFCC, centred"]
    for axis, corpus in zip(figure.axes, ("a", "b")):
        for system in ("COLA", "CVSM-ART", "BYOL"):
            own = scores[(scores.corpus == corpus) & (scores.system == system) & (scores.normalisation == "center")].groupby("mode").eer.mean()
            drawn = {line.get_label(): line for line in axis.lines if len(line.get_xdata()) == 1 and line.get_ydata()[0] == labels.index(system)}
            assert set(drawn) == set(MODES) - ({"vocals to mixture"} if system == "COLA" else set())
            assert all(np.isclose(line.get_xdata()[0], 100 * own[mode]) for mode, line in drawn.items())
            assert drawn["mixture"].get_markerfacecolor() == "white" != drawn["vocals"].get_markerfacecolor()
    with pytest.raises(VocalrepError, match="normalisations none, center"):
        draw_dry_and_mixed(scores[scores.system != "mean MFCC"], "zscore")


# ---- looks

_EYES = {"usual": np.eye(3), "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
         "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]}           # Machado et al. (2009), in linear RGB


def seen(colour, eyes):
    "CIELAB coordinates of a colour as such eyes see it."
    rgb = np.array(to_rgb(colour))
    linear = np.clip(np.asarray(_EYES[eyes]) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    x, y, z = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear / [0.9505, 1, 1.089]
    f = lambda t: np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116
    return np.array([116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))])


@pytest.mark.parametrize("eyes", _EYES)
def test_systems_of_a_figure_can_be_told_apart(eyes):
    points = {s: seen(COLOURS[s], eyes) for s in COLOURS}
    apart = lambda a, b: np.linalg.norm(points[a] - points[b])
    assert set(SINGER_SYSTEMS) <= set(COLOURS)
    assert min(apart(a, b) for i, a in enumerate(SINGER_SYSTEMS) for b in SINGER_SYSTEMS[:i]) > 20
    assert min(apart(a, b) for a in (*FIVE, *SPEECH_SYSTEMS) for b in COLOURS if a != b) > 10


def test_markers_differ_in_shape_and_are_closed():
    shapes = {s: MarkerStyle(look(s)["marker"]) for s in SINGER_SYSTEMS}
    outline = lambda m: m.get_path().transformed(m.get_transform()).vertices.round(3).tobytes()
    assert len({outline(m) for m in shapes.values()}) == len(shapes)
    for style in shapes.values():
        path = style.get_path()
        assert style.is_filled() and (path.codes is not None and path.codes[-1] == path.CLOSEPOLY or np.allclose(path.vertices[0], path.vertices[-1]))


# ---- sentences

def test_our_reading_of_the_sentences_agrees_with_the_papers_own_tables():
    for item, exceptions in (("table3", {"BYOL generalises best": "holds in part (31 of 32)", "16 kHz helps on speech": "holds in part (8 of 10)"}), ("table4", {})):
        judged = judge_singers(as_results(item)).set_index("claim")
        assert set(judged.index) == {c.name for c in SINGER_CLAIMS if c.item == item}
        assert (judged.verdict == judged.published).all() and (judged.missing == "").all()
        assert {name: v for name, v in judged.verdict.items() if not v.startswith("holds (")} == exceptions


def test_quotes_are_in_no_table_twice_and_name_known_systems():
    assert len({c.name for c in SINGER_CLAIMS}) == len(SINGER_CLAIMS) and {s for c in SINGER_CLAIMS for s in (*c.left, *c.right)} <= set(SINGER_SYSTEMS)


def test_comparisons_by_brute_force():
    results = summary(seed=5)
    value = results[results.normalisation == "none"].set_index(["system", "corpus", "metric", "rate"])["mean"]
    judged = judge_singers(results).set_index("claim")
    leads = [value[o, c, m, 44.1] - value["BYOL", c, m, 44.1] for c in ("techniques", "VocalSet") for m in ("eer", "mnr") for o in FIVE if o != "BYOL"]
    row = judged.loc["BYOL generalises best"]
    assert (row.ahead, row.comparisons) == (sum(x > 0 for x in leads), 16) and np.allclose([row.least, row.most], [min(leads), max(leads)])
    leads = [value[s, c, m, 16.0] - value[s, c, m, 44.1] for c in VOICES for m in ("eer", "mnr") for s in FIVE]
    assert judged.ahead["44.1 kHz helps on singing"] == sum(x > 0 for x in leads) and judged.comparisons["44.1 kHz helps on singing"] == 30
    mean = value.groupby(level=["system", "metric", "rate"]).mean()
    leads = [mean["VICReg", m, 44.1] - mean[o, m, 44.1] for m in ("eer", "mnr") for o in FIVE if o != "VICReg"]
    assert judged.ahead["VICReg worst"] == sum(x > 0 for x in leads) and np.isclose(judged.most["VICReg worst"], max(leads))
    leads = [value["GE2E", c, m, 16.0] - value[s, c, m, 44.1] for c in ("studio (test)", "VocalSet") for m in ("eer", "mnr") for s in FIVE]
    assert judged.ahead["better than speech models"] == sum(x > 0 for x in leads) and judged.missing["better than speech models"] == ", ".join(SPEECH_SYSTEMS)


def test_band_limited_corpora_are_no_place_to_compare_rates():
    results = summary()
    judged = judge_singers(results, band_limited=("VocalSet", "techniques")).set_index("claim")
    assert judged.comparisons["44.1 kHz helps on singing"] == 10 and judged.comparisons["BYOL generalises best"] == 16 and "VocalSet" not in judged.numbers["44.1 kHz helps on singing"]


def test_what_is_missing_is_not_tested():
    only = judge_singers(summary(systems=("CONT",), voices={"studio (test)": "in-domain"})).set_index("claim")
    assert only.verdict["BYOL generalises best"] == "not tested" and only.missing["BYOL generalises best"] == "a corpus (out-of-domain)"
    assert only.verdict["CONT best in-domain"] == "not tested" and only.missing["CONT best in-domain"] == "CONT-VC, UNIF, VICReg, BYOL" and np.isnan(only.least["CONT best in-domain"])


def test_equal_is_not_ahead_and_accuracy_is_better_when_higher():
    claim = SingerClaim("x", "", "table4", ("BYOL",), ("CONT",), "out-of-domain", ("accuracy",))
    results = summary("table4", systems=("BYOL", "CONT"), voices={"techniques": "out-of-domain"})
    for byol, verdict in ((0.5, "does not hold (0 of 1)"), (0.6, "holds (1 of 1)"), (0.4, "does not hold (0 of 1)")):
        table = results.assign(mean=np.where(results.system == "BYOL", byol, 0.5))
        assert judge_singers(table, [claim]).verdict.item() == verdict


def test_floors():
    results = summary(seeds=2)
    value = results[results.metric == "eer"].set_index(["system", "corpus", "normalisation", "rate"])["mean"]
    for rate in (16.0, 44.1):
        for alike in (False, True):
            table = beside_floors(results, rate, alike)
            assert len(table) == 5 * 3 * 3 and set(table.framework) == set(FIVE)
            for corpus in VOICES:
                for (floor, how), name in zip(FLOORS, ("untrained", "mean MFCC, centred", "mean MFCC, z-scored")):
                    row = table[(table.framework == "UNIF") & (table.corpus == corpus) & (table.floor == name)].iloc[0]
                    least = value[floor, corpus, how, 16.0 if floor == "mean MFCC" else rate]
                    assert np.isclose(row.gain, least - value["UNIF", corpus, how if alike else "none", rate])
    assert list(beside_floors(results[results.system == "GE2E"]).columns) == ["framework", "corpus", "eer", "floor", "floor_eer", "gain"]


# ---- what lies above 8 kHz

class Tones:
    "A store of one sound: a tone at 6 kHz, and one at 10 kHz with this amplitude."
    rate = 44100

    def __init__(self, amplitude):
        t = np.arange(8 * self.rate) / self.rate
        self.wave = torch.from_numpy((np.sin(2 * np.pi * 6000 * t) + amplitude * np.sin(2 * np.pi * 10000 * t)).astype(np.float32) * 0.3)

    def excerpts(self, rows, offsets, length, source):
        return torch.stack([self.wave[o:o + length] for o in offsets])


@pytest.mark.parametrize("amplitude, limited", [(0.5, False), (0.02, True), (0.0, True)])
def test_treble_of_two_tones(monkeypatch, amplitude, limited):
    import vocalrep.papers.singer_identity.figures as room
    store = Tones(amplitude)
    places = pd.DataFrame([dict(clip=c, artist="a", gender=None, row=0, offset=k * 4 * 44100, name=f"{c}{k}") for c in "abcd" for k in (0, 1)])
    monkeypatch.setattr(room, "fragment_places", lambda *_: places)
    found = measure_treble(SimpleNamespace(store=store, split=None), fragments=5)
    assert np.isclose(found["share_above"], amplitude ** 2 / (1 + amplitude ** 2), atol=1e-6) and np.isclose(found["left"], amplitude ** 2, atol=1e-6) and found["band_limited"] is limited
