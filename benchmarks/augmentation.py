"""Augmented pairs per second: without pitch shifting, with it here, in workers, and with clips shifted beforehand.

    python benchmarks/augmentation.py [--workers 2] [--pairs 12] [--batches 4] [--work 0]

Fragments of 4 s at 44.1 kHz, sliced from 16-bit clips of 10 s; the standard chain. The last column is what the training
thread itself computes for a batch of pairs. `--work` lets that thread compute so many seconds a batch (matrix products
that stand for training), to see what is left of the waiting.
"""
import argparse
import os
import time

import numpy as np
import torch
from common import show

from vocalrep.data.augment import STANDARD_CHAIN, prefetch_augmented, shifted, without_pitch
from vocalrep.studio.voice import Note, make_singer, sing

RATE, FRAGMENT = 44100, 176000          # samples per second, samples
SECONDS, CLIPS, SHIFTS = 10.0, 6, 3     # of a clip, clips, shifted versions of each


def clips():
    "Sung lines of several people, (CLIPS, T) int16."
    waves = []
    for seed in range(CLIPS):
        who = make_singer(seed)
        notes = [Note(0.1 + 0.5 * i, 0.45, who.centre + 4 * np.sin(i), ("d", "ɑ", "")) for i in range(19)]
        wave = sing(who, notes, SECONDS, RATE)
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


def measure(how, audio, chain, workers, given, rng):
    """Pairs per second of a pass over the batches after a short one, in which workers are started.

    What this thread computes is its own time, less the work that stands for training.
    """
    def run(batches):
        return prefetch_augmented(pairs(audio, given.pairs, batches, rng), RATE, chain, rng, workers)

    for _ in run(1):
        pass
    begun, own, idle = time.perf_counter(), time.thread_time(), 0.0
    for _ in run(given.batches):
        before = time.thread_time()
        compute(given.work)
        idle += time.thread_time() - before
    took, own = time.perf_counter() - begun, time.thread_time() - own - idle
    return dict(how=how, pairs_per_second=given.pairs * given.batches / took, ratio=None,
                milliseconds_of_this_thread_per_batch=1000 * own / given.batches)


def options():
    "The command line."
    words = argparse.ArgumentParser()
    words.add_argument("--workers", type=int, default=os.cpu_count())
    words.add_argument("--pairs", type=int, default=12)
    words.add_argument("--batches", type=int, default=4)
    words.add_argument("--work", type=float, default=0.0, help="seconds of computing per batch that stand for training")
    return words.parse_args()


def main():
    given = options()
    torch.set_num_threads(1)
    rng, audio, chain = np.random.default_rng(0), clips(), STANDARD_CHAIN
    quick = without_pitch(chain)
    begun = time.perf_counter()
    pool = np.concatenate([audio, *(shift_all(audio, chain[1], rng) for _ in range(SHIFTS))])
    prepared = (time.perf_counter() - begun) / (SHIFTS * CLIPS)
    ways = (("without pitch", audio, quick, 0),
            ("with pitch, in this thread", audio, chain, 0),
            (f"with pitch, {given.workers} workers", audio, chain, given.workers),
            (f"{1 + SHIFTS} versions of each clip, made before", pool, quick, 0))
    rows = [measure(*way, given, rng) for way in ways]
    for row in rows:
        row["ratio"] = row["pairs_per_second"] / rows[1]["pairs_per_second"]
    seconds = f"{FRAGMENT / RATE:.2f} s, with {given.work:g} s of other work a batch"
    show(f"Augmenting batches of {given.pairs} pairs of {seconds}", rows)
    print(f"\nA clip ({SECONDS:g} s) is shifted once in {1000 * prepared:.0f} ms: "
          f"{SECONDS / prepared:.0f} times faster than real time.")


if __name__ == "__main__":
    main()
