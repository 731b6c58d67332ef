"""Decoupled NT-Xent by one matrix product, against a loop over rolled batches.

    python benchmarks/losses.py [--tiny] [--json FILE]

120 pairs of 128 dimensions, forward and backward, one thread. The alternative does as the released singer-identity
program: it rolls the second view by one row 119 times and takes a cosine similarity each time. Both give the same loss
and gradient; the ratio is within one run. The GPU, where there is one, follows.
"""
import torch
import torch.nn.functional as F
from common import run, seconds

from vocalrep.training.losses import ntxent

DIM, TEMPERATURE = 128, 0.2


def rolled(first, second):
    "Positive cosine, then one cosine per rolled batch."
    own, others = F.cosine_similarity(first, second, dim=1) / TEMPERATURE, []
    for _ in range(len(first) - 1):
        second = torch.roll(second, 1, 0)
        others.append(F.cosine_similarity(first, second, dim=1) / TEMPERATURE)
    return (torch.stack(others, 1).logsumexp(1) - own).mean()


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
    return {f"Decoupled NT-Xent, {batch} pairs, {DIM} dimensions, forward + backward": rows}


if __name__ == "__main__":
    run(measure)
