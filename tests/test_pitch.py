"Pitch shifting: pitch moves and formants stay, lengths and rates of any kind, what has no pitch, errors."
import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.pitch import PITCH_FLOOR, change_pitch, fit_length, reachable
from vocalrep.project import VocalrepError
from vocalrep.studio.performance import Note
from vocalrep.studio.singer import FORMANTS, TRACT_CM, make_singer
from vocalrep.studio.voice import sing

parselmouth = pytest.importorskip("parselmouth")
RATE = 44100


def call(*arguments):
    return parselmouth.praat.call(*arguments)


def pitch_quantile(wave, q, ceiling=1500.0, rate=RATE):
    pitch = call(parselmouth.Sound(wave.astype(float), rate), "To Pitch", 0.01, 40.0, ceiling)
    return call(pitch, "Get quantile", 0, 0, q, "Hertz")


def median_pitch(wave, rate=RATE):
    return pitch_quantile(wave, 0.5, rate=rate)


def formants(wave, highest):
    sound = parselmouth.Sound(wave.astype(float), RATE)
    burg = sound.to_formant_burg(max_number_of_formants=5, maximum_formant=highest)
    times = np.arange(0.2, 0.8, 0.02)
    return np.array([np.nanmedian([burg.get_value_at_time(k, t) for t in times]) for k in (1, 2, 3)])


@pytest.fixture(scope="module")
def vowel():
    "One second of a steady vowel."
    steady = dict(vibrato_cents=0.0, drift=0.0, jitter=0.005, breath_db=-60.0, nasality=0.0, cluster=0.0, side=(),
                  scoop=0.0, roughness=0.0, damping=1.0)
    who = dataclasses.replace(make_singer(3, "male"), vowels=tuple(map(tuple, FORMANTS["male"])),
                              tract_cm=TRACT_CM["male"], **steady)
    return sing(who, [Note(0.0, 1.0, 43, ("", "æ", ""))], 1.0, RATE)


@pytest.mark.parametrize("ratio", [1 / 1.5, 1 / 1.2, 1.2, 1.5])
def test_praat_moves_the_pitch_and_not_the_formants(vowel, ratio):
    moved = change_pitch(vowel, RATE, ratio, 1.0)
    assert median_pitch(moved) / median_pitch(vowel) == pytest.approx(ratio, rel=0.02)
    assert formants(moved, 5000) == pytest.approx(formants(vowel, 5000), rel=0.06)


def test_range_ratio_widens_the_melody_around_its_median():
    who = dataclasses.replace(make_singer(3, "male"), vibrato_cents=0.0, drift=0.0, scoop=0.0)
    melody = [Note(0.4 * i, 0.4, 45 + step, ("", "ɑ", "")) for i, step in enumerate((-4, 0, 0, 4))]
    wave = sing(who, melody, 1.6, RATE)

    def ends(x):
        return np.array([pitch_quantile(x, q, 600.0) for q in (0.1, 0.5, 0.9)])

    before = ends(wave)
    for by in (1.5, 1 / 1.5):
        after = ends(change_pitch(wave, RATE, 1.2, by))
        assert after[1] == pytest.approx(1.2 * before[1], rel=0.03)
        assert after - after[1] == pytest.approx(1.2 * by * (before - before[1]), abs=5)


def test_same_as_calling_praat_by_hand(vowel):
    sound = parselmouth.Sound(vowel.astype(float), RATE)
    pitch = call(sound, "To Pitch", 0.8 / 75, 75, 600)
    parselmouth.praat.run("random_initializeWithSeedUnsafelyButPredictably (9)")
    wanted = 1.25 * call(pitch, "Get quantile", 0, 0, 0.5, "Hertz")
    expected = call([sound, pitch], "Change gender", 1.0, wanted, 1.4, 1.0).values[0]
    assert np.array_equal(change_pitch(vowel, RATE, 1.25, 1.4, seed=9), expected.astype(np.float32))


VOICELESS = dict(silence=np.zeros(RATE), noise=np.random.default_rng(0).normal(0, 0.1, RATE), empty=np.zeros(0),
                 one=np.ones(1), short=np.sin(np.arange(1700) / 30), constant=np.full(RATE, 0.3))


@pytest.mark.parametrize("kind", VOICELESS)
def test_what_has_no_pitch_comes_back(kind):
    wave = VOICELESS[kind].astype(np.float32)
    back = change_pitch(wave, RATE, 1.3, 1.5)
    assert np.array_equal(back, wave) and back is not wave and back.dtype == np.float32


def test_a_pitch_below_zero_is_no_change_rather_than_a_hang():
    who = dataclasses.replace(make_singer(3, "male"), scoop=0.0)
    leap = [Note(0.0, 0.2, 40, ("", "ɑ", "")), Note(0.2, 0.8, 64, ("", "ɑ", ""))]            # 82 Hz, then 330 Hz
    wave = sing(who, leap, 1.0, RATE)
    kept = change_pitch(wave, RATE, 1.2, 2.0)
    assert np.isfinite(kept).all() and median_pitch(kept) == pytest.approx(median_pitch(wave), rel=0.03)
    assert median_pitch(change_pitch(wave, RATE, 1.2, 1.1)) == pytest.approx(1.2 * median_pitch(wave), rel=0.03)


@settings(deadline=None, max_examples=25)
@given(length=st.integers(1, 30000), rate=st.sampled_from([8000, 16000, 44100, 48000]), m=st.floats(1 / 3, 3),
       r=st.floats(1 / 1.5, 1.5), f=st.sampled_from([1.0, 0.8, 1.3]))
def test_any_length_rate_and_ratio(vowel, length, rate, m, r, f):
    out = change_pitch(vowel[:length], rate, m, r, f)
    assert out.shape == (length,) and out.dtype == np.float32 and np.isfinite(out).all()


@pytest.mark.parametrize("arguments, words", [
    ((np.full(RATE, np.nan), RATE, 1.2, 1.0), "NaN"),
    ((np.zeros((2, RATE)), RATE, 1.2, 1.0), r"\(2, 44100\)"),
    ((np.zeros(RATE), RATE, 0.0, 1.0), "positive"),
    ((np.zeros(RATE), RATE, 1.2, -1.0), "positive"),
])
def test_wrong_pitch_input_is_one_error(arguments, words):
    with pytest.raises(VocalrepError, match=words):
        change_pitch(*arguments)


def test_without_praat_the_error_says_what_to_install(monkeypatch, vowel):
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(VocalrepError, match="pip install praat-parselmouth"):
        change_pitch(vowel, RATE, 1.2, 1.0)


@given(median=st.floats(80, 600), down=st.floats(0, 1), m=st.floats(1 / 3, 3), r=st.floats(1 / 3, 3))
def test_what_is_asked_of_praat_never_falls_below_zero(median, down, m, r):
    low = median * (1 - down)
    wanted, factor = reachable(median, low, m, r)
    new = wanted or median
    assert new + (low * new / median - new) * factor >= -1e-9
    assert (wanted, factor) in ((0.0, 1.0), (0.0, r), (median * m, r))


@given(st.integers(0, 20), st.integers(0, 20))
def test_fitted_length(samples, length):
    wave = np.arange(1.0, samples + 1)
    fitted = fit_length(wave, length)
    assert len(fitted) == length and (fitted[samples:] == 0).all()
    assert (fitted[:samples] == wave[:length]).all()


def test_shorter_than_three_periods_is_left_alone(vowel):
    shortest = int(3 * RATE / PITCH_FLOOR)
    assert np.array_equal(change_pitch(vowel[:shortest], RATE, 1.3, 1.0), vowel[:shortest])
    assert not np.array_equal(change_pitch(vowel[:4 * shortest], RATE, 1.3, 1.0), vowel[:4 * shortest])
