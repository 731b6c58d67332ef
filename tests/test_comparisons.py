"Paired differences: the two sides may be exchanged, and only what all of them share counts."
import numpy as np
import pandas as pd
import pytest

from vocalrep.project import VocalrepError
from vocalrep.report.comparisons import Place, difference, find_cells, measured, pair

EER = ("similarity", "eer")
HERE, THERE = Place("mixture"), Place("vocals")


def cells(drop=()):
    "Random cells of two trained systems and one untrained, three seeds by four repetitions."
    rng = np.random.default_rng(0)
    rows = [dict(system=s, seed=seed, repetition=r, condition=place.condition, task="similarity", metric="eer",
                 seconds=np.nan, fraction=1.0, normalisation="none", probe="", value=rng.uniform())
            for s, seeds in (("a", 3), ("b", 3), ("stone", 1)) for seed in range(seeds) for r in range(4)
            for place in (HERE, THERE) if (s, seed, r) not in drop]
    return find_cells(measured(pd.DataFrame(rows)), ("a", "b"))


def test_exchanged_sides_change_the_sign():
    known = cells()
    for where in ((HERE, None), (HERE, THERE)):
        there = difference(known, EER, ("a",), ("b",), *where)
        back = difference(known, EER, ("b",), ("a",), *where)
        assert np.allclose(there.values, -back.values) and there.values.shape == (3, 4)
    forth = difference(known, EER, ("a",), (), HERE, THERE)
    assert np.allclose(forth.values, -difference(known, EER, ("a",), (), THERE, HERE).values)


def test_gaps_are_differences_of_differences():
    known = cells()
    gap = difference(known, EER, ("a",), ("b",), HERE, THERE).values
    parts = [difference(known, EER, ("a",), ("b",), place).values for place in (HERE, THERE)]
    assert np.allclose(gap, parts[0] - parts[1])


def test_the_best_side_is_best_on_average():
    known = cells()
    single = [difference(known, EER, (s,), ("stone",), HERE).values.mean() for s in ("a", "b")]
    best = difference(known, EER, ("a", "b"), ("stone",), HERE, pairing="best")
    assert best.values.mean() == pytest.approx(max(single))
    assert difference(known, EER, ("a", "b"), ("stone",), HERE).values.mean() == pytest.approx(np.mean(single))


def test_only_shared_seeds_and_complete_repetitions_count():
    missing = {("a", 2, r) for r in range(4)} | {("b", 0, 1)}
    found = difference(cells(missing), EER, ("a",), ("b",), HERE)
    assert found.values.shape == (2, 3)
    assert difference(cells({("a", 2, r) for r in range(4)}), EER, ("a",), ("stone",), HERE).values.shape == (2, 4)


def test_bad_values_are_refused():
    rows = pd.DataFrame(dict(system=["a", "a"], seed=0, repetition=0, condition="mixture", task="similarity",
                             metric="eer", seconds=np.nan, fraction=1.0, normalisation="none", probe="",
                             value=[0.1, 0.2]))
    with pytest.raises(VocalrepError, match="two values for one score.*system a"):
        find_cells(measured(rows), ())
    with pytest.raises(VocalrepError, match="1 of 2 values are NaN"):
        measured(rows.assign(value=[0.1, np.inf]))
    assert len(find_cells(measured(rows.assign(value=[0.1, 0.1 + 1e-12])), ())) == 1     # one score, two files


def test_a_pair_has_one_name():
    assert pair("b", "a") == pair("a", "b")
