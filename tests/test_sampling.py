"Pairs: properties that hold for any step, and every difference between paper and released code."
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.sampling import POOL_STEPS, RULES, PairSampler, choose_artificial, choose_donors, choose_same_artist, mix, remix_gains

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
