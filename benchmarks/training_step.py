"""A training step: precision, memory format and compilation, and where the time goes.

    python benchmarks/training_step.py [--encoder small-cnn] [--batch 64] [--device cpu] [--compile]

Forward, backward and Adam on mini-batches of pairs; the ratio is against plain float32 in the default memory format.
"""
import argparse
import dataclasses
import tempfile

import torch
from common import seconds, show

from vocalrep.data.corpora import studio_corpus
from vocalrep.models.encoders import POOLINGS
from vocalrep.project import PRESETS
from vocalrep.data.store import prepare
from vocalrep.training.loop import TrainingState, _updates
from vocalrep.training.variants import PROTOCOLS, VARIANTS


class InFormat(torch.nn.Module):
    "A spectrogram encoder whose network computes in a given memory format."

    def __init__(self, encoder, memory):
        super().__init__()
        self.encoder, self.memory, self.samples = encoder, memory, encoder.samples
        encoder.network.to(memory_format=memory)

    def forward(self, waves):
        x = (self.encoder.frontend(waves)[:, None] + self.encoder.offset) * self.encoder.scale
        return POOLINGS[self.encoder.pooling](self.encoder.network(x.contiguous(memory_format=self.memory)))


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--encoder", default="small-cnn")
    words.add_argument("--batch", type=int, default=64)
    words.add_argument("--device", default="cpu")
    words.add_argument("--repeats", type=int, default=5)
    words.add_argument("--compile", action="store_true", help="also time torch.compile (its first step takes minutes on a processor)")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as place:
        store = prepare(studio_corpus(artists=20, clips=4, seconds=10.0), place + "/store", progress=False)
        preset = dataclasses.replace(PRESETS["smoke"], encoder=given.encoder, batch=given.batch, step_pairs=given.batch)
        if given.device != "cpu":
            store.load(given.device)
        rows, plain = [], None
        formats = {"float32": (torch.contiguous_format, None), "float32, channels-last (used)": (torch.channels_last, None), "bf16 autocast, channels-last": (torch.channels_last, torch.bfloat16)}
        for compiled in (False, True) if given.compile else (False,):
            for name, (memory, dtype) in formats.items():
                state = TrainingState(VARIANTS["CVSM-AH"], PROTOCOLS["released"], preset, store, 0)
                learner = state.learner.to(given.device)
                learner.encoder = InFormat(learner.encoder, memory)
                state.optimizer = state.make_optimizer(1e-3)
                call = torch.compile(learner) if compiled else learner
                (anchor, positive), = _updates(state, state.sampler.step())
                anchor, positive = anchor.to(given.device), positive.to(given.device)

                def step():
                    with torch.autocast(given.device, dtype, enabled=dtype is not None):
                        loss = call(anchor, positive)["loss"]
                    state.optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    state.optimizer.step()
                    if given.device != "cpu":
                        torch.cuda.synchronize()

                took = seconds(step, given.repeats)
                plain = plain or took
                rows.append(dict(how=name + (", compiled" if compiled else ""), seconds=took, pairs_per_second=given.batch / took, ratio=plain / took))
        data = seconds(lambda: list(_updates(state, state.sampler.step())), given.repeats)
        with torch.no_grad():
            mel = seconds(lambda: state.learner.encoder.encoder.frontend(torch.cat([anchor, positive])), given.repeats)
        for name, took in (("of which sampling and mixing", data), ("of which log-mel", mel)):
            rows.append(dict(how=name, seconds=took, pairs_per_second=given.batch / took, ratio=plain / took))
        show(f"Training step, {given.encoder}, {given.batch} pairs", rows)


if __name__ == "__main__":
    main()
