"""The log-mel frontend: parity with the released constants, batches, devices, bad input."""
import math

import numpy as np
import pytest
import torch

from vocalrep.frontends import LogMel, mel_matrix
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


def sine():
    return torch.sin(2 * math.pi * 440 * torch.arange(16000, dtype=torch.float64) / 16000).float()[None]


def test_parity_with_the_released_code():
    logmel = LogMel()(sine())[0]
    assert logmel.shape == (98, 64)
    expected = [-2.62863, -2.36686, -2.11703, -1.71133, -1.30104, -0.66092, -0.10958, 1.01369, 2.90632, 4.95754, 5.47392, 4.74166]
    np.testing.assert_allclose(logmel[0, :12], expected, atol=1e-4)
    assert logmel[50, 8].item() == pytest.approx(2.906316, abs=1e-4)
    assert logmel[97, 63].exp().item() == pytest.approx(math.exp(-9.903701), abs=1e-5)   # rounding noise of a float32 transform
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
