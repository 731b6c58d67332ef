"Figures of the singer-identity paper: every number where it belongs, ours and theirs never mixed up."
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle

from vocalrep.papers.registry import find_papers
from vocalrep.papers.singer_identity.claims import FIVE
from vocalrep.papers.singer_identity.conditions import SPEECH_SYSTEMS
from vocalrep.papers.singer_identity.figures import HEARD, draw_dry_and_mixed, draw_identification, draw_similarity
from vocalrep.papers.singer_identity.paper import PAPER
from vocalrep.project import VocalrepError
from vocalrep.report.plots import STYLES, look, use_styles
from vocalrep.report.published import published_results
from vocalrep.report.scores import score_table, summarise

NARROW, FULL = "16 kHz", "44.1 kHz"
ONE_BAND = {"mean MFCC", "GE2E", *SPEECH_SYSTEMS}
VOICES = {"studio (test)": "in-domain", "techniques": "out-of-domain", "VocalSet": "out-of-domain"}
METRICS = {"similarity": ("eer", "mnr"), "identification": ("accuracy",)}
WAYS = {"similarity": ("none", "center", "zscore"), "identification": ("none",)}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def colours():
    "Colours of all systems that share a figure with this paper's: its own, CVSM's, and those that belong to none."
    papers = [find_papers()[name] for name in ("cvsm", "singer_identity")]
    for paper in papers:
        use_styles(paper.styles)
    others = {name for paper in find_papers().values() for name in paper.trained} - {
        name for paper in papers for name in paper.trained}
    return {system: style["color"] for system, style in STYLES.items() if system not in others}


def summary(task="similarity", systems=("mean MFCC", "GE2E", "untrained", *FIVE), voices=VOICES, seeds=1, seed=0):
    "A summary of random scores."
    rng, both = np.random.default_rng(seed), (NARROW, FULL) if task == "similarity" else (FULL,)
    rows = [dict(system=s, seed=k, corpus=corpus, role=role, condition=condition, metric=metric, normalisation=how,
                 value=rng.uniform(0.05, 0.45), artists=20, clips=40, trials=100)
            for s in systems for k in range(seeds) for corpus, role in voices.items()
            for condition in ((NARROW,) if s in ONE_BAND else both) for metric in METRICS[task] for how in WAYS[task]]
    return summarise(score_table(pd.DataFrame(rows), task=task, trained_on="studio"), PAPER.name, "toy", "smoke")


def dots(axis, row):
    "Kind of dot -> its x, of one row of a figure; ticks of published numbers left out."
    place = [t.get_text() for t in axis.figure.axes[0].get_yticklabels()].index(row)
    drawn = [c for c in axis.containers if c.lines[0].get_ydata()[0] == place and c.lines[0].get_marker() != "|"]
    return {c.get_label(): round(float(c.lines[0].get_xdata()[0]), 6) for c in drawn}


def fills(axis, condition):
    "With what the dots of a condition are filled."
    return {c.lines[0].get_markerfacecolor() for c in axis.containers if c.get_label() == condition}


def ticks(axis):
    "The published numbers of a panel."
    return sorted(float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "|")


# ---- tables 3 and 4

def test_similarity_draws_the_numbers_of_its_table():
    results = summary()
    figure = draw_similarity(results)
    assert [a.get_title() for a in figure.axes] == [f"{corpus}\n{role}, 20 singers" for corpus, role in VOICES.items()]
    for axis, corpus in zip(figure.axes, VOICES):
        own = results[(results.corpus == corpus) & (results.metric == "eer")]
        own = own.set_index(["system", "normalisation", "condition"]).sort_index()["mean"]
        for row, system, how in (("CONT", "CONT", "none"), ("mean MFCC", "mean MFCC", "none"),
                                 ("mean MFCC, centred", "mean MFCC", "center"),
                                 ("mean MFCC, z-scored", "mean MFCC", "zscore")):
            assert dots(axis, row) == {band: round(100 * x, 6) for band, x in own[system, how].items()}
        assert fills(axis, NARROW) == {"white"} and "white" not in fills(axis, FULL)


def test_rows_stand_in_the_papers_order():
    figure = draw_similarity(summary(systems=("BYOL", "my network", "untrained", "CONT")))
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    theirs = set(published_results(PAPER, "table3").query("corpus in @VOICES").system)
    everything = ["GE2E", *SPEECH_SYSTEMS, "my network", "untrained", "VICReg", "UNIF", "CONT", "CONT-VC", "BYOL"]
    assert rows == everything and set(rows) - {"my network", "untrained"} <= theirs         # each with a number
    not_run = ", ".join(["GE2E", *SPEECH_SYSTEMS, "VICReg", "UNIF", "CONT-VC"])
    assert figure.get_supxlabel() == f"not run here: {not_run}"


def test_systems_without_a_number_take_no_row():
    alone = {"studio (test)": "in-domain"}
    figure = draw_similarity(summary(systems=("BYOL", "untrained", "CONT"), voices=alone))
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["untrained", "CONT", "BYOL"]
    assert {line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 2
            and line.get_color() == "black"} == {0.5}                                       # above the frameworks


def test_corpora_have_one_range():
    assert len({axis.get_xlim() for axis in draw_similarity(summary()).axes}) == 1


def test_published_ticks_only_on_the_same_corpus():
    figure = draw_similarity(summary(), "mnr")
    theirs = published_results(PAPER, "table3").query("corpus == 'VocalSet' and metric == 'mnr'")
    drawn = [ticks(axis) for axis in figure.axes]
    assert drawn[:2] == [[], []] and np.allclose(drawn[2], sorted(100 * theirs["mean"]))
    assert sum("published" in t.get_text() for t in figure.legends[0].get_texts()) == 2
    alone = draw_similarity(summary(voices={"studio (test)": "in-domain"}))
    assert not any("published" in t.get_text() for t in alone.legends[0].get_texts())


@pytest.mark.parametrize("seeds, whiskers", [(1, 0), (2, 16)])
def test_whiskers_need_several_seeds(seeds, whiskers):
    figure = draw_identification(summary("identification", seeds=seeds, voices=dict(list(VOICES.items())[:2])))
    assert sum(len(c.lines[2]) for axis in figure.axes for c in axis.containers) == whiskers


def test_identification_panels_and_an_impossible_score():
    results = summary("identification")
    results.loc[results.system == "CONT", "mean"] = np.nan
    axis = draw_identification(results).axes[1]
    own = results.set_index(["system", "corpus"])["mean"]
    assert dots(axis, "BYOL") == {FULL: round(100 * own["BYOL", "techniques"], 6)}
    assert dots(axis, "GE2E") == {NARROW: round(100 * own["GE2E", "techniques"], 6)}
    assert np.isnan(dots(axis, "CONT")[FULL]) and "accuracy (%) ↑" == axis.get_xlabel()


def test_nothing_to_draw():
    with pytest.raises(VocalrepError, match="no accuracy of singer identification among"):
        draw_identification(summary())


# ---- dry and mixed

FAMILIES = {"CVSM-ART": "CVSM", "COLA": "CVSM", "BYOL": "singer identity", "CONT": "singer identity",
            "mean MFCC": "baseline"}


@pytest.fixture
def mixed():
    "Random scores of two seeds; COLA was not asked to find vocals among mixtures."
    rng = np.random.default_rng(0)
    table = pd.DataFrame([dict(system=s, family=f, condition=c, corpus=corpus, normalisation=how, metric="eer",
                               value=rng.uniform(0.1, 0.4))
                          for s, f in FAMILIES.items() for c in HEARD for corpus in ("a", "b")
                          for how in ("none", "center") for _ in range(2)])
    return table[(table["condition"] != "vocals to mixture") | (table.system != "COLA")]


def test_dry_and_mixed(mixed):
    figure = draw_dry_and_mixed(mixed, "center")
    rows = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert rows == ["CVSM", "COLA", "CVSM-ART", "singer identity", "CONT", "BYOL", "baseline", "mean MFCC",
                    "mean MFCC, centred"]
    centred = mixed[mixed.normalisation == "center"].groupby(["corpus", "system", "condition"]).value.mean()
    for axis, corpus in zip(figure.axes, ("a", "b")):
        for system in ("COLA", "CVSM-ART", "BYOL"):
            drawn = {c.get_label(): c.lines[0] for c in axis.containers
                     if c.lines[0].get_ydata()[0] == rows.index(system)}
            assert set(drawn) == set(HEARD) - ({"vocals to mixture"} if system == "COLA" else set())
            assert all(np.isclose(line.get_xdata()[0], 100 * centred[corpus, system, heard])
                       for heard, line in drawn.items())
            assert drawn["mixture"].get_markerfacecolor() == "white" != drawn["vocals"].get_markerfacecolor()
            assert drawn["vocals"].get_color() == look(system)["color"] == STYLES[system]["color"]
        assert not axis.texts


def test_dry_and_mixed_says_what_there_was(mixed):
    with pytest.raises(VocalrepError, match="normalisations none, center; "):
        draw_dry_and_mixed(mixed[mixed.system != "mean MFCC"], "zscore")
    with pytest.raises(VocalrepError, match="conditions dry, normalisations"):
        draw_dry_and_mixed(mixed.assign(condition="dry"))


# ---- looks

_EYES = {                                                   # Machado et al. (2009), in linear RGB
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(colour, eyes):
    "CIELAB coordinates of a colour as such eyes see it."
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(_EYES[eyes]) @ linear, 0, 1)
    white = _TO_XYZ @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(white > 0.008856, np.cbrt(white), 7.787 * white + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", _EYES)
def test_systems_of_a_figure_can_be_told_apart(eyes, colours):
    points = {system: seen(colour, eyes) for system, colour in colours.items()}

    def apart(a, b):
        return np.linalg.norm(points[a] - points[b])

    assert set(PAPER.systems) <= set(colours)
    assert min(apart(a, b) for i, a in enumerate(PAPER.systems) for b in PAPER.systems[:i]) > 20
    assert min(apart(a, b) for a in (*FIVE, *SPEECH_SYSTEMS) for b in colours if a != b) > 10


def test_markers_differ_in_shape_and_are_closed():
    shapes = {s: MarkerStyle(look(s)["marker"]) for s in PAPER.systems}
    outlines = {m.get_path().transformed(m.get_transform()).vertices.round(3).tobytes() for m in shapes.values()}
    assert len(outlines) == len(shapes)
    for style in shapes.values():
        path = style.get_path()
        closed = path.codes is not None and path.codes[-1] == path.CLOSEPOLY
        assert style.is_filled() and (closed or np.allclose(path.vertices[0], path.vertices[-1]))
