"Published numbers are complete, unmixed with ours, and refuse tables that do not belong together."
import numpy as np
import pandas as pd
import pytest

from vocalrep.papers.cvsm.paper import PAPER as CVSM
from vocalrep.papers.singer_identity.paper import PAPER as SINGERS
from vocalrep.project import VocalrepError
from vocalrep.report.published import (KEYS, beside_published, compare_rankings, in_published_order, metric_label,
                                       print_beside, published_results)

ROWS = ["COLA", "MSCOL", "MERT", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART"]
COLUMNS = ["paper", "item", "system", "corpus", "role", "condition", "task", "metric", "mean", "sd", "note"]
SPEECH = ["GE2E", "F-ResNet", "H/ASP", "Wav2Vec-base", "XLSR-53"]
FIVE = ["VICReg", "UNIF", "CONT", "CONT-VC", "BYOL"]
PRIVATE = "private (test)"
MEASURED = dict(normalisation="none", probe="linear", seconds=np.nan, fraction=1.0)
COUNTED = dict(sd=0.1, n=5, seeds=1, artists=10, clips=20, trials=0, preset="smoke", reduced="")


def ours(item="table2", systems=("CVSM-AH", "mean MFCC"), **columns):
    "A small summary of CVSM on the studio's mixtures."
    rows = [dict(paper="cvsm", item=item, system=s, corpus="studio", role="in-domain", condition="mixture", task=t,
                 metric=m, mean=0.5, **MEASURED, **COUNTED)
            for s in systems for t, m in (("artist", "accuracy"), ("similarity", "eer"))]
    table = pd.DataFrame(rows)
    return table.assign(probe=np.where(table.task == "similarity", "", "linear")).assign(**columns)


# ---- the data

@pytest.mark.parametrize("paper", [CVSM, SINGERS])
def test_one_layout_for_all_papers(paper):
    table = published_results(paper)
    assert list(table) == COLUMNS and set(table["paper"]) == {paper.name}
    assert table["mean"].dtype == float and table.sd.dtype == float
    assert not table.duplicated(["item", *KEYS]).any() and (table["mean"].notna() | (table.note != "")).all()
    for column in set(COLUMNS) - {"mean", "sd"}:
        assert table[column].notna().all() and table[column].map(lambda x: isinstance(x, str)).all()
    assert set(table.role) <= {"", "in-domain", "out-of-domain"}


def test_cvsm_is_whole():
    table = published_results(CVSM)
    for item, condition in (("table2", "mixture"), ("table3", "vocals")):
        rows = table[table["item"] == item]
        assert list(rows.system.unique()) == ROWS and set(rows.condition) == {condition}
        assert (rows.groupby("system").size() == 5).all()
        assert rows["mean"].between(0.05, 0.9).all() and rows.sd.between(0.01, 0.1).all()
    shares = table[(table["item"] != "fig7") & ~table.metric.isin(["songs", "artists"])]["mean"].dropna()
    assert shares.between(-1, 1).all() and set(table.corpus) == {"Music4All"}


@pytest.mark.parametrize("item, system, task, metric, mean, sd", [
    ("table2", "COLA", "gender", "accuracy", 0.8101, 0.0368),
    ("table2", "CVSM-ART", "similarity", "mnr", 0.0970, 0.0207),
    ("table2", "MSCOL", "artist", "macro_f1", 0.5932, 0.0835),
    ("table3", "MERT", "artist", "accuracy", 0.6288, 0.0702),
    ("table3", "CVSM-A", "similarity", "eer", 0.2314, 0.0403),
    ("table3", "CVSM-AF", "artist", "macro_f1", 0.6667, 0.0546)])
def test_cells_of_cvsm(item, system, task, metric, mean, sd):
    row = published_results(CVSM, item).set_index(["system", "task", "metric"]).loc[(system, task, metric)]
    assert (row["mean"], row.sd) == (mean, sd)


def test_singer_identity_is_whole():
    table3, table4 = (published_results(SINGERS, item) for item in ("table3", "table4"))
    assert set(table3.system) == set(table4.system) == {*FIVE, *SPEECH} == {*SINGERS.trained, *SPEECH}
    assert set(table3.corpus) - set(table4.corpus) == {PRIVATE}
    assert all(len(rows) == (20 if s in FIVE else 10) for s, rows in table3.groupby("system"))
    assert (table4.groupby("system").size() == 4).all()
    assert set(table3.condition[table3.system.isin(SPEECH)]) == {"16 kHz"}
    assert set(table3.condition) == {"16 kHz", "44.1 kHz"}
    assert table3["mean"].between(0.0008, 0.41).all() and table4["mean"].between(0.45, 1).all()
    assert set(table3.corpus[table3.role == "in-domain"]) == {PRIVATE}
    assert set(table4.role) == {"out-of-domain"}


@pytest.mark.parametrize("item, system, corpus, condition, metric, mean", [
    ("table3", "GE2E", PRIVATE, "16 kHz", "eer", 0.2724), ("table3", "H/ASP", "VCTK", "16 kHz", "mnr", 0.0008),
    ("table3", "CONT", PRIVATE, "44.1 kHz", "eer", 0.0216), ("table3", "BYOL", "VocalSet", "44.1 kHz", "mnr", 0.2125),
    ("table3", "UNIF", "NUS-48E", "16 kHz", "mnr", 0.1708), ("table3", "VICReg", "M4Singer", "44.1 kHz", "eer", 0.2205),
    ("table4", "XLSR-53", "VocalSet", "16 kHz", "accuracy", 0.8605),
    ("table4", "CONT-VC", "VCTK", "44.1 kHz", "accuracy", 0.8603),
    ("table1", "", "M4Singer", "", "hours", 29.77), ("table1", "", "VCTK", "", "singers", 110),
    ("table2", "Ours", "", "", "parameters", 5_000_000), ("table2", "XLSR-53", "", "", "layers", 24)])
def test_cells_of_singer_identity(item, system, corpus, condition, metric, mean):
    rows = published_results(SINGERS, item).set_index(["system", "corpus", "condition", "metric"])
    assert rows["mean"][(system, corpus, condition, metric)] == mean


# ---- order and names

def test_order_of_systems():
    assert in_published_order(["b", "CVSM-ART", "a", "COLA", "b"], CVSM) == ["COLA", "CVSM-ART", "b", "a"]
    assert in_published_order(["CONT", "mine", "GE2E", "VICReg"], SINGERS) == ["GE2E", "mine", "VICReg", "CONT"]


@pytest.mark.parametrize("task, metric, label", [
    ("artist", "macro_f1", "artist, macro-F1 (%) ↑"), ("similarity", "mnr", "similarity, MNR (%) ↓"),
    ("identification", "accuracy", "identification, accuracy (%) ↑"), ("artist", "silhouette", "artist, silhouette"),
    ("gender", "distance_ratio_as_worded", "gender, intra/inter"),
    ("gender", "distance_ratio", "gender, 1 − intra/inter")])
def test_labels_point_to_the_better_side(task, metric, label):
    assert metric_label(task, metric) == label


# ---- beside each other, on one corpus

def test_ours_and_theirs_stay_apart():
    beside = beside_published(ours(), CVSM, "table2")
    assert len(beside) == 8 * 5 + 2 and set(beside.corpus) == {"studio"}
    row = beside.set_index(["system", "task", "metric"]).loc[("CVSM-AH", "similarity", "eer")]
    assert (row.ours_mean, row.published_mean, row.condition) == (0.5, 0.2396, "mixture")
    assert beside[beside.system == "mean MFCC"].published_mean.isna().all()
    assert beside[beside.system == "MERT"].ours_mean.isna().all()
    assert in_published_order(beside.system, CVSM) == [*ROWS, "mean MFCC"]
    keys = ["system", "task", "metric"]
    theirs = published_results(CVSM, "table2").set_index(keys)["mean"].sort_index()
    kept = beside.dropna(subset="published_mean").set_index(keys).published_mean
    assert kept.sort_index().equals(theirs.rename("published_mean"))


def test_only_what_was_measured_as_published_stands_beside():
    probes, pairs = ours().query("task == 'artist'"), ours().query("task == 'similarity'")
    summary = pd.concat([ours(), pairs.assign(normalisation="zscore", mean=0.1), probes.assign(probe="exact", mean=0.2),
                         probes.assign(seconds=1.0, mean=0.3), probes.assign(fraction=0.1, mean=0.4)])
    assert set(beside_published(summary, CVSM, "table2").ours_mean.dropna()) == {0.5}
    z = beside_published(summary, CVSM, "table2", normalisation="zscore", probe="exact")
    z = z.set_index(["system", "task", "metric"]).ours_mean
    assert z["CVSM-AH", "similarity", "eer"] == 0.1 and z["CVSM-AH", "artist", "accuracy"] == 0.2


@pytest.mark.parametrize("table, item, said", [
    (ours(), "table3", "summarise it first"), (ours(), "table7", "items: table2"),
    (pd.concat([ours(), ours(corpus="music4all", systems=("COLA",))]), "table2", "music4all"),
    (pd.concat([ours(), ours(preset="gpu", systems=("COLA",))]), "table2", "several presets"),
    (pd.concat([ours(), ours()]), "table2", "two results"), (ours("table7"), "table7", "table1, table2")])
def test_tables_that_do_not_belong_together(table, item, said):
    with pytest.raises(VocalrepError, match=said):
        beside_published(table, CVSM, item)


def test_printed_table():
    printed = print_beside(beside_published(ours(reduced="30 of 50 artists"), CVSM, "table2"), CVSM)
    here, there = (("artist, accuracy (%) ↑", side) for side in ("here: studio, smoke", "published: Music4All"))
    assert printed.loc["CVSM-AH", here] == "50.00 ± 10.00†" and printed.loc["CVSM-AH", there] == "77.66 ± 2.19"
    assert printed.loc["MERT", here] == "not run" and printed.loc["mean MFCC", there] == ""
    figure = ours("fig5", ("COLA-ART",)).assign(task="gender", metric=["silhouette", "distance_ratio"], probe="")
    ranges = print_beside(beside_published(figure, CVSM, "fig5"), CVSM)
    assert ranges.loc["COLA-ART", ("gender, silhouette", there[1])] == "between 0.2 and 0.3 across runs"
    assert ranges.loc["COLA", ("gender, silhouette", there[1])] == "about 0.100"


def test_the_best_of_a_column_has_a_mark_in_its_text():
    table = ours(systems=("COLA", "CVSM-A", "CVSM-ART"), mean=[0.4, 0.3, 0.6, 0.2, 0.6, 0.25])
    printed = print_beside(beside_published(table, CVSM, "table2"), CVSM)
    here, there = ({label[0]: column[column.str.endswith("*")].index.tolist() for label, column in printed.items()
                    if label[1].startswith(side)} for side in ("here", "published"))
    assert here["artist, accuracy (%) ↑"] == ["CVSM-A", "CVSM-ART"]                    # alike as printed
    assert here["similarity, EER (%) ↓"] == ["CVSM-A"]                                 # the lowest
    assert there["similarity, EER (%) ↓"] == ["CVSM-ART"] and there["gender, accuracy (%) ↑"] == ["COLA-ART"]
    alike = print_beside(beside_published(ours(), CVSM, "table2"), CVSM)
    assert not alike["artist, accuracy (%) ↑", "here: studio, smoke"].str.contains(r"\*").any()


def test_rankings_call_scores_by_their_names():
    systems = ("COLA", "CVSM-ART")
    both = ours(systems=systems).assign(metric=["macro_f1", "eer"] * 2, mean=[0.4, 0.3, 0.6, 0.2])
    said = compare_rankings(beside_published(both, CVSM, "table2"))
    assert "**artist, macro-F1 (%) ↑**" in said and "macro-f1" not in said


def test_a_table_that_was_saved_prints_the_same(tmp_path):
    beside = beside_published(ours(), CVSM, "table2")
    beside.to_csv(tmp_path / "beside.csv", index=False)
    words = dict.fromkeys(beside.select_dtypes(exclude="number"), "")
    again = pd.read_csv(tmp_path / "beside.csv").astype(dict.fromkeys(words, object)).fillna(words)
    assert print_beside(again, CVSM).equals(print_beside(beside, CVSM))


def test_rankings_need_two_systems():
    beside = beside_published(ours(systems=("COLA",)), CVSM, "table2")
    assert compare_rankings(beside) == "Nothing that was run here was published."
    beside = beside_published(ours(systems=("COLA", "CVSM-ART"), mean=[0.4, 0.3, 0.6, 0.2]), CVSM, "table2")
    assert compare_rankings(beside).count("1 of 1 pairs") == 2


# ---- beside each other, on several corpora

VOICES = {"studio (test)": "in-domain", "techniques": "out-of-domain", "VocalSet": "out-of-domain"}


def summary(item="table3", systems=("mean MFCC", "GE2E", "untrained", *FIVE), voices=VOICES, seeds=1, **columns):
    "A summary of random scores of the singer-identity paper."
    rng = np.random.default_rng(0)
    asked = [("similarity", "eer"), ("similarity", "mnr")] if item == "table3" else [("identification", "accuracy")]
    full = ("16 kHz", "44.1 kHz") if item == "table3" else ("44.1 kHz",)
    counted = {**COUNTED, "sd": 0.01, "n": seeds, "seeds": seeds, "trials": 100}
    rows = [dict(paper="singer_identity", item=item, system=s, corpus=corpus, role=role, condition=condition, task=task,
                 metric=metric, mean=rng.uniform(0.05, 0.45), **MEASURED, **counted)
            for s in systems for corpus, role in voices.items() for task, metric in asked
            for condition in (("16 kHz",) if s in ("mean MFCC", *SPEECH) else full)]
    return pd.DataFrame(rows).assign(probe="").assign(**columns)


def test_rows_meet_only_where_the_corpus_is_the_same():
    results = summary()
    beside = beside_published(results, SINGERS, "table3")
    both = beside.dropna(subset=["ours_mean", "published_mean"])
    assert set(both.corpus) == {"VocalSet"} and set(both.system) == {"GE2E", *FIVE}
    assert beside[beside.corpus == PRIVATE].ours_mean.isna().all()
    assert beside[beside.corpus == "studio (test)"].published_mean.isna().all()
    assert beside.ours_mean.notna().sum() == len(results)
    assert beside.published_mean.notna().sum() == len(published_results(SINGERS, "table3"))
    merged = results.merge(beside, on=KEYS)
    assert len(merged) == len(results) and np.allclose(merged["mean"], merged.ours_mean)
    row = beside.set_index(KEYS).loc[("CONT-VC", "VocalSet", "44.1 kHz", "similarity", "eer")]
    assert row.published_mean == 0.2974
    assert list(dict.fromkeys(beside.corpus))[:4] == ["studio (test)", PRIVATE, "techniques", "VocalSet"]


def test_another_normalisation_is_asked_for_by_name():
    results = pd.concat([summary(), summary(normalisation="center", mean=0.25)])
    centred = beside_published(results, SINGERS, "table3", "center")
    assert set(centred.ours_mean.dropna()) == {0.25}


def test_printed_corpora_and_conditions():
    beside = beside_published(summary(seeds=3), SINGERS, "table3")
    printed, eer = print_beside(beside, SINGERS), metric_label("similarity", "eer")
    assert list(printed.index) == [*SPEECH, "mean MFCC", "untrained", *FIVE]
    here = printed["techniques", eer, "here, smoke", "44.1 kHz"]
    row = beside.set_index(KEYS).loc[("UNIF", "techniques", "44.1 kHz", "similarity", "eer")]
    assert here["UNIF"] == f"{100 * row.ours_mean:.2f} ± {100 * row.ours_sd:.2f}" and here["GE2E"] == "–"
    assert (printed.loc["H/ASP"].xs("here, smoke", level=2) == "not run").all()
    said = printed["VocalSet", metric_label("similarity", "mnr"), "published", "44.1 kHz"]
    assert said["BYOL"] == "21.25 *" and said["H/ASP"] == "–" and said["mean MFCC"] == ""
    assert {side for corpus, _, side, _ in printed.columns if corpus == PRIVATE} == {"published"}
    one = print_beside(beside[beside.corpus == "studio (test)"], SINGERS)
    assert (one.loc["H/ASP"] == "not run").all()


def test_printed_without_spread_reduced_and_impossible():
    results = summary("table4", reduced="3 of 5 folds")
    results.loc[(results.system == "CONT") & (results.corpus == "techniques"), "mean"] = np.nan
    printed = print_beside(beside_published(results, SINGERS, "table4"), SINGERS)
    cells = printed["techniques", metric_label("identification", "accuracy"), "here, smoke"]
    assert printed.columns.nlevels == 3 and cells["CONT"] == "not possible†" and cells["XLSR-53"] == "not run"
    assert cells["BYOL"].endswith("†") and "±" not in cells["BYOL"]


def test_a_system_and_a_corpus_that_nobody_published():
    results = summary(systems=("my network", "CONT"), voices={"vocals (test)": "in-domain"})
    beside = beside_published(results, SINGERS, "table3")
    assert beside.dropna(subset=["ours_mean", "published_mean"]).empty
    printed = print_beside(beside, SINGERS)["vocals (test)"]
    assert printed.loc["my network"].str.fullmatch(r"\d+\.\d\d( \*)?").all()


@pytest.mark.parametrize("spoil, words", [
    (lambda t: t[t["item"] == "table4"], "no result of singer_identity table3"),
    (lambda t: pd.concat([t, t.assign(preset="laptop")]), "laptop"), (lambda t: pd.concat([t, t]), "two results")])
def test_what_cannot_stand_in_one_table(spoil, words):
    with pytest.raises(VocalrepError, match=words):
        beside_published(spoil(summary()), SINGERS, "table3")
