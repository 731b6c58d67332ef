"Systems embedded once, scored once, and never mixed up."
import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest

import vocalrep.report.scores as room
from vocalrep.evaluation.backend import BACKENDS, fit_backends
from vocalrep.evaluation.metrics import equal_error_rate, pairwise_scores
from vocalrep.evaluation.tasks import VOCALS, Condition, TestCorpus
from vocalrep.models.encoders import MeanMFCC
from vocalrep.papers.cvsm.paper import PAPER
from vocalrep.project import VocalrepError, home
from vocalrep.report.maps import map_systems
from vocalrep.report.scores import SCORE_COLUMNS, clip_embeddings, embeddings, evaluate, jobs, summarise
from vocalrep.report.systems import System


def cepstra(name, count=20, seed=0, trained_on=""):
    "Mean MFCC of so many cepstra, under any name."
    return System(name, lambda device: MeanMFCC(count).eval(), f"mfcc-{count}", seed, trained_on=trained_on)


def of_vocals(name, protocol="released"):
    "A task of CVSM on vocals only."
    return dataclasses.replace(PAPER.tasks(protocol)[name], conditions=(VOCALS,))


ABSENT, FLOOR = System("MERT", None, origin="no weights"), cepstra("mean MFCC")
SYSTEMS = [cepstra("COLA", 12, 0, "studio"), cepstra("COLA", 14, 1, "studio"), FLOOR]
QUICK = dict(device="cpu", progress=False)


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "home"))


@pytest.fixture
def everybody(store):
    return TestCorpus("studio", store, None)


def test_what_cannot_be_had_is_left_out(everybody):
    scores = evaluate([ABSENT, FLOOR], [everybody], [of_vocals("similarity")], **QUICK)
    assert set(scores.system) == {"mean MFCC"} and list(scores) == list(SCORE_COLUMNS)
    with pytest.raises(VocalrepError, match="MERT: no weights"):
        evaluate([ABSENT], [everybody], [of_vocals("similarity")], **QUICK)
    with pytest.raises(VocalrepError, match="MERT cannot be run here: no weights"):
        embeddings(ABSENT, everybody.store, VOCALS)


def test_a_system_without_a_condition_says_its_rate(everybody):
    wide = Condition("44.1 kHz", "vocals", rates=(16_001, 1e9))
    with pytest.raises(VocalrepError, match="mean MFCC: no condition for 16000 samples/s"):
        evaluate([FLOOR], [everybody], [dataclasses.replace(of_vocals("similarity"), conditions=(wide,))], **QUICK)


def test_embeddings_are_computed_once(store, monkeypatch):
    places, vectors = embeddings(SYSTEMS[0], store, VOCALS, None, "cpu")
    monkeypatch.setattr(room, "embed_excerpts", lambda *a, **k: pytest.fail("computed twice"))
    assert np.array_equal(embeddings(SYSTEMS[0], store, VOCALS, None, "cpu")[1], vectors)
    clips, means = clip_embeddings(SYSTEMS[0], store, VOCALS, None, "cpu")
    first = (places["clip"] == clips["clip"][0]).to_numpy()
    np.testing.assert_allclose(means[0], vectors[first].mean(0), rtol=1e-5, atol=1e-5)
    with pytest.raises(pytest.fail.Exception):
        embeddings(SYSTEMS[1], store, VOCALS, None, "cpu")


def test_scores_are_computed_once_and_depend_on_the_protocol(everybody):
    def score(task):
        return evaluate([FLOOR], [everybody], [task], **QUICK)

    def never(*given, **options):
        pytest.fail("computed twice")

    released, paper = (of_vocals("similarity", protocol) for protocol in ("released", "paper"))
    first = score(released)
    pd.testing.assert_frame_equal(score(dataclasses.replace(released, score=never)), first)
    with pytest.raises(pytest.fail.Exception):
        score(dataclasses.replace(paper, score=never))


def test_a_summary_is_the_mean_and_deviation_over_all_repetitions(everybody):
    scores = evaluate(SYSTEMS, [everybody], [of_vocals("artist")], **QUICK)
    results = summarise(scores, "cvsm", "table3", "smoke").set_index(["system", "metric", "seconds"])
    cola = scores[(scores.system == "COLA") & (scores.metric == "accuracy") & scores.seconds.isna()]
    row = results.loc[("COLA", "accuracy", np.nan)]
    assert row["n"] == len(cola) == 10 and row.seeds == 2
    assert row["mean"] == pytest.approx(np.mean(cola.value)) and row.sd == pytest.approx(np.std(cola.value))


def test_summaries_against_a_loop():
    rng = np.random.default_rng(0)
    about = dict(trained_on="x", role="in-domain", condition="16 kHz", task="similarity", metric="eer", probe="",
                 seconds=np.nan, fraction=1.0, repetition=0, artists=5)
    rows = [dict(about, system=system, seed=seed, corpus=corpus, normalisation=how, value=rng.random(),
                 trials=100 + seed, clips=9 - seed, reduced="few" if seed == 1 else "")
            for system in ("b", "a") for corpus in ("u", "v") for how in ("none", "zscore") for seed in range(3)]
    table = summarise(pd.DataFrame(rows), "singer_identity", "table3", "smoke")
    assert len(table) == 8 and table.system.iloc[0] == "b" and (table.reduced == "few").all()
    assert (table[["seeds", "n", "trials", "clips"]] == [3, 3, 100, 7]).all(None)
    for row in table.itertuples():
        key = (row.system, row.corpus, row.normalisation)
        values = [r["value"] for r in rows if (r["system"], r["corpus"], r["normalisation"]) == key]
        mean = sum(values) / 3
        assert row.mean == pytest.approx(mean)
        assert row.sd == pytest.approx((sum((value - mean) ** 2 for value in values) / 3) ** 0.5)
        assert (row.paper, row.item, row.preset) == ("singer_identity", "table3", "smoke")


def test_scores_that_do_not_belong_together_are_refused(everybody):
    scores = evaluate(SYSTEMS[:2], [everybody], [of_vocals("similarity")], **QUICK)
    with pytest.raises(VocalrepError, match="COLA was trained on studio and on music4all"):
        summarise(pd.concat([scores, scores.assign(trained_on="music4all")]))
    both = summarise(pd.concat([scores, scores.assign(corpus="music4all")]))
    assert set(both.corpus) == {"studio", "music4all"} and not both.duplicated(room.SUMMARY_KEYS).any()


def test_a_corpus_without_genders_has_no_gender_scores(store):
    nameless = copy.copy(store)
    nameless.segments = store.segments.assign(gender=None)
    tasks = [of_vocals(name) for name in ("gender", "similarity")]
    for corpus, expected in ((store, ["gender", "similarity"]), (nameless, ["similarity"])):
        work = jobs([FLOOR], [TestCorpus("studio", corpus)], tasks)
        assert [task.name for _, _, task, _ in work] == expected


def test_all_pairs(everybody):
    table = evaluate([ABSENT, FLOOR], [everybody], [of_vocals("all pairs")], **QUICK)
    eer = table[table.metric == "eer"]
    assert list(eer.normalisation) == ["none", "center", "zscore"] and eer.value.between(0, 0.5).all()


def test_back_ends_are_estimated_on_training_singers(store):
    studio = TestCorpus("studio", store, "train", training=store)
    for task in (of_vocals("all pairs"), of_vocals("similarity")):
        table = evaluate([FLOOR], [studio], [task], **QUICK)
        assert list(dict.fromkeys(table.normalisation)) == ["none", "center", "zscore", *BACKENDS]
    assert list(evaluate([FLOOR], [studio], [of_vocals("artist")], **QUICK).normalisation.unique()) == ["none"]
    parts = [embeddings(FLOOR, store, VOCALS, "train", "cpu", per_clip=5)]
    clips, means = clip_embeddings(FLOOR, store, VOCALS, "train", "cpu")
    expected = equal_error_rate(*pairwise_scores(fit_backends(parts)["wccn"](means), clips.artist))
    table = evaluate([FLOOR], [studio], [of_vocals("all pairs")], **QUICK)
    found = table[(table.metric == "eer") & (table.normalisation == "wccn")].value.item()
    assert found == pytest.approx(expected, abs=1e-6)


# ---- damaged caches ----

def _cut(file, others):
    file.write_bytes(file.read_bytes()[:len(file.read_bytes()) // 2])


def _flip(file, others):
    content = bytearray(file.read_bytes())
    content[-20] ^= 255
    file.write_bytes(bytes(content))


def _empty(file, others):
    file.write_bytes(b"")


def _replace(file, others):
    "What was kept for another system lies under this name."
    file.write_bytes(next(other.read_bytes() for other in others if other.read_bytes() != file.read_bytes()))


def caches(kind):
    return sorted(file for file in (home() / kind).rglob("*") if file.suffix in (".npy", ".npz", ".parquet"))


def maps_of(two, studio):
    return map_systems(two, studio, "artist", VOCALS, 1, "cpu").round(3)


def scores_of(two, studio):
    return evaluate(two, [studio], [of_vocals("similarity")], **QUICK)


@pytest.mark.parametrize("kind, compute, after", [
    ("embeddings", scores_of, ("backends", "scores")), ("backends", scores_of, ("scores",)), ("scores", scores_of, ()),
    ("maps", maps_of, ())])
def test_a_damaged_cache_is_computed_again(store, kind, compute, after, capsys):
    studio, two = TestCorpus("studio", store, "train", training=store), [cepstra("A", 12), cepstra("B", 14)]
    first, files = compute(two, studio), caches(kind)
    originals = [file.read_bytes() for file in files]
    for damage in (_cut, _flip, _empty, _replace):
        for file in [file for later in after for file in caches(later)]:       # what would be read instead
            file.unlink()
        damage(files[0], files)
        assert files[0].read_bytes() != originals[0]
        pd.testing.assert_frame_equal(compute(two, studio), first)
        assert [file.read_bytes() for file in files] == originals
        assert f"{files[0]} is damaged and is computed again" in capsys.readouterr().out


def test_a_cache_without_its_digest_was_not_finished(store, monkeypatch):
    embeddings(FLOOR, store, VOCALS, None, "cpu")
    file, = caches("embeddings")
    file.with_name(file.name + ".sha256").unlink()
    monkeypatch.setattr(room, "embed_excerpts", lambda *a, **k: pytest.fail("computed again"))
    with pytest.raises(pytest.fail.Exception):
        embeddings(FLOOR, store, VOCALS, None, "cpu")


def test_columns_that_a_task_leaves_out_have_defaults(everybody):
    table = evaluate([FLOOR], [everybody], [of_vocals("all pairs")], **QUICK)
    table = table[table.metric.isin(["eer", "mnr"])]
    assert table.seconds.isna().all() and (table.fraction == 1).all() and (table.probe == "").all()
    assert (table.repetition == 0).all() and (table.reduced == "").all() and (table.artists > 0).all()


def test_other_options_are_other_scores(everybody):
    task = of_vocals("artist")
    half = dataclasses.replace(task, options={**task.options, "fractions": (0.5,), "seconds": (None,)})
    table = evaluate([FLOOR], [everybody], [task, half], **QUICK)
    assert set(table.fraction) == {0.5, 1.0} and set(table[table.fraction == 0.5].seconds.isna()) == {True}
