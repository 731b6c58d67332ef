"""The log-mel frontends: parity with the released constants, batches, devices, bad input."""
import math

import numpy as np
import pytest
import torch

from vocalrep.models.frontends import (
    LogMel, LogPowerMel, hertz_to_slaney_mel, in_blocks, mel_matrix, slaney_mel_matrix, slaney_mel_to_hertz,
)
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


def sine():
    return torch.sin(2 * math.pi * 440 * torch.arange(16000, dtype=torch.float64) / 16000).float()[None]


def test_parity_with_the_released_code():
    logmel = LogMel()(sine())[0]
    assert logmel.shape == (98, 64)
    expected = [-2.62863, -2.36686, -2.11703, -1.71133, -1.30104, -0.66092, -0.10958, 1.01369,
                2.90632, 4.95754, 5.47392, 4.74166]
    np.testing.assert_allclose(logmel[0, :12], expected, atol=1e-4)
    assert logmel[50, 8].item() == pytest.approx(2.906316, abs=1e-4)
    assert logmel[97, 63].exp().item() == pytest.approx(math.exp(-9.903701), abs=1e-5)   # float32 rounding noise
    assert logmel.mean().item() == pytest.approx(-4.868026, abs=1e-3)


def test_mel_matrix_of_the_released_code():
    matrix = mel_matrix()
    assert matrix.shape == (513, 64) and matrix.sum().item() == pytest.approx(484.4412, abs=1e-3)
    np.testing.assert_allclose(matrix.sum(0)[[0, 10, 63]], [1.8587008, 2.6937222, 19.469967], atol=2e-5)
    assert matrix[0].sum() == 0


def test_mel_matrix_against_librosa_filters_drawn_in_mel():
    librosa = pytest.importorskip("librosa")
    centres = librosa.mel_frequencies(66, fmin=60, fmax=7800, htk=True)
    peaks = np.arange(513)[mel_matrix().argmax(0).numpy()] * 16000 / 1024
    assert np.abs(peaks - centres[1:-1]).max() <= 16000 / 1024       # each band peaks at the bin nearest to its centre


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_a_waveform_does_not_depend_on_its_batch(count):
    x = torch.randn(count, 3000)
    together = LogMel()(x)
    apart = torch.cat([LogMel()(row[None]) for row in x])
    assert together.shape == (count, 1 + (3000 - 400) // 160, 64)
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("block", [1, 3, 5, 9])
def test_blocks_are_rows_in_order_and_in_single_precision(block):
    seen = []

    def work(part):
        seen.append((len(part), part.dtype, torch.is_autocast_enabled("cpu")))
        return part + 1

    x = torch.arange(10, dtype=torch.float64).reshape(5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = in_blocks(work, x, block)
    assert torch.equal(out, x.float() + 1)
    assert sum(count for count, _, _ in seen) == 5 and max(count for count, _, _ in seen) <= block
    assert {(dtype, autocast) for _, dtype, autocast in seen} == {(torch.float32, False)}


def test_full_precision_under_autocast():
    x = 0.01 * torch.randn(3, 4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = LogMel()(x)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, LogMel()(x))


def test_gradient_through_silence_is_finite():
    x = torch.zeros(1, 1600, requires_grad=True)
    LogMel()(x).sum().backward()
    assert x.grad.isfinite().all()


def test_nan_stays_in_its_own_row():
    x = 0.01 * torch.randn(3, 4000)
    x[1, 2000] = float("nan")
    out = LogMel()(x)
    assert out[1].isnan().any() and out[[0, 2]].isfinite().all()


@pytest.mark.parametrize("shape", [(2, 399), (16000,), (1, 2, 16000), (3, 0)])
def test_wrong_shapes(shape):
    with pytest.raises(VocalrepError, match="waveforms"):
        LogMel()(torch.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu():
    x = 0.01 * torch.randn(40, 16000)
    torch.testing.assert_close(LogMel().cuda()(x.cuda()).cpu(), LogMel()(x), atol=1e-3, rtol=1e-4)


# ---- dry vocals at 44.1 kHz ----

READINGS = {"paper": dict(bands=80, mel_rate=44100), "released": dict(bands=128, mel_rate=22050)}


@pytest.mark.parametrize("reading", READINGS)
def test_slaney_bands_are_librosas(reading):
    librosa = pytest.importorskip("librosa")
    bands, rate = READINGS[reading].values()
    expected = librosa.filters.mel(sr=rate, n_fft=2048, n_mels=bands, fmin=0, fmax=rate / 2, htk=False, norm="slaney")
    matrix = LogPowerMel(**READINGS[reading]).mel
    assert matrix.shape == (1025, bands) and matrix.dtype == torch.float32
    np.testing.assert_allclose(matrix.T, expected, atol=1e-8, rtol=1e-4)
    frequencies = np.geomspace(20, 22050, 50)
    np.testing.assert_allclose(hertz_to_slaney_mel(frequencies), librosa.hz_to_mel(frequencies), rtol=1e-12)
    np.testing.assert_allclose(slaney_mel_to_hertz(hertz_to_slaney_mel(frequencies)), frequencies, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("samples", [1025, 2048, 5000, 44100])
def test_power_spectrogram_is_librosas(reading, samples):
    librosa = pytest.importorskip("librosa")
    bands, rate = READINGS[reading].values()
    x = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    expected = librosa.feature.melspectrogram(y=x.numpy(), sr=rate, n_fft=2048, hop_length=512, n_mels=bands,
                                              window="hann", center=True, pad_mode="reflect", power=2.0)
    out = LogPowerMel(**READINGS[reading])(x)
    assert out.shape == (2, 1 + samples // 512, bands)
    np.testing.assert_allclose(out.exp().transpose(1, 2) - 1e-8, expected, rtol=1e-3, atol=1e-6)


def test_the_released_picture_of_a_sine():
    t = torch.arange(176_000, dtype=torch.float64) / 44100
    picture = LogPowerMel()(torch.sin(2 * math.pi * 440 * t).float()[None])[0]                   # (344, 128)
    matrix = slaney_mel_matrix()
    assert matrix.sum().item() == pytest.approx(11.88668, abs=1e-4)
    assert matrix.max().item() == pytest.approx(0.03842170, abs=1e-7)
    assert picture.shape == (344, 128) and picture[100].argmax() == 8
    assert picture.max().item() == pytest.approx(8.990376, abs=1e-4)
    low = np.exp([-9.0044, -8.4045, -7.4912])                 # 72 dB below the tone: that library's own rounding
    np.testing.assert_allclose(picture[100, :3].exp(), low, atol=1e-5)
    assert LogPowerMel()(torch.zeros(1, 176_400)).shape == (1, 345, 128)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_a_picture_does_not_depend_on_its_batch(count):
    x = torch.randn(count, 3000)
    apart = torch.cat([LogPowerMel()(row[None]) for row in x])
    torch.testing.assert_close(LogPowerMel()(x), apart)


def test_powers_under_autocast_from_silence_and_beside_nan():
    frontend = LogPowerMel(40, 44100)
    x = 0.01 * torch.randn(3, 4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = frontend(x)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, frontend(x))
    torch.testing.assert_close(frontend(x.double()), frontend(x))
    x[1, 2000] = float("nan")
    assert frontend(x)[1].isnan().any() and frontend(x)[[0, 2]].isfinite().all()
    silent = torch.zeros(1, 4000, requires_grad=True)
    frontend(silent).sum().backward()
    assert silent.grad.isfinite().all() and (frontend(silent) == math.log(1e-8)).all()
    assert frontend(torch.zeros(0, 4000)).shape == (0, 8, 40) and not frontend.state_dict()


@pytest.mark.parametrize("shape", [(2, 1024), (16000,), (1, 2, 16000), (3, 0)])
def test_wrong_shapes_of_vocals(shape):
    with pytest.raises(VocalrepError, match="more than 1024 samples"):
        LogPowerMel()(torch.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_powers_on_a_gpu():
    x = 0.01 * torch.randn(40, 16000)
    torch.testing.assert_close(LogPowerMel().cuda()(x.cuda()).cpu(), LogPowerMel()(x), atol=1e-3, rtol=1e-4)
