"""The contrastive loss and its objective: brute force from explicit pairs, symmetry, edges, shapes."""
import math

import pytest
import torch

from vocalrep.losses import bilinear_logits, contrastive_cross_entropy
from vocalrep.objectives import BilinearObjective, make_objective
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


def naive(anchor, positive, weight):
    anchor, positive, weight, total = anchor.detach(), positive.detach(), weight.detach(), 0.0
    for i in range(len(anchor)):
        scores = [float(anchor[i] @ weight @ positive[j]) for j in range(len(positive))]
        total += math.log(sum(math.exp(s - scores[i]) for s in scores))
    return total / len(anchor)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("pairs", [1, 2, 7, 33])
def test_loss_from_explicit_pairs(pairs, dtype, tolerance):
    torch.manual_seed(pairs)
    anchor, positive, weight = torch.randn(pairs, 5, dtype=dtype), torch.randn(pairs, 5, dtype=dtype), torch.randn(5, 5, dtype=dtype)
    assert contrastive_cross_entropy(bilinear_logits(anchor, positive, weight)).item() == pytest.approx(naive(anchor, positive, weight), abs=tolerance)


def test_weight_is_applied_to_the_positive():
    weight = torch.tensor([[0.0, 1.0], [0.0, 0.0]])          # not symmetric: only (anchor 0, positive 1) counts
    assert bilinear_logits(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), weight).item() == 6.0
    assert bilinear_logits(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]]), weight).item() == 0.0


def test_order_of_pairs_and_chance():
    torch.manual_seed(0)
    anchor, positive, weight, order = torch.randn(9, 4), torch.randn(9, 4), torch.randn(4, 4), torch.randperm(9)
    torch.testing.assert_close(contrastive_cross_entropy(bilinear_logits(anchor[order], positive[order], weight)),
                               contrastive_cross_entropy(bilinear_logits(anchor, positive, weight)))
    assert contrastive_cross_entropy(torch.zeros(9, 9)).item() == pytest.approx(math.log(9))
    assert contrastive_cross_entropy(1e6 * torch.eye(9)).item() == 0.0
    assert contrastive_cross_entropy(torch.randn(1, 1)).item() == 0.0


def test_reduction_and_target():
    logits = torch.randn(6, 8)
    target = torch.tensor([7, 0, 3, 3, 1, 5])
    by_hand = sum(torch.logsumexp(row, 0) - row[t] for row, t in zip(logits, target))
    torch.testing.assert_close(contrastive_cross_entropy(logits, target, "sum"), by_hand)
    torch.testing.assert_close(contrastive_cross_entropy(logits, target), by_hand / 6)


@pytest.mark.parametrize("wrong", [
    lambda: bilinear_logits(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(3, 3)),
    lambda: bilinear_logits(torch.zeros(3), torch.zeros(2, 3), torch.zeros(3, 3)),
    lambda: bilinear_logits(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(4, 4)),
    lambda: contrastive_cross_entropy(torch.zeros(4, 3)),
    lambda: contrastive_cross_entropy(torch.zeros(4)),
    lambda: contrastive_cross_entropy(torch.zeros(4, 4), reduction="max"),
    lambda: make_objective("trilinear"),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong()


def test_objective_sizes_and_parts():
    objective = BilinearObjective()
    sizes = [sum(p.numel() for p in part.parameters()) for part in objective.project[:2]] + [objective.weight.numel()]
    assert sizes == [655_872, 1_024, 262_144]
    anchor, positive = torch.randn(2, 6, 1280)
    parts = objective(anchor, positive)
    y, z = objective.project(anchor), objective.project(positive)
    assert parts["loss"].item() == pytest.approx(naive(y.double(), z.double(), objective.weight.double()), abs=1e-4)
    assert 0 <= parts["accuracy"] <= 1 and all(not value.requires_grad for key, value in parts.items() if key != "loss")


def test_objective_over_ranks_played_by_one_process():
    torch.manual_seed(0)
    objective = BilinearObjective(20, 8)
    anchor, positive = torch.randn(2, 12, 20)
    objective(anchor, positive)["loss"].backward()
    whole = [p.grad.clone() for p in objective.parameters()]
    objective.zero_grad()
    parts = [objective(anchor[4 * r:4 * r + 4], positive[4 * r:4 * r + 4], gather=lambda _: objective.project(positive), rank=r)["loss"] for r in range(3)]
    (sum(parts) / 3).backward()
    for gradient, parameter in zip(whole, objective.parameters()):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_objective_is_float32_under_autocast():
    objective = BilinearObjective(20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert objective(torch.randn(4, 20), torch.randn(4, 20))["loss"].dtype == torch.float32
