"Words for intervals: ordered, symmetrical, and strict enough for many comparisons."
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocalrep.evaluation.intervals import Estimate
from vocalrep.evaluation.verdicts import (FAILS, HOLDS, OPEN, SEEMS, SEEMS_NOT, UNTESTED, Bound, in_full, kind_of,
                                          levels, needed, together, verdict)
from vocalrep.project import VocalrepError

estimates = st.builds(Estimate, st.floats(-1, 1), st.floats(0.01, 1), st.floats(2, 100))
ORDER = {FAILS: 0, OPEN: 1, HOLDS: 2}


@given(estimates, st.floats(-0.5, 0.5))
def test_verdicts_are_ordered(estimate, more_than):
    higher = estimate._replace(effect=estimate.effect + 0.1)
    assert ORDER[verdict(estimate, Bound(more_than))] <= ORDER[verdict(higher, Bound(more_than))]
    mirrored = estimate._replace(effect=-estimate.effect)
    assert verdict(estimate, Bound(within=0.1)) == verdict(mirrored, Bound(within=0.1))


@given(st.lists(estimates, max_size=8), st.sampled_from(["all", "most"]))
def test_together(several, need):
    found = together(several, need=need)
    assert (found == UNTESTED) == (not several)
    assert found == together(several[::-1], need=need)
    single = [verdict(e) for e in several]
    assert found != HOLDS or single.count(HOLDS) >= needed(need, len(several))
    assert found != FAILS or FAILS in single
    if several and need == "all":
        assert (found == HOLDS) == (single.count(HOLDS) == len(several))


def test_one_of_many_must_fail_more_clearly():
    weak, strong = Estimate(-0.025, 0.01, 60), Estimate(-0.05, 0.01, 60)
    ahead = Estimate(0.05, 0.01, 60)
    assert verdict(weak) == FAILS and together([weak]) == FAILS
    assert together([weak, *[ahead] * 9]) == OPEN and together([strong, *[ahead] * 9]) == FAILS
    assert levels("all", 10)[HOLDS] == pytest.approx(0.95) and levels("all", 10)[FAILS] == pytest.approx(0.995)


@pytest.mark.parametrize("need", ["all", "most"])
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
def test_a_sentence_is_rarely_wrong_however_its_comparisons_hang_together(need, shared):
    rng, said = np.random.default_rng(0), []
    for _ in range(600):
        effects = (1 - shared)**0.5 * rng.normal(size=10) + shared**0.5 * rng.normal()
        said.append(together([Estimate(x, 1.0, 60) for x in effects], need=need) != OPEN)
    assert np.mean(said) <= 0.07


def test_the_name_of_a_verdict_says_what_is_missing():
    assert in_full(HOLDS, "most", 30, 60, False) == "holds as far as tested: 30 of 60"
    assert in_full(HOLDS, "all", 60, 60, False) == HOLDS
    assert in_full(HOLDS, "all", 30, 60, True) == f"{SEEMS} as far as tested: 30 of 60"
    assert in_full(FAILS, "all", 30, 60, False) == FAILS                        # one is enough
    assert in_full(FAILS, "most", 30, 60, True) == f"{SEEMS_NOT} as far as tested: 30 of 60"
    assert kind_of(in_full(FAILS, "most", 30, 60, True)) == SEEMS_NOT and kind_of(OPEN) == OPEN


def test_an_unknown_need_is_refused():
    with pytest.raises(VocalrepError, match="few.*all, most"):
        together([Estimate(0.1, 0.01, 9)], need="few")
