"The switched-off transforms against their definitions."
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_augment import fragments, rng          # noqa: F401 (fixtures)
from test_pitch import RATE, formants, median_pitch, vowel          # noqa: F401

from vocalrep.data.augment import STANDARD_CHAIN, augment, draw_steps
from vocalrep.data.more_augmentations import (
    BANDS, Equalizer, FormantShift, ImpulseResponse, NaivePitch, Shift, TanhDistortion, TimeStretch,
    change_pitch_naively, equalizer_band, stretch_time,
)
from vocalrep.data.pitch import change_pitch
from vocalrep.project import VocalrepError

ALL = (TimeStretch(), NaivePitch(), FormantShift(), Shift(), *STANDARD_CHAIN, Equalizer(), TanhDistortion())


@pytest.mark.parametrize("ratio", [1 / 1.4, 1.4])
def test_naive_shift_moves_both_and_a_formant_shift_the_other(vowel, ratio):
    naive, throat = change_pitch_naively(vowel, ratio), change_pitch(vowel, RATE, 1.0, 1.0, ratio)
    assert median_pitch(naive) / median_pitch(vowel) == pytest.approx(ratio, rel=0.02)
    assert median_pitch(throat) == pytest.approx(median_pitch(vowel), rel=0.02)
    for wave in (naive, throat):
        assert formants(wave, 5000 * ratio) / formants(vowel, 5000) == pytest.approx(ratio, rel=0.06)


@settings(deadline=None)
@given(seed=st.integers(0, 999), share=st.sampled_from([(-0.05, 0.2), (-1.0, 1.0), (0.0, 0.0)]))
def test_shift_rolls_and_fades_only_at_the_seam(seed, share):
    shift, waves = Shift(share=share, fade=10 / RATE), torch.rand(3, 200) + 0.5
    drawn = shift.draw(rng(seed), 3, 200)
    changed, steps = shift.apply(waves, RATE, **drawn).numpy(), np.round(drawn["share"] * 200).astype(int)
    for before, after, by in zip(waves.numpy(), changed, steps):
        rolled = np.roll(before, by)
        far = np.abs(np.arange(200) + 0.5 - by % 200) > 10 if by else np.ones(200, bool)
        assert np.allclose(after[far], rolled[far])
        assert (np.abs(after) <= rolled + 1e-6).all()
        assert by == 0 or after[by % 200] < 0.1                                      # silent at the seam


def test_tanh_distortion_against_a_loop_and_keeps_the_level():
    distortion, waves = TanhDistortion(), 0.3 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    drawn = distortion.draw(rng(), 3, 4000)
    changed = distortion.apply(waves, RATE, **drawn).numpy()
    for before, after, amount in zip(waves.numpy(), changed, drawn["amount"]):
        bent = np.tanh(before * 0.5 / (np.percentile(np.abs(before), 100 - 99 * amount) + 1e-6))
        assert np.allclose(after, bent * np.sqrt((before**2).mean() / (bent**2).mean()), atol=1e-5)
    assert np.abs(changed).max() < np.abs(waves.numpy()).max()
    assert not distortion.apply(torch.zeros(3, 400), RATE, **drawn).any()


@pytest.mark.parametrize("kind, where", [("low", 0.0), ("bell", 0.2), ("high", np.pi)])
@pytest.mark.parametrize("decibels", [-12.0, 3.0])
def test_equalizer_bands_reach_their_gain(kind, where, decibels):
    from scipy.signal import sosfreqz
    sections = equalizer_band(kind, np.array([0.2]), np.array([decibels]), np.array([0.8]))

    def gain(angle):
        return 20 * np.log10(np.abs(sosfreqz(sections, worN=[angle])[1][0]))

    assert gain(where) == pytest.approx(decibels, abs=1e-6)
    far = {"low": np.pi, "bell": np.pi, "high": 0.0}[kind]
    assert gain(far) == pytest.approx(0, abs=1e-6)                                   # the far end is left alone
    if kind != "bell":
        assert gain(0.2) == pytest.approx(decibels / 2, abs=1e-6)                    # half way up at the corner


@pytest.mark.parametrize("rate", [16000, 44100])
def test_equalizer_is_linear_and_flat_at_zero(rate):
    x, y = torch.randn(2, 2, 3000, generator=torch.Generator().manual_seed(0))
    flat, drawn = Equalizer(decibels=(0.0, 0.0)), Equalizer().draw(rng(), 2, 3000)
    assert torch.allclose(flat.apply(x, rate, **flat.draw(rng(), 2, 3000)), x, atol=1e-5)
    one, other, both = (Equalizer().apply(wave, rate, **drawn) for wave in (x, y, x + y))
    assert torch.allclose(one + other, both, atol=1e-4)
    assert not torch.allclose(one, x, atol=1e-2)


def test_the_bands_of_the_equalizer():
    ranges = [(42, 95), (91, 204), (196, 441), (421, 948), (909, 2045), (1957, 4404), (4216, 9486)]
    assert [hertz for _, hertz, _ in BANDS] == ranges
    drawn = Equalizer().draw(rng(), 50, 3000)
    low, high = np.array(ranges).T
    assert (low <= drawn["hertz"]).all() and (drawn["hertz"] <= high).all()
    narrow, wide = np.array([q for _, _, q in BANDS]).T
    assert (narrow <= drawn["q"]).all() and (drawn["q"] <= wide).all()
    assert (-2 <= drawn["decibels"]).all() and (drawn["decibels"] <= 1).all()


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_stretched_time_keeps_the_pitch(vowel, speed):
    stretched = stretch_time(vowel, speed)
    assert len(stretched) == pytest.approx(len(vowel) / speed, abs=1)
    assert median_pitch(stretched) == pytest.approx(median_pitch(vowel), rel=0.01)
    fitted = TimeStretch().apply(torch.from_numpy(vowel)[None], RATE, speed=np.array([speed]))
    assert fitted.shape == (1, len(vowel))
    assert speed <= 1 or not fitted[0, -len(vowel) // 10:].any()                     # padded with silence


def test_impulse_response(tmp_path):
    import soundfile
    response = np.r_[np.zeros(20), 1.0, np.zeros(50), 0.5]
    for name, rate in (("räume 1.wav", RATE), ("half rate.wav", RATE // 2)):
        soundfile.write(tmp_path / name, np.stack([response, response], 1), rate, subtype="FLOAT")
    room = ImpulseResponse(files=(str(tmp_path / "räume 1.wav"),))
    waves = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    changed = room.apply(waves, RATE, **room.draw(rng(), 3, 500)).numpy()
    for before, after in zip(waves.numpy(), changed):
        wet = np.convolve(before, response)[:500]
        assert np.allclose(after, wet * np.abs(before).max() / np.abs(wet).max(), atol=1e-4)
    slower = ImpulseResponse(files=(str(tmp_path / "half rate.wav"),)).apply(waves, RATE, which=np.zeros(3, int))
    assert slower.shape == waves.shape and not np.allclose(slower, changed, atol=0.1)
    with pytest.raises(VocalrepError, match="no such file"):
        ImpulseResponse(files=(str(tmp_path / "gone.wav"),)).apply(waves, RATE, which=np.zeros(3, int))


@pytest.mark.parametrize("semitones, choices", [((2.0,), {2.0}), ((-4.0, 3.0), {-4.0, 3.0})])
def test_naive_pitch_chooses_among_its_semitones(vowel, semitones, choices):
    drawn = NaivePitch(semitones=semitones).draw(rng(), 200, 100)["semitones"]
    assert set(drawn) == choices
    changed = NaivePitch().apply(torch.from_numpy(vowel)[None], RATE, semitones=drawn[:1])[0].numpy()
    assert median_pitch(changed) / median_pitch(vowel) == pytest.approx(2 ** (drawn[0] / 12), rel=0.02)


def test_an_empty_choice_is_an_error():
    for kind, nothing in ((ImpulseResponse, dict(files=())), (NaivePitch, dict(semitones=()))):
        with pytest.raises(VocalrepError, match="choice is not empty"):
            kind(**nothing)


def test_in_a_chain_each_waveform_gets_its_own_numbers_in_order(fragments):
    expected = []
    for i, wave in enumerate(fragments):
        wave = wave[None]
        for step in draw_steps(ALL, rng(7), *fragments.shape):
            if step.chosen[i]:
                wave = step.transform.apply(wave, RATE, **step[[i]].drawn)
        expected.append(wave[0])
    changed = augment(fragments, RATE, ALL, rng(7))
    assert torch.equal(changed, torch.stack(expected))
    assert torch.equal(changed, augment(fragments, RATE, ALL, rng(7)))
    assert not torch.equal(changed, augment(fragments, RATE, ALL, rng(8)))
    assert changed.shape == fragments.shape and changed.dtype == torch.float32 and changed.isfinite().all()
