"The sound font is read as its tables say: pitch, loop, envelopes, filter; what is no font is refused."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.studio.songs import sound_font
from vocalrep.studio.soundfont import play_note, read_font


@pytest.fixture(scope="module")
def font():
    return read_font(sound_font())


def strongest(x, rate):
    "Frequency of the strongest partial."
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)), 4 * len(x)))
    return power.argmax() * rate / (4 * len(x))


def level(x, start, end, rate=16000):
    return 20 * np.log10(np.sqrt(np.square(x[int(start * rate):int(end * rate)]).mean()) + 1e-12)


@pytest.mark.parametrize("program, pitch", [(73, 72), (79, 69), (80, 60), (0, 69), (71, 65), (24, 64), (40, 76)])
def test_a_note_has_its_pitch(font, program, pitch):
    "Up to a multiple: some instruments are strongest in an upper partial."
    hz = 440 * 2 ** ((pitch - 69) / 12)
    ratio = strongest(play_note(font, program, pitch, seconds=1.0, rate=16000), 16000) / hz
    assert abs(ratio / round(ratio) - 1) < 0.012, ratio


def test_a_key_is_a_semitone(font):
    at = [strongest(play_note(font, 80, pitch, seconds=1.0, rate=16000), 16000) for pitch in (60, 61)]
    assert at[1] / at[0] == pytest.approx(2 ** (1 / 12), rel=2e-3)


def test_a_note_falls_silent_and_a_plucked_one_while_it_is_held(font):
    guitar, organ = (play_note(font, program, 60, held=2.0, seconds=3.0, rate=16000) for program in (24, 19))
    assert level(guitar, 1.7, 2.0) < level(guitar, 0.05, 0.3) - 5
    assert abs(level(organ, 1.7, 2.0) - level(organ, 0.5, 1.0)) < 3
    assert max(level(guitar, 2.8, 3.0) - level(guitar, 0, 1), level(organ, 2.8, 3.0) - level(organ, 0, 1)) < -60


def test_softly_is_duller(font):
    shares = []
    for velocity in (20, 120):
        power = np.abs(np.fft.rfft(play_note(font, 0, 60, velocity, seconds=1.0, rate=16000))) ** 2
        shares.append(power[2000:].sum() / power.sum())
    assert shares[0] < 0.7 * shares[1]


def test_a_rate_is_a_rate(font):
    slow, fast = (play_note(font, 73, 72, seconds=0.5, rate=rate) for rate in (16000, 48000))
    assert (len(slow), len(fast)) == (8000, 24000)
    assert strongest(slow, 16000) == pytest.approx(strongest(fast, 48000), rel=2e-3)


@settings(max_examples=15, deadline=None)
@given(program=st.integers(0, 127), pitch=st.integers(30, 90), velocity=st.integers(1, 127))
def test_whatever_is_asked_sounds_or_is_refused(font, program, pitch, velocity):
    try:
        x = play_note(font, program, pitch, velocity, held=0.3, seconds=0.4, rate=8000)
    except VocalrepError as error:
        assert f"program {program}, pitch {pitch}" in str(error)
    else:
        assert x.shape == (3200,) and np.isfinite(x).all() and np.abs(x).max() < 20


def test_the_same_note_is_the_same_whatever_was_played_before(font):
    first = play_note(font, 48, 60, seconds=0.3, rate=8000)
    play_note(font, 30, 40, seconds=0.3, rate=8000)
    assert np.array_equal(first, play_note(font, 48, 60, seconds=0.3, rate=8000))


def test_drums_are_in_another_bank(font):
    snare = play_note(font, 0, 38, held=0.2, seconds=0.5, rate=16000, bank=128)
    assert np.abs(snare).max() > 0.01
    with pytest.raises(VocalrepError, match="bank 7"):
        play_note(font, 0, 60, bank=7)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x10\x00\x00\x00sfbkLIST\x04\x00\x00\x00pdta", b"x" * 999])
def test_what_is_no_font_is_refused(tmp_path, content):
    (tmp_path / "bad.sf2").write_bytes(content)
    with pytest.raises(VocalrepError, match="bad.sf2.*no sound font"):
        read_font(tmp_path / "bad.sf2")
    (tmp_path / "cut.sf2").write_bytes(sound_font().read_bytes()[:5_000_000])
    with pytest.raises(VocalrepError, match="cut.sf2"):
        read_font(tmp_path / "cut.sf2")
    with pytest.raises(VocalrepError, match="nowhere.sf2"):
        read_font(tmp_path / "nowhere.sf2")
