"Figures show what their tables say, whichever systems, conditions and gaps these have."
import dataclasses
from itertools import product

import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from vocalrep.papers.cvsm.figures import (draw_artist_distribution, draw_clip_length, draw_low_resource, draw_overlap,
                                          draw_projections)
from vocalrep.papers.cvsm.overview import draw_overview
from vocalrep.papers.cvsm.paper import PAPER
from vocalrep.papers.cvsm.tables import artist_distribution, published_distribution
from vocalrep.papers.registry import find_papers
from vocalrep.project import VocalrepError, read_json
from vocalrep.report.plots import (STYLES, Mark, draw_beside, draw_dots, draw_scores, look,
                                   save_figure, save_table, styled, use_styles)
from vocalrep.report.published import beside_published, published_results
from vocalrep.training.variants import Stage


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def known():
    "The looks of all systems of all papers, and of those that belong to none."
    for paper in find_papers().values():
        use_styles(paper.styles)
    return dict(STYLES)


@pytest.fixture
def together(known):
    "The systems of two papers, more than any figure shows."
    return [name for paper in ("cvsm", "singer_identity") for name in find_papers()[paper].systems]


def scores(systems=("COLA", "CVSM-AH", "mine"), lengths=(1.0, 5.0, np.nan), fractions=(0.1, 1.0),
           conditions=("mixture", "vocals"), tasks=("artist", "gender")):
    "Random scores, six for each mean."
    rng, names = np.random.default_rng(0), ("system", "seed", "condition", "task", "metric", "seconds", "fraction")
    cases = product(systems, (0, 1), conditions, tasks, ("accuracy", "macro_f1"), lengths, fractions)
    rows = [dict(zip(names, case), normalisation="none", probe="linear", repetition=r, value=rng.uniform(0.2, 0.9))
            for case in cases for r in range(3)]
    return pd.DataFrame(rows)


def deviation(values):
    return values.std(ddof=0)


def summary(table):
    by = ["system", "condition", "task", "metric", "normalisation", "probe", "seconds", "fraction"]
    grouped = table.groupby(by, sort=False, dropna=False)
    return grouped.agg(mean=("value", "mean"), sd=("value", deviation), n=("value", "size")).reset_index()


def itself(table):
    return table


def heights(axis):
    return [c.lines[0].get_ydata().astype(float).tolist() for c in axis.containers]


def labels(texts):
    return [t.get_text() for t in texts]


def texts(figure):
    return [t.get_text() for axis in figure.axes for t in axis.texts]


def overlapping(figure, words):
    "Pairs of texts whose boxes touch on the drawn page."
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for axis in figure.axes for t in axis.texts if t.get_text() in words]
    return [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[i + 1:] if x.overlaps(y)]


# ---- looks

def test_every_system_has_its_own_look(known):
    looks = {name: (style["color"], str(style["marker"])) for name, style in known.items()}
    for paper in find_papers().values():
        for part in zip(*(looks[name] for name in paper.systems)):           # colours, markers
            assert len(set(part)) == len(paper.systems), paper.name
    dashes = [style["dashes"] for style in known.values() if style.get("dashes")]
    assert len(set(dashes)) == len(dashes) and {"GE2E", "MERT"} <= set(known)
    assert {system for paper in find_papers().values() for system in paper.systems} <= set(known)
    for name in (*known, "somebody's own"):
        assert matplotlib.colors.is_color_like(look(name)["color"]) and look(name) == look(name)


def test_a_style_leaves_nothing_behind():
    before = dict(plt.rcParams, backend="")
    with styled():
        assert plt.rcParams["axes.grid"]
    assert dict(plt.rcParams, backend="") == before


# ---- dots

MARKS = dict(ours=Mark("ours", joined=True), mixed=Mark("mixed", filled=False, joined=True),
             theirs=Mark("theirs", marker="|", color="#777777", reference=True))


def dots(*rows):
    return pd.DataFrame(rows, columns=["panel", "row", "kind", "x"]).assign(system=lambda table: table["row"])


def test_dots_stand_where_the_table_says():
    table = dots(("p", "COLA", "ours", 3.0), ("q", "COLA", "ours", 5.0), ("q", "mine", "mixed", 4.0))
    figure = draw_dots(table, ["ours", "mine", "COLA"], dict(p="first", q="second"), MARKS, dict(q="title"), ["ours"])
    places = [[(c.get_label(), *map(float, c.lines[0].get_xydata()[0])) for c in axis.containers]
              for axis in figure.axes]
    assert places == [[("ours", 3, 2)], [("mixed", 4, 1), ("ours", 5, 2)]]
    assert [axis.get_xlabel() for axis in figure.axes] == ["first", "second"] and texts(figure) == []
    assert [axis.get_title() for axis in figure.axes] == ["", "title"]
    assert labels(figure.legends[0].get_texts()) == ["ours", "mixed"]
    bold = [t.get_text() for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["ours"]


def test_only_dots_of_ones_own_are_joined_and_count_as_run():
    table = dots(("p", "COLA", "mixed", 7.0), ("p", "COLA", "ours", 3.0), ("p", "COLA", "theirs", 9.0),
                 ("p", "MERT", "theirs", 8.0))
    figure = draw_dots(table, ["COLA", "MERT", "GE2E"], dict(p=""), MARKS)
    axis = figure.axes[0]
    drawn_by_errorbar = [line for container in axis.containers for line in container.lines[:1]]
    lines = [line.get_xdata().tolist() for line in axis.lines if line not in drawn_by_errorbar]
    assert lines == [[3.0, 7.0]] and texts(figure) == []
    assert figure.get_supxlabel() == "not run here: MERT, GE2E"
    assert labels(axis.get_yticklabels()) == ["COLA", "MERT"]                  # a row only where there is a number


def test_a_line_stands_above_the_row_it_was_asked_for():
    table = dots(("p", "COLA", "ours", 3.0), ("p", "MSCOL", "ours", 4.0))
    figure = draw_dots(table, ["gone", "COLA", "MSCOL"], dict(p=""), MARKS, ruled=["MSCOL", "gone"])
    assert [line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 2] == [0.5]


def test_panels_of_a_metric_share_their_range():
    table = dots(("a", "COLA", "ours", 3.0), ("b", "COLA", "ours", 40.0), ("c", "COLA", "ours", 0.2))
    names = dict(a="studio\nEER (%) ↓", b="voices\nEER (%) ↓", c="studio\nsilhouette")
    first, second, third = (axis.get_xlim() for axis in draw_dots(table, ["COLA"], names, MARKS).axes)
    assert first == second and first[0] < 3 and first[1] > 40 and third != first


def test_whiskers_end_where_the_scale_ends():
    table = dots(("a", "COLA", "ours", 3.0), ("b", "COLA", "ours", 97.0), ("c", "COLA", "ours", 0.2)).assign(error=8.0)
    names = dict(a="EER (%) ↓", b="accuracy (%) ↑", c="silhouette")
    reach = [axis.containers[0].lines[2][0].get_segments()[0][:, 0].tolist()
             for axis in draw_dots(table, ["COLA"], names, MARKS).axes]
    assert reach == [[0, 11], [89, 100], pytest.approx([-7.8, 8.2])]


@pytest.mark.parametrize("error, whiskers", [(1.0, 1), (0.0, 0), (np.nan, 0)])
def test_whiskers_need_a_spread(error, whiskers):
    figure = draw_dots(dots(("p", "COLA", "ours", 3.0)).assign(error=error), ["COLA"], dict(p=""), MARKS)
    assert len(figure.axes[0].containers[0].lines[2]) == whiskers


# ---- tables and first scores

def test_tables_as_pictures(tmp_path):
    ours = published_results(PAPER, "table3").query("system != 'MERT'")
    ours = ours.assign(n=5, seeds=1, corpus="studio", role="in-domain", preset="smoke", reduced="", seconds=np.nan,
                       fraction=1.0, normalisation="none", artists=50, clips=400, trials=0,
                       probe=np.where(ours.task == "similarity", "", "linear"))
    extra = ours[ours.system == "COLA"].assign(system="my network", sd=np.nan)
    beside = beside_published(pd.concat([ours, extra]), PAPER, "table3")
    figure = draw_beside(beside, PAPER.measured_on)
    assert len(figure.axes) == 5 and labels(figure.axes[0].get_yticklabels())[-1] == "my network"
    assert labels(figure.legends[0].get_texts()) == ["here: studio, smoke", "published: Music4All"]
    assert all(len(axis.containers) == 2 * 7 + 2 for axis in figure.axes)           # MERT once, "my network" once
    png = save_figure(figure, beside, "table3", "cvsm", tmp_path, preset="smoke")
    assert {p.suffix for p in png.parent.iterdir()} == {".png", ".svg", ".csv", ".json"}
    assert len(pd.read_csv(png.with_suffix(".csv"))) == len(beside)
    assert read_json(png.with_suffix(".json"))["preset"] == "smoke"
    with pytest.raises(VocalrepError, match="empty"):
        save_figure(figure, beside[:0], "table3", "cvsm", tmp_path)


def test_pictures_are_sharp_and_small(tmp_path):
    from PIL import Image
    rng, table = np.random.default_rng(0), pd.DataFrame(dict(x=[1]))
    figure, axes = plt.subplots(3, 2, figsize=(7.4, 8.75))
    for axis in axes.flat:                                                     # as many dots as the largest map has
        axis.scatter(*rng.normal(size=(2, 600)), c=rng.integers(0, 12, 600), cmap="tab20", s=20, alpha=0.75)
    for made in (figure, draw_overview()):
        png = save_figure(made, table, "maps", "cvsm", tmp_path)
        with Image.open(png) as picture:
            assert picture.width > 1200 and round(picture.info["dpi"][0]) == 200
        assert png.stat().st_size < 200_000


def test_a_table_without_a_picture_is_saved_with_its_provenance(tmp_path):
    csv = save_table(pd.DataFrame(dict(x=[0.12345])), "plain", "cvsm", tmp_path, seed=3)
    assert csv.parent == tmp_path / "cvsm" and csv.read_text().split() == ["x", "0.1235"]
    assert read_json(csv.with_suffix(".json"))["seed"] == 3
    assert {p.suffix for p in csv.parent.iterdir()} == {".csv", ".json"}


def test_scores_with_an_unknown_system():
    table = pd.DataFrame([dict(system=s, condition=c, normalisation="none", eer=0.3)
                          for s in ("CVSM-AH", "my network") for c in ("mixture", "vocals")])
    assert [len(bars) for bars in draw_scores(table).axes[0].containers] == [2, 2]
    assert [len(bars) for bars in draw_scores(table[:-1]).axes[0].containers] == [2, 1]     # not scored on vocals


@pytest.mark.parametrize("normalisation, expected", [(None, 20), ("none", 30), ("center", 20)])
def test_bars_of_the_score_table_average_seeds(normalisation, expected):
    rows = [dict(system="COLA", condition="vocals", normalisation=how, metric=metric, seed=seed, value=x + 0.1 * seed)
            for how, x in (("none", 0.25), ("center", 0.15)) for metric in ("eer", "mnr") for seed in (0, 1)]
    table = pd.DataFrame(rows)
    table.loc[table.metric == "mnr", "value"] = 0.01
    bars = draw_scores(table, normalisation=normalisation).axes[0].containers[0]
    assert [bar.get_height() for bar in bars] == [pytest.approx(expected)]


# ---- CVSM, figures 3 and 4

@pytest.mark.parametrize("form", [itself, summary])
def test_clip_length_draws_means_in_order(form):
    table = scores()
    figure = draw_clip_length(form(table))
    assert [a.get_title() for a in figure.axes] == ["artist identification, mixture", "gender identification, mixture"]
    kept = table[(table.metric == "accuracy") & (table["condition"] == "mixture") & (table.fraction == 1)]
    for axis, task in zip(figure.axes, ("artist", "gender")):
        for drawn, system in zip(heights(axis), ("COLA", "CVSM-AH", "mine")):
            own = kept[(kept.task == task) & (kept.system == system)]
            means = own.groupby("seconds", dropna=False).value.mean()                 # whole clips come last
            assert np.allclose(drawn, 100 * means)
        assert labels(axis.get_xticklabels()) == ["1", "5", "whole\nclip"]


@pytest.mark.parametrize("form", [itself, summary])
def test_low_resource(form):
    table = scores(conditions=("vocals",))
    figure = draw_low_resource(form(table))
    assert len(figure.axes) == 1 and labels(figure.axes[0].get_xticklabels()) == ["10", "100"]
    own = table[(table.metric == "accuracy") & (table.task == "artist") & table.seconds.isna()
                & (table.system == "mine")]
    assert np.allclose(heights(figure.axes[0])[2], 100 * own.groupby("fraction").value.mean())


def test_names_at_line_ends_never_touch(together):
    table = scores(systems=tuple(together), tasks=("artist",))
    places = {system: i for i, system in enumerate(together)}
    table["value"] = 0.5 + 0.001 * table.system.map(places)                     # all lines on top of each other
    table.loc[table.system == "COLA", "value"] = 0.2
    for figure in (draw_clip_length(table), draw_low_resource(table)):
        figure.canvas.draw()
        for axis in figure.axes:
            names = [t for t in axis.texts if t.get_text() != "chance"]
            assert {t.get_text() for t in names} == set(together)
            boxes = sorted((Text.get_window_extent(t) for t in names), key=lambda b: b.y0)
            assert all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:]))
            heights = [t.get_position()[1] for t in names]
            assert axis.get_ylim()[0] <= min(heights) and max(heights) <= axis.get_ylim()[1]    # beside the axes


def test_names_stay_beside_axes_that_share_their_height(together):
    table = scores(systems=tuple(together), tasks=("artist",), conditions=("mixture", "vocals"))
    table["value"] = np.where(table["condition"] == "vocals", 0.9, 0.2) + 0.001 * table.system.map(list(together).index)
    figure = draw_low_resource(table)
    figure.canvas.draw()
    for axis in figure.axes:
        bottom, top = axis.get_window_extent().y0, axis.get_window_extent().y1
        boxes = [Text.get_window_extent(t) for t in axis.texts if t.get_text() != "chance"]
        assert all(bottom - 1 <= box.y0 and box.y1 <= top + 1 for box in boxes)


def test_chance_is_drawn():
    table = scores().assign(artists=20)
    artist, gender = draw_clip_length(table).axes
    drawn = [[line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == ":"] for axis in (artist, gender)]
    assert drawn == [[5], [50]]


def test_scores_that_cannot_be_drawn():
    table = scores()
    with pytest.raises(VocalrepError, match="no accuracy of the probe 'exact'"):
        draw_clip_length(table, probe="exact")
    with pytest.raises(VocalrepError, match="several results"):
        draw_low_resource(pd.concat([summary(table)] * 2))


# ---- CVSM, figures 1 and 2

def test_overview_follows_the_records():
    words = texts(draw_overview())
    assert all(name in words for name in PAPER.variants())
    assert words.count("fine-\ntuning") == words.count("or") == words.count("then") == 1
    assert words.count("same artist") == words.count("needs artist names") == 2
    assert words.count("mixture") == 2 and words.count("vocals") == 6                 # five positives and a key


def test_overview_of_a_variant_of_ones_own():
    cola = PAPER.variants()["COLA"]
    pairs = dataclasses.replace(cola.stages[0].sampling, positive="vocals", level="artist", p_artificial=1.0)
    stages = Stage(0.5, pairs), Stage(0.5, dataclasses.replace(pairs, p_artificial=0.0))
    words = texts(draw_overview({"mine": dataclasses.replace(cola, stages=stages)}))
    once = ("same artist", "artificial mixture", "real mixture", "then")
    assert [words.count(word) for word in once] == [1, 1, 1, 1]


def test_overview_texts_do_not_overlap():
    figure = draw_overview()
    assert not overlapping(figure, set(texts(figure)) - {""})


def test_artist_distribution():
    table = artist_distribution(pd.DataFrame(dict(artist=[*"aaab"])))
    figure = draw_artist_distribution(table, published_distribution(), corpus="tiny")
    bars = [[[bar.get_height() for bar in corpus] for corpus in axis.containers] for axis in figure.axes]
    assert np.allclose(bars, [[[100, 0, 0], [82.92, 15.00, 2.08]], [[100, 0, 0], [29.83, 45.91, 24.26]]])
    assert labels(figure.legends[0].get_texts()) == ["tiny", "Music4All, published"]
    assert labels(figure.axes[0].get_xticklabels()) == ["fewer than 10", "10 to 50", "more than 50"]
    two = pd.concat([table.assign(corpus="a"), table.assign(corpus="b")])
    assert len(draw_artist_distribution(two).axes[0].containers) == 2


def test_artists_of_every_size_are_counted():
    sizes = dict(a=9, b=10, c=50, d=51, e=1)
    table = artist_distribution(pd.DataFrame(dict(artist=[name for name, n in sizes.items() for _ in range(n)])))
    artists, clips = ([bar.get_height() for bar in axis.containers[0]] for axis in draw_artist_distribution(table).axes)
    assert np.allclose(artists, [40, 40, 20]) and np.allclose(clips, 100 * np.array([10, 60, 51]) / 121)


# ---- CVSM, figures 5, 6 and 8

@pytest.mark.parametrize("systems, count, columns", [(6, 2, 2), (5, 12, 3), (1, 30, 2)])
def test_projections(systems, count, columns):
    rng = np.random.default_rng(0)
    points = pd.DataFrame([dict(system=f"s{s}", label=f"l{i:02}", x=rng.normal(), y=rng.normal())
                           for s, i, _ in product(range(systems), range(count), range(4))])
    clusters = pd.DataFrame(dict(system=["s0"], silhouette=[0.04], distance_ratio=[0.334]))
    figure = draw_projections(points, clusters, columns)
    drawn = [axis for axis in figure.axes if axis.collections]
    assert len(drawn) == systems and [a.get_title("left") for a in drawn] == [f"s{s}" for s in range(systems)]
    dots = drawn[0].collections[0]
    assert np.allclose(dots.get_offsets(), points[points.system == "s0"][["x", "y"]])
    assert labels(drawn[0].texts) == ["silhouette 0.04, 1 − intra/inter 0.33"]
    outlines = [path.vertices.tobytes() for path in dots.get_paths()]
    looks = [*zip(map(tuple, dots.get_facecolor()), outlines)]                  # four points of each label
    assert len(set(looks)) == count and all(len(set(looks[k:k + 4])) == 1 for k in range(0, 4 * count, 4))
    assert labels(figure.legends[0].get_texts()) == [f"l{i:02}" for i in range(count)]
    assert draw_projections(points).axes


def test_overlap():
    rows = [dict(condition=c, seed=seed, system=a, other=b, share=1.0 if a == b else 0.2 + 0.2 * seed)
            for c, seed, a, b in product(("mixture", "vocals"), (0, 1), ("CVSM-A", "COLA"), ("CVSM-A", "COLA"))]
    figure = draw_overlap(pd.DataFrame(rows))
    square = np.ma.array(figure.axes[0].collections[0].get_array())
    assert np.allclose(square[0, 1], 30) and np.ma.getmaskarray(square).tolist() == [[True, False], [False, True]]
    assert labels(figure.axes[0].get_yticklabels()) == ["COLA", "CVSM-A"]
    assert [axis.get_title() for axis in figure.axes[:2]] == ["mixture", "vocals"] and texts(figure).count("30") == 4
