"""Claims on synthetic scores whose truth is known: held, reversed, tied, missing, few seeds; conditions, overlaps, clusters; the interval against explicit sums."""
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vocalrep.report import claims as room
from vocalrep.report.claims import ACCURACY, CLAIMS, CLOSE, EVERY, FAILS, HOLDS, LEAST, OPEN, SIMILARITY, UNTESTED, Claim, bootstrap_interval, compare_claims, crossed_interval, overall, pair, verdict
from vocalrep.project import VocalrepError
from vocalrep.training.variants import CVSM_VARIANTS

AHEAD = Claim("ahead", "ART is ahead", "", ("CVSM-ART",), ("COLA",), ACCURACY)
ALIKE = dataclasses.replace(AHEAD, name="alike", within=CLOSE)
NEAR = dataclasses.replace(AHEAD, name="near", more_than=-CLOSE)


def scores(means, task="artist", metric="accuracy", mode="mixture", seeds=3, repetitions=5, noise=0.005, seconds=np.nan, fraction=1.0):
    "Scores around these means; easy and hard draws of artists shift all systems alike, by far more than the noise."
    artists = 0.1 * np.random.default_rng(0).normal(size=repetitions)
    rng = np.random.default_rng([mode == "vocals", int(10 * np.nan_to_num(seconds)), int(100 * fraction)])      # other noise under every condition
    return pd.DataFrame([dict(system=system, seed=seed, mode=mode, task=task, metric=metric, normalisation="none", probe="linear", seconds=seconds, fraction=fraction, repetition=r,
                              value=mean + artists[r] + noise * rng.normal(), artists=50, clips=200, reduced="")
                         for system, mean in means.items() for seed in range(seeds) for r in range(repetitions)])


def test(table, *claims, **options):
    return room.test_claims(table, claims, **options).set_index("claim")


test.__test__ = False


@pytest.mark.parametrize("ahead, expected", [(0.10, (HOLDS, FAILS, HOLDS)), (-0.10, (FAILS, FAILS, FAILS)), (0.0, (OPEN, HOLDS, HOLDS)), (-0.02, (FAILS, HOLDS, HOLDS))])
def test_verdicts_follow_the_truth(ahead, expected):
    table = test(scores({"CVSM-ART": 0.6 + ahead, "COLA": 0.6}), AHEAD, ALIKE, NEAR)
    if ahead:
        assert tuple(table.verdict) == expected
    else:
        assert tuple(table.verdict[1:]) == expected[1:] and abs(table.effect["ahead"]) < 0.01
    assert table.effect.to_numpy() == pytest.approx(ahead, abs=0.01) and (table.low <= table.effect).all() and (table.effect <= table.high).all()


def test_equal_differences_are_no_certainty():
    one = scores({"CVSM-ART": 0.6})
    table = test(pd.concat([one, one.assign(system="COLA")]), AHEAD, ALIKE)
    assert list(table.verdict) == [OPEN, OPEN] and (table.effect == 0).all() and table.why.str.contains("equal").all()


def test_errors_count_the_other_way_round():
    claim = dataclasses.replace(AHEAD, measures=SIMILARITY[:1])
    table = scores({"CVSM-ART": 0.2, "COLA": 0.3}, "similarity", "eer")
    assert test(table, claim).loc["ahead", "effect"] == pytest.approx(0.1, abs=0.01)
    assert test(table, claim, normalisation="zscore").loc["ahead", "verdict"] == UNTESTED
    assert test(pd.concat([table, table.assign(normalisation="zscore", value=0.5)]), claim).loc["ahead", "verdict"] == HOLDS


def test_missing_systems_are_named_and_the_rest_is_tested():
    claim = dataclasses.replace(AHEAD, right=("COLA", "MERT"))
    row = test(scores({"CVSM-ART": 0.7, "COLA": 0.6}), claim).loc["ahead"]
    assert row.verdict == HOLDS and row.untested == 1 and "MERT" in row.why
    row = test(scores({"CVSM-ART": 0.7}), claim).loc["ahead"]
    assert row.verdict == UNTESTED and np.isnan(row.effect) and "COLA" in row.why


def test_one_seed_says_what_its_interval_covers():
    table = scores({"CVSM-ART": 0.7, "COLA": 0.6})
    row = test(table[table.seed == 0], AHEAD).loc["ahead"]
    assert "one training seed" in row.why and row.verdict == HOLDS
    row = test(table[(table.seed == 0) & (table.repetition == 0)], AHEAD).loc["ahead"]
    assert row.verdict == OPEN and np.isnan(row.low) and "no interval" in row.why


def test_seeds_that_disagree_cannot_tell():
    table = scores({"CVSM-ART": 0.62, "COLA": 0.6})
    table.loc[table.system == "CVSM-ART", "value"] += 0.05 * (table.seed - 1)
    row = test(table, AHEAD).loc["ahead"]
    assert row.verdict == OPEN and row.low < 0 < row.effect
    assert test(table[table.seed == 2], AHEAD).loc["ahead", "verdict"] == HOLDS       # one training alone would have been sure


def test_pairs_are_matched_by_seed_and_repetition_not_by_order():
    table = scores({"CVSM-ART": 0.7, "COLA": 0.6})
    expected = test(table, AHEAD).loc["ahead", ["effect", "low", "high"]].to_list()
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.index = [0] * len(shuffled)                                              # tables glued together repeat their index
    assert test(shuffled, AHEAD).loc["ahead", ["effect", "low", "high"]].to_list() == pytest.approx(expected)
    fewer = test(table.drop(table.index[(table.system == "COLA") & (table.repetition == 4)]), AHEAD).loc["ahead"]
    assert "3 seeds x 4 repetitions" in fewer.why
    none = test(table.assign(seed=np.where(table.system == "COLA", table.seed + 10, table.seed)), AHEAD).loc["ahead"]
    assert none.verdict == UNTESTED and "same seed" in none.why


def test_untrained_systems_stand_beside_every_seed():
    table = pd.concat([scores({"CVSM-ART": 0.7}), scores({"MERT": 0.6}, seeds=1)])
    row = test(table, dataclasses.replace(AHEAD, right=("MERT",))).loc["ahead"]
    assert row.verdict == HOLDS and "3 seeds x 5 repetitions" in row.why


def test_a_number_in_the_claim_is_a_threshold():
    table = scores({"CVSM-ART": 0.66, "COLA": 0.60})
    assert test(table, dataclasses.replace(AHEAD, more_than=0.04)).verdict["ahead"] == HOLDS
    assert test(table, dataclasses.replace(AHEAD, more_than=0.08)).verdict["ahead"] == FAILS


def test_all_and_most():
    claim = dataclasses.replace(AHEAD, right=("COLA", "MSCOL", "CVSM-A"))
    table = scores({"CVSM-ART": 0.7, "COLA": 0.6, "MSCOL": 0.65, "CVSM-A": 0.8})
    row = test(table, claim).loc["ahead"]
    assert row.verdict == FAILS and "CVSM-A" in row.shown and row.effect == pytest.approx(-0.1, abs=0.01) and (row.holds, row.fails, row.comparisons) == (2, 1, 3)
    row = test(table, dataclasses.replace(claim, need="most")).loc["ahead"]
    assert row.verdict == HOLDS and "MSCOL" in row.shown


def test_best_of_each_side_and_other_modes():
    claim = Claim("best", "", "", ("CVSM-A", "CVSM-AH"), measures=ACCURACY, than={"mode": "vocals"}, pairing="best", within=CLOSE)
    table = pd.concat([scores({"CVSM-A": 0.5, "CVSM-AH": 0.7}), scores({"CVSM-A": 0.71, "CVSM-AH": 0.5}, mode="vocals")])
    assert test(table, claim).loc["best", "effect"] == pytest.approx(-0.01, abs=0.01)
    assert test(table, claim).loc["best", "verdict"] == HOLDS
    assert list(compare_claims(table, [dataclasses.replace(claim, pairing="every")]).effect.round(1)) == [-0.2, 0.2]


def test_gaps_that_change_with_length_and_data():
    table = pd.concat([scores({"CVSM-ART": 0.7, "COLA": 0.6}), scores({"CVSM-ART": 0.5, "COLA": 0.3}, seconds=1.0), scores({"CVSM-ART": 0.3, "COLA": 0.4}, fraction=0.25),
                       scores({"CVSM-ART": 0.3, "COLA": 0.3}, fraction=0.5)])
    wider = dataclasses.replace(AHEAD, seconds=1.0, than={"seconds": None})
    assert test(table, wider).loc["ahead", "effect"] == pytest.approx(0.1, abs=0.015) and test(table, wider).loc["ahead", "verdict"] == HOLDS
    rows = compare_claims(table, [dataclasses.replace(AHEAD, seconds=EVERY)])
    assert sorted(rows.seconds.fillna(99)) == [1, 99] and (rows.verdict == HOLDS).all()
    few = test(table, dataclasses.replace(AHEAD, fraction=LEAST)).loc["ahead"]
    assert few.verdict == FAILS and "25 %" in few.shown
    assert test(table, dataclasses.replace(AHEAD, than={"fraction": LEAST})).loc["ahead", "effect"] == pytest.approx(0.2, abs=0.015)
    assert test(scores({"CVSM-ART": 0.7, "COLA": 0.6}), dataclasses.replace(AHEAD, fraction=LEAST), wider).verdict.eq(UNTESTED).all()


def test_overlap_counts_each_pair_once():
    systems = ("CVSM-ART", "CVSM-AH", "MSCOL", "COLA")
    share = {frozenset(p): s for p, s in ((("CVSM-ART", "CVSM-AH"), 0.5), (("CVSM-ART", "MSCOL"), 0.4))}
    rows = [dict(mode=mode, system=a, other=b, share=1.0 if a == b else share.get(frozenset((a, b)), 0.2) + 0.002 * seed * len(a + b), seed=seed)
            for mode in ("mixture", "vocals") for seed in range(3) for a in systems for b in systems]
    names = ("AH-nearest-to-ART", "MSCOL-next-to-ART")
    table = test(None, *[c for c in CLAIMS if c.name in names], overlap=pd.DataFrame(rows))
    assert (table.verdict == HOLDS).all() and table.effect["AH-nearest-to-ART"] == pytest.approx(0.1, abs=0.01) and "3 seeds" in table.why.iloc[0]
    rows[1] = dict(rows[1], share=0.9)
    with pytest.raises(VocalrepError, match="two values"):
        test(None, CLAIMS[0], overlap=pd.DataFrame(rows))
    assert pair("B", "A") == pair("A", "B")


def test_clusters_are_scored_in_the_plane():
    systems = dict.fromkeys(("COLA", "MSCOL", "CVSM-A", "CVSM-AH"), 0.05) | {"COLA-ART": 0.3, "CVSM-ART": 0.25}
    rng = np.random.default_rng(0)
    rows = [dict(system=system, label="artist", space=space, score=score, seed=seed, repetition=k, value=(value if space == "plane" else -value) + 0.005 * rng.normal())
            for system, value in systems.items() for space in ("plane", "embedding") for score in ("silhouette", "distance_ratio_separation", "distance_ratio_worded")
            for seed in range(3) for k in range(5)]
    claim = next(c for c in CLAIMS if c.name == "artist-areas-informed")
    row = test(None, claim, clusters=pd.DataFrame(rows)).loc[claim.name]
    assert row.verdict == HOLDS and row.comparisons == 16 and row.untested == 0


def test_scores_that_do_not_belong_together_are_refused():
    table = scores({"CVSM-ART": 0.7, "COLA": 0.6})
    for wrong, message in ((table.assign(corpus=np.where(table.seed == 0, "a", "b")), "2 corpora"), (table.assign(protocol=np.where(table.seed == 0, "a", "b")), "2 protocols"),
                           (table.assign(trained_on=np.where(table.seed == 0, "a", "b")), "several corpora"), (table.assign(value=np.nan), "NaN"),
                           (pd.concat([table, table.assign(value=0.1)]), "two values")):
        with pytest.raises(VocalrepError, match=message):
            test(wrong, AHEAD)
    with pytest.raises(VocalrepError, match="no table"):
        test(None, AHEAD)
    with pytest.raises(VocalrepError, match="interval"):
        test(table, AHEAD, interval="guess")
    assert test(pd.concat([table, table]), AHEAD).verdict["ahead"] == HOLDS            # the same scores twice are the same scores


def test_reduced_protocols_are_passed_on():
    assert "30 of 50 artists" in test(scores({"CVSM-ART": 0.7, "COLA": 0.6}).assign(reduced="30 of 50 artists"), AHEAD).why["ahead"]


def test_the_list_is_complete_and_quotable():
    table = room.test_claims(scores({name: 0.5 for name in CVSM_VARIANTS}))
    assert list(table.claim) == [c.name for c in CLAIMS] and set(table.verdict) <= {HOLDS, FAILS, OPEN, UNTESTED} and table.why.ne("").all()
    assert all(3 <= len(c.quote.split()) <= 20 and c.source for c in CLAIMS)
    known = {*CVSM_VARIANTS, "MERT"}
    assert all(set(name.split(" & ")) <= known for c in CLAIMS for name in (*c.left, *c.right))
    assert all("listeners" in c.not_tested for c in CLAIMS if not c.measures)
    assert not [c.name for c in CLAIMS if c.pairing == "in turn" and len(c.left) != len(c.right)]


def test_readings_agree_with_the_papers_own_tables():
    said = room.published_claims().set_index("claim")
    assert said.supported.notna().sum() >= 25 and list(said.index[said.supported == False]) == ["close-with-enough-data"]     # noqa: E712  (CVSM-A is 5.4 points behind)
    assert said.published["informed-4-points-ahead"] == pytest.approx(0.0432)


tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(-1, 1, width=32)))


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
    from scipy.stats import t
    d = np.random.default_rng(1).normal(size=(3, 5)) + np.array([[0], [2], [5]]) + np.array([0, 3, 1, 5, 2])
    S, R, mean = 3, 5, d.mean()
    a = sum(R * (d[s].mean() - mean) ** 2 for s in range(S)) / (S - 1)
    b = sum(S * (d[:, r].mean() - mean) ** 2 for r in range(R)) / (R - 1)
    e = sum((d[s, r] - d[s].mean() - d[:, r].mean() + mean) ** 2 for s in range(S) for r in range(R)) / ((S - 1) * (R - 1))
    total = a + b - e
    nu = total**2 / (a**2 / (S - 1) + b**2 / (R - 1) + e**2 / ((S - 1) * (R - 1)))
    half = t.ppf(0.975, nu) * (total / (S * R)) ** 0.5
    assert crossed_interval(d) == pytest.approx((mean - half, mean + half))


def test_crossed_interval_holds_the_truth_where_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200, 3, 1)) + 0.3 * rng.normal(size=(200, 3, 5))
    covered = lambda way: np.mean([low <= 0 <= high for low, high in map(way, draws)])
    assert covered(crossed_interval) > 0.9 > 0.85 > covered(lambda d: bootstrap_interval(d, resamples=300))


@given(st.lists(st.sampled_from([HOLDS, FAILS, OPEN, UNTESTED]), max_size=9))
def test_overall_verdicts(verdicts):
    tested = [v for v in verdicts if v != UNTESTED]
    for need in ("all", "most"):
        found = overall(verdicts, need)
        assert (found == UNTESTED) == (not tested)
        assert found != HOLDS or HOLDS in tested
        assert found != FAILS or FAILS in tested
        assert found == overall(verdicts[::-1], need)
    if overall(verdicts, "all") == HOLDS:
        assert overall(verdicts, "most") == HOLDS


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-0.5, 0.5))
def test_verdicts_are_ordered(low, width, more_than):
    order = {FAILS: 0, OPEN: 1, HOLDS: 2}
    assert order[verdict(low, low + width, more_than)] <= order[verdict(low + 0.1, low + width + 0.1, more_than)]
    assert verdict(low, low + width, within=0.04) == verdict(-low - width, -low, within=0.04)
