"""Encoders: size, independence of the batch, what survives a trip to disk and what is refused."""
import pytest
import torch

from vocalrep.encoders import ENCODERS, MeanMFCC, efficientnet_b0, keras_initial_values, load_encoder, make_encoder, save_encoder
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
