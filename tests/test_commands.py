"Whole commands and notebooks, as a user calls them."
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vocalrep.cli import main
from vocalrep.project import VocalrepError

REPO = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TRAIN = REPO / "nbs/train.ipynb"


def vocalrep(*arguments, cwd=None):
    return subprocess.run([BIN / "vocalrep", *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def papermill(*parameters, out):
    words = [w for name, value in parameters for w in ("-p", name, value)]
    command = [BIN / "papermill", TRAIN, out, "--kernel", "python3", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO)


# ---- the training notebook

def test_papermill_stops_at_a_wrong_parameter_at_once(tmp_path):
    done = papermill(("VARIANT", "COLA"), out=tmp_path / "out.ipynb")
    *others, last = done.stderr.strip().splitlines()
    assert done.returncode != 0 and last.startswith("VocalrepError: unknown parameter 'VARIANT'; choose one of: va")
    assert not any("vocalrep/project.py" in line or "check_parameters" in line for line in others)
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    executed = [cell for cell in cells if cell.get("execution_count") is not None]
    assert len(executed) <= 3                                 # parameters, the injected ones, the check


def begin_training(**parameters):
    "Execute the notebook's parameters cell, these parameters, and the cell after it, which checks them."
    cells = [cell for cell in json.loads(TRAIN.read_text())["cells"] if cell["cell_type"] == "code"]
    assert "parameters" in cells[0]["metadata"]["tags"]
    space = {}
    exec("".join(cells[0]["source"]), space)
    space.update(parameters)
    exec("".join(cells[1]["source"]), space)
    return space


@pytest.mark.parametrize("name, value, message", [
    ("variant", "CVSM-XX", "COLA, MSCOL, COLA-ART, CVSM-A, CVSM-AH, CVSM-AF, CVSM-ART"),
    ("varient", "COLA", "choose one of: variant, corpus, root"),
    ("preset", "tiny", "smoke, laptop, gpu, paper"),
    ("corpus", "spotify", "studio, music4all, folder"),
    ("protocol", "text", "released")])
def test_a_wrong_parameter_is_refused_by_the_first_cell(name, value, message):
    with pytest.raises(VocalrepError, match=f"unknown {'parameter' if name == 'varient' else name}") as found:
        begin_training(**{name: value})
    assert message in str(found.value)


@pytest.mark.parametrize("wrong, message", [(dict(seed=-1), "seed is -1"), (dict(device="cpu:7"), "device 'cpu:7'")])
def test_what_cannot_be_had_is_refused_by_the_first_cell(wrong, message):
    with pytest.raises(VocalrepError, match=message):
        begin_training(preset="smoke", **wrong)


@pytest.mark.parametrize("variant", ["COLA", "CVSM-ART", "CONT", "BYOL"])
def test_every_papers_variants_are_welcome(variant):
    assert begin_training(variant=variant, preset="smoke", protocol="paper")["variant"] == variant


@pytest.mark.parametrize("word", ["variant=COLA", "VARIENT=COLA", "Preset=smoke"])
def test_make_refuses_unknown_words(word):
    def make(*words):
        return subprocess.run(["make", "-n", "train", *words], capture_output=True, text=True, cwd=REPO)
    assert f"unknown {word.split('=')[0]}; choose among VARIANT" in make(word).stderr
    assert '-r root "/with space/a=b"' in make("VARIANT=COLA", "ROOT=/with space/a=b").stdout


# ---- the command

@pytest.mark.parametrize("arguments, message", [
    (("prepare", "music4all", "--paper", "cvsm", "--root", "/no/such place"), "not a folder"),
    (("score", "/no/such/run"), "/no/such/run"),
    (("train", "CVSM-XX"), "CVSM-AH"),
    (("reproduce", "cvsn"), "choose one of: cvsm, mscol, singer_identity"),
    (("train", "COLA", "--seed", "-1"), "seed is -1"),
    (("train", "COLA", "--seed", "4294967296"), "seed is 4294967296"),
    (("train", "COLA", "--device", "cpu:7"), "unknown device 'cpu:7'"),
    (("train", "COLA", "--device", "cuda:99"), "device 'cuda:99'"),
    (("train", "COLA", "--device", "cpu", "--devices", "-2"), "devices is -2"),
    (("train", "COLA", "--device", "cpu", "--devices", "3"), "cannot be shared by 3 devices"),
    (("prepare", "studio", "--paper", "cvsm", "--workers", "0"), "workers is 0"),
    (("prepare", "studio", "--paper", "cvsm", "--device", "cpu:7"), "unknown device 'cpu:7'"),
    (("score", "/no/such/run", "--per-clip", "0"), "per-clip is 0"),
    (("score", "/no/such/run", "--device", "cpu:7"), "unknown device 'cpu:7'"),
    (("reproduce", "cvsm", "--device", "cpu:7"), "unknown device 'cpu:7'"),
    (("reproduce", "cvsm", "--seeds", "0"), "number of seeds is 0"),
    (("reproduce", "cvsm", "--corpus", "music4all"), "needs a root"),
    (("reproduce", "cvsm", "--out-of-domain", "techniques"), "scores on other corpora"),
    (("reproduce", "singer_identity", "--out-of-domain", "vctk=/no/such place"), "not a folder")])
def test_errors_of_every_verb_are_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vocalrep", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 1 and message in said
    assert said.startswith("vocalrep: ") and len(said.strip().splitlines()) == 1


@pytest.fixture
def command(monkeypatch, capsys):
    "The command in this process: what it says on both streams."
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vocalrep", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr()
    return run


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(music, tmp_path, command):
    store = tmp_path / "störe"
    words = ("prepare", "folder", "--paper", "cvsm", "--root", music, "--store", store, "--separator", "studio-umx",
             "--workers", 1)
    stopped = subprocess.Popen([BIN / "vocalrep", *map(str, words)], stderr=subprocess.PIPE, text=True)
    while not (store / "plan.json").exists():
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    *others, last = stopped.communicate()[1].strip().splitlines()
    assert stopped.returncode == 130 and "Traceback" not in "".join(others)
    assert last.startswith("vocalrep: stopped; what is finished is kept, and the same command goes on: vocalrep")
    done = command(*words)
    prepared, skipped = (int(re.search(pattern, done.out)[1]) for pattern in (r": (\d+) clips", r"skipped (\d+) clips"))
    assert prepared + skipped == 13 and prepared > 4 and "100%" in done.err
    assert command(*words[:-4]).out == done.out


def test_help_names_the_commands(command):
    said = command("--help").out
    assert all(word in said for word in ("prepare", "train", "score", "reproduce"))
