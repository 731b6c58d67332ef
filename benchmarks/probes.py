"""The probes at the size of a real test set: 50 artists x 40 clips x 24 excerpts x 1280 dimensions.

    python benchmarks/probes.py [--tiny] [--json FILE]

The alternative trains one probe after another, as one usually writes it: an nn.Linear, a loop over shuffled batches of
64, the same excerpts per epoch, the same patience, the same splits. It is timed once with plain indexing and once with
a DataLoader. Both sides run on one thread, on the processor, and on the same random numbers.
"""
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from common import run

from vocalrep.evaluation.classifiers import Probe, fit_exact, train_probes
from vocalrep.evaluation.folds import TEST, TRAIN, VALID, arrange, artist_folds
from vocalrep.evaluation.probes import ProbeProtocol, identify_artists, identify_gender

RELEASED = ProbeProtocol(artist_epochs=100, gender_epochs=50, same_clip=True, negatives="opposite", eer_rule="step",
                         rank_base="zero", crops=0, drop_connect=False, lone_excerpt=0.5)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def invent(artists=50, clips=40, excerpts=24, dim=1280, seed=0):
    "Artist + clip + excerpt, all Gaussian: hard enough that probes need some twenty epochs."
    rng = np.random.default_rng(seed)
    who, piece = np.repeat(np.arange(artists), clips * excerpts), np.repeat(np.arange(artists * clips), excerpts)
    k = np.tile(np.arange(excerpts), artists * clips)
    places = pd.DataFrame(dict(
        clip=[f"clip {i:04d}" for i in piece], artist=[f"artist {i:02d}" for i in who],
        gender=np.array(["female", "male"])[who % 2], row=piece * 6 + k // 5, offset=k % 5 * 16000))
    vectors = 0.07 * rng.normal(size=(artists, dim)).astype(np.float32)[who]
    vectors += 0.5 * rng.normal(size=(artists * clips, dim)).astype(np.float32)[piece]
    return places, vectors + rng.normal(size=(len(who), dim)).astype(np.float32)


def batches_of(x, y, rows, loader):
    "Shuffled batches of 64, by indexing or by a DataLoader."
    chosen = torch.from_numpy(np.random.permutation(rows))
    if loader:
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[chosen], y[chosen]), 64, shuffle=True)
    return ((x[batch], y[batch]) for batch in chosen.split(64))


def train_alone(data, fold, epochs, loader):
    "One probe by itself, asked about its test after each epoch that is the best so far."
    x, clip = torch.from_numpy(data.vectors), torch.from_numpy(data.clip)
    y = torch.tensor(fold.label)[clip]
    valid, test = (np.flatnonzero(fold.part[data.clip] == part) for part in (VALID, TEST))
    segments = np.flatnonzero(fold.part[data.segment_clip] == TRAIN)
    torch.manual_seed(fold.repetition)
    layer = torch.nn.Linear(x.shape[1], fold.classes)
    adam = torch.optim.Adam(layer.parameters(), lr=5e-4, eps=1e-7)
    best, waited = -1.0, 0
    for _ in range(epochs):
        rows = data.first[segments] + (np.random.rand(len(segments)) * data.size[segments]).astype(int)
        for excerpts, target in batches_of(x, y, rows, loader):
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


def right(p, clip, label):
    "Share of the clips that are named right."
    means = [(int(c), p[clip == c].mean(0)) for c in clip.unique()]
    return np.mean([int(mean.argmax()) == label[c] for c, mean in means])


def timed(work):
    "Seconds, and what came out."
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def tasks(places, vectors, data, folds):
    "The two identification tasks, and the exact probe."
    took, table = timed(lambda: identify_artists(places, vectors, RELEASED, device=DEVICE))
    gender, _ = timed(lambda: identify_gender(places, vectors, RELEASED, device=DEVICE))
    exact, _ = timed(lambda: fit_exact(data, folds[0]))
    accuracy = table[table.metric == "accuracy"].value.mean()
    return [dict(what=f"artists, 5 repetitions (accuracy {accuracy:.2f}), {DEVICE}", seconds=took),
            dict(what=f"gender, 10 folds, {DEVICE}", seconds=gender),
            dict(what="artists, exact probe, one repetition", seconds=exact)]


def epochs_of_five(data, folds, epochs=3):
    "Seconds per epoch of all five probes, the same number of epochs for everybody."
    how = Probe(RELEASED.learning_rate, epochs, RELEASED.patience)
    plain, _ = timed(lambda: [train_alone(data, fold, epochs, False) for fold in folds])
    loader, _ = timed(lambda: [train_alone(data, fold, epochs, True) for fold in folds])
    batched, _ = timed(lambda: train_probes(data, folds, how, device=DEVICE))
    rows = {"one after another, plain indexing": plain, "one after another, DataLoader": loader,
            f"all at once, {DEVICE}": batched}
    return [dict(how=name, seconds_per_epoch=took / epochs, times_faster=plain / took) for name, took in rows.items()]


def measure(given):
    "The tables."
    sizes = dict(artists=6, clips=10, excerpts=5, dim=16) if given.tiny else {}
    places, vectors = invent(**sizes)
    data = arrange(places, vectors)
    folds = artist_folds(data)
    each = f"{len(data.first) * 8 // 10} segments each"
    return {"Identification": tasks(places, vectors, data, folds),
            f"Seconds per epoch of five artist probes ({each})": epochs_of_five(data, folds, 1 if given.tiny else 3)}


if __name__ == "__main__":
    run(measure)
