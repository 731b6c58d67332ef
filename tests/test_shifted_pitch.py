"Stores of shifted tracks: whose they are, that they stay in step with their originals, and what they refuse."
import shutil

import numpy as np
import pandas as pd
import pytest

from vocalrep.data import shifted_pitch as room
from vocalrep.data.augment import PitchShift, shifted
from vocalrep.data.fragments import FragmentSampler
from vocalrep.data.sampling import mix
from vocalrep.data.shifted_pitch import open_shifted
from vocalrep.project import VocalrepError

RATE = 16000
PITCH = PitchShift()
TRACKS = [("Ada", "train", 1.3), ("Béla", "valid", 3.0), ("Ada", "train", 5.7), ("Cleo", "test", 2.0),
          ("Dan", "train", 3.0), ("Béla", "valid", 2.0), ("Dan", "train", 2.0)]
QUIETLY = dict(workers=1, progress=False)


@pytest.fixture(scope="module")
def voices(dry):
    return dry(TRACKS, RATE)


@pytest.fixture(scope="module")
def pool(voices):
    return open_shifted(voices, PITCH, versions=2, **QUIETLY)


@pytest.fixture(scope="module")
def both(voices, pool):
    return voices.joined(pool)


def wave_of(store, clip):
    "A whole track, without its padding."
    row = store.clips[store.clips["clip"] == clip].iloc[0]
    begin = np.array([store.base[row.shard] + row.start])
    return store.gather(begin, int(row.samples))[0].numpy() * np.float32(row.scale)


def test_each_training_track_so_many_times_and_nothing_else(voices, pool):
    names = {f"{clip}~{v}" for clip in ("Ada-0", "Ada-1", "Dan-0", "Dan-1") for v in (1, 2)}
    assert set(pool.clips["clip"]) == names and len(pool.clips) == 8
    assert (pool.clips.split == "train").all() and (pool.segments.split == "train").all()
    table = pool.clips.merge(voices.clips, left_on="original", right_on="clip", suffixes=("", "_of"))
    for column in ("samples", "artist", "length"):
        assert (table[column] == table[f"{column}_of"]).all()
    assert (pool.rate, pool.stems, pool.about["corpus"]) == (RATE, ("vocals",), "dry-shifted")
    assert pool.folder.parent == voices.folder.parent


def test_a_version_is_what_its_seed_draws(voices, pool):
    assert pool.clips.seed.nunique() == len(pool.clips)
    for clip in pool.clips.iloc[::3].itertuples():
        expected = shifted(wave_of(voices, clip.original), RATE, PITCH, np.random.default_rng(clip.seed))
        assert np.abs(wave_of(pool, clip.clip) - expected).max() <= 0.51 * clip.scale        # 16 bits
        assert np.abs(expected - wave_of(voices, clip.original)).max() > 0.05                # and something changed


def _loudness(wave):
    "The level of a wave, every 20 ms, its mean taken out: these voices swell and fade."
    blocks = (wave - wave.mean())[:len(wave) // 320 * 320].reshape(-1, 320)
    level = np.convolve(np.sqrt((blocks ** 2).mean(1)), np.ones(5) / 5, mode="valid")
    return (level - level.mean()) / np.linalg.norm(level - level.mean())


def test_versions_stay_in_step_with_their_original(voices, pool):
    for version in ("Ada-1~1", "Ada-1~2", "Dan-0~1"):
        a, b = _loudness(wave_of(voices, version[:-2])), _loudness(wave_of(pool, version))
        lags = range(-15, 16)                                                                # 0.3 s to either side
        scores = [np.dot(a[max(0, k):len(a) + min(0, k)], b[max(0, -k):len(b) + min(0, -k)]) for k in lags]
        assert max(scores) > 0.8 and abs(lags[int(np.argmax(scores))]) <= 3


def test_fragments_of_versions_lie_in_their_own_track(both):
    size = 2 * RATE
    sampler = FragmentSampler(both, size, 40, 4, p_shifted=1.0)
    original = both.clips.set_index("clip").original
    layers = [layer for (layer,) in sampler.step().views]
    heard = [both.segments.iloc[layer.rows] for layer in layers]
    assert all(segments["clip"].str.contains("~").all() for segments in heard)
    first, second = (original[segments["clip"]].to_numpy() for segments in heard)
    assert (first == second).all()
    for layer, segments in zip(layers, heard):
        for wave, offset, clip in zip(mix(both, (layer,), size).numpy(), layer.offsets, segments["clip"]):
            own = wave_of(both, clip)[offset:offset + size]
            assert np.array_equal(wave[:len(own)], own)
            assert not wave[len(own):].any()                                   # and never of the track behind it


def test_half_of_the_fragments_come_from_shifted_tracks(both):
    sampler = FragmentSampler(both, RATE, step_pairs=200, batch=4, p_shifted=0.5)
    chosen = both.segments["clip"].str.contains("~").to_numpy()[sampler.step().views[0][0].rows]
    assert 0.35 < chosen.mean() < 0.65


def test_no_voice_of_validation_or_test_is_touched(voices, both):
    for split, clips in (("valid", {"Béla-0", "Béla-1"}), ("test", {"Cleo-0"})):
        for table in (both.clips, both.segments):
            assert set(table["clip"][table.split == split]) == clips
        sampler = FragmentSampler(both, RATE, len(clips), len(clips), split=split)
        assert set(both.segments["clip"].iloc[sampler.step().views[0][0].rows]) == clips
    with pytest.raises(VocalrepError, match="no shifted version"):
        FragmentSampler(both, RATE, 2, 2, p_shifted=0.5, split="valid")
    assert (both.first_rows()[:len(voices.clips)] == voices.first_rows()).all()


def test_finished_versions_are_opened_and_the_same_store_makes_the_same(voices, pool, dry, tmp_path, monkeypatch):
    again = dry(TRACKS, RATE, tmp_path / "elsewhere")
    assert again.identity == voices.identity
    same = open_shifted(again, PITCH, versions=2, **QUIETLY)
    pd.testing.assert_frame_equal(same.clips, pool.clips)
    assert all(np.array_equal(a, b) for a, b in zip(same.shards, pool.shards))
    monkeypatch.setattr(room, "shifted", None)                                           # nothing is shifted any more
    assert len(open_shifted(voices, PITCH, versions=2, progress=False).clips) == 8


def test_other_pitches_and_other_numbers_have_their_own_place(voices, pool, monkeypatch):
    asked = []

    def noted(corpus, folder, sound, separator, **options):
        asked.append((folder.name, len(corpus.clips), list(corpus.clips.seed)))
    monkeypatch.setattr(room, "prepare", noted)
    for pitch, versions in ((PITCH, 2), (PITCH, 3), (PitchShift(ratio=(1.0, 3.0)), 2)):
        open_shifted(voices, pitch, versions)
    names, sizes, seeds = zip(*asked)
    assert len(set(names)) == 3 and names[0] == pool.folder.name and sizes == (8, 12, 8)
    assert seeds[0] == list(pool.clips.seed) == seeds[1][:8] and not set(seeds[0]) & set(seeds[2])


def test_versions_of_another_store_are_refused(dry, tmp_path):
    before = dry([("Ada", "train", 1.2)], RATE, tmp_path / "store")
    open_shifted(before, PITCH, **QUIETLY)
    shutil.rmtree(before.folder)
    with pytest.raises(VocalrepError, match="prepared from something else.*listing"):
        open_shifted(dry([("Ada", "train", 1.5)], RATE, tmp_path / "store"), PITCH, **QUIETLY)


def test_a_store_made_anew_in_the_same_place_has_its_own_versions(dry, tmp_path):
    for seconds in (1.2, 1.5):
        shutil.rmtree(tmp_path, ignore_errors=True)
        store = dry([("Ada", "train", seconds)], RATE, tmp_path / "store")
        pool = open_shifted(store, PITCH, **QUIETLY)
        assert pool.clips.samples.tolist() == store.clips.samples.tolist()
