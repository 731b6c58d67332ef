"Augmentation: the published transforms against their definitions, workers that make no difference and die politely."
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.augment import (
    STANDARD_CHAIN, Gain, GaussianNoise, PitchShift, TimeMask, Transform, as_column, augment, draw_steps, one_by_one,
    prefetch_augmented, shifted, without_pitch,
)
from vocalrep.data.pitch import change_pitch
from vocalrep.project import VocalrepError
from vocalrep.studio.performance import Note
from vocalrep.studio.singer import make_singer
from vocalrep.studio.voice import sing

pytest.importorskip("parselmouth")
RATE = 44100
PITCH = PitchShift(p=1.0)


@pytest.fixture(scope="module")
def fragments():
    "Six singers, half a second each, (6, T)."
    people = [make_singer(seed) for seed in range(6)]
    waves = [sing(who, [Note(0.05, 0.4, who.centre, ("s", "ɑ", ""))], 0.5, RATE) for who in people]
    return torch.from_numpy(np.stack(waves))


def batches(fragments, n=3):
    return [(fragments[:2] * (k + 1) / n, fragments[2:4] * (k + 1) / n) for k in range(n)]


def rng(seed=0):
    return np.random.default_rng(seed)


# transforms

def test_the_standard_chain_is_the_released_one():
    noise, pitch, gain, mask = STANDARD_CHAIN
    assert [type(t) for t in STANDARD_CHAIN] == [GaussianNoise, PitchShift, Gain, TimeMask]
    assert all(t.p == 0.5 for t in STANDARD_CHAIN)
    assert (noise.amplitude, gain.decibels, mask.part) == ((0.001, 0.05), (-6.0, 0.0), 1 / 8)
    assert (pitch.ratio, pitch.range_ratio) == ((1.0, 1.3), (1.0, 1.5))
    assert without_pitch(STANDARD_CHAIN) == (GaussianNoise(), Gain(), TimeMask())
    assert without_pitch((PITCH, PitchShift(ratio=(1.0, 3.0)))) == ()


def test_without_praat_the_rest_of_the_chain_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    quiet = torch.zeros(2, 4410)
    assert augment(quiet, RATE, without_pitch(STANDARD_CHAIN), rng()).shape == quiet.shape
    with pytest.raises(VocalrepError, match="waveform 0 of a batch.*pip install praat-parselmouth"):
        augment(quiet, RATE, (PITCH,), rng())


def test_shifted_is_one_draw_for_the_whole_clip(fragments):
    wave = fragments[0].numpy()
    drawn = PITCH.draw(rng(5), 1, len(wave))
    ratios = drawn["median_ratio"][0], drawn["range_ratio"][0]
    expected = change_pitch(wave, RATE, *ratios, seed=drawn["seed"][0])
    assert np.array_equal(shifted(wave, RATE, PitchShift(p=0.0), rng(5)), expected)
    assert not np.array_equal(expected, wave)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_columns_take_the_waveforms_type_unless_they_count(kind):
    column = as_column(np.array([1, 2], kind), torch.zeros(2, 3))
    assert column.shape == (2, 1) and column.tolist() == [[1], [2]]
    assert column.dtype == (torch.int64 if kind is np.int64 else torch.float32)


def test_one_by_one_hands_each_waveform_its_own_numbers():
    def change(wave, factor, term):
        return wave * factor + term
    waves = torch.arange(6.0).reshape(3, 2)
    changed = one_by_one(change, waves, np.array([1, 2, 3], np.float32), np.array([0, 1, 0], np.float32))
    assert changed.tolist() == [[0, 1], [5, 7], [12, 15]]


@given(seed=st.integers(0, 99), low=st.floats(1, 2), width=st.floats(0, 2))
def test_pitch_ratios_lie_in_their_range_or_turned_over(seed, low, width):
    drawn = PitchShift(ratio=(low, low + width), range_ratio=(low, low + width)).draw(rng(seed), 30, 100)
    for ratios in (drawn["median_ratio"], drawn["range_ratio"]):
        upright = np.maximum(ratios, 1 / ratios)
        assert ((upright >= low - 1e-9) & (upright <= low + width + 1e-9)).all()


def test_median_and_range_are_turned_over_independently_half_the_time():
    drawn = PITCH.draw(rng(), 20_000, 100)
    up = np.stack([drawn["median_ratio"] > 1, drawn["range_ratio"] > 1])
    assert up.mean(1) == pytest.approx([0.5, 0.5], abs=0.02)
    assert up.all(0).mean() == pytest.approx(0.25, abs=0.02)


@given(seed=st.integers(0, 999), length=st.integers(1, 400), part=st.sampled_from([1 / 8, 0.5, 1.0]))
def test_time_mask_zeroes_one_stretch_of_at_most_its_part(seed, length, part):
    mask = TimeMask(part=part)
    drawn, waves = mask.draw(rng(seed), 5, length), torch.ones(5, length)
    changed = mask.apply(waves, RATE, **drawn)
    for row, start, n in zip(changed.numpy(), drawn["start"], drawn["length"]):
        assert 0 <= n <= int(part * length) and 0 <= start and start + n <= length
        expected = np.ones(length)
        expected[start:start + n] = 0
        assert np.array_equal(row, expected)


def test_time_masks_reach_both_ends_and_every_length():
    drawn = TimeMask().draw(rng(), 20_000, 80)
    assert set(drawn["length"]) == set(range(11)) and drawn["start"].min() == 0
    assert (drawn["start"] + drawn["length"]).max() == 80


@settings(deadline=None)
@given(seed=st.integers(0, 999))
def test_gain(seed):
    drawn, waves = Gain().draw(rng(seed), 4, 50), torch.randn(4, 50)
    assert (-6 <= drawn["decibels"]).all() and (drawn["decibels"] <= 0).all()
    expected = np.stack([10 ** (d / 20) * wave for wave, d in zip(waves.numpy(), drawn["decibels"])])
    assert np.allclose(Gain().apply(waves, RATE, **drawn), expected, atol=1e-6)


def test_noise_has_the_drawn_amplitude_and_its_own_seed():
    drawn = GaussianNoise().draw(rng(), 4, 50_000)
    noise = GaussianNoise().apply(torch.zeros(4, 50_000), RATE, **drawn)
    assert noise.std(1).numpy() == pytest.approx(drawn["amplitude"], rel=0.02)
    assert noise.mean(1).abs().max() < 1e-3
    assert np.abs(np.corrcoef(noise.numpy()) - np.eye(4)).max() < 0.02
    alone = GaussianNoise().apply(torch.zeros(1, 50_000), RATE, **{k: v[2:3] for k, v in drawn.items()})
    assert torch.equal(alone[0], noise[2])                                       # a row does not depend on its batch


@pytest.mark.parametrize("kind, wrong, words", [
    (Gain, dict(p=1.1), "p = 1.1"),
    (Gain, dict(p=-0.1), "probability"),
    (Gain, dict(p=float("nan")), "p = nan"),
    (Gain, dict(decibels=(0.0, -6.0)), "decibels"),
    (PitchShift, dict(ratio=(1.3, 1.0)), "PitchShift cannot have ratio"),
    (GaussianNoise, dict(amplitude=(0.0, float("nan"))), "amplitude"),
    (TimeMask, dict(part=2.0), "part"),
])
def test_impossible_records_are_errors(kind, wrong, words):
    with pytest.raises(VocalrepError, match=words):
        kind(**wrong)


# batches

ALL = (*STANDARD_CHAIN, GaussianNoise())


def test_same_generator_same_result_and_the_input_is_untouched(fragments):
    before = fragments.clone()
    one, two, other = (augment(fragments, RATE, ALL, rng(s)) for s in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(fragments, before)
    assert one.shape == fragments.shape and one.dtype == torch.float32 and one.isfinite().all()


def test_a_batch_is_its_waveforms_one_after_the_other_in_the_order_of_the_chain(fragments):
    expected = []
    for i, wave in enumerate(fragments):
        wave = wave[None]
        for step in draw_steps(ALL, rng(7), *fragments.shape):
            if step.chosen[i]:
                wave = step.transform.apply(wave, RATE, **step[[i]].drawn)
        expected.append(wave[0])
    assert torch.equal(augment(fragments, RATE, ALL, rng(7)), torch.stack(expected))
    twice = (Gain(p=1.0, decibels=(6.0, 6.0)), TimeMask(p=1.0))
    swapped = augment(fragments, RATE, twice[::-1], rng(7))
    assert augment(fragments, RATE, twice, rng(7)).shape == swapped.shape


@settings(deadline=None, max_examples=20)
@given(p=st.floats(0, 1), seed=st.integers(0, 99))
def test_probability(p, seed):
    changed = augment(torch.ones(400, 4), RATE, (Gain(p=p, decibels=(-6.0, -6.0)),), rng(seed))[:, 0] < 1
    assert changed.float().mean().item() == pytest.approx(p, abs=0.12)
    assert p or not changed.any()
    assert p < 1 or changed.all()


@pytest.mark.parametrize("shape", [(0, 4410), (1, 4410), (3, 1)])
def test_small_batches(shape):
    chain = tuple(dataclasses.replace(transform, p=1.0) for transform in STANDARD_CHAIN)
    assert augment(torch.zeros(shape), RATE, chain, rng()).shape == shape


def test_double_precision_becomes_single_and_whole_numbers_are_an_error():
    assert augment(torch.zeros(2, 100, dtype=torch.float64), RATE, (), rng()).dtype == torch.float32
    for wrong in (torch.zeros(100), torch.zeros(2, 2, 100), torch.zeros(2, 100, dtype=torch.int16)):
        with pytest.raises(VocalrepError, match=r"\(B, T\)"):
            augment(wrong, RATE, STANDARD_CHAIN, rng())


# workers: starting one takes seconds, so tests of two workers use the same ones, until
# `test_leaving_early_leaves_nothing_running` ends them

def children():
    return [p for p in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]


def gone(processes, seconds=10):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def pairs_equal(one, other):
    return len(one) == len(other) and all(map(torch.equal, sum(one, ()), sum(other, ())))


def broken():
    """A transform that ends a worker, or raises something that nobody expects.

    Its class is local, so that workers need not import this file.
    """
    class Broken(Transform):
        slow = True

        def draw(self, rng, n, samples):
            return dict(parent=np.full(n, os.getpid()))

        def apply(self, waves, rate, parent):
            if os.getpid() != parent[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("by hand")

    return Broken(p=1.0)


def test_a_dead_worker_is_one_error_and_the_next_call_finds_a_new_one(fragments):
    with pytest.raises(VocalrepError, match="died.*fewer workers"):
        list(prefetch_augmented(batches(fragments), RATE, (broken(),), rng(), workers=1))
    assert gone(children())
    again = augment(fragments[:2], RATE, (PITCH,), rng(), workers=2)
    assert torch.equal(again, augment(fragments[:2], RATE, (PITCH,), rng()))


def test_workers_and_reading_ahead_make_no_difference(fragments):
    chain = (GaussianNoise(), PITCH, Gain(), PitchShift(), TimeMask())

    def run(workers, ahead):
        return list(prefetch_augmented(batches(fragments), RATE, chain, rng(2), workers, ahead))

    plain, generator = run(None, 0), rng(2)
    by_hand = [tuple(augment(side, RATE, chain, generator) for side in pair) for pair in batches(fragments)]
    assert pairs_equal(plain, by_hand) and not torch.equal(plain[0][0], fragments[:2] / 3)
    assert all(pairs_equal(run(workers, ahead), plain) for workers, ahead in ((0, 4), (2, 0), (2, 1), (2, 9)))
    helped = augment(fragments, RATE, chain, rng(3), workers=2)
    assert torch.equal(helped, augment(fragments, RATE, chain, rng(3)))


@pytest.mark.parametrize("views", [1, 3])
def test_any_number_of_views(fragments, views):
    source = [tuple(fragments[:2] for _ in range(views))] * 2
    chain, generator = without_pitch(STANDARD_CHAIN), rng(4)
    found = list(prefetch_augmented(source, RATE, chain, rng(4), workers=0))
    expected = [tuple(augment(view, RATE, chain, generator) for view in batch) for batch in source]
    assert pairs_equal(found, expected) and len(found[0]) == views


def test_batches_are_read_only_as_far_ahead_as_asked(fragments):
    read = []
    source = (read.append(k) or pair for k, pair in enumerate(batches(fragments, 6)))
    loop = prefetch_augmented(source, RATE, (Gain(),), rng(), workers=0, ahead=2)
    assert not read                                                  # nothing begins before the first is asked for
    next(loop)
    assert read == [0, 1, 2]
    assert len(list(loop)) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_inside_is_one_error_that_names_the_waveform_and_ends_the_workers(fragments, workers, monkeypatch):
    from joblib.externals import loky
    real, ended = loky.get_reusable_executor, []

    class Spared:
        "The real executor, but for its end."
        def __init__(self, **options):
            self.submit = real(**options).submit

        def shutdown(self, wait):
            ended.append(wait)

    monkeypatch.setattr(loky, "get_reusable_executor", Spared)
    bad = fragments[:3].clone()
    bad[1, 100] = float("nan")
    with pytest.raises(VocalrepError, match="waveform 1 of a batch.*NaN"):
        source = [(fragments[:3], fragments[:3]), (bad, fragments[:3])]
        list(prefetch_augmented(source, RATE, (PITCH,), rng(), workers))
    assert ended == ([True] if workers else [])


def test_leaving_early_leaves_nothing_running(fragments):
    loop = prefetch_augmented(batches(fragments, 8), RATE, (PITCH,), rng(), workers=2)
    next(loop)
    running = children()
    assert running
    loop.close()
    assert gone(running) and not children()


def test_an_error_of_the_source_passes_as_it_is(fragments):
    def source():
        yield from batches(fragments, 2)
        raise OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        list(prefetch_augmented(source(), RATE, (Gain(),), rng(), workers=0))


def test_an_unexpected_error_is_one_error(fragments):
    with pytest.raises(VocalrepError, match="waveform 0 of a batch failed: ZeroDivisionError: by hand"):
        augment(fragments, RATE, (broken(),), rng())


def test_without_slow_transforms_no_worker_starts(fragments):
    before = {p.pid for p in children()}
    list(prefetch_augmented(batches(fragments), RATE, without_pitch(STANDARD_CHAIN), rng(), workers=2))
    assert {p.pid for p in children()} <= before


PROGRAM = """
import sys, numpy as np, torch
from vocalrep.data.augment import PitchShift, augment
late = ("parselmouth", "scipy.signal", "torchaudio", "joblib", "soundfile")
print([name for name in late if name in sys.modules], flush=True)
augment(torch.rand(2, 8000), 16000, (PitchShift(p=1.0),), np.random.default_rng(0), workers=1)
print("done", flush=True)
"""


def test_a_program_loads_no_praat_before_it_is_needed_and_ends_with_idle_workers(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    program = subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "[]\n"
    assert program.stdout.readline() == "done\n"
    begun = time.perf_counter()
    assert program.wait(timeout=25) == 0
    assert time.perf_counter() - begun < 20                                      # not after the workers' idle time
