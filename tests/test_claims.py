"""Claims on synthetic scores whose truth is known: held, reversed, tied, missing, few seeds; conditions, overlaps,
clusters; several corpora; in words."""
import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocalrep.papers.cvsm.claims import ACCURACY, CLAIMS, CLOSE, SIMILARITY
from vocalrep.project import VocalrepError
from vocalrep.report import claims as room
from vocalrep.report.claims import (EVERY, FAILS, HOLDS, LEAST, OPEN, UNTESTED, Claim, Where, compare_claims,
                                    judge_in_words, overall, verdict)
from vocalrep.report.comparisons import pair

TRAINED = ("COLA", "MSCOL", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART")
PAPER = SimpleNamespace(name="toy", claims=(), trained=frozenset(TRAINED))
AHEAD = Claim("ahead", "ART is ahead", "", ("CVSM-ART",), ("COLA",), ACCURACY)
ALIKE = dataclasses.replace(AHEAD, name="alike", within=CLOSE)
NEAR = dataclasses.replace(AHEAD, name="near", more_than=-CLOSE)
TWO = {"CVSM-ART": 0.7, "COLA": 0.6}


def scores(means, task="artist", metric="accuracy", condition="mixture", seeds=3, repetitions=5, noise=0.005,
           seconds=np.nan, fraction=1.0):
    "Scores around these means; easy and hard draws of artists shift all systems alike, by far more than the noise."
    artists = 0.1 * np.random.default_rng(0).normal(size=repetitions)
    place = [int(condition == "vocals"), int(10 * np.nan_to_num(seconds)), int(100 * fraction)]
    rng = np.random.default_rng(place)                                        # other noise under every condition
    about = dict(condition=condition, task=task, metric=metric, normalisation="none", seconds=seconds,
                 fraction=fraction, artists=50, clips=200, reduced="", probe="" if task == "similarity" else "linear")
    return pd.DataFrame([dict(system=system, seed=seed, repetition=r, **about,
                              value=mean + artists[r] + noise * rng.normal())
                         for system, mean in means.items() for seed in range(seeds) for r in range(repetitions)])


def test(table, *claims, **options):
    return room.test_claims(table, PAPER, claims, **options).set_index("claim")


test.__test__ = False


@pytest.mark.parametrize("ahead, expected", [(0.10, (HOLDS, FAILS, HOLDS)), (-0.10, (FAILS, FAILS, FAILS)),
                                             (0.0, (OPEN, HOLDS, HOLDS)), (-0.02, (FAILS, HOLDS, HOLDS))])
def test_verdicts_follow_the_truth(ahead, expected):
    table = test(scores({"CVSM-ART": 0.6 + ahead, "COLA": 0.6}), AHEAD, ALIKE, NEAR)
    if ahead:
        assert tuple(table.verdict) == expected
    else:
        assert tuple(table.verdict[1:]) == expected[1:] and abs(table.effect["ahead"]) < 0.01
    assert table.effect.to_numpy() == pytest.approx(ahead, abs=0.01)
    assert (table.low <= table.effect).all() and (table.effect <= table.high).all()


def test_equal_differences_are_no_certainty():
    one = scores({"CVSM-ART": 0.6})
    table = test(pd.concat([one, one.assign(system="COLA")]), AHEAD, ALIKE)
    assert list(table.verdict) == [OPEN, OPEN]
    assert (table.effect == 0).all() and table.why.str.contains("equal").all()


def test_errors_count_the_other_way_round():
    claim = dataclasses.replace(AHEAD, measures=SIMILARITY[:1])
    table = scores({"CVSM-ART": 0.2, "COLA": 0.3}, "similarity", "eer")
    assert test(table, claim).loc["ahead", "effect"] == pytest.approx(0.1, abs=0.01)
    assert test(table, claim, normalisation="zscore").loc["ahead", "verdict"] == UNTESTED
    both = pd.concat([table, table.assign(normalisation="zscore", value=0.5)])
    assert test(both, claim).loc["ahead", "verdict"] == HOLDS
    row = compare_claims(table, PAPER, [claim]).iloc[0]
    assert row.left_mean == pytest.approx(row.right_mean - row.effect) and 0 < row.left_mean < row.right_mean


def test_missing_systems_are_named_and_the_rest_is_tested():
    claim = dataclasses.replace(AHEAD, right=("COLA", "MERT"))
    row = test(scores(TWO), claim).loc["ahead"]
    assert row.verdict == HOLDS and row.untested == 1 and "MERT" in row.why
    row = test(scores({"CVSM-ART": 0.7}), claim).loc["ahead"]
    assert row.verdict == UNTESTED and np.isnan(row.effect) and "COLA" in row.why


def test_one_seed_says_what_its_interval_covers():
    table = scores(TWO)
    row = test(table[table.seed == 0], AHEAD).loc["ahead"]
    assert "one training seed" in row.why and row.verdict == HOLDS
    row = test(table[(table.seed == 0) & (table.repetition == 0)], AHEAD).loc["ahead"]
    assert row.verdict == OPEN and np.isnan(row.low) and "no interval" in row.why


def test_seeds_that_disagree_cannot_tell():
    table = scores({"CVSM-ART": 0.62, "COLA": 0.6})
    table.loc[table.system == "CVSM-ART", "value"] += 0.05 * (table.seed - 1)
    row = test(table, AHEAD).loc["ahead"]
    assert row.verdict == OPEN and row.low < 0 < row.effect
    assert test(table[table.seed == 2], AHEAD).loc["ahead", "verdict"] == HOLDS       # one training was sure


def test_pairs_are_matched_by_seed_and_repetition_not_by_order():
    table, numbers = scores(TWO), ["effect", "low", "high"]
    expected = test(table, AHEAD).loc["ahead", numbers].to_list()
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.index = [0] * len(shuffled)                                              # glued tables repeat their index
    assert test(shuffled, AHEAD).loc["ahead", numbers].to_list() == pytest.approx(expected)
    fewer = test(table.drop(table.index[(table.system == "COLA") & (table.repetition == 4)]), AHEAD).loc["ahead"]
    assert "3 seeds x 4 repetitions" in fewer.why
    other = table.assign(seed=np.where(table.system == "COLA", table.seed + 10, table.seed))
    none = test(other, AHEAD).loc["ahead"]
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
    table = scores({**TWO, "MSCOL": 0.65, "CVSM-A": 0.8})
    row = test(table, claim).loc["ahead"]
    assert row.verdict == FAILS and "CVSM-A" in row.shown and row.effect == pytest.approx(-0.1, abs=0.01)
    assert (row.holds, row.fails, row.comparisons) == (2, 1, 3)
    row = test(table, dataclasses.replace(claim, need="most")).loc["ahead"]
    assert row.verdict == HOLDS and "MSCOL" in row.shown


def test_best_of_each_side_and_other_conditions():
    claim = Claim("best", "", "", ("CVSM-A", "CVSM-AH"), measures=ACCURACY, than={"condition": "vocals"},
                  pairing="best", within=CLOSE)
    table = pd.concat([scores({"CVSM-A": 0.5, "CVSM-AH": 0.7}),
                       scores({"CVSM-A": 0.71, "CVSM-AH": 0.5}, condition="vocals")])
    row = test(table, claim).loc["best"]
    assert row.effect == pytest.approx(-0.01, abs=0.01) and row.verdict == HOLDS
    each = compare_claims(table, PAPER, [dataclasses.replace(claim, pairing="every")])
    assert list(each.effect.round(1)) == [-0.2, 0.2]


def test_gaps_that_change_with_length_and_data():
    table = pd.concat([scores(TWO), scores({"CVSM-ART": 0.5, "COLA": 0.3}, seconds=1.0),
                       scores({"CVSM-ART": 0.3, "COLA": 0.4}, fraction=0.25),
                       scores({"CVSM-ART": 0.3, "COLA": 0.3}, fraction=0.5)])
    wider = dataclasses.replace(AHEAD, seconds=1.0, than={"seconds": None})
    row = test(table, wider).loc["ahead"]
    assert row.effect == pytest.approx(0.1, abs=0.015) and row.verdict == HOLDS
    rows = compare_claims(table, PAPER, [dataclasses.replace(AHEAD, seconds=EVERY)])
    assert sorted(rows.seconds.fillna(99)) == [1, 99] and (rows.verdict == HOLDS).all()
    few = test(table, dataclasses.replace(AHEAD, fraction=LEAST)).loc["ahead"]
    assert few.verdict == FAILS and "25 %" in few.shown
    less = test(table, dataclasses.replace(AHEAD, than={"fraction": LEAST})).loc["ahead"]
    assert less.effect == pytest.approx(0.2, abs=0.015)
    assert test(scores(TWO), dataclasses.replace(AHEAD, fraction=LEAST), wider).verdict.eq(UNTESTED).all()


def test_overlap_counts_each_pair_once():
    systems = ("CVSM-ART", "CVSM-AH", "MSCOL", "COLA")
    share = {pair("CVSM-ART", "CVSM-AH"): 0.5, pair("CVSM-ART", "MSCOL"): 0.4}
    about = dict(task="overlap", metric="share", seconds=np.nan, fraction=1.0, normalisation="none", probe="",
                 repetition=0)
    rows = pd.DataFrame([dict(system=pair(a, b), condition=condition, seed=seed, **about,
                              value=share.get(pair(a, b), 0.2) + 0.002 * seed * len(a + b))
                         for condition in ("mixture", "vocals") for seed in range(3)
                         for a in systems for b in systems if a != b])
    names = ("AH-nearest-to-ART", "MSCOL-next-to-ART")
    table = test(rows, *[c for c in CLAIMS if c.name in names])
    assert (table.verdict == HOLDS).all() and "3 seeds" in table.why.iloc[0]
    assert table.effect["AH-nearest-to-ART"] == pytest.approx(0.1, abs=0.01)
    rows.loc[1, "value"] = 0.9
    with pytest.raises(VocalrepError, match="two values"):
        test(rows, CLAIMS[0])


def test_clusters_of_maps_are_scores():
    systems = dict.fromkeys(("COLA", "MSCOL", "CVSM-A", "CVSM-AH"), 0.05) | {"COLA-ART": 0.3, "CVSM-ART": 0.25}
    parts = [scores(systems, "artist clusters", metric).assign(probe="") for metric in ("silhouette", "distance_ratio")]
    elsewhere = scores({name: -x for name, x in systems.items()}, "artist clusters, embedding", "silhouette")
    claim = next(c for c in CLAIMS if c.name == "artist-areas-informed")
    row = test(pd.concat([*parts, elsewhere.assign(probe="")]), claim).loc[claim.name]
    assert row.verdict == HOLDS and row.comparisons == 16 and row.untested == 0


def test_scores_that_do_not_belong_together_are_refused():
    table = scores(TWO)
    halves = np.where(table.seed == 0, "a", "b")
    for wrong, message in ((table.assign(corpus=halves), "2 corpora"), (table.assign(protocol=halves), "2 protocols"),
                           (table.assign(preset=halves), "2 presets"), (table.assign(value=np.nan), "NaN"),
                           (table.assign(trained_on=halves), "several corpora"),
                           (pd.concat([table, table.assign(value=0.1)]), "two values")):
        with pytest.raises(VocalrepError, match=message):
            test(wrong, AHEAD)
    with pytest.raises(VocalrepError, match="interval"):
        test(table, AHEAD, interval="guess")
    assert test(pd.concat([table, table]), AHEAD).verdict["ahead"] == HOLDS            # twice the same is the same


def test_reduced_protocols_are_passed_on():
    assert "30 of 50 artists" in test(scores(TWO).assign(reduced="30 of 50 artists"), AHEAD).why["ahead"]


# ---- several corpora

def corpora(means, **columns):
    "The same systems on corpora with roles: (corpus, role) -> means."
    return pd.concat([scores(m, **columns).assign(corpus=c, role=r) for (c, r), m in means.items()], ignore_index=True)


HOME, OPERA, TALK = ("studio", "in-domain"), ("Opera", "out-of-domain"), ("Lectures", "out-of-domain")
MIXED = {HOME: TWO, OPERA: {"CVSM-ART": 0.5, "COLA": 0.4}, TALK: {"CVSM-ART": 0.2, "COLA": 0.6}}


@pytest.mark.parametrize("where, expected", [
    (Where("anywhere"), ["studio", "Opera", "Lectures"]), (Where("at home", ("in-domain",)), ["studio"]),
    (Where("music", but=("Lectures",)), ["studio", "Opera"]), (Where("talks", (), ("Lectures",)), ["Lectures"]),
    (Where("home and opera", ("in-domain",), ("Opera",)), ["studio", "Opera"]), (Where("nowhere", ()), [])])
def test_a_claim_is_asked_of_the_corpora_that_it_names(where, expected):
    rows = compare_claims(corpora(MIXED), PAPER, [dataclasses.replace(AHEAD, where=where)])
    assert rows.corpus.tolist() == expected
    assert rows.verdict.tolist() == [FAILS if c == "Lectures" else HOLDS for c in expected]


def test_a_claim_on_average_and_one_without_corpora():
    table = corpora(MIXED)
    average = dataclasses.replace(AHEAD, where=Where("anywhere"), averaged=True)
    row = compare_claims(table, PAPER, [average]).iloc[0]
    assert row.corpus == "mean of 3 corpora" and row.effect == pytest.approx(-0.2 / 3, abs=0.01)
    with pytest.raises(VocalrepError, match="3 corpora"):
        test(table, average, AHEAD)
    alone = compare_claims(table[table.corpus == "Opera"], PAPER, [average])
    assert alone.corpus.tolist() == ["Opera"]


def test_only_untrained_systems_are_taken_at_another_condition():
    claim = Claim("wide", "", "", ("CVSM-ART",), ("GE2E", "COLA"), ACCURACY, ("44.1 kHz",), fallback="16 kHz")
    table = pd.concat([scores({"CVSM-ART": 0.7}, condition="44.1 kHz"), scores({"GE2E": 0.5}, condition="16 kHz"),
                       scores({"COLA": 0.5}, condition="16 kHz")])
    assert compare_claims(table, PAPER, [claim]).verdict.tolist() == [HOLDS, UNTESTED]
    strict = dataclasses.replace(claim, fallback="")
    assert compare_claims(table, PAPER, [strict]).verdict.tolist() == [UNTESTED, UNTESTED]


# ---- in words

def test_judging_in_words_counts_and_names_what_is_missing(tmp_path):
    said = "toy,table1,CVSM-ART,Choirs,in-domain,mixture,artist,accuracy,0.5,,\n"
    paper = SimpleNamespace(name="toy", trained=PAPER.trained, published=tmp_path / "published.csv", claims=(
        dataclasses.replace(AHEAD, right=("COLA", "MERT"), where=Where("anywhere")),))
    paper.published.write_text("paper,item,system,corpus,role,condition,task,metric,mean,sd,note\n" + said)
    means = corpora(MIXED).groupby(["system", "corpus", "role"], sort=False).value.mean().rename("mean").reset_index()
    summary = means.assign(condition="mixture", task="artist", metric="accuracy")
    row = judge_in_words(summary, paper).iloc[0]
    assert (row.verdict, row.ahead, row.comparisons) == ("holds in part (2 of 3)", 2, 3)
    assert row.missing == "MERT" and row.published == "not tested" and row.numbers.count(" against ") == 3
    assert (row.least, row.most) == pytest.approx((-0.4, 0.1), abs=0.01)
    assert judge_in_words(summary.assign(task="tagging"), paper).empty


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
    higher = verdict(low + 0.1, low + width + 0.1, more_than)
    assert order[verdict(low, low + width, more_than)] <= order[higher]
    assert verdict(low, low + width, within=0.04) == verdict(-low - width, -low, within=0.04)


# ---- the sentences of CVSM

def test_the_list_is_complete_and_quotable():
    from vocalrep.papers.cvsm.paper import PAPER
    table = room.test_claims(scores({name: 0.5 for name in PAPER.trained}), PAPER)
    assert list(table.claim) == [c.name for c in CLAIMS] and table.why.ne("").all()
    assert set(table.verdict) <= {HOLDS, FAILS, OPEN, UNTESTED}
    assert all(3 <= len(c.quote.split()) <= 20 and c.source for c in CLAIMS)
    known = {*PAPER.trained, "MERT"}
    assert all(set(name.split(" & ")) <= known for c in CLAIMS for name in (*c.left, *c.right))
    assert all("listeners" in c.not_tested for c in CLAIMS if not c.measures)
    assert not [c.name for c in CLAIMS if c.pairing == "in turn" and len(c.left) != len(c.right)]


def test_readings_agree_with_the_papers_own_tables():
    from vocalrep.papers.cvsm.paper import PAPER
    said = room.published_claims(PAPER).set_index("claim")
    assert said.supported.notna().sum() >= 25
    assert list(said.index[said.supported.eq(False)]) == ["close-with-enough-data"]      # CVSM-A is 5.4 points behind
    assert said.published["informed-4-points-ahead"] == pytest.approx(0.0432)
