"""Drawing and mixing pairs: a store's gathers against one numpy file per slice; four stems against two.

    python benchmarks/sampling.py [--tiny] [--json FILE]

The alternative is what the released CVSM program does: every 5 s slice of full, vocals and accompaniment is a .npy
file; each excerpt loads its files and crops them. Both sides run on one thread, from a warm page cache, and make the
same CVSM-AH mini-batches of 64 pairs.
"""
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import run, seconds

from vocalrep.data.corpora import studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.sampling import PairSampling
from vocalrep.data.store import Store
from vocalrep.papers.cvsm.variants import RELEASED, SOUND
from vocalrep.papers.mscol.sources import SourceSampling
from vocalrep.papers.mscol.variants import SOURCES
from vocalrep.papers.mscol.variants import SOUND as FOUR_STEMS

HYBRID = PairSampling("vocals", 0.5, "segment", RELEASED.sampling)
TWO = PairSampling("vocals", 0.0, "segment", RELEASED.sampling)
FOUR = SourceSampling(SOURCES, "coin")


def write_slices(store, folder):
    "One file per slice and source, each divided by its norm, as the released program stores them."
    rows = np.arange(len(store.segments))
    for source in ("vocals", "accompaniment"):
        waves = store.excerpts(rows, 0 * rows, 80000, source)
        for row, wave in zip(rows, (waves / waves.norm(dim=1, keepdim=True)).numpy()):
            np.save(folder / f"{row}_{source}.npy", wave)


def crop(folder, layer, i):
    "One second of a slice's file."
    begin = layer.offsets[i]
    return np.load(folder / f"{layer.rows[i]}_{layer.source}.npy")[begin:begin + 16000]


def from_files(folder, draw, w=0.7):
    "The same pairs, one file after another."
    (vocals, accompaniment), (positive,) = draw.views
    anchors = [(1 - w**2) * crop(folder, vocals, i) + w * crop(folder, accompaniment, i) for i in range(len(draw))]
    positives = [crop(folder, positive, i) for i in range(len(draw))]
    return torch.from_numpy(np.stack(anchors)), torch.from_numpy(np.stack(positives))


def ways(store, slices, step, batch, repeats):
    "Seconds of a step by each way."
    write_slices(store, slices)
    sampler = HYBRID.build(store, step, batch)
    loaded = HYBRID.build(Store(store.folder).load(), step, batch)
    draw, drawing = sampler.step(), seconds(sampler.step, repeats)
    parts = [draw[i:i + batch] for i in range(0, step, batch)]
    return {"one numpy file per slice": seconds(lambda: [from_files(slices, part) for part in parts], repeats),
            "store, memory-mapped": seconds(lambda: list(sampler.batches(draw)), repeats) + drawing,
            "store, held in memory": seconds(lambda: list(loaded.batches(draw)), repeats) + drawing,
            "drawing only (no audio)": drawing}


def stems(store, four, step, batch, repeats):
    "Seconds of a step of a mixture and its vocals (two stems), and of a mixture and one of its four sources."
    samplers = {"a mixture and its vocals, two stems": TWO.build(store, step, batch),
                "a mixture and one of four sources": FOUR.build(four, step, batch)}
    took = {name: seconds(lambda sampler=sampler: list(sampler.batches(sampler.step())), repeats)
            for name, sampler in samplers.items()}
    two = next(iter(took.values()))
    return [dict(batch=name, pairs_per_second=step / t, ratio=t / two) for name, t in took.items()]


def measure(given):
    "The tables."
    artists, clips, step, batch, repeats = (6, 2, 16, 8, 1) if given.tiny else (60, 4, 512, 64, 5)
    with tempfile.TemporaryDirectory() as place:
        corpus, slices = studio_corpus(artists, clips, seconds=10.0), Path(place) / "slices"
        store = prepare(corpus, Path(place) / "store", SOUND, workers=1 if given.tiny else None, progress=False)
        torch.set_num_threads(1)
        slices.mkdir()
        took = ways(store, slices, step, batch, repeats)
        four = prepare(corpus, Path(place) / "four", FOUR_STEMS, workers=1 if given.tiny else None, progress=False)
        torch.set_num_threads(1)
        by_stems = stems(store, four, step, batch, repeats)
    files = took["one numpy file per slice"]
    return {"Sampling and mixing pairs, one core": [
        dict(how=how, pairs_per_second=step / t, ratio=files / t) for how, t in took.items()],
            "Two stems and four, one core": by_stems}


if __name__ == "__main__":
    run(measure)
