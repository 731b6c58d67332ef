"The repository holds together: settings, versions, notebooks, parameters."
import configparser
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vocalrep.project import VocalrepError, check_parameters, write_json, writing

REPO = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (REPO / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
RUNNABLE = [p for p in NOTEBOOKS if "library" not in p.parts and p.name != "index.ipynb"]


def test_pyproject_and_settings_agree():
    settings = configparser.ConfigParser()
    settings.read(REPO / "settings.ini")
    settings, project = settings["DEFAULT"], tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    import vocalrep
    assert settings["lib_name"] == project["name"] == "vocalrep"
    assert settings["version"] == vocalrep.__version__
    assert settings["description"] == project["description"]
    assert project["requires-python"] == f">={settings['min_python']}"


def test_every_dependency_has_an_exact_constraint():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    pinned = {canonicalize_name(line.split("==")[0]): line.strip().split("==")[1] for line in (REPO / "constraints.txt").read_text().splitlines() if "==" in line}
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True), text


def test_readme_is_made_from_the_index_notebook():
    cells = json.loads((REPO / "nbs/index.ipynb").read_text())["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert (REPO / "README.md").read_text().strip() == text.replace("](../", "](").strip(), "run `make notebooks`"


def test_readme_links_lead_somewhere():
    import re
    for target in re.findall(r"\]\(([^)#]+)\)", (REPO / "README.md").read_text()):
        assert target.startswith("http") or (REPO / target).exists(), target


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: p.stem)
def test_runnable_notebooks_keep_their_parameters_tag(path):
    cells = json.loads(path.read_text())["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert "check_parameters(globals()" in "".join(cells[cells.index(tagged[0]) + 1]["source"])


def test_nbdev_clean_keeps_the_parameters_tag(tmp_path):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text((REPO / "settings.ini").read_text())
    copy = tmp_path / "nbs" / "train.ipynb"
    copy.write_text((REPO / "nbs" / "train.ipynb").read_text())
    subprocess.run([Path(sys.executable).parent / "nbdev_clean", "--fname", str(copy)], cwd=tmp_path, check=True, capture_output=True)
    assert any("parameters" in c["metadata"].get("tags", []) for c in json.loads(copy.read_text())["cells"])


def test_modules_are_what_the_notebooks_export(tmp_path):
    import shutil
    for name in ("settings.ini", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, tmp_path)
    shutil.copytree(REPO / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (tmp_path / "vocalrep").mkdir()
    subprocess.run([Path(sys.executable).parent / "nbdev_export"], cwd=tmp_path, check=True, capture_output=True)
    exported = {p.name: p.read_text() for p in (tmp_path / "vocalrep").glob("*.py")}
    assert len(exported) > 10
    for name, text in exported.items():
        assert (REPO / "vocalrep" / name).read_text() == text, f"{name} differs from its notebook: run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_committed_executed_and_without_errors(path):
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"])
    assert len(code) < 4 or any(c["outputs"] for c in code)


def test_rooms_import_without_authoring_tools():
    "Training must run where only the numerical packages are installed."
    tools = ["symusic", "openunmix", "soundfile", "parselmouth", "transformers", "papermill", "nbdev", "matplotlib", "librosa", "typer", "IPython"]
    program = f"import sys; sys.modules.update(dict.fromkeys({tools})); import vocalrep.training.loop, vocalrep.data.corpora, vocalrep.data.separation, vocalrep.studio.songs"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_and_misspelt_parameters_name_the_choices():
    with pytest.raises(VocalrepError, match="CVSM-XX.*COLA, MSCOL"):
        check_parameters(dict(variant="CVSM-XX"), variant=["COLA", "MSCOL"])
    with pytest.raises(VocalrepError, match="varient.*variant, seed"):
        check_parameters(dict(variant="COLA", seed=0, varient="COLA"), variant=["COLA", "MSCOL"], seed=None)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "größe.json"
    write_json(file, 1)
    with pytest.raises(VocalrepError, match="No space left.*free some space"), writing(file) as temporary:
        temporary.write_text("2")
        raise OSError(28, "No space left on device")
    assert file.read_text() == "1\n" and list(tmp_path.iterdir()) == [file]
