"""Equal error rate, normalised rank, classification and cluster scores: properties on arbitrary scores, independent implementations, bad input."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vocalrep.evaluation.metrics import DISTANCE_RATIOS, classification_scores, distance_ratio, equal_error_rate, mean_normalized_rank, normalize_embeddings, pairwise_scores, silhouette
from vocalrep.project import VocalrepError

scores = st.lists(st.integers(-8, 8), min_size=1, max_size=25).map(lambda x: np.array(x) / 4)      # many ties
squares = st.integers(1, 9).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.integers(-3, 3).map(float)))
clusters = st.integers(2, 5).flatmap(lambda k: st.tuples(                                            # points on a coarse grid: many coincide
    arrays(np.float64, (3 * k, 2), elements=st.integers(-3, 3).map(float)), st.just(np.arange(3 * k) % k)))
quick = settings(max_examples=60, deadline=None)


@quick
@given(scores, scores)
def test_eer_properties(positive, negative):
    rate = equal_error_rate(positive, negative)
    assert 0 <= rate <= 1
    assert equal_error_rate(np.exp(positive), np.exp(negative)) == pytest.approx(rate)              # only the order counts
    assert equal_error_rate(negative, positive) == pytest.approx(1 - rate)
    assert equal_error_rate(positive[::-1], negative[::-1]) == rate
    assert equal_error_rate(positive + 1, negative) <= rate + 1e-12                                 # better scores, no more errors


@settings(max_examples=25, deadline=None)
@given(scores, scores)
def test_eer_against_scikit_learn(positive, negative):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve
    fpr, tpr, _ = roc_curve(np.r_[np.ones(len(positive)), np.zeros(len(negative))], np.r_[positive, negative])
    assert equal_error_rate(positive, negative) == pytest.approx(brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1), abs=1e-9)


@quick
@given(scores)
def test_step_rule(positive):
    n = len(positive)
    assert equal_error_rate(positive, positive - 100, "step") == 0 and equal_error_rate(positive, positive + 100, "step") == 1
    negative = np.random.default_rng(n).permutation(positive) - 0.1
    first = [j for j, (p, q) in enumerate(zip(sorted(positive), sorted(negative)[::-1])) if p > q]
    assert equal_error_rate(positive, negative, "step") == (first[0] / n if first else 1.0)


@quick
@given(squares)
def test_rank_properties(similarity):
    n = len(similarity)
    rank = mean_normalized_rank(similarity)
    assert 0 <= rank <= (n - 1) / n
    assert mean_normalized_rank(similarity, "one") == pytest.approx(rank + 1 / n)
    assert mean_normalized_rank(2 * similarity + 1) == pytest.approx(rank)
    assert mean_normalized_rank(-similarity) == pytest.approx((n - 1) / n - rank)
    order = np.random.default_rng(n).permutation(n)
    assert mean_normalized_rank(similarity[order][:, order]) == pytest.approx(rank)
    from scipy.stats import rankdata
    assert rank == pytest.approx(np.mean([rankdata(-row)[i] - 1 for i, row in enumerate(similarity)]) / n)


def test_rank_over_more_rows_than_a_block():
    similarity = np.random.default_rng(0).normal(size=(1100, 1100))
    expected = np.mean([(row > row[i]).sum() for i, row in enumerate(similarity)]) / 1100
    assert mean_normalized_rank(similarity) == pytest.approx(expected)


def test_pairs_over_more_rows_than_a_block():
    rng = np.random.default_rng(0)
    x, labels, clips = rng.normal(size=(1100, 3)), rng.integers(0, 50, 1100), rng.integers(0, 300, 1100)
    positive, negative = pairwise_scores(x, labels, clips)
    i, j = np.triu_indices(1100, 1)
    wanted, same = clips[i] != clips[j], labels[i] == labels[j]
    assert (len(positive), len(negative)) == ((wanted & same).sum(), (wanted & ~same).sum())
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert positive.mean() == pytest.approx((unit[i] * unit[j]).sum(1)[wanted & same].mean(), abs=1e-5)


def test_normalisation():
    x = np.random.default_rng(0).normal(3, 2, size=(50, 4))
    x[:, 2] = 0.1
    z = normalize_embeddings(x, "zscore")
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(0), [1, 1, 0, 1], atol=1e-12)
    assert np.array_equal(normalize_embeddings(x), x)


def test_tensors_are_welcome():
    torch = pytest.importorskip("torch")
    assert equal_error_rate(torch.tensor([1.0, 2.0]), torch.tensor([0.0])) == 0
    assert mean_normalized_rank(torch.eye(5)) == 0


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=30))
def test_classification(pairs):
    truth, answer = np.array(pairs).T
    scores = classification_scores(truth, answer)
    assert scores["accuracy"] == np.mean([t == a for t, a in pairs])
    f1 = [2 * ((truth == c) & (answer == c)).sum() / ((truth == c).sum() + (answer == c).sum()) for c in {*truth, *answer}]
    assert scores["macro_f1"] == pytest.approx(np.mean(f1))


@settings(max_examples=25, deadline=None)
@given(clusters, st.integers(-3, 3))
def test_cluster_scores(points_and_labels, shift):
    from sklearn.metrics import silhouette_samples
    points, labels = points_and_labels
    overall, each = silhouette(points, labels)
    assert -1 <= overall <= 1 and each.mean() == pytest.approx(overall)
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = silhouette_samples(points, labels)
    np.testing.assert_allclose(each, [independent[labels == k].mean() for k in each.index], atol=1e-6)
    assert distance_ratio(points, labels) == pytest.approx(1 - distance_ratio(points, labels, "worded"))
    for score in (lambda x, y: silhouette(x, y)[0], distance_ratio):                                # neither moving, scaling nor renaming matters
        assert score(3 * points + shift, [f"name {k}" for k in labels]) == pytest.approx(score(points, labels), abs=1e-9)


def test_cluster_scores_over_more_rows_than_a_block():
    from sklearn.metrics import silhouette_score
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 400)
    points = rng.normal(size=(1200, 4)) + labels[:, None]
    assert silhouette(points, labels)[0] == pytest.approx(silhouette_score(points, labels))         # clusters of one size: both averages agree
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    worded = [distance[labels == k][:, labels == k].sum() / (400 * 399) / distance[labels == k][:, labels != k].mean() for k in range(3)]
    assert distance_ratio(points, labels, "worded") == pytest.approx(np.mean(worded))


def test_a_point_alone_counts_nothing():
    points, labels = np.array([[0.0], [1.0], [10.0], [12.0], [50.0]]), np.array([0, 0, 1, 1, 2])
    assert silhouette(points, labels)[1][2] == 0
    assert distance_ratio(points, labels, "worded") == pytest.approx(np.mean([1 / np.mean([10, 12, 50, 9, 11, 49]), 2 / np.mean([10, 9, 40, 12, 11, 38])]))
    assert set(DISTANCE_RATIOS) == {"separation", "worded"}


@pytest.mark.parametrize("wrong", [
    lambda: classification_scores([], []), lambda: classification_scores([1, 2], [1]), lambda: silhouette(np.ones((3, 2)), [1, 1, 1]), lambda: silhouette(np.ones((3, 2)), [1, 2, 3]),
    lambda: silhouette([[np.nan], [1], [2]], [0, 0, 1]), lambda: distance_ratio(np.ones((3, 2)), [0, 1]), lambda: distance_ratio(np.eye(3), [0, 0, 1], "inter/intra"),
    lambda: equal_error_rate([], [1]), lambda: equal_error_rate([1], []), lambda: equal_error_rate([np.nan], [1]), lambda: equal_error_rate([[1]], [1]),
    lambda: equal_error_rate([1], [1, 2], "step"), lambda: equal_error_rate([1], [1], "DET"),
    lambda: mean_normalized_rank(np.ones((2, 3))), lambda: mean_normalized_rank(np.ones((0, 0))), lambda: mean_normalized_rank(np.full((2, 2), np.nan)),
    lambda: mean_normalized_rank(np.eye(2), "two"), lambda: pairwise_scores(np.ones((3, 2)), [1, 2]), lambda: pairwise_scores(np.ones((3, 2)), [1, 2, 3], [1]),
    lambda: normalize_embeddings(np.ones((2, 2)), "whiten"), lambda: normalize_embeddings([[np.inf]]),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong()
