"""The probes at the size of a real test set: 50 artists x 40 clips x 24 excerpts x 1280 dimensions.

    python benchmarks/probes.py

The alternative trains one probe after another, as one usually writes it: an nn.Linear, a loop over shuffled batches of 64, the same excerpts per epoch, the same patience, the same splits.
It is timed once with plain indexing and once with a DataLoader. Both sides run on one thread, on the processor, and on the same random numbers.
"""
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from common import seconds, show

from vocalrep.evaluation.probes import PROBE_PROTOCOLS, TEST, TRAIN, VALID, arrange, artist_folds, fit_exact, identify_artists, identify_gender, similarity_trials, train_linear

RELEASED = PROBE_PROTOCOLS["released"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def invent(artists=50, clips=40, excerpts=24, dim=1280, seed=0):
    "Artist + clip + excerpt, all Gaussian: hard enough that probes need some twenty epochs."
    rng = np.random.default_rng(seed)
    who, piece = np.repeat(np.arange(artists), clips * excerpts), np.repeat(np.arange(artists * clips), excerpts)
    k = np.tile(np.arange(excerpts), artists * clips)
    places = pd.DataFrame(dict(clip=[f"clip {i:04d}" for i in piece], artist=[f"artist {i:02d}" for i in who], gender=np.array(["female", "male"])[who % 2], row=piece * 6 + k // 5, offset=k % 5 * 16000))
    normal = lambda n, scale: scale * rng.normal(size=(n, dim)).astype(np.float32)
    return places, normal(artists, 0.07)[who] + normal(artists * clips, 0.5)[piece] + normal(len(who), 1.0)


def one_after_another(data, folds, epochs, loader):
    "Each repetition by itself; the epochs each one took."
    x, clip, took = torch.from_numpy(data.vectors), torch.from_numpy(data.clip), []
    for fold in folds:
        y = torch.tensor(fold.label)[clip]
        valid, test = (np.flatnonzero(fold.part[data.clip] == part) for part in (VALID, TEST))
        segments = np.flatnonzero(fold.part[data.segment_clip] == TRAIN)
        torch.manual_seed(fold.repetition)
        layer = torch.nn.Linear(x.shape[1], fold.classes)
        adam = torch.optim.Adam(layer.parameters(), lr=5e-4, eps=1e-7)
        best, waited = -1.0, 0
        for epoch in range(epochs):
            rows = data.first[segments] + (np.random.rand(len(segments)) * data.size[segments]).astype(int)
            chosen = torch.from_numpy(np.random.permutation(rows))
            batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[chosen], y[chosen]), 64, shuffle=True) if loader else ((x[b], y[b]) for b in chosen.split(64))
            for excerpts, target in batches:
                loss = F.cross_entropy(layer(excerpts), target)
                adam.zero_grad()
                loss.backward()
                adam.step()
            with torch.no_grad():
                accuracy = right(layer(x[valid]).softmax(1), clip[valid], fold.label)
                waited += 1
                if accuracy > best:
                    best, waited = accuracy, 0
                    right(layer(x[test]).softmax(1), clip[test], fold.label)
            if waited == 6:
                break
        took.append(epoch + 1)
    return took


def right(p, clip, label):
    means = [(int(c), p[clip == c].mean(0)) for c in clip.unique()]
    return np.mean([int(mean.argmax()) == label[c] for c, mean in means])


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main():
    torch.set_num_threads(1)
    places, vectors = invent()
    data = arrange(places, vectors)
    folds = artist_folds(data, RELEASED)
    show(f"Artist similarity, {len(places)} excerpts of {vectors.shape[1]} dimensions", [
        dict(what="100 trials, embeddings as they are", seconds=seconds(lambda: similarity_trials(places, vectors, normalisations=["none"]), repeats=3)),
        dict(what="100 trials in each of three normalisations", seconds=seconds(lambda: similarity_trials(places, vectors), repeats=3))])

    took, table = timed(lambda: identify_artists(places, vectors, device=DEVICE))
    gender, _ = timed(lambda: identify_gender(places, vectors, device=DEVICE))
    exact, _ = timed(lambda: fit_exact(data, folds[0]))
    accuracy = table[table.metric == "accuracy"].value.mean()
    show("Identification", [dict(what=f"artists, 5 repetitions (accuracy {accuracy:.2f}), {DEVICE}", seconds=took), dict(what=f"gender, 10 folds, {DEVICE}", seconds=gender),
                            dict(what="artists, exact probe, one repetition", seconds=exact)])

    epochs = 3                                                                     # the same number for everybody: seconds per epoch of all five
    plain, _ = timed(lambda: one_after_another(data, folds, epochs, loader=False))
    loader, _ = timed(lambda: one_after_another(data, folds, epochs, loader=True))
    batched, _ = timed(lambda: train_linear(data, folds, epochs, 0, RELEASED, device=DEVICE))
    show(f"Seconds per epoch of five artist probes ({len(data.first) * 8 // 10} segments each)", [
        dict(how=how, seconds_per_epoch=t / epochs, times_faster=plain / t) for how, t in (("one after another, plain indexing", plain), ("one after another, DataLoader", loader), (f"all at once, {DEVICE}", batched))])


if __name__ == "__main__":
    main()
