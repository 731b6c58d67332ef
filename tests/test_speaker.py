"""Speech encoders: parity with their definitions, checkpoints in the published layouts, and what is said where those
are missing, damaged or somebody else's."""
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vocalrep.data.levels import LEVELS, peak_normalize
from vocalrep.models.adapters import LayersEncoder
from vocalrep.models.speaker import (RELEASED, SPEECH, XLSR53, FastResNet34, ResNet34ASP, Wav2Vec2, load_released,
                                     load_speech)
from vocalrep.project import VocalrepError

SPEAKERS = {"f-resnet": FastResNet34, "h-asp": ResNet34ASP}


class Evil:
    "A pickle that would create a file."
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def noise():
    return 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(1)) + 0.03


# ---- the speaker networks, written out from their publications ----

def norm_shapes(name, channels):
    "The tensors of a batch normalisation, by name."
    each = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return each | {f"{name}.num_batches_tracked": ()}


def block_shapes(at, inputs, width):
    "The tensors of a residual block, by name."
    shapes = {f"{at}.conv1.weight": (width, inputs, 3, 3), f"{at}.conv2.weight": (width, width, 3, 3)}
    shapes |= {f"{at}.se.fc.0.weight": (width // 8, width), f"{at}.se.fc.0.bias": (width // 8,)}
    shapes |= {f"{at}.se.fc.2.weight": (width, width // 8), f"{at}.se.fc.2.bias": (width,)}
    shapes |= norm_shapes(f"{at}.bn1", width) | norm_shapes(f"{at}.bn2", width)
    if inputs != width:
        shapes |= {f"{at}.downsample.0.weight": (width, inputs, 1, 1)} | norm_shapes(f"{at}.downsample.1", width)
    return shapes


ENDS = {   # what is before and after the blocks, and the front end
    "f-resnet": {"conv1.weight": (16, 1, 7, 7), "sap_linear.weight": (128, 128), "sap_linear.bias": (128,),
                 "attention": (128, 1), "fc.weight": (512, 128), "fc.bias": (512,),
                 "torchfb.spectrogram.window": (400,), "torchfb.mel_scale.fb": (257, 40)} | norm_shapes("bn1", 16),
    "h-asp": {"conv1.weight": (32, 1, 3, 3), "conv1.bias": (32,), "attention.0.weight": (128, 2048, 1),
              "attention.0.bias": (128,), "attention.3.weight": (2048, 128, 1), "attention.3.bias": (2048,),
              "fc.weight": (512, 4096), "fc.bias": (512,), "torchfb.0.flipped_filter": (1, 1, 2),
              "torchfb.1.spectrogram.window": (400,), "torchfb.1.mel_scale.fb": (257, 64)}
             | norm_shapes("bn1", 32) | norm_shapes("attention.2", 128),
}


def speaker_shapes(name):
    "Every tensor of a public checkpoint's speaker network, by name."
    widths = {"f-resnet": (16, 32, 64, 128), "h-asp": (32, 64, 128, 256)}[name]
    shapes, inputs = dict(ENDS[name]), widths[0]
    for stage, (width, blocks) in enumerate(zip(widths, (3, 4, 6, 3)), 1):
        for block in range(blocks):
            shapes |= block_shapes(f"layer{stage}.{block}", inputs, width)
            inputs = width
    return shapes


def mel_bands(bands):
    "HTK's mel triangles from 0 to 8 kHz with slopes straight in hertz (257, bands), one weight after the other."
    edges = [700 * (10 ** (k * math.log10(1 + 8000 / 700) / (bands + 1)) - 1) for k in range(bands + 2)]
    weights = np.zeros((257, bands))
    for k in range(257):
        for b in range(bands):
            hertz = k * 8000 / 256
            rising = (hertz - edges[b]) / (edges[b + 1] - edges[b])
            falling = (edges[b + 2] - hertz) / (edges[b + 2] - edges[b + 1])
            weights[k, b] = max(0.0, min(rising, falling))
    return torch.tensor(weights, dtype=torch.float32)


def hamming():
    return torch.tensor([0.54 - 0.46 * math.cos(2 * math.pi * n / 400) for n in range(400)])


def random_state(name, seed=0):
    "A checkpoint's tensors with random values of a sensible size; the front end's constants by definition."
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in speaker_shapes(name).items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith(("running_var", "bn1.weight", "bn2.weight")):
            state[key] = 0.5 + torch.rand(shape, generator=generator)
        elif key.endswith("spectrogram.window"):
            state[key] = hamming()
        elif key.endswith("mel_scale.fb"):
            state[key] = mel_bands(shape[1])
        elif key.endswith("flipped_filter"):
            state[key] = torch.tensor([[[-0.97, 1.0]]])
        else:
            state[key] = torch.randn(shape, generator=generator) / math.sqrt(max(1, np.prod(shape[1:])))
    return state


def public_file(name, path, state=None):
    "A file as voxceleb_trainer writes it: the network under __S__, the loss under __L__."
    path.parent.mkdir(parents=True, exist_ok=True)
    speaker = {f"__S__.{k}": v for k, v in (state or random_state(name)).items()}
    torch.save(speaker | {"__L__.w": torch.tensor(10.0), "__L__.b": torch.tensor(-5.0)}, path)
    return path


def naive_spectrogram(name, wave):
    "What a speaker network sees of one waveform, frame by frame: (1, 1, bands, frames)."
    samples = wave.double()
    if name == "h-asp":
        samples = samples - 0.97 * torch.cat([samples[1:2], samples[:-1]])
    padded = torch.cat([samples[1:257].flip(0), samples, samples[-257:-1].flip(0)])   # centred frames, reflected edges
    window = torch.cat([torch.zeros(56), hamming(), torch.zeros(56)]).double()
    frames = torch.stack([padded[160 * t:160 * t + 512] * window for t in range(1 + len(samples) // 160)])
    power = torch.fft.rfft(frames).abs() ** 2 @ mel_bands({"f-resnet": 40, "h-asp": 64}[name]).double()
    x = (power + 1e-6).log().T                                                               # (bands, frames)
    return ((x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()).float()[None, None]


def naive_norm(x, state, at):
    "Batch normalisation by the statistics of a checkpoint."
    mean, variance, weight, bias = (state[f"{at}.{part}"].view((1, -1) + (1,) * (x.ndim - 2))
                                    for part in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def naive_block(x, state, at, stride):
    "A residual block of a checkpoint."
    y = F.conv2d(x, state[f"{at}.conv1.weight"], stride=stride, padding=1).relu()
    y = F.conv2d(naive_norm(y, state, f"{at}.bn1"), state[f"{at}.conv2.weight"], padding=1)
    y = naive_norm(y, state, f"{at}.bn2")
    votes = (state[f"{at}.se.fc.0.weight"] @ y.mean((2, 3))[0] + state[f"{at}.se.fc.0.bias"]).relu()
    weight = torch.sigmoid(state[f"{at}.se.fc.2.weight"] @ votes + state[f"{at}.se.fc.2.bias"])
    if f"{at}.downsample.0.weight" in state:
        x = naive_norm(F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride), state, f"{at}.downsample.1")
    return (x + y * weight[None, :, None, None]).relu()


def naive_self_attention(x, state):
    "F-ResNet's pooling of (1, 128, mel, time), a frame at a time."
    columns = [x[0, :, :, t].mean(1) for t in range(x.shape[3])]                             # (128,) each
    inside = [torch.tanh(state["sap_linear.weight"] @ c + state["sap_linear.bias"]) for c in columns]
    weights = [math.exp((y @ state["attention"]).item()) for y in inside]
    return sum(weight / sum(weights) * c for weight, c in zip(weights, columns))


def naive_statistics(x, state):
    "H/ASP's pooling of (1, 256, mel, time), a row for every channel and band."
    x = x[0].reshape(2048, -1)
    y = (state["attention.0.weight"][..., 0] @ x + state["attention.0.bias"][:, None]).relu()
    y = naive_norm(y[None], state, "attention.2")[0]
    scores = state["attention.3.weight"][..., 0] @ y + state["attention.3.bias"][:, None]
    weight = scores.exp() / scores.exp().sum(1, keepdim=True)
    mean = (weight * x).sum(1)
    return torch.cat([mean, ((weight * x ** 2).sum(1) - mean ** 2).clamp(min=1e-5).sqrt()])


def naive_embedding(name, state, wave):
    "One waveform through a checkpoint, from the publications, tensor by tensor."
    x = naive_spectrogram(name, wave)
    if name == "f-resnet":
        x = naive_norm(F.conv2d(x, state["conv1.weight"], stride=(2, 1), padding=3), state, "bn1").relu()
        pool, halving = naive_self_attention, (2, 3)
    else:
        x = naive_norm(F.conv2d(x, state["conv1.weight"], state["conv1.bias"], padding=1).relu(), state, "bn1")
        pool, halving = naive_statistics, (2, 3, 4)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            x = naive_block(x, state, f"layer{stage}.{block}", 2 if block == 0 and stage in halving else 1)
    return state["fc.weight"] @ pool(x, state) + state["fc.bias"]


@pytest.mark.parametrize("name", SPEAKERS)
def test_speaker_networks_are_their_definition(name, noise, tmp_path):
    encoder = load_speech(name, weights=public_file(name, tmp_path / "a b" / "modèle.model"))
    expected = torch.stack([naive_embedding(name, random_state(name), wave) for wave in noise])
    found = encoder(noise)
    assert expected.std(0).mean() > 1e-3                                    # the waveforms do not all give the same
    torch.testing.assert_close(found, expected, atol=2e-4 * expected.abs().max().item(), rtol=1e-3)
    assert (encoder.name, encoder.rate, encoder.samples, encoder.dim) == (name, 16000, 64000, 512)
    assert not encoder.training and not found.requires_grad


@pytest.mark.parametrize("name, millions", [("f-resnet", 1.4), ("h-asp", 8.0)])
def test_speaker_networks_have_the_published_number_of_parameters(name, millions, tmp_path):
    fixed = ("torchfb", "running", "tracked")
    learnt = [shape for key, shape in speaker_shapes(name).items() if not any(word in key for word in fixed)]
    size = sum(np.prod(shape, dtype=int) for shape in learnt)
    encoder = SPEAKERS[name](public_file(name, tmp_path / "m"))
    assert sum(p.numel() for p in encoder.parameters()) == size == encoder.size and round(size / 1e6, 1) == millions


def test_the_front_end_of_the_file_is_used_and_may_be_missing(noise, tmp_path):
    state = random_state("f-resnet")
    whole = FastResNet34(public_file("f-resnet", tmp_path / "whole", state))(noise)
    without = {k: v for k, v in state.items() if not k.startswith("torchfb")}
    bare = FastResNet34(public_file("f-resnet", tmp_path / "bare", without))(noise)
    torch.testing.assert_close(bare, whole, atol=1e-4, rtol=1e-3)
    state["torchfb.spectrogram.window"] = torch.ones(400)
    assert (FastResNet34(public_file("f-resnet", tmp_path / "other", state))(noise) - whole).abs().max() > 1e-2


@pytest.mark.parametrize("name", SPEAKERS)
def test_speaker_embeddings_do_not_depend_on_batch_mates(name, noise, tmp_path):
    encoder = SPEAKERS[name](public_file(name, tmp_path / "m"))
    encoder.blocks = {"cpu": 2}
    together, alone = encoder(noise), torch.cat([encoder(wave[None]) for wave in noise])
    torch.testing.assert_close(together[2:], encoder(noise[2:]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, alone, atol=1e-5 * together.abs().max().item(), rtol=1e-4)
    assert torch.isfinite(encoder(torch.zeros(1, 400))).all()               # silence, and the shortest there is
    assert encoder(torch.zeros(1, 30000)).shape == (1, 512)
    for wrong in (torch.zeros(1, 399), torch.zeros(8000), torch.zeros(1, 2, 8000)):
        with pytest.raises(VocalrepError, match=f"{name}.*400 samples"):
            encoder.features(wrong)
        with pytest.raises(VocalrepError, match=f"{name}.* needs waveforms .B, T.*mix channels down"):
            encoder(wrong)


@pytest.mark.parametrize("level", LEVELS)
def test_every_speech_encoder_sets_its_level(level, noise, tmp_path):
    wav2vec(Wav2Vec2).save_pretrained(tmp_path / "wav2vec")
    options = {"f-resnet": dict(weights=public_file("f-resnet", tmp_path / "f")),
               "wav2vec2-base": dict(folder=tmp_path / "wav2vec")}
    heard = LEVELS[level](noise, 16000, torch.full((3,), 5.0))
    for name, given in options.items():
        asked, plain = load_speech(name, level=level, **given), load_speech(name, **given)
        assert (asked.level, plain.level) == (level, "recorded")
        assert torch.equal(asked(noise, torch.full((3,), 5.0)), plain.embed(plain.features(heard)))


def test_weights_are_found_at_home(noise, monkeypatch, tmp_path):
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "chez moi"))
    with pytest.raises(VocalrepError) as found:
        load_speech("f-resnet")
    placed = tmp_path / "chez moi" / "models" / "f-resnet.model"
    assert all(word in str(found.value) for word in (str(placed), "baseline_lite_ap.model", "voxceleb_trainer"))
    public_file("f-resnet", placed)
    torch.testing.assert_close(load_speech("f-resnet")(noise), FastResNet34(placed)(noise))


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("layer3.5.se.fc.2.bias"), "layer3.5.se.fc.2.bias is missing"),
    (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
    (lambda s: s.update({"fc.weight": torch.zeros(256, 128)}), r"fc.weight has shape .256, 128. instead of .512, 128."),
    (lambda s: s.update({"fc.bias": torch.full((512,), math.nan)}), "fc.bias is not finite"),
])
def test_a_checkpoint_fits_or_is_refused(change, message, tmp_path):
    state = random_state("f-resnet")
    change(state)
    with pytest.raises(VocalrepError, match=message):
        FastResNet34(public_file("f-resnet", tmp_path / "m", state))


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    file = public_file("f-resnet", tmp_path / "m")
    with pytest.raises(VocalrepError, match="h-asp.model"):
        ResNet34ASP(file)                                                   # somebody else's
    whole = file.read_bytes()
    for content in (b"", b"garbage", whole[:1000], whole[:len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(VocalrepError, match="cannot read the weights"):
            FastResNet34(file)
    for thing in ([torch.zeros(1)], {}, {"__S__.fc.bias": "text"}):
        torch.save(thing, file)
        with pytest.raises(VocalrepError, match="no table of tensors"):
            FastResNet34(file)
    torch.save({"__S__.fc.bias": Evil(tmp_path / "executed")}, file)
    with pytest.raises(VocalrepError, match="cannot read"):
        FastResNet34(file)
    assert not (tmp_path / "executed").exists()


# ---- Wav2Vec 2.0 ----

STYLES = {Wav2Vec2: {}, XLSR53: dict(do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)}


SMALL = dict(hidden_size=16, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7, num_conv_pos_embeddings=16,
             num_conv_pos_embedding_groups=4)


def wav2vec(encoder_class, layers=5, kind="ForPreTraining"):
    "A tiny Wav2Vec 2.0 with random weights, as published (`ForPreTraining`) or bare (`Model`)."
    import transformers
    torch.manual_seed(0)
    codes = dict(codevector_dim=16, proj_codevector_dim=16, num_codevectors_per_group=8)
    config = transformers.Wav2Vec2Config(num_hidden_layers=layers, **SMALL, **codes, **STYLES[encoder_class])
    return getattr(transformers, f"Wav2Vec2{kind}")(config).eval()


def whole_layers(encoder_class, values):
    "The first three layers (B, 3, 16) of the whole network, caught where they leave it."
    network, caught = wav2vec(encoder_class).wav2vec2, []

    def catch(module, args, output):
        caught.append(output[0] if isinstance(output, tuple) else output)
    for layer in network.encoder.layers:
        layer.register_forward_hook(catch)
    with torch.no_grad():
        network(values)
    return torch.stack([state.mean(1) for state in caught[:3]], 1)


def standardised(waves):
    from transformers import Wav2Vec2FeatureExtractor
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    return extractor(list(waves.numpy()), sampling_rate=16000, return_tensors="pt").input_values


@pytest.mark.parametrize("encoder_class", STYLES)
def test_wav2vec_layers_are_those_of_the_whole_network(encoder_class, noise, tmp_path):
    wav2vec(encoder_class).save_pretrained(tmp_path)
    encoder = encoder_class(tmp_path)
    expected = whole_layers(encoder_class, standardised(noise))
    assert (expected[:, 1:] - expected[:, :-1]).abs().amax((0, 2)).min() > 1e-2          # the three are not alike
    layers = encoder.layers(encoder.features(noise))
    torch.testing.assert_close(layers, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(noise), expected[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layers[2:], encoder.layers(encoder.features(noise[2:])), atol=1e-5, rtol=1e-4)
    assert torch.equal(LayersEncoder(encoder)(noise), layers.flatten(1))
    assert (encoder.rate, encoder.samples, encoder.dim, encoder.training) == (16000, 64000, 16, False)
    assert len(encoder.network.encoder.layers) == 3
    assert not encoder(noise).requires_grad and torch.isfinite(encoder(torch.zeros(1, 8000))).all()


def test_wav2vec_obeys_its_feature_extractor(noise, tmp_path):
    wav2vec(Wav2Vec2).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(sampling_rate=8000, do_normalize=False)))
    encoder = Wav2Vec2(tmp_path)
    assert (encoder.rate, encoder.samples) == (8000, 32000)
    layers = encoder.layers(encoder.features(noise))
    torch.testing.assert_close(layers, whole_layers(Wav2Vec2, noise), atol=1e-5, rtol=1e-4)


def test_wav2vec_reads_an_older_pickle(noise, tmp_path):
    wav2vec(XLSR53).save_pretrained(tmp_path)
    expected = XLSR53(tmp_path)(noise)
    older, renamed = {"original0": "weight_g", "original1": "weight_v"}, {}
    for name, tensor in wav2vec(XLSR53).state_dict().items():
        stem, _, number = name.rpartition(".parametrizations.weight.")
        renamed[f"{stem}.{older[number]}" if number in older else name] = tensor
    assert len([name for name in renamed if name.endswith(("weight_g", "weight_v"))]) == 2
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    torch.testing.assert_close(load_speech("xlsr-53", folder=tmp_path)(noise), expected)


def test_wav2vec_says_what_is_wrong_with_a_folder(tmp_path):
    from transformers import HubertConfig, HubertModel
    with pytest.raises(VocalrepError, match="no config.json"):
        Wav2Vec2(tmp_path / "absent")
    HubertModel(HubertConfig(num_hidden_layers=3, **SMALL)).save_pretrained(tmp_path / "hubert")
    with pytest.raises(VocalrepError, match="another kind of network"):
        Wav2Vec2(tmp_path / "hubert")                                        # its tensors have the same names
    wav2vec(Wav2Vec2, layers=2, kind="Model").save_pretrained(tmp_path / "shallow")
    with pytest.raises(VocalrepError, match=r"missing, such as encoder.layers.2"):
        Wav2Vec2(tmp_path / "shallow")
    wav2vec(Wav2Vec2, kind="Model").save_pretrained(tmp_path / "damaged")
    for content in (b"", b"garbage"):
        (tmp_path / "damaged" / "model.safetensors").write_bytes(content)
        with pytest.raises(VocalrepError, match="damaged.*config.json"):
            Wav2Vec2(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(VocalrepError, match="damaged"):
        Wav2Vec2(tmp_path / "damaged")


@pytest.mark.parametrize("name, checkpoint", [
    ("wav2vec2-base", "facebook/wav2vec2-base"), ("xlsr-53", "facebook/wav2vec2-large-xlsr-53"),
])
def test_unreachable_checkpoints_name_their_remedy(name, checkpoint, monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")
    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: None)
    with pytest.raises(VocalrepError, match=f"{checkpoint}.*folder="):
        load_speech(name)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VocalrepError, match=r"vocalrep\[pretrained\]"):
        Wav2Vec2(tmp_path)


# ---- released singer encoders ----

HYPERPARAMETERS = """encoder:
  backbone: efficientnet_b0
  embedding_dim: 1000
  pretrained: true
feature_extractor:
  hop_length: 512
  n_fft: 2048
  spec_layer: melspectogram
"""


def released_state(seed=0, bands=128):
    "A released checkpoint with random weights: nnAudio's constants by definition, torchvision's EfficientNet-B0."
    import librosa
    from torchvision.models import efficientnet_b0
    torch.manual_seed(seed)
    network = efficientnet_b0()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None                               # the statistics of one batch: signals keep their size
    with torch.no_grad():
        network(2 * torch.randn(4, 3, bands, 22))
    phase = 2 * np.pi * np.outer(np.arange(1025), np.arange(2048)) / 2048
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    constants = {"mel_basis": librosa.filters.mel(sr=22050, n_fft=2048, n_mels=bands),
                 "stft.wsin": (np.sin(phase) * window)[:, None], "stft.wcos": (np.cos(phase) * window)[:, None],
                 "stft.window_mask": window[None, :, None]}
    state = {f"encoder.net.2.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, value in constants.items():
        state[f"feature_extractor.spec_layer.{name}"] = torch.tensor(value, dtype=torch.float32)
    return state


@pytest.fixture(scope="module")
def state():
    return released_state()


@pytest.fixture
def released(tmp_path, state):
    folder = tmp_path / "modèles publiés" / "byol"
    folder.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(HYPERPARAMETERS)
    torch.save(state, folder / "model.pt")
    return folder


def released_embedding(state, waves):
    "What the release computes: its own Fourier kernels and mel matrix, the batch's maximum, torchvision's network."
    from torchvision.models import efficientnet_b0
    padded = F.pad(waves[:, None], (1024, 1024), "reflect")
    front = "feature_extractor.spec_layer."
    real, imaginary = (F.conv1d(padded, state[f"{front}stft.{part}"], stride=512) for part in ("wcos", "wsin"))
    features = (state[f"{front}mel_basis"] @ (real ** 2 + imaginary ** 2) + 1e-8).log()      # (B, bands, frames)
    image = (features / features.max())[:, None].expand(-1, 3, -1, -1)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    image = (image - mean) / deviation
    network = efficientnet_b0().eval()
    network.load_state_dict({k.removeprefix("encoder.net.2."): v for k, v in state.items() if k.startswith("encoder")})
    with torch.no_grad():
        return network(image)


def test_a_released_encoder_gives_what_the_release_computes(released, state):
    waves = torch.tensor([[1.0], [0.3]]) * torch.randn(2, 11025, generator=torch.Generator().manual_seed(2))
    encoder = load_released(released, level="recorded")
    expected = released_embedding(state, waves)
    assert (expected[0] - expected[1]).abs().max() > 0.1 * expected.abs().max()          # the two are not alike
    torch.testing.assert_close(encoder(waves), expected, atol=1e-3 * expected.abs().max().item(), rtol=1e-3)
    assert (encoder.rate, encoder.samples, encoder.dim, encoder.training) == (44100, 176_400, 1000, False)
    assert not encoder(waves).requires_grad
    moved = (encoder(waves)[1:] - encoder(waves[1:])).abs().max()
    assert moved > 0.01 * expected.abs().max()                               # batch mates count in the release
    usual = load_released(released)
    assert usual.level == "peak" and torch.equal(usual(waves), usual.embed(usual.features(peak_normalize(waves))))
    alone = load_released(released, feature_peak="fixed", level="recorded")
    torch.testing.assert_close(alone(waves)[1:], alone(waves[1:]), atol=1e-4 * expected.abs().max().item(), rtol=1e-3)


def test_a_released_encoder_says_how_many_bands_it_has(released):
    torch.save(released_state(bands=80), released / "model.pt")
    with pytest.raises(VocalrepError, match="mel_basis differs"):
        load_released(released)
    (released / "hyperparams.yaml").write_text(HYPERPARAMETERS + "  n_mels: 80\n")
    assert load_released(released).frontend.bands == 80


@pytest.mark.parametrize("change, message", [
    ({"feature_extractor.spec_layer.stft.wcos": torch.zeros(1025, 1, 2048)}, "stft.wcos differs"),
    ({"feature_extractor.spec_layer.stft.window_mask": torch.hamming_window(2048)[None, :, None]},
     "stft.window_mask differs"),
    ({"feature_extractor.spec_layer.mel_basis": None}, "constants stft.wcos, stft.window_mask, stft.wsin"),
    ({"feature_extractor.spec_layer.trainable": torch.zeros(1)}, "trainable"),
    ({"encoder.net.2.classifier.1.bias": None}, "classifier.1.bias is missing"),
    ({"projection.net.1.weight": torch.zeros(128, 1000)}, "projection.net.1.weight is unknown"),
])
def test_a_released_checkpoint_fits_or_is_refused(released, state, change, message):
    torch.save({k: v for k, v in (state | change).items() if v is not None}, released / "model.pt")
    with pytest.raises(VocalrepError, match=message):
        load_released(released)


@pytest.mark.parametrize("text, message", [
    ("", "does not describe"),
    ("[]", "does not describe"),
    ("encoder: 3\nfeature_extractor: {}", "does not describe"),
    ("{", "cannot read"),
    ("a: !!python/object/apply:os.getcwd []", "cannot read"),
    (HYPERPARAMETERS.replace("efficientnet_b0", "efficientnet_b4"), "asks for backbone 'efficientnet_b4'"),
    (HYPERPARAMETERS.replace("2048", "1024"), "asks for n_fft 1024"),
    (HYPERPARAMETERS.replace("1000", "512"), "asks for embedding_dim 512"),
])
def test_other_hyperparameters_are_refused(released, text, message):
    (released / "hyperparams.yaml").write_text(text)
    with pytest.raises(VocalrepError, match=message):
        load_released(released)


def test_missing_and_dangerous_released_files(released, tmp_path):
    with pytest.raises(VocalrepError, match="BernardoTorres/singer-identity"):
        load_released(tmp_path / "absent")
    torch.save({"encoder.net.2.classifier.1.bias": Evil(tmp_path / "executed")}, released / "model.pt")
    with pytest.raises(VocalrepError, match="cannot read the weights"):
        load_released(released)
    assert not (tmp_path / "executed").exists()
    (released / "model.pt").unlink()
    with pytest.raises(VocalrepError, match="model.pt.*hyperparams.yaml and model.pt"):
        load_released(released)
    with pytest.raises(VocalrepError, match="feature peak"):
        load_released(released, feature_peak="loud")
    with pytest.raises(VocalrepError, match="level"):
        load_released(released, level="loud")


# ---- by name ----

def test_names():
    assert list(SPEECH) == ["f-resnet", "h-asp", "wav2vec2-base", "xlsr-53"] and "byol" in RELEASED
    with pytest.raises(VocalrepError, match="f-resnet, h-asp, wav2vec2-base, xlsr-53"):
        load_speech("F-ResNet")


def test_sizes_of_the_whole_networks():
    from transformers import Wav2Vec2Config, Wav2Vec2Model
    whole = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    large = Wav2Vec2Config(**whole, **STYLES[XLSR53])
    for encoder_class, config in ((Wav2Vec2, Wav2Vec2Config()), (XLSR53, large)):
        with torch.device("meta"):
            assert sum(p.numel() for p in Wav2Vec2Model(config).parameters()) == encoder_class.size


def test_importing_the_room_imports_no_package_of_one_step():
    code = """
import sys, vocalrep.models.speaker
sys.exit(bool({"transformers", "torchvision", "resemblyzer", "huggingface_hub.hf_api", "yaml"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
