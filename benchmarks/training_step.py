"""A training step: precision, memory format and compilation, and where the time goes.

    python benchmarks/training_step.py [--encoder small-cnn] [--batch 64] [--device cpu] [--compile]
                                       [--tiny] [--json FILE]

Forward, backward and Adam on mini-batches of pairs; the ratio is against plain float32 in the default memory format.
"""
import argparse
import itertools
import tempfile

import torch
from common import run, seconds

from vocalrep.data.corpora import Size, studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.papers.cvsm.variants import RELEASED, SOUND, variants
from vocalrep.training.loop import TrainingState
from vocalrep.training.variants import Preset

FORMATS = {
    "float32": (torch.contiguous_format, None),
    "float32, channels-last (used)": (torch.channels_last, None),
    "bf16 autocast, channels-last": (torch.channels_last, torch.bfloat16),
}


def in_format(state, memory):
    "The network computes in a memory format, whatever its input has."
    network = state.method.encoder.network.to(memory_format=memory)
    network.register_forward_pre_hook(lambda _, inputs: tuple(x.contiguous(memory_format=memory) for x in inputs))
    return state.method


def one_update(state, method, batch, device, dtype):
    "Forward, backward, Adam."
    with torch.autocast(device, dtype, enabled=dtype is not None):
        loss = method(batch)["loss"]
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    if device != "cpu":
        torch.cuda.synchronize()


def make_state(given, store):
    "A training of as many pairs a step as a mini-batch has."
    preset = Preset("benchmark", Size(20, 4, 10.0), given.encoder, steps=1, step_pairs=given.batch, batch=given.batch,
                    validate_every=1, patience=1)
    state = TrainingState(variants(RELEASED, preset)["CVSM-AH"], preset, store, seed=0, progress=False)
    state.method.to(given.device).train()
    return state


def times(given, store):
    "Seconds of an update in each format, and of its parts."
    took = {}
    compiling = (False, True) if given.compile else (False,)
    for compiled, (name, (memory, dtype)) in itertools.product(compiling, FORMATS.items()):
        state = make_state(given, store)
        method = in_format(state, memory)
        batch, = state.sampler.batches(state.sampler.step())
        batch = batch.to(lambda x: x.to(given.device))
        call = torch.compile(method) if compiled else method
        label = f"{name}, compiled" if compiled else name
        took[label] = seconds(lambda: one_update(state, call, batch, given.device, dtype), given.repeats)
    sampler, waves = state.sampler, torch.cat(batch.views)
    took["of which sampling and mixing"] = seconds(lambda: list(sampler.batches(sampler.step())), given.repeats)
    with torch.no_grad():
        took["of which features"] = seconds(lambda: state.method.encoder.features(waves), given.repeats)
    return took


def measure(given):
    "The table."
    artists, clips, length = (6, 2, 5.0) if given.tiny else (20, 4, 10.0)
    if given.tiny:
        given.batch, given.repeats = min(given.batch, 8), 1
    with tempfile.TemporaryDirectory() as place:
        corpus = studio_corpus(artists, clips, length)
        store = prepare(corpus, place + "/store", SOUND, workers=1 if given.tiny else None, progress=False)
        if given.device != "cpu":
            store.load(given.device)
        took = times(given, store)
    plain = took["float32"]
    return {f"Training step, {given.encoder}, {given.batch} pairs": [
        dict(how=how, seconds=t, pairs_per_second=given.batch / t, ratio=plain / t) for how, t in took.items()]}


def options():
    "The command line."
    words = argparse.ArgumentParser()
    words.add_argument("--encoder", default="small-cnn")
    words.add_argument("--batch", type=int, default=64)
    words.add_argument("--device", default="cpu")
    words.add_argument("--repeats", type=int, default=5)
    words.add_argument("--compile", action="store_true",
                       help="also time torch.compile (its first step takes minutes on a processor)")
    return words


if __name__ == "__main__":
    run(measure, options())
