"What a corpus has above 8 kHz."
import numpy as np
import pandas as pd
import pytest
import torch

from vocalrep.evaluation.tasks import TestCorpus
from vocalrep.papers.singer_identity import bandwidth
from vocalrep.papers.singer_identity.bandwidth import BANDS, band_energies, fragment_energies, measure_treble


class Tones:
    "A store of one sound: a tone at 6 kHz, and one at 10 kHz with this amplitude."
    rate = 44100

    def __init__(self, amplitude):
        t = np.arange(8 * self.rate) / self.rate
        wave = np.sin(2 * np.pi * 6000 * t) + amplitude * np.sin(2 * np.pi * 10000 * t)
        self.wave = torch.from_numpy(wave.astype(np.float32) * 0.3)

    def excerpts(self, rows, offsets, length, source):
        return torch.stack([self.wave[o:o + length] for o in offsets])


def fragments(clips="abcd"):
    return pd.DataFrame([dict(clip=c, artist="a", gender=None, row=0, offset=k * 4 * 44100, name=f"{c}{k}")
                         for c in clips for k in (0, 1)])


@pytest.mark.parametrize("amplitude, limited", [(0.5, False), (0.02, True), (0.0, True)])
def test_treble_of_two_tones(monkeypatch, amplitude, limited):
    monkeypatch.setattr(bandwidth, "fragment_places", lambda *_: fragments())
    found = measure_treble(TestCorpus("tones", Tones(amplitude), None), fragments=5)
    assert np.isclose(found["share_above"], amplitude ** 2 / (1 + amplitude ** 2), atol=1e-6)
    assert np.isclose(found["left"], amplitude ** 2, atol=1e-6) and found["band_limited"] is limited


def test_bands_hold_what_their_frequencies_say():
    t = np.arange(44100) / 44100
    waves = np.stack([np.sin(2 * np.pi * hertz * t) for hertz in (1000, 5000, 6999, 7000, 8000, 10999, 11000)])
    energy = band_energies(waves, 44100)
    inside = energy > 0.5 * energy[:, :1]
    assert inside.T.tolist() == [[True] * 7, [False] * 4 + [True] * 3, [False, True, True] + [False] * 4,
                                 [False] * 5 + [True, False]]
    assert list(BANDS) == ["everything", "above", "middle", "high"]


def test_more_fragments_than_are_read_at_once():
    places = fragments("abcdefghij")                                                  # twenty
    energy = fragment_energies(Tones(0.5), places)
    assert energy.shape == (20, 4) and np.allclose(energy[::2], energy[0]) and np.allclose(energy[1::2], energy[1])
