"What is voice and what is everything else: the map, its definition, and its edges."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import sqrtm

from vocalrep.evaluation.backend import BACKENDS, LABELS, SHRINKAGE, fit_backend, fit_backends, within_class_covariance
from vocalrep.evaluation.embedding import clip_means
from vocalrep.evaluation.metrics import NORMALISATIONS, equal_error_rate, pairwise_scores
from vocalrep.project import VocalrepError


def invent(singers=12, clips=5, excerpts=4, dim=10, seed=0, microphone=4.0):
    "Excerpts: a voice, a microphone per clip that is louder than the voice, and noise."
    rng, count = np.random.default_rng(seed), singers * clips * excerpts
    clip = np.arange(count) // excerpts
    x = rng.normal(size=(singers, dim))[clip // clips] + 0.5 * rng.normal(size=(count, dim))
    x += microphone * rng.normal(size=(singers * clips, 1))[clip] * np.eye(dim)[0]
    artist = [f"singer {c // clips}" for c in clip]
    places = pd.DataFrame(dict(clip=[f"clip {c}" for c in clip], artist=artist, gender=None))
    return places, x.astype(np.float32)


def cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def by_loops(x, classes):
    x, classes = np.asarray(x, float), np.asarray(classes)
    total = np.zeros((x.shape[1], x.shape[1]))
    for i in range(len(x)):
        away = x[i] - x[classes == classes[i]].mean(0)
        total += np.outer(away, away)
    return total / len(x)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(2, 5), st.integers(1, 30), st.floats(0.01, 10), st.integers(0, 99))
def test_it_is_the_whitening_of_the_shrunk_covariance(singers, clips, dim, shrinkage, seed):
    "By loops and by the symmetric root of the inverse; few clips and more dimensions than clips among them."
    rng, classes = np.random.default_rng(seed), np.repeat(np.arange(singers), clips)
    x, y = rng.normal(size=(singers * clips, dim)) * rng.uniform(0.1, 5, dim), rng.normal(size=(7, dim))
    covariance = by_loops(x, classes)
    np.testing.assert_allclose(within_class_covariance(x, classes), covariance, atol=1e-9)
    shrunk = covariance + shrinkage * np.trace(covariance) / dim * np.eye(dim)
    whitened = (y - x.mean(0)) @ np.real(sqrtm(np.linalg.inv(shrunk)))
    mapped = fit_backend(x, classes, shrinkage).apply(y)
    np.testing.assert_allclose(mapped @ mapped.T, whitened @ whitened.T, rtol=1e-5, atol=1e-7)


def test_members_of_a_class_differ_by_one_in_every_direction():
    places, x = invent()
    mapped = fit_backend(x, places.artist, 0)(x)
    np.testing.assert_allclose(within_class_covariance(mapped, places.artist), np.eye(10), atol=1e-6)


def test_where_all_directions_are_alike_it_changes_no_cosine():
    corners = np.concatenate([np.eye(6), -np.eye(6)])
    x, y = np.concatenate([corners, corners + 2]), np.random.default_rng(0).normal(size=(9, 6))
    for shrinkage in (0, 0.3, 5):
        backend = fit_backend(x, np.repeat(["a", "b"], 12), shrinkage)
        np.testing.assert_allclose(cosines(backend.apply(y)), cosines(y - x.mean(0)), atol=1e-12)
        np.testing.assert_allclose(cosines(backend(y)), cosines(y - y.mean(0)), atol=1e-12)


def test_what_is_scored_decides_nothing():
    "The map is of other singers; a collection is moved to its own mean, and two recordings by that of the training."
    (places, x), (_, others) = invent(), invent(seed=1)
    backend = fit_backend(x, places.artist)
    np.testing.assert_allclose(backend.apply(others[:2]), backend.apply(others)[:2])
    np.testing.assert_allclose(backend(others), (others - others.mean(0, dtype=float)) @ backend.matrix)
    np.testing.assert_allclose(backend(others + np.float32(5)), backend(others), atol=1e-4)


def test_the_twin_needs_no_singers_and_the_first_no_excerpts():
    places, x = invent()
    found = fit_backends([(places, x)])
    clips, means = clip_means(places, x)
    assert tuple(found) == BACKENDS and set(LABELS) == {*NORMALISATIONS, *BACKENDS}
    for name, rows, classes in (("wccn", means, clips.artist), ("wccn-clips", x, places["clip"])):
        expected = fit_backend(rows, classes, SHRINKAGE)
        np.testing.assert_array_equal(found[name].matrix, expected.matrix)
    nameless = fit_backends([(places.assign(artist=places["clip"]), x)], clips=False)["wccn"]
    np.testing.assert_array_equal(nameless.matrix, found["wccn-clips"].matrix)


def test_two_sources_are_two_ways_of_hearing_one_singer():
    places, x = invent()
    louder = x + np.float32(3)
    found = fit_backends([(places, x), (places, louder)])["wccn"]
    means = np.concatenate([clip_means(places, v)[1] for v in (x, louder)])
    expected = fit_backend(means, 2 * clip_means(places, x)[0].artist.tolist())
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    moved, before = (np.linalg.norm(b.apply(x) - b.apply(louder), axis=1) for b in
                     (found, fit_backends([(places, x)])["wccn"]))
    assert (moved < 0.5 * before).all()                                      # what the sources differ in is played down


def test_it_learns_what_a_microphone_does_from_singers_but_not_from_clips():
    places, x = invent(singers=40, seed=0)
    who, others = clip_means(*invent(singers=20, seed=1))
    found = fit_backends([(places, x)])
    eer = {name: equal_error_rate(*pairwise_scores(v, who.artist)) for name, v in
           {"center": others - others.mean(0), **{name: b(others) for name, b in found.items()}}.items()}
    assert eer["wccn"] < 0.5 * eer["center"] and eer["wccn"] < 0.5 * eer["wccn-clips"]


@pytest.mark.parametrize("wrong, said", [
    (lambda x: fit_backend(x, np.arange(len(x))), "class of its own"),
    (lambda x: fit_backend(x, np.zeros(3)), "need as many classes, found 3"),
    (lambda x: fit_backend(np.ones_like(x), np.arange(len(x)) // 2), "all equal"),
    (lambda x: fit_backend(x, np.arange(len(x)) // 2, -0.1), "shrinkage of -0.1"),
    (lambda x: fit_backend(x, np.arange(len(x)) // 2, np.nan), "shrinkage of nan"),
    (lambda x: fit_backend(np.where(x > 1, np.nan, x), np.arange(len(x)) // 2), "NaN or infinite"),
    (lambda x: fit_backend(x, np.arange(len(x)) // 2)(x[:, :3]), "10 dimensions, found 3"),
])
def test_wrong_input(wrong, said):
    with pytest.raises(VocalrepError, match=said):
        wrong(invent()[1])
