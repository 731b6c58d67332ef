"""Decoupled NT-Xent by one matrix product, against a loop over rolled batches.

    python benchmarks/losses.py

120 pairs of 128 dimensions, forward and backward, one thread. The alternative does as the released singer-identity program: it rolls the second view by one row 119 times and takes a cosine similarity each time.
Both give the same loss and gradient; the ratio is within one run. The GPU, where there is one, follows.
"""
import torch
import torch.nn.functional as F
from common import seconds, show

from vocalrep.training.losses import ntxent

BATCH, DIM, TEMPERATURE = 120, 128, 0.2


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


def measure(device):
    torch.manual_seed(0)
    views = [F.normalize(torch.randn(BATCH, DIM, device=device), dim=1).requires_grad_() for _ in range(2)]
    for ours, theirs in zip(gradients(ntxent, views), gradients(rolled, views)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    took = {}                                       # the loop comes first: the others are measured by it
    for how, loss, times in ((f"loop over {BATCH - 1} rolled batches", rolled, 1), ("one matrix product", ntxent, 20)):
        def run():
            for _ in range(times):
                gradients(loss, views)
            wait()
        took[how] = seconds(run, repeats=9, warm=2) / times
    loop = next(iter(took.values()))
    return [dict(device=device, how=how, milliseconds=1e3 * t, ratio=loop / t) for how, t in took.items()]


def main():
    torch.set_num_threads(1)
    show(f"Decoupled NT-Xent, {BATCH} pairs, {DIM} dimensions, forward + backward", [row for device in ["cpu"] + ["cuda"] * torch.cuda.is_available() for row in measure(device)])


if __name__ == "__main__":
    main()
