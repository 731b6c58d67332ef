"One change at a time, and what an encoder makes of it."
import numpy as np
import pytest

from vocalrep.evaluation.sensitivity import (
    FACTORS, factor_distances, mean_embedding, pair_of_songs, render_song)
from vocalrep.models.adapters import TorchEncoder
from vocalrep.models.encoders import MeanMFCC
from vocalrep.project import VocalrepError
from vocalrep.studio.songs import render

FOUR = ("performance", "accompaniment", "singer", "everything")


def loudness(waveforms):
    "Two numbers: the power of a waveform and its peak."
    return waveforms.square().mean(1, keepdim=True).repeat(1, 2) * waveforms.new_tensor([1.0, 0.5])


@pytest.fixture(scope="module")
def table():
    encoders = {"mean MFCC": MeanMFCC(), "loudness": TorchEncoder(loudness, "loudness", 16000, 1.0, 2)}
    return factor_distances(encoders, songs=2, seconds=6.0, factors=FOUR)


def test_every_system_factor_condition_and_song_has_a_distance(table):
    assert list(table) == ["factor", "song", "system", "condition", "distance"]
    assert len(table) == 2 * 4 * 2 * 2 and not table.duplicated(["system", "factor", "condition", "song"]).any()
    assert np.isfinite(table.distance).all() and table.distance.between(-1e-9, 2 + 1e-9).all()


def test_another_band_leaves_the_vocals_as_they_are(table):
    mean = table[table.system == "mean MFCC"].groupby(["factor", "condition"]).distance.mean()
    assert mean["accompaniment", "vocals"] < 0.02 < mean["accompaniment", "mixture"]
    assert mean["performance", "vocals"] < mean["singer", "vocals"]


def test_what_one_system_hears_does_not_depend_on_the_others(table):
    alone = factor_distances({"mean MFCC": MeanMFCC()}, songs=2, seconds=6.0, factors=FOUR)
    both = table[table.system == "mean MFCC"].reset_index(drop=True)
    np.testing.assert_allclose(alone.distance, both.distance, atol=1e-5)


def test_songs_of_a_pair_share_the_sex_only_and_are_sung_throughout():
    for number in range(5):
        song, other = pair_of_songs(number)
        assert song.singer.sex == other.singer.sex and song.singer != other.singer
        assert song.composition != other.composition
        assert all(song.composition.sections[i].melody for i in song.composition.form)
    assert set(FACTORS) >= {"singer", "vocal tract", "recording chain", "melody and words", "accompaniment"}


def test_the_key_moves_the_pitch_and_nothing_else_of_the_song():
    song, other = pair_of_songs(0, 4.0)
    higher = FACTORS["key, 4 semitones up"](song, other)
    assert higher.composition.key == song.composition.key + 4
    assert higher.singer == song.singer and higher.arrangement == song.arrangement
    a, b = (render(s.composition, s.singer, s.arrangement)["vocals"] for s in (song, higher))
    assert not np.array_equal(a, b) and len(a) == len(b)


@pytest.mark.parametrize("level, expected", [("recorded", 0.5), ("peak", 1.0), ("unit-norm", 1 / np.sqrt(5 * 16000))])
def test_only_seconds_with_vocals_are_heard_at_the_level_of_the_encoder(level, expected):
    "Two of four seconds are sung, at a constant 0.5; the song's average segment has the norm of 5 s at 0.5."
    wave = np.full(4 * 16000, 0.5, np.float32)
    vocals = np.repeat(np.array([1, 0, 1, 0], np.float32), 16000)
    encoder = TorchEncoder(lambda waves: waves[:, :3], "itself", 16000, 1.0, 3, level=level)
    np.testing.assert_allclose(mean_embedding(wave, vocals, encoder), expected, rtol=1e-5)


def test_unknown_factors():
    with pytest.raises(VocalrepError, match="recording chain"):
        factor_distances({"mean MFCC": MeanMFCC()}, factors=["tempo"])


@pytest.mark.parametrize("stem", ["drums", "bass", "other"])
def test_a_guest_changes_one_stem_and_not_a_sample_of_the_others(stem):
    song, other = pair_of_songs(2, 4.0)
    before, after = render_song(song, 8000), render_song(FACTORS[f"{stem} alone"](song, other), 8000)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == [stem]


def test_an_encoder_that_wants_the_norm_of_the_clip_is_told_it():
    wave = np.full(4 * 16000, 0.5, np.float32)
    encoder = TorchEncoder(lambda waves: waves[:, :3], "itself", 16000, 1.0, 3, level="clip-norm")
    np.testing.assert_allclose(mean_embedding(wave, wave, encoder), 1 / np.sqrt(4 * 16000), rtol=1e-5)
