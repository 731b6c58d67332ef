"Sentences of the singer-identity paper, counted as they read; and the floors that need no training."
import dataclasses

import numpy as np
import pandas as pd
import pytest

from vocalrep.papers.singer_identity.claims import (ACCURACY, CLAIMS, FIVE, FLOORS, OUT_OF_DOMAIN, SPEECH,
                                                    beside_floors)
from vocalrep.papers.singer_identity.paper import PAPER
from vocalrep.report.claims import Claim, means_as_scores
from vocalrep.report.published import published_results
from vocalrep.report.sentences import judge_in_words

VOICES = {"studio (test)": "in-domain", "techniques": "out-of-domain", "VocalSet": "out-of-domain"}
METRICS = {"similarity": ("eer", "mnr"), "identification": ("accuracy",)}
NARROW, FULL = "16 kHz", "44.1 kHz"


def summary(task="similarity", systems=("mean MFCC", "GE2E", "untrained", *FIVE), voices=VOICES, seed=0):
    "A summary of random scores."
    rng, ways = np.random.default_rng(seed), ("none", "center", "zscore") if task == "similarity" else ("none",)
    conditions = (NARROW, FULL) if task == "similarity" else (FULL,)
    return pd.DataFrame([dict(system=s, corpus=corpus, role=role, condition=condition, task=task, metric=metric,
                              normalisation=how, probe="", mean=rng.uniform(0.05, 0.45))
                         for s in systems for corpus, role in voices.items()
                         for condition in ((NARROW,) if s in ("mean MFCC", *SPEECH) else conditions)
                         for metric in METRICS[task] for how in ways])


def judge(results, claims=None, **options):
    return judge_in_words(means_as_scores(results), PAPER, claims, **options).set_index("claim")


# ---- sentences

@pytest.mark.parametrize("item, task, exceptions", [
    ("table3", "similarity", {"BYOL generalises best": "holds in part (31 of 32)",
                              "16 kHz helps on speech": "holds in part (8 of 10)"}), ("table4", "identification", {})])
def test_our_reading_of_the_sentences_agrees_with_the_papers_own_tables(item, task, exceptions):
    judged = judge(published_results(PAPER, item))
    assert set(judged.index) == {c.name for c in CLAIMS if c.measures[0][0] == task}
    assert (judged.counted == judged.published).all() and (judged.missing == "").all()
    assert {name: v for name, v in judged.counted.items() if not v.startswith("holds (")} == exceptions
    assert set(judged.verdict) == {"cannot tell"}                       # bare means, of nobody knows how many artists


def test_sentences_are_told_apart_and_name_known_systems():
    assert len({c.name for c in CLAIMS}) == len(CLAIMS)
    assert {s for c in CLAIMS for s in (*c.left, *c.right)} <= {*PAPER.systems}
    assert all(c.where and c.fallback == NARROW and c.source.startswith("section 5") for c in CLAIMS)
    assert all(len(c.quote.split()) <= 27 for c in CLAIMS)


def test_comparisons_by_brute_force():
    results = summary(seed=5)
    plain = results[results.normalisation == "none"]
    value = plain.set_index(["system", "corpus", "metric", "condition"])["mean"]
    judged = judge(results)
    metrics, others = METRICS["similarity"], [s for s in FIVE if s != "BYOL"]
    leads = [value[o, c, m, FULL] - value["BYOL", c, m, FULL] for c in ("techniques", "VocalSet") for m in metrics
             for o in others]
    row = judged.loc["BYOL generalises best"]
    assert (row.met, row.tested) == (sum(x > 0 for x in leads), 16)
    assert np.allclose([row.least, row.most], [min(leads), max(leads)], atol=1e-8)
    leads = [value[s, c, m, NARROW] - value[s, c, m, FULL] for c in VOICES for m in metrics for s in FIVE]
    row = judged.loc["44.1 kHz helps on singing"]
    assert (row.met, row.tested) == (sum(x > 0 for x in leads), 30)
    leads = [value["GE2E", c, m, NARROW] - value[s, c, m, FULL] for c in ("studio (test)", "VocalSet")
             for m in metrics for s in FIVE]
    row = judged.loc["better than speech models"]
    assert row.met == sum(x > 0 for x in leads) and row.missing == ", ".join(SPEECH[1:])


def test_means_over_corpora_by_brute_force():
    results = summary(seed=5)
    plain = results[results.normalisation == "none"]
    mean = plain.groupby(["system", "metric", "condition"])["mean"].mean()
    leads = [mean["VICReg", m, FULL] - mean[o, m, FULL] for m in ("eer", "mnr") for o in FIVE if o != "VICReg"]
    row = judge(results).loc["VICReg worst"]
    assert row.met == sum(x > 0 for x in leads) and np.isclose(row.most, max(leads), atol=1e-8)
    assert row.numbers.startswith("mean of 3 corpora, EER: CONT ")


def test_band_limited_corpora_are_no_place_to_compare_rates():
    judged = judge(summary(), one_condition=("VocalSet", "techniques"))
    assert judged.tested["44.1 kHz helps on singing"] == 10
    assert judged.tested["BYOL generalises best"] == 16
    assert "VocalSet" not in judged.numbers["44.1 kHz helps on singing"]
    assert "16 kHz: CONT" in judged.numbers["44.1 kHz helps on singing"]


def test_what_is_missing_is_not_tested():
    only = judge(summary(systems=("CONT",), voices={"studio (test)": "in-domain"}))
    assert only.verdict["BYOL generalises best"] == "not tested"
    assert only.missing["BYOL generalises best"] == "a corpus (out-of-domain)"
    row = only.loc["CONT best in-domain"]
    assert (row.verdict, row.missing) == ("not tested", "CONT-VC, UNIF, VICReg, BYOL") and np.isnan(row.least)


@pytest.mark.parametrize("byol, verdict", [(0.5, "does not hold (0 of 1)"), (0.6, "holds (1 of 1)"),
                                           (0.4, "does not hold (0 of 1)")])
def test_equal_is_not_ahead_and_accuracy_is_better_when_higher(byol, verdict):
    claim = Claim("x", "", "", ("BYOL",), ("CONT",), ACCURACY, (FULL,), where=OUT_OF_DOMAIN)
    results = summary("identification", systems=("BYOL", "CONT"), voices={"techniques": "out-of-domain"})
    table = results.assign(mean=np.where(results.system == "BYOL", byol, 0.5))
    assert judge(table, [claim]).counted.item() == verdict
    other = dataclasses.replace(claim, conditions=(NARROW,))
    assert judge(table, [other]).verdict.item() == "not tested"


# ---- floors

@pytest.mark.parametrize("condition", [NARROW, FULL])
@pytest.mark.parametrize("alike", [False, True])
def test_floors(condition, alike):
    results = summary()
    eer = results[results.metric == "eer"].set_index(["system", "corpus", "normalisation", "condition"])["mean"]
    table = beside_floors(results, condition, alike)
    assert len(table) == 5 * 3 * 3 and set(table.framework) == set(FIVE)
    for row in table[table.framework == "UNIF"].itertuples():
        system, how = FLOORS[row.floor]
        least = eer[system, row.corpus, how, NARROW if system == "mean MFCC" else condition]
        assert np.isclose(row.gain, least - eer["UNIF", row.corpus, how if alike else "none", condition])


def test_no_floors_without_frameworks():
    results = summary()
    empty = beside_floors(results[results.system == "GE2E"])
    assert list(empty.columns) == ["framework", "corpus", "eer", "floor", "floor_eer", "gain"] and empty.empty
