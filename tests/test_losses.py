"Losses: brute force from explicit pairs, a second library, symmetry, edges, shapes, gradients."
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.training.losses import (alignment, bilinear_logits, byol, contrastive_cross_entropy, covariance,
                                      invariance, ntxent, uniformity, variance)

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
    anchor, positive, weight = (torch.randn(n, 5, dtype=dtype) for n in (pairs, pairs, 5))
    loss = contrastive_cross_entropy(bilinear_logits(anchor, positive, weight))
    assert loss.item() == pytest.approx(naive(anchor, positive, weight), abs=tolerance)


def test_weight_is_applied_to_the_positive():
    weight = torch.tensor([[0.0, 1.0], [0.0, 0.0]])          # not symmetric: only (anchor 0, positive 1) counts
    assert bilinear_logits(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]), weight).item() == 6.0
    assert bilinear_logits(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]]), weight).item() == 0.0


def test_order_of_pairs_and_chance():
    torch.manual_seed(0)
    (anchor, positive, weight), order = (torch.randn(n, 4) for n in (9, 9, 4)), torch.randperm(9)
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
    lambda: contrastive_cross_entropy(torch.zeros(0, 0)),
    lambda: contrastive_cross_entropy(torch.zeros(4, 4), reduction="max"),
])
def test_wrong_input(wrong):
    with pytest.raises(VocalrepError):
        wrong()


# Losses on two views: every one is compared with loops over Python numbers.

LOSSES = dict(
    decoupled=ntxent,
    coupled=lambda a, b: ntxent(a, b, decoupled=False),
    few=lambda a, b: ntxent(a, b, negatives=2),
    alignment=alignment,
    distance=lambda a, b: alignment(a, b, power=1),
    uniformity=lambda a, b: uniformity(a) + uniformity(b),
    uniformity_all=lambda a, b: uniformity(a, over="all") + uniformity(b, over="all"),
    invariance=invariance,
    variance=lambda a, b: variance(a, 0.5) + variance(b, 0.5),
    covariance=lambda a, b: covariance(a) + covariance(b),
    byol=byol,
)
quick = settings(max_examples=30, deadline=None)
sizes = st.tuples(st.integers(2, 9), st.integers(1, 6), st.integers(0, 10_000))


def views(pairs, dim, seed, dtype=torch.float64):
    return torch.randn(2, pairs, dim, dtype=dtype, generator=torch.Generator().manual_seed(seed)).unbind()


def dot(x, y):
    return sum(a * b for a, b in zip(x, y))


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y)))


def cosine(x, y):
    return dot(x, y) / max(math.sqrt(dot(x, x)), 1e-8) / max(math.sqrt(dot(y, y)), 1e-8)


def naive_ntxent(first, second, temperature, decoupled, negatives, target):
    total, second = 0.0, second.tolist()
    for x, t in zip(first.tolist(), target):
        own = cosine(x, second[t]) / temperature
        others = [cosine(x, second[(t - r) % len(second)]) / temperature for r in range(1, len(second))][:negatives]
        total += math.log(sum(map(math.exp, others + ([] if decoupled else [own])))) - own
    return total / len(first)


@quick
@given(sizes, st.sampled_from([0.1, 0.2, 1.0]), st.booleans(), st.sampled_from([None, 1, 3, 250]))
def test_ntxent_by_loops(size, temperature, decoupled, negatives):
    first, second = views(*size)
    options = temperature, decoupled, negatives
    expected = naive_ntxent(first, second, *options, range(len(first)))
    assert ntxent(first, second, *options).item() == pytest.approx(expected, abs=1e-9)
    assert ntxent(first, second, *options, "sum").item() == pytest.approx(len(first) * expected, abs=1e-8)
    assert ntxent(3 * first, 0.1 * second, *options).item() == pytest.approx(expected, abs=1e-9)    # only directions
    assert ntxent(first.float(), second.float(), *options).item() == pytest.approx(expected, abs=1e-3)


def test_ntxent_rolls_as_the_released_code_does():
    one = torch.eye(4)                                               # row 1's first negative is row 0, not row 2
    near = [ntxent(one[1] + 0.5 * one[k][None], one, negatives=1, target=torch.tensor([1])).item() for k in range(4)]
    assert near[0] > near[2] and near[2] == pytest.approx(near[3])


@pytest.mark.parametrize("negatives", [None, 2])
@pytest.mark.parametrize("decoupled", [True, False])
def test_ntxent_over_ranks(decoupled, negatives):
    first, second = (x.requires_grad_() for x in views(12, 5, 0))
    options = dict(decoupled=decoupled, negatives=negatives)
    whole = torch.autograd.grad(ntxent(first, second, **options), (first, second))
    targets = torch.arange(12).split(4)
    parts = [ntxent(first[t], second, target=t, **options) for t in targets]
    for ours, theirs in zip(torch.autograd.grad(sum(parts) / 3, (first, second)), whole):
        torch.testing.assert_close(ours, theirs)
    last = naive_ntxent(first[8:].detach(), second.detach(), 0.2, decoupled, negatives, range(8, 12))
    assert parts[2].item() == pytest.approx(last, abs=1e-9)


def test_coupled_is_the_cross_entropy_of_cosines():
    first, second = views(8, 6, 1)
    first_unit, second_unit = (x / x.norm(dim=1, keepdim=True) for x in (first, second))
    cosines = bilinear_logits(first_unit, second_unit, torch.eye(6).double())
    torch.testing.assert_close(ntxent(first, second, 0.5, decoupled=False), contrastive_cross_entropy(2 * cosines))


@pytest.mark.parametrize("pairs", [2, 5, 16])
def test_against_pytorch_metric_learning(pairs):
    library = pytest.importorskip("pytorch_metric_learning.losses")
    first, second = views(pairs, 4, pairs)
    names = torch.arange(pairs)
    theirs = library.NTXentLoss(temperature=0.2)(first, names, ref_emb=second, ref_labels=names.clone())
    assert ntxent(first, second, decoupled=False).item() == pytest.approx(theirs.item(), abs=1e-6)
    spread = (variance(first, 1.0) + variance(second, 1.0)) / 2
    ours = 25 * invariance(first, second) + 25 * spread + 100 * (covariance(first) + covariance(second))
    theirs = library.VICRegLoss(25, 25, 100, eps=1e-8)(first, ref_emb=second)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


@quick
@given(sizes, st.sampled_from([1, 2, 3.5]), st.sampled_from([0.5, 2, 5]))
def test_distances_by_loops(size, power, t):
    first, second = views(*size)
    (pairs, dim), x, y = first.shape, first.tolist(), second.tolist()
    distances = [apart(a, b) for a, b in zip(x, y)]
    assert alignment(first, second, power).item() == pytest.approx(sum(d**power for d in distances) / pairs)
    assert invariance(first, second, "items").item() == pytest.approx(sum(d**2 for d in distances) / pairs)
    assert invariance(first, second).item() == pytest.approx(alignment(first, second).item() / dim)
    assert byol(first, second).item() == pytest.approx(invariance(first, second).item())
    assert byol(first, second, "items").item() == pytest.approx(alignment(first, second).item())
    potential = [[math.exp(-t * apart(a, b) ** 2) for a in x] for b in x]
    below = [potential[i][j] for i in range(pairs) for j in range(i + 1, pairs)]
    if sum(below) > 1e-200:
        assert uniformity(first, t).item() == pytest.approx(math.log(sum(below) / len(below)), abs=1e-9)
    everyone = sum(map(sum, potential))
    assert uniformity(first, t, over="all").item() == pytest.approx(math.log(everyone / pairs), abs=1e-9)


@quick
@given(sizes, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_spread_by_loops(size, target):
    z, _ = views(*size)
    (pairs, dim), columns = z.shape, z.T.tolist()
    centred = [[a - sum(c) / pairs for a in c] for c in columns]
    spread = [[dot(c, d) / (pairs - 1) for d in centred] for c in centred]
    short = [max(0, target - math.sqrt(spread[j][j] + 1e-8)) for j in range(dim)]
    repeated = [spread[i][j] ** 2 for i in range(dim) for j in range(dim) if i != j]
    assert variance(z, target).item() == pytest.approx(sum(short) / dim)
    assert covariance(z).item() == pytest.approx(sum(repeated) / dim, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    first, second = views(5, 4, 3)
    inputs = (first.requires_grad_(), second if name == "byol" else second.requires_grad_())
    assert torch.autograd.gradcheck(LOSSES[name], inputs)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "few"])
def test_order_of_items(name):
    first, second = views(7, 4, 4)
    order = torch.randperm(7)
    torch.testing.assert_close(LOSSES[name](first[order], second[order]), LOSSES[name](first, second))


COLLAPSED = dict(decoupled=math.log(5), coupled=math.log(6), few=math.log(2), alignment=0, distance=0, uniformity=0,
                 uniformity_all=2 * math.log(6), invariance=0, variance=2 * (0.5 - 1e-4), covariance=0, byol=0)


@pytest.mark.parametrize("name,expected", COLLAPSED.items())
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_collapsed(name, expected, value):
    z = torch.full((6, 4), value, requires_grad=True)
    loss = LOSSES[name](z, z.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-5) and z.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_identical_and_opposite_views(name):
    first, _ = views(6, 4, 5, torch.float32)
    for second in (first, -first, 1e3 * first):
        z = first.clone().requires_grad_()
        loss = LOSSES[name](z, second)
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_nan_goes_through(name):
    first, second = views(6, 4, 5)
    first[3, 2] = math.nan
    assert LOSSES[name](first, second).isnan()


@pytest.mark.parametrize("name", LOSSES)
def test_one_pair(name):
    first, second = (x.requires_grad_() for x in views(1, 4, 6))
    if name in ("decoupled", "few", "uniformity", "variance", "covariance"):
        with pytest.raises(VocalrepError, match="more pairs"):
            LOSSES[name](first, second)
    else:
        loss = LOSSES[name](first, second)
        loss.backward()
        assert loss.isfinite() and first.grad.isfinite().all()


def test_far_apart_does_not_overflow():
    first, second = views(5, 3, 7, torch.float32)
    for over in ("pairs", "all"):
        z = (100 * first).requires_grad_()
        loss = uniformity(z, over=over)
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all()                   # exp(-2 * 100^2) is 0 in float32
    assert ntxent(first, second, temperature=1e-4).isfinite()


def test_byol_leaves_its_target_alone():
    prediction, target = (x.requires_grad_() for x in views(4, 3, 8))
    byol(prediction, target).backward()
    assert target.grad is None
    torch.testing.assert_close(prediction.grad, 2 * (prediction - target).detach() / 12)


@pytest.mark.parametrize("wrong", [
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(5, 3)),
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(4, 2)),
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(8, 3), target=torch.arange(3)),
    lambda: ntxent(torch.zeros(4), torch.zeros(4)),
    lambda: ntxent(torch.zeros(0, 3), torch.zeros(0, 3), decoupled=False),
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(4, 3), temperature=0),
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(4, 3), negatives=0),
    lambda: ntxent(torch.zeros(4, 3), torch.zeros(4, 3), reduction="max"),
    lambda: alignment(torch.zeros(4, 3), torch.zeros(5, 3)),
    lambda: alignment(torch.zeros(4, 3), torch.zeros(4, 3), power=0.5),
    lambda: invariance(torch.zeros(4, 3), torch.zeros(1, 3)),                # would broadcast
    lambda: invariance(torch.zeros(4, 3), torch.zeros(4, 3), over="batch"),
    lambda: byol(torch.zeros(4, 3), torch.zeros(4, 1)),
    lambda: byol(torch.zeros(0, 3), torch.zeros(0, 3)),
    lambda: uniformity(torch.zeros(4)),
    lambda: uniformity(torch.zeros(4, 3), over="items"),
    lambda: uniformity(torch.zeros(0, 3), over="all"),
    lambda: variance(torch.zeros(4), 1.0),
    lambda: covariance(torch.zeros(2, 4, 3)),
])
def test_wrong_views(wrong):
    with pytest.raises(VocalrepError):
        wrong()
