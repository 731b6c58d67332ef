"Excerpts in order, drawn artists, folds: what may be in which part, and what does not depend on what."
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.evaluation.folds import (
    TEST, TRAIN, VALID, Fold, arrange, arrange_fragments, artist_folds, clips_of, excerpts_of, gender_folds,
    segments_of, singer_folds, split_clips)
from vocalrep.project import VocalrepError


def invent(artists=12, clips=5, segments=2, dim=4, seed=0):
    "Places and embeddings of artists with so many clips (a number, or one per artist)."
    clips = [clips] * artists if isinstance(clips, int) else clips
    rows = [dict(clip=f"{a:03d}-{c:03d}", artist=f"artist {a:03d}", gender=("female", "male")[a % 2], offset=k, s=s)
            for a, n in enumerate(clips) for c in range(n) for s in range(segments) for k in range(5)]
    places = pd.DataFrame(rows)
    places["row"] = places.groupby(["clip", "s"], sort=False).ngroup()
    vectors = np.random.default_rng(seed).normal(size=(len(places), dim)).astype(np.float32)
    return places.drop(columns="s"), vectors


def recordings(sizes, pieces=2):
    "Fragments of singers with so many recordings, and vectors."
    rows = [dict(name=f"s{i}/song{c}_{p}.wav", artist=f"s{i}", clip=f"s{i}/song{c}")
            for i, n in enumerate(sizes) for c in range(n) for p in range(pieces)]
    return pd.DataFrame(rows), np.random.default_rng(0).normal(size=(len(rows), 3)).astype(np.float32)


def same_folds(first, second):
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one.label, two.label) and np.array_equal(one.part, two.part)


# --- excerpts

@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_excerpts_are_sorted(shape):
    places, _ = invent(3, [2, 1, 3])
    vectors = np.random.default_rng(1).normal(size=(len(places), *shape))
    order = np.random.default_rng(2).permutation(len(places))
    data = arrange(places.iloc[order], vectors[order])
    assert data.vectors.dtype == np.float32 and np.array_equal(data.vectors, vectors.astype(np.float32))
    assert list(data.clips["clip"]) == sorted(set(places["clip"])) and list(data.clips.segments) == [2] * 6
    assert np.array_equal(data.clip, np.repeat(np.arange(6), 10)) and np.array_equal(data.first, np.arange(0, 60, 5))


def test_vectors_that_are_in_order_are_not_copied():
    places, vectors = invent(2, 2)
    assert np.shares_memory(arrange(places, vectors).vectors, vectors)


def test_fragments_are_segments_of_their_own():
    table, vectors = recordings([2, 1], pieces=3)
    order = np.random.default_rng(0).permutation(len(table))
    data = arrange_fragments(table.iloc[order].assign(row=7, offset=3), vectors[order])  # rows and offsets of a store
    assert len(data.first) == len(table) and (data.size == 1).all()
    assert np.array_equal(data.vectors, vectors)


def infinite(places, vectors):
    vectors = vectors.copy()
    vectors[3, 0] = np.inf
    return places, vectors


@pytest.mark.parametrize("spoil, said", [
    (lambda p, v: (p, v[:-1]), "one embedding per excerpt"), (lambda p, v: (p[:0], v[:0]), "0 places"),
    (lambda p, v: (p, v[:, 0]), "shape"),
    (lambda p, v: (p.drop(columns=["artist", "row"]), v), "without column artist, row"),
    (infinite, "NaN or infinite embeddings in 1 clips, the first is '000-000'")])
def test_what_cannot_be_arranged_is_said(spoil, said):
    with pytest.raises(VocalrepError, match=said):
        arrange(*spoil(*invent(3, 2)))


def test_fragments_need_their_columns():
    table, vectors = recordings([3])
    with pytest.raises(VocalrepError, match="without name"):
        arrange_fragments(table.drop(columns="name"), vectors)
    with pytest.raises(VocalrepError, match="fragments come first"):
        arrange_fragments(vectors, table)
    with pytest.raises(VocalrepError, match="one embedding per excerpt"):
        arrange_fragments(table, vectors[:-1])


# --- artists

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=12), st.floats(0.05, 1), st.integers(0, 99))
def test_split_clips(sizes, fraction, seed):
    artists = np.repeat(np.arange(len(sizes)), sizes)
    if len(artists) < 3:
        return
    part, whole = (split_clips(artists, p, np.random.default_rng(seed)) for p in (fraction, 1.0))
    assert all((part == p).any() for p in (TRAIN, VALID, TEST))
    assert np.array_equal(part == TEST, whole == TEST)  # the test stays
    assert not (part == TRAIN)[whole == TEST].any() and (whole >= 0).all()
    n = len(artists)
    if n >= 10:
        assert (whole == TRAIN).sum() == int(0.8 * n + 1e-9) and (whole == TEST).sum() == n - int(0.9 * n + 1e-9)
        assert (part == TRAIN).sum() == max(1, min(int(0.8 * fraction * n + 1e-9), (whole == TRAIN).sum()))
    if n < 10 * len(sizes) and (whole == TRAIN).sum() >= len(sizes):
        assert set(artists[whole == TRAIN]) == set(artists)  # few clips: everybody is heard in training


def test_large_corpora_are_split_at_random():
    artists = np.repeat(np.arange(10), [1] + [20] * 9)
    held_out = [split_clips(artists, 1.0, np.random.default_rng(seed))[0] != TRAIN for seed in range(300)]
    assert 0.1 < np.mean(held_out) < 0.3  # even an only clip may be asked


def test_artist_folds_weigh_artists_by_their_segments():
    data = arrange(*invent(clips=[1] * 60 + [12] * 10, dim=2))
    rich = [f"artist {a:03d}" for a in range(60, 70)]
    folds = artist_folds(data, artists=10, repetitions=200)
    share = np.mean([np.isin(data.clips.artist[fold.label >= 0].unique(), rich).mean() for fold in folds])
    assert 0.5 < share < 0.75  # 2/3 of the segments; 1/7 of the artists


def test_clips_without_an_artist_take_no_part():
    places, vectors = invent(8, 4)
    places.loc[places["clip"].isin(["002-001", "005-000"]), "artist"] = None
    folds, (known, _) = artist_folds(arrange(places, vectors)), singer_folds(arrange(places, vectors), 4)
    gone = arrange(places, vectors).clips["clip"].isin(["002-001", "005-000"]).to_numpy()
    for fold in (*folds, *known, *gender_folds(arrange(places, vectors))):
        assert (fold.label[gone] == -1).all() and (fold.part[gone] == -1).all() and (fold.part[~gone] >= 0).all()
        assert fold.label.max() == fold.classes - 1
    nobody = arrange(places.assign(artist=None), vectors)
    assert artist_folds(nobody) == [] and gender_folds(nobody) == []
    assert singer_folds(nobody)[0][0].classes == 0


# --- gender

def test_gender_folds():
    data = arrange(*invent(artists=27, clips=3, dim=2))
    folds = gender_folds(data)
    assert len(folds) == 10 and np.array_equal(sum((f.part == TEST).astype(int) for f in folds), np.ones(81))
    for fold in folds:
        heard = [set(data.clips.artist[fold.part == part]) for part in (TRAIN, VALID, TEST)]
        assert sum(map(len, heard)) == len(set.union(*heard)) == 27
        assert 2 <= len(heard[2]) <= 4 and set(fold.label[fold.part == TEST]) == {0, 1}


def test_two_artists_of_a_gender_make_two_folds():
    data = arrange(*invent(artists=4, clips=5))
    folds = gender_folds(data)
    assert len(folds) == 2 and all((fold.part == VALID).sum() == 2 for fold in folds)  # a fifth of ten training clips
    assert gender_folds(arrange(*invent(artists=3, clips=5))) == []


# --- singers

@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(3, 6), st.integers(0, 99))
def test_folds_never_share_a_recording(sizes, wanted, seed):
    data = arrange_fragments(*recordings(sizes))
    folds, notes = singer_folds(data, wanted, seed)
    size = data.clips.groupby("artist")["clip"].transform("size").to_numpy()
    label, part = folds[0].label, np.array([fold.part for fold in folds])
    assert ((label < 0) == (size < 3)).all() and ((part < 0) == (label < 0)).all()
    known = part[:, label >= 0]
    assert ((known == TEST).sum(0) == 1).all() and ((known == VALID).sum(0) == 1).all()
    for singer in set(label) - {-1}:
        assert all((p[label == singer] == TRAIN).any() for p in part)  # taught in every fold
    if (label >= 0).any():
        assert all({TRAIN, VALID, TEST} <= set(p) for p in part)
    if min(sizes) >= wanted:
        assert len(part) == wanted and not notes
        assert all((p[label == s] == TEST).any() for p in part for s in set(label))


def test_uneven_corpora_say_so():
    _, notes = singer_folds(arrange_fragments(*recordings([2, 4, 8, 8])))
    assert notes == ["1 singers with fewer than 3 recordings left out",
                     "1 singers with fewer than 5 recordings, not in every test"]
    with pytest.raises(VocalrepError, match="three or more"):
        singer_folds(arrange_fragments(*recordings([4, 4])), 2)


# --- the same draws for everybody

def test_draws_depend_on_places_alone():
    places, vectors = invent(artists=60, clips=3)
    other = np.random.default_rng(5).normal(size=(len(places), 7))
    order = np.random.default_rng(6).permutation(len(places))
    one, two = arrange(places, vectors), arrange(places.iloc[order], other[order])
    same_folds(artist_folds(one), artist_folds(two))
    same_folds(gender_folds(one), gender_folds(two))
    same_folds(singer_folds(one)[0], singer_folds(two)[0])
    assert not np.array_equal(artist_folds(one)[0].label, artist_folds(one, seed=43)[0].label)
    assert not np.array_equal(singer_folds(one)[0][0].part, singer_folds(one, seed=1)[0][0].part)


def test_unknown_labels_are_in_no_part():
    data = arrange(*invent(4, 1))
    fold = Fold(np.array([0, -1, 1, 0]), np.array([TRAIN, TRAIN, TEST, -1]), 2, 0)
    assert list(clips_of(fold, TRAIN)) == [True, False, False, False]
    assert list(excerpts_of(data, fold, TEST)) == [*range(20, 30)] and list(segments_of(data, fold, TRAIN)) == [0, 1]
    tags = dataclasses.replace(fold, label=np.array([[1, -1], [-1, -1], [0, 0], [1, 1]]))
    assert list(clips_of(tags, TRAIN)) == [True, False, False, False]
