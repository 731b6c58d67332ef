"""The papers' constants, as one reads them in their tables, against what is built here.

CVSM (2025) and singer identity (ISMIR 2023): what both papers and their released programs state. A constant that is
buried in a function is asked for by what the function does. Where text and program differ, both protocols are asked.
"""
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vocalrep.data import sampling
from vocalrep.data.augment import Gain, GaussianNoise, PitchShift, TimeMask
from vocalrep.data.levels import peak_normalize, unit_norm
from vocalrep.data.sampling import Batch, choose_artificial, remix_gains
from vocalrep.data.segments import measure_segments, shorten_silences
from vocalrep.evaluation import probes
from vocalrep.models.encoders import Encoder, SingerEncoder, SpectrogramEncoder, build_encoder
from vocalrep.models.frontends import LogMel, LogPowerMel
from vocalrep.models.networks import ImageNetInput, efficientnet_b0, small_cnn, torchvision_b0
from vocalrep.models.pretrained import MERT
from vocalrep.papers.cvsm import variants as cvsm
from vocalrep.papers.cvsm.paper import PAPER as CVSM
from vocalrep.papers.cvsm.paper import trial_rule
from vocalrep.papers.singer_identity import variants as singers
from vocalrep.papers.singer_identity.conditions import FOLDS, FULL, NARROW
from vocalrep.papers.singer_identity.paper import PAPER as SINGERS
from vocalrep.papers.singer_identity.paper import TRIALS
from vocalrep.training.methods import Term, teacher_momentum

TEXT, PROGRAM = "paper", "released"


def constants(found: dict, **expected):
    "Both tables hold the same constants; numbers may differ by rounding."
    for name, value in expected.items():
        alike = isinstance(value, float) and math.isclose(found[name], value, rel_tol=1e-9)
        assert alike or found[name] == value, f"{name}: {found[name]} here, {value} there"


def fields(record) -> dict:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def full_size(module, protocol):
    "The variants of a paper at its own size."
    record = module.PROTOCOLS[protocol]
    return module.variants(record, module.presets(record)["paper"])


class Still(Encoder):
    "An encoder whose embeddings are what it is given."
    name, level = "still", "recorded"

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def embed(self, features):
        return features


def views(n=24, dim=48, seed=0):
    rng = torch.Generator().manual_seed(seed)
    first = torch.randn(n, dim, generator=rng)
    return Batch((first, first + 0.7 * torch.randn(n, dim, generator=rng)))


# ---- CVSM: what is heard

def test_cvsm_sound():
    assert (cvsm.SOUND.rate, cvsm.SOUND.stems, cvsm.SOUND.silence) == (16_000, ("vocals", "accompaniment"), None)
    encoder = SpectrogramEncoder("small-cnn")
    assert (encoder.rate, encoder.seconds, encoder.samples) == (16_000, 1.0, 16_000)


@pytest.mark.parametrize("level, heard", [(0.0098, False), (0.0099, False), (0.0101, True), (0.0102, True)])
def test_vocals_are_active_above_a_mean_level_of_one_hundredth(level, heard):
    "Of the vocals as recorded, over a segment of 5 s, whatever the accompaniment does."
    wave = np.full((2, 80_000), 0.5, np.float32)
    wave[0] = level * np.where(np.arange(80_000) % 2, 1, -1)
    segments = measure_segments(wave, ("vocals", "accompaniment"), 16_000)
    assert len(segments) == 1 and bool(segments.active_vocals[0]) is heard and segments.active_accompaniment[0]


def test_a_segment_has_norm_one():
    wave = torch.randn(1, 80_000, generator=torch.Generator().manual_seed(0))
    alone = unit_norm(wave, 16_000)
    assert float(alone.square().sum()) == pytest.approx(1, rel=1e-5)
    assert float(alone.square().mean().sqrt()) == pytest.approx(0.0035355, rel=1e-4)       # 1 / sqrt(80 000)
    excerpt = unit_norm(wave[:, :16_000], 16_000, torch.tensor([2.0]))                      # the norm of its segment
    torch.testing.assert_close(excerpt, wave[:, :16_000] / 2)
    norm = measure_segments(np.zeros((1, 80_000), np.float32), ("vocals",), 16_000).norm_vocals[0]
    assert norm == pytest.approx(math.sqrt(1e-9))                                           # of silence


def test_log_mel_of_cvsm():
    frontend = LogMel()
    found = {name: getattr(frontend, name) for name in ("rate", "frame", "hop", "fft", "bands")}
    constants(found, rate=16_000, frame=400, hop=160, fft=1024, bands=64)
    assert frontend.window[[0, 200]].tolist() == [0, 1] and float(frontend.window.sum()) == pytest.approx(200)
    assert float(frontend.window[399]) == pytest.approx(6.169e-5, rel=1e-3)                 # a periodic Hann window
    mel = frontend.mel
    assert tuple(mel.shape) == (513, 64) and float(mel.sum()) == pytest.approx(484.4412, rel=1e-6)
    assert float(mel.max()) == pytest.approx(0.99942267, rel=1e-5) and mel[0].abs().max() == 0
    assert mel.sum(0)[[0, 10, 63]].tolist() == pytest.approx([1.8587008, 2.6937222, 19.469967], rel=1e-5)
    assert mel[4].nonzero().flatten().tolist() == [0] and float(mel[4, 0]) == pytest.approx(0.08840845, rel=1e-4)
    tone = torch.sin(2 * math.pi * 440 * torch.arange(16_000, dtype=torch.float64) / 16_000).float()[None]
    log = frontend(tone)[0]
    assert tuple(log.shape) == (98, 64) and float(log.mean()) == pytest.approx(-4.868026, abs=1e-3)
    assert log[0, :12].tolist() == pytest.approx([
        -2.62863, -2.36686, -2.11703, -1.71133, -1.30104, -0.66092, -0.10958, 1.01369, 2.90632, 4.95754, 5.47392,
        4.74166], abs=2e-4)
    assert float(log[50, 8]) == pytest.approx(2.906316, abs=1e-4)
    silent, loud = frontend(torch.zeros(1, 16_000)), frontend(1e9 * tone)
    assert float(silent.max()) == float(silent.min()) == pytest.approx(math.log(1e-5))
    assert float(loud.max()) == pytest.approx(math.log(1e8))


# ---- CVSM: the encoder

@pytest.mark.parametrize("protocol, pooling", [(PROGRAM, "max"), (TEXT, "avg")])
def test_encoder_of_cvsm(protocol, pooling):
    variant = full_size(cvsm, protocol)["CVSM-AH"]
    level = {PROGRAM: "unit-norm", TEXT: "recorded"}[protocol]
    assert variant.encoder == dict(name="efficientnet-b0", pooling=pooling, level=level)
    torch.manual_seed(0)
    encoder = build_encoder(variant.encoder).eval()
    assert encoder.dim == 1280
    assert sum(p.numel() for p in encoder.parameters()) == 4_006_972                        # trained, as in Keras
    waves = torch.randn(2, 16_000)
    torch.testing.assert_close(255 * encoder.features(waves)[:, 0], LogMel()(waves))        # Keras' rescaling
    with torch.no_grad():
        maps = encoder.network(encoder.features(waves))
        assert tuple(maps.shape) == (2, 1280, 4, 2)                                         # time, mel
        maps, encoder.network = torch.randn(2, 1280, 4, 2), nn.Identity()
        pooled = maps.amax((2, 3)) if pooling == "max" else maps.mean((2, 3))
        torch.testing.assert_close(encoder.embed(maps), pooled)


def test_layers_of_efficientnet_b0():
    network = efficientnet_b0()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)} and len(norms) == 49      # Keras: momentum 0.99
    skipped = [block.drop_path.drop_prob for stage in network.blocks for block in stage if block.has_skip]
    assert skipped == pytest.approx([.025, .05, .075, .0875, .1125, .125, .15, .1625, .175])
    kernels = [stage[0].conv_dw.kernel_size[0] for stage in network.blocks]
    assert kernels == [3, 3, 5, 3, 5, 5, 3]
    assert [stage[0].se.conv_reduce.out_channels for stage in network.blocks] == [8, 4, 6, 10, 20, 28, 48]


def reference_weights(network: nn.Module) -> nn.Module:
    "Weights that any machine draws alike: numpy's generator, tensors in the order of their names."
    rng, state = np.random.default_rng(0), network.state_dict()
    draws = {"running_var": (rng.uniform, 0.5, 1.5), "running_mean": (rng.normal, 0, 0.1),
             "weight": (rng.uniform, 0.8, 1.2), "bias": (rng.normal, 0, 0.1)}
    for name in sorted(state):
        kind, shape = name.rpartition(".")[2], tuple(state[name].shape)
        if len(shape) == 4:
            state[name] = torch.from_numpy(rng.normal(0, 1.6 / np.sqrt(np.prod(shape[1:])), shape))
        elif kind in draws:
            draw, first, second = draws[kind]
            state[name] = torch.from_numpy(draw(first, second, shape))
    network.load_state_dict(state)
    return network.double().eval()


REFERENCE = {(0, 0, 0): 0.0, (0, 3, 1): 9.431688, (640, 0, 1): 26.019387, (1279, 3, 0): -0.002829}


def test_efficientnet_b0_against_stored_values():
    """Outputs at reference weights, in float64.

    Made once by this network, when a second implementation by torch's functions alone gave exactly the same: Keras'
    blocks with their asymmetric padding, epsilon 1e-3 and squeeze widths, fed with these weights.
    """
    network = reference_weights(efficientnet_b0())
    picture = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, 98, 64))).float().double()
    with torch.no_grad():
        maps = network(picture)[0]                                                          # (1280, 4, 2)
    assert {place: float(maps[place]) for place in REFERENCE} == pytest.approx(REFERENCE, rel=1e-4, abs=1e-4)
    pooled = maps.amax((1, 2))
    assert pooled[[0, 1, 100, 640, 1279]].tolist() == pytest.approx(
        [99.765475, 362.8139, 137.381831, 78.004542, 69.83318], rel=1e-5)
    assert [float(pooled.mean()), float(maps.mean()), float(maps.std())] == pytest.approx(
        [136.2904997, 51.5449463, 80.7328720], rel=1e-6)


# ---- CVSM: pairs, loss, optimiser

def test_pairs_of_cvsm():
    released, text = (cvsm.PROTOCOLS[name].sampling for name in (PROGRAM, TEXT))
    constants(fields(released), hybrid="exact", real_anchor="remix", donors="step", artist_pairs="step",
              scaling="unit-norm", pool="rolling")
    constants(fields(text), hybrid="bernoulli", real_anchor="mixture", donors="corpus", artist_pairs="corpus",
              scaling="recorded", pool="all")
    assert text.remix_gains is None and released.remix_gains == (0.6, 0.8)
    behind, front = remix_gains(10_000, released, np.random.default_rng(0))
    assert 0.6 <= behind.min() < 0.601 and 0.799 < behind.max() < 0.8
    assert np.allclose(front, 1 - behind**2)
    assert choose_artificial(8192, 0.5, released, np.random.default_rng(0)).sum() == 4096
    assert (sampling.POOL_STEPS, sampling.POOL_RENEWED) == (10, 0.2)            # 81 920 keys, 16 384 renewed
    for name in (PROGRAM, TEXT):
        pairs = {key: variant.stages[0].sampling for key, variant in full_size(cvsm, name).items()}
        artificial = {key: own.p_artificial for key, own in pairs.items() if own.p_artificial}
        assert artificial == {"CVSM-A": 1, "CVSM-AH": 0.5, "CVSM-AF": 1} and len(pairs) == 7
        assert {own.seconds for own in pairs.values()} == {1.0}


def test_excerpts_begin_in_the_first_four_seconds(store):
    drawn = full_size(cvsm, PROGRAM)["MSCOL"].stages[0].sampling.build(store, 4096, 128, "train").step()
    offsets = np.concatenate([view[0].offsets for view in drawn.views])
    assert offsets.min() >= 0 and 63_900 < offsets.max() < 64_000                           # U(0, 64000)


def test_head_of_cvsm():
    torch.manual_seed(0)
    method = full_size(cvsm, PROGRAM)["CVSM-AH"].method.build(Still(1280))
    linear, norm, squash = method.project
    assert tuple(linear.weight.shape) == (512, 1280) and norm.eps == 1e-3
    assert [sum(p.numel() for p in layer.parameters()) for layer in (linear, norm, squash)] == [655_872, 1024, 0]
    h = 5 * torch.randn(6, 1280)
    z = linear(h)
    centred = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(method.project(h), torch.tanh(centred), atol=1e-5, rtol=1e-4)
    assert tuple(method.weight.shape) == (512, 512)
    assert float(method.weight.detach().std()) == pytest.approx(0.05, rel=0.01)
    limit = math.sqrt(6 / (1280 + 512))                                                     # Keras' Dense
    assert 0.99 * limit < float(linear.weight.detach().abs().max()) <= limit and not linear.bias.any()


def test_loss_of_cvsm():
    "Softmax over the positives of the batch, anchors in rows, no temperature, the similarity's matrix on the positive."
    torch.manual_seed(0)
    method = full_size(cvsm, PROGRAM)["CVSM-AH"].method.build(Still(48))
    batch = views()
    y, z = (method.project(view) for view in batch.views)
    logits = y @ (method.weight @ z.T)
    torch.testing.assert_close(method(batch)["loss"], -logits.log_softmax(1).diagonal().mean())
    assert cvsm.PROTOCOLS[PROGRAM].reduction == "mean" and cvsm.PROTOCOLS[TEXT].reduction == "sum"


def test_views_of_cvsm_share_a_pass():
    method = full_size(cvsm, PROGRAM)["CVSM-AH"].method.build(Still(48))
    seen = []
    method.encoder.embed = lambda features: seen.append(len(features)) or features
    method(views(n=24))
    assert seen == [48]


@pytest.mark.parametrize("protocol, steps, halves, fine", [(PROGRAM, 10_000, False, 5e-4), (TEXT, 8000, True, None)])
def test_optimiser_of_cvsm(protocol, steps, halves, fine):
    preset = cvsm.presets(cvsm.PROTOCOLS[protocol])["paper"]
    constants(fields(preset), steps=steps, step_pairs=8192, batch=128, validate_every=10, patience=1000,
              encoder="efficientnet-b0", precision="32-true")
    for name, variant in full_size(cvsm, protocol).items():
        constants(fields(variant.schedule), learning_rate=1e-3, head_rate=1.0, eps=1e-7, weight_decay=0.0,
                  halve_on_plateau=halves, stop_on_plateau=False)
        shares, rates = [s.share for s in variant.stages], [s.learning_rate for s in variant.stages]
        assert (shares, rates) == (([0.75, 0.25], [None, fine]) if name == "CVSM-AF" else ([1], [None]))


# ---- CVSM: evaluation

@pytest.mark.parametrize("protocol", [PROGRAM, TEXT])
def test_probes_of_cvsm(protocol):
    released = protocol == PROGRAM
    found = fields(cvsm.PROTOCOLS[protocol].probes)
    constants(found, artists=50, repetitions=5, folds=10, trials=100, learning_rate=5e-4, batch=64, patience=6,
              gender_epoch=8192, artist_epochs=100 if released else 200, gender_epochs=50 if released else 200,
              same_clip=released, drop_connect=released, lone_excerpt=0.5 if released else 1.0,
              negatives="opposite" if released else "random", eer_rule="step" if released else "roc",
              rank_base="zero" if released else "one")
    assert (found["crops"] > 0) is released


@pytest.mark.parametrize("task, loss, epochs, items", [("artist", "softmax", 100, 0), ("gender", "sigmoid", 50, 8192)])
def test_probes_are_trained_as_the_protocol_says(task, loss, epochs, items, monkeypatch):
    import pandas as pd
    asked = []
    monkeypatch.setattr(probes, "identification_scores",
                        lambda *args, **more: asked.append(args[4]) or pd.DataFrame(dict(reduced=[""])))
    rows = [dict(clip=f"{a:02d}-{c}", artist=f"{a:02d}", gender="fm"[a % 2], row=c, offset=k)
            for a in range(24) for c in range(4) for k in range(5)]
    identify = dict(artist=probes.identify_artists, gender=probes.identify_gender)[task]
    identify(pd.DataFrame(rows), np.random.default_rng(0).normal(size=(len(rows), 4)), cvsm.PROTOCOLS[PROGRAM].probes)
    constants(fields(asked[0]), loss=loss, epochs=epochs, epoch_items=items, learning_rate=5e-4, batch=64, patience=6,
              eps=1e-7, start="glorot", standardise=False, unit="clip", tie="first")
    assert asked[0].hidden is None


def test_trials_of_cvsm():
    for name in (PROGRAM, TEXT):
        rule = trial_rule(cvsm.PROTOCOLS[name])
        assert rule.trials * rule.artists == 5000                                           # K
    assert CVSM.measured_on == "Music4All" and CVSM.trained == {
        "COLA", "MSCOL", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART"}


def test_mert_is_the_checkpoint_of_the_footnote(monkeypatch):
    asked = []

    def nobody(self, folder, checkpoint, level):
        asked.append((folder, checkpoint, level))
        raise InterruptedError
    monkeypatch.setattr(MERT.__mro__[1], "__init__", nobody)
    with pytest.raises(InterruptedError):
        CVSM.baselines["MERT"].load({}, 0)
    assert asked == [(None, "m-a-p/MERT-v0-public", "recorded")]
    assert MERT.seconds == 1.0


# ---- singer identity: what is heard

def test_singer_sound():
    assert (singers.SOUND.rate, singers.SOUND.stems, singers.SOUND.silence) == (44_100, ("vocals",), 1.3)
    assert {name: full_size(singers, name)["CONT"].stages[0].sampling.samples for name in (PROGRAM, TEXT)} == {
        PROGRAM: 176_000, TEXT: 176_400}
    assert (NARROW.seconds, NARROW.through, FULL.seconds, FULL.through) == (4.0, 16_000, 4.0, None)
    wave = torch.tensor([[0.5, -0.25, 0.0], [0.0, 0.0, 0.0]])
    assert peak_normalize(wave).tolist() == [[1.0, -0.5, 0.0], [0.0, 0.0, 0.0]]


def test_silences_of_the_singer_paper():
    "Those above 1.3 s become 1.3 s; below half a percent of the peak is silence, and so is a loud part under 0.2 s."
    rate, second = 1000, np.ones(1000, np.float32)
    tone = np.sin(np.arange(1000) * 2).astype(np.float32)
    rest = np.tile(0.004 * tone, 3)
    assert len(shorten_silences(np.concatenate([tone, rest, tone]), rate)) == 2000 + 1300
    assert len(shorten_silences(np.concatenate([tone, rest / 0.004 * 0.006, tone]), rate)) == 5000
    for brief, left in ((150, 2000 + 1300), (250, 2000 + 1300 + 250 + 1300)):
        wave = np.concatenate([tone, rest, tone[:brief], rest, tone])
        assert len(shorten_silences(wave, rate)) == pytest.approx(left, abs=20)
    assert len(second) == rate


def test_augmentations_of_the_singer_paper():
    for name, highest in ((PROGRAM, 1.3), (TEXT, 3.0)):
        chain = full_size(singers, name)["CONT"].stages[0].sampling.augmentations
        assert [type(step) for step in chain] == [GaussianNoise, PitchShift, Gain, TimeMask]
        assert [step.p for step in chain] == [0.5] * 4
        noise, pitch, gain, mask = chain
        assert (noise.amplitude, gain.decibels, mask.part) == ((0.001, 0.05), (-6.0, 0.0), 1 / 8)
        assert (pitch.ratio, pitch.range_ratio) == ((1.0, highest), (1.0, 1.5))


def test_picture_of_the_singer_paper():
    frontend = LogPowerMel()
    assert (frontend.bands, frontend.fft, frontend.hop) == (128, 2048, 512)
    assert float(frontend.mel.sum()) == pytest.approx(11.88668, rel=1e-5)
    assert float(frontend.mel.max()) == pytest.approx(0.03842170, rel=1e-5)
    tone = torch.sin(2 * math.pi * 440 * torch.arange(176_400, dtype=torch.float64) / 44_100).float()[None]
    log = frontend(tone)[0]
    assert tuple(log.shape) == (345, 128) and tuple(frontend(tone[:, :176_000]).shape) == (1, 344, 128)
    assert log[100, :3].tolist() == pytest.approx([-9.0044, -8.4045, -7.4912], abs=0.06)       # near the floor
    assert float(log.max()) == pytest.approx(8.990376, abs=1e-4) and int(log[100].argmax()) == 8
    assert float(frontend(torch.zeros(1, 4096)).max()) == pytest.approx(math.log(1e-8))
    picture = ImageNetInput()(torch.zeros(1, 1, 2, 2))[0, :, 0, 0]
    assert picture.tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


@pytest.mark.parametrize("protocol, bands, rate, peak", [(PROGRAM, 128, 22_050, "batch"), (TEXT, 80, 44_100, "fixed")])
def test_encoder_of_the_singer_paper(protocol, bands, rate, peak):
    found = full_size(singers, protocol)["CONT"].encoder
    assert found == dict(kind="singer", name="efficientnet-b0", bands=bands, mel_rate=rate, feature_peak=peak,
                         level="peak", imagenet=True)
    waves = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    waves = peak_normalize(torch.stack([waves[0], 0.1 * waves[1]]))
    encoder = SingerEncoder("small-cnn", bands=bands, mel_rate=rate, feature_peak=peak)
    log = LogPowerMel(bands, rate)(waves).transpose(1, 2)[:, None]
    divisor = log.max() if peak == "batch" else 8.990376
    torch.testing.assert_close(encoder.features(waves), log / divisor)
    assert (encoder.rate, encoder.seconds, encoder.dim) == (44_100, 4.0, 1000)


def test_torchvisions_efficientnet_b0():
    from torchvision.ops import StochasticDepth
    network = torchvision_b0()
    assert sum(p.numel() for p in network.parameters()) == 5_288_548
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.2]
    assert max(m.p for m in network.modules() if isinstance(m, StochasticDepth)) == pytest.approx(0.2 * 15 / 16)
    assert network.classifier[1].out_features == 1000


# ---- singer identity: losses

def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def method_of(name, protocol, dim=48):
    torch.manual_seed(0)
    return full_size(singers, protocol)[name].method.build(Still(dim))


def definitions(a, b, protocol):
    "The terms of section 3.3, written out (B, 128)."
    n, d, released = len(a), a.shape[1], protocol == PROGRAM
    s = unit(a) @ unit(b).T / 0.2
    items = [-s[i, i] + torch.logsumexp(s[i, torch.arange(n) != i], 0) for i in range(n)]
    views_of = {"a": a, "b": b}
    crowds, shortfalls, repeats = [], [], []
    for z in views_of.values():
        potential = torch.exp(-2 * torch.cdist(z, z).square())
        above = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
        crowds.append(potential[above].mean().log() if released else (potential.sum() / n).log())
        gamma = 1 / math.sqrt(128) if released else 1.0
        shortfalls.append(F.relu(gamma - (z.var(0) + 1e-8).sqrt()).mean())
        c = (z - z.mean(0)).T @ (z - z.mean(0)) / (n - 1)
        repeats.append((c.square().sum() - c.diagonal().square().sum()) / d)
    distance = (a - b).square().sum(1).mean()
    return dict(contrastive=sum(items) / n if released else sum(items), alignment=distance,
                uniformity=sum(crowds) / 2, invariance=distance / d if released else distance,
                variance=sum(shortfalls) / 2, covariance=sum(repeats) / (1 if released else 2))


WEIGHTS = {"CONT": dict(contrastive=1), "CONT-VC": dict(contrastive=1, variance=25, covariance=100),
           "UNIF": dict(alignment=1, uniformity=1), "VICReg": dict(invariance=25, variance=25, covariance=100)}


@pytest.mark.parametrize("protocol", [PROGRAM, TEXT])
@pytest.mark.parametrize("name", list(WEIGHTS))
def test_losses_of_the_singer_paper(name, protocol):
    "Temperature 0.2, weights 25, 25 and 100, on unit vectors of 128 dimensions; the gamma of each protocol."
    method, batch = method_of(name, protocol), views()
    a, b = (method.project(view) for view in batch.views)
    assert a.shape[1] == 128
    terms = definitions(a, b, protocol)
    expected = sum(weight * terms[term] for term, weight in WEIGHTS[name].items())
    torch.testing.assert_close(method(batch)["loss"], expected, rtol=1e-4, atol=1e-5)


def test_projection_and_negatives_of_the_singer_paper():
    method = method_of("CONT", PROGRAM)
    h = torch.randn(4, 48)
    linear = method.project[1]
    torch.testing.assert_close(method.project(h), unit(linear(h * h.sigmoid())))            # SiLU, linear, unit length
    term = next(term for term in method.terms if term.loss == "contrastive")
    assert term.options["negatives"] == 250
    many = views(n=400)
    a, b = (unit(view) for view in many.views)
    s, n = a @ b.T / 0.2, 400
    rolled = torch.stack([s[torch.arange(n), (torch.arange(n) - k) % n] for k in range(1, 251)], 1)
    own = -s.diagonal() + rolled.logsumexp(1)
    torch.testing.assert_close(Term("contrastive", 1.0, dict(negatives=250))(*many.views), own.mean())


def test_byol_of_the_singer_paper():
    record = full_size(singers, PROGRAM)["BYOL"].method
    constants(fields(record), projection=128, hidden=1024, momentum=0.99, over="elements", predictor_on="student")
    predict = method_of("BYOL", PROGRAM).predict
    assert [type(layer).__name__ for layer in predict] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "UnitLength"]
    assert predict[0].bias is None and predict[3].bias is not None
    momenta = [teacher_momentum(0.99, share) for share in (0, 0.5, 1)]
    assert momenta == pytest.approx([0.99, 0.995, 1])
    constants(fields(full_size(singers, TEXT)["BYOL"].method), over="items", predictor_on="target")


@pytest.mark.parametrize("protocol, batch", [(PROGRAM, 140), (TEXT, 120)])
def test_optimiser_of_the_singer_paper(protocol, batch):
    preset = singers.presets(singers.PROTOCOLS[protocol])["paper"]
    constants(fields(preset), batch=batch, encoder="efficientnet-b0", precision="32-true")
    for name, variant in full_size(singers, protocol).items():
        rate, decay = (3e-5, 1.5e-6) if name == "BYOL" else (1e-4, 1e-5)
        constants(fields(variant.schedule), learning_rate=rate, weight_decay=decay, eps=1e-8)
        assert variant.schedule.warm_up == (0.01 if name == "BYOL" and protocol == PROGRAM else None)
        assert variant.schedule.keep_best == ("valid_loss" if protocol == PROGRAM else "eer_vocals")


# ---- singer identity: evaluation

def test_trials_of_the_singer_paper():
    assert TRIALS == {"in-domain": 50_000, "out-of-domain": 20_000}
    released, text = (singers.PROTOCOLS[name].rank for name in (PROGRAM, TEXT))
    constants(fields(released), queries="trials", distractors=512, excluded="substring", count=1000)
    constants(fields(text), queries="recording", distractors=511, count=1000)               # N = 512 with the match
    assert FOLDS == {"NUS-48E": 4} and SINGERS.trained == {"CONT", "CONT-VC", "UNIF", "VICReg", "BYOL"}


def test_the_small_network_is_no_constant_of_a_paper():
    "It stands in at smoke and laptop, and says so: its own name, its own input."
    for module in (cvsm, singers):
        sizes = {name: preset.encoder for name, preset in module.presets(module.PROTOCOLS[PROGRAM]).items()}
        assert sizes == dict(smoke="small-cnn", laptop="small-cnn", gpu="efficientnet-b0", paper="efficientnet-b0")
    assert sum(p.numel() for p in small_cnn().parameters()) < 600_000
