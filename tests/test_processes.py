"Trainings in processes of their own: killed, and shared by ranks."
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from test_training import curve, same

from vocalrep.training.runs import Run

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from vocalrep.data.corpora import Size
from vocalrep.data.store import Store
from vocalrep.evaluation.early import early_similarity
from vocalrep.papers.cvsm.variants import RELEASED, variants
from vocalrep.training.loop import train
from vocalrep.training.variants import Preset
tiny = Preset("smoke", Size(40, 4, 10.0), "small-cnn", **eval(sys.argv[3]))
train(variants(RELEASED, tiny)["CVSM-AF"], Store(sys.argv[1]), tiny, out=sys.argv[2], validator=early_similarity(),
      device="cpu", devices=int(sys.argv[4]), progress=False)
"""


def launch(store, out, preset, devices=1, **environment):
    arguments = [str(store.folder), str(out), repr(preset), str(devices)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env={**os.environ, **environment},
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
    killed, whole = (Run(tmp_path / name) for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(curve(killed), curve(whole), check_exact=True)
    assert same(dict(killed.encoder().state_dict()), dict(whole.encoder().state_dict()))


# ---- several devices ----

RANKS = """
import sys, torch
torch.set_num_threads(1)
from lightning.fabric import Fabric
import importlib
from vocalrep.data.corpora import Size
from vocalrep.data.store import Store
from vocalrep.training.loop import TrainingState, gathering, leave
from vocalrep.training.variants import Preset
paper, pairs = importlib.import_module(f"vocalrep.papers.{sys.argv[4]}.variants"), int(sys.argv[6])
tiny = Preset("smoke", Size(30, 3, 8.4), "small-cnn", steps=1, step_pairs=pairs, batch=pairs, validate_every=1,
              patience=1)
variant, devices = paper.variants(paper.RELEASED, tiny)[sys.argv[5]], int(sys.argv[3])
fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp_spawn" if devices > 1 else "auto")
def work(fabric):
    if "feature_peak" in variant.encoder:
        variant.encoder["feature_peak"] = "fixed"    # not the largest value of each rank's own batch
    state = TrainingState(variant, tiny, Store(sys.argv[1]), seed=0, progress=False)
    learner, optimizer = fabric.setup(state.method, state.optimizer)
    learner.eval()                                   # fixed batch statistics: the loss is a function of the pairs alone
    batch, = state.sampler.batches(state.sampler.step(), fabric.global_rank, fabric.world_size)
    assert len(batch) == pairs // fabric.world_size
    parts = learner(batch, **gathering(fabric))
    fabric.backward(parts["loss"])
    loss = fabric.all_reduce(parts["loss"].detach(), reduce_op="mean")
    if fabric.is_global_zero:
        torch.save(dict(loss=loss, gradients=[p.grad for p in state.method.parameters()]), sys.argv[2])
    leave(fabric)
if __name__ == "__main__":
    fabric.launch(work)
"""


@pytest.mark.parametrize("paper, variant, pairs", [("cvsm", "CVSM-AH", 32), ("singer_identity", "CONT-VC", 8)])
def test_two_ranks_share_the_loss_of_one(paper, variant, pairs, store, vocals, tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    folder = (store if paper == "cvsm" else vocals).folder
    for devices in (1, 2):
        arguments = [folder, tmp_path / f"{devices}.pt", str(devices), paper, variant, str(pairs)]
        done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert torch.allclose(one["loss"], two["loss"], atol=1e-5)
    for a, b in zip(one["gradients"], two["gradients"]):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)


def test_a_script_trains_on_two_devices(store, tmp_path):
    program = tmp_path / "two.py"
    program.write_text(PROGRAM + "\n")
    preset = dict(steps=2, step_pairs=32, batch=16, validate_every=1, patience=2)
    arguments = [sys.executable, program, store.folder, tmp_path / "two", repr(preset), "2"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "two")
    assert run.complete and run.summary["devices"] == 2 and len(run.history) == 2
