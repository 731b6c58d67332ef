"Silences against a loop, segments, and what is measured of them."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.segments import count_segments, measure_segments, shorten_silences
from vocalrep.data.store import ACTIVE_LEVEL

RATE = 8000


def tone(seconds, level=0.5):
    return np.full(round(seconds * RATE), level, np.float32)


# ---- long silences ----

def runs_of(values):
    "(value, its consecutive places), by a loop."
    found = []
    for i, value in enumerate(values):
        if found and found[-1][0] == value:
            found[-1][1].append(i)
        else:
            found.append((value, [i]))
    return found


def naive_shortening(wave, rate, longest, threshold, briefest):
    "Block after block, in plain loops."
    block = rate // 100
    blocks = [wave[i:i + block] for i in range(0, len(wave), block)]
    peak = max(abs(x) for x in wave)
    loud = [max(abs(x) for x in b) >= np.float32(threshold) * peak and peak > 0 for b in blocks]
    for value, members in runs_of(loud):
        if value and len(members) * block < briefest * rate:
            for i in members:
                loud[i] = False
    kept = []
    for value, members in runs_of(loud):
        samples = [x for i in members for x in blocks[i]]
        if not value and len(members) * block > longest * rate:
            samples = samples[:round(longest * rate)]
        kept += samples
    return np.array(kept, np.float32)


levels = st.sampled_from([0.0, 0.0004, 0.0049, 0.0051, 0.02, 0.9])
stretches = st.lists(st.tuples(levels, st.integers(1, 320)), min_size=1, max_size=14)


@settings(deadline=None, max_examples=100)
@given(stretches, st.sampled_from([100, 200, 130]), st.sampled_from([0.4, 0.65, 1.3]), st.sampled_from([0.03, 0.2]))
def test_shortened_silences_against_a_loop(stretches, rate, longest, briefest):
    signs = [level * np.where(np.arange(n) % 2, -1, 1) for level, n in stretches]
    wave = np.concatenate(signs).astype(np.float32)
    before = wave.copy()
    short = shorten_silences(wave, rate, longest, briefest=briefest)
    assert short.dtype == np.float32
    assert np.array_equal(short, naive_shortening(wave, rate, longest, 0.005, briefest))
    assert np.array_equal(wave, before)
    softer = shorten_silences(wave / 8, rate, longest, briefest=briefest)
    assert len(softer) == len(short)                                     # silence is relative to the clip's own peak


@pytest.mark.parametrize("parts, seconds", [
    ([tone(5, 0.0)], 1.3),                                                     # nobody sings
    ([tone(1.3, 0.0)], 1.3),
    ([tone(3)], 3),                                                            # no silence
    ([tone(1), tone(1.3, 0.0), tone(1)], 3.3),                                 # as long as may be
    ([tone(1), tone(1.31, 0.0), tone(1)], 3.3),
    ([tone(4, 0.0), tone(1), tone(4, 0.0), tone(1), tone(4, 0.0)], 3 * 1.3 + 2),   # before, between and after
    ([tone(1), tone(2, 0.0), tone(0.19), tone(2, 0.0), tone(1)], 3.3),         # too brief to be sung
    ([tone(1), tone(2, 0.0), tone(0.2), tone(2, 0.0), tone(1)], 2 + 2 * 1.3 + 0.2),
    ([tone(1, 1.0), tone(3, 0.005)], 4),                                       # silence is below the threshold
    ([tone(1, 1.0), tone(3, 0.00499)], 2.3),
    ([tone(0.0005)], 0.0005),                                                  # shorter than a block
    ([tone(0.0005, 0.0)], 0.0005),
    ([tone(1), tone(2, 0.0), tone(0.0005)], 2.3),                              # the last block is not whole
])
def test_edges_of_silence(parts, seconds):
    wave = np.concatenate(parts)
    assert len(shorten_silences(wave, RATE)) == round(seconds * RATE)


def test_what_is_sung_stays_in_its_order():
    rng = np.random.default_rng(0)
    sung = [rng.uniform(0.1, 1, RATE).astype(np.float32) for _ in range(3)]
    whole = np.concatenate([sung[0], tone(9, 0.0), sung[1], tone(1, 0.0), sung[2]])
    expected = np.concatenate([sung[0], tone(1.3, 0.0), sung[1], tone(1, 0.0), sung[2]])
    assert np.array_equal(shorten_silences(whole, RATE), expected)


def test_silences_of_nothing():
    assert not len(shorten_silences(tone(0), RATE))


# ---- segments ----

def test_segments_cover_the_clip():
    assert [count_segments(int(s * 16000), 16000) for s in (1, 5, 5.4, 5.6, 30, 30.04)] == [1, 1, 1, 2, 6, 6]


@given(st.floats(0.01, 200), st.sampled_from([1.0, 3.92, 5.0, 20.0]), st.sampled_from([1000, 16000, 44100]))
def test_less_than_half_a_second_is_dropped(length, seconds, rate):
    length = int(length * rate)
    count = count_segments(length, rate, seconds)
    rest = length / rate - count * seconds                                     # below 0: padding
    assert count == 1 or -seconds + 0.5 - 1e-6 < rest
    assert rest <= 0.5 + 1e-6


def test_five_seconds_are_counted_as_ever():
    "The expression of earlier stores, with a tenth of a segment written out."
    for length in range(1, 600_000, 7):
        assert count_segments(length, 16000) == max(1, int(np.ceil(length / (5.0 * 16000) - 0.1)))


@pytest.mark.parametrize("names", [("mixture",), ("vocals",), ("vocals", "accompaniment"), ("bass", "drums"),
                                   ("vocals", "bass", "drums", "other")])
def test_measures_against_a_loop(names):
    rng, rate, seconds = np.random.default_rng(0), 100, 3.92
    levels = rng.choice([0, 0.002, 0.2], (len(names), 3)).repeat(392, axis=1)
    stems = (levels * rng.normal(0, 1, levels.shape)).astype(np.float32)
    table = measure_segments(stems, names, rate, seconds)
    sources = dict(zip(names, stems)) | {"mixture": stems.sum(0)}
    if "vocals" in names and len(names) > 2:
        sources["accompaniment"] = stems[1:].sum(0)
    measured = {f"{kind}_{name}" for kind in ("active", "norm") for name in sources}
    assert set(table) == {"position", *measured} and len(table) == 3 and table.columns.is_unique
    for name, wave in sources.items():
        for k, part in enumerate(wave.reshape(3, 392)):
            assert table[f"active_{name}"][k] == (np.abs(part).mean() > ACTIVE_LEVEL)
            assert np.isclose(table[f"norm_{name}"][k], max(np.linalg.norm(part), 10 ** -4.5), rtol=1e-5)
        assert table[f"norm_{name}"].dtype == np.float32 and pd.api.types.is_bool_dtype(table[f"active_{name}"])
