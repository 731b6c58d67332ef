"Augmentation: pitch moves and formants stay, the published transforms against their definitions, workers that make no difference and die politely."
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

from vocalrep.data.augment import CHAINS, Gain, GaussianNoise, PitchShift, TimeMask, Transform, augment, change_pitch, draw_steps, prefetch_augmented, shifted, without_pitch
from vocalrep.project import VocalrepError
from vocalrep.studio.voice import FORMANTS, TRACT_CM, Note, make_singer, sing

parselmouth = pytest.importorskip("parselmouth")
RATE = 44100
PITCH = PitchShift(p=1.0)


def call(*arguments):
    return parselmouth.praat.call(*arguments)


def median_pitch(wave, rate=RATE):
    return call(call(parselmouth.Sound(wave.astype(float), rate), "To Pitch", 0.01, 40.0, 1500.0), "Get quantile", 0, 0, 0.5, "Hertz")


def formants(wave, highest):
    burg = parselmouth.Sound(wave.astype(float), RATE).to_formant_burg(max_number_of_formants=5, maximum_formant=highest)
    return np.array([np.nanmedian([burg.get_value_at_time(k, t) for t in np.arange(0.2, 0.8, 0.02)]) for k in (1, 2, 3)])


@pytest.fixture(scope="module")
def vowel():
    "One second of a steady vowel."
    who = dataclasses.replace(make_singer(3, "male"), vowels=tuple(map(tuple, FORMANTS["male"])), tract_cm=TRACT_CM["male"], vibrato_cents=0.0, drift=0.0, jitter=0.005, breath_db=-60.0,
                              nasality=0.0, cluster=0.0, side=(), scoop=0.0, roughness=0.0, damping=1.0)
    return sing(who, [Note(0.0, 1.0, 43, ("", "æ", ""))], 1.0, RATE)


@pytest.fixture(scope="module")
def fragments():
    "Six singers, half a second each, (6, T)."
    waves = [sing(make_singer(s), [Note(0.05, 0.4, make_singer(s).centre, ("s", "ɑ", ""))], 0.5, RATE) for s in range(6)]
    return torch.from_numpy(np.stack(waves))


def batches(fragments, n=3):
    return [(fragments[:2] * (k + 1) / n, fragments[2:4] * (k + 1) / n) for k in range(n)]


def rng(seed=0):
    return np.random.default_rng(seed)


# pitch

@pytest.mark.parametrize("ratio", [1 / 1.5, 1 / 1.2, 1.2, 1.5])
def test_praat_moves_the_pitch_and_not_the_formants(vowel, ratio):
    moved = change_pitch(vowel, RATE, ratio, 1.0)
    assert median_pitch(moved) / median_pitch(vowel) == pytest.approx(ratio, rel=0.02)
    assert formants(moved, 5000) == pytest.approx(formants(vowel, 5000), rel=0.06)


def test_range_ratio_widens_the_melody_around_its_median():
    who = dataclasses.replace(make_singer(3, "male"), vibrato_cents=0.0, drift=0.0, scoop=0.0)
    wave = sing(who, [Note(0.4 * i, 0.4, 45 + step, ("", "ɑ", "")) for i, step in enumerate((-4, 0, 0, 4))], 1.6, RATE)
    ends = lambda x: np.array([call(call(parselmouth.Sound(x.astype(float), RATE), "To Pitch", 0.01, 40.0, 600.0), "Get quantile", 0, 0, q, "Hertz") for q in (0.1, 0.5, 0.9)])
    before, wider, narrower = (ends(x) for x in (wave, change_pitch(wave, RATE, 1.2, 1.5), change_pitch(wave, RATE, 1.2, 1 / 1.5)))
    for after, by in ((wider, 1.5), (narrower, 1 / 1.5)):
        assert after[1] == pytest.approx(1.2 * before[1], rel=0.03)
        assert after - after[1] == pytest.approx(1.2 * by * (before - before[1]), abs=5)


def test_same_as_calling_praat_by_hand(vowel):
    sound = parselmouth.Sound(vowel.astype(float), RATE)
    pitch = call(sound, "To Pitch", 0.8 / 75, 75, 600)
    parselmouth.praat.run("random_initializeWithSeedUnsafelyButPredictably (9)")
    expected = call([sound, pitch], "Change gender", 1.0, 1.25 * call(pitch, "Get quantile", 0, 0, 0.5, "Hertz"), 1.4, 1.0).values[0]
    assert np.array_equal(change_pitch(vowel, RATE, 1.25, 1.4, seed=9), expected.astype(np.float32))


@pytest.mark.parametrize("wave", [np.zeros(RATE), rng().normal(0, 0.1, RATE), np.zeros(0), np.ones(1), np.sin(np.arange(1700) / 30), np.full(RATE, 0.3)], ids=["silence", "noise", "empty", "one", "short", "constant"])
def test_what_has_no_pitch_comes_back(wave):
    wave = wave.astype(np.float32)
    back = change_pitch(wave, RATE, 1.3, 1.5)
    assert np.array_equal(back, wave) and back is not wave and back.dtype == np.float32


def test_a_pitch_below_zero_is_no_change_rather_than_a_hang():
    who = dataclasses.replace(make_singer(3, "male"), scoop=0.0)
    wave = sing(who, [Note(0.0, 0.2, 40, ("", "ɑ", "")), Note(0.2, 0.8, 64, ("", "ɑ", ""))], 1.0, RATE)      # 82 Hz under a median of 330 Hz
    kept = change_pitch(wave, RATE, 1.2, 2.0)
    assert np.isfinite(kept).all() and median_pitch(kept) == pytest.approx(median_pitch(wave), rel=0.03)
    assert median_pitch(change_pitch(wave, RATE, 1.2, 1.1)) == pytest.approx(1.2 * median_pitch(wave), rel=0.03)


@settings(deadline=None, max_examples=25)
@given(length=st.integers(1, 30000), rate=st.sampled_from([8000, 16000, 44100, 48000]), m=st.floats(1 / 3, 3), r=st.floats(1 / 1.5, 1.5), f=st.sampled_from([1.0, 0.8, 1.3]))
def test_any_length_rate_and_ratio(vowel, length, rate, m, r, f):
    out = change_pitch(vowel[:length], rate, m, r, f)
    assert out.shape == (length,) and out.dtype == np.float32 and np.isfinite(out).all()


@pytest.mark.parametrize("arguments, words", [((np.full(RATE, np.nan), RATE, 1.2, 1.0), "NaN"), ((np.zeros((2, RATE)), RATE, 1.2, 1.0), r"\(2, 44100\)"), ((np.zeros(RATE), RATE, 0.0, 1.0), "positive"),
                                              ((np.zeros(RATE), RATE, 1.2, -1.0), "positive")])
def test_wrong_pitch_input_is_one_error(arguments, words):
    with pytest.raises(VocalrepError, match=words):
        change_pitch(*arguments)


def test_without_praat_the_error_says_what_to_install(monkeypatch, vowel):
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(VocalrepError, match="pip install praat-parselmouth"):
        change_pitch(vowel, RATE, 1.2, 1.0)
    quiet = torch.zeros(2, 4410)
    assert augment(quiet, RATE, without_pitch(CHAINS["released"]), rng()).shape == quiet.shape       # the rest needs no Praat


def test_shifted_is_one_draw_for_the_whole_clip(vowel):
    drawn = PITCH.draw(rng(5), 1, len(vowel))
    expected = change_pitch(vowel, RATE, drawn["median_ratio"][0], drawn["range_ratio"][0], seed=drawn["seed"][0])
    assert np.array_equal(shifted(vowel, RATE, PitchShift(p=0.0), rng(5)), expected) and not np.array_equal(expected, vowel)


# transforms

def test_chains_are_the_published_ones():
    kinds = [GaussianNoise, PitchShift, Gain, TimeMask]
    for name, top in (("paper", 3.0), ("released", 1.3)):
        noise, pitch, gain, mask = CHAINS[name]
        assert [type(t) for t in CHAINS[name]] == kinds and all(t.p == 0.5 for t in CHAINS[name])
        assert (noise.amplitude, pitch.ratio, pitch.range_ratio, gain.decibels, mask.part) == ((0.001, 0.05), (1.0, top), (1.0, 1.5), (-6.0, 0.0), 1 / 8)
        assert [type(t) for t in without_pitch(CHAINS[name])] == [GaussianNoise, Gain, TimeMask]


@given(seed=st.integers(0, 99), low=st.floats(1, 2), width=st.floats(0, 2))
def test_pitch_ratios_lie_in_their_range_or_turned_over(seed, low, width):
    for name, r in PitchShift(ratio=(low, low + width), range_ratio=(low, low + width)).draw(rng(seed), 30, 100).items():
        if name != "seed":
            assert ((np.maximum(r, 1 / r) >= low - 1e-9) & (np.maximum(r, 1 / r) <= low + width + 1e-9)).all()


def test_median_and_range_are_turned_over_independently_half_the_time():
    drawn = PITCH.draw(rng(), 20_000, 100)
    up = np.stack([drawn["median_ratio"] > 1, drawn["range_ratio"] > 1])
    assert up.mean(1) == pytest.approx([0.5, 0.5], abs=0.02) and up.all(0).mean() == pytest.approx(0.25, abs=0.02)


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
    assert np.allclose(Gain().apply(waves, RATE, **drawn), [[10 ** (d / 20) * x for x in wave] for wave, d in zip(waves.tolist(), drawn["decibels"])], atol=1e-6)


def test_noise_has_the_drawn_amplitude_and_its_own_seed():
    drawn = GaussianNoise().draw(rng(), 4, 50_000)
    noise = GaussianNoise().apply(torch.zeros(4, 50_000), RATE, **drawn)
    assert noise.std(1).numpy() == pytest.approx(drawn["amplitude"], rel=0.02) and noise.mean(1).abs().max() < 1e-3
    assert np.abs(np.corrcoef(noise.numpy()) - np.eye(4)).max() < 0.02
    alone = GaussianNoise().apply(torch.zeros(1, 50_000), RATE, **{k: v[2:3] for k, v in drawn.items()})
    assert torch.equal(alone[0], noise[2])                                                       # a row does not depend on its batch


@pytest.mark.parametrize("make, words", [(lambda: Gain(p=1.1), "p = 1.1"), (lambda: Gain(p=-0.1), "probability"), (lambda: Gain(p=float("nan")), "p = nan"),
                                         (lambda: Gain(decibels=(0.0, -6.0)), "decibels"), (lambda: PitchShift(ratio=(1.3, 1.0)), "PitchShift cannot have ratio"),
                                         (lambda: GaussianNoise(amplitude=(0.0, float("nan"))), "amplitude"), (lambda: TimeMask(part=2.0), "part")])
def test_impossible_records_are_errors(make, words):
    with pytest.raises(VocalrepError, match=words):
        make()


# batches

ALL = (*CHAINS["released"], GaussianNoise())


def test_same_generator_same_result_and_the_input_is_untouched(fragments):
    before = fragments.clone()
    one, two, other = (augment(fragments, RATE, ALL, rng(s)) for s in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other) and torch.equal(fragments, before)
    assert one.shape == fragments.shape and one.dtype == torch.float32 and one.isfinite().all()


def test_a_batch_is_its_waveforms_one_after_the_other_in_the_order_of_the_chain(fragments):
    expected = []
    for i, wave in enumerate(fragments):
        wave = wave[None]
        for step in draw_steps(ALL, rng(7), *fragments.shape):
            if step.chosen[i]:
                wave = step.transform.apply(wave, RATE, **{name: values[i:i + 1] for name, values in step.drawn.items()})
        expected.append(wave[0])
    assert torch.equal(augment(fragments, RATE, ALL, rng(7)), torch.stack(expected))
    twice = (Gain(p=1.0, decibels=(6.0, 6.0)), TimeMask(p=1.0))
    swapped = augment(fragments, RATE, twice[::-1], rng(7))
    assert augment(fragments, RATE, twice, rng(7)).shape == swapped.shape


@settings(deadline=None, max_examples=20)
@given(p=st.floats(0, 1), seed=st.integers(0, 99))
def test_probability(p, seed):
    changed = augment(torch.ones(400, 4), RATE, (Gain(p=p, decibels=(-6.0, -6.0)),), rng(seed))[:, 0] < 1
    assert changed.float().mean().item() == pytest.approx(p, abs=0.12) and (p or not changed.any()) and (p < 1 or changed.all())


@pytest.mark.parametrize("shape", [(0, 4410), (1, 4410), (3, 1)])
def test_small_batches(shape):
    assert augment(torch.zeros(shape), RATE, tuple(dataclasses.replace(t, p=1.0) for t in CHAINS["paper"]), rng()).shape == shape


def test_double_precision_becomes_single_and_whole_numbers_are_an_error():
    assert augment(torch.zeros(2, 100, dtype=torch.float64), RATE, (), rng()).dtype == torch.float32
    for wrong in (torch.zeros(100), torch.zeros(2, 2, 100), torch.zeros(2, 100, dtype=torch.int16)):
        with pytest.raises(VocalrepError, match=r"\(B, T\)"):
            augment(wrong, RATE, CHAINS["released"], rng())


# workers: starting one takes seconds, so tests of two workers use the same ones, until `test_leaving_early_leaves_nothing_running` ends them

def children():
    return [p for p in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]


def gone(processes, seconds=10):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def pairs_equal(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


def broken():
    "A transform that ends a worker, or raises something that nobody expects. Its class is local, so that workers need not import this file."
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
    assert torch.equal(augment(fragments[:2], RATE, (PITCH,), rng(), workers=2), augment(fragments[:2], RATE, (PITCH,), rng()))


def test_workers_and_reading_ahead_make_no_difference(fragments):
    chain = (GaussianNoise(), PITCH, Gain(), PitchShift(), TimeMask())
    run = lambda workers, ahead: list(prefetch_augmented(batches(fragments), RATE, chain, rng(2), workers, ahead))
    plain = run(None, 0)
    generator = rng(2)
    by_hand = [tuple(augment(side, RATE, chain, generator) for side in pair) for pair in batches(fragments)]
    assert pairs_equal(plain, by_hand) and not torch.equal(plain[0][0], fragments[:2] / 3)
    assert all(pairs_equal(run(workers, ahead), plain) for workers, ahead in ((0, 4), (2, 0), (2, 1), (2, 9)))
    assert torch.equal(augment(fragments, RATE, chain, rng(3), workers=2), augment(fragments, RATE, chain, rng(3)))


def test_batches_are_read_only_as_far_ahead_as_asked(fragments):
    read = []
    source = (read.append(k) or pair for k, pair in enumerate(batches(fragments, 6)))
    loop = prefetch_augmented(source, RATE, (Gain(),), rng(), workers=0, ahead=2)
    assert not read                                                            # nothing begins before the first is asked for
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
        list(prefetch_augmented([(fragments[:3], fragments[:3]), (bad, fragments[:3])], RATE, (PITCH,), rng(), workers))
    assert ended == [True] * (workers > 0)


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
    list(prefetch_augmented(batches(fragments), RATE, without_pitch(CHAINS["released"]), rng(), workers=2))
    assert {p.pid for p in children()} <= before


def test_a_program_loads_no_praat_before_it_is_needed_and_ends_with_idle_workers(tmp_path):
    (tmp_path / "program.py").write_text("import sys, numpy as np, torch\nfrom vocalrep.data.augment import PitchShift, augment\n"
                                         "print([m for m in ('parselmouth', 'scipy.signal', 'torchaudio', 'joblib', 'soundfile') if m in sys.modules], flush=True)\n"
                                         "augment(torch.rand(2, 8000), 16000, (PitchShift(p=1.0),), np.random.default_rng(0), workers=1)\nprint('done', flush=True)")
    program = subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "[]\n"
    assert program.stdout.readline() == "done\n"
    begun = time.perf_counter()
    assert program.wait(timeout=25) == 0 and time.perf_counter() - begun < 20            # not after the workers' idle time
