"Spectrograms between frontend and network: masked, shifted, warped."
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.models.masks import MaskWarpShift, hidden_places, shifted_down, warped
from vocalrep.project import VocalrepError

NEVER = MaskWarpShift(p_masks=0, p_shift=0, p_warp=0)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_hidden_stretches_are_as_many_and_as_long_as_asked(seed, masks, longest):
    torch.manual_seed(seed)
    hidden = hidden_places(20, 98, (masks, masks + 1), (0, 80), (longest, longest + 1))
    assert (hidden.sum(1) <= masks * longest).all() and (hidden.sum(1) >= longest).all()
    assert not hidden[:, 80 + longest:].any()


@given(st.integers(0, 2**31), st.integers(0, 63))
@settings(max_examples=30, deadline=None)
def test_a_shift_is_numpys(seed, bands):
    spectra = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(seed))
    shifted = shifted_down(spectra, torch.tensor([bands, 0]), 7.0)
    expected = np.concatenate([spectra[0, :, bands:], np.full((5, bands), 7.0)], 1)
    assert np.allclose(shifted[0], expected) and torch.equal(shifted[1], spectra[1])


@pytest.mark.parametrize("cut", [38, 45, 57])
def test_a_warp_is_numpys(cut):
    spectra = torch.randn(1, 98, 4)
    place = np.append(np.linspace(0, cut, 49), np.linspace(cut + 1, 97, 49))
    expected = np.stack([np.interp(place, np.arange(98), spectra[0, :, k]) for k in range(4)], 1)
    assert np.allclose(warped(spectra, torch.tensor([cut]))[0], expected, atol=1e-4)


def test_each_happens_as_often_as_it_should():
    torch.manual_seed(0)
    features = torch.randn(3000, 1, 98, 64)
    for fields, share in ((dict(p_shift=0.4), 0.4), (dict(p_warp=0.4), 0.4), (dict(p_masks=0.5), 0.75)):
        changed = dataclasses.replace(NEVER, **fields)(features, 0.0)
        assert (changed != features).flatten(1).any(1).float().mean() == pytest.approx(share, abs=0.04)


def test_what_is_hidden_is_blank_and_nothing_else_moves():
    torch.manual_seed(3)
    features = torch.randn(50, 1, 98, 64)
    masked = dataclasses.replace(NEVER, p_masks=1.0)(features, 2.0)
    assert ((masked == features) | (masked == 2.0)).all() and (masked == 2.0).flatten(1).any(1).all()
    assert torch.equal(NEVER(features, 2.0), features)


@pytest.mark.parametrize("shape", [(2, 98, 64), (2, 3, 98, 64), (2, 1, 58, 64)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(VocalrepError, match="more than 58 frames"):
        NEVER(torch.zeros(shape), 0.0)
