"Fragments of vocal tracks: which, how often, how augmented, and that workers and interruptions change nothing."
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vocalrep.data.fragments as room
from vocalrep.data.augment import PitchShift, prefetch_augmented, without_pitch
from vocalrep.data.fragments import FragmentSampler, FragmentSampling
from vocalrep.data.levels import peak_normalize
from vocalrep.data.sampling import Draw, mix
from vocalrep.data.shifted_pitch import open_shifted
from vocalrep.papers.singer_identity.variants import RELEASED
from vocalrep.project import VocalrepError

SIZE = 400            # samples of a fragment; of a segment: 500


def library(samples, versions=0, split="train", seed=0):
    "The tables of a store of vocal tracks that last so many samples, and of their shifted versions in any order."
    tracks = pd.DataFrame(dict(clip=[f"track {i}" for i in range(len(samples))], split=split, samples=samples))
    shifted = [tracks.assign(original=tracks["clip"], clip=tracks["clip"] + f"~{v}") for v in range(1, versions + 1)]
    clips = pd.concat([tracks, *(table.sample(frac=1, random_state=seed) for table in shifted)], ignore_index=True)
    rows = [(clip, position) for clip, n in zip(clips["clip"], clips.samples) for position in range(-(-n // 500))]
    segments = pd.DataFrame(rows, columns=["clip", "position"])
    track, _, version = zip(*(clip.removeprefix("track ").partition("~") for clip, _ in rows))
    begin = segments.index[segments.position == 0]
    store = SimpleNamespace(folder="library", clips=clips, segments=segments, track=np.array(track, int),
                            version=np.array(version), first=segments.position.to_numpy() == 0)
    store.first_rows = lambda: pd.Series(begin, segments["clip"][begin]).loc[store.clips["clip"]].to_numpy()
    return store


def sides(draw):
    "The two fragments of each pair."
    (first,), (second,) = draw.views
    return first, second


libraries = st.lists(st.integers(1, 1700), min_size=1, max_size=20)


@settings(deadline=None, max_examples=40)
@given(samples=libraries, versions=st.integers(0, 3), batches=st.integers(1, 4), p=st.sampled_from([0.0, 0.5, 1.0]),
       seed=st.integers(0, 99), data=st.data())
def test_fragments(samples, versions, batches, p, seed, data):
    batch = data.draw(st.integers(1, len(samples)))
    store, p = library(samples, versions, seed=seed), p if versions else 0.0
    sampler = FragmentSampler(store, SIZE, batches * batch, batch, p, seed=seed)
    order, whole = [], len(samples) // batch * batch
    for _ in range(4):
        first, second = sides(sampler.step())
        tracks = store.track[first.rows]
        order += list(tracks)
        assert len(tracks) == batches * batch and (store.track[second.rows] == tracks).all()
        last = np.maximum(np.array(samples)[tracks], SIZE)                               # the track's true end
        for layer in (first, second):
            assert store.first[layer.rows].all() and (layer.gains == 1).all() and layer.source == "vocals"
            assert (layer.offsets >= 0).all() and (layer.offsets + SIZE <= last).all()
            changed = store.version[layer.rows] != ""
            assert changed.any() <= (p > 0) and changed.all() >= (p == 1)
    for start in range(0, len(order), batch):
        assert len(set(order[start:start + batch])) == batch                             # no track twice in a batch
    for start in range(0, len(order) - whole + 1, whole):                               # each once in an epoch, but for
        assert len(set(order[start:start + whole])) == whole                             # the rest that makes no batch
    assert whole == sampler.epochs.batches * batch


@settings(deadline=None, max_examples=20)
@given(samples=libraries, versions=st.integers(0, 2), before=st.integers(0, 7), seed=st.integers(0, 99))
def test_a_restored_fragment_sampler_goes_on(tmp_path_factory, samples, versions, before, seed):
    p = 0.5 if versions else 0.0
    first, second = (FragmentSampler(library(samples, versions), SIZE, 3, 1, p, seed=[s, 0]) for s in (seed, seed + 1))
    for _ in range(before):
        first.step()
    file = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(first.state(), file)
    second.restore(torch.load(file, weights_only=True))                                  # as a checkpoint is read
    for _ in range(3):
        for a, b in zip(sides(first.step()), sides(second.step())):
            assert (a.rows == b.rows).all() and (a.offsets == b.offsets).all()


def test_every_place_in_a_track_is_equally_likely_and_the_two_fragments_are_independent():
    first, second = sides(FragmentSampler(library([SIZE + 3, SIZE + 1, SIZE]), SIZE, 3000, 3).step())
    tracks = first.rows                                                              # one segment each: rows are tracks
    assert set(first.offsets[tracks == 2]) == {0} and set(first.offsets[tracks == 1]) == {0}  # in [0, max(T - size, 1))
    long = tracks == 0
    table = np.histogram2d(first.offsets[long], second.offsets[long], bins=[[0, 1, 2, 3]] * 2)[0] / 1000
    assert np.allclose(table, 1 / 9, atol=0.05)


def test_shifted_fragments_come_as_often_as_asked_and_from_every_version():
    store = library([1000] * 10, versions=3)
    draw = FragmentSampler(store, SIZE, 4000, 10, p_shifted=0.3).step()
    first, second = (store.version[side.rows] for side in sides(draw))
    for names in (first, second):
        share = pd.Series(names).value_counts(normalize=True)
        assert np.allclose(share[["", "1", "2", "3"]], [0.7, 0.1, 0.1, 0.1], atol=0.03)
    assert abs(((first != "") & (second != "")).mean() - 0.09) < 0.03                    # each fragment for itself


def test_only_tracks_of_the_split():
    store = library([1000] * 9, versions=2, split=["train", "valid", "test"] * 3)
    store.clips.loc[store.clips.original.notna(), "split"] = "train"                    # whatever a pool says of itself
    for number, split in enumerate(("train", "valid", "test")):
        rows = sides(FragmentSampler(store, SIZE, 3, 3, split=split).step())[0].rows
        assert set(store.track[rows]) == {number, number + 3, number + 6} and (store.version[rows] == "").all()


def test_what_a_fragment_sampler_cannot_do_is_one_error():
    tracks = library([1000] * 3)
    with pytest.raises(VocalrepError, match="needs 4 vocal tracks, and the train split of library has 3"):
        FragmentSampler(tracks, SIZE, 8, 4)
    with pytest.raises(VocalrepError, match="valid split of library has 0"):
        FragmentSampler(tracks, SIZE, 8, 1, split="valid")
    with pytest.raises(VocalrepError, match="no whole number of batches of 2"):
        FragmentSampler(tracks, SIZE, 3, 2)


@pytest.mark.parametrize("versions, lost", [(1, ["track 1~1"]), (0, []), (2, ["track 1~2"])])
def test_versions_with_gaps_are_one_error(versions, lost):
    store = library([1000] * 3, versions)
    store.clips = store.clips[~store.clips["clip"].isin(lost)]
    with pytest.raises(VocalrepError, match="join the clips"):
        FragmentSampler(store, SIZE, 3, 3, p_shifted=0.5)


def test_no_track_twice_whatever_the_step():
    with pytest.raises(VocalrepError, match="no whole number of batches"):
        FragmentSampler(library([1000] * 8), SIZE, 10, 4)
    sampler = FragmentSampler(library([1000] * 9), SIZE, 8, 4)
    for _ in range(50):
        rows = sides(sampler.step())[0].rows
        assert all(len(set(rows[k:k + 4])) == 4 for k in (0, 4))


def test_short_tracks_are_padded_with_zeros_at_the_end(dry):
    seconds = [1.0, 1.7, 2.5, 3.999, 4.0, 5.3, 5.7, 11.0]
    store = dry([(f"s{i}", "train", s) for i, s in enumerate(seconds)], rate=1000)
    length = store.clips.samples.to_numpy()
    assert length.tolist() == [1000, 1700, 2500, 3999, 4000, 5000, 5700, 11000]      # 0.3 s after a segment are dropped
    for layer in sides(FragmentSampler(store, 4000, 80, 8).step()):
        waves = mix(store, (layer,), 4000).numpy()
        for wave, row, offset in zip(waves, layer.rows, layer.offsets):
            track = store.clips.index[store.clips["clip"] == store.segments["clip"][row]][0]
            there = min(length[track], 4000)
            assert (wave[:there] > 0).all() and not wave[there:].any()                   # these voices never pause
            assert offset == 0 or there == 4000
            whole = store.excerpts(np.array([row]), np.array([0]), int(length[track]), "vocals")[0].numpy()
            assert (wave[:there] == whole[offset:offset + there]).all()


# ---- batches of waveforms ----

SECOND = 44_100
TRACKS = [(f"singer {i}", "train", 1.2 + 0.6 * i) for i in range(8)] + [(f"new {i}", "valid", 4.5) for i in range(6)]
PITCHED, UNPITCHED = RELEASED.augmentations, without_pitch(RELEASED.augmentations)


@pytest.fixture(scope="module")
def voices(dry):
    return dry(TRACKS)


def sampler(voices, step_pairs=8, batch=4, split="train", seed=(0, 0), chain=UNPITCHED):
    "Fragments of half a second."
    return FragmentSampling(SECOND // 2, chain).build(voices, step_pairs, batch, split, list(seed))


def plain(voices, layers):
    return peak_normalize(mix(voices, layers, SECOND // 2))


def same(ours, theirs):
    "Whether two lists of batches are equal bit for bit."
    pairs = [(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.views, y.views, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


def test_without_a_seed_fragments_are_as_they_were_sung(voices, monkeypatch):
    monkeypatch.setattr(room, "BLOCK", 3)                                                # that divides nothing
    some = sampler(voices, step_pairs=40, batch=8)
    draw = some.step()
    batches = list(some.batches(draw))
    assert [b.views[0].shape for b in batches] == [(8, SECOND // 2)] * 5
    for k, layers in enumerate(draw.views):
        assert torch.equal(torch.cat([b.views[k] for b in batches]), plain(voices, layers))
    for rank in range(2):                                                                # half of each batch
        for share, batch in zip(some.batches(draw, rank, 2), batches, strict=True):
            assert all(torch.equal(a, b[4 * rank:4 * rank + 4]) for a, b in zip(share.views, batch.views))


def test_labels_go_along(voices):
    some = sampler(voices, step_pairs=6, batch=3)
    draw = some.step()
    batches = list(some.batches(Draw(draw.views, dict(number=np.arange(6))), seed=[0, 0]))
    assert [b.labels["number"].tolist() for b in batches] == [[0, 1, 2], [3, 4, 5]]


def test_validation_with_few_tracks_takes_a_smaller_batch(voices):
    few = sampler(voices, step_pairs=16, batch=8, split="valid")
    draw = few.step()
    assert len(draw) == 6 and [len(b) for b in few.batches(draw)] == [6] and few.chain == ()
    assert len(sampler(voices, batch=4, split="valid").step()) == 4                      # whole batches only


def test_augmentation_does_not_depend_on_workers_nor_on_interruptions(voices, monkeypatch):
    from joblib.externals.loky import get_reusable_executor
    some = sampler(voices, step_pairs=6, batch=3, seed=[5, 0], chain=PITCHED)
    some.step()
    state, draw = some.state(), some.step()
    count = []

    def spied(sides, rate, chain, rng, workers, ahead):
        count.append(workers)
        return prefetch_augmented(sides, rate, chain, rng, workers, ahead)

    monkeypatch.setattr(room, "prefetch_augmented", spied)
    with_workers = list(some.batches(draw, seed=[5, 1]))
    assert count == [max((os.cpu_count() or 2) - 1, 1)] and len(with_workers) == 2
    get_reusable_executor(reuse=True).shutdown(wait=True)
    views = [tuple(plain(voices, layers) for layers in draw[part].views) for part in (slice(0, 3), slice(3, 6))]
    alone = prefetch_augmented(iter(views), SECOND, some.chain, np.random.default_rng([5, 1, 0]), workers=0)
    alone = [SimpleNamespace(views=view) for view in alone]
    assert same(with_workers, alone) and any(isinstance(t, PitchShift) for t in some.chain)

    monkeypatch.setattr(room, "prefetch_augmented", lambda *a: prefetch_augmented(*a[:4], 0, a[5]))
    again = sampler(voices, step_pairs=6, batch=3, seed=[6, 0], chain=PITCHED)
    again.restore(state)
    assert same(list(again.batches(again.step(), seed=[5, 1])), alone)
    begun = again.batches(draw, seed=[5, 1])                                             # left in the middle
    next(begun)
    begun.close()
    assert same(list(again.batches(draw, seed=[5, 1])), alone)


def test_each_step_each_rank_and_each_side_is_augmented_by_itself(voices):
    some = sampler(voices, step_pairs=8, batch=8)
    anchor, _ = some.step().views
    draw = Draw((anchor, anchor))                                                        # the same fragment twice
    (a, b), = (batch.views for batch in some.batches(draw, seed=[0, 0]))
    assert not torch.equal(a, b) and not torch.equal(a, plain(voices, anchor))
    (other, _), = (batch.views for batch in some.batches(draw, seed=[0, 1]))
    assert not torch.equal(a, other)
    twice = draw[[0, 1, 2, 3, 0, 1, 2, 3]]                                               # the same four on two ranks
    first, second = (next(some.batches(twice, rank, 2, [0, 0])).views[0] for rank in range(2))
    assert first.shape == second.shape == (4, SECOND // 2) and not torch.equal(first, second)


def test_blocks_do_not_share_their_augmentation(voices, monkeypatch):
    monkeypatch.setattr(room, "BLOCK", 4)
    some = sampler(voices, step_pairs=8, batch=8)
    draw = some.step()[[0] * 8]                                                          # one pair eight times
    (a, _), = (batch.views for batch in some.batches(draw, seed=[0, 0]))
    assert a.shape == (8, SECOND // 2) and torch.cdist(a[:4], a[4:]).diagonal().max() > 0.1


def test_clips_shifted_beforehand_take_the_place_of_the_pitch_shift(voices):
    pitch = next(t for t in PITCHED if isinstance(t, PitchShift))
    open_shifted(voices, pitch, 1, workers=1, progress=False)                            # here, not in other processes
    sampling = FragmentSampling(SECOND // 2, PITCHED, shifted=1)
    store = sampling.prepare(voices, progress=False)
    some = sampling.build(store, 8, 4)
    assert some.chain == UNPITCHED and some.p_shifted == 0.5 and len(store.clips) == len(voices.clips) + 8
    names = store.segments["clip"].to_numpy()
    drawn = [side.rows for seed in range(20) for side in sides(sampling.build(store, 8, 4, seed=seed).step())]
    assert 0.3 < np.mean(["~" in name for name in names[np.concatenate(drawn)]]) < 0.7
    valid = sampling.build(store, 8, 4, "valid").step()
    assert not any("~" in name for side in sides(valid) for name in names[side.rows])
    without = FragmentSampling(SECOND // 2, UNPITCHED, shifted=1)                        # nothing to shift
    assert without.prepare(voices) is voices and without.build(voices, 8, 4).p_shifted == 0
