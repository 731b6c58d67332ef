"Runs: same numbers, resumed numbers, shared numbers; and every protocol difference that touches training."
import dataclasses
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from vocalrep.project import VocalrepError
from vocalrep.training.loop import Run, TrainingState, load_checkpoint, score_run, train
from vocalrep.training.variants import PROTOCOLS, SINGER_VARIANTS, VARIANTS, stage_starts


def curve(run):
    return run.history.drop(columns="seconds")


@pytest.fixture(scope="module")
def run(store, tiny, tmp_path_factory):
    return train("CVSM-AH", store, tiny, out=tmp_path_factory.mktemp("runs") / "AH", device="cpu", progress=False)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_variant_leaves_a_complete_run(variant, protocol, store, tiny, vocals, tiny_singer, tmp_path):
    mine, short = (vocals, tiny_singer) if variant in SINGER_VARIANTS else (store, dataclasses.replace(tiny, steps=2, step_pairs=16))
    run = train(variant, mine, short, protocol=protocol, out=tmp_path / "r", device="cpu", progress=False)
    assert sorted(p.name for p in run.folder.iterdir()) == ["config.json", "encoder.json", "encoder.safetensors", "history.csv", "summary.json"]
    assert run.config["variant"]["name"] == variant and run.config["protocol"]["name"] == protocol and run.config["provenance"]["packages"]["torch"]
    encoder = run.encoder()
    assert encoder(torch.randn(2, encoder.samples)).shape == (2, encoder.dim)
    assert set(run.history.columns) >= {"train_loss", "valid_loss"} and run.history.filter(like="loss").notna().all().all()
    assert set(score_run(run, mine, split=None, per_clip=1)["mode"]) == ({"vocals"} if variant in SINGER_VARIANTS else {"mixture", "vocals"})


def test_same_seed_same_numbers(run, store, tiny, tmp_path):
    again = train("CVSM-AH", store, tiny, out=tmp_path / "again", device="cpu", progress=False)
    other = train("CVSM-AH", store, tiny, seed=1, out=tmp_path / "other", device="cpu", progress=False)
    pd.testing.assert_frame_equal(curve(again), curve(run), check_exact=True)
    assert not curve(other).equals(curve(run))


PROGRAM = """
import dataclasses, sys, torch
torch.set_num_threads(1)
from vocalrep.project import PRESETS
from vocalrep.data.store import Store
from vocalrep.training.loop import train
tiny = dataclasses.replace(PRESETS["smoke"], **eval(sys.argv[3]))
train("CVSM-AF", Store(sys.argv[1]), tiny, out=sys.argv[2], device="cpu", devices=int(sys.argv[4]), progress=False)
"""


def launch(store, out, preset, devices=1, **environment):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(store.folder), str(out), repr(preset), str(devices)], env={**os.environ, **environment},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_run_resumes_to_the_same_curve(store, tmp_path):
    preset = dict(steps=12, step_pairs=32, batch=16, validate_every=2, patience=2)
    whole = launch(store, tmp_path / "whole", preset)
    assert whole.wait() == 0, whole.stdout.read()
    process = launch(store, tmp_path / "killed", preset)
    history = tmp_path / "killed" / "history.csv"
    while not (history.exists() and (tmp_path / "killed" / "checkpoint.pt").exists()):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Run(tmp_path / "killed").complete and len(pd.read_csv(history)) < 6
    process = launch(store, tmp_path / "killed", preset)
    assert process.wait() == 0, process.stdout.read()
    pd.testing.assert_frame_equal(curve(Run(tmp_path / "killed")), curve(Run(tmp_path / "whole")), check_exact=True)
    a, b = (Run(tmp_path / name).encoder().state_dict() for name in ("killed", "whole"))
    assert all(torch.equal(a[k], b[k]) for k in a)


RANKS = """
import sys, torch
torch.set_num_threads(1)
import lightning.fabric as lf
from vocalrep.project import find_preset
from vocalrep.data.store import Store
from vocalrep.training.loop import TrainingState, _gatherer, leave
from vocalrep.training.variants import VARIANTS, find_protocol
import dataclasses
variant, pairs = VARIANTS[sys.argv[4]], int(sys.argv[5])
tiny = dataclasses.replace(find_preset("smoke", variant.paper), steps=1, step_pairs=pairs, batch=pairs, shifted_clips=None)
devices = int(sys.argv[3])
fabric = lf.Fabric(accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto")
def work(fabric):
    state = TrainingState(variant, find_protocol("released", variant.paper), tiny, Store(sys.argv[1]), seed=0)
    if "scaling" in getattr(state.learner.encoder, "spec", {}):
        state.learner.encoder.scale = lambda x: x / 9    # not by the largest value of each rank's own batch
    learner, optimizer = fabric.setup(state.learner, state.optimizer)
    learner.eval()                                   # fixed batch statistics: the loss is then a function of the pairs alone
    (anchor, positive), = state.recipe.batches(state.sampler.step(), fabric.global_rank, fabric.world_size)
    assert len(anchor) == pairs // fabric.world_size
    parts = learner(anchor, positive, **_gatherer(fabric))
    fabric.backward(parts["loss"])
    loss = fabric.all_reduce(parts["loss"].detach(), reduce_op="mean")
    if fabric.is_global_zero:
        torch.save(dict(loss=loss, gradients=[p.grad for p in state.learner.parameters()]), sys.argv[2])
    leave(fabric)
if __name__ == "__main__":
    fabric.launch(work)
"""


@pytest.mark.parametrize("variant,pairs", [("CVSM-AH", 32), ("CONT-VC", 8)])
def test_two_ranks_share_the_loss_of_one(variant, pairs, store, vocals, tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    folder = (vocals if variant in SINGER_VARIANTS else store).folder
    for devices in (1, 2):
        subprocess.run([sys.executable, program, folder, tmp_path / f"{devices}.pt", str(devices), variant, str(pairs)], check=True, capture_output=True)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert torch.allclose(one["loss"], two["loss"], atol=1e-5)
    for a, b in zip(one["gradients"], two["gradients"]):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)


def test_a_script_trains_on_two_devices(store, tmp_path):
    program = tmp_path / "two.py"
    program.write_text(PROGRAM + "\n")
    preset = dict(steps=2, step_pairs=32, batch=16, validate_every=1)
    done = subprocess.run([sys.executable, program, store.folder, tmp_path / "two", repr(preset), "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "two")
    assert run.complete and run.summary["devices"] == 2 and len(run.history) == 2


def test_pooling_follows_the_protocol(store, tiny):
    assert [TrainingState(VARIANTS["COLA"], PROTOCOLS[name], tiny, store, 0).learner.encoder.pooling for name in ("paper", "released")] == ["avg", "max"]


def test_the_paper_preset_takes_the_protocols_steps(store):
    from vocalrep.project import PRESETS
    from vocalrep.training.variants import total_steps
    assert [total_steps(PRESETS["paper"], PROTOCOLS[name]) for name in ("paper", "released")] == [8000, 10_000]
    assert stage_starts(VARIANTS["CVSM-AF"], 8000) == [0, 6000]


def test_halving_follows_the_protocol(store, tiny):
    for name, expected in (("paper", tiny.learning_rate / 2), ("released", tiny.learning_rate)):
        state = TrainingState(VARIANTS["COLA"], PROTOCOLS[name], tiny, store, 0)
        for state.step, loss in enumerate((3.0, 3.5, 3.5), start=1):
            state.watch(loss)
        assert state.optimizer.param_groups[0]["lr"] == expected


def test_fine_tuning_follows_the_protocol(store, tiny):
    for name, fresh, rate in (("paper", False, tiny.learning_rate), ("released", True, 5e-4)):
        state = TrainingState(VARIANTS["CVSM-AF"], PROTOCOLS[name], tiny, store, 0)
        before = state.optimizer
        state.step = 3
        assert state.enter_stage() == fresh and (state.optimizer is not before) == fresh
        assert state.optimizer.param_groups[0]["lr"] == rate
        vocals, accompaniment = state.sampler.step().anchor
        assert (vocals.rows == accompaniment.rows).all()                                # real mixtures only


def test_the_reduction_scales_the_gradient(store, tiny):
    import lightning.fabric as lf
    from vocalrep.training.loop import train_step
    norms = {}
    for reduction in ("mean", "sum"):
        protocol = dataclasses.replace(PROTOCOLS["released"], reduction=reduction)
        one = dataclasses.replace(tiny, step_pairs=16)
        state = TrainingState(VARIANTS["MSCOL"], protocol, one, store, 0)
        train_step(state, state.learner, lf.Fabric(accelerator="cpu", devices=1), state.optimizer)
        norms[reduction] = torch.cat([p.grad.flatten() for p in state.learner.parameters()]).norm()
    assert torch.isclose(norms["sum"], 16 * norms["mean"], rtol=1e-3)


def test_another_run_in_the_same_folder_is_refused(run, store, tiny):
    with pytest.raises(VocalrepError, match="holds another run.*seed: 0 there, 3 now"):
        train("CVSM-AH", store, tiny, seed=3, out=run.folder)
    with pytest.raises(VocalrepError, match="protocol"):
        train("CVSM-AH", store, tiny, protocol="paper", out=run.folder)


def test_damaged_and_foreign_files_are_one_error(store, tiny, tmp_path):
    state = TrainingState(VARIANTS["COLA"], PROTOCOLS["released"], tiny, store, 0)
    for content in (b"", b"not a checkpoint"):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(VocalrepError, match="checkpoint.pt cannot be resumed from.*remove it"):
            load_checkpoint(tmp_path / "checkpoint.pt", state)
    torch.save(dict(model=torch.zeros(3)), tmp_path / "checkpoint.pt")
    with pytest.raises(VocalrepError, match="cannot be resumed from"):
        load_checkpoint(tmp_path / "checkpoint.pt", state)
    (tmp_path / "config.json").write_text("{half")
    with pytest.raises(VocalrepError, match="config.json.*damaged"):
        Run(tmp_path).config


def test_unknown_words_list_the_choices(store):
    for options, message in ((dict(variant="CVSM-XX"), "CVSM-AH"), (dict(variant="COLA", preset="huge"), "smoke, laptop"), (dict(variant="COLA", protocol="mine"), "paper, released")):
        with pytest.raises(VocalrepError, match=message):
            train(**options, store=store)


def test_devices_must_divide_the_batch(store, tiny, tmp_path):
    with pytest.raises(VocalrepError, match="cannot be shared by 3 devices"):
        train("COLA", store, tiny, devices=3, out=tmp_path / "r", device="cpu")


def test_a_run_is_scored_beside_its_untrained_twin(run, store):
    table = score_run(run, store, split="train", per_clip=2)
    assert set(table.system) == {"CVSM-AH", "untrained", "mean MFCC"} and len(table) == 18
    assert table.eer.between(0, 1).all() and table.mnr.between(0, 1).all()


def test_a_corpus_without_vocals_is_one_error(store, tiny, tmp_path):
    from vocalrep.data.store import Store
    silent = Store(store.folder)
    silent.segments["active_vocals"] = False
    with pytest.raises(VocalrepError, match="no segment with vocals in the train split"):
        train("MSCOL", silent, tiny, out=tmp_path / "r", device="cpu", progress=False)


def test_artists_with_one_clip_train_but_cannot_be_scored(tiny, tmp_path):
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.store import prepare
    single = prepare(studio_corpus(artists=20, clips=1, seconds=5.0), tmp_path / "store", workers=1, progress=False)
    run = train("CVSM-ART", single, dataclasses.replace(tiny, steps=1, step_pairs=16), out=tmp_path / "r", device="cpu", progress=False)
    assert run.complete and "eer_mixture" not in run.history                        # no early score either
    with pytest.raises(VocalrepError, match="needs two artists with two clips, found 2 artists and 2 clips"):
        score_run(run, single)
