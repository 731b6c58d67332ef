"Methods: a teacher by hand, who gets gradients, and shapes and precision that a page does not show."
import copy
import dataclasses
import math

import pytest
import torch

from vocalrep.data.levels import peak_normalize
from vocalrep.data.sampling import Batch
from vocalrep.models.encoders import Encoder, build_encoder
from vocalrep.papers.singer_identity.variants import PROTOCOLS, methods
from vocalrep.project import VocalrepError
from vocalrep.training.methods import BYOL, Bilinear, Projected, Siamese, Term


@pytest.fixture
def byol():
    torch.manual_seed(0)
    encoder = build_encoder(dict(kind="singer", name="small-cnn", bands=40, feature_peak="fixed"))
    return BYOL(momentum=0.9).build(encoder)


def waves(n=6):
    "Noises, each of its own colour."
    white = torch.fft.rfft(torch.randn(n, 12_000, generator=torch.Generator().manual_seed(0)))
    slope = torch.linspace(0, 2, n)[:, None]
    return peak_normalize(torch.fft.irfft(white / torch.arange(1, 6002) ** slope))


def batch(n=6):
    return Batch(waves(n).chunk(2))


def student(method):
    return Projected(method.encoder, method.project)


# ---- the teacher ----

def test_the_teacher_follows_as_if_by_hand(byol):
    names = [n for n, _ in student(byol).named_parameters()]
    assert "project.1.weight" in names and names == [n for n, _ in byol.teacher.named_parameters()]
    by_hand = {n: p.detach().clone() for n, p in byol.teacher.named_parameters()}
    for progress in (0.0, 0.25, 0.5, 0.75):
        with torch.no_grad():
            for p in student(byol).parameters():
                p += 0.1 * torch.randn_like(p)
        tau = 1 - 0.1 * (math.cos(math.pi * progress) + 1) / 2
        now = dict(student(byol).named_parameters())
        by_hand = {n: tau * by_hand[n] + (1 - tau) * now[n].detach() for n in names}
        byol.after_update(progress)
        for n, p in byol.teacher.named_parameters():
            torch.testing.assert_close(p, by_hand[n], atol=1e-6, rtol=1e-5)
    before = copy.deepcopy(byol.teacher.state_dict())
    byol.after_update(1.0)                                                   # at the end it stands still
    assert all(torch.equal(before[n], p) for n, p in byol.teacher.state_dict().items())


def test_no_gradient_reaches_the_teacher(byol):
    byol(batch())["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in byol.teacher.parameters())
    assert all(p.grad is not None for p in (*student(byol).parameters(), *byol.predict.parameters()))


def statistics(module):
    return {n: b.clone() for n, b in module.named_buffers() if n.endswith(("mean", "var"))}


def test_the_teachers_statistics_are_its_own(byol):
    assert all(torch.equal(t, s) for t, s in zip(byol.teacher.buffers(), student(byol).buffers(), strict=True))
    with torch.no_grad():
        for p in byol.encoder.parameters():
            p *= 1.5
        byol.train()(batch())
    theirs, ours = statistics(byol.teacher), statistics(student(byol))
    moved = [n for n in theirs if not torch.allclose(theirs[n], ours[n])]
    assert moved and any(theirs[n].any() for n in moved)                     # both saw the batch, with own weights
    byol.after_update(0.0)
    now = statistics(byol.teacher)
    assert all(torch.equal(now[n], theirs[n]) for n in theirs)


def test_the_student_predicts_what_the_teacher_says_of_the_other_view(byol):
    with torch.no_grad():
        for p in byol.teacher.parameters():
            p += 0.02 * torch.randn_like(p)
    byol.eval()
    views = first, second = batch().views
    said = [byol.predict(student(byol)(x)) for x in views]
    heard = [byol.teacher(x) for x in views]
    expected = ((said[0] - heard[1]) ** 2).mean() / 2 + ((said[1] - heard[0]) ** 2).mean() / 2
    torch.testing.assert_close(byol(Batch((first, second)))["loss"], expected)
    assert not torch.isclose(expected, ((said[0] - heard[0]) ** 2).mean(), rtol=1e-3)       # not of the same view


# ---- any method ----

class Vectors(Encoder):
    name = "vectors"

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def embed(self, features):
        return features


RECORDS = [Bilinear(16), Bilinear(16, start=0.1), BYOL(16, 32),
           Siamese((Term("contrastive"), Term("covariance", 2.0)), 16)]


@pytest.mark.parametrize("record", RECORDS, ids=repr)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_every_method_trains_in_either_precision(record, kind):
    torch.manual_seed(0)
    method, views = record.build(Vectors(24)), torch.randn(2, 8, 24)
    with torch.autocast("cpu", kind, enabled=kind != torch.float32):
        parts = method(Batch(tuple(views)))
    parts["loss"].backward()
    assert parts["loss"].dtype == torch.float32 and 0 <= parts["accuracy"] <= 1 and not parts["accuracy"].requires_grad
    assert set(method.logged) <= set(parts)
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_bilinear_over_ranks_played_by_one_process():
    torch.manual_seed(0)
    method, (anchor, positive) = Bilinear(8).build(Vectors(20)), torch.randn(2, 12, 20)
    method(Batch((anchor, positive)))["loss"].backward()
    whole = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    parts = [method(Batch((anchor[own], positive[own])), gather=lambda _: method.project(positive), rank=rank)["loss"]
             for rank, own in enumerate(torch.arange(12).split(4))]
    (sum(parts) / 3).backward()
    for gradient, parameter in zip(whole, method.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("record", RECORDS, ids=repr)
def test_equal_seeds_build_equal_modules(record):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in record.build(Vectors(24)).parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_records_are_data():
    record = Siamese((Term("invariance", 25.0, dict(over="items")),))
    terms = (dict(loss="invariance", weight=25.0, options=dict(over="items")),)
    assert dataclasses.asdict(record) == dict(projection=128, terms=terms, passes="views")
    assert dataclasses.replace(Bilinear(), start=0.5).build(Vectors(4)).weight[0, 0] == 0.5


def test_unknown_words_list_the_choices():
    with pytest.raises(VocalrepError, match="choose one of: contrastive, alignment"):
        Siamese((Term("attraction"),)).build(Vectors(4))
    with pytest.raises(VocalrepError, match="choose one of: student, target"):
        BYOL(predictor_on="teacher").build(Vectors(4))


def released_loss(name, method, views):
    "A framework's loss with a pass of its own for each view, in training mode, as the released code has it."
    network = Projected(method.encoder, method.project)
    first, second = (network(view) for view in views)
    if name != "BYOL":
        return sum(term(first, second) for term in method.terms)
    taught = [method.teacher(view) for view in views]
    said = [method.predict(z) for z in (first, second)]
    return ((said[0] - taught[1]).square().mean() + (said[1] - taught[0]).square().mean()) / 2


@pytest.mark.parametrize("name", methods(PROTOCOLS["released"]))
def test_each_view_has_a_pass_of_its_own_while_training(name):
    torch.manual_seed(0)
    method = methods(PROTOCOLS["released"])[name].build(build_encoder(dict(kind="singer", name="small-cnn"))).train()
    if name == "BYOL":
        with torch.no_grad():
            for p in method.teacher.parameters():
                p += 0.02 * torch.randn_like(p)
    first, second = waves(16).chunk(2)
    views = first, 0.1 * second                                      # in one pass, the first alone would be the loudest
    by_hand = released_loss(name, copy.deepcopy(method), views)
    torch.testing.assert_close(method(Batch(views))["loss"], by_hand, atol=1e-6, rtol=1e-5)
    method.passes = "batch"
    assert not torch.isclose(method(Batch(views))["loss"], by_hand, rtol=1e-3)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_the_frameworks_of_the_singer_paper(protocol):
    spec = dict(kind="singer", name="small-cnn", bands=protocol.bands, mel_rate=protocol.mel_rate,
                feature_peak=protocol.feature_peak)
    for name, record in methods(protocol).items():
        method = record.build(build_encoder(spec))
        assert {**spec, "level": "peak"}.items() <= method.encoder.spec.items()
        assert hasattr(method, "teacher") == (name == "BYOL")
        out = method(batch(8))
        assert set(out) == {"loss", "accuracy"} and out["loss"].isfinite()
    loud, soft = method.encoder.eval()(3 * waves(2)), method.encoder(waves(2))
    torch.testing.assert_close(loud, soft, atol=1e-3, rtol=1e-3)             # fragments are brought to their peak
