"Pairs: properties that hold for any step, and every difference between paper and released code."
import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.data.sampling import (POOL_STEPS, RULES, FragmentSampler, PairSampler, choose_artificial, choose_donors, choose_same_artist, first_rows, mix, peak_normalize,
                               remix_gains)

RELEASED, PAPER = RULES["released"], RULES["paper"]


@given(n=st.integers(1, 200), p=st.floats(0, 1), seed=st.integers(0, 99))
def test_exact_hybrid_takes_exactly_its_share(n, p, seed):
    assert choose_artificial(n, p, RELEASED, np.random.default_rng(seed)).sum() == int(p * n)


def test_bernoulli_hybrid_varies_around_its_share():
    counts = [choose_artificial(400, 0.5, PAPER, np.random.default_rng(s)).sum() for s in range(50)]
    assert len(set(counts)) > 5 and abs(np.mean(counts) - 200) < 10


@given(seed=st.integers(0, 99), n=st.integers(2, 60))
def test_donors(seed, n):
    rng = np.random.default_rng(seed)
    clips, candidates = np.arange(90) // 3, np.arange(90)
    rows, artificial = rng.permutation(90)[:n], rng.random(n) < 0.5
    inside, outside = (choose_donors(rows, artificial, candidates, clips, rules, rng) for rules in (RELEASED, PAPER))
    assert (inside[~artificial] == rows[~artificial]).all() and (outside[~artificial] == rows[~artificial]).all()
    assert sorted(inside) == sorted(rows)                                            # released: exchanged inside the step
    assert (clips[outside[artificial]] != clips[rows[artificial]]).all()             # paper: another piece


def test_donors_of_a_single_clip_are_an_error():
    with pytest.raises(VocalrepError, match="two clips"):
        choose_donors(np.arange(3), np.ones(3, bool), np.arange(3), np.zeros(3, int), PAPER, np.random.default_rng(0))


@given(seed=st.integers(0, 99), artists=st.integers(1, 12))
def test_same_artist_partners(seed, artists):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, artists, 80)
    rows = rng.permutation(80)[:30]
    inside = choose_same_artist(rows, rows, labels, rng)
    assert (labels[inside] == labels[rows]).all() and set(inside) <= set(rows)
    other = choose_same_artist(rows, np.arange(80), labels, rng, other=True)
    alone = np.bincount(labels, minlength=artists)[labels[rows]] == 1
    assert (labels[other] == labels[rows]).all() and ((other != rows) | alone).all()


def test_same_artist_partners_are_uniform():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 4 + [1] * 4)
    drawn = choose_same_artist(np.zeros(40_000, int), np.arange(8), labels, rng)
    assert np.allclose(np.bincount(drawn, minlength=8)[:4] / 40_000, 0.25, atol=0.01)


def test_gains():
    w, v = remix_gains(1000, RELEASED, np.random.default_rng(0))
    assert w.min() >= 0.6 and w.max() < 0.8 and np.allclose(v, 1 - w**2)
    assert all((g == 1).all() for g in remix_gains(10, PAPER, np.random.default_rng(0)))


def sampler(store, rules=RELEASED, positive="vocals", p=0.5, level="segment", n=32, **options):
    return PairSampler(store, positive, p, level, rules, n, **options)


def test_hybrid_real_anchor_is_a_remix_or_the_mixture(store):
    remix = sampler(store, dataclasses.replace(RELEASED, real_anchor="remix")).step()
    plain = sampler(store, dataclasses.replace(RELEASED, real_anchor="mixture")).step()
    norms = store.segments.norm_mixture.to_numpy()
    for pairs, expect in ((remix, False), (plain, True)):
        vocals, accompaniment = pairs.anchor
        own = vocals.rows == accompaniment.rows
        as_mixed = np.isclose(vocals.gains, accompaniment.gains) & np.isclose(vocals.gains, 1 / norms[vocals.rows])
        assert own.sum() >= 16 and as_mixed[own].any() == expect
        assert not as_mixed[~own].any()


def test_scaling(store):
    unit = sampler(store, RELEASED, p=0).step()
    recorded = sampler(store, PAPER, p=0).step()
    assert all((layer.gains == 1).all() for layer in (*recorded.anchor, *recorded.positive))
    whole = dataclasses.replace(unit.positive[0], offsets=np.zeros(32, int))
    assert np.allclose(mix(store, (whole,), 80000).norm(dim=1), 1, atol=1e-3)        # each slice divided by its own norm


def test_artist_pairs_come_from_the_step_or_the_corpus(store):
    artists = store.segments.artist.to_numpy()
    inside, outside = (sampler(store, rules, p=0, level="artist", n=8).step() for rules in (RELEASED, PAPER))
    for pairs in (inside, outside):
        assert (artists[pairs.anchor[0].rows] == artists[pairs.positive[0].rows]).all()
    assert set(inside.positive[0].rows) <= set(inside.anchor[0].rows)
    assert not set(outside.positive[0].rows) <= set(outside.anchor[0].rows)


def test_rolling_pool_is_renewed_by_a_fifth(store):
    rolling = sampler(store, p=0, n=1)
    assert len(rolling.pool) == POOL_STEPS < len(rolling.candidates)
    new = 0
    for _ in range(5):
        before = set(rolling.pool)
        assert {rolling.step().anchor[0].rows[0] for _ in range(POOL_STEPS)} <= set(rolling.pool)
        assert len(set(rolling.pool) - before) <= 0.2 * POOL_STEPS
        new += len(set(rolling.pool) - before)
    assert new
    everything = sampler(store, PAPER, p=0, n=1)
    assert {everything.step().anchor[0].rows[0] for _ in range(300)} == set(everything.candidates)


def test_segments_without_vocals_are_for_mixtures_only(store):
    active = store.segments.active_vocals.to_numpy()
    assert active[sampler(store, p=0).candidates].all()
    train = (store.segments.split == "train").to_numpy()
    assert len(sampler(store, positive="mixture", p=0).candidates) == train.sum()


def test_anchor_stems_share_an_offset_and_the_positive_has_its_own(store):
    pairs = sampler(store).step()
    vocals, accompaniment = pairs.anchor
    assert (vocals.offsets == accompaniment.offsets).all() and (vocals.offsets != pairs.positive[0].offsets).any()
    assert vocals.offsets.min() >= 0 and vocals.offsets.max() < 64000


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), steps=st.integers(0, 12))
def test_a_restored_sampler_goes_on(store, seed, steps):
    first = sampler(store, n=2, seed=seed)
    for _ in range(steps):
        first.step()
    second = sampler(store, n=2, seed=seed + 1)
    second.restore(first.state())
    for _ in range(3):
        a, b = first.step(), second.step()
        assert all((x.rows == y.rows).all() and (x.gains == y.gains).all() for x, y in zip(a.anchor + a.positive, b.anchor + b.positive))


def test_missing_split_is_one_error(store):
    with pytest.raises(VocalrepError, match="no segment with vocals in the nowhere split"):
        sampler(store, split="nowhere")


# ---- fragments of vocal tracks ----

SIZE = 400            # samples of a fragment; of a segment: 500


def library(samples, versions=0, split="train", seed=0):
    "The tables of a store of vocal tracks that last so many samples, and of their shifted versions in any order."
    tracks = pd.DataFrame(dict(clip=[f"track {i}" for i in range(len(samples))], split=split, samples=samples))
    shifted = [tracks.assign(original=tracks["clip"], clip=tracks["clip"] + f"~{v}") for v in range(1, versions + 1)]
    clips = pd.concat([tracks, *(table.sample(frac=1, random_state=seed) for table in shifted)], ignore_index=True)
    rows = [(clip, position) for clip, n in zip(clips["clip"], clips.samples) for position in range(-(-n // 500))]
    segments = pd.DataFrame(rows, columns=["clip", "position"])
    track, _, version = zip(*(clip.removeprefix("track ").partition("~") for clip, _ in rows))
    return SimpleNamespace(folder="library", clips=clips, segments=segments, track=np.array(track, int), version=np.array(version), first=segments.position.to_numpy() == 0)


libraries = st.lists(st.integers(1, 1700), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40)
@given(samples=libraries, versions=st.integers(0, 3), batches=st.integers(1, 4), p=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 99), data=st.data())
def test_fragments(samples, versions, batches, p, seed, data):
    batch = data.draw(st.integers(1, len(samples)))
    store, p = library(samples, versions, seed=seed), p if versions else 0.0
    sampler = FragmentSampler(store, SIZE, batches * batch, batch, p, seed=seed)
    order, whole = [], len(samples) // batch * batch
    for _ in range(4):
        pairs = sampler.step()
        sides = [layer for side in (pairs.anchor, pairs.positive) for layer in side]
        tracks = store.track[sides[0].rows]
        order += list(tracks)
        assert len(sides) == 2 and len(tracks) == batches * batch and (store.track[sides[1].rows] == tracks).all()
        for layer in sides:
            assert store.first[layer.rows].all() and (layer.gains == 1).all() and layer.source == "vocals"
            assert (layer.offsets >= 0).all() and (layer.offsets + SIZE <= np.maximum(np.array(samples)[tracks], SIZE)).all()      # never past the track's true end
            changed = store.version[layer.rows] != ""
            assert changed.any() <= (p > 0) and changed.all() >= (p == 1)
    for start in range(0, len(order), batch):
        assert len(set(order[start:start + batch])) == batch                                         # no track twice in a batch
    for start in range(0, len(order) - whole + 1, whole):
        assert len(set(order[start:start + whole])) == whole == sampler.batches_per_epoch * batch    # each once in an epoch, but for the rest that makes no batch


@settings(deadline=None, max_examples=20)
@given(samples=libraries, versions=st.integers(0, 2), before=st.integers(0, 7), seed=st.integers(0, 99))
def test_a_restored_fragment_sampler_goes_on(tmp_path_factory, samples, versions, before, seed):
    make = lambda seed: FragmentSampler(library(samples, versions), SIZE, 3, 1, 0.5 * bool(versions), seed=[seed, 0])
    first, second = make(seed), make(seed + 1)
    for _ in range(before):
        first.step()
    file = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(first.state(), file)
    second.restore(torch.load(file, weights_only=True))                                              # as a checkpoint is read
    for _ in range(3):
        a, b = first.step(), second.step()
        assert all((x.rows == y.rows).all() and (x.offsets == y.offsets).all() for x, y in zip(a.anchor + a.positive, b.anchor + b.positive))


def test_every_place_in_a_track_is_equally_likely_and_the_two_fragments_are_independent():
    sampler = FragmentSampler(library([SIZE + 3, SIZE + 1, SIZE]), SIZE, 3000, 3)
    pairs = sampler.step()
    tracks = pairs.anchor[0].rows                                                                    # one segment each: rows are tracks
    first, second = pairs.anchor[0].offsets, pairs.positive[0].offsets
    assert set(first[tracks == 2]) == {0} and set(first[tracks == 1]) == {0}                         # released code: [0, max(T - size, 1))
    table = np.histogram2d(first[tracks == 0], second[tracks == 0], bins=[[0, 1, 2, 3]] * 2)[0] / 1000
    assert np.allclose(table, 1 / 9, atol=0.05)


def test_shifted_fragments_come_as_often_as_asked_and_from_every_version():
    store = library([1000] * 10, versions=3)
    pairs = FragmentSampler(store, SIZE, 4000, 10, p_shifted=0.3).step()
    version = [store.version[side[0].rows] for side in (pairs.anchor, pairs.positive)]
    for names in version:
        share = pd.Series(names).value_counts(normalize=True)
        assert np.allclose(share[["", "1", "2", "3"]], [0.7, 0.1, 0.1, 0.1], atol=0.03)
    assert abs(((version[0] != "") & (version[1] != "")).mean() - 0.09) < 0.03                       # each fragment for itself


def test_only_tracks_of_the_split():
    store = library([1000] * 9, versions=2, split=["train", "valid", "test"] * 3)
    store.clips.loc[store.clips.original.notna(), "split"] = "train"                                 # whatever a pool says of itself
    for number, split in enumerate(("train", "valid", "test")):
        rows = FragmentSampler(store, SIZE, 3, 3, split=split).step().anchor[0].rows
        assert set(store.track[rows]) == {number, number + 3, number + 6} and (store.version[rows] == "").all()


def test_first_rows_against_a_loop():
    store = library([10, 1600, 501, 500], versions=2, seed=3)
    expected = [next(i for i, s in enumerate(store.segments.itertuples()) if s.clip == name and s.position == 0) for name in store.clips["clip"]]
    assert first_rows(store).tolist() == expected


def test_what_a_fragment_sampler_cannot_do_is_one_error():
    with pytest.raises(VocalrepError, match="a batch of 4 pairs needs 4 vocal tracks, and the train split of library has 3"):
        FragmentSampler(library([1000] * 3), SIZE, 8, 4)
    with pytest.raises(VocalrepError, match="valid split of library has 0"):
        FragmentSampler(library([1000] * 3), SIZE, 8, 1, split="valid")


@pytest.mark.parametrize("versions, lost", [
    (1, ["track 1~1"]),
    (0, []),
    (2, ["track 1~2"]),
])
def test_a_pool_with_gaps_is_one_error(versions, lost):
    store = library([1000] * 3, versions)
    store.clips = store.clips[~store.clips["clip"].isin(lost)]
    with pytest.raises(VocalrepError, match="join the pool"):
        FragmentSampler(store, SIZE, 3, 3, p_shifted=0.5)


def test_no_track_twice_whatever_the_step():
    try:
        sampler = FragmentSampler(library([1000] * 8), SIZE, 10, 4)
    except VocalrepError:
        return
    for _ in range(50):
        rows = sampler.step().anchor[0].rows
        assert all(len(set(rows[k:k + 4])) == 4 for k in (0, 4))


def test_short_tracks_are_padded_with_zeros_at_the_end(dry):
    seconds = [1.0, 1.7, 2.5, 3.999, 4.0, 5.3, 5.7, 11.0]
    store = dry([(f"s{i}", "train", s) for i, s in enumerate(seconds)], rate=1000)
    assert store.clips.samples.tolist() == [1000, 1700, 2500, 3999, 4000, 5000, 5700, 11000]          # 0.3 s after the first segment are dropped
    sampler = FragmentSampler(store, 4000, 80, 8)
    pairs, length = sampler.step(), store.clips.samples.to_numpy()
    for layers in (pairs.anchor, pairs.positive):
        waves = mix(store, layers, 4000).numpy()
        for wave, row, offset in zip(waves, layers[0].rows, layers[0].offsets):
            track = store.clips.index[store.clips["clip"] == store.segments["clip"][row]][0]
            there = min(length[track], 4000)
            assert (wave[:there] > 0).all() and not wave[there:].any()                               # these voices never pause
            assert offset == 0 or there == 4000
            whole = store.excerpts(np.array([row]), np.array([0]), int(length[track]), "vocals")[0].numpy()
            assert (wave[:there] == whole[offset:offset + there]).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9))
def test_peak_normalize(values):
    wave = torch.tensor([values, [-v for v in values]])
    peak = max(map(abs, values))
    assert torch.equal(peak_normalize(wave), wave / peak if peak else wave)


def test_peak_normalize_keeps_silence_and_keeps_rows_apart():
    waves = torch.tensor([[0.0, 0.0], [0.5, -2.0], [float("nan"), 1.0]])
    out = peak_normalize(waves)
    assert out[:2].tolist() == [[0.0, 0.0], [0.25, -1.0]] and waves[1].tolist() == [0.5, -2.0]        # a new tensor
