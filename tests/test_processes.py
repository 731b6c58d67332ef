"Trainings that several processes share: on one machine, and on two that torchrun knows of."
import importlib
import os
import socket
import subprocess
import sys

import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric
from test_training import curve, same

from vocalrep.data.corpora import Size
from vocalrep.data.store import Store
from vocalrep.training.loop import TrainingState
from vocalrep.training.ranks import gathering, leave
from vocalrep.training.runs import Run
from vocalrep.training.variants import Preset

# ---- one loss, in forks of this process


def share(fabric, name, variant, pairs, folder, file):
    "One batch as this rank sees it: the loss of all pairs, and the gradients, go to a file."
    torch.set_num_threads(1)
    paper = importlib.import_module(f"vocalrep.papers.{name}.variants")
    tiny = Preset("smoke", Size(30, 3, 8.4), "small-cnn", steps=1, step_pairs=pairs, batch=pairs, validate_every=1,
                  patience=1)
    variant = paper.variants(paper.RELEASED, tiny)[variant]
    if "feature_peak" in variant.encoder:
        variant.encoder["feature_peak"] = "fixed"    # not the largest value of each rank's own batch
    state = TrainingState(variant, tiny, Store(folder), seed=0, progress=False)
    learner, _ = fabric.setup(state.method, state.optimizer)
    learner.eval()                                   # fixed batch statistics: the loss is a function of the pairs alone
    batch, = state.sampler.batches(state.sampler.step(), fabric.global_rank, fabric.world_size)
    assert len(batch) == pairs // fabric.world_size
    parts = learner(batch, **gathering(fabric))
    fabric.backward(parts["loss"])
    loss = fabric.all_reduce(parts["loss"].detach(), reduce_op="mean")
    if fabric.is_global_zero:
        torch.save(dict(loss=loss, gradients=[p.grad for p in state.method.parameters()]), file)
    leave(fabric)


@pytest.mark.parametrize("paper, variant, pairs", [("cvsm", "CVSM-AH", 32), ("singer_identity", "CONT-VC", 8)])
def test_two_ranks_share_the_loss_of_one(paper, variant, pairs, store, vocals, monkeypatch, tmp_path):
    monkeypatch.setattr("os.cpu_count", lambda: 1)               # tracks are shifted in this process
    folder = (store if paper == "cvsm" else vocals).folder
    for devices in (1, 2):
        fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp_fork" if devices > 1 else "auto")
        fabric.launch(share, paper, variant, pairs, folder, tmp_path / f"{devices}.pt")
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert torch.allclose(one["loss"], two["loss"], atol=1e-5)
    for a, b in zip(one["gradients"], two["gradients"]):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-3)


# ---- whole trainings

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from vocalrep.data.corpora import Size
from vocalrep.data.store import Store
from vocalrep.papers.cvsm.variants import RELEASED, variants
from vocalrep.training.loop import train
from vocalrep.training.variants import Preset
tiny = Preset("smoke", Size(40, 4, 10.0), "small-cnn", steps=2, step_pairs=32, batch=16, validate_every=1, patience=2)
train(variants(RELEASED, tiny)["CVSM-AF"], Store(sys.argv[1]), tiny, out=sys.argv[2], device="cpu",
      devices=int(sys.argv[3]), progress=False)
"""


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def test_two_devices_and_two_hosts_train_alike(store, tmp_path):
    "torchrun on each host is the documented command; here both are this machine."
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    two = subprocess.Popen([sys.executable, program, store.folder, tmp_path / "devices", "2"], stderr=subprocess.PIPE)
    hosts, port = [], free_port()
    for rank in ("0", "1"):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
                    "--node-rank", rank, "--master-addr", "127.0.0.1", "--master-port", port]
        words = [program, store.folder, tmp_path / "hosts", "1"]
        hosts.append(subprocess.Popen([*torchrun, *words], stderr=subprocess.PIPE,
                                      env={**os.environ, "OMP_NUM_THREADS": "1"}))
    for process in (two, *hosts):
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said.decode()
    runs = [Run(tmp_path / name) for name in ("devices", "hosts")]
    for run in runs:
        assert run.complete and run.config["devices"] == run.summary["devices"] == 2 and len(run.history) == 2
    pd.testing.assert_frame_equal(*map(curve, runs), check_exact=True)
    assert same(*(dict(run.encoder().state_dict()) for run in runs))
