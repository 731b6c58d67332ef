"Whole commands and notebooks, as a user calls them."
import json
import subprocess
import sys
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
    done = papermill(("varient", "COLA"), out=tmp_path / "out.ipynb")
    assert done.returncode != 0 and "unknown parameter 'varient'" in done.stderr
    assert "choose one of: variant, corpus, root" in done.stderr
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


@pytest.mark.parametrize("variant", ["COLA", "CVSM-ART", "CONT", "BYOL"])
def test_every_papers_variants_are_welcome(variant):
    assert begin_training(variant=variant, preset="smoke", protocol="paper")["variant"] == variant


# ---- the command

def test_an_error_is_one_line():
    done = vocalrep("train", "CVSM-XX")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "CVSM-AH" in done.stderr
    assert done.stderr.startswith("vocalrep: ") and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments, message", [
    (("prepare", "music4all", "--paper", "cvsm", "--root", "/no/such place"), "not a folder"),
    (("score", "/no/such/run"), "/no/such/run"),
    (("reproduce", "cvsn"), "choose one of: cvsm, singer_identity")])
def test_errors_of_every_verb_are_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vocalrep", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 1 and message in said
    assert said.startswith("vocalrep: ") and len(said.strip().splitlines()) == 1


def test_prepare_and_score_a_folder(music, tmp_path):
    about = ("prepare", "folder", "--paper", "cvsm", "--root", music, "--store", tmp_path / "störe")
    done = vocalrep(*about, "--separator", "studio-umx", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "6 clips" in done.stdout and "skipped 7 clips" in done.stdout and "100%" in done.stderr
    again = vocalrep(*about)
    assert again.returncode == 0 and again.stdout == done.stdout


def test_help_names_the_commands():
    done = vocalrep("--help")
    assert done.returncode == 0 and all(word in done.stdout for word in ("prepare", "train", "score", "reproduce"))
