"Whole commands and notebooks, as a user calls them."
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def vocalrep(*arguments, cwd=None):
    return subprocess.run([BIN / "vocalrep", *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def papermill(*parameters, out):
    words = [w for name, value in parameters for w in ("-p", name, value)]
    return subprocess.run([BIN / "papermill", REPO / "nbs/train.ipynb", out, "--kernel", "python3", *words], capture_output=True, text=True, cwd=REPO)


@pytest.mark.parametrize("name, value, message", [("variant", "CVSM-XX", "COLA, MSCOL, COLA-ART, CVSM-A, CVSM-AH, CVSM-AF, CVSM-ART"), ("varient", "COLA", "choose one of: variant, corpus, root"),
                                                  ("preset", "tiny", "smoke, laptop, gpu, paper"), ("corpus", "spotify", "studio, music4all, folder")])
def test_a_wrong_parameter_stops_the_notebook_at_once(name, value, message, tmp_path):
    done = papermill((name, value), out=tmp_path / "out.ipynb")
    assert done.returncode != 0 and f"unknown {'parameter' if name == 'varient' else name}" in done.stderr and message in done.stderr
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert sum(c.get("execution_count") is not None for c in cells) <= 3               # parameters, the injected ones, the check


def test_errors_are_one_line():
    for arguments, message in ((("train", "CVSM-XX"), "CVSM-AH"), (("prepare", "music4all", "--root", "/no/such place"), "not a folder"), (("score", "/no/such/run"), "")):
        done = vocalrep(*arguments)
        assert done.returncode == 1 and "Traceback" not in done.stderr and message in done.stderr
        assert done.stderr.startswith("vocalrep: ") and len(done.stderr.strip().splitlines()) == 1


def test_prepare_and_score_a_folder(music, tmp_path):
    done = vocalrep("prepare", "folder", "--root", music, "--separator", "studio-umx", "--store", tmp_path / "störe", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "6 clips" in done.stdout and "skipped 7 clips" in done.stdout and "100%" in done.stderr
    again = vocalrep("prepare", "folder", "--root", music, "--store", tmp_path / "störe")
    assert again.returncode == 0 and again.stdout == done.stdout


def test_help_names_the_commands():
    done = vocalrep("--help")
    assert done.returncode == 0 and all(word in done.stdout for word in ("prepare", "train", "score"))
