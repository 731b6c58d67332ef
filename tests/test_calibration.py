"""Do verdicts keep their promise? Systems that differ in nothing but luck, at the size of the committed tables.

50 artists with 5 clips, 1 to 3 trainings, artists that suit one system and not another, lucky and unlucky trainings,
trials that draw the same artists again. The worlds are always the same ones, so the outcome is too. They are fewer than
on the page (`evaluation/18_calibration`: 200, and 40 with probes): a method that is wrong in 5 % of comparisons would
show more than 7 % in about one of ten sets of worlds as small as these, and one that is wrong in 15 % hardly ever less.
Probes have so few worlds that their bound is that of a binomial: what 7 % shows in 19 of 20 sets of so many pairs.
`CALIBRATION_WORLDS=200 pytest tests/test_calibration.py` draws more.
"""
import os

import numpy as np
import pytest
from scipy.stats import binom

from vocalrep.evaluation.calibration import World, found_differences, wrong_verdicts
from vocalrep.evaluation.verdicts import FAILS, HOLDS, SEEMS, SEEMS_NOT, in_full

WORLDS = int(os.environ.get("CALIBRATION_WORLDS", 12))


@pytest.fixture(scope="module")
def said():
    "Shares of verdicts about exchangeable systems."
    return wrong_verdicts(worlds=WORLDS, seed=11)


def share(table):
    return np.average(table.said, weights=table.comparisons)


@pytest.mark.parametrize("seeds", [2, 3])
def test_exchangeable_systems_are_rarely_told_apart(said, seeds):
    own = said[said.seeds == seeds]
    assert share(own[own.task != "claims"]) <= 0.07
    assert share(own[own.task == "claims"]) <= 0.07


def test_one_training_gives_no_verdict_on_a_method():
    assert {in_full(word, "all", 1, 1, observed=True) for word in (HOLDS, FAILS)} == {SEEMS, SEEMS_NOT}


def test_lucky_trainings_are_why(said):
    "Where trainings differ much, artists alone would be far too sure; with three trainings the promise is kept."
    uneven = wrong_verdicts(World(luck=0.15, training=0.2, systems=3), max(WORLDS // 2, 6), seeds=(1, 3), seed=5)
    similarity = uneven[uneven.task == "similarity"]
    assert share(similarity[similarity.seeds == 1]) > 0.12
    assert share(uneven[(uneven.seeds == 3)]) <= 0.07


def test_probes_too():
    worlds = max(WORLDS // 4, 5)
    own = wrong_verdicts(World(systems=3), worlds, seeds=(3,), probes=True, seed=7)
    pairs = 3 * worlds
    assert share(own[own.task.isin(["artist", "gender"])]) <= binom.ppf(0.95, pairs, 0.07) / pairs


def test_ten_points_are_found():
    found = found_differences(World(first=0.85, systems=3), max(WORLDS // 2, 6), seed=3).set_index("metric")
    assert 0.08 < -found.difference["eer"] < 0.12
    assert found.found["eer"] >= 0.8
