"""Drawing and mixing pairs: a store's gathers against one numpy file per slice.

    python benchmarks/sampling.py

The alternative is what the released CVSM program does: every 5 s slice of full, vocals and accompaniment is a .npy file; each excerpt loads its files and crops them.
Both sides run on one thread, from a warm page cache, and make the same CVSM-AH mini-batches of 64 pairs.
"""
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import seconds, show

from vocalrep.data.corpora import studio_corpus
from vocalrep.data.sampling import RULES, PairSampler, mix
from vocalrep.data.store import Store, prepare

BATCH, STEP = 64, 512


def write_slices(store, folder):
    "One file per slice and source, each divided by its norm, as the released program stores them."
    rows = np.arange(len(store.segments))
    for source in ("vocals", "accompaniment"):
        waves = store.excerpts(rows, 0 * rows, 80000, source)
        for row, wave in zip(rows, (waves / waves.norm(dim=1, keepdim=True)).numpy()):
            np.save(folder / f"{row}_{source}.npy", wave)


def from_files(folder, pairs):
    "The same pairs, one file after another."
    vocals, accompaniment = pairs.anchor
    (positive,) = pairs.positive
    anchors, positives = [], []
    for i in range(len(pairs)):
        crop = lambda layer: np.load(folder / f"{layer.rows[i]}_{layer.source}.npy")[layer.offsets[i]:layer.offsets[i] + 16000]
        w = 0.7
        anchors.append((1 - w**2) * crop(vocals) + w * crop(accompaniment))
        positives.append(crop(positive))
    return torch.from_numpy(np.stack(anchors)), torch.from_numpy(np.stack(positives))


def from_store(store, pairs):
    return mix(store, pairs.anchor, 16000), mix(store, pairs.positive, 16000)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        store = prepare(studio_corpus(artists=60, clips=4, seconds=10.0), place / "store", progress=False)
        torch.set_num_threads(1)
        (place / "slices").mkdir()
        write_slices(store, place / "slices")
        sampler = PairSampler(store, "vocals", 0.5, "segment", RULES["released"], STEP)
        pairs = sampler.step()
        batches = [pairs[i:i + BATCH] for i in range(0, STEP, BATCH)]
        loaded = Store(store.folder).load()
        draw = seconds(sampler.step)
        files = seconds(lambda: [from_files(place / "slices", b) for b in batches], repeats=3)
        rows = [dict(how="one numpy file per slice", pairs_per_second=STEP / files, ratio=1.0)]
        for how, source in (("store, memory-mapped", store), ("store, held in memory", loaded)):
            took = seconds(lambda: [from_store(source, b) for b in batches]) + draw
            rows.append(dict(how=how, pairs_per_second=STEP / took, ratio=files / took))
        rows.append(dict(how="drawing only (no audio)", pairs_per_second=STEP / draw, ratio=files / draw))
        show("Sampling and mixing pairs, one core", rows)


if __name__ == "__main__":
    main()
