"Foreign encoders: parity with the packages they come from, and what is said where those or their weights are missing."
import json
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from vocalrep.data.levels import LEVELS
from vocalrep.models.pretrained import GE2E, MERT, PRETRAINED, load_pretrained
from vocalrep.project import VocalrepError


def hubert(layers=3, **options):
    "A tiny HuBERT with random weights."
    from transformers import HubertConfig, HubertModel
    torch.manual_seed(0)
    config = HubertConfig(hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
                          conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, **options)
    return HubertModel(config).eval()


@pytest.fixture
def folder(tmp_path):
    "A checkpoint in transformers' layout, under a path with a space and letters beyond ASCII."
    path = tmp_path / "mes modèles" / "MERT v0"
    hubert().save_pretrained(path)
    return path


@pytest.fixture
def noise():
    return 0.1 * torch.randn(5, 16000, generator=torch.Generator().manual_seed(1)) + 0.03


def states_of(network, waveforms):
    "Hidden states (layers + 1, B, frames, dim) of what the feature extractor makes of waveforms."
    from transformers import Wav2Vec2FeatureExtractor
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    values = extractor(list(waveforms.numpy()), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        return torch.stack(network(values, output_hidden_states=True).hidden_states)


# ---- MERT ----

@pytest.mark.parametrize("layer", [0, 2, 3, "mean"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_mert_is_the_pooled_hidden_state(folder, noise, layer, pooling):
    states = states_of(hubert(), noise)
    chosen = states.mean(0) if layer == "mean" else states[layer]
    expected = chosen.mean(1) if pooling == "mean" else chosen.amax(1)
    encoder = MERT(folder, layer, pooling)
    assert (encoder.name, encoder.rate, encoder.samples, encoder.dim) == ("mert", 16000, 16000, 16)
    torch.testing.assert_close(encoder(noise), expected, atol=1e-5, rtol=1e-4)


def test_mert_does_not_depend_on_the_batch_nor_on_the_level(folder, noise):
    encoder = MERT(folder)
    many = encoder(noise.repeat(5, 1))
    torch.testing.assert_close(many[:5], many[20:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder(noise[:1]), many[:1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder(noise * 0.01), many[:5], atol=1e-3, rtol=1e-2)
    assert not encoder.training and not many.requires_grad and torch.isfinite(encoder(torch.zeros(2, 16000))).all()


def test_mert_reads_a_checkpoint_as_it_was_released_without_its_code(folder, noise):
    "Weights in a pickle with older names, a foreign model type, a class that lives on the hub: none is executed."
    expected = MERT(folder)(noise)
    older = {"original0": "weight_g", "original1": "weight_v"}
    renamed = {}
    for name, tensor in hubert().state_dict().items():
        stem, _, number = name.rpartition(".parametrizations.weight.")
        renamed[f"{stem}.{older[number]}" if number in older else name] = tensor
    assert len({name for name in renamed if name.endswith(("weight_g", "weight_v"))}) == 2
    torch.save(renamed | {"final_proj.weight": torch.zeros(3, 16)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= dict(model_type="mert_model", architectures=["MERTModel"])
    config["auto_map"] = {"AutoModel": "modeling_MERT.MERTModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_MERT.py").write_text("raise SystemExit('executed')")
    torch.testing.assert_close(MERT(folder)(noise), expected)


def test_mert_obeys_its_feature_extractor(folder, noise):
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(sampling_rate=24000, do_normalize=False)))
    encoder = MERT(folder, 3)
    assert (encoder.rate, encoder.samples) == (24000, 24000)
    with torch.no_grad():
        expected = hubert()(noise).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder(noise), expected, atol=1e-5, rtol=1e-4)


def test_mert_says_what_is_wrong_with_a_folder(folder, tmp_path):
    with pytest.raises(VocalrepError, match="unknown layer 4.*0, 1, 2, 3, mean"):
        MERT(folder, layer=4)
    with pytest.raises(VocalrepError, match="pooling"):
        MERT(folder, pooling="cls")
    with pytest.raises(VocalrepError, match="config.json"):
        MERT(tmp_path / "absent")
    whole = (folder / "model.safetensors").read_bytes()
    for content in (b"", b"garbage", whole[:len(whole) // 2]):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(VocalrepError, match="MERT v0"):
            MERT(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(VocalrepError, match="model.safetensors"):
        MERT(folder)
    for content in (b"", b"not a pickle"):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(VocalrepError, match="MERT v0"):
            MERT(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(VocalrepError, match="MERT v0"):
        MERT(folder)


@pytest.mark.parametrize("foreign", [dict(model_type="wav2vec2"), dict(model_type=None), []])
def test_mert_refuses_another_kind_of_network(folder, foreign):
    "Wav2Vec 2.0's tensors have the same names, so only config.json tells."
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | foreign if foreign else foreign))
    with pytest.raises(VocalrepError, match="another kind of network.*HubertModel"):
        MERT(folder)


def test_mert_refuses_weights_with_holes(folder):
    from safetensors.torch import load_file, save_file
    state = load_file(folder / "model.safetensors")
    del state["encoder.layers.0.attention.k_proj.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(VocalrepError, match="k_proj"):
        MERT(folder)


def test_mert_refuses_a_pickle_that_executes(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))
    (folder / "model.safetensors").unlink()
    torch.save({"masked_spec_embed": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(VocalrepError):
        MERT(folder)
    assert not (tmp_path / "executed").exists()


def test_loading_leaves_the_settings_of_transformers_alone(folder):
    from transformers.utils import logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    MERT(folder)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_unreachable_weights_are_said_within_seconds(monkeypatch, tmp_path):
    "The hub's address leads nowhere, as on a machine without a network."
    import huggingface_hub
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    nobody = huggingface_hub.HfApi(endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "model_info", nobody.model_info)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: None)
    load_pretrained("ge2e")                                     # imports are not what is timed
    begun = time.perf_counter()
    with pytest.raises(VocalrepError) as found:
        load_pretrained("mert")
    assert time.perf_counter() - begun < 10
    assert all(word in str(found.value) for word in ("m-a-p/MERT-v0-public ", "folder=", "refused"))


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    import huggingface_hub
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        api = huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("vocalrep.models.pretrained.HUB_TIMEOUT", 0.3)
        monkeypatch.setattr(huggingface_hub, "model_info", api.model_info)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: None)
        begun = time.perf_counter()
        with pytest.raises(VocalrepError, match="timed out"):
            MERT()
        assert time.perf_counter() - begun < 10


def test_weights_are_found_at_home_and_in_the_cache(folder, noise, monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise AssertionError("the hub was asked")

    def cached(checkpoint, name):
        return str(folder / name) if (folder / name).exists() else None
    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    expected = MERT(folder)(noise)
    torch.testing.assert_close(load_pretrained("mert")(noise), expected)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", unreachable)
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    folder.rename(tmp_path / "home" / "models" / "MERT-v0-public")
    torch.testing.assert_close(load_pretrained("mert")(noise), expected)


# ---- GE2E ----

@pytest.fixture(scope="module")
def ge2e():
    return GE2E()


def test_ge2e_equals_the_package(ge2e):
    from resemblyzer import VoiceEncoder, normalize_volume, wav_to_mel_spectrogram
    theirs = VoiceEncoder("cpu", verbose=False)
    levels = torch.tensor([[0.3], [0.05], [0.01], [1e-4]])
    waves = levels * torch.randn(4, ge2e.samples, generator=torch.Generator().manual_seed(2))
    mels = np.stack([wav_to_mel_spectrogram(w.numpy()) for w in waves])
    np.testing.assert_allclose(ge2e.mel(waves).transpose(1, 2).numpy(), mels, atol=1e-5)
    expected = np.stack([theirs.embed_utterance(normalize_volume(w.numpy(), -30, increase_only=True)) for w in waves])
    np.testing.assert_allclose(ge2e(waves).numpy(), expected, atol=1e-5)


def test_ge2e_vectors_have_length_one_even_of_silence(ge2e):
    levels = torch.tensor([[0.0], [1e-12], [0.1], [0.1]])
    vectors = ge2e(levels * torch.randn(4, ge2e.samples))
    assert (vectors >= 0).all() and torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5)
    assert (ge2e.name, ge2e.samples, ge2e.dim, ge2e.training) == ("ge2e", 25600, 256, False)


def test_ge2e_is_indifferent_to_level_below_its_own_only(ge2e):
    wave = torch.randn(1, ge2e.samples, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ge2e(wave * 1e-2), ge2e(wave * 1e-3), atol=1e-5, rtol=1e-3)
    assert (ge2e(wave * 0.5) - ge2e(wave * 0.05)).abs().max() > 1e-3    # louder ones are left alone, as by the package


# ---- levels ----

@pytest.mark.parametrize("level", LEVELS)
def test_levels(ge2e, folder, noise, level):
    waves, norms = torch.cat([3 * noise, noise], 1), torch.full((5,), 2.0)
    heard = LEVELS[level](waves, 16000, norms)
    assert torch.equal(GE2E(level)(waves, norms), ge2e(heard)) and ge2e.level == "recorded"
    assert torch.equal(MERT(folder, level=level)(waves, norms), MERT(folder)(heard))


def test_features_are_what_the_network_reads(ge2e, folder, noise):
    mert = MERT(folder)
    assert torch.equal(mert.embed(mert.features(noise)), mert(noise))
    features = ge2e.features(noise)
    assert features.shape == (5, 100, 40) and torch.equal(ge2e.embed(features), ge2e(noise))
    with pytest.raises(VocalrepError, match="unknown level"):
        GE2E("loud")


# ---- by name ----

@pytest.mark.parametrize("name, package", [("ge2e", "resemblyzer"), ("mert", "transformers")])
def test_a_missing_package_names_the_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(VocalrepError, match=r"vocalrep\[pretrained\]"):
        load_pretrained(name)


def test_names():
    assert set(PRETRAINED) == {"mert", "ge2e"}
    with pytest.raises(VocalrepError, match="mert, ge2e"):
        load_pretrained("MERT")


def test_importing_the_room_imports_neither_package():
    code = """
import sys, vocalrep.models.pretrained
sys.exit(bool({"transformers", "resemblyzer", "huggingface_hub.hf_api"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
