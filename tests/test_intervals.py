"Intervals of crossed tables: against explicit sums, their symmetries, and how often they hold the truth."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vocalrep.evaluation.intervals import Estimate, Spread, crossed_estimate, pooled_spread

values = st.floats(-1, 1, width=32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 6))
tables = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=values))
spreads = st.one_of(st.none(), st.builds(Spread, st.floats(0, 1), st.integers(1, 20)))


@settings(max_examples=80, deadline=None)
@given(tables, spreads)
def test_properties(d, spread):
    low, high = crossed_estimate(d, spread).interval()
    if d.shape[1] == 1 or np.ptp(d) < 1e-6:
        assert np.isnan([low, high]).all() or low <= high
        return
    if np.isnan(low):                                        # no artist differs from another, nor a training
        assert np.ptp(d.mean(0)) < 1e-6 and np.ptp(d.mean(1)) < 1e-6
        return
    assert low <= d.mean() + 1e-9 and d.mean() <= high + 1e-9
    assert crossed_estimate(-d, spread).interval() == pytest.approx((-high, -low), abs=1e-9)
    assert crossed_estimate(d + 0.5, spread).interval() == pytest.approx((low + 0.5, high + 0.5), rel=1e-5, abs=1e-5)
    order = np.random.default_rng(0).permutation(d.shape[1])
    assert crossed_estimate(d[:, order], spread).interval() == pytest.approx((low, high), rel=1e-5, abs=1e-5)
    narrow = crossed_estimate(d, spread).interval(0.5)
    assert low - 1e-9 <= narrow[0] and narrow[1] <= high + 1e-9


def test_against_sums_spelled_out():
    d = np.random.default_rng(1).normal(size=(3, 5)) + np.array([[0], [2], [5]]) + np.array([0, 3, 1, 5, 2])
    seeds, artists, mean = range(3), range(5), d.mean()
    b = sum(3 * (d[:, r].mean() - mean) ** 2 for r in artists) / 4
    e = sum((d[s, r] - d[s].mean() - d[:, r].mean() + mean) ** 2 for s in seeds for r in artists) / 8
    for spread in (Spread(0.7, 14), None):
        variance, freedom = spread or (sum((d[s].mean() - mean) ** 2 for s in seeds) / 2, 2)
        parts = (variance / 3, freedom), (b / 15, 4), (-e / 15, 8)
        total = sum(part for part, _ in parts)
        found = crossed_estimate(d, spread)
        assert found.error == pytest.approx(total**0.5)
        assert found.freedom == pytest.approx(total**2 / sum(part**2 / f for part, f in parts))


def test_more_trials_of_the_same_artists_are_no_more_certain():
    "What the interval rests on is artists: drawing them again does not make it narrower."
    artists = np.random.default_rng(2).normal(size=50)
    wide = crossed_estimate(artists[None])
    assert wide.error == pytest.approx(artists.std(ddof=1) / 50**0.5)
    assert np.isnan(crossed_estimate([[0.1], [0.2], [0.3]]).error)


def test_variances_of_trainings_are_pooled():
    assert pooled_spread([[0, 2], [1, 1, 1], [7]]) == Spread(2 / 3, 3)
    assert pooled_spread([[0, 2], [1, 1, 1]], most=2).freedom == 2
    assert pooled_spread([[1], [2]]).freedom == 0 and np.isnan(pooled_spread([]).variance)
    assert Spread(0.5, 4).times(2) == Spread(1.0, 4)


def test_a_pooled_spread_needs_fewer_trainings():
    rng = np.random.default_rng(0)
    hits, widths = [], []
    for _ in range(300):
        trainings = rng.normal(size=(7, 3))
        d = trainings[0][:, None] + 0.5 * rng.normal(size=50)
        estimates = crossed_estimate(d, pooled_spread(trainings)), crossed_estimate(d)
        hits.append([low <= 0 <= high for low, high in (e.interval() for e in estimates)])
        widths.append([e.interval()[1] - e.interval()[0] for e in estimates])
    pooled, own = np.mean(hits, 0)
    assert pooled > 0.92 and own > 0.92
    assert np.median(widths, 0)[0] < 0.7 * np.median(widths, 0)[1]


def test_an_estimate_without_error_has_no_interval():
    assert np.isnan(Estimate(0.3).interval()).all()
