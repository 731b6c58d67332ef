"""Augmented pairs per second: without pitch shifting, with it here, in workers, and with clips shifted beforehand.

    python benchmarks/augmentation.py [--workers 2] [--pairs 12] [--batches 4] [--work 0]
                                      [--tiny] [--json FILE]

Fragments of 4 s at 44.1 kHz, sliced from 16-bit clips of 10 s; the standard chain. The last column is what the training
thread itself computes for a batch of pairs. `--work` lets that thread compute so many seconds a batch (matrix products
that stand for training), to see what is left of the waiting.
"""
import argparse
import os
import time

import numpy as np
import torch
from common import run

from vocalrep.data.augment import STANDARD_CHAIN, prefetch_augmented, shifted, without_pitch
from vocalrep.studio.performance import Note
from vocalrep.studio.singer import make_singer
from vocalrep.studio.voice import sing

RATE, FRAGMENT = 44100, 176000          # samples per second, samples


def clips(count, length):
    "Sung lines of several people, (count, T) int16; `length` in seconds."
    waves = []
    for seed in range(count):
        who = make_singer(seed)
        times = np.arange(0.1, length - 0.5, 0.5)
        notes = [Note(t, 0.45, who.centre + 4 * np.sin(2 * t), ("d", "ɑ", "")) for t in times]
        wave = sing(who, notes, length, RATE)
        waves.append(wave / np.abs(wave).max())
    return (32767 * np.stack(waves)).astype(np.int16)


def shift_all(audio, pitch, rng):
    "Every clip with another pitch, (CLIPS, T) int16."
    waves = np.stack([shifted(wave / 32768, RATE, pitch, rng) for wave in audio])
    return (waves.clip(-1, 1) * 32767).astype(np.int16)


def pairs(audio, count, batches, rng):
    "Batches of two independent fragments of `count` clips."
    for _ in range(batches):
        rows = rng.integers(len(audio), size=count)
        starts = rng.integers(audio.shape[1] - FRAGMENT, size=(2, count))
        sides = [np.stack([audio[row, start:start + FRAGMENT] for row, start in zip(rows, side)]) for side in starts]
        yield tuple(torch.from_numpy(side).float() / 32768 for side in sides)


def compute(seconds, matrix=torch.randn(256, 256)):
    "Keep this thread busy."
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        matrix @ matrix


def timed(how, audio, chain, workers, given, rng):
    """Pairs per second of a pass over the batches after a short one, in which workers are started.

    What this thread computes is its own time, less the work that stands for training.
    """
    def augmented(batches):
        return prefetch_augmented(pairs(audio, given.pairs, batches, rng), RATE, chain, rng, workers)

    for _ in augmented(1):
        pass
    begun, own, idle = time.perf_counter(), time.thread_time(), 0.0
    for _ in augmented(given.batches):
        before = time.thread_time()
        compute(given.work)
        idle += time.thread_time() - before
    took, own = time.perf_counter() - begun, time.thread_time() - own - idle
    return dict(how=how, pairs_per_second=given.pairs * given.batches / took, ratio=None,
                milliseconds_of_this_thread_per_batch=1000 * own / given.batches)


def measure(given):
    "The tables."
    count, length, shifts = (2, 5.0, 1) if given.tiny else (6, 10.0, 3)
    if given.tiny:
        given.workers, given.pairs, given.batches = 1, 2, 1
    rng, audio, chain = np.random.default_rng(0), clips(count, length), STANDARD_CHAIN
    quick, begun = without_pitch(chain), time.perf_counter()
    pool = np.concatenate([audio, *(shift_all(audio, chain[1], rng) for _ in range(shifts))])
    prepared = (time.perf_counter() - begun) / (shifts * count)
    ways = (("without pitch", audio, quick, 0),
            ("with pitch, in this thread", audio, chain, 0),
            (f"with pitch, {given.workers} workers", audio, chain, given.workers),
            (f"{1 + shifts} versions of each clip, made before", pool, quick, 0))
    rows = [timed(*way, given, rng) for way in ways]
    for row in rows:
        row["ratio"] = row["pairs_per_second"] / rows[1]["pairs_per_second"]
    fragment = f"{FRAGMENT / RATE:.2f} s, with {given.work:g} s of other work a batch"
    once = dict(what=f"a clip of {length:g} s, shifted once", milliseconds=1000 * prepared, real_time=length / prepared)
    return {f"Augmenting batches of {given.pairs} pairs of {fragment}": rows, "Shifting beforehand": [once]}


def options():
    "The command line."
    words = argparse.ArgumentParser()
    words.add_argument("--workers", type=int, default=os.cpu_count())
    words.add_argument("--pairs", type=int, default=12)
    words.add_argument("--batches", type=int, default=4)
    words.add_argument("--work", type=float, default=0.0, help="seconds of computing per batch that stand for training")
    return words


if __name__ == "__main__":
    run(measure, options())
