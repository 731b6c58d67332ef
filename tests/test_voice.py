"Singing: any notes at any rate give finite sound of the length asked for, the same each time."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.studio.performance import CONSONANTS, articulate, pitch_contour
from vocalrep.studio.performance import Note
from vocalrep.studio.singer import VOWELS, make_singer
from vocalrep.studio.voice import pulse_train, sing

syllables = st.tuples(st.sampled_from(["", *CONSONANTS]), st.sampled_from([*VOWELS, "ɔʊ", "ɑi"]),
                      st.sampled_from(["", "n", "s"]))


@st.composite
def melodies(draw):
    at, notes = draw(st.floats(0, 0.5)), []
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.floats(0.02, 1.0))
        notes.append(Note(at, length, draw(st.floats(36, 84)), draw(syllables), draw(st.floats(-1.5, 1.5))))
        at += length + draw(st.floats(0, 0.6))
    return notes


@given(melodies(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_controls_are_finite_for_any_melody(notes, seed):
    singer, times = make_singer(seed), np.arange(200) / 100
    track = articulate(singer, notes, times, np.random.default_rng(0))
    assert track.shape == (200, 9) and np.isfinite(track).all() and (track > -1e-9).all()
    assert (track[:, :3] > 0).all()
    pitch = pitch_contour(singer, notes, times, np.random.default_rng(0))
    assert pitch.shape == (200,) and np.isfinite(pitch).all()


@given(melodies(), st.sampled_from([8000, 11025, 16000, 44100]), st.floats(0.0, 1.5))
@settings(max_examples=25, deadline=None)
def test_any_melody_can_be_sung_at_any_rate(notes, rate, seconds):
    x = sing(make_singer(3), notes, seconds, rate)
    assert x.dtype == np.float32 and x.shape == (round(seconds * rate),) and np.isfinite(x).all()


def test_a_take_is_as_loud_as_it_says_and_another_seed_is_another_take():
    notes = [Note(0.1, 1.5, 55, ("l", "ɑ", ""))]
    takes = [sing(make_singer(4), notes, 2.0, 8000, seed) for seed in (0, 0, 1)]
    assert np.array_equal(takes[0], takes[1]) and not np.array_equal(takes[0], takes[2])
    for take in takes:
        assert 0.05 < np.sqrt(np.square(take[2400:12000]).mean()) < 0.2


@pytest.mark.parametrize("rate", [8000, 44100])
def test_pulses_are_harmonics_and_nothing_between(rate):
    pulses, phase = pulse_train(np.full(rate, 200.0), rate)
    power = np.abs(np.fft.rfft(pulses)) ** 2
    assert power[200::200].sum() / power.sum() > 0.999 and phase.dtype == np.float64
