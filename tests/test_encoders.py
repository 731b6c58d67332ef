"Encoders: size, level, independence of the batch, what survives a trip to disk and what is refused."
import json
import math
import urllib.error

import pytest
import torch

from vocalrep.data.levels import LEVELS
from vocalrep.models.encoders import (ENCODERS, SINGER_NETWORKS, Encoder, MeanMFCC, SingerEncoder, SpectrogramEncoder,
                                      build_encoder, load_encoder, save_encoder)
from vocalrep.models.frontends import LogPowerMel
from vocalrep.models.networks import ImageNetInput, efficientnet_b0, keras_initial_values, torchvision_b0
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def excerpts():
    return 0.0035 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))


# ---- level, features, embedding ----

class Ear(Encoder):
    "An encoder that remembers what each of its two halves was given."

    def __init__(self, level="recorded", rate=8):
        super().__init__()
        self.name, self.level, self.rate, self.dim = "ear", level, rate, 1

    def features(self, waveforms):
        self.heard = waveforms
        return 2 * waveforms

    def embed(self, features):
        self.seen = features
        return features.mean(1, keepdim=True)


@pytest.mark.parametrize("level", LEVELS)
def test_an_encoder_sets_its_own_level(level):
    waves, norms = torch.randn(3, 16), torch.tensor([1.0, 2.0, 4.0])
    ear = Ear(level)
    for given in (None, norms):
        vectors = ear(waves, given)
        assert torch.equal(ear.heard, LEVELS[level](waves, 8, given)) and torch.equal(ear.seen, 2 * ear.heard)
        assert torch.equal(vectors, ear.embed(ear.features(ear.at_level(waves, given))))


def test_norms_are_those_of_the_surroundings():
    song = torch.randn(5, 8) * torch.arange(1.0, 6)[:, None]               # five seconds at 8 Hz, ever louder
    ear = Ear("unit-norm")
    ear(song, song.norm().expand(5))
    assert ear.heard.norm().item() == pytest.approx(1, rel=1e-5)
    ear(song)
    torch.testing.assert_close(ear.heard.norm(dim=1), torch.full((5,), math.sqrt(1 / 5)))
    ear(torch.zeros(2, 8), torch.zeros(2))
    assert not ear.heard.any()                                             # silence stays silence


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(16,), (2, 1, 16), ()])
def test_waveforms_come_in_batches(level, shape):
    with pytest.raises(VocalrepError, match="'ear' needs waveforms .B, T.*give a batch"):
        Ear(level)(torch.zeros(shape))


def test_an_encoder_without_a_network_says_nothing_for_it():
    with pytest.raises(NotImplementedError):
        Encoder()(torch.zeros(1, 8))


@torch.no_grad()
@pytest.mark.parametrize("build", [SpectrogramEncoder, SingerEncoder, MeanMFCC])
def test_the_halves_make_the_call(build, excerpts):
    encoder = (build() if build is MeanMFCC else build("small-cnn")).eval()
    norms = torch.full((4,), 2.0)
    features = encoder.features(encoder.at_level(excerpts, norms))
    assert torch.equal(encoder.embed(features), encoder(excerpts, norms))
    masked = features.clone()
    masked[..., :features.shape[-1] // 2] = 0                              # what is between them may be changed
    assert (encoder.embed(masked) - encoder.embed(features)).abs().amax(1).min() > 0


def test_every_encoder_has_the_level_it_was_asked_for():
    assert [SpectrogramEncoder("small-cnn").level, SingerEncoder("small-cnn").level, MeanMFCC().level] == \
        ["unit-norm", "peak", "unit-norm"]
    for make in (lambda level: SpectrogramEncoder("small-cnn", level=level), lambda level: MeanMFCC(level=level),
                 lambda level: SingerEncoder("small-cnn", level=level)):
        for level in LEVELS:
            assert make(level).level == level
        with pytest.raises(VocalrepError, match="unknown level 'loud'.*peak, unit-norm, clip-norm, recorded"):
            make("loud")


# ---- spectrograms ----

def test_b0_is_the_released_size():
    network = efficientnet_b0()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 4_006_972
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all((m.eps, m.momentum) == (1e-3, 0.01) for m in norms)


@pytest.mark.parametrize("height,width", [(98, 64), (49, 32), (25, 16), (13, 8), (7, 4)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_is_keras(height, width, kernel):
    from timm.layers import create_conv2d
    convolution = create_conv2d(3, 5, kernel, stride=2, padding="same")
    correct = kernel // 2                                                 # Keras' correct_pad: one less for even sizes
    before = [correct - (1 - size % 2) for size in (height, width)]
    x = torch.randn(1, 3, height, width)
    padded = torch.nn.functional.pad(x, (before[1], correct, before[0], correct))
    expected = torch.nn.functional.conv2d(padded, convolution.weight, convolution.bias, stride=2)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_round_trip(tmp_path, excerpts, name, pooling):
    encoder = SpectrogramEncoder(name, pooling, "recorded")
    with torch.no_grad():
        encoder(excerpts)                                                  # running statistics move, and must be kept
        encoder.eval()
        save_encoder(encoder, tmp_path / "ein Ordner, ü")
        again = load_encoder(tmp_path / "ein Ordner, ü")
        assert not again.training and again.dim == 1280
        assert again.spec == encoder.spec == dict(name=name, pooling=pooling, level="recorded")
        assert torch.equal(again(excerpts), encoder(excerpts))
        torch.testing.assert_close(encoder(excerpts[2:3]), encoder(excerpts)[2:3], atol=1e-4, rtol=1e-4)


def test_all_parameters_learn(excerpts):
    for name in ENCODERS:
        encoder = SpectrogramEncoder(name)
        encoder(excerpts).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_same_seed_same_encoder():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(SpectrogramEncoder("small-cnn").state_dict())
    first, second = states
    assert all(torch.equal(first[k], second[k]) for k in first)


def _write(text):
    return lambda folder: (folder / "encoder.json").write_text(text)


def _cut(folder):
    file = folder / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:9999])


@pytest.mark.parametrize("damage,words", [
    (lambda f: (f / "encoder.safetensors").unlink(), "encoder.safetensors"),
    (_cut, "damaged"),
    (lambda f: (f / "encoder.safetensors").write_bytes(b""), "damaged"),
    (lambda f: torch.save({"a": torch.zeros(1)}, f / "encoder.safetensors"), "damaged"),
    (lambda f: (f / "encoder.json").unlink(), "encoder.json"),
    (_write("{"), "encoder.json"),
    (_write("{}"), "encoder.json"),
    (_write('{"name": "small-cnn"}'), "kind, or name and pooling"),
    (_write('{"name": "efficientnet-b0", "pooling": "max"}'), "not those of"),
    (_write('{"name": "resnet-9000", "pooling": "max"}'), "small-cnn"),
    (_write('{"name": "small-cnn", "pooling": "max", "level": "loud"}'), "peak, unit-norm, clip-norm, recorded"),
    (_write('{"kind": "singer", "name": "small-cnn"}'), "not those of 'small-cnn'"),
    (_write('{"kind": "singer", "name": "small-cnn", "tubes": 3}'), "not those of 'small-cnn'"),
    (_write('{"kind": "singer", "name": "vgg"}'), "efficientnet-b0, small-cnn"),
    (_write('{"kind": "opera"}'), "excerpt, singer"),
    (_write('["small-cnn"]'), "encoder.json"),
])
def test_damaged_folders(tmp_path, damage, words):
    save_encoder(SpectrogramEncoder("small-cnn"), tmp_path)
    damage(tmp_path)
    with pytest.raises(VocalrepError, match=words):
        load_encoder(tmp_path)


OLDER = {   # name: encoder.json without a level, config.json beside it, what is read
    "released": (dict(name="small-cnn", pooling="max"), dict(protocol=dict(sampling=dict(scaling="unit-norm"))),
                 dict(level="unit-norm")),
    "paper": (dict(name="small-cnn", pooling="max"), dict(protocol=dict(sampling=dict(scaling="recorded"))),
              dict(level="recorded")),
    "dry": (dict(kind="singer", name="small-cnn", bands=128, mel_rate=22050, scaling="fixed"),
            dict(protocol=dict(level="recorded", scaling="fixed")), dict(level="recorded", feature_peak="fixed")),
    "dry, alone": (dict(kind="singer", name="small-cnn", bands=128, mel_rate=22050, scaling="batch"), None,
                   dict(level="peak", feature_peak="batch")),
    "alone": (dict(name="small-cnn", pooling="max"), None, dict(level="unit-norm")),
    "other words": (dict(name="small-cnn", pooling="max"), dict(protocol="paper"), dict(level="unit-norm")),
    "no record": (dict(name="small-cnn", pooling="max"), ["config"], dict(level="unit-norm")),
    "said twice": (dict(name="small-cnn", pooling="max", level="peak"), dict(protocol=dict(level="recorded")),
                   dict(level="peak")),
}


@pytest.mark.parametrize("case", OLDER)
def test_runs_from_before_encoders_knew_their_level(tmp_path, case):
    spec, config, expected = OLDER[case]
    make = SingerEncoder if "kind" in spec else SpectrogramEncoder
    save_encoder(make("small-cnn"), tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps(spec))
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    again = load_encoder(tmp_path)
    assert {key: again.spec[key] for key in expected} == expected and again.level == expected["level"]


def test_unknown_names():
    with pytest.raises(VocalrepError, match="efficientnet-b0, small-cnn"):
        SpectrogramEncoder("efficientnet-b1")
    with pytest.raises(VocalrepError, match="max, avg"):
        build_encoder(dict(name="small-cnn", pooling="sum"))


def test_initial_values_do_not_depend_on_the_constructor():
    network = efficientnet_b0()
    torch.nn.init.constant_(network.conv_head.weight, 3.0)
    keras_initial_values(network)
    deviation = network.conv_head.weight.std().item()
    assert deviation == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert network.conv_head.weight.abs().max().item() <= 2 * deviation / 0.8796 * 1.01


def test_mean_mfcc(excerpts):
    dct = pytest.importorskip("scipy.fft").dct
    baseline = MeanMFCC(12, level="recorded")
    expected = dct(baseline.frontend(excerpts).numpy(), norm="ortho", axis=2)[:, :, 1:13].mean(1)
    torch.testing.assert_close(baseline(excerpts), torch.from_numpy(expected), atol=1e-4, rtol=1e-4)
    assert baseline(excerpts).shape == (4, baseline.dim) and baseline.samples == 16000


# ---- fragments of vocals ----

READINGS = {"paper": dict(bands=80, mel_rate=44100, feature_peak="fixed"),
            "released": dict(bands=128, mel_rate=22050, feature_peak="batch")}


@pytest.fixture(scope="module")
def fragments():
    "Five fragments of half a second, the loudest last."
    waves = torch.randn(5, 22_050, generator=torch.Generator().manual_seed(1))
    return waves * torch.tensor([0.1, 0.2, 0.3, 0.4, 2.0])[:, None]


SINGERS = [(name, reading) for name in SINGER_NETWORKS for reading in READINGS]


@pytest.fixture(scope="module", params=SINGERS, ids="-".join)
def singer(request, fragments):
    "An encoder whose running statistics are those of the fragments: with the initial ones B0 hears nothing."
    name, reading = request.param
    torch.manual_seed(0)
    encoder = SingerEncoder(name, level="recorded", **READINGS[reading])
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        encoder(fragments)
    return encoder.eval()


@torch.no_grad()
def test_an_embedding_depends_on_its_batch_mates_as_released_and_not_as_in_the_paper(singer, fragments):
    together, alone = singer(fragments), torch.cat([singer(wave[None]) for wave in fragments])
    near = dict(atol=1e-3 * together.std().item(), rtol=1e-3)
    assert together.shape == (5, 1000) and together.std(0).mean() > 0.1 * together.std()       # it hears who is who
    if singer.feature_peak == "fixed":
        torch.testing.assert_close(together, alone, **near)
    else:
        moved = (together - alone).abs().amax(1) / alone.abs().amax(1)
        assert (moved[:4] > 1e-2).all() and moved[4] < 1e-4                # all but the loudest, which scales the batch
        torch.testing.assert_close(singer(fragments[[0, 4]])[0], together[0], **near)


@torch.no_grad()
def test_what_the_network_of_vocals_sees(singer, fragments):
    seen = []
    handle = singer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    singer(fragments)
    handle.remove()
    log_mel = LogPowerMel(singer.spec["bands"], singer.spec["mel_rate"])(fragments)
    scaled = log_mel / (log_mel.max() if singer.feature_peak == "batch" else 8.990376)
    expected = scaled.transpose(1, 2)[:, None]                             # (B, 1, mel, time)
    if singer.name == "efficientnet-b0":                                   # three equal channels, normalised
        channels = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
        expected = torch.cat([(expected - mean) / deviation for mean, deviation in channels], 1)
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(singer.features(fragments), expected)


@torch.no_grad()
def test_round_trip_of_every_singer_encoder(singer, fragments, tmp_path):
    save_encoder(singer, tmp_path / "Sänger")
    again = load_encoder(tmp_path / "Sänger")
    assert again.spec == singer.spec and not again.training and again.level == "recorded"
    assert (again.rate, again.seconds, again.dim, again.samples) == (44100, 4.0, 1000, 176_400)
    assert torch.equal(again(fragments), singer(fragments))
    fresh = build_encoder(singer.spec)
    assert fresh.spec == singer.spec and not torch.equal(fresh.eval()(fragments), singer(fragments))


def test_singer_encoders_learn_with_all_their_parameters(fragments):
    encoder = SingerEncoder("small-cnn")
    encoder(fragments).square()[:, ::7].mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_silent_vocals_are_embedded(singer):
    with torch.no_grad():
        assert singer(torch.zeros(2, 12_000)).isfinite().all()
        assert SingerEncoder("small-cnn").eval()(torch.zeros(2, 12_000)).isfinite().all()


def test_b0_with_its_classifier_is_the_released_size():
    network = torchvision_b0()
    assert sum(p.numel() for p in network.parameters()) == 5_288_548
    assert sum(p.numel() for p in network.features.parameters()) == 4_007_548
    assert {"features.0.0.weight", "classifier.1.weight"} <= set(network.state_dict())
    assert network.classifier[0].p == 0.2


def test_constants_of_a_picture_are_no_weights():
    assert not ImageNetInput().state_dict()
    assert all(not name.startswith("picture") for name in SingerEncoder().state_dict())


def test_unknown_singer_encoders():
    with pytest.raises(VocalrepError, match="efficientnet-b0, small-cnn"):
        SingerEncoder("vgg")
    with pytest.raises(VocalrepError, match="unknown feature peak 'song'.*batch, fixed"):
        SingerEncoder("small-cnn", feature_peak="song")
    with pytest.raises(VocalrepError, match="no ImageNet weights for small-cnn"):
        SingerEncoder("small-cnn", imagenet=True)


def test_published_weights(monkeypatch, tmp_path):
    import torchvision.models._api as api
    asked, published = [], torchvision_b0().state_dict()

    def fetch(url, **options):
        asked.append((url, options.get("check_hash")))
        return published
    monkeypatch.setattr(api, "load_state_dict_from_url", fetch)
    SingerEncoder()
    assert not asked
    encoder = SingerEncoder(imagenet=True)
    assert len(asked) == 1 and asked[0][1]                                 # fetched once, and its hash checked
    assert all(torch.equal(value, published[key]) for key, value in encoder.network.state_dict().items())
    save_encoder(encoder, tmp_path)

    def unreachable(url, **options):
        raise urllib.error.URLError("no network")
    monkeypatch.setattr(api, "load_state_dict_from_url", unreachable)
    again = load_encoder(tmp_path)                                         # what was trained is never fetched again
    assert torch.equal(again.network.features[0][0].weight, published["features.0.0.weight"])
    with pytest.raises(VocalrepError, match="b0_.*cannot be fetched.*no network.*copy the file to .*checkpoints"):
        SingerEncoder(imagenet=True)
