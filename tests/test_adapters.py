"Adapters: windows against plain loops, levels, rates, layers, and what they leave as it was."
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import resample

from vocalrep.data.levels import LEVELS, peak_normalize, unit_norm
from vocalrep.evaluation.embedding import embed_excerpts, fragment_places
from vocalrep.models.adapters import FragmentEncoder, LayersEncoder, TorchEncoder, adapt
from vocalrep.models.encoders import Encoder, MeanMFCC, SingerEncoder
from vocalrep.project import VocalrepError


class Echo(Encoder):
    "An encoder whose embedding is what it hears, and which remembers it."

    def __init__(self, rate=100, seconds=1.0, level="recorded"):
        super().__init__()
        self.name, self.rate, self.seconds, self.level, self.heard = "echo", rate, seconds, level, []
        self.dim = self.samples

    def embed(self, features):
        self.heard.append(features)
        return features


# ---- windows ----

@settings(deadline=None, max_examples=60)
@given(samples=st.integers(10, 400), size=st.integers(10, 400))
def test_windows_cover_the_fragment_evenly(samples, size):
    encoder = Echo(seconds=size / 100)
    if size > samples:
        with pytest.raises(VocalrepError, match="use longer fragments"):
            FragmentEncoder(encoder, rate=100, seconds=samples / 100)
        return
    time = torch.arange(float(samples))
    out = FragmentEncoder(encoder, rate=100, seconds=samples / 100)(torch.stack([time, -time]))
    starts = [int(window[0, 0]) for window in encoder.heard]
    for start, window in zip(starts, encoder.heard):
        assert torch.equal(window, torch.stack([time, -time])[:, start:start + size])
    expected = 1 if samples - size <= 1 else math.ceil(samples / size)      # as few as cover it
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
    listener = FragmentEncoder(encoder, rate, seconds)
    encoder.heard.clear()
    assert listener(torch.randn(2, listener.samples)).shape == (2, encoder.dim)
    assert len(encoder.heard) == windows and all(window.shape == (2, encoder.samples) for window in encoder.heard)
    assert (listener.rate, listener.seconds, listener.dim, listener.name) == (rate, seconds, encoder.dim, "echo")


# ---- levels ----

def test_levels_are_those_of_the_encoder():
    waves = torch.tensor([[0.1, -0.4, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]])
    heard = {level: FragmentEncoder(Echo(4, level=level), rate=4, seconds=1.0)(waves) for level in LEVELS}
    assert torch.equal(heard["recorded"], waves)
    assert torch.equal(heard["peak"], waves / torch.tensor([[0.4], [1.0], [4.0]]))
    fifth = math.sqrt(1 / 5)                                                         # of a segment's energy
    torch.testing.assert_close(heard["unit-norm"][2], torch.tensor([0.6, 0.8, 0.0, 0.0]) * fifth)
    assert not heard["unit-norm"][1].any()
    assert all(FragmentEncoder(Echo(4, level=level), 4, 1.0).level == level for level in LEVELS)


@pytest.mark.parametrize("level", LEVELS)
def test_a_fragment_is_judged_by_itself_at_its_own_rate(level):
    waves = torch.randn(2, 800)
    echo = Echo(50, 1.0, level)
    listener = FragmentEncoder(echo, rate=100, seconds=8.0)
    assert torch.equal(listener(waves, torch.tensor([3.0, 5.0])), listener(waves))   # norms are not used
    echo.heard.clear()
    listener(waves)
    whole = listener.resample(LEVELS[level](waves, 100, None))                 # the level first, once for all
    assert torch.equal(torch.cat(echo.heard, 1), whole)


@given(st.integers(1, 5))
def test_unit_norm_is_the_level_of_a_segment(seconds):
    segment = torch.sin(torch.arange(5 * 200.0))[None]                 # steady: every part is as loud as the whole
    part = segment[:, :seconds * 200] / torch.linalg.norm(segment)
    torch.testing.assert_close(unit_norm(7 * segment[:, :seconds * 200], 200), part, rtol=1e-2, atol=1e-3)


def test_the_level_is_set_once_for_the_whole_fragment_and_before_resampling():
    waves = torch.cat([0.1 * torch.randn(1, 16000), torch.randn(1, 16000)], 1)       # a soft second, a loud one
    encoder = Echo(8000, 1.0, "peak")
    FragmentEncoder(encoder, 16000, 2.0)(waves)
    expected = resample(peak_normalize(waves), 16000, 8000)
    torch.testing.assert_close(torch.cat(encoder.heard, 1), expected, atol=1e-5, rtol=1e-4)
    assert encoder.heard[0].abs().max() < 0.5 * encoder.heard[1].abs().max()


# ---- rates ----

def _energy(wave, rate, low, high):
    spectrum = torch.fft.rfft(wave * torch.hann_window(wave.shape[-1])).abs().square()
    hertz = torch.linspace(0, rate / 2, spectrum.shape[-1])
    return spectrum[..., (hertz >= low) & (hertz < high)].sum().item()


def test_through_a_narrow_band_nothing_above_it_is_left():
    waves = torch.randn(1, 44100, generator=torch.Generator().manual_seed(0))
    full = FragmentEncoder(Echo(44100), 44100, 1.0)(waves)
    narrow = FragmentEncoder(Echo(44100), 44100, 1.0, through=16000)(waves)
    assert torch.equal(full, waves) and narrow.shape == waves.shape
    assert _energy(narrow, 44100, 9500, 22050) < 1e-4 * _energy(full, 44100, 9500, 22050)
    assert _energy(narrow, 44100, 100, 6000) == pytest.approx(_energy(full, 44100, 100, 6000), rel=0.02)
    released = resample(resample(waves, 44100, 16000), 16000, 44100)[:, :44100]      # torchaudio, down and up
    torch.testing.assert_close(narrow, released, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("through", [None, 44100, 48000])
def test_a_band_that_is_wide_enough_changes_nothing(through):
    waves = torch.randn(2, 44100)
    assert torch.equal(FragmentEncoder(Echo(44100), 44100, 1.0, through)(waves), waves)


def test_an_encoder_of_the_narrow_band_hears_the_same_through_it():
    encoder, waves = MeanMFCC(level="peak"), 0.1 * torch.randn(2, 44100)
    narrow = FragmentEncoder(encoder, 44100, 1.0, through=16000)
    assert torch.equal(narrow(waves), FragmentEncoder(encoder, 44100, 1.0)(waves))


def test_only_what_does_not_fit_is_adapted():
    echo = Echo(16000, 1.0, "peak")
    assert adapt(echo, 16000, 1.0) is echo
    for rate, seconds in ((44100, 1.0), (16000, 4.0)):
        other = adapt(echo, rate, seconds)
        assert isinstance(other, FragmentEncoder)
        assert (other.rate, other.seconds, other.level) == (rate, seconds, "peak")
    with pytest.raises(VocalrepError, match="use longer fragments"):
        adapt(echo, 16000, 0.5)


# ---- fragments of a store ----

@pytest.fixture(scope="module")
def voices(dry):
    return dry([("Ada", "train", 4.5), ("Béla", "train", 9.0)])


def test_fragments_of_a_store_are_heard_one_by_one(voices):
    places = fragment_places(voices)
    listener = FragmentEncoder(Echo(16000, level="peak"), voices.rate, 4.0)
    vectors = embed_excerpts(voices, listener, "vocals", places, batch=2)
    for place, vector in zip(places.itertuples(), vectors, strict=True):
        wave = voices.excerpts(np.array([place.row]), np.array([place.offset]), 176_400, "vocals")
        sixteen = resample(peak_normalize(wave), 44100, 16000)
        np.testing.assert_allclose(vector, sixteen.view(4, 16000).mean(0), atol=1e-5)


def test_an_encoder_stays_in_its_mode(voices):
    encoder = SingerEncoder("small-cnn").eval()
    listener = FragmentEncoder(encoder, voices.rate, 4.0)
    assert not listener.training
    embed_excerpts(voices, listener, "vocals", fragment_places(voices))
    assert not encoder.training


# ---- layers ----

class Deep(Echo):
    "An encoder of three layers, two numbers each; the first is its embedding."

    def layers(self, features):
        return torch.stack([features[:, k:k + 2] for k in (0, 2, 4)], 1)             # (B, 3, 2)

    def embed(self, features):
        return self.layers(features)[:, 0]


def test_layers_in_a_row():
    waves = torch.randn(2, 300)
    deep = Deep(100, 1.0, "peak").eval()
    flat = LayersEncoder(deep)
    assert (flat.name, flat.rate, flat.seconds, flat.level, flat.dim) == ("echo", 100, 1.0, "peak", deep.dim)
    assert not flat.training and not hasattr(flat, "layers")
    heard = peak_normalize(waves)
    assert torch.equal(flat(waves[:, :100]), peak_normalize(waves[:, :100])[:, :6])
    of_windows = torch.stack([heard[:, start:start + 6] for start in (0, 100, 200)]).mean(0)
    torch.testing.assert_close(FragmentEncoder(flat, 100, 3.0)(waves), of_windows)
    with pytest.raises(VocalrepError, match="'echo' has one embedding and no layers"):
        LayersEncoder(Echo())


# ---- your own ----

def test_an_own_network_goes_by_its_device_and_its_shape():
    encoder = TorchEncoder(torch.nn.Linear(4000, 8), "mine", 8000, 0.5, 8)
    assert (encoder.samples, encoder(torch.ones(3, 4000)).shape) == (4000, (3, 8))
    names = [name for name, _ in encoder.named_parameters()]
    assert names == ["module.weight", "module.bias"]                                 # so it moves to a GPU with it
    for module in (lambda x: x[:, None], lambda x: x.sum(), lambda x: (x, x), lambda x: x[:1]):
        with pytest.raises(VocalrepError, match="wrong.*(2, 4000)"):
            TorchEncoder(module, "wrong", 8000, 0.5, 4000)(torch.ones(2, 4000))
    for rate, seconds, dim in ((0, 1, 1), (8000, 0, 1), (8000, 1, -2)):
        with pytest.raises(VocalrepError, match="positive"):
            TorchEncoder(lambda x: x, "wrong", rate, seconds, dim)


@pytest.mark.parametrize("level", LEVELS)
def test_an_own_network_hears_the_level_it_asks_for(level):
    waves, norms = torch.randn(2, 40), torch.tensor([2.0, 3.0])
    encoder = TorchEncoder(lambda x: x, "mine", 40, 1.0, 40, level)
    assert torch.equal(encoder(waves, norms), LEVELS[level](waves, 40, norms))
    assert TorchEncoder(lambda x: x, "mine", 40, 1.0, 40).level == "recorded"
    with pytest.raises(VocalrepError, match="unknown level"):
        TorchEncoder(lambda x: x, "mine", 40, 1.0, 40, "loud")
