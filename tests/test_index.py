"""The front page and the reference tell the truth: numbers stand in files, functions exist, links lead somewhere."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import vocalrep
from vocalrep.papers.registry import find_papers
from vocalrep.project import read_json
from vocalrep.report.house import FLOORS, read_rooms
from vocalrep.report.links import markdown_of

ROOT = Path(__file__).resolve().parents[1]
INDEX, REFERENCE = (read_json(ROOT / "nbs" / f"{name}.ipynb") for name in ("index", "reference"))
TEXT, TOLD = markdown_of(INDEX), markdown_of(REFERENCE)
README = (ROOT / "README.md").read_text()
LINKS = sorted({link for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link})


def test_readme_is_made_from_the_index_notebook():
    options = re.search(r"nbconvert (--to markdown .*?) --output-dir", (ROOT / "Makefile").read_text(), re.DOTALL)[1]
    command = [sys.executable, "-m", "nbconvert", *options.replace("\\\n", " ").split(), "--stdout", "nbs/index.ipynb"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert README.strip() == text.replace("](../", "](").strip(), "run `make notebooks`"


# -- numbers -------------------------------------------------------------------------------------------------------

def test_no_number_is_typed():
    "Scores, times and ratios come from files; what the front page types are names with a number in them."
    named = {"3.11", "2.0", "3.0", "4.0", "44.1"}
    typed = re.findall(r"(?<![\w./-])\d+\.\d+(?![\w/])", re.sub(r"\]\([^)]*\)", "]", TEXT))
    assert set(typed) <= named, "type no number: read it from a csv"
    assert "clearly" not in TEXT


def table_rows() -> dict[str, list[float]]:
    "System -> the numbers of README's table."
    lines = [line for line in README.splitlines() if line.startswith("|")]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows
            if len(row) > 2 and all(re.fullmatch(r"\d+\.\d", cell) for cell in row[1:])}


def test_the_table_is_what_the_files_say():
    rows, folder = table_rows(), ROOT / "figures" / "cvsm"
    assert len(rows) > 8
    for column, file in enumerate(("table2_mixtures.csv", "table3_vocals.csv")):
        table = pd.read_csv(folder / file)
        table = table[(table.task == "similarity") & (table.metric == "eer")].set_index("system").ours_mean
        assert {name: values[column] for name, values in rows.items()} == {
            name: round(100 * value, 1) for name, value in table.dropna().items()}
    real = pd.read_csv(folder / "real_voices.csv")
    values = (100 * real["eer" if "eer" in real else "value"]).round(1).tolist()
    if real.seed.nunique() < 2:                                 # else means over trainings
        assert {value for row in rows.values() for value in row[2:]} <= set(values)


# -- papers --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", find_papers())
def test_papers_are_cited(name):
    citation = find_papers()[name].citation
    for said in (citation.title, citation.authors, citation.venue, citation.url):
        assert said in TEXT
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    found = next(entry for entry in cited["references"] if entry["title"] == citation.title)
    assert ", ".join(f"{a['given-names']} {a['family-names']}" for a in found["authors"]) == citation.authors
    assert found["url"] == citation.url and cited["version"] == vocalrep.__version__


def test_the_front_page_has_an_example_commands_a_figure_and_says_what_is_missing():
    assert "git clone " in README and "make train" in README and "](CITATION.cff)" in README
    first, figure = README.index("```\nfrom vocalrep"), README.index("![")
    assert first < README.index("    git clone") < figure and README.count("![") == 1
    assert README.count("| not yet") == 1


# -- the reference -------------------------------------------------------------------------------------------------

def functions_table() -> list[str]:
    "The first column of the table of functions, row by row."
    table = TOLD.partition("| function | what it does |\n|---|---|\n")[2].partition("\n\n")[0]
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


# -- links ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link):
    assert link.startswith("../"), "the front page and README.md share their links, from nbs/ and from the root"
    assert (ROOT / link.removeprefix("../")).exists()


@pytest.mark.parametrize("text, link", re.findall(r"\[(\w+(?:/\w+)*/\d+_\w+)\]\(([^)]+)\)", TOLD))
def test_rooms_are_called_as_their_notebooks_are(text, link):
    assert link == f"library/{text}.ipynb"


@pytest.mark.parametrize("name", find_papers())
def test_every_notebook_of_every_paper_is_linked(name):
    missing = [notebook for notebook in find_papers()[name].notebooks if f"../nbs/{name}/{notebook}.ipynb" not in LINKS]
    assert not missing


@pytest.mark.parametrize("name", find_papers())
def test_variants_protocols_and_presets_are_told(name):
    paper = find_papers()[name]
    told = TOLD.partition("## Variants, protocols, presets")[2].partition("\n## ")[0]
    for variant in paper.trained:
        assert re.search(rf"(?<![\w-]){re.escape(variant)}(?![\w-])", told), variant
    for word in (*paper.protocols, *paper.presets()):
        assert f"`{word}`" in told, word


@pytest.mark.parametrize("name", ["smoke", "laptop", "gpu"])
def test_sizes_of_the_studio_are_told(name):
    cvsm, singers = (paper.preset(name) for paper in (find_papers()["cvsm"], find_papers()["singer_identity"]))
    row = next(line for line in TOLD.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"{cvsm.size.artists} ({singers.size.artists}) studio singers" in row
    assert cvsm.encoder == singers.encoder and cvsm.encoder in row.lower()


def test_the_house_is_shown():
    assert "](../figures/house.png)" in TOLD
    code = "\n".join("".join(cell["source"]) for cell in REFERENCE["cells"] if cell["cell_type"] == "code")
    assert "save_house()" in code
