"Intervals of crossed tables: against explicit sums, their symmetries, and how often they hold the truth."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import t

from vocalrep.evaluation.intervals import bootstrap_interval, crossed_interval

values = st.floats(-1, 1, width=32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 5))
tables = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values))


@settings(max_examples=80, deadline=None)
@given(tables)
def test_crossed_interval_properties(d):
    low, high = crossed_interval(d)
    if d.size == 1 or np.ptp(d) < 1e-6:
        assert d.size > 1 and low <= high or np.isnan(low) and np.isnan(high)
        return
    assert low <= d.mean() + 1e-9 and d.mean() <= high + 1e-9
    assert crossed_interval(-d) == pytest.approx((-high, -low), abs=1e-9)
    assert crossed_interval(d + 0.5) == pytest.approx((low + 0.5, high + 0.5), rel=1e-6, abs=1e-6)
    assert crossed_interval(d.T) == pytest.approx((low, high), abs=1e-9)
    order = np.random.default_rng(0).permutation(d.shape[1])
    assert crossed_interval(d[:, order]) == pytest.approx((low, high), rel=1e-6, abs=1e-6)
    narrow = crossed_interval(d, 0.5)
    assert low - 1e-9 <= narrow[0] and narrow[1] <= high + 1e-9


def test_crossed_interval_against_sums_spelled_out():
    d = np.random.default_rng(1).normal(size=(3, 5)) + np.array([[0], [2], [5]]) + np.array([0, 3, 1, 5, 2])
    seeds, draws, mean = range(3), range(5), d.mean()
    a = sum(5 * (d[s].mean() - mean) ** 2 for s in seeds) / 2
    b = sum(3 * (d[:, r].mean() - mean) ** 2 for r in draws) / 4
    e = sum((d[s, r] - d[s].mean() - d[:, r].mean() + mean) ** 2 for s in seeds for r in draws) / 8
    total = a + b - e
    nu = total**2 / (a**2 / 2 + b**2 / 4 + e**2 / 8)
    half = t.ppf(0.975, nu) * (total / 15) ** 0.5
    assert crossed_interval(d) == pytest.approx((mean - half, mean + half))


def test_crossed_interval_holds_the_truth_where_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200, 3, 1)) + 0.3 * rng.normal(size=(200, 3, 5))

    def covered(intervals):
        return np.mean([low <= 0 <= high for low, high in intervals])

    assert covered(map(crossed_interval, draws)) > 0.9
    assert covered(bootstrap_interval(d, resamples=300) for d in draws) < 0.85


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (3, 4)])
def test_bootstrap_resamples_the_axes_that_vary(shape):
    d = np.random.default_rng(3).normal(size=shape)
    low, high = bootstrap_interval(d, resamples=200)
    assert low < d.mean() < high and bootstrap_interval(d, resamples=200) == (low, high)
