"""The plan of the house is kept: who imports whom, what general rooms may not say, how large rooms and cells are.

Each rule is a function from rooms (or cells) to faults. It is asked about the package, where it may find none, and
about a made-up room that breaks it, where it must find one.
"""
import ast
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
PACKAGES = ("project", "studio", "data", "models", "training", "evaluation", "report", "papers", "cli")
ROOM_LINES, EXPORTED_LINES, CELL_LINES, WIDTH = 400, 40, 45, 120


# -- rooms ---------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Room:
    "An exported module."
    name: str                # below the package: "data.store"
    text: str
    number: int = 0          # of its notebook

    @property
    def package(self):
        return self.name.split(".")[0]

    @property
    def paper(self):
        "The folder of the paper that it belongs to, if any."
        parts = self.name.split(".")
        return parts[1] if parts[0] == "papers" and len(parts) > 2 else ""

    @cached_property
    def tree(self):
        return ast.parse(self.text)

    @cached_property
    def imports(self):
        "What it imports from the package: (module, name or None, line), modules below the package."
        here, found = ["vocalrep", *self.name.split(".")], []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, None, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = here[:-node.level] if node.level else []
                module = ".".join([*base, *filter(None, [node.module])])
                found += [(module, alias.name, node.lineno) for alias in node.names]
        inside = [f for f in found if f[0] == "vocalrep" or f[0].startswith("vocalrep.")]
        return [(module.removeprefix("vocalrep").lstrip("."), name, line) for module, name, line in inside]


def imported_rooms(room, rooms):
    "Names of the rooms, or bare packages, that a room imports."
    names = {room.name for room in rooms}
    for module, name, line in room.imports:
        submodule = f"{module}.{name}".lstrip(".")
        yield (submodule if submodule in names or submodule in PACKAGES else module), line


def notebook_numbers():
    "Number of the notebook that exports each room."
    numbers = {}
    for path in (REPO / "nbs/library").rglob("*.ipynb"):
        room = re.search(r"#\| default_exp ([\w.]+)", path.read_text())
        if room and ".ipynb_checkpoints" not in path.parts:
            numbers[room[1]] = int(path.name.split("_")[0])
    return numbers


def find_rooms():
    "Every exported room."
    numbers, rooms = notebook_numbers(), []
    for path in sorted((REPO / "vocalrep").rglob("*.py")):
        name = ".".join(path.relative_to(REPO / "vocalrep").with_suffix("").parts)
        if path.name not in ("__init__.py", "_modidx.py"):
            rooms.append(Room(name, path.read_text(), numbers.get(name, 0)))
    return rooms


ROOMS = find_rooms()


# -- who imports whom ----------------------------------------------------------------------------------------------

def upward_imports(rooms):
    "Imports of a package below, or of a room with a higher number in the same package."
    numbers = {room.name: room.number for room in rooms}
    for room in rooms:
        for other, line in imported_rooms(room, rooms):
            package = other.split(".")[0]
            if package not in PACKAGES:
                continue
            higher = PACKAGES.index(package) - PACKAGES.index(room.package)
            same_floor = other.rpartition(".")[0] == room.name.rpartition(".")[0]
            if higher > 0 or (same_floor and numbers.get(other, 0) > room.number):
                yield f"{room.name}:{line} imports {other}, which lies below it"


def import_cycles(rooms):
    "Rooms that come back to themselves."
    graph = {room.name: {other for other, _ in imported_rooms(room, rooms)} for room in rooms}
    for name in graph:
        seen, ahead = set(), set(graph[name])
        while ahead:
            other = ahead.pop()
            seen.add(other)
            ahead |= graph.get(other, set()) - seen
        if name in seen:
            yield f"{name} imports itself through others"


def paper_imports(rooms):
    "Imports of a paper from outside its folder; `cli` may ask the registry."
    for room in rooms:
        for other, line in imported_rooms(room, rooms):
            parts = other.split(".")
            foreign = parts[0] == "papers" and (len(parts) > 2 or parts[-1] != "registry")
            if room.package == "papers":
                foreign = foreign and len(parts) > 2 and parts[1] != room.paper
            elif room.package != "cli":
                foreign = parts[0] == "papers"
            if foreign:
                yield f"{room.name}:{line} imports {other}"
        if room.package not in ("papers", "cli") and "vocalrep.papers" in spoken(room.tree):
            yield f"{room.name} knows vocalrep.papers by name"


def private_imports(rooms):
    "Names with an underscore that come from another room, imported or reached through it."
    for room in rooms:
        for module, name, line in room.imports:
            if name and name.startswith("_") and not name.startswith("__"):
                yield f"{room.name}:{line} imports {name} of {module}"
        known = {name for _, name, _ in room.imports if name}
        modules = {other.rpartition(".")[2] for other, _ in imported_rooms(room, rooms)} & known
        for node in ast.walk(room.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                if node.attr.startswith("_") and not node.attr.startswith("__"):
                    yield f"{room.name}:{node.lineno} reaches for {node.value.id}.{node.attr}"


# -- what general rooms do not say ---------------------------------------------------------------------------------

def silent_strings(tree):
    "Constants that say nothing to anybody: docstrings, annotations, `__all__`."
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value
        elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            yield from ast.walk(node.value)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(annotation, ast.AST):
                yield from ast.walk(annotation)


def spoken(tree):
    "All strings that are no such constants, in lines."
    silent = {id(node) for node in silent_strings(tree)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in silent)
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


def names_of_papers():
    "Short names of all papers and of all that they train."
    from vocalrep.papers.registry import find_papers
    papers = find_papers()
    return {*papers, *(name for paper in papers.values() for name in paper.trained)}


def named_papers(rooms, names):
    "Strings of general rooms in which a paper or one of its variants is named."
    words = map(re.escape, sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(words)})(?![A-Za-z0-9])")
    for room in rooms:
        if room.package == "papers":
            continue
        silent = {id(node) for node in silent_strings(room.tree)}
        for node in ast.walk(room.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                if found := pattern.search(node.value):
                    yield f"{room.name}:{node.lineno} names {found[0]} in {node.value[:60]!r}"


# -- style ---------------------------------------------------------------------------------------------------------

def exported_lines(text):
    "Lines that people wrote: without nbdev's header, list of names and cell marks."
    return len(re.sub(r"\A.*?__all__ = \[.*?\]\n", "", text, flags=re.S).split("\n")) - text.count("\n# %% ")


def large_rooms(rooms):
    "Rooms that should be two."
    for room in rooms:
        if (lines := exported_lines(room.text)) > ROOM_LINES:
            yield f"{room.name} exports {lines} lines"


def named_lambdas(rooms):
    "Functions that were given a name by an assignment."
    for room in rooms:
        for node in ast.walk(room.tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Lambda):
                yield f"{room.name}:{node.lineno} names a lambda"


def wide_lines(rooms):
    "Lines that are cut off on a page; nbdev writes the list of names."
    for room in rooms:
        written = re.search(r"^__all__ = \[.*?\]$", room.text, flags=re.S | re.M)
        listed = set(written[0].split("\n")) if written else set()
        for number, line in enumerate(room.text.split("\n"), 1):
            if len(line) > WIDTH and line not in listed:
                yield f"{room.name}:{number} is {len(line)} characters wide"


def scaling_arguments(rooms):
    "A level that is carried beside an encoder: encoders know theirs. (Samplers make waveforms of one: `data`.)"
    for room in rooms:
        records = [node for node in ast.walk(room.tree) if isinstance(node, ast.Call)
                   and getattr(node.func, "id", getattr(node.func, "attr", "")) == "SamplingRules"]
        allowed = {id(keyword) for record in records for keyword in record.keywords}
        for node in ast.walk(room.tree):
            name = node.arg if isinstance(node, (ast.arg, ast.keyword)) and id(node) not in allowed else ""
            if name == "scaling" and room.package != "data":
                yield f"{room.name}:{node.lineno if hasattr(node, 'lineno') else '?'} has an argument {name}"


def large_cells(name, cells):
    "Cells that should be two: exported ones, and any."
    for number, source in enumerate(cells):
        lines = [line for line in source.strip("\n").split("\n") if not line.startswith("#|")]
        exported = source.lstrip().startswith("#| export")
        if len(lines) > (EXPORTED_LINES if exported else CELL_LINES):
            yield f"{name}, cell {number}: {len(lines)} lines{', exported' if exported else ''}"


def cells_of(path):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


# -- the package keeps the rules -----------------------------------------------------------------------------------

RULES = {rule.__name__: rule for rule in (upward_imports, import_cycles, paper_imports, private_imports, large_rooms,
                                          named_lambdas, wide_lines, scaling_arguments)}


def report(faults):
    return "\n" + "\n".join(faults)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    faults = list(RULES[rule](ROOMS))
    assert not faults, report(faults)


def test_every_room_stands_on_a_floor_and_comes_from_a_notebook():
    numbers = notebook_numbers()
    assert {room.package for room in ROOMS} == set(PACKAGES) and len(ROOMS) > 30
    assert {room.name for room in ROOMS} == set(numbers)


def test_general_rooms_name_no_paper():
    names = names_of_papers()
    assert len(names) > 10
    faults = list(named_papers(ROOMS, names))
    assert not faults, report(faults)


def test_cells_are_small():
    notebooks = [path for path in (REPO / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    faults = [fault for path in notebooks for fault in large_cells(path.relative_to(REPO / "nbs"), cells_of(path))]
    assert not faults, report(faults)


# -- and each rule can fail ----------------------------------------------------------------------------------------

GOOD = "from vocalrep.project import choose\n\ndef area(r):\n    \"As in CVSM.\"\n    return r ** 2\n"
BAD = {
    "upward_imports": ("data.bad", "from ..training.loop import train"),
    "import_cycles": ("project", "from .data import store"),
    "paper_imports": ("report.bad", "import vocalrep.papers.registry"),
    "private_imports": ("data.bad", "from .store import _hidden"),
    "large_rooms": ("data.bad", "x = 1\n" * (ROOM_LINES + 1)),
    "named_lambdas": ("data.bad", "square = lambda x: x ** 2"),
    "wide_lines": ("data.bad", "# " + "x" * WIDTH),
    "scaling_arguments": ("report.bad", "def embed(store, encoder, scaling='peak'):\n    pass"),
}
FURTHER = {
    "upward_imports": ("studio.bad", "def f():\n    from vocalrep.data import store", 0),
    "paper_imports": ("cli", "from .papers.cvsm.paper import PAPER"),
    "private_imports": ("data.bad", "from vocalrep.data import store\nstore._hidden()"),
    "named_lambdas": ("data.bad", "def f():\n    square: object = lambda x: x ** 2"),
    "scaling_arguments": ("cli", "embed(store, scaling='peak')"),
}
MORE = [("upward_imports", ("data.early", "from .store import Store", -1)),
        ("paper_imports", ("papers.mine.paper", "from ..yours.paper import PAPER")),
        ("paper_imports", ("report.hidden", "import importlib\nimportlib.import_module('vocalrep.papers.mine')"))]
CASES = [*BAD.items(), *FURTHER.items(), *MORE]
PAPER_ROOMS = [Room(f"papers.{name}.paper", "PAPER = None") for name in ("cvsm", "mine", "yours")]


@pytest.mark.parametrize("rule, room", CASES, ids=[f"{rule}-{room[0]}" for rule, room in CASES])
def test_a_bad_room_is_found(rule, room):
    others = [Room("data.store", "from vocalrep.project import home"), Room("training.loop", ""), *PAPER_ROOMS]
    good = [Room("project", ""), Room("cli", "from .papers.registry import find_papers"), Room("data.good", GOOD)]
    assert not list(RULES[rule]([*others, *good]))
    kept = [r for r in good if r.name != room[0]]
    assert len(list(RULES[rule]([*others, *kept, Room(*room)]))) >= 1


def test_every_rule_is_proved():
    assert set(BAD) == set(RULES)


@pytest.mark.parametrize("text, found", [
    ("style = dict(SONG=1)['SONG']", 1), ("x = f'{1} of my_paper'", 1), ("raise ValueError('see my_paper')", 1),
    ("def f():\n    'As in SONG, section 2.'\n    # SONG", 0), ("def f(x: 'SONG') -> 'SONG': ...", 0),
    ("x = 'SONGS and A-SONGS'", 0), ("__all__ = ['SONG']", 0), ("x = 'SONG-B is SONG'", 1)])
def test_a_named_paper_is_found(text, found):
    names = {"my_paper", "SONG", "SONG-B"}
    assert len(list(named_papers([Room("report.bad", text)], names))) == found
    assert not list(named_papers([Room("papers.mine.paper", text)], names))


def test_a_large_cell_is_found():
    short = ["#| export\n" + "x = 1\n" * EXPORTED_LINES, "x = 1\n" * CELL_LINES]
    assert not list(large_cells("good", short))
    assert len(list(large_cells("bad", [source + "x = 1\n" for source in short]))) == 2


# -- rooms import without authoring tools --------------------------------------------------------------------------

TOOLS = ["midirenderer", "mido", "openunmix", "soundfile", "parselmouth", "transformers", "papermill", "nbdev",
         "IPython", "librosa"]
DRAWING = ["matplotlib", "seaborn"]
IMPORT_ALL = """
import importlib, json, sys
groups = json.loads(sys.argv[1])
failures = {}
for tools, rooms in groups:
    for name in [m for m in sys.modules if sys.modules[m] is None]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(tools))
    for room in rooms:
        try:
            importlib.import_module(room)
        except Exception as error:
            failures[room] = repr(error)
print(json.dumps(failures))
"""


def import_failures(*groups, path=""):
    "Which rooms cannot be imported where tools are missing: groups of (tools, rooms), one process for all."
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, json.dumps(groups)], capture_output=True, text=True,
                          cwd=path or None)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_rooms_import_without_authoring_tools(tmp_path):
    "Training must run where only the numerical packages are installed; drawing rooms may draw, the command may parse."
    (tmp_path / "bad_room.py").write_text("import soundfile\n")
    training = [f"vocalrep.{room.name}" for room in ROOMS if PACKAGES.index(room.package) < PACKAGES.index("report")]
    others = [f"vocalrep.{room.name}" for room in ROOMS if f"vocalrep.{room.name}" not in training]
    assert len(training) > 25 and len(others) > 8
    failures = import_failures((TOOLS + DRAWING + ["typer"], [*training, "bad_room"]), (TOOLS, others), path=tmp_path)
    assert "soundfile" in failures.pop("bad_room")
    assert not failures, report(f"{room}: {why}" for room, why in failures.items())
