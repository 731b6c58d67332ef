"""The front page tells the truth: functions exist, links lead somewhere, no paper or notebook is left out."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from vocalrep.papers.registry import find_papers
from vocalrep.project import read_json
from vocalrep.report.house import FLOORS, read_rooms

ROOT = Path(__file__).resolve().parents[1]
CELLS = read_json(ROOT / "nbs" / "index.ipynb")["cells"]
TEXT = "\n\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
LINKS = sorted({link for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link})


def functions_table() -> list[str]:
    "The first column of the table of functions, row by row."
    table = TEXT.partition("| function | what it does |\n|---|---|\n")[2].partition("\n\n")[0]
    return [line.split("|")[1].strip() for line in table.splitlines()]


def dotted(node: ast.expr) -> list[str]:
    "The parts of a name with dots; empty for anything else."
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return [*base, node.attr]
    return []


def first_name(code: str) -> list[str]:
    "The name that an expression begins with: of `a.b(c).d(e)` the parts of a.b."
    node = ast.parse(code.replace("...", "0"), mode="eval").body
    while not dotted(node):
        node = node.func if isinstance(node, ast.Call) else node.value
    return dotted(node)


def places_in_row(row: str) -> list[tuple[str, list[str]]]:
    "(room, names) of each piece of code; one without a room is of the room before it."
    rooms, found, room = read_rooms(), [], ""
    for code in re.findall(r"`([^`]+)`", row):
        parts = first_name(code)
        if parts[0] in FLOORS:
            room = max((name for name in rooms if parts[:name.count(".") + 1] == name.split(".")), key=len)
            parts = parts[room.count(".") + 1:]
        found.append((room, parts))
    return found


@pytest.mark.parametrize("row", functions_table())
def test_every_function_of_the_table_exists(row):
    places = places_in_row(row)
    assert places
    for room, parts in places:
        thing = importlib.import_module(f"vocalrep.{room}")
        for part in parts:
            thing = getattr(thing, part)
        assert callable(thing), f"{room}.{'.'.join(parts)}"


def test_the_table_is_found():
    assert len(functions_table()) > 15
    assert places_in_row("`training.losses.ntxent`, `byol`") == [("training.losses", ["ntxent"]),
                                                                 ("training.losses", ["byol"])]
    assert places_in_row("`evaluation.retrieval.ClipIndex.build(clips).search(clip)`") == [
        ("evaluation.retrieval", ["ClipIndex", "build"])]


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link):
    assert link.startswith("../"), "the front page and README.md share their links, from nbs/ and from the root"
    assert (ROOT / link.removeprefix("../")).exists()


@pytest.mark.parametrize("notebook", sorted((ROOT / "nbs").glob("*/*.ipynb")), ids=lambda file: file.stem)
def test_links_of_the_papers_notebooks_lead_somewhere(notebook):
    cells = (cell for cell in read_json(notebook)["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join("".join(cell["source"]) for cell in cells))
    local = [link for link in links if "://" not in link and not link.startswith("#")]
    assert not [link for link in local if not (notebook.parent / link).exists()]


@pytest.mark.parametrize("text, link", re.findall(r"\[(\w+(?:/\w+)*/\d+_\w+)\]\(([^)]+)\)", TEXT))
def test_rooms_are_called_as_their_notebooks_are(text, link):
    assert link == f"../nbs/library/{text}.ipynb"


@pytest.mark.parametrize("name", find_papers())
def test_every_notebook_of_every_paper_is_linked(name):
    missing = [notebook for notebook in find_papers()[name].notebooks if f"../nbs/{name}/{notebook}.ipynb" not in LINKS]
    assert not missing


@pytest.mark.parametrize("name", find_papers())
def test_variants_protocols_and_presets_are_told(name):
    paper = find_papers()[name]
    told = TEXT.partition("## Variants, protocols, presets")[2].partition("\n## ")[0]
    for variant in paper.trained:
        assert re.search(rf"(?<![\w-]){variant}(?![\w-])", told), variant
    for word in (*paper.protocols, *paper.presets()):
        assert f"`{word}`" in told, word


@pytest.mark.parametrize("name", ["smoke", "laptop", "gpu"])
def test_sizes_of_the_studio_are_told(name):
    cvsm, singers = (paper.preset(name) for paper in (find_papers()["cvsm"], find_papers()["singer_identity"]))
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"{cvsm.size.artists} ({singers.size.artists}) studio singers" in row
    assert cvsm.encoder == singers.encoder and cvsm.encoder in row.lower()


def test_the_house_is_shown():
    assert "](../figures/house.png)" in TEXT
    code = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    assert "save_house()" in code
