"""Decoupled NT-Xent by one matrix product, and silent positives as one candidate, against straightforward loops.

    python benchmarks/losses.py [--tiny] [--json FILE]

120 pairs of 128 dimensions, forward and backward, one thread. The alternative does as the released singer-identity
program: it rolls the second view by one row 119 times and takes a cosine similarity each time. Both give the same loss
and gradient; the ratio is within one run. The GPU, where there is one, follows.

MSCOL's batches of 128, half of them silent, are re-ordered item by item in the alternative, as in its released program.
"""
import math
from functools import partial

import torch
import torch.nn.functional as F
from common import run, seconds

from vocalrep.training.losses import (
    bilinear_logits, centroid_targets, contrastive_cross_entropy, ntxent, with_silent_centroid)

DIM, TEMPERATURE = 128, 0.2


def rolled(first, second):
    "Positive cosine, then one cosine per rolled batch."
    own, others = F.cosine_similarity(first, second, dim=1) / TEMPERATURE, []
    for _ in range(len(first) - 1):
        second = torch.roll(second, 1, 0)
        others.append(F.cosine_similarity(first, second, dim=1) / TEMPERATURE)
    return (torch.stack(others, 1).logsumexp(1) - own).mean()


def reordered(y, z, weight, silent):
    "Active items first, one after another; the mean of the silent positives as one more column."
    active = [k for k in range(len(y)) if not silent[k]]
    quiet = [k for k in range(len(y)) if silent[k]]
    columns = torch.stack([z[k] for k in active] + [torch.stack([z[k] for k in quiet]).mean(0)])
    rows = torch.stack([y[k] for k in active + quiet])
    target = torch.tensor([min(k, len(active)) for k in range(len(y))], device=y.device)
    return F.cross_entropy(bilinear_logits(rows, columns, weight), target)


def struck_out(y, z, weight, silent):
    "As the method computes it."
    candidates, absent = with_silent_centroid(z, silent)
    logits = bilinear_logits(y, candidates, weight).masked_fill(absent, -math.inf)
    return contrastive_cross_entropy(logits, centroid_targets(silent, len(z)))


def measure_silence(device, batch, repeats):
    "Milliseconds of MSCOL's loss, by each way on one device."
    torch.manual_seed(0)
    shapes = (batch, 512), (batch, 512), (512, 512)
    views = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    silent = torch.arange(batch, device=device) % 2 == 0
    ways = {"item by item": partial(reordered, silent=silent), "struck out": partial(struck_out, silent=silent)}
    for ours, theirs in zip(*(gradients(way, views) for way in ways.values())):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    took = {name: seconds(lambda way=way: repeat(way, views, 5), repeats, warm=2) / 5 for name, way in ways.items()}
    return [dict(device=device, how=name, milliseconds=1e3 * t, ratio=took["item by item"] / t)
            for name, t in took.items()]


def gradients(loss, views):
    "Value and gradients of one forward and backward pass."
    value = loss(*views)
    return value, *torch.autograd.grad(value, views)


def check(views):
    "Both ways give the same."
    for ours, theirs in zip(gradients(ntxent, views), gradients(rolled, views)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def repeat(loss, views, times):
    "So many passes, finished."
    for _ in range(times):
        gradients(loss, views)
    if views[0].is_cuda:
        torch.cuda.synchronize()


def measure_on(device, batch, repeats):
    "Milliseconds of a pass, by each way on one device."
    torch.manual_seed(0)
    views = [F.normalize(torch.randn(batch, DIM, device=device), dim=1).requires_grad_() for _ in range(2)]
    check(views)
    loop = seconds(lambda: repeat(rolled, views, 1), repeats, warm=2)
    product = seconds(lambda: repeat(ntxent, views, 20), repeats, warm=2) / 20
    ways = {f"loop over {batch - 1} rolled batches": loop, "one matrix product": product}
    return [dict(device=device, how=how, milliseconds=1e3 * t, ratio=loop / t) for how, t in ways.items()]


def measure(given):
    "The table, for the processor and for the GPU where there is one."
    batch, repeats = (8, 1) if given.tiny else (120, 9)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    rows = [row for device in devices for row in measure_on(device, batch, repeats)]
    silence = [row for device in devices for row in measure_silence(device, 8 if given.tiny else 128, repeats)]
    return {f"Decoupled NT-Xent, {batch} pairs, {DIM} dimensions, forward + backward": rows,
            "Half of the positives silent, 512 dimensions, forward + backward": silence}


if __name__ == "__main__":
    run(measure)
