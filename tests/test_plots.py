"Figures show what their tables say, whichever systems, modes and gaps these have."
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from vocalrep.papers.cvsm.figures import VERDICTS, draw_artist_distribution, draw_claims, draw_clip_length, draw_low_resource, draw_overlap, draw_overview, draw_projections
from vocalrep.report.plots import COLOURS, DASHES, MARKERS, draw_scores, draw_table, look, save_figure, styled
from vocalrep.project import VocalrepError, read_json
from vocalrep.report.published import artist_distribution, beside_published, published_distribution, published_results
from vocalrep.training.variants import CVSM_VARIANTS, Stage


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scores(systems=("COLA", "CVSM-AH", "mine"), lengths=(1.0, 5.0, np.nan), fractions=(0.1, 1.0), modes=("mixture", "vocals"), tasks=("artist", "gender")):
    rng = np.random.default_rng(0)
    rows = [dict(system=s, seed=seed, mode=m, task=t, metric=metric, normalisation="none", probe="linear", seconds=x, fraction=f, repetition=r, value=rng.uniform(0.2, 0.9))
            for s in systems for seed in (0, 1) for m in modes for t in tasks for metric in ("accuracy", "macro_f1") for x in lengths for f in fractions for r in range(3)]
    return pd.DataFrame(rows)


def summary(table):
    by = ["system", "mode", "task", "metric", "normalisation", "probe", "seconds", "fraction"]
    return table.groupby(by, sort=False, dropna=False).value.agg(mean="mean", sd=lambda x: x.std(ddof=0), n="size").reset_index()


def heights(axis):
    return [c.lines[0].get_ydata().astype(float).tolist() for c in axis.containers]


def texts(figure):
    return [t.get_text() for axis in figure.axes for t in axis.texts]


def overlapping(figure, labels):
    "Pairs of texts whose boxes touch on the drawn page."
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for axis in figure.axes for t in axis.texts if t.get_text() in labels]
    return [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[i + 1:] if x.overlaps(y)]


def test_every_system_has_its_own_look():
    assert set(MARKERS) == set(COLOURS) and len(set(MARKERS.values())) == len(MARKERS) and len(set(COLOURS.values())) == len(COLOURS)
    assert len(set(DASHES.values())) == len(DASHES) and {"GE2E", "MERT"} <= set(COLOURS)
    for name in (*COLOURS, "somebody's own"):
        assert matplotlib.colors.is_color_like(look(name)["color"]) and look(name) == look(name)


def test_a_style_leaves_nothing_behind():
    before = dict(plt.rcParams)
    with styled():
        assert plt.rcParams["axes.grid"]
    assert {k: v for k, v in plt.rcParams.items() if k != "backend"} == {k: v for k, v in before.items() if k != "backend"}


@pytest.mark.parametrize("form", [lambda t: t, summary])
def test_clip_length_draws_means_in_order(form):
    table = scores()
    figure = draw_clip_length(form(table))
    assert [a.get_title() for a in figure.axes] == ["artist identification, mixture", "gender identification, mixture"]
    kept = table[(table.metric == "accuracy") & (table["mode"] == "mixture") & (table.fraction == 1)]
    for axis, task in zip(figure.axes, ("artist", "gender")):
        for drawn, system in zip(heights(axis), ("COLA", "CVSM-AH", "mine")):
            own = kept[(kept.task == task) & (kept.system == system)]
            assert np.allclose(drawn, [100 * own[own.seconds == 1].value.mean(), 100 * own[own.seconds == 5].value.mean(), 100 * own[own.seconds.isna()].value.mean()])
        assert [t.get_text() for t in axis.get_xticklabels()] == ["1", "5", "whole\nclip"]


@pytest.mark.parametrize("form", [lambda t: t, summary])
def test_low_resource(form):
    table = scores(modes=("vocals",))
    figure = draw_low_resource(form(table))
    assert len(figure.axes) == 1 and [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["10", "100"]
    own = table[(table.metric == "accuracy") & (table.task == "artist") & table.seconds.isna() & (table.system == "mine")]
    assert np.allclose(heights(figure.axes[0])[2], [100 * own[own.fraction == f].value.mean() for f in (0.1, 1.0)])


def test_names_at_line_ends_never_touch():
    table = scores(systems=tuple(COLOURS), tasks=("artist",))
    table["value"] = 0.5 + 0.001 * table.system.map({s: i for i, s in enumerate(COLOURS)})          # all lines on top of each other
    table.loc[table.system == "COLA", "value"] = 0.2
    for figure in (draw_clip_length(table), draw_low_resource(table)):
        for axis in figure.axes:
            assert {t.get_text() for t in axis.texts} == set(COLOURS)
        figure.canvas.draw()
        for axis in figure.axes:
            boxes = sorted((Text.get_window_extent(t) for t in axis.texts), key=lambda b: b.y0)
            assert all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:]))


def test_scores_that_cannot_be_drawn():
    table = scores()
    with pytest.raises(VocalrepError, match="no accuracy of the probe 'exact'"):
        draw_clip_length(table, probe="exact")
    with pytest.raises(VocalrepError, match="several results"):
        draw_low_resource(pd.concat([summary(table)] * 2))


def test_overview_follows_the_records():
    import dataclasses
    figure = draw_overview()
    words = texts(figure)
    assert all(name in words for name in CVSM_VARIANTS) and words.count("fine-\ntuning") == 1 and words.count("or") == words.count("then") == 1
    assert words.count("same artist") == words.count("needs artist names") == 2 and words.count("mixture") == 2 and words.count("vocals") == 6        # five positives and a key
    changed = dataclasses.replace(CVSM_VARIANTS["COLA"], positive="vocals", level="artist", stages=(Stage(0.5, 1), Stage(0.5, 0)))
    words = texts(draw_overview({"mine": changed}))
    assert words.count("same artist") == words.count("artificial mixture") == words.count("real mixture") == words.count("then") == 1


def test_overview_texts_do_not_overlap():
    figure = draw_overview()
    assert not overlapping(figure, set(texts(figure)) - {""})


def test_artist_distribution():
    table = artist_distribution(pd.DataFrame(dict(artist=[*"aaab"])))
    figure = draw_artist_distribution(table, published_distribution(), corpus="tiny")
    curve, points = figure.axes[1].lines
    assert curve.get_ydata().tolist() == [0, 25, 100, 100] and np.allclose(points.get_ydata(), [29.83, 75.74])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["tiny", "Music4All, published"]
    two = pd.concat([table.assign(corpus="a"), table.assign(corpus="b")])
    assert len(draw_artist_distribution(two).axes[0].lines) == 2


@pytest.mark.parametrize("systems, labels, columns", [(6, 2, 2), (5, 12, 3), (1, 30, 2)])
def test_projections(systems, labels, columns):
    rng = np.random.default_rng(0)
    points = pd.DataFrame([dict(system=f"s{s}", label=f"l{i:02}", x=rng.normal(), y=rng.normal()) for s in range(systems) for i in range(labels) for _ in range(4)])
    scores = pd.DataFrame(dict(system=["s0"], silhouette=[0.04], distance_ratio_inter_over_intra=[0.334]))
    figure = draw_projections(points, scores, columns)
    drawn = [a for a in figure.axes if a.collections]
    assert len(drawn) == systems and all(len(a.collections) == labels for a in drawn)
    assert np.allclose(drawn[0].collections[1].get_offsets(), points[(points.system == "s0") & (points.label == "l01")][["x", "y"]])
    assert [t.get_text() for t in drawn[0].texts] == ["silhouette 0.04, ratio inter over intra 0.33"]
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in drawn[0].collections}
    assert len(looks) == labels
    assert draw_projections(points).axes


def test_overlap():
    table = pd.DataFrame([dict(mode=m, seed=seed, system=a, other=b, share=1.0 if a == b else 0.2 + 0.2 * seed) for m in ("mixture", "vocals") for seed in (0, 1) for a in ("CVSM-A", "COLA") for b in ("CVSM-A", "COLA")])
    figure = draw_overlap(table)
    image = figure.axes[0].get_images()[0].get_array()
    assert np.allclose(image[0, 1], 30) and np.ma.getmaskarray(image)[0, 0] | np.isnan(np.ma.getdata(image)[0, 0])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["COLA", "CVSM-A"] and texts(figure).count("30") == 4


def test_claims():
    table = pd.DataFrame([("a", 0.05, 0.01, 0.09, "holds"), ("b", np.nan, np.nan, np.nan, "not tested"), ("c", -0.02, np.nan, np.nan, "cannot tell"), ("d", -0.2, -0.3, -0.1, "does not hold")],
                         columns=["claim", "effect", "low", "high", "verdict"])
    axis = draw_claims(table).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == [*"abcd"] and [t.get_text().strip() for t in axis.texts] == ["not tested"]
    assert dict(zip(VERDICTS, heights(axis))) == {"holds": [0], "cannot tell": [2], "does not hold": [3]}
    low, high = axis.get_xlim()
    assert low == -high and high > 30
    draw_claims(table[table.verdict == "not tested"])


def test_tables_as_pictures(tmp_path):
    ours = published_results("cvsm", "table3").query("system != 'MERT'").assign(n=5, seeds=1, corpus="studio", preset="smoke", reduced="")
    extra = ours[ours.system == "COLA"].assign(system="my network", sd=np.nan)
    beside = beside_published(pd.concat([ours, extra]), "table3")
    figure = draw_table(beside)
    assert len(figure.axes) == 5 and [t.get_text() for t in figure.axes[0].get_yticklabels()][-1] == "my network"
    png = save_figure(figure, beside, "table3", folder=tmp_path, preset="smoke")
    assert {p.suffix for p in png.parent.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert len(pd.read_csv(png.with_suffix(".csv"))) == len(beside) and read_json(png.with_suffix(".json"))["preset"] == "smoke"
    with pytest.raises(VocalrepError, match="empty"):
        save_figure(figure, beside[:0], "table3", folder=tmp_path)


def test_scores_with_an_unknown_system():
    table = pd.DataFrame([dict(system=s, mode=m, normalisation="none", eer=0.3) for s in ("CVSM-AH", "my network") for m in ("mixture", "vocals")])
    assert len(draw_scores(table).axes[0].patches) == 4
    bars = draw_scores(table[:-1]).axes[0].patches                                     # the network was not scored on vocals
    assert sum(np.isnan(bar.get_height()) for bar in bars) == 1
