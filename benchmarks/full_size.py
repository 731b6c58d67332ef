"""A corpus as large as Music4All: opening its store, drawing steps, scoring all pairs of its clips; time and memory.

    python benchmarks/full_size.py [--tiny] [--json FILE] [--folder FOLDER]

The store has 109 000 clips of 30 s in 654 000 segments. Its audio is sparse: 209 GB that take no room on the disk.
Pairs are scored as the product does, block by block, and by keeping all of them, as far as memory allows that.
"""
import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
from common import run, seconds

from vocalrep.data.audio import digest
from vocalrep.data.chunks import write_table
from vocalrep.data.prepare import CHUNK
from vocalrep.data.sampling import PairSampling
from vocalrep.data.store import IDENTITY, Store
from vocalrep.evaluation.metrics import equal_error_rate, pairwise_error_rate, pairwise_scores
from vocalrep.papers.cvsm.variants import RELEASED
from vocalrep.project import write_json

RATE, SECONDS, STEMS = 16000, 30, ("vocals", "accompaniment")
LENGTH, SEGMENTS = RATE * SECONDS, SECONDS // 5                            # samples of a clip, its segments


def sparse_shard(path: Path, samples: int) -> None:
    "A shard of zeros that takes no room."
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, dict(descr="<i2", fortran_order=False, shape=(samples,)))
        file.truncate(file.tell() + 2 * samples)


def tables(clips: int, artists: int) -> tuple[pd.DataFrame, pd.DataFrame]:   # clips, segments
    "What a prepared corpus of this size says of its audio."
    rng, number = np.random.default_rng(0), np.arange(clips)
    artist = rng.integers(0, artists, clips)
    split = np.array(["train"] * 8 + ["valid", "test"])[artist % 10]
    table = pd.DataFrame(dict(
        clip=[f"clip {k:06}" for k in number], artist=[f"artist {k:05}" for k in artist], gender=None, split=split,
        path=[f"/corpus/audios/clip {k:06}.mp3" for k in number], shard=number // CHUNK, stride=LENGTH,
        scale=np.float32(1 / 32767), start=number % CHUNK * LENGTH * len(STEMS), length=LENGTH, samples=LENGTH))
    shared = ["clip", "artist", "gender", "split", "shard", "stride", "scale"]
    segments = table[[*shared, "start"]].loc[table.index.repeat(SEGMENTS)].reset_index(drop=True)
    segments["position"] = np.tile(np.arange(SEGMENTS), clips)
    segments["start"] += segments.position * 5 * RATE
    for source in (*STEMS, "mixture"):
        segments[f"active_{source}"] = rng.random(len(segments)) < 0.8
        segments[f"norm_{source}"] = rng.uniform(1, 30, len(segments)).astype(np.float32)
    return table, segments


def make_store(folder: Path, clips: int, artists: int) -> Path:
    "A store of this size, whose audio is silence; opened if it is there."
    if (folder / "store.json").exists():
        return folder
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    table, segments = tables(clips, artists)
    samples = table.groupby("shard").size() * LENGTH * len(STEMS)
    for shard, count in samples.items():
        sparse_shard(folder / "shards" / f"{shard:05}.npy", int(count))
    shards = pd.DataFrame(dict(file=[f"{k:05}.npy" for k in samples.index], samples=samples.to_numpy(), digest="-"))
    files = {"clips.parquet": table, "segments.parquet": segments, "shards.parquet": shards}
    for name, content in files.items():
        write_table(folder / name, content)
    about = dict.fromkeys(IDENTITY, "") | dict(rate=RATE, stems=list(STEMS), silence=None, segment_seconds=5.0)
    write_json(folder / "store.json", about | dict(files={name: digest(folder / name) for name in files}))
    return folder


def own_memory() -> float:
    "Megabytes of this process that are its own: without the pages of files, which the system takes back at will."
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def measure_store(folder: Path, steps: int, pairs: int) -> dict:
    "Opening, drawing, and what both need."
    before, begun = own_memory(), time.perf_counter()
    store = Store(folder)
    opened = time.perf_counter() - begun
    sampler = PairSampling("vocals", 0.5, "segment", RELEASED.sampling).build(store, pairs, min(64, pairs))

    def step() -> None:
        for _ in sampler.batches(sampler.step()):
            pass
    begun = time.perf_counter()
    step()
    first = time.perf_counter() - begun
    each = seconds(step, steps)
    return dict(clips=len(store.clips), segments=len(store.segments), gigabytes=float(store.base[-1] * 2 / 1e9),
                seconds_to_open=opened, seconds_first_step=first, pairs_per_second=pairs / each,
                megabytes=max(0.0, own_memory() - before))


def keep_all_pairs(vectors: np.ndarray, artists: np.ndarray) -> float:
    "What one would otherwise do."
    return equal_error_rate(*pairwise_scores(vectors, artists))


def measure_pairs(clips: int, way) -> dict:
    "An error rate over all pairs of random clips, five an artist: seconds and the most memory in use."
    rng = np.random.default_rng(0)
    artists = np.arange(clips) // 5
    vectors = rng.normal(size=(clips, 128)).astype(np.float32) + rng.normal(size=(clips // 5 + 1, 128))[artists] / 2
    tracemalloc.start()
    begun = time.perf_counter()
    rate = way(vectors, artists)
    row = dict(seconds=time.perf_counter() - begun, megabytes=tracemalloc.get_traced_memory()[1] / 2**20)
    tracemalloc.stop()
    return dict(clips=clips, pairs=clips * (clips - 1) // 2, eer=rate, **row)


def score_pairs(tiny: bool) -> list[dict]:
    "Both ways at growing sizes."
    small, large = (200, 400) if tiny else (10_000, 100_000)
    ways = [(keep_all_pairs, small), (pairwise_error_rate, small), (pairwise_error_rate, large)]
    return [dict(way=way.__name__.replace("_", " "), **measure_pairs(clips, way)) for way, clips in ways]


def measure(given) -> dict[str, list[dict]]:
    "The tables: a small store beside a large one, few clips beside many."
    sizes = {"small": (200, 40), "full": (400, 80) if given.tiny else (109_000, 16_000)}
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name, size in sizes.items():
            folder = make_store(Path(given.folder or place) / f"{name}-{size[0]}", *size)
            rows.append(dict(store=name, **measure_store(folder, 3 if given.tiny else 20, 64 if given.tiny else 512)))
    return {"Stores of two sizes, one core": rows, "All pairs of clips, one core": score_pairs(given.tiny)}


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("--folder", help="where the stores are kept (a temporary folder otherwise)")
    run(measure, words)
