"""Embedding a 30 s clip by ours and by foreign encoders, excerpts in, vectors out.

    python benchmarks/embedding.py [--tiny] [--json FILE]

Every encoder hears the same 30 s of noise as its protocol cuts it: 30 excerpts of 1 s, or 18 of 1.6 s (GE2E), on one
thread. `Resemblyzer's own` is that package's `embed_utterance`, excerpt by excerpt; MERT is its architecture with
random weights, which cost the same. Times are the shortest of some rounds; the order of the encoders is shuffled anew
in each, so that a busy machine troubles all of them alike.
"""
import random
import tempfile
import time
from functools import partial

import numpy as np
import torch
from common import run

from vocalrep.models.encoders import MeanMFCC, build_encoder
from vocalrep.models.pretrained import GE2E, MERT

THEIRS = "GE2E, Resemblyzer's own"


def mert_architecture(**options):
    "MERT with random weights."
    from transformers import HubertConfig, HubertModel
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        HubertModel(HubertConfig(**options)).save_pretrained(folder)
        return MERT(folder)


def shortest(jobs, rounds):
    "Shortest seconds of each job, interleaved."
    times = {name: [] for name in jobs}
    for turn in range(rounds + 1):                     # the first round warms up
        for name in random.sample(list(jobs), len(jobs)):
            begun = time.perf_counter()
            jobs[name]()
            times[name].append(time.perf_counter() - begun)
    return {name: min(values[1:]) for name, values in times.items()}


def excerpts_of(clip, encoder, device):
    "A clip (T,) as the excerpts (N, samples) that an encoder hears."
    return clip[:len(clip) // encoder.samples * encoder.samples].reshape(-1, encoder.samples).to(device)


def embed(encoder, excerpts):
    "Vectors on the CPU."
    return encoder(excerpts).cpu()


def embed_one_by_one(package, waves):
    "Resemblyzer's own way."
    return np.stack([package.embed_utterance(wave) for wave in waves])


def make_encoders(given):
    "Ours and foreign ones, by name."
    own = ("small-cnn",) if given.tiny else ("small-cnn", "efficientnet-b0")
    smaller = dict(num_hidden_layers=2) if given.tiny else {}
    encoders = {"mean MFCC": MeanMFCC(), **{name: build_encoder(dict(name=name, pooling="max")) for name in own}}
    return encoders | {"GE2E": GE2E(), "MERT": mert_architecture(**smaller)}


@torch.no_grad()
def measure(given):
    "The table."
    device = "cuda" if torch.cuda.is_available() else "cpu"
    length, rounds = (2, 1) if given.tiny else (30, 4)             # seconds, turns
    torch.manual_seed(0)
    clip, encoders = 0.1 * torch.randn(length * 16000), make_encoders(given)
    jobs = {name: partial(embed, encoder.to(device).eval(), excerpts_of(clip, encoder, device))
            for name, encoder in encoders.items()}
    package = encoders["GE2E"].network
    package.device = torch.device(device)
    jobs[THEIRS] = partial(embed_one_by_one, package, excerpts_of(clip, encoders["GE2E"], "cpu").numpy())
    took = shortest(jobs, rounds)
    rows = [{"encoder": name, "seconds per clip": took[name], "times real time": length / took[name],
             "faster than GE2E": took["GE2E"] / took[name], "faster than Resemblyzer's own": took[THEIRS] / took[name],
             "faster than MERT": took["MERT"] / took[name]} for name in jobs]
    return {f"Embedding a clip of {length} s, {device}": rows}


if __name__ == "__main__":
    run(measure)
