"The engine of all probes: parity with plain loops, stopping, tags, hidden layers, layered encoders, missing labels."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from vocalrep.evaluation.classifiers import Probe, draw_epoch, fit_exact, probabilities, probe_loss, train_probes
from vocalrep.evaluation.folds import TEST, TRAIN, VALID, Fold, arrange, artist_folds, gender_folds
from vocalrep.project import VocalrepError

PLAIN = Probe(learning_rate=5e-4, epochs=40, patience=6, epoch_items=640)


def invent(artists=12, clips=5, segments=2, dim=16, singer=3.0, sex=0.0, seed=0):
    "Excerpts of artists, each with a direction of its own."
    rng = np.random.default_rng(seed)
    rows = [dict(clip=f"{a:03d}-{c:03d}", artist=f"artist {a:03d}", gender=("female", "male")[a % 2], offset=k, row=s)
            for a in range(artists) for c in range(clips) for s in range(segments) for k in range(5)]
    places = pd.DataFrame(rows)
    who = places.artist.str[-3:].astype(int).to_numpy()
    vectors = singer * rng.normal(size=(artists, dim))[who] + rng.normal(size=(len(places), dim))
    return arrange(places, (vectors + sex * np.where(who % 2, 1, -1)[:, None]).astype(np.float32))


def points(n=240, seed=0):
    "Single excerpts in the plane, and parts."
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    data = arrange(pd.DataFrame(dict(clip=[f"{k:04d}" for k in range(n)], artist=None, row=range(n), offset=0)), x)
    return data, x, rng.choice([TRAIN, VALID, TEST], n, p=[0.6, 0.2, 0.2])


def answers_of(data, fold, probe):
    return train_probes(data, [fold], probe, device="cpu")[0][0]


# --- repetitions, patience

def test_repetitions_do_not_touch_each_other():
    data, probe = invent(singer=1.5, dim=30), dataclasses.replace(PLAIN, patience=3)
    folds = artist_folds(data)
    together, history = train_probes(data, folds, probe, device="cpu")
    stopped = np.isfinite(history).sum(0)
    assert len(set(stopped)) > 1  # they stop at different times, and leave
    for r, fold in enumerate(folds):
        (alone,), own = train_probes(data, [fold], probe, device="cpu")
        np.testing.assert_allclose(alone, together[r], atol=1e-4)
        np.testing.assert_array_equal(own[:, 0], history[:stopped[r], r])


@pytest.mark.parametrize("change", [dict(hidden=8), dict(standardise=True), dict(standardise=True, hidden=8)])
def test_hidden_and_standardised_repetitions_leave_too(change):
    data, probe = invent(singer=1.0, dim=30), dataclasses.replace(PLAIN, patience=2, learning_rate=5e-3, **change)
    layered = dataclasses.replace(data, vectors=np.stack([data.vectors, data.vectors[::-1]], 1))
    for own in (data, layered):
        together, history = train_probes(own, artist_folds(own), probe, device="cpu")
        assert len(set(np.isfinite(history).sum(0))) > 1
        for r, fold in enumerate(artist_folds(own)[:3]):
            np.testing.assert_allclose(answers_of(own, fold, probe), together[r], atol=1e-4)


def test_patience_and_best_epoch():
    data, probe = invent(singer=0.6, dim=30), dataclasses.replace(PLAIN, epochs=100)
    folds = artist_folds(data)
    answers, history = train_probes(data, folds, probe, device="cpu")
    for r, fold in enumerate(folds):
        own = history[np.isfinite(history[:, r]), r]
        best = int(np.argmax(own))
        assert len(own) == min(100, best + 1 + probe.patience)
        at_best = answers_of(data, fold, dataclasses.replace(probe, epochs=best + 1))
        np.testing.assert_allclose(at_best, answers[r], atol=1e-4)


def test_an_epoch_visits_every_segment_once():
    data, segments = invent(), np.arange(3, 40)
    rows = draw_epoch(data, segments, 37, np.random.default_rng(0))
    segment_of = np.repeat(np.arange(len(data.first)), data.size)
    assert sorted(segment_of[rows]) == list(segments)
    assert set(rows - data.first[segment_of[rows]]) == set(range(5))  # any of a segment's excerpts
    assert set(np.bincount(segment_of[draw_epoch(data, segments, 74, np.random.default_rng(0))])[3:]) == {2}


# --- against plain loops

def plain_network(rng, inputs, outputs, hidden):
    "The same network by nn.Linear, started from the same numbers."
    layers = []
    for a, b in zip((inputs, hidden)[:1 + bool(hidden)], (hidden, outputs)[not hidden:]):
        limit, layer = (6 / (a + b)) ** 0.5, torch.nn.Linear(a, b)
        layer.weight.data = torch.from_numpy(rng.uniform(-limit, limit, (a, b))).float().T.contiguous()
        torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("loss, hidden", [("softmax", None), ("softmax", 24), ("sigmoid", None), ("sigmoid", 24),
                                          ("multilabel", None), ("multilabel", 24)])
def test_against_a_plain_loop(loss, hidden):
    data = invent(artists=8, clips=4, singer=1.0, sex=0.4)
    fold = (gender_folds if loss == "sigmoid" else artist_folds)(data)[1]
    if loss == "multilabel":
        fold = dataclasses.replace(fold, label=np.eye(8, dtype=int)[fold.label], classes=8)
    probe = Probe(5e-4, epochs=5, patience=6, epoch_items=320, loss=loss, hidden=hidden)
    (answer,), history = train_probes(data, [fold], probe, device="cpu")
    rng = np.random.default_rng([42, fold.repetition, 1])
    network = plain_network(rng, 16, 1 if loss == "sigmoid" else 8, hidden)
    adam = torch.optim.Adam(network.parameters(), lr=5e-4, eps=1e-7)
    criterion = torch.nn.CrossEntropyLoss() if loss == "softmax" else torch.nn.BCEWithLogitsLoss()
    x, y = torch.from_numpy(data.vectors), torch.tensor(fold.label[data.clip])
    own, best = np.flatnonzero(fold.part[data.segment_clip] == TRAIN), -1
    for epoch in range(5):
        rows = draw_epoch(data, own, 320, rng)
        assert (fold.part[data.clip[rows]] == TRAIN).all()
        for i in range(0, 320, 64):
            z, target = network(x[rows[i:i + 64]]), y[rows[i:i + 64]]
            error = criterion(z, target) if loss == "softmax" else criterion(z.squeeze(1), target.float())
            adam.zero_grad()
            error.backward()
            adam.step()
        p = probabilities(network(x).detach(), loss)
        means = {c: p[data.clip == c].mean(0) for c in np.flatnonzero(fold.part == VALID)}
        if loss == "multilabel":
            right = [(mean > 0.5) == fold.label[c] for c, mean in means.items()]
        else:
            right = [mean.argmax() == fold.label[c] for c, mean in means.items()]
        assert history[epoch, 0] == pytest.approx(np.mean(right), abs=1e-12)
        if np.mean(right) > best:
            best, kept = np.mean(right), p[fold.part[data.clip] == TEST]
    np.testing.assert_allclose(answer, kept, atol=1e-5)


# --- tags

def test_tags_are_learned_by_a_hidden_layer():
    data, x, part = points()
    tags = np.stack([x[:, 0] > 0, x[:, 0] * x[:, 1] > 0, np.ones(len(x))], 1).astype(int)
    fold, right = Fold(tags, part, 3, 0), {}
    for hidden in (None, 512):
        probe = Probe(5e-3, 120, 40, epoch_items=640, loss="multilabel", hidden=hidden)
        answer = answers_of(data, fold, probe)
        assert answer.shape == ((part == TEST).sum(), 3) and answer.min() >= 0 and answer.max() <= 1
        right[hidden] = ((answer > 0.5) == tags[part == TEST]).mean(0)
    assert (right[None][[0, 2]] > 0.9).all() and right[None][1] < 0.7 and (right[512] > 0.85).all()


def test_several_tags_are_independent_of_each_other():
    data, x, part = points()
    tags = np.stack([x[:, 0] > 0, x[:, 1] > 0.3], 1).astype(int)
    probe = Probe(5e-3, 10, 10, epoch_items=640, loss="multilabel", start="zero")
    both = answers_of(data, Fold(tags, part, 2, 0), probe)
    swapped = answers_of(data, Fold(tags[:, ::-1].copy(), part, 2, 0), probe)
    np.testing.assert_allclose(both, swapped[:, ::-1], atol=1e-6)


def test_unknown_tags_count_nowhere():
    logits, target = torch.randn(1, 4, 3), torch.tensor([[[1, 0, -1], [0, -1, -1], [-1, -1, -1], [1, 1, 0]]])
    known = target >= 0
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], target[known].float())
    torch.testing.assert_close(probe_loss(logits, target, "multilabel"), expected)
    other = torch.where(known, logits, 100.0)
    torch.testing.assert_close(probe_loss(other, target, "multilabel"), expected)
    assert probe_loss(logits, torch.full_like(target, -1), "multilabel") == 0


# --- missing labels

@pytest.mark.parametrize("loss", ["softmax", "multilabel"])
def test_items_without_a_label_take_no_part(loss):
    data, x, part = points()
    label = (x[:, 0] > 0).astype(int) if loss == "softmax" else np.stack([x[:, 0] > 0, x[:, 1] > 0], 1).astype(int)
    unknown = np.random.default_rng(1).random(len(x)) < 0.3
    label[unknown] = -1
    probe = Probe(5e-3, 20, 20, epoch_items=640, loss=loss)
    answer = answers_of(data, Fold(label, part, 2, 0), probe)
    left_out = answers_of(data, Fold(label, np.where(unknown, -1, part), 2, 0), probe)
    assert len(answer) == ((part == TEST) & ~unknown).sum() and np.array_equal(answer, left_out)


def test_a_fold_without_labels_says_so():
    data, x, part = points()
    for label in (np.where(part == VALID, -1, 0), np.where(part == TRAIN, -1, 0)):
        with pytest.raises(VocalrepError, match="repetition 3 has .* labelled excerpts to train"):
            train_probes(data, [Fold(label, part, 2, 3)], PLAIN, device="cpu")


# --- layers, the exact probe

def test_one_layer_is_no_choice():
    data = invent(singer=1.0)
    one = dataclasses.replace(data, vectors=data.vectors[:, None])
    fold, probe = artist_folds(data)[0], dataclasses.replace(PLAIN, epochs=5, standardise=True)
    np.testing.assert_allclose(answers_of(one, fold, probe), answers_of(data, fold, probe), atol=1e-6)


def test_the_layer_that_knows_is_found():
    data = invent(singer=0.8, dim=24)
    noise = np.random.default_rng(1).normal(size=(2, *data.vectors.shape)).astype(np.float32)
    layered = dataclasses.replace(data, vectors=np.stack([noise[0], data.vectors, noise[1]], 1))
    averaged = dataclasses.replace(data, vectors=layered.vectors.mean(1))
    fold, probe = artist_folds(data)[0], Probe(1e-2, 30, 30, epoch_items=640, start="zero")
    truth = fold.label[data.clip[fold.part[data.clip] == TEST]]
    right = [(answers_of(own, fold, probe).argmax(1) == truth).mean() for own in (layered, averaged)]
    assert right[0] > right[1]


def test_exact_probe_ignores_scale_and_offset():
    data = invent(singer=0.7)
    moved = dataclasses.replace(data, vectors=50 * data.vectors + 3)
    fold = artist_folds(data)[0]
    np.testing.assert_allclose(fit_exact(data, fold), fit_exact(moved, fold), atol=5e-3)


def test_exact_probe_of_one_known_class():
    data = invent(artists=3, clips=4)
    fold = artist_folds(data)[0]
    answer = fit_exact(data, dataclasses.replace(fold, label=np.where(fold.part == TRAIN, 1, fold.label)))
    assert (answer[:, 1] == 1).all() and answer.sum() == len(answer)


@pytest.mark.parametrize("change", [dict(loss="hinge"), dict(start="he"), dict(hidden=8, start="zero"),
                                    dict(unit="song"), dict(tie="last")])
def test_unknown_words_of_a_probe(change):
    with pytest.raises(VocalrepError, match="unknown .* of a probe"):
        dataclasses.replace(PLAIN, **change)
