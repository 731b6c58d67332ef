"Which singer is it: folds of recordings, a linear layer, and what small corpora allow."
import dataclasses

import numpy as np
import pandas as pd
import pytest

from vocalrep.evaluation.folds import TEST, TRAIN, arrange_fragments, excerpts_of, singer_folds
from vocalrep.evaluation.probes import SINGER_COLUMNS, SINGER_PROBE, identify_singers
from vocalrep.project import VocalrepError


def world(singers=("Ada", "Béla", "Cleo", "Dan"), clips=4, pieces=3, D=8, voice=1.0, seed=0):
    "Fragments and their vectors: who sings, and chance."
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([dict(name=f"{s}/song{c}_{4 * p}_{4 * p + 4}_4s.wav", artist=s, clip=f"{s}/song{c}")
                          for s in singers for c in range(clips) for p in range(pieces)])
    voices = voice * rng.normal(size=(len(singers), D))[table.artist.factorize()[0]]
    return table, voices + rng.normal(size=(len(table), D))


def named(table, x, epochs=100, **options):
    "The one score, as a row."
    scores = identify_singers(table, x, probe=dataclasses.replace(SINGER_PROBE, epochs=epochs), device="cpu", **options)
    assert tuple(scores.columns) == SINGER_COLUMNS and len(scores) == 1
    return scores.iloc[0]


def regression_accuracy(table, x):
    "The same by logistic regression, fold by fold."
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    data, accuracy = arrange_fragments(table, x), []
    scaled = StandardScaler().fit_transform(data.vectors)
    for fold in singer_folds(data)[0]:
        label, (train, test) = fold.label[data.clip], (excerpts_of(data, fold, part) for part in (TRAIN, TEST))
        model = LogisticRegression(max_iter=500).fit(scaled[train], label[train])
        accuracy.append(model.score(scaled[test], label[test]))
    return np.mean(accuracy)


def test_identification_is_as_good_as_logistic_regression():
    table, x = world([f"s{i}" for i in range(6)], clips=10, D=6, voice=1.2)
    expected, score = regression_accuracy(table, x), named(table, x, 20)
    assert 0.5 < expected < 0.98 and score.value == pytest.approx(expected, abs=0.05)
    assert (score.task, score.metric) == ("identification", "accuracy")
    assert (score.trials, score.artists, score["clips"]) == (180, 6, 60)
    assert score.reduced == "" and score.value == named(table, x, 20).value
    assert named(table, 1e4 + 1e-2 * x, 20).value == pytest.approx(score.value, abs=0.05)  # nor scale and offset
    order = np.random.default_rng(2).permutation(len(table))
    assert named(table.iloc[order], x[order], 20).value == score.value  # the order does not matter


def test_collapsed_vectors_are_chance():
    table, x = world()
    assert named(table, np.ones_like(x)).value == pytest.approx(0.25)


def test_layers_are_weighed():
    table, x = world([f"s{i}" for i in range(6)], clips=8, pieces=2, D=6, voice=3.0)
    noise = np.random.default_rng(1).normal(size=(2, *x.shape))
    layers = np.stack([noise[0], x, noise[1]], 1)
    summed, averaged, alone, one = (named(table, v, 15).value for v in (layers, layers.mean(1), x, x[:, None]))
    assert summed > averaged and one == alone  # one layer is no choice


def test_test_parts_are_never_learned_from():
    "Labels that depend on the recording only cannot be guessed from other recordings."
    table, _ = world(("Ada", "Béla"), clips=10, pieces=4)
    x = np.random.default_rng(0).normal(size=(20, 30))[table["clip"].factorize()[0]]
    assert 0.2 < named(table, x).value < 0.8


@pytest.mark.parametrize("clips, said, possible", [
    (5, "", True), (4, "4 of 5 folds", True), (3, "3 of 5 folds", True), (2, "not possible: 0 singers", False)])
def test_small_corpora_say_so(clips, said, possible):
    score = named(*world(clips=clips), 3)
    assert score.reduced.startswith(said) and np.isfinite(score.value) == possible
    assert score.trials == (12 * clips if possible else 0)


def test_one_singer_is_no_question():
    score = named(*world(("Ada",)))
    assert score.reduced == "not possible: 1 singers with three recordings or more"
    assert (score.artists, score["clips"]) == (1, 4)


def test_uneven_corpora_say_so():
    table, x = world(clips=8)
    ada = table.artist.eq("Ada") & table["clip"].str.endswith(("2", "3", "4", "5", "6", "7"))
    few = ada | table.artist.eq("Béla") & table["clip"].str.endswith(("4", "5", "6", "7"))
    score = named(table[~few], x[~few], 3)
    assert score.artists == 3 and score.reduced == (
        "1 singers with fewer than 3 recordings left out; 1 singers with fewer than 5 recordings, not in every test")


def test_fragments_without_a_singer_are_left_out():
    table, x = world(clips=5)
    unknown = table["clip"].isin(["Ada/song0", "Dan/song3"])
    score = named(table.assign(artist=table.artist.mask(unknown)), x, 3)
    assert (score.trials, score["clips"], score.artists) == (54, 18, 4)


@pytest.mark.parametrize("spoil, said", [
    (lambda t, x: (x, t), "fragments come first"), (lambda t, x: (t.drop(columns="clip"), x), "without clip"),
    (lambda t, x: (t, x[:-1]), "one embedding per excerpt"),
    (lambda t, x: (t, np.where(np.arange(len(x))[:, None] == 3, np.nan, x)), "NaN or infinite embeddings in 1 clips")])
def test_what_does_not_fit_together_is_said(spoil, said):
    with pytest.raises(VocalrepError, match=said):
        identify_singers(*spoil(*world()))
    with pytest.raises(VocalrepError, match="three or more"):
        identify_singers(*world(), folds=2)
