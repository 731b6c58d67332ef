"Pairs of excerpts of one segment that lie a given time apart."
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vocalrep.data.sampling import Batch, Draw, Layer, candidate_rows, label_tensors, mini_batches, mix
from vocalrep.data.store import Store


@dataclass(frozen=True)
class NeighbourSampling:
    "Two excerpts of one segment."
    apart: float             # seconds between their beginnings
    seconds: float = 1.0     # of an excerpt
    scaling = "recorded"     # the level of the waveforms

    def prepare(self, store: Store, progress: bool = True) -> Store:
        "The store as it is."
        return store

    def build(self, store: Store, step_pairs: int, batch: int, split: str = "train", seed=0) -> "NeighbourSampler":
        "A sampler of one split."
        return NeighbourSampler(store, self, step_pairs, batch, split, seed)


class NeighbourSampler:
    "Draws steps of neighbours."

    def __init__(self, store: Store, how: NeighbourSampling, step_pairs: int, batch: int, split: str, seed):
        self.store, self.how, self.step_pairs, self.batch = store, how, step_pairs, batch
        self.rows = candidate_rows(store, split, vocals=True)
        self.samples, self.shift = round(how.seconds * store.rate), round(how.apart * store.rate)
        self.rng = np.random.default_rng(seed)

    def step(self) -> Draw:
        "Excerpts, those that come after them, and which segment each is from."
        rows = self.rng.choice(self.rows, self.step_pairs)
        room = round(self.store.segment_seconds * self.store.rate) - self.samples - self.shift
        offsets, gains = self.rng.integers(0, room, len(rows)), np.ones(len(rows), np.float32)
        views = tuple((Layer("vocals", rows, offsets + shift, gains),) for shift in (0, self.shift))
        return Draw(views, dict(segment=rows))

    def batches(self, draw: Draw, rank: int = 0, world: int = 1, seed=None) -> Iterator[Batch]:
        "Waveforms (B, T) of both."
        for part in mini_batches(draw, self.batch, rank, world):
            yield Batch(tuple(mix(self.store, layers, self.samples) for layers in part.views), label_tensors(part))

    def state(self) -> dict:
        "Everything that the next step depends on."
        return dict(rng=json.dumps(self.rng.bit_generator.state))

    def restore(self, state: dict) -> None:
        "Go on from a state."
        self.rng.bit_generator.state = json.loads(state["rng"])
