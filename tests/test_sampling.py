"Pairs: properties that hold for any step, and every difference between CVSM's text and its released code."
import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.sampling import (POOL_STEPS, Draw, Layer, PairSampling, choose_artificial, choose_donors,
                                    choose_same_artist, mini_batches, mix, remix_gains)
from vocalrep.data.store import Store
from vocalrep.papers.cvsm.variants import PROTOCOLS
from vocalrep.project import VocalrepError

RELEASED, PAPER = PROTOCOLS["released"].sampling, PROTOCOLS["paper"].sampling


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
    for donors in (inside, outside):
        assert (donors[~artificial] == rows[~artificial]).all()
    assert sorted(inside) == sorted(rows)                                        # released: exchanged inside the step
    assert (clips[outside[artificial]] != clips[rows[artificial]]).all()         # paper: another piece


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


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), size=st.integers(2, 7), at=st.integers(0, 6))
def test_every_other_segment_of_an_artist_is_equally_likely(seed, size, at):
    rng, anchor = np.random.default_rng(seed), at % size
    labels = rng.permutation(np.repeat([0, 1, 2], [size, 3, 5]))                  # in any order of rows
    own, draws = np.flatnonzero(labels == 0), 20_000
    drawn = choose_same_artist(np.full(draws, own[anchor]), rng.permutation(len(labels)), labels, rng, other=True)
    shares = np.bincount(drawn, minlength=len(labels)) / draws
    assert shares[own[anchor]] == 0 and shares[labels != 0].sum() == 0
    assert np.allclose(shares[np.delete(own, anchor)], 1 / (size - 1), atol=0.02)


def test_an_anchor_that_is_no_candidate_has_all_of_them():
    rows, candidates, labels = np.zeros(30_000, int), np.array([1, 2, 3]), np.zeros(4, int)
    drawn = choose_same_artist(rows, candidates, labels, np.random.default_rng(0), other=True)
    assert np.allclose(np.bincount(drawn, minlength=4) / 30_000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.01)


def test_released_partners_are_those_of_earlier_runs():
    digest = hashlib.sha256()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels, rows = rng.integers(0, 1 + seed, 300), rng.permutation(300)[:64]
        digest.update(choose_same_artist(rows, rows, labels, rng).astype("<i8").tobytes())
    assert digest.hexdigest().startswith("288108904146cdaa")


def test_gains():
    w, v = remix_gains(1000, RELEASED, np.random.default_rng(0))
    assert w.min() >= 0.6 and w.max() < 0.8 and np.allclose(v, 1 - w**2)
    assert all((g == 1).all() for g in remix_gains(10, PAPER, np.random.default_rng(0)))


# ---- draws and batches ----

@settings(deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 12), world=st.sampled_from([1, 2, 3]))
def test_ranks_share_whole_mini_batches(n, batch, world):
    batch *= world
    layer = Layer("vocals", np.arange(n), np.zeros(n, int), np.ones(n, np.float32))
    draw = Draw(((layer,), (layer, layer)), dict(silent=np.arange(n) % 2 == 0))
    ranks = [list(mini_batches(draw, batch, rank, world)) for rank in range(world)]
    assert {len(parts) for parts in ranks} == {n // batch}
    together = [np.concatenate([part.views[1][0].rows for part in parts]) for parts in zip(*ranks)]
    assert np.concatenate([*together, []]).tolist() == list(range(n // batch * batch))
    assert all((part.labels["silent"] == (part.views[0][0].rows % 2 == 0)).all() for parts in ranks for part in parts)


def sampler(store, rules=RELEASED, positive="vocals", p=0.5, level="segment", n=32, split="train", seed=0, **options):
    return PairSampling(positive, p, level, rules, **options).build(store, n, n, split, seed)


def test_batches_are_the_mixed_layers_with_their_labels(store):
    pairs = sampler(store)
    draw = pairs.step()
    draw = dataclasses.replace(draw, labels=dict(artist=pairs.artists[draw.views[1][0].rows]))
    pairs.batch = 8
    batches = list(pairs.batches(draw, seed=[0, 0]))                                 # excerpts are never augmented
    assert len(batches) == 4
    for k, layers in enumerate(draw.views):
        assert torch.equal(torch.cat([b.views[k] for b in batches]), mix(store, layers, 16000))
    assert torch.cat([b.labels["artist"] for b in batches]).tolist() == draw.labels["artist"].tolist()


def test_other_lengths_of_excerpts(store):
    pairs = sampler(store, seconds=3.0)
    batch, = pairs.batches(pairs.step())
    assert batch.views[0].shape == (32, 48000)
    assert max(layer.offsets.max() for layer in pairs.step().views[0]) < 32000


# ---- rules ----

def test_hybrid_real_anchor_is_a_remix_or_the_mixture(store):
    norms = store.segments.norm_mixture.to_numpy()
    for anchor, expect in (("remix", False), ("mixture", True)):
        draw = sampler(store, dataclasses.replace(RELEASED, real_anchor=anchor)).step()
        vocals, accompaniment = draw.views[0]
        own = vocals.rows == accompaniment.rows
        as_mixed = np.isclose(vocals.gains, accompaniment.gains) & np.isclose(vocals.gains, 1 / norms[vocals.rows])
        assert own.sum() >= 16 and as_mixed[own].any() == expect
        assert not as_mixed[~own].any()


def test_scaling(store):
    unit = sampler(store, RELEASED, p=0).step()
    recorded = sampler(store, PAPER, p=0).step()
    assert all((layer.gains == 1).all() for layers in recorded.views for layer in layers)
    whole = dataclasses.replace(unit.views[1][0], offsets=np.zeros(32, int))
    assert np.allclose(mix(store, (whole,), 80000).norm(dim=1), 1, atol=1e-3)    # each slice divided by its own norm
    levels = [PairSampling("vocals", 0, "segment", rules).scaling for rules in (RELEASED, PAPER)]
    assert levels == ["unit-norm", "recorded"]


def test_artist_pairs_come_from_the_step_or_the_corpus(store):
    artists = store.segments.artist.to_numpy()
    inside, outside = (sampler(store, rules, p=0, level="artist", n=8).step() for rules in (RELEASED, PAPER))
    for draw in (inside, outside):
        first, second = (layers[0].rows for layers in draw.views)
        assert (artists[first] == artists[second]).all()
        assert set(second) <= set(first) or draw is outside
    assert not set(outside.views[1][0].rows) <= set(outside.views[0][0].rows)


def test_rolling_pool_is_renewed_by_a_fifth(store):
    rolling = sampler(store, p=0, n=1)
    assert len(rolling.pool.rows) == POOL_STEPS < len(rolling.candidates)
    new = 0
    for _ in range(5):
        before = set(rolling.pool.rows)
        assert {rolling.step().views[0][0].rows[0] for _ in range(POOL_STEPS)} <= set(rolling.pool.rows)
        assert len(set(rolling.pool.rows) - before) <= 0.2 * POOL_STEPS
        new += len(set(rolling.pool.rows) - before)
    assert new
    everything = sampler(store, PAPER, p=0, n=1)
    assert {everything.step().views[0][0].rows[0] for _ in range(300)} == set(everything.candidates)


def test_segments_without_vocals_are_for_mixtures_only(store):
    active = store.segments.active_vocals.to_numpy()
    assert active[sampler(store, p=0).candidates].all()
    train = (store.segments.split == "train").to_numpy()
    assert len(sampler(store, positive="mixture", p=0).candidates) == train.sum()


def test_anchor_stems_share_an_offset_and_the_positive_has_its_own(store):
    (vocals, accompaniment), (positive,) = sampler(store).step().views
    assert (vocals.offsets == accompaniment.offsets).all() and (vocals.offsets != positive.offsets).any()
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
        ours, theirs = ([layer for layers in s.step().views for layer in layers] for s in (first, second))
        assert all((a.rows == b.rows).all() and (a.gains == b.gains).all() for a, b in zip(ours, theirs, strict=True))


# ---- what cannot be drawn ----

def test_missing_split_is_one_error(store):
    with pytest.raises(VocalrepError, match="no segment with vocals in the nowhere split"):
        sampler(store, split="nowhere")


@pytest.mark.parametrize("positive, level, choices", [("drums", "segment", "mixture, vocals"),
                                                      ("vocals", "song", "segment, artist")])
def test_unknown_words_list_the_choices(positive, level, choices):
    with pytest.raises(VocalrepError, match=choices):
        PairSampling(positive, 0.0, level, PAPER)


def test_only_pairs_of_an_artist_need_artists(store):
    nameless = Store(store.folder)
    nameless.segments["artist"] = nameless.segments.artist.where(nameless.segments["clip"] == "nobody", None)
    assert len(sampler(nameless).step()) == 32
    with pytest.raises(VocalrepError, match="pairs of one artist need artists, and .* have none"):
        sampler(nameless, p=0, level="artist")


def test_a_store_of_plain_mixtures_has_pairs_of_mixtures(corpus, tmp_path):
    from vocalrep.data.prepare import prepare
    from vocalrep.data.store import Sound
    plain = prepare(corpus, tmp_path / "store", Sound(16000, ("mixture",)), workers=1, progress=False)
    pairs = sampler(plain, positive="mixture", p=0)
    draw = pairs.step()
    assert [layer.source for layers in draw.views for layer in layers] == ["mixture", "mixture"]
    batch, = pairs.batches(draw)
    assert batch.views[0].abs().amax() > 0
