"Silhouette, distance ratio and maps: properties on points that coincide, other implementations, bad input."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vocalrep.evaluation.clusters import (
    DISTANCE_RATIOS, cluster_scores, distance_ratio, labelled_clips, map_clips, silhouette)
from vocalrep.project import VocalrepError


def coarse(k):
    "Three points of each of k clusters on a coarse grid: many coincide."
    points = arrays(np.float64, (3 * k, 2), elements=st.integers(-3, 3).map(float))
    return st.tuples(points, st.just(np.arange(3 * k) % k))


def old_silhouette(points, labels):
    "The formula by sums of distances, each cluster's mean (what these scores were before scikit-learn)."
    names, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(2))
    sums, rows = distance @ (own[:, None] == np.arange(len(names))).astype(float), np.arange(len(own))
    a, others = sums[rows, own] / np.maximum(sizes[own] - 1, 1), sums / sizes
    others[rows, own] = np.inf
    b = others.min(1)
    value = np.where(sizes[own] > 1, (b - a) / np.maximum(np.maximum(a, b), 1e-300), 0.0)
    return pd.Series(value).groupby(names[own]).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5).flatmap(coarse), st.integers(-3, 3))
def test_cluster_scores(points_and_labels, shift):
    points, labels = points_and_labels
    overall, each = silhouette(points, labels)
    assert -1 <= overall <= 1 and each.mean() == pytest.approx(overall)
    np.testing.assert_allclose(each, old_silhouette(points, labels), atol=1e-12)
    assert distance_ratio(points, labels) == pytest.approx(1 - distance_ratio(points, labels, "worded"))
    moved, renamed = 3 * points + shift, [f"name {k}" for k in labels]       # none of it matters
    assert silhouette(moved, renamed)[0] == pytest.approx(overall, abs=1e-9)
    assert distance_ratio(moved, renamed) == pytest.approx(distance_ratio(points, labels), abs=1e-9)


@pytest.mark.parametrize("dtype, scale, offset", [(np.float64, 1, 0), (np.float32, 30, 0), (np.float64, 1e-4, 100)])
def test_silhouette_is_what_it_was(dtype, scale, offset):
    "Also far from the origin, where distances by inner products would lose most of their digits."
    rng = np.random.default_rng(0)
    labels = np.repeat(list("abcde"), [30, 20, 9, 2, 1])
    centres = np.unique(labels, return_inverse=True)[1][:, None]
    points = (offset + scale * (rng.normal(size=(62, 8)) + centres)).astype(dtype)
    np.testing.assert_allclose(silhouette(points, labels)[1], old_silhouette(points.astype(float), labels), atol=1e-12)


def test_cluster_scores_over_more_rows_than_a_block():
    from sklearn.metrics import silhouette_score
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 400)
    points = rng.normal(size=(1200, 4)) + labels[:, None]
    assert silhouette(points, labels)[0] == pytest.approx(silhouette_score(points, labels))    # clusters of one size
    distance, ratios = np.linalg.norm(points[:, None] - points[None], axis=2), []
    for k in range(3):
        inside, outside = distance[labels == k][:, labels == k], distance[labels == k][:, labels != k]
        ratios.append(inside.sum() / (400 * 399) / outside.mean())
    assert distance_ratio(points, labels, "worded") == pytest.approx(np.mean(ratios))


def test_a_point_alone_counts_nothing():
    points, labels = np.array([[0.0], [1.0], [10.0], [12.0], [50.0]]), np.array([0, 0, 1, 1, 2])
    assert silhouette(points, labels)[1][2] == 0
    ratios = [1 / np.mean([10, 12, 50, 9, 11, 49]), 2 / np.mean([10, 9, 40, 12, 11, 38])]
    assert distance_ratio(points, labels, "worded") == pytest.approx(np.mean(ratios))
    assert set(DISTANCE_RATIOS) == {"separation", "worded"}


def test_all_points_in_one_place_are_chance():
    found = cluster_scores(np.ones((6, 2)), [0, 0, 0, 1, 1, 1])
    assert found == dict(silhouette=0.0, distance_ratio=0.0, distance_ratio_as_worded=1.0)


# ---- maps ----

def clips_of(artists, each):
    names = np.repeat([f"artist {k}" for k in range(artists)], each)
    return pd.DataFrame(dict(clip=[f"song {i}" for i in range(len(names))], artist=names, gender="female"))


def test_artists_with_most_clips_are_shown():
    prolific = clips_of(2, 5).replace({"artist 0": "many", "artist 1": "more"})
    clips = pd.concat([clips_of(3, 2), prolific], ignore_index=True)
    table, rows = labelled_clips(clips, np.arange(len(clips))[:, None], artists=2)
    assert set(table.artist) == {"many", "more"} and rows.ravel().tolist() == list(range(6, 16))
    assert len(labelled_clips(clips, np.eye(16), count=9)[0]) == 9
    assert labelled_clips(clips, np.eye(16))[0].artist.nunique() == 5


def test_clips_without_a_label_or_alone_are_left_out():
    clips = clips_of(4, 2).assign(gender=["female", "female", None, "male", "male", "male", "other", None])
    table, rows = labelled_clips(clips, np.arange(8)[:, None], "gender")
    assert table.gender.tolist() == ["female"] * 2 + ["male"] * 3 and rows.ravel().tolist() == [0, 1, 3, 4, 5]
    with pytest.raises(VocalrepError, match="fewer than two values of 'gender'"):
        labelled_clips(clips.assign(gender="female"), np.eye(8), "gender")


def test_maps_repeat_and_keep_the_order_of_clips():
    rng, clips = np.random.default_rng(0), clips_of(3, 4)
    vectors = rng.normal(size=(3, 8)).repeat(4, 0) + 0.1 * rng.normal(size=(12, 8))
    points = map_clips(clips, vectors.astype(np.float32), layouts=2)
    assert points.equals(map_clips(clips, vectors.astype(np.float32), layouts=2))
    assert list(points) == ["repetition", "clip", "label", "x", "y"]
    for repetition, layout in points.groupby("repetition"):
        assert layout["clip"].tolist() == clips["clip"].tolist() and layout.label.tolist() == clips.artist.tolist()


def test_layouts_differ_as_runs_do():
    from scipy.spatial import procrustes
    clips = clips_of(4, 15)
    vectors = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)      # nothing that all must show
    layouts = [own[["x", "y"]].to_numpy() for _, own in map_clips(clips, vectors, layouts=3).groupby("repetition")]
    apart = [procrustes(layouts[a], layouts[b])[2] for a, b in ((0, 1), (0, 2), (1, 2))]     # 0: turned, scaled, moved
    assert min(apart) > 0.2


@pytest.mark.parametrize("wrong", [
    lambda: silhouette(np.ones((3, 2)), [1, 1, 1]),
    lambda: silhouette(np.ones((3, 2)), [1, 2, 3]),
    lambda: silhouette([[np.nan], [1], [2]], [0, 0, 1]),
    lambda: distance_ratio(np.ones((3, 2)), [0, 1]),
    lambda: distance_ratio(np.eye(3), [0, 0, 1], "inter/intra"),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong()
