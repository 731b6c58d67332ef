"One change at a time, and what an encoder makes of it."
import numpy as np
import pytest
import torch

from vocalrep.models.encoders import Encoder, MeanMFCC
from vocalrep.evaluation.sensitivity import FACTORS, factor_distances, pair_of_songs
from vocalrep.studio.songs import render


class Loudness(Encoder):
    "Two numbers: the level of the waveform, and something at random that nothing decides but the waveform."
    name, dim = "loudness", 2

    def forward(self, waveforms):
        return torch.stack([waveforms.square().mean(1), waveforms.abs().amax(1)], 1)


@pytest.fixture(scope="module")
def table():
    return factor_distances({"mean MFCC": (MeanMFCC(), "unit-norm"), "loudness": (Loudness(), "recorded")}, songs=2, seconds=6.0, factors=("performance", "accompaniment", "singer", "everything"))


def test_every_system_factor_mode_and_song_has_a_distance(table):
    assert len(table) == 2 * 4 * 2 * 2 and not table.duplicated(["system", "factor", "mode", "song"]).any()
    assert np.isfinite(table.distance).all() and table.distance.between(0, 2).all()


def test_another_band_leaves_the_vocals_as_they_are(table):
    mean = table[table.system == "mean MFCC"].groupby(["factor", "mode"]).distance.mean()
    assert mean["accompaniment", "vocals"] < 0.02 < mean["accompaniment", "mixture"]
    assert mean["performance", "vocals"] < mean["singer", "vocals"]


def test_what_one_system_hears_does_not_depend_on_the_others(table):
    alone = factor_distances({"mean MFCC": (MeanMFCC(), "unit-norm")}, songs=2, seconds=6.0, factors=("performance", "accompaniment", "singer", "everything"))
    both = table[table.system == "mean MFCC"].reset_index(drop=True)
    np.testing.assert_allclose(alone.distance, both.distance, atol=1e-5)


def test_songs_of_a_pair_share_the_sex_only_and_are_sung_throughout():
    for number in range(5):
        song, other = pair_of_songs(number)
        assert song.singer.sex == other.singer.sex and song.singer != other.singer and song.composition != other.composition
        assert all(song.composition.sections[i].melody for i in song.composition.form)
    assert set(FACTORS) >= {"singer", "vocal tract", "recording chain", "melody and words", "accompaniment"}


def test_the_key_moves_the_pitch_and_nothing_else_of_the_song():
    song, other = pair_of_songs(0, 4.0)
    higher = FACTORS["key, 4 semitones up"](song, other)
    assert higher.composition.key == song.composition.key + 4
    assert higher.singer == song.singer and higher.arrangement == song.arrangement
    a, b = (render(s.composition, s.singer, s.arrangement)["vocals"] for s in (song, higher))
    assert not np.array_equal(a, b) and len(a) == len(b)
