"Listeners: windows against plain loops, levels, rates, and what they leave as it was."
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import resample

from vocalrep.evaluation.embedding import embed_excerpts, fragment_places
from vocalrep.models.encoders import Encoder, MeanMFCC, SingerEncoder
from vocalrep.models.adapters import LEVELS, Listener, unit_norm
from vocalrep.project import VocalrepError
from vocalrep.data.sampling import peak_normalize


class Echo(Encoder):
    "An encoder whose embedding is what it hears, and which remembers it."

    def __init__(self, rate=100, seconds=1.0):
        super().__init__()
        self.name, self.rate, self.seconds, self.heard = "echo", rate, seconds, []
        self.dim = self.samples

    def forward(self, waveforms):
        self.heard.append(waveforms)
        return waveforms


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(10, 400), size=st.integers(10, 400))
def test_windows_cover_the_fragment_evenly(samples, size):
    encoder = Echo(seconds=size / 100)
    if size > samples:
        with pytest.raises(VocalrepError, match="use longer fragments"):
            Listener(encoder, rate=100, seconds=samples / 100)
        return
    time = torch.arange(float(samples))
    out = Listener(encoder, rate=100, seconds=samples / 100, level="recorded")(torch.stack([time, -time]))
    starts = [int(window[0, 0]) for window in encoder.heard]
    for start, window in zip(starts, encoder.heard):
        assert torch.equal(window, torch.stack([time, -time])[:, start:start + size])
    expected = 1 if samples - size <= 1 else math.ceil(samples / size)               # as few as cover it; a sample more is rounding
    assert len(starts) == expected and starts[0] == 0 and starts == sorted(starts)
    if len(starts) > 1:
        assert starts[-1] + size == samples and np.ptp(np.diff(starts)) <= 1 and max(np.diff(starts)) <= size
    torch.testing.assert_close(out, torch.stack([window.double() for window in encoder.heard]).mean(0).float())


@pytest.mark.parametrize("rate, seconds, encoder, windows", [
    (44100, 4.0, Echo(44100, 4.0), 1),         # singer identity, its own fragments
    (16000, 4.0, Echo(44100, 4.0), 1),
    (44100, 4.0, Echo(16000, 1.0), 4),         # CVSM
    (44100, 4.0, Echo(16000, 1.6), 3),         # GE2E
    (22050, 4.0, Echo(16000, 4.0), 1),
    (44100, 4.0, Echo(16000, 0.3), 14),
])
def test_windows_of_the_encoders_there_are(rate, seconds, encoder, windows):
    listener = Listener(encoder, rate, seconds)
    encoder.heard.clear()
    assert listener(torch.randn(2, listener.samples)).shape == (2, encoder.dim)
    assert len(encoder.heard) == windows and all(window.shape == (2, encoder.samples) for window in encoder.heard)
    assert (listener.rate, listener.seconds, listener.dim, listener.name) == (rate, seconds, encoder.dim, "echo")


def test_levels():
    waves = torch.tensor([[0.1, -0.4, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]])
    heard = {level: Listener(Echo(4), rate=4, seconds=1.0, level=level)(waves) for level in LEVELS}
    assert torch.equal(heard["recorded"], waves) and torch.equal(heard["peak"], waves / torch.tensor([[0.4], [1.0], [4.0]]))
    torch.testing.assert_close(heard["unit-norm"][2], torch.tensor([0.6, 0.8, 0.0, 0.0]) * math.sqrt(1 / 5))       # a fifth of a segment's energy
    assert not heard["unit-norm"][1].any() and all(torch.equal(h, Listener(Echo(4), 4, 1.0, level)(waves)) for level, h in heard.items())
    with pytest.raises(VocalrepError, match="unknown level 'loud'.*peak, unit-norm, recorded"):
        Listener(Echo(), level="loud")


@given(st.integers(1, 5))
def test_unit_norm_is_the_level_of_a_segment(seconds):
    segment = torch.sin(torch.arange(5 * 200.0))[None]                               # steady: every part is as loud as the whole
    part = segment[:, :seconds * 200] / torch.linalg.norm(segment)
    torch.testing.assert_close(unit_norm(7 * segment[:, :seconds * 200], seconds), part, rtol=1e-2, atol=1e-3)


def test_the_level_is_set_once_for_the_whole_fragment_and_before_resampling():
    waves = torch.cat([0.1 * torch.randn(1, 16000), torch.randn(1, 16000)], 1)       # a soft second, a loud one
    encoder = Echo(8000, 1.0)
    Listener(encoder, 16000, 2.0)(waves)
    torch.testing.assert_close(torch.cat(encoder.heard, 1), resample(peak_normalize(waves), 16000, 8000), atol=1e-5, rtol=1e-4)
    assert encoder.heard[0].abs().max() < 0.5 * encoder.heard[1].abs().max()


def _energy(wave, rate, low, high):
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.shape[-1])).abs().square()
    hertz = torch.linspace(0, rate / 2, spectrum.shape[-1])
    return spectrum[..., (hertz >= low) & (hertz < high)].sum().item()


def test_through_a_narrow_band_nothing_above_it_is_left():
    waves = torch.randn(1, 44100, generator=torch.Generator().manual_seed(0))
    full, narrow = Echo(44100), Echo(44100)
    Listener(full, 44100, 1.0, "recorded")(waves)
    Listener(narrow, 44100, 1.0, "recorded", through=16000)(waves)
    (full,), (narrow,) = full.heard, narrow.heard
    assert torch.equal(full, waves) and narrow.shape == waves.shape
    assert _energy(narrow, 44100, 9500, 22050) < 1e-4 * _energy(full, 44100, 9500, 22050)
    assert _energy(narrow, 44100, 100, 6000) == pytest.approx(_energy(full, 44100, 100, 6000), rel=0.02)
    torch.testing.assert_close(narrow, resample(resample(waves, 44100, 16000), 16000, 44100)[:, :44100], atol=1e-4, rtol=1e-3)     # released: torchaudio, down and up


@pytest.mark.parametrize("through", [None, 44100, 48000])
def test_a_band_that_is_wide_enough_changes_nothing(through):
    encoder, waves = Echo(44100), torch.randn(2, 44100)
    assert torch.equal(Listener(encoder, 44100, 1.0, "recorded", through)(waves), waves)


def test_an_encoder_of_the_narrow_band_hears_the_same_through_it():
    encoder, waves = MeanMFCC(), 0.1 * torch.randn(2, 44100)
    assert torch.equal(Listener(encoder, 44100, 1.0, through=16000)(waves), Listener(encoder, 44100, 1.0)(waves))


@pytest.fixture(scope="module")
def voices(dry):
    return dry([("Ada", "train", 4.5), ("Béla", "train", 9.0)])


def test_fragments_of_a_store_are_heard_one_by_one(voices):
    places = fragment_places(voices)
    vectors = embed_excerpts(voices, Listener(Echo(16000), voices.rate), "vocals", places, "recorded", batch=2)
    for place, vector in zip(places.itertuples(), vectors, strict=True):
        wave = voices.excerpts(np.array([place.row]), np.array([place.offset]), 176_400, "vocals")
        sixteen = resample(peak_normalize(wave), 44100, 16000)
        np.testing.assert_allclose(vector, sixteen.view(4, 16000).mean(0), atol=1e-5)


def test_an_encoder_stays_in_its_mode(voices):
    encoder = SingerEncoder("small-cnn").eval()
    listener = Listener(encoder, voices.rate)
    assert not listener.training
    embed_excerpts(voices, listener, "vocals", fragment_places(voices), "recorded")
    assert not encoder.training
