"""Encoders: size, independence of the batch, what survives a trip to disk and what is refused."""
import urllib.error

import pytest
import torch

from vocalrep.models.encoders import (ENCODERS, SINGER_NETWORKS, MeanMFCC, SingerEncoder, build_encoder, efficientnet_b0, keras_initial_values, load_encoder, make_encoder, save_encoder,
                               torchvision_b0)
from vocalrep.models.frontends import LogPowerMel
from vocalrep.project import VocalrepError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def excerpts():
    return 0.0035 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))


def test_b0_is_the_released_size():
    network = efficientnet_b0()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 4_006_972
    assert all((m.eps, m.momentum) == (1e-3, 0.01) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("height,width", [(98, 64), (49, 32), (25, 16), (13, 8), (7, 4)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_is_keras(height, width, kernel):
    from timm.layers import create_conv2d
    convolution = create_conv2d(3, 5, kernel, stride=2, padding="same")
    correct = kernel // 2                                                  # Keras' correct_pad: one zero less before an even size
    before = [correct - (1 - size % 2) for size in (height, width)]
    x = torch.randn(1, 3, height, width)
    padded = torch.nn.functional.pad(x, (before[1], correct, before[0], correct))
    torch.testing.assert_close(convolution(x), torch.nn.functional.conv2d(padded, convolution.weight, convolution.bias, stride=2))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_round_trip(tmp_path, excerpts, name, pooling):
    encoder = make_encoder(name, pooling)
    with torch.no_grad():
        encoder(excerpts)                                                  # running statistics move, and must be kept
        encoder.eval()
        save_encoder(encoder, tmp_path / "ein Ordner, ü")
        again = load_encoder(tmp_path / "ein Ordner, ü")
        assert not again.training and (again.name, again.pooling, again.dim) == (name, pooling, 1280)
        assert torch.equal(again(excerpts), encoder(excerpts))
        torch.testing.assert_close(encoder(excerpts[2:3]), encoder(excerpts)[2:3], atol=1e-4, rtol=1e-4)


def test_all_parameters_learn(excerpts):
    for name in ENCODERS:
        encoder = make_encoder(name)
        encoder(excerpts).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_same_seed_same_encoder():
    first, second = [torch.manual_seed(5) and make_encoder("small-cnn").state_dict() for _ in range(2)]
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("damage,words", [
    (lambda f: (f / "encoder.safetensors").unlink(), "encoder.safetensors"),
    (lambda f: (f / "encoder.safetensors").write_bytes((f / "encoder.safetensors").read_bytes()[:9999]), "damaged"),
    (lambda f: (f / "encoder.safetensors").write_bytes(b""), "damaged"),
    (lambda f: torch.save({"a": torch.zeros(1)}, f / "encoder.safetensors"), "damaged"),
    (lambda f: (f / "encoder.json").unlink(), "encoder.json"),
    (lambda f: (f / "encoder.json").write_text("{"), "encoder.json"),
    (lambda f: (f / "encoder.json").write_text("{}"), "encoder.json"),
    (lambda f: (f / "encoder.json").write_text('{"name": "efficientnet-b0", "pooling": "max"}'), "not those of"),
    (lambda f: (f / "encoder.json").write_text('{"name": "resnet-9000", "pooling": "max"}'), "small-cnn"),
    (lambda f: (f / "encoder.json").write_text('{"kind": "singer", "name": "small-cnn"}'), "not those of 'small-cnn'"),
    (lambda f: (f / "encoder.json").write_text('{"kind": "singer", "name": "small-cnn", "tubes": 3}'), "not those of 'small-cnn'"),
    (lambda f: (f / "encoder.json").write_text('{"kind": "singer", "name": "vgg"}'), "efficientnet-b0, small-cnn"),
    (lambda f: (f / "encoder.json").write_text('{"kind": "opera"}'), "excerpt, singer"),
    (lambda f: (f / "encoder.json").write_text('["small-cnn"]'), "encoder.json"),
])
def test_damaged_folders(tmp_path, damage, words):
    save_encoder(make_encoder("small-cnn"), tmp_path)
    damage(tmp_path)
    with pytest.raises(VocalrepError, match=words):
        load_encoder(tmp_path)


def test_unknown_names():
    with pytest.raises(VocalrepError, match="efficientnet-b0, small-cnn"):
        make_encoder("efficientnet-b1")
    with pytest.raises(VocalrepError, match="max, avg"):
        make_encoder("small-cnn", "sum")


def test_initial_values_do_not_depend_on_the_constructor():
    network = efficientnet_b0()
    torch.nn.init.constant_(network.conv_head.weight, 3.0)
    keras_initial_values(network)
    deviation = network.conv_head.weight.std().item()
    assert deviation == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert network.conv_head.weight.abs().max().item() <= 2 * deviation / 0.8796 * 1.01


def test_mean_mfcc(excerpts):
    dct = pytest.importorskip("scipy.fft").dct
    baseline = MeanMFCC(12)
    expected = dct(baseline.frontend(excerpts).numpy(), norm="ortho", axis=2)[:, :, 1:13].mean(1)
    torch.testing.assert_close(baseline(excerpts), torch.from_numpy(expected), atol=1e-4, rtol=1e-4)
    assert baseline(excerpts).shape == (4, baseline.dim) and baseline.samples == 16000


# ---- encoders of fragments of vocals ----

READINGS = {"paper": dict(bands=80, mel_rate=44100, scaling="fixed"), "released": dict(bands=128, mel_rate=22050, scaling="batch")}


@pytest.fixture(scope="module")
def fragments():
    "Five fragments of half a second, the loudest last."
    waves = torch.randn(5, 22_050, generator=torch.Generator().manual_seed(1))
    return waves * torch.tensor([0.1, 0.2, 0.3, 0.4, 2.0])[:, None]


@pytest.fixture(scope="module", params=[(name, reading) for name in SINGER_NETWORKS for reading in READINGS], ids="-".join)
def singer(request, fragments):
    "An encoder whose running statistics are those of the fragments: with the initial ones B0 hears nothing."
    name, reading = request.param
    torch.manual_seed(0)
    encoder = SingerEncoder(name, **READINGS[reading])
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        encoder(fragments)
    return encoder.eval()


@torch.no_grad()
def test_an_embedding_depends_on_its_batch_mates_as_released_and_not_as_in_the_paper(singer, fragments):
    together, alone = singer(fragments), torch.cat([singer(wave[None]) for wave in fragments])
    assert together.shape == (5, 1000) and together.std(0).mean() > 0.1 * together.std()       # it hears who is who
    if singer.spec["scaling"] == "fixed":
        torch.testing.assert_close(together, alone, atol=1e-3 * together.std().item(), rtol=1e-3)
    else:
        moved = (together - alone).abs().amax(1) / alone.abs().amax(1)
        assert (moved[:4] > 1e-2).all() and moved[4] < 1e-4                       # all but the loudest, which scales the batch
        torch.testing.assert_close(singer(fragments[[0, 4]])[0], together[0], atol=1e-3 * together.std().item(), rtol=1e-3)


@torch.no_grad()
def test_what_the_network_of_vocals_sees(singer, fragments):
    seen = []
    handle = singer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    singer(fragments)
    handle.remove()
    log_mel = LogPowerMel(singer.spec["bands"], singer.spec["mel_rate"])(fragments)
    scaled = log_mel / (log_mel.max() if singer.spec["scaling"] == "batch" else 8.990376)
    expected = scaled.transpose(1, 2)[:, None]                                    # (B, 1, mel, time)
    if singer.name == "efficientnet-b0":                                          # three identical channels, ImageNet's normalisation (released code)
        expected = torch.cat([(expected - mean) / deviation for mean, deviation in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))], 1)
    torch.testing.assert_close(seen[0], expected)


@torch.no_grad()
def test_round_trip_of_every_singer_encoder(singer, fragments, tmp_path):
    save_encoder(singer, tmp_path / "Sänger")
    again = load_encoder(tmp_path / "Sänger")
    assert again.spec == singer.spec and not again.training and (again.rate, again.seconds, again.dim, again.samples) == (44100, 4.0, 1000, 176_400)
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


def test_b0_with_its_classifier_is_the_released_size():
    network = torchvision_b0()
    assert sum(p.numel() for p in network.parameters()) == 5_288_548
    assert sum(p.numel() for p in network.features.parameters()) == 4_007_548
    assert {"features.0.0.weight", "classifier.1.weight"} <= set(network.state_dict()) and network.classifier[0].p == 0.2


def test_unknown_singer_encoders():
    with pytest.raises(VocalrepError, match="efficientnet-b0, small-cnn"):
        SingerEncoder("vgg")
    with pytest.raises(VocalrepError, match="unknown feature scaling 'song'.*batch, fixed"):
        SingerEncoder("small-cnn", scaling="song")
    with pytest.raises(VocalrepError, match="no ImageNet weights for small-cnn"):
        SingerEncoder("small-cnn", imagenet=True)


def test_published_weights(monkeypatch, tmp_path, fragments):
    import torchvision.models._api as api
    asked, published = [], torchvision_b0().state_dict()

    def fetch(url, **options):
        asked.append((url, options.get("check_hash")))
        return published
    monkeypatch.setattr(api, "load_state_dict_from_url", fetch)
    SingerEncoder()
    assert not asked
    encoder = SingerEncoder(imagenet=True)
    assert len(asked) == 1 and asked[0][1]                                        # fetched once, and its hash checked
    assert all(torch.equal(value, published[key]) for key, value in encoder.network.state_dict().items())
    save_encoder(encoder, tmp_path)

    def unreachable(url, **options):
        raise urllib.error.URLError("no network")
    monkeypatch.setattr(api, "load_state_dict_from_url", unreachable)
    assert torch.equal(load_encoder(tmp_path).network.features[0][0].weight, published["features.0.0.weight"])      # what was trained is never fetched again
    with pytest.raises(VocalrepError, match="efficientnet_b0_.*cannot be fetched.*no network.*copy the file to .*checkpoints"):
        SingerEncoder(imagenet=True)
