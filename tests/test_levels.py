"Levels: bytes of earlier runs, silence, surroundings, bad norms."
import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from vocalrep.data.levels import LEVELS, peak_normalize, unit_norm
from vocalrep.project import VocalrepError


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9))
def test_peak_normalize(values):
    wave = torch.tensor([values, [-v for v in values]])
    peak = max(map(abs, values))
    assert torch.equal(peak_normalize(wave), wave / peak if peak else wave)


def test_peak_normalize_keeps_silence_and_keeps_rows_apart():
    waves = torch.tensor([[0.0, 0.0], [0.5, -2.0], [float("nan"), 1.0]])
    out = peak_normalize(waves)
    assert out[:2].tolist() == [[0.0, 0.0], [0.25, -1.0]]
    assert waves[1].tolist() == [0.5, -2.0]                                  # a new tensor


@given(st.integers(1, 5))
def test_unit_norm_is_the_level_of_a_segment(seconds):
    segment = torch.sin(torch.arange(5 * 200.0))[None]                  # steady: every part is as loud as the whole
    part = segment[:, :seconds * 200] / torch.linalg.norm(segment)
    torch.testing.assert_close(unit_norm(7 * segment[:, :seconds * 200], 200), part, rtol=1e-2, atol=1e-3)


@given(st.integers(1, 8), st.sampled_from([8000, 16_000, 44_100]))
def test_unit_norm_without_surroundings_is_the_expression_of_earlier_runs(quarters, rate):
    waves = torch.randn(2, quarters * rate // 4, generator=torch.Generator().manual_seed(quarters))
    seconds = waves.shape[1] / rate
    norm = torch.linalg.norm(waves, dim=1, keepdim=True).clamp(min=1e-9)
    assert torch.equal(unit_norm(waves, rate), waves * math.sqrt(seconds / 5) / norm)


def test_surroundings_decide_where_they_are_known():
    waves, norms = torch.randn(3, 100), torch.tensor([2.0, 0.5, 0.0])
    waves[2] = 0
    out = unit_norm(waves, 100, norms)
    assert torch.equal(out[:2], waves[:2] / norms[:2, None]) and not out[2].any()
    assert torch.equal(unit_norm(waves, 100, norms.numpy().astype(np.float64)), out)
    assert out.dtype == torch.float32


@pytest.mark.parametrize("norms", [torch.ones(2), torch.ones(3, 1), torch.ones(())])
def test_one_norm_for_each_waveform(norms):
    with pytest.raises(VocalrepError, match="3 waveforms came with norms of shape.*one norm for each"):
        unit_norm(torch.ones(3, 10), 10, norms)


@pytest.mark.parametrize("name", LEVELS)
def test_every_level_keeps_silence_shape_type_and_its_input(name):
    waves = torch.randn(3, 50)
    waves[1] = 0
    before = waves.clone()
    out = LEVELS[name](waves, 10, None)
    assert out.shape == waves.shape and out.dtype == torch.float32
    assert not out[1].any() and torch.equal(waves, before)
    assert LEVELS[name](waves[:0], 10, None).shape == (0, 50)


def test_levels_by_name():
    waves = torch.tensor([[0.1, -0.4, 0.2, 0.0], [3.0, 4.0, 0.0, 0.0]])
    assert list(LEVELS) == ["peak", "unit-norm", "clip-norm", "recorded"]
    assert LEVELS["recorded"](waves, 4, torch.ones(2)) is waves
    assert torch.equal(LEVELS["peak"](waves, 4, torch.ones(2)), waves / torch.tensor([[0.4], [4.0]]))
    assert torch.equal(LEVELS["unit-norm"](waves, 4, torch.full((2,), 2.0)), waves / 2)
