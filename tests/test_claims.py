"""Claims on synthetic scores whose truth is known: held, reversed, tied, missing, few seeds; conditions, overlaps,
clusters; several corpora; in words."""
import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vocalrep.evaluation.jackknife import leave_each_out
from vocalrep.evaluation.verdicts import FAILS, HOLDS, OPEN, SEEMS, SEEMS_NOT, UNTESTED, kind_of
from vocalrep.papers.cvsm.claims import ACCURACY, CLAIMS, CLOSE, SIMILARITY
from vocalrep.papers.registry import find_papers
from vocalrep.project import VocalrepError
from vocalrep.report import claims as room
from vocalrep.report.claims import EVERY, LEAST, Claim, Where, compare_claims, means_as_scores, published_claims
from vocalrep.report.comparisons import pair
from vocalrep.report.published import published_results
from vocalrep.report.sentences import judge_in_words

TRAINED = ("COLA", "MSCOL", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART")
PAPER = SimpleNamespace(name="toy", claims=(), trained=frozenset(TRAINED))
AHEAD = Claim("ahead", "ART is ahead", "", ("CVSM-ART",), ("COLA",), ACCURACY)
ALIKE = dataclasses.replace(AHEAD, name="alike", within=CLOSE)
NEAR = dataclasses.replace(AHEAD, name="near", more_than=-CLOSE)
TWO = {"CVSM-ART": 0.7, "COLA": 0.6}


def scores(means, task="artist", metric="accuracy", condition="mixture", seeds=3, repetitions=5, noise=0.005,
           seconds=np.nan, fraction=1.0, artists=30):
    "Scores around these means, and without each artist; easy and hard artists shift all systems alike."
    shared, draws = np.random.default_rng(0), 0.1 * np.random.default_rng(1).normal(size=repetitions)
    easy = 0.2 * shared.normal(size=artists)
    place = [int(condition == "vocals"), int(10 * np.nan_to_num(seconds)), int(100 * fraction)]
    rng = np.random.default_rng(place)                                        # other noise under every condition
    about = dict(condition=condition, task=task, metric=metric, normalisation="none", seconds=seconds,
                 fraction=fraction, artists=50, clips=200, reduced="", probe="" if task == "similarity" else "linear")
    names, rows = [f"artist {a}" for a in range(artists)], []
    for system, mean in means.items():
        for seed in range(seeds):
            own = mean + noise * rng.normal() + easy - easy.mean() + 4 * noise * rng.normal(size=artists)
            without = leave_each_out(np.arange(artists), artists, lambda kept: own[kept].mean())
            rows += [dict(about, system=system, seed=seed, repetition=r, left_out="", value=own.mean() + draw)
                     for r, draw in enumerate(draws - draws.mean())]
            rows += [dict(about, system=system, seed=seed, repetition=0, left_out=name, value=value)
                     for name, value in zip(names, without)]
    return pd.DataFrame(rows)


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
    assert (table.effect == 0).all() and table.why.str.contains("no interval: all differences are equal").all()
    assert table[["low", "high"]].isna().all(axis=None) and (table.words == "no difference").all()


def test_a_hundred_more_trials_of_the_same_artists_make_nothing_surer():
    "Twice as many repetitions leave the interval as it is: it rests on artists."
    few, many = (test(scores({"CVSM-ART": 0.61, "COLA": 0.6}, repetitions=n), AHEAD).loc["ahead"] for n in (2, 200))
    assert (few.low, few.high) == pytest.approx((many.low, many.high))
    bare = scores({"CVSM-ART": 0.7, "COLA": 0.6}, repetitions=200).query("left_out == ''")
    row = test(bare, AHEAD).loc["ahead"]
    assert row.verdict == OPEN and np.isnan(row.low) and "left out" in row.why


def test_effects_are_told_in_the_metrics_own_direction():
    claim = dataclasses.replace(AHEAD, measures=SIMILARITY[:1])
    row = test(scores({"CVSM-ART": 0.357, "COLA": 0.3}, "similarity", "eer"), claim).loc["ahead"]
    assert row.effect == pytest.approx(-0.057, abs=0.01) and row.verdict == FAILS
    assert row.words.startswith("worse by") and " points (" in row.words and "-" not in row.words
    assert row.shown == "CVSM-ART against COLA (similarity EER, mixture)"
    row = test(scores({"CVSM-ART": 0.2, "COLA": 0.3}, "similarity", "eer"), claim).loc["ahead"]
    assert row.words.startswith("better by")
    shape = dataclasses.replace(AHEAD, measures=(("artist clusters", "silhouette"),))
    row = test(scores(TWO, "artist clusters", "silhouette").assign(probe=""), shape).loc["ahead"]
    assert row.words.startswith("better by 0.1") and "points" not in row.words


def test_errors_count_the_other_way_round():
    claim = dataclasses.replace(AHEAD, measures=SIMILARITY[:1])
    table = scores({"CVSM-ART": 0.2, "COLA": 0.3}, "similarity", "eer")
    assert test(table, claim).loc["ahead", "effect"] == pytest.approx(0.1, abs=0.01)
    assert test(table, claim, normalisation="zscore").loc["ahead", "verdict"] == UNTESTED
    both = pd.concat([table, table.assign(normalisation="zscore", value=0.5)])
    assert test(both, claim).loc["ahead", "verdict"] == HOLDS
    row = compare_claims(table, PAPER, [claim]).iloc[0]
    assert row.left_mean == pytest.approx(row.right_mean - row.effect) and 0 < row.left_mean < row.right_mean


def test_what_is_missing_is_in_the_verdicts_own_name():
    claim = dataclasses.replace(AHEAD, right=("COLA", "MERT"))
    row = test(scores(TWO), claim).loc["ahead"]
    assert row.verdict == "holds as far as tested: 1 of 2" and "MERT" in row.why
    most = dataclasses.replace(claim, right=("COLA", "MERT", "MSCOL", "GE2E"), need="most")
    row = test(scores(TWO), most).loc["ahead"]
    assert row.verdict == "holds as far as tested: 1 of 4" and (row.tested, row.comparisons) == (1, 4)
    row = test(scores({"CVSM-ART": 0.5, "COLA": 0.6}), claim).loc["ahead"]
    assert row.verdict == FAILS                                             # one is enough to refute
    row = test(scores({"CVSM-ART": 0.7}), claim).loc["ahead"]
    assert row.verdict == UNTESTED and np.isnan(row.effect) and "COLA" in row.why


@pytest.mark.parametrize("art, word", [(0.7, SEEMS), (0.5, SEEMS_NOT), (0.6, OPEN)])
def test_one_training_is_observed(art, word):
    table = scores({"CVSM-ART": art, "COLA": 0.6}, noise=0.01)
    row = test(table[table.seed == 0], AHEAD).loc["ahead"]
    assert row.verdict == word and "one training x 30 artists" in row.why
    assert test(table[table.seed < 2], AHEAD).verdict["ahead"] in (HOLDS, FAILS, OPEN)
    missing = test(table[table.seed == 0], dataclasses.replace(AHEAD, right=("COLA", "MERT"))).loc["ahead"]
    assert kind_of(missing.verdict) == word


def test_systems_that_were_never_trained_need_no_seeds():
    table = scores({"MERT": 0.7, "GE2E": 0.5}, seeds=1)
    row = test(table, dataclasses.replace(AHEAD, left=("MERT",), right=("GE2E",))).loc["ahead"]
    assert row.verdict == HOLDS and row.why == "30 artists"


def test_many_comparisons_are_stricter_about_one_that_fails():
    "A single comparison below zero refutes; among ten it must be clear enough for the worst of ten."
    means = {"CVSM-ART": 0.6, "COLA": 0.608, **{f"other {k}": 0.5 for k in range(11)}}
    table = scores(means)
    paper, many = SimpleNamespace(trained=frozenset(means)), dataclasses.replace(AHEAD, right=tuple(means)[1:])
    assert room.test_claims(table, paper, [AHEAD]).verdict[0] == FAILS
    row = room.test_claims(table, paper, [many]).iloc[0]
    assert row.verdict == OPEN and row.low < 0 < row.high and row.fails == 1


def test_trainings_that_disagree_cannot_tell():
    table = scores({"CVSM-ART": 0.62, "COLA": 0.6})
    table.loc[table.system == "CVSM-ART", "value"] += 0.05 * (table.seed - 1)
    row = test(table, AHEAD).loc["ahead"]
    assert row.verdict == OPEN and row.low < 0 < row.effect
    assert test(table[table.seed == 2], AHEAD).loc["ahead", "verdict"] == SEEMS       # one training was sure


def test_all_trained_systems_say_how_far_trainings_differ():
    "Others that are steady make the same two systems surer; others that are not, less sure."
    table = scores({"CVSM-ART": 0.64, "COLA": 0.6, "MSCOL": 0.6, "CVSM-A": 0.6, "CVSM-AH": 0.6})
    two = table[table.system.isin(["CVSM-ART", "COLA"])]
    wild = table.assign(value=table.value + 0.1 * (table.seed - 1) * ~table.system.isin(["CVSM-ART", "COLA"]))
    width = [test(t, AHEAD).eval("high - low").item() for t in (table, two, wild)]
    assert width[0] < width[1] < width[2]


def test_pairs_are_matched_by_seed_and_repetition_not_by_order():
    table, numbers = scores(TWO), ["effect", "low", "high"]
    expected = test(table, AHEAD).loc["ahead", numbers].to_list()
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.index = [0] * len(shuffled)                                              # glued tables repeat their index
    assert test(shuffled, AHEAD).loc["ahead", numbers].to_list() == pytest.approx(expected)
    fewer = test(table.drop(table.index[(table.system == "COLA") & (table.left_out == "artist 4")]), AHEAD).loc["ahead"]
    assert "3 trainings x 29 artists" in fewer.why
    other = table.assign(seed=np.where(table.system == "COLA", table.seed + 10, table.seed))
    none = test(other, AHEAD).loc["ahead"]
    assert none.verdict == UNTESTED and "same seed" in none.why


def test_untrained_systems_stand_beside_every_seed():
    table = pd.concat([scores({"CVSM-ART": 0.7}), scores({"MERT": 0.6}, seeds=1)])
    row = test(table, dataclasses.replace(AHEAD, right=("MERT",))).loc["ahead"]
    assert row.verdict == HOLDS and "3 trainings x 30 artists" in row.why


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
    rows = pd.DataFrame([dict(system=pair(a, b), condition=condition, seed=seed, left_out=who, **about,
                              value=share.get(pair(a, b), 0.2) + 0.002 * seed * len(a + b)
                              + 1e-4 * len(who) * len(a + b) * (who > "a"))
                         for condition in ("mixture", "vocals") for seed in range(3)
                         for a in systems for b in systems if a != b for who in ("", "a", "bb", "ccc", "dddddd")])
    names = ("AH-nearest-to-ART", "MSCOL-next-to-ART")
    table = test(rows, *[c for c in CLAIMS if c.name in names])
    assert table.verdict.map(kind_of).eq(HOLDS).all() and "3 trainings x 4 artists" in table.why.iloc[0]
    assert table.effect["AH-nearest-to-ART"] == pytest.approx(0.1, abs=0.01)
    rows.loc[1, "value"] = 0.9
    with pytest.raises(VocalrepError, match="two values"):
        test(rows, *[c for c in CLAIMS if c.name in names])


def test_clusters_of_maps_are_scores():
    systems = dict.fromkeys(("COLA", "MSCOL", "CVSM-A", "CVSM-AH"), 0.05) | {"COLA-ART": 0.3, "CVSM-ART": 0.25}
    parts = [scores(systems, "artist clusters", metric).assign(probe="") for metric in ("silhouette", "distance_ratio")]
    elsewhere = scores({name: -x for name, x in systems.items()}, "artist clusters, embedding", "silhouette")
    claim = next(c for c in CLAIMS if c.name == "artist-areas-informed")
    row = test(pd.concat([*parts, elsewhere.assign(probe="")]), claim).loc[claim.name]
    assert row.verdict == HOLDS and row.comparisons == row.tested == 16


def test_scores_that_do_not_belong_together_are_refused():
    table = scores(TWO)
    halves = np.where(table.seed == 0, "a", "b")
    for wrong, message in ((table.assign(corpus=halves), "2 corpora"), (table.assign(protocol=halves), "2 protocols"),
                           (table.assign(preset=halves), "2 presets"), (table.assign(value=np.nan), "NaN"),
                           (table.assign(trained_on=halves), "several corpora"),
                           (pd.concat([table, table.assign(value=0.1)]), "two values")):
        with pytest.raises(VocalrepError, match=message):
            test(wrong, AHEAD)
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
    table = corpora(MIXED)
    row = judge_in_words(table, paper).iloc[0]
    assert (row.verdict, row.counted) == (FAILS, "holds in part (2 of 3)")
    assert (row.met, row.tested, row.comparisons) == (2, 3, 6)
    assert row.missing == "MERT" and row.published == "not tested" and row.numbers.count(" against ") == 3
    assert (row.least, row.most) == pytest.approx((-0.4, 0.1), abs=0.01)
    assert judge_in_words(table.assign(task="tagging"), paper).empty


# ---- the sentences of CVSM

def test_the_list_is_complete_and_quotable():
    from vocalrep.papers.cvsm.paper import PAPER
    table = room.test_claims(scores({name: 0.5 for name in PAPER.trained}), PAPER)
    assert list(table.claim) == [c.name for c in CLAIMS] and table.why.ne("").all()
    assert set(table.verdict.map(kind_of)) <= {HOLDS, FAILS, OPEN, UNTESTED}
    assert all(3 <= len(c.quote.split()) <= 20 and c.source for c in CLAIMS)
    assert len({c.label for c in CLAIMS}) == len(CLAIMS) and all(" " in c.label and len(c.label) <= 60 for c in CLAIMS)
    known = {*PAPER.trained, "MERT"}
    assert all(set(name.split(" & ")) <= known for c in CLAIMS for name in (*c.left, *c.right))
    assert all("listeners" in c.not_tested for c in CLAIMS if not c.measures)
    assert not [c.name for c in CLAIMS if c.pairing == "in turn" and len(c.left) != len(c.right)]


@pytest.mark.parametrize("paper", find_papers())
def test_no_margin_is_tighter_than_the_papers_own_numbers(paper):
    "What we read into a sentence (a margin, all or most) must be met by the tables that it speaks about."
    paper = find_papers()[paper]
    said = published_claims(paper).set_index("claim").supported.dropna()
    assert said.all(), f"our reading is stricter than the paper's own table: {list(said.index[said.eq(False)])}"
    assert len(said) >= 12


def test_margins_are_met_comparison_by_comparison():
    from vocalrep.papers.cvsm.paper import PAPER
    close = [c for c in CLAIMS if c.need == "all" and (c.within is not None or c.more_than != 0)]
    rows = compare_claims(means_as_scores(published_results(PAPER)), PAPER, close)
    rows = rows[rows.effect.notna()]
    assert set(rows.claim) == {c.name for c in close} and rows.met.all()
    said = published_claims(PAPER).set_index("claim")
    assert said.published["close-with-enough-data"] == pytest.approx(-0.0539, abs=1e-3)
    assert said.published["informed-4-points-ahead"] == pytest.approx(0.0432)
