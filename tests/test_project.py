"The repository holds together: settings, versions, notebooks, parameters."
import ast
import configparser
import errno
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vocalrep import project
from vocalrep.project import (VocalrepError, alone, check_parameters, check_seed, clear_leftovers, pick_device,
                              provenance, write_json, writing)

REPO = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(p for p in (REPO / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
READ_ONLY = {"index.ipynb", "contents.ipynb", "differences.ipynb", "reference.ipynb"}      # pages without parameters
RUNNABLE = [p for p in NOTEBOOKS if "library" not in p.parts and p.name not in READ_ONLY]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def cells_of(path):
    return json.loads(path.read_text())["cells"]


def names(paths):
    "Ids of tests; rooms of two papers may share a name."
    return ["/".join(path.relative_to(REPO / "nbs").with_suffix("").parts) for path in paths]


def test_pyproject_and_settings_agree():
    settings = configparser.ConfigParser()
    settings.read(REPO / "settings.ini")
    settings = settings["DEFAULT"]
    import vocalrep
    assert settings["lib_name"] == PROJECT["name"] == "vocalrep"
    assert settings["version"] == vocalrep.__version__
    assert settings["description"] == PROJECT["description"]
    assert PROJECT["requires-python"] == f">={settings['min_python']}"


def requirements():
    "Everything that pyproject.toml asks for, with its extra."
    extras = PROJECT["optional-dependencies"].items()
    return [Requirement(text) for text in [*PROJECT["dependencies"], *(r for _, extra in extras for r in extra)]]


def pins():
    "Package -> version."
    lines = (line.strip() for line in (REPO / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def test_every_dependency_has_an_exact_constraint():
    pinned = pins()
    for requirement in requirements():
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), str(requirement)


def test_every_installed_dependency_is_pinned_as_installed():
    "What is asked for, and what that asks for in turn, down to the last package."
    from importlib.metadata import PackageNotFoundError, distribution
    pinned, seen = pins(), set()
    waiting = {canonicalize_name(requirement.name) for requirement in requirements()}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        try:
            there = distribution(name)
        except PackageNotFoundError:                                        # of another platform
            continue
        assert pinned.get(name) == there.version, f"{name}: {pinned.get(name)} pinned, {there.version} installed"
        wanted = [Requirement(text) for text in there.requires or ()]
        needed = [w for w in wanted if not w.marker or w.marker.evaluate(dict(extra=""))]
        waiting |= {canonicalize_name(w.name) for w in needed} - seen
    assert len(seen) > 100


def imported_names(text):
    "The packages that a module imports, at the top or anywhere."
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def imported_packages():
    "What the library, its tests and its benchmarks import from outside."
    files = [p for folder in ("vocalrep", "tests", "benchmarks") for p in (REPO / folder).rglob("*.py")]
    names = {name for file in files for name in imported_names(file.read_text())}
    return names - set(sys.stdlib_module_names) - {p.stem for p in files} - {"vocalrep"}


def test_every_import_is_declared():
    from importlib.metadata import packages_distributions
    providers, declared = packages_distributions(), {canonicalize_name(r.name) for r in requirements()}
    known = {name: {canonicalize_name(p) for p in providers[name]} for name in imported_packages() if name in providers}
    missing = {name: found for name, found in known.items() if not found & declared}
    assert len(known) > 15 and not missing, f"imported, and not in pyproject.toml: {missing}"


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (REPO / "README.md").read_text()):
        assert target.startswith("http") or (REPO / target).exists(), target


@pytest.mark.parametrize("path", RUNNABLE, ids=names(RUNNABLE))
def test_runnable_notebooks_keep_their_parameters_tag(path):
    cells = cells_of(path)
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert "check_parameters(globals()" in "".join(cells[cells.index(tagged[0]) + 1]["source"])


def test_nbdev_clean_keeps_the_parameters_tag(tmp_path):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text((REPO / "settings.ini").read_text())
    copy = tmp_path / "nbs" / "train.ipynb"
    copy.write_text((REPO / "nbs" / "train.ipynb").read_text())
    subprocess.run([BIN / "nbdev_clean", "--fname", str(copy)], cwd=tmp_path, check=True, capture_output=True)
    assert any("parameters" in c["metadata"].get("tags", []) for c in cells_of(copy))


def modules_below(folder):
    "Text of every module, by its path."
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.py") if "__pycache__" not in p.parts}


def test_modules_are_what_the_notebooks_export(tmp_path):
    for name in ("settings.ini", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, tmp_path)
    shutil.copytree(REPO / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (tmp_path / "vocalrep").mkdir()
    subprocess.run([BIN / "nbdev_export"], cwd=tmp_path, check=True, capture_output=True)
    exported, committed = modules_below(tmp_path / "vocalrep"), modules_below(REPO / "vocalrep")
    assert len(exported) > 40 and sum("/" in name for name in exported) > 30
    assert sorted(exported) == sorted(committed), "modules without a notebook, or notebooks without a module"
    differ = [name for name in exported if exported[name] != committed[name]]
    assert not differ, f"{', '.join(differ)}: not what the notebooks say; run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebooks_are_committed_executed_and_without_errors(path):
    code = [c for c in cells_of(path) if c["cell_type"] == "code"]
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"])
    assert len(code) < 4 or any(c["outputs"] for c in code)


def test_unknown_and_misspelt_parameters_name_the_choices():
    with pytest.raises(VocalrepError, match="CVSM-XX.*COLA, MSCOL"):
        check_parameters(dict(variant="CVSM-XX"), variant=["COLA", "MSCOL"])
    with pytest.raises(VocalrepError, match="varient.*variant, seed"):
        check_parameters(dict(variant="COLA", seed=0, varient="COLA"), variant=["COLA", "MSCOL"], seed=None)


@pytest.mark.parametrize("name", ["VARIANT", "VARIENT", "Varient"])
def test_what_papermill_injects_is_a_parameter_in_capitals_too(name):
    choices = dict(variant=["COLA", "MSCOL"], seed=None)
    cells = ["", "variant = 'MSCOL'", f"# Parameters\n{name} = \"COLA\"\nseed = 1\n", "PRESET = 3"]
    with pytest.raises(VocalrepError, match=f"unknown parameter '{name}'.*variant, seed"):
        check_parameters({"variant": "MSCOL", "seed": 0, name: "COLA", "In": cells}, **choices)
    space = dict(variant="COLA", seed=1, PRESET=3, CORPORA=("studio",), In=["", "# Parameters\nvariant = 'COLA'"])
    assert check_parameters(space, **choices) == dict(variant="COLA", seed=1)


# ---- files, and what killed jobs leave

@pytest.mark.parametrize("umask, before, expected", [(0o022, None, 0o644), (0o077, None, 0o600), (0o002, None, 0o664),
                                                     (0o022, 0o640, 0o640), (0o077, 0o666, 0o666)])
def test_files_have_the_rights_that_the_user_gives(umask, before, expected, tmp_path):
    file, usual = tmp_path / "a.json", os.umask(umask)
    try:
        if before is not None:
            file.touch()
            file.chmod(before)
        write_json(file, 1)
    finally:
        os.umask(usual)
    assert file.stat().st_mode & 0o777 == expected


def test_leftovers_go_and_files_of_jobs_that_live_stay(tmp_path):
    with writing(tmp_path / "shards/living.npy") as living:
        living.write_bytes(b"half")
        dead = subprocess.Popen(["true"])
        dead.wait()
        left = living.with_name(living.name.replace(f"~{os.getpid()}~", f"~{dead.pid}~"))
        away = living.with_name(living.name.replace(platform.node(), "another-host"))
        left.touch()
        away.touch()
        assert clear_leftovers(tmp_path) == [left]
        os.utime(away, (time.time() - 7200,) * 2)
        assert clear_leftovers(tmp_path) == [away] and living.exists()
    assert [file.name for file in (tmp_path / "shards").iterdir()] == ["living.npy"]


# ---- one job at a time

HOLD = """
import os, socket, sys, time
import vocalrep.project as project
project.LEASE = 1.5
if sys.argv[2] != "here":
    socket.gethostname = lambda: sys.argv[2]
with project.alone(sys.argv[1]):
    print("in", flush=True)
    sys.stdin.read(1)
"""


def hold(folder, host="here", **environment):
    "A job that works in a folder until it is told to go."
    job = subprocess.Popen([sys.executable, "-c", HOLD, folder, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           env={**os.environ, **environment})
    assert job.stdout.readline() == b"in\n"
    return job


def seconds_until_alone(folder):
    begun = time.monotonic()
    with alone(folder):
        return time.monotonic() - begun


def test_jobs_with_other_temporary_folders_and_from_other_hosts_wait(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(project, "LEASE", 1.5)
    (tmp_path / "mine").mkdir()
    job = hold(tmp_path / "run", "elsewhere", TMPDIR=str(tmp_path / "mine"))
    waiting = threading.Timer(3, lambda: job.communicate(b"x"))                # longer than it may be silent
    waiting.start()
    assert seconds_until_alone(tmp_path / "run") > 2.5
    assert str(tmp_path / ".run.lock") in capsys.readouterr().out
    job = hold(tmp_path / "run")
    job.kill()
    job.wait()
    assert seconds_until_alone(tmp_path / "run") < 1                           # a dead process of this host
    job = hold(tmp_path / "run", "elsewhere")
    job.kill()
    job.wait()
    assert 1 < seconds_until_alone(tmp_path / "run") < 10                      # of another: it must have been silent
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("code", ["EROFS", "ENOSPC", "EACCES"])
def test_where_nothing_can_be_written_a_finished_folder_can_be_opened(code, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(getattr(errno, code), "cannot")
    monkeypatch.setattr("filelock.SoftFileLease.acquire", refuse)
    with alone(tmp_path / "store"):
        pass


def test_a_folder_that_cannot_be_locked_is_one_error(tmp_path):
    with pytest.raises(VocalrepError, match="cannot lock .*File name too long"), alone(tmp_path / ("n" * 252)):
        pass


# ---- what is asked for

def test_devices():
    assert pick_device("cpu") == "cpu"
    for wrong in ("cpu:7", "cpu:", "cuda:99", "cuda:x", "tpu", ""):
        with pytest.raises(VocalrepError, match="device"):
            pick_device(wrong)


@pytest.mark.parametrize("seed, trainings", [(-1, 1), (2**32, 1), (2**32 - 1, 1), (2**32 - 3, 3), (0, 0), ("0", 1),
                                             (0.0, 1), (True, 1)])
def test_seeds(seed, trainings):
    assert check_seed(np.int64(5), 3) == 5
    with pytest.raises(VocalrepError, match="whole number"):
        check_seed(seed, trainings)


def test_a_machine_without_git_has_no_revision(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["revision"] is None and provenance()["python"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "größe.json"
    write_json(file, 1)
    with pytest.raises(VocalrepError, match="No space left.*free some space"), writing(file) as temporary:
        temporary.write_text("2")
        raise OSError(28, "No space left on device")
    assert file.read_text() == "1\n" and list(tmp_path.iterdir()) == [file]
