"Systems found, embedded once, scored, and never mixed up."
import dataclasses

import numpy as np
import pandas as pd
import pytest

from vocalrep.report import scores as evaluation
from vocalrep.report.scores import (System, clip_embeddings, cluster_scores, describe, excerpt_embeddings, find_systems, overlap_scores, pair_scores, project_clips, score_systems,
                                 summarise, system_of_run)
from vocalrep.project import PRESETS, VocalrepError
from vocalrep.training.loop import Run, train


@pytest.fixture(scope="module")
def quick(tiny):
    "The preset `smoke`, cut to four steps, for as long as this module runs."
    before = PRESETS["smoke"]
    PRESETS["smoke"] = tiny
    yield "smoke"
    PRESETS["smoke"] = before


@pytest.fixture(scope="module")
def systems(store, quick):
    return find_systems(store, quick, seeds=2, names=["COLA", "CVSM-AH", "mean MFCC"], progress=False)


def test_missing_runs_are_trained_and_finished_ones_reused(store, quick, systems):
    again = find_systems(store, quick, seeds=2, names=["COLA", "CVSM-AH", "mean MFCC"], progress=False)
    assert [s.origin for s in again[:-1]] == ["a finished run"] * 4
    assert [(s.name, s.seed, s.identity) for s in again] == [(s.name, s.seed, s.identity) for s in systems]
    assert len({s.identity for s in systems}) == 5
    assert set(describe(systems).trained_on) == {"studio", ""}


def test_unknown_systems_are_named(store):
    with pytest.raises(VocalrepError, match="unknown system 'CVSM-X'.*CVSM-AH"):
        find_systems(store, names=["CVSM-X"])


def test_an_unfinished_run_is_no_system(tmp_path):
    with pytest.raises(VocalrepError, match="no finished run"):
        system_of_run(Run(tmp_path))


def test_a_run_of_another_corpus_is_refused(store, quick, systems, tmp_path):
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.store import prepare
    other = prepare(studio_corpus(artists=12, clips=2, seconds=5.0), tmp_path / "other", workers=1, progress=False)
    with pytest.raises(VocalrepError, match="another run"):
        find_systems(other, quick, names=["COLA"], progress=False)


def test_what_cannot_be_had_is_listed_and_left_out(store, systems):
    absent = System("MERT", None, origin="no weights")
    assert describe([absent]).origin[0] == "not run: no weights"
    scores = score_systems([absent, systems[-1]], store, modes=("vocals",), tasks=("similarity",), split=None, progress=False)
    assert set(scores.system) == {"mean MFCC"}
    with pytest.raises(VocalrepError, match="MERT: no weights"):
        score_systems([absent], store, progress=False)
    with pytest.raises(VocalrepError, match="no weights"):
        excerpt_embeddings(absent, store)


def test_embeddings_are_computed_once(store, systems, monkeypatch):
    places, vectors = excerpt_embeddings(systems[0], store, "vocals", None)
    monkeypatch.setattr(evaluation, "embed_excerpts", lambda *a, **k: pytest.fail("computed twice"))
    assert np.array_equal(excerpt_embeddings(systems[0], store, "vocals", None)[1], vectors)
    clips, means = clip_embeddings(systems[0], store, "vocals", None)
    first = (places["clip"] == clips["clip"][0]).to_numpy()
    np.testing.assert_allclose(means[0], vectors[first].mean(0), rtol=1e-5, atol=1e-5)


def test_scores_are_computed_once_and_depend_on_the_protocol(store, systems, monkeypatch):
    score = lambda protocol: score_systems(systems[-1:], store, ("vocals",), ("similarity",), None, protocol, progress=False)
    released = score("released")
    monkeypatch.setitem(evaluation.TASKS, "similarity", lambda *a, **k: pytest.fail("computed twice"))
    pd.testing.assert_frame_equal(score("released"), released)
    with pytest.raises(pytest.fail.Exception):
        score("paper")


def test_a_summary_is_the_mean_and_deviation_over_all_repetitions(store, systems):
    scores = score_systems(systems, store, ("vocals",), ("artist",), None, progress=False)
    results = summarise(scores, "table3", "smoke").set_index(["system", "metric", "seconds"])
    cola = scores[(scores.system == "COLA") & (scores.metric == "accuracy") & scores.seconds.isna()]
    row = results.loc[("COLA", "accuracy", np.nan)]
    assert row["n"] == len(cola) == 10 and row.seeds == 2
    assert row["mean"] == pytest.approx(np.mean(cola.value)) and row.sd == pytest.approx(np.std(cola.value))


def test_scores_that_do_not_belong_together_are_refused(store, systems):
    scores = score_systems(systems[:2], store, ("vocals",), ("similarity",), None, progress=False)
    for change, words in (({"corpus": "music4all"}, "corpora"), ({"protocol": "paper"}, "protocols"), ({"trained_on": "music4all"}, "trained on")):
        with pytest.raises(VocalrepError, match=words):
            summarise(pd.concat([scores, scores.assign(**change)]))


def test_a_corpus_without_genders_has_no_gender_scores(store, systems):
    import copy
    nameless = copy.copy(store)
    nameless.segments = store.segments.assign(gender=None)
    assert "gender" not in set(score_systems(systems[-1:], nameless, ("vocals",), split=None, progress=False).task)


def test_maps_and_overlaps(store, systems):
    points = project_clips(systems[:1], store, "artist", split=None, layouts=2)
    assert points.repetition.nunique() == 2 and points.groupby("label")["clip"].nunique().min() >= 2
    clusters = cluster_scores(systems[:1], store, "artist", points, split=None)
    assert set(clusters.space) == {"embedding", "plane"} and (clusters[clusters.space == "plane"].groupby("score").size() == 2).all()
    overlap = overlap_scores(systems, store, modes=("vocals",), split=None)
    assert set(overlap.seed) == {0, 1} and (overlap[overlap.system == overlap.other].share == 1).all()
    both = overlap.set_index(["seed", "system", "other"]).share
    assert all(both[0, a, b] == both[0, b, a] for a in ("COLA", "CVSM-AH") for b in ("mean MFCC", "COLA"))


def test_one_label_cannot_be_mapped(store, systems):
    import copy
    women = copy.copy(store)
    women.segments = store.segments.assign(gender="female")
    with pytest.raises(VocalrepError, match="fewer than two values of 'gender'"):
        project_clips(systems[-1:], women, "gender", split=None)


def test_all_pairs(store, systems):
    table = pair_scores([System("MERT", None), systems[-1]], store, ("vocals",), None)
    assert list(table.normalisation) == ["none", "center", "zscore"] and table.eer.between(0, 0.5).all()
