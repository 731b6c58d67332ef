"Effects keep a take's length and silence, and are linear where they should be."
import numpy as np
import pytest

from vocalrep.studio.effects import EFFECTS


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("samples", [1, 50, 9000])
def test_effects_keep_length_and_silence(effect, samples):
    for rate in (8000, 44100):
        wave = np.random.default_rng(0).normal(0, 0.1, samples)
        out = EFFECTS[effect](wave.copy(), rate, np.random.default_rng(1))
        assert out.shape == (samples,) and np.isfinite(out).all()
        assert not EFFECTS[effect](np.zeros(samples), rate, np.random.default_rng(1)).any()


@pytest.mark.parametrize("effect", sorted(set(EFFECTS) - {"distortion"}))
def test_effects_but_distortion_are_linear(effect):
    wave = np.random.default_rng(0).normal(0, 0.1, 9000)
    once, twice = (EFFECTS[effect](k * wave, 8000, np.random.default_rng(1)) for k in (1, 2))
    np.testing.assert_allclose(2 * once, twice, atol=1e-9)


def test_delay_is_the_sum_of_its_echoes():
    pulse = np.zeros(8000)
    pulse[0] = 1
    out = EFFECTS["delay"](pulse, 8000, np.random.default_rng(4))
    at = np.flatnonzero(out)
    assert len(set(np.diff(at))) == 1 and 0.18 <= at[1] / 8000 <= 0.4
    np.testing.assert_allclose(out[at], out[at[1]] ** np.arange(len(at)), rtol=1e-9)
