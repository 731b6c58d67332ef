"Runs on disk: whose they are, also where older code made them, and what damaged files say."
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vocalrep.papers.cvsm.variants import PROTOCOLS, variants
from vocalrep.papers.singer_identity import variants as singers
from vocalrep.project import VocalrepError, home, read_json, write_json
from vocalrep.training.runs import Run, claim_run, load_checkpoint, make_config, plain, run_folder, save_checkpoint


def config(tiny, store, name="CVSM-AF", seed=0, protocol="released", **fields):
    preset = dataclasses.replace(tiny, **fields)
    return make_config(variants(PROTOCOLS[protocol], preset)[name], preset, store, seed, protocol)


def test_folders():
    assert run_folder("COLA", "studio", "smoke", 2) == home() / "runs" / "COLA-studio-smoke-s2"
    assert run_folder("COLA", "studio", "smoke", 2, "released") == run_folder("COLA", "studio", "smoke", 2)
    assert run_folder("COLA", "studio", "smoke", 2, "paper").name == "COLA-studio-smoke-paper-s2"


def test_a_configuration_equals_its_json(tiny, tiny_singer, store, tmp_path):
    records = [config(tiny, store, protocol=protocol) for protocol in PROTOCOLS]
    for protocol in singers.PROTOCOLS.values():
        for variant in singers.variants(protocol, tiny_singer).values():
            records.append(make_config(variant, tiny_singer, store, 0, protocol.name))
    for k, record in enumerate(records):
        write_json(tmp_path / f"{k}.json", record)
        assert read_json(tmp_path / f"{k}.json") == record
        claim_run(tmp_path / str(k), record)
        claim_run(tmp_path / str(k), record)


def test_records_say_what_they_are(tiny_singer):
    byol = plain(singers.variants(singers.RELEASED, tiny_singer)["BYOL"])
    assert byol["method"]["record"] == "BYOL" and byol["stages"][0]["sampling"]["record"] == "FragmentSampling"
    chain = [step["record"] for step in byol["stages"][0]["sampling"]["augmentations"]]
    assert chain == ["GaussianNoise", "PitchShift", "Gain", "TimeMask"]


@pytest.mark.parametrize("change, message", [
    (dict(seed=3), "seed: 0 there, 3 now"), (dict(name="COLA"), "variant"), (dict(protocol="paper"), "protocol"),
    (dict(steps=9), "preset.steps: 4 there, 9 now"),
])
def test_another_run_is_refused(change, message, tiny, store, tmp_path):
    claim_run(tmp_path, config(tiny, store))
    with pytest.raises(VocalrepError, match=f"holds another run.*{message}"):
        claim_run(tmp_path, config(tiny, store, **change))


@pytest.mark.parametrize("change", [{}, dict(seed=3), dict(name="COLA"), dict(protocol="paper")])
def test_an_older_run_is_recognised_by_names(change, tiny, store, tmp_path):
    older = dict(variant=dict(name="CVSM-AF", paper="somebody's", positive="vocals", level="segment", stages=[]),
                 protocol=dict(name="released", sampling=dict(scaling="unit-norm")), seed=0,
                 preset=dict(name=tiny.name, artists=40, learning_rate=2e-3), corpus=store.identity)
    write_json(tmp_path / "config.json", {**older, "provenance": dict(revision="older")})
    now = config(tiny, store, **change)
    if not change:
        claim_run(tmp_path, now)
        assert Run(tmp_path).config["provenance"] == dict(revision="older")             # nothing is written
        return
    with pytest.raises(VocalrepError, match="holds another run"):
        claim_run(tmp_path, now)


def test_an_unfinished_run_has_no_encoder(tmp_path):
    with pytest.raises(VocalrepError, match="no finished run"):
        Run(tmp_path).encoder()


class State:
    "The least that can be saved."

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return dict(value=self.value)

    def load_state_dict(self, state):
        self.value = state["value"]


def sealed(file, content):
    "A file that only claims to be a checkpoint: with the digest of its bytes."
    torch.save(content, file)
    file.write_bytes(file.read_bytes() + hashlib.sha256(file.read_bytes()).digest())


ANOTHER = dict(variant=dict(name="COLA"), preset=dict(name="smoke"), seed=0)


def test_a_checkpoint_of_another_run_is_refused(tiny, store, tmp_path):
    file, own = tmp_path / "checkpoint.pt", config(tiny, store)
    save_checkpoint(file, State(torch.ones(3)), own)
    load_checkpoint(file, other := State(None), own)
    assert torch.equal(other.value, torch.ones(3))
    for change in (dict(name="COLA"), dict(seed=3), dict(protocol="paper"), dict(steps=9)):
        with pytest.raises(VocalrepError, match="it belongs to another run .variant CVSM-AF, preset smoke, seed 0"):
            load_checkpoint(file, other, config(tiny, store, **change))


def test_damaged_and_foreign_files_are_one_error(tmp_path):
    file, state = tmp_path / "checkpoint.pt", State(torch.ones(3))
    save_checkpoint(file, state, ANOTHER)
    whole = file.read_bytes()
    for content in (b"", b"not a checkpoint", whole[:200], whole[:-1]):
        file.write_bytes(content)
        with pytest.raises(VocalrepError, match="checkpoint.pt cannot be resumed from: its bytes are not those"):
            load_checkpoint(file, state, ANOTHER)
    for foreign in (dict(model=torch.zeros(3)), torch.zeros(3), dict(run="COLA", state={})):
        sealed(file, foreign)
        with pytest.raises(VocalrepError, match="does not say which run it belongs to"):
            load_checkpoint(file, state, ANOTHER)
    (tmp_path / "config.json").write_text("{half")
    with pytest.raises(VocalrepError, match="config.json.*damaged"):
        Run(tmp_path).config


def test_no_flipped_bit_is_resumed_from(tmp_path):
    file, state = tmp_path / "checkpoint.pt", State(None)
    save_checkpoint(file, State(torch.randn(50, 40)), ANOTHER)
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 300):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        file.write_bytes(flipped)
        with pytest.raises(VocalrepError, match="cannot be resumed from: its bytes are not those"):
            load_checkpoint(file, state, ANOTHER)
    assert state.value is None


class Evil:
    "Runs something when it is read back."

    def __reduce__(self):
        import os
        return os.system, ("touch /tmp/it-ran",)


def test_a_hostile_checkpoint_is_refused_in_our_own_words(tmp_path):
    file = tmp_path / "checkpoint.pt"
    for content in (Evil(), dict(run={}, state=Evil())):
        sealed(file, content)
        with pytest.raises(VocalrepError) as found:
            load_checkpoint(file, State(None), ANOTHER)
        said = str(found.value)
        assert "it holds more than tensors and plain values, and was not opened" in said and "remove it" in said
        assert not any(word in said for word in ("weights_only", "arbitrary", "trust", "torch.", "pickle"))
    assert not Path("/tmp/it-ran").exists()
