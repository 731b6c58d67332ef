"Equal error rate, normalised rank, classification: properties on arbitrary scores, other implementations, bad input."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vocalrep.evaluation.metrics import (
    check_artists, classification_scores, equal_error_rate, finite_array, mean_normalized_rank, normalize_embeddings,
    pairwise_scores, unit_rows)
from vocalrep.project import VocalrepError

scores = st.lists(st.integers(-8, 8), min_size=1, max_size=25).map(lambda x: np.array(x) / 4)      # many ties
squares = st.integers(1, 9).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.integers(-3, 3).map(float)))
quick = settings(max_examples=60, deadline=None)


@quick
@given(scores, scores)
def test_eer_properties(positive, negative):
    rate = equal_error_rate(positive, negative)
    assert 0 <= rate <= 1
    assert equal_error_rate(np.exp(positive), np.exp(negative)) == pytest.approx(rate)      # only the order counts
    assert equal_error_rate(negative, positive) == pytest.approx(1 - rate)
    assert equal_error_rate(positive[::-1], negative[::-1]) == rate
    assert equal_error_rate(positive + 1, negative) <= rate + 1e-12                         # better scores


@settings(max_examples=25, deadline=None)
@given(scores, scores)
def test_eer_against_scikit_learn(positive, negative):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve
    same = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    fpr, tpr, _ = roc_curve(same, np.r_[positive, negative])
    crossing = brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)
    assert equal_error_rate(positive, negative) == pytest.approx(crossing, abs=1e-9)


@quick
@given(scores)
def test_step_rule(positive):
    n = len(positive)
    assert equal_error_rate(positive, positive - 100, "step") == 0
    assert equal_error_rate(positive, positive + 100, "step") == 1
    negative = np.random.default_rng(n).permutation(positive) - 0.1
    first = [j for j, (p, q) in enumerate(zip(sorted(positive), sorted(negative)[::-1])) if p > q]
    assert equal_error_rate(positive, negative, "step") == (first[0] / n if first else 1.0)


@quick
@given(squares)
def test_rank_properties(similarity):
    from scipy.stats import rankdata
    n = len(similarity)
    rank = mean_normalized_rank(similarity)
    assert 0 <= rank <= (n - 1) / n
    assert mean_normalized_rank(similarity, "one") == pytest.approx(rank + 1 / n)
    assert mean_normalized_rank(2 * similarity + 1) == pytest.approx(rank)
    assert mean_normalized_rank(-similarity) == pytest.approx((n - 1) / n - rank)
    order = np.random.default_rng(n).permutation(n)
    assert mean_normalized_rank(similarity[order][:, order]) == pytest.approx(rank)
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_rows_keep_their_type(dtype):
    x = np.array([[3, 4], [0, 0], [1e-9, 0]], dtype)
    unit = unit_rows(x)
    assert unit.dtype == dtype
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    np.testing.assert_allclose(unit_rows(x, 1e-8)[2], [0.1, 0], rtol=1e-6)


def test_tensors_are_welcome():
    torch = pytest.importorskip("torch")
    assert equal_error_rate(torch.tensor([1.0, 2.0]), torch.tensor([0.0])) == 0
    assert mean_normalized_rank(torch.eye(5)) == 0


@quick
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=30))
def test_classification(pairs):
    truth, answer = np.array(pairs).T
    found = classification_scores(truth, answer)
    assert found["accuracy"] == np.mean([t == a for t, a in pairs])
    hits = {c: ((truth == c) & (answer == c)).sum() for c in {*truth, *answer}}
    f1 = [2 * n / ((truth == c).sum() + (answer == c).sum()) for c, n in hits.items()]
    assert found["macro_f1"] == pytest.approx(np.mean(f1))


@pytest.mark.parametrize("artists, unknown", [
    (["a", None, "b"], 1), ([np.nan, "a", None], 2), (np.array([1.0, np.nan]), 1)])
def test_missing_artists_are_counted(artists, unknown):
    with pytest.raises(VocalrepError, match=f"{unknown} of {len(artists)} clips have no artist"):
        check_artists(artists)


@pytest.mark.parametrize("wrong", [
    lambda: finite_array("x", [1.0], 2),
    lambda: classification_scores([], []),
    lambda: classification_scores([1, 2], [1]),
    lambda: equal_error_rate([], [1]),
    lambda: equal_error_rate([1], []),
    lambda: equal_error_rate([np.nan], [1]),
    lambda: equal_error_rate([[1]], [1]),
    lambda: equal_error_rate([1], [1, 2], "step"),
    lambda: equal_error_rate([1], [1], "DET"),
    lambda: mean_normalized_rank(np.ones((2, 3))),
    lambda: mean_normalized_rank(np.ones((0, 0))),
    lambda: mean_normalized_rank(np.full((2, 2), np.nan)),
    lambda: mean_normalized_rank(np.eye(2), "two"),
    lambda: pairwise_scores(np.ones((3, 2)), [1, 2]),
    lambda: pairwise_scores(np.ones((3, 2)), [1, 2, 3], [1]),
    lambda: normalize_embeddings(np.ones((2, 2)), "whiten"),
    lambda: normalize_embeddings([[np.inf]]),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong()
