"""Gender, artist and similarity tasks: splits, paired draws, parity with plain implementations, small corpora, bad input."""
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.evaluation import probes
from vocalrep.evaluation.metrics import equal_error_rate, mean_normalized_rank
from vocalrep.evaluation.probes import (PROBE_PROTOCOLS, SCORE_COLUMNS, TEST, TRAIN, VALID, arrange, artist_folds, average_windows, draw_pairs, fit_exact, gender_folds, identify_artists, identify_gender,
                             probe_protocol, similarity_trials, split_clips, train_linear)
from vocalrep.project import VocalrepError

RELEASED, PAPER = PROBE_PROTOCOLS["released"], PROBE_PROTOCOLS["paper"]
HASTY = dataclasses.replace(RELEASED, artist_epochs=3, gender_epochs=3, least_updates=8, gender_epoch=512, trials=20)


def invent(artists=12, clips=5, segments=2, dim=16, singer=3.0, sex=0.0, seed=0):
    "Places and embeddings of artists with so many clips (a number, or one per artist)."
    rng, rows, row = np.random.default_rng(seed), [], 0
    clips = [clips] * artists if isinstance(clips, int) else clips
    for a, n in enumerate(clips):
        for c in range(n):
            for _ in range(segments):
                rows += [dict(clip=f"{a:03d}-{c:03d}", artist=f"artist {a:03d}", gender=("female", "male")[a % 2], row=row, offset=k * 16000) for k in range(5)]
                row += 1
    places = pd.DataFrame(rows)
    who = places.artist.str[-3:].astype(int).to_numpy()
    vectors = singer * rng.normal(size=(len(clips), dim))[who] + rng.normal(size=(len(places), dim)) + sex * np.where(who % 2, 1, -1)[:, None]
    return places, vectors.astype(np.float32)


def identical(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), atol=1e-5)


# --- splits

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=12), st.floats(0.05, 1), st.integers(0, 99))
def test_split_clips(sizes, fraction, seed):
    artists = np.repeat(np.arange(len(sizes)), sizes)
    if len(artists) < 3:
        return
    part, whole = (split_clips(artists, p, np.random.default_rng(seed)) for p in (fraction, 1.0))
    assert all((part == p).any() for p in (TRAIN, VALID, TEST))
    assert np.array_equal(part == TEST, whole == TEST)                                        # the test stays
    assert not (part == TRAIN)[whole == TEST].any() and (whole >= 0).all()
    n = len(artists)
    if n >= 10:
        assert (whole == TRAIN).sum() == int(0.8 * n + 1e-9) and (whole == TEST).sum() == n - int(0.9 * n + 1e-9)
        assert (part == TRAIN).sum() == max(1, min(int(0.8 * fraction * n + 1e-9), (whole == TRAIN).sum()))
    if n < 10 * len(sizes) and (whole == TRAIN).sum() >= len(sizes):
        assert set(artists[whole == TRAIN]) == set(artists)                                   # few clips: everybody is heard in training


def test_large_corpora_are_split_at_random():
    artists = np.repeat(np.arange(10), [1] + [20] * 9)
    held_out = [split_clips(artists, 1.0, np.random.default_rng(seed))[0] != TRAIN for seed in range(300)]
    assert 0.1 < np.mean(held_out) < 0.3                                                      # the released rule: even an only clip may be asked


def test_artist_folds_weigh_artists_by_their_segments():
    data = arrange(*invent(clips=[1] * 60 + [12] * 10, dim=2))
    protocol = dataclasses.replace(RELEASED, artists=10, repetitions=200)
    rich = np.mean([np.isin(np.unique(data.clips.artist[fold.label >= 0]), [f"artist {a:03d}" for a in range(60, 70)]).mean() for fold in artist_folds(data, protocol)])
    assert 0.5 < rich < 0.75                                                                  # 2/3 of the segments; 1/7 of the artists


def test_gender_folds():
    data = arrange(*invent(artists=27, clips=3, dim=2))
    folds = gender_folds(data, RELEASED)
    assert len(folds) == 10 and np.array_equal(sum((f.part == TEST).astype(int) for f in folds), np.ones(81))
    for fold in folds:
        heard = [set(data.clips.artist[fold.part == part]) for part in (TRAIN, VALID, TEST)]
        assert sum(map(len, heard)) == len(set.union(*heard)) == 27
        assert 2 <= len(heard[2]) <= 4 and set(fold.label[fold.part == TEST]) == {0, 1}


def test_unknown_genders_are_left_out():
    places, vectors = invent(artists=24, clips=3)
    places.loc[places.artist < "artist 004", "gender"] = None
    places.loc[places.artist == "artist 005", "gender"] = "other"
    scores = identify_gender(places, vectors, HASTY)
    assert set(scores.artists) == {19} and scores.reduced.str.contains("1 rarer values").all()
    only = identify_gender(places.drop(columns="gender"), vectors, HASTY)
    assert only.value.isna().all() and only.reduced.str.contains("none known").all()


# --- the same draws for everybody

def test_draws_depend_on_places_alone():
    places, vectors = invent(artists=60, clips=3, dim=4)
    other = np.random.default_rng(5).normal(size=(len(places), 7)).astype(np.float32)
    order = np.random.default_rng(6).permutation(len(places))
    a, b = arrange(places, vectors), arrange(places.iloc[order], other[order])
    for make in (artist_folds, gender_folds):
        for one, two in zip(make(a, RELEASED), make(b, RELEASED), strict=True):
            assert np.array_equal(one.label, two.label) and np.array_equal(one.part, two.part)
    for one, two in zip(draw_pairs(a, RELEASED), draw_pairs(b, RELEASED)):
        assert np.array_equal(one, two)
    assert not np.array_equal(draw_pairs(a, RELEASED)[0], draw_pairs(a, RELEASED, seed=73)[0])


@pytest.mark.parametrize("task", [identify_artists, identify_gender, similarity_trials])
def test_order_of_rows_and_repetition_change_nothing(task):
    places, vectors = invent()
    order = np.random.default_rng(0).permutation(len(places))
    first = task(places, vectors, HASTY)
    identical(first, task(places, vectors, HASTY))
    identical(first, task(places.iloc[order], vectors[order], HASTY))
    assert tuple(first.columns) == SCORE_COLUMNS and first.value.between(0, 1).all()


def test_memory_maps_are_read(tmp_path):
    places, vectors = invent()
    np.save(tmp_path / "v.npy", vectors)
    identical(identify_artists(places, vectors, HASTY), identify_artists(places, np.load(tmp_path / "v.npy", mmap_mode="r"), HASTY))


# --- the linear probe

def test_repetitions_do_not_touch_each_other():
    data, protocol = arrange(*invent(singer=1.5, dim=30)), dataclasses.replace(RELEASED, patience=3)
    folds = artist_folds(data, protocol)
    together, history = train_linear(data, folds, 40, 640, protocol, device="cpu")
    stopped = np.isfinite(history).sum(0)
    assert len(set(stopped)) > 1                                                              # they stop at different times, and leave
    for r, fold in enumerate(folds):
        (alone,), own = train_linear(data, [fold], 40, 640, protocol, device="cpu")
        np.testing.assert_allclose(alone, together[r], atol=1e-4)
        np.testing.assert_array_equal(own[:, 0], history[:stopped[r], r])


def test_patience_and_best_epoch():
    data = arrange(*invent(singer=0.6, dim=30))
    folds = artist_folds(data, RELEASED)
    answers, history = train_linear(data, folds, 100, 640, RELEASED, device="cpu")
    for r in range(5):
        own = history[np.isfinite(history[:, r]), r]
        best = int(np.argmax(own))
        assert len(own) == min(100, best + 1 + RELEASED.patience)
        (at_best,), _ = train_linear(data, folds[r:r + 1], best + 1, 640, RELEASED, device="cpu")
        np.testing.assert_allclose(at_best, answers[r], atol=1e-4)


@pytest.mark.parametrize("binary", [False, True])
def test_against_a_plain_loop(binary):
    data = arrange(*invent(artists=8, clips=4, singer=1.0, sex=0.4))
    fold = (gender_folds if binary else artist_folds)(data, RELEASED)[1]
    (answer,), history = train_linear(data, [fold], 5, 320, RELEASED, binary, device="cpu")
    rng = np.random.default_rng([42, fold.repetition, 1])
    layer = torch.nn.Linear(16, 1 if binary else 8)
    limit = (6 / (16 + layer.out_features)) ** 0.5
    layer.weight.data = torch.from_numpy(rng.uniform(-limit, limit, (16, layer.out_features))).float().T.contiguous()
    torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(layer.parameters(), lr=5e-4, eps=1e-7)
    x, y = torch.from_numpy(data.vectors), torch.tensor(fold.label[data.clip])
    own, best, kept = np.flatnonzero(fold.part[data.segment_clip] == TRAIN), -1, None
    for epoch in range(5):
        rows = probes._epoch(data, own, 320, rng)
        assert (fold.part[data.clip[rows]] == TRAIN).all()
        for i in range(0, 320, 64):
            z, target = layer(x[rows[i:i + 64]]), y[rows[i:i + 64]]
            loss = torch.nn.BCEWithLogitsLoss()(z[:, 0], target.float()) if binary else torch.nn.CrossEntropyLoss()(z, target)
            adam.zero_grad()
            loss.backward()
            adam.step()
        z = layer(x).detach()
        p = torch.stack([1 - z[:, 0].sigmoid(), z[:, 0].sigmoid()], 1).numpy() if binary else z.softmax(1).numpy()
        right = [p[data.clip == c].mean(0).argmax() == fold.label[c] for c in np.flatnonzero(fold.part == VALID)]
        assert history[epoch, 0] == np.mean(right)
        if np.mean(right) > best:
            best, kept = np.mean(right), p[fold.part[data.clip] == TEST]
    np.testing.assert_allclose(answer, kept, atol=1e-5)


def test_an_epoch_visits_every_segment_once():
    data = arrange(*invent())
    segments = np.arange(3, 40)
    rows = probes._epoch(data, segments, 37, np.random.default_rng(0))
    segment_of = np.repeat(np.arange(len(data.first)), data.size)
    assert sorted(segment_of[rows]) == list(segments)
    assert set(rows - data.first[segment_of[rows]]) == set(range(5))                          # any of a segment's excerpts
    assert set(np.bincount(segment_of[probes._epoch(data, segments, 74, np.random.default_rng(0))])[3:]) == {2}


# --- scores

def test_easy_and_hopeless():
    places, vectors = invent(artists=20, clips=6, singer=8.0, sex=20.0)
    protocol = dataclasses.replace(RELEASED, learning_rate=5e-3, least_updates=30, gender_epoch=1920)
    noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    for probe in ("linear", "exact"):
        assert identify_artists(places, vectors, protocol, probe).value.mean() > (0.97 if probe == "exact" else 0.9)      # the linear one stops when its validation is perfect
        assert identify_artists(places, noise, protocol, probe).value.mean() < 0.3
        assert identify_gender(places, vectors, protocol, probe).value.mean() > 0.97
    easy, hopeless = similarity_trials(places, vectors, PAPER), similarity_trials(places, noise, PAPER)
    assert easy[easy.metric == "eer"].value.mean() < 0.01 and easy[easy.metric == "mnr"].value.mean() == pytest.approx(1 / 20, abs=0.01)
    assert hopeless[hopeless.metric == "eer"].value.mean() == pytest.approx(0.5, abs=0.06)
    assert hopeless[hopeless.metric == "mnr"].value.mean() == pytest.approx(0.5 + 0.5 / 20, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from([None, 1, 2, 3, 5, 30]))
def test_windows(sizes, seconds):
    clip = np.repeat(np.arange(len(sizes)), sizes)
    p = np.random.default_rng(len(clip)).random((len(clip), 3))
    mean, first, count = average_windows(p, clip, seconds)
    expected = [p[clip == c][i:i + (seconds or 99)].mean(0) for c, n in enumerate(sizes) for i in range(0, n, seconds or 99)]
    np.testing.assert_allclose(mean, expected)
    assert count.sum() == len(clip) and first[0] == 0


def test_scores_at_each_clip_length():
    places, vectors = invent(singer=0.5, dim=24, clips=8)
    data = arrange(places, vectors)
    scores = identify_artists(places, vectors, HASTY, "exact", seconds=(1, 5, 10, None))
    fold = artist_folds(data, HASTY)[2]
    p, clip = fit_exact(data, fold), data.clip[fold.part[data.clip] == TEST]
    own = scores[(scores.repetition == 2) & (scores.metric == "accuracy")].set_index("seconds").value
    assert own[1.0] == pytest.approx((p.argmax(1) == fold.label[clip]).mean())
    assert own[5.0] == pytest.approx(np.mean([p[i:i + 5].mean(0).argmax() == fold.label[clip[i]] for i in range(0, len(p), 5)]))
    whole = scores[scores.seconds.isna()].set_index(["repetition", "metric"]).value
    pd.testing.assert_series_equal(whole, scores[scores.seconds == 10].set_index(["repetition", "metric"]).value)       # clips last ten seconds
    assert identify_artists(places, vectors, HASTY, "exact", seconds=(20,)).reduced.str.contains("100% of the windows are shorter").all()


def test_low_resource_keeps_the_questions():
    places, vectors = invent(singer=1.0, clips=10)
    scores = identify_artists(places, vectors, HASTY, "exact", fractions=(0.1, 1.0))
    assert (scores[scores.fraction == 0.1].clips.to_numpy() == scores[scores.fraction == 1.0].clips.to_numpy()).all()
    means = scores.groupby("fraction").value.mean()
    assert means[0.1] < means[1.0]
    assert scores[scores.fraction == 0.1].reduced.str.contains("without a training clip").all()


def test_exact_probe_ignores_scale_and_offset():
    places, vectors = invent(singer=0.7)
    data, moved = arrange(places, vectors), arrange(places, 50 * vectors + 3)
    fold = artist_folds(data, RELEASED)[0]
    np.testing.assert_allclose(fit_exact(data, fold), fit_exact(moved, fold), atol=5e-3)


# --- similarity

@pytest.mark.parametrize("protocol", [RELEASED, PAPER])
def test_pairs(protocol):
    data = arrange(*invent(clips=[1, 2, 3, 7, 5, 4], segments=3, dim=2))
    protocol = dataclasses.replace(protocol, trials=3000)
    first, second, negative = draw_pairs(data, protocol)
    artist = data.clips.artist.to_numpy()
    assert (artist[first] == artist[second]).all() and (negative != np.arange(first.shape[1])).all()
    assert ("artist 000" in set(artist[first].ravel())) == protocol.same_clip                # one clip, three segments
    same = pd.Series((first == second).ravel()).groupby(artist[first].ravel()).mean()
    expected = {a: 2 / (3 * n - 1) if protocol.same_clip else 0 for a, n in zip(sorted(set(artist)), [1, 2, 3, 7, 5, 4])}
    for name, share in same.items():
        assert share == pytest.approx(expected[name], abs=0.04)
    seven = first[artist[first] == "artist 003"]                                              # every clip as often
    np.testing.assert_allclose(np.bincount(seven)[np.unique(seven)] / len(seven), 1 / 7, atol=0.03)
    if protocol.negatives == "random":
        assert all(len(set(negative[:, i])) == first.shape[1] - 1 for i in range(first.shape[1]))


@pytest.mark.parametrize("protocol", [RELEASED, PAPER])
@pytest.mark.parametrize("how", ["none", "center", "zscore"])
def test_trials_by_loops(protocol, how):
    places, vectors = invent(singer=0.5, clips=4, segments=1)
    protocol = dataclasses.replace(protocol, trials=5)
    scores = similarity_trials(places, vectors, protocol, [how])
    data = arrange(places, vectors)
    means = pd.DataFrame(vectors).groupby(places["clip"]).mean()
    if how != "none":
        means -= means.mean()
    if how == "zscore":
        means /= means.std(ddof=0)
    x = means.to_numpy(float)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    for trial, (first, second, negative) in enumerate(zip(*draw_pairs(data, protocol))):
        matrix = np.array([[x[i] @ x[j] for j in second] for i in first])
        own = scores[scores.repetition == trial].set_index("metric").value
        assert own["eer"] == pytest.approx(equal_error_rate(np.diag(matrix), [matrix[i, j] for i, j in enumerate(negative)], protocol.eer_rule), abs=1e-9)
        assert own["mnr"] == pytest.approx(mean_normalized_rank(matrix, protocol.rank_base), abs=1e-6)


def test_released_negatives_are_opposite():
    negative = draw_pairs(arrange(*invent(artists=60, clips=2, dim=2)), RELEASED)[2]
    assert np.array_equal(negative, np.tile((np.arange(50) + 25) % 50, (100, 1)))


# --- small corpora and bad input

@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 2), st.integers(0, 9))
def test_no_corpus_is_too_small(clips, segments, seed):
    places, vectors = invent(clips=clips, segments=segments, dim=3, seed=seed)
    hasty = dataclasses.replace(HASTY, artist_epochs=1, gender_epochs=1, least_updates=1, gender_epoch=64, trials=3)
    for protocol in (hasty, dataclasses.replace(hasty, same_clip=False, negatives="random", eer_rule="roc", rank_base="one")):
        for task, options in ((identify_artists, dict(fractions=(0.2, 1.0))), (identify_artists, dict(probe="exact")), (identify_gender, {}), (similarity_trials, {})):
            scores = task(places, vectors, protocol, **options)
            assert tuple(scores.columns) == SCORE_COLUMNS and len(scores) and (scores.reduced != "").all()
            assert scores.value.dropna().between(0, 1).all()
            assert (scores.value.isna() == scores.reduced.str.startswith("not possible")).all()


def test_enough_is_not_reduced():
    places, vectors = invent(artists=60, clips=12, segments=1, dim=4)
    protocol = dataclasses.replace(HASTY, least_updates=2)
    assert set(identify_gender(places, vectors, protocol).reduced) == {""}
    assert set(similarity_trials(places, vectors, dataclasses.replace(PAPER, trials=5)).reduced) == {""}
    artists = identify_artists(places, vectors, protocol).reduced
    assert not artists.str.contains("of 50|per artist|lengthened").any()


@pytest.mark.parametrize("wrong", [
    lambda p, v: identify_artists(p, v[:-1]), lambda p, v: identify_artists(p.drop(columns="artist"), v), lambda p, v: similarity_trials(p[:0], v[:0]), lambda p, v: identify_gender(p, v[:, 0]),
    lambda p, v: similarity_trials(p, np.where(np.arange(len(v))[:, None] == 3, np.inf, v)), lambda p, v: identify_artists(p, v, "cvsm"), lambda p, v: identify_artists(p, v, probe="mlp"),
    lambda p, v: identify_artists(p, v, fractions=(1.5,)), lambda p, v: identify_artists(p, v, fractions=()), lambda p, v: similarity_trials(p, v, normalisations=["whiten"]),
    lambda p, v: similarity_trials(p, v, dataclasses.replace(PAPER, negatives="all")), lambda p, v: probe_protocol("Paper"),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong(*invent(artists=3, clips=3))
