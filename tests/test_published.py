"Published numbers are complete, unmixed with ours, and refuse tables that do not belong together."
import dataclasses
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from vocalrep.project import VocalrepError
from vocalrep.report.published import KEYS, METHOD_COLUMNS, artist_distribution, beside_published, in_published_order, methods_table, print_beside, published_distribution, published_results
from vocalrep.training.variants import CVSM_VARIANTS, Stage

PAPER_ROWS = ["COLA", "MSCOL", "MERT", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART"]


def ours(item="table2", systems=("CVSM-AH", "mean MFCC"), **columns):
    rows = [dict(paper="cvsm", item=item, system=s, mode="mixture", task=t, metric=m, mean=0.5, sd=0.1, n=5, seeds=1, corpus="studio", preset="smoke", reduced="")
            for s in systems for t, m in (("artist", "accuracy"), ("similarity", "eer"))]
    return pd.DataFrame(rows).assign(**columns)


def test_the_data_are_in_the_package_and_whole():
    assert (files("vocalrep") / "data" / "published" / "cvsm.csv").is_file()
    table = published_results()
    assert not table.duplicated(["item", *KEYS]).any()
    for item, mode in (("table2", "mixture"), ("table3", "vocals")):
        rows = table[table["item"] == item]
        assert list(rows.system.unique()) == PAPER_ROWS and set(rows["mode"]) == {mode}
        assert (rows.groupby("system").size() == 5).all()
        assert rows["mean"].between(0.05, 0.9).all() and rows.sd.between(0.01, 0.1).all()
    shares = table[(table["item"] != "fig7") & ~table.metric.isin(["songs", "artists"])]["mean"].dropna()
    assert shares.between(-1, 1).all()


@pytest.mark.parametrize("item, system, task, metric, mean, sd", [
    ("table2", "COLA", "gender", "accuracy", 0.8101, 0.0368), ("table2", "CVSM-ART", "similarity", "mnr", 0.0970, 0.0207), ("table2", "MSCOL", "artist", "macro_f1", 0.5932, 0.0835),
    ("table3", "MERT", "artist", "accuracy", 0.6288, 0.0702), ("table3", "CVSM-A", "similarity", "eer", 0.2314, 0.0403), ("table3", "CVSM-AF", "artist", "macro_f1", 0.6667, 0.0546)])
def test_cells_of_the_tables(item, system, task, metric, mean, sd):
    row = published_results("cvsm", item).set_index(["system", "task", "metric"]).loc[(system, task, metric)]
    assert (row["mean"], row.sd) == (mean, sd)


def test_a_csv_round_trip_keeps_empty_texts_and_numbers(tmp_path):
    table = published_results()
    assert table["mean"].dtype == float and table.sd.dtype == float
    for column in ("paper", "item", "system", "mode", "task", "metric", "note"):
        assert table[column].notna().all() and table[column].map(lambda x: isinstance(x, str)).all()


def test_methods_follow_the_records():
    table = methods_table()
    assert list(table.index) == PAPER_ROWS and tuple(table.columns) == METHOD_COLUMNS
    assert table.loc["CVSM-AH"].tolist() == ["yes", "no", "yes (half)", "no"] and table.loc["CVSM-AF"].tolist() == ["yes", "no", "yes", "yes"]
    assert table.loc["COLA-ART"].tolist() == ["no", "yes", "no", "no"] and table.loc["MERT"].tolist() == ["no"] * 4
    quarter = dataclasses.replace(CVSM_VARIANTS["CVSM-AH"], name="mine", stages=(Stage(1, 0.25),), level="artist")
    table = methods_table({**CVSM_VARIANTS, "mine": quarter})
    assert list(table.index) == [*PAPER_ROWS, "mine"] and table.loc["mine"].tolist() == ["yes", "yes", "yes (25%)", "no"]


def test_order_of_systems():
    assert in_published_order(["b", "CVSM-ART", "a", "COLA", "b"]) == ["COLA", "CVSM-ART", "b", "a"]


def test_ours_and_theirs_stay_apart():
    beside = beside_published(ours(), "table2")
    assert len(beside) == 8 * 5 + 2
    row = beside.set_index(KEYS).loc[("CVSM-AH", "mixture", "similarity", "eer")]
    assert (row.ours_mean, row.published_mean) == (0.5, 0.2396)
    assert beside[beside.system == "mean MFCC"].published_mean.isna().all() and beside[beside.system == "MERT"].ours_mean.isna().all()
    assert list(dict.fromkeys(beside.system)) == [*PAPER_ROWS, "mean MFCC"]
    theirs = published_results("cvsm", "table2").set_index(KEYS)["mean"]
    kept = beside.dropna(subset="published_mean").set_index(KEYS).published_mean
    assert kept.sort_index().equals(theirs.sort_index().rename("published_mean"))


def test_only_what_was_measured_as_published_stands_beside():
    summary = pd.concat([ours(normalisation="none", probe="linear", seconds=np.nan, fraction=1.0), ours(normalisation="zscore", probe="linear", seconds=np.nan, fraction=1.0, mean=0.1),
                         ours(normalisation="none", probe="exact", seconds=np.nan, fraction=1.0, mean=0.2), ours(normalisation="none", probe="linear", seconds=1.0, fraction=1.0, mean=0.3),
                         ours(normalisation="none", probe="linear", seconds=np.nan, fraction=0.1, mean=0.4)])
    similar = summary.task == "similarity"
    summary = summary[~(similar & ((summary.probe == "exact") | summary.seconds.notna() | (summary.fraction < 1))) & ~(~similar & (summary.normalisation == "zscore"))].copy()
    summary.loc[summary.task == "similarity", "probe"] = ""
    assert set(beside_published(summary, "table2").ours_mean.dropna()) == {0.5}
    z = beside_published(summary, "table2", normalisation="zscore", probe="exact").set_index(["system", "task", "metric"]).ours_mean
    assert z["CVSM-AH", "similarity", "eer"] == 0.1 and z["CVSM-AH", "artist", "accuracy"] == 0.2


@pytest.mark.parametrize("table, item, said", [
    (ours(), "table3", "compute it first"), (pd.concat([ours(), ours(corpus="music4all", systems=("COLA",))]), "table2", "music4all"),
    (pd.concat([ours(), ours(preset="gpu", systems=("COLA",))]), "table2", "several values of preset"), (pd.concat([ours(), ours()]), "table2", "two results"), (ours(), "table7", "table1, table2")])
def test_tables_that_do_not_belong_together(table, item, said):
    with pytest.raises(VocalrepError, match=said):
        beside_published(table, item)


def test_printed_table():
    printed = print_beside(beside_published(ours(reduced="30 of 50 artists"), "table2"))
    here, there = ("artist, accuracy (%) ↑", "here: studio, smoke"), ("artist, accuracy (%) ↑", "published: Music4All")
    assert printed.loc["CVSM-AH", here] == "50.00 ± 10.00†" and printed.loc["CVSM-AH", there] == "77.66 ± 2.19"
    assert printed.loc["MERT", here] == "not run" and printed.loc["mean MFCC", there] == ""
    ranges = print_beside(beside_published(ours("fig5", ("COLA-ART",)).assign(task="gender", metric=["silhouette", "distance_ratio"]), "fig5"))
    assert ranges.loc["COLA-ART", ("gender, silhouette", "published: Music4All")] == "between 0.2 and 0.3 across runs"
    assert ranges.loc["COLA", ("gender, silhouette", "published: Music4All")] == "about 0.100"


def test_distribution_of_artists():
    table = artist_distribution(pd.DataFrame(dict(artist=["a"] * 5 + ["b"] + ["c"] + [None])))
    assert table.at_most.tolist() == [1, 5] and table.artists.tolist() == [2, 1]
    assert np.allclose(table.share_of_artists, [2 / 3, 1]) and np.allclose(table.share_of_clips, [2 / 7, 1])
    assert np.allclose(published_distribution().iloc[:, 1:], [[0.8292, 0.2983], [0.9792, 0.7574]])
    with pytest.raises(VocalrepError, match="no artist is named"):
        artist_distribution(pd.DataFrame(dict(artist=[None, None])))


def test_singer_identity_is_whole():
    table = published_results("singer_identity")
    assert not table.duplicated(["item", "system", "corpus", "rate", "metric"]).any() and (table["mean"].notna() | (table.note != "")).all()
    trained, baselines = {"VICReg", "UNIF", "CONT", "CONT-VC", "BYOL"}, {"GE2E", "F-ResNet", "H/ASP", "Wav2Vec-base", "XLSR-53"}
    table3, table4 = (published_results("singer_identity", item) for item in ("table3", "table4"))
    assert set(table3.system) == set(table4.system) == trained | baselines and set(table3.corpus) - set(table4.corpus) == {"test"}
    assert all(len(rows) == (20 if s in trained else 10) for s, rows in table3.groupby("system")) and (table4.groupby("system").size() == 4).all()
    assert set(table3.rate[table3.system.isin(baselines)]) == {16.0} and set(table3.rate) == {16.0, 44.1}
    assert table3["mean"].between(0.0008, 0.41).all() and table4["mean"].between(0.45, 1).all()
    for column in ("paper", "item", "system", "mode", "task", "metric", "corpus", "note"):
        assert table[column].map(lambda x: isinstance(x, str)).all()
    assert table.rate.dtype == float and "corpus" not in published_results("cvsm")


@pytest.mark.parametrize("item, system, corpus, rate, metric, mean", [
    ("table3", "GE2E", "test", 16, "eer", 0.2724), ("table3", "H/ASP", "VCTK", 16, "mnr", 0.0008), ("table3", "CONT", "test", 44.1, "eer", 0.0216), ("table3", "BYOL", "VocalSet", 44.1, "mnr", 0.2125),
    ("table3", "UNIF", "NUS-48E", 16, "mnr", 0.1708), ("table3", "VICReg", "M4Singer", 44.1, "eer", 0.2205), ("table4", "XLSR-53", "VocalSet", 16, "accuracy", 0.8605), ("table4", "CONT-VC", "VCTK", 44.1, "accuracy", 0.8603),
    ("table1", "", "M4Singer", None, "hours", 29.77), ("table1", "", "VCTK", None, "singers", 110), ("table2", "Ours", "", None, "parameters", 5_000_000), ("table2", "XLSR-53", "", None, "layers", 24)])
def test_cells_of_singer_identity(item, system, corpus, rate, metric, mean):
    rows = published_results("singer_identity", item)
    rows = rows[(rows.system == system) & (rows.corpus == corpus) & (rows.metric == metric) & (rows.rate.isna() if rate is None else rows.rate == rate)]
    assert rows["mean"].tolist() == [mean]


def test_several_corpora_do_not_stand_beside_one():
    with pytest.raises(VocalrepError, match="several corpora or at several rates"):
        beside_published(ours("table3", paper="singer_identity"), "table3", paper="singer_identity")
