"Every benchmark still works: each script at a tiny size, as its command line runs it, in one process."
import json
import math
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "common.py")


@pytest.fixture
def command(monkeypatch, tmp_path):
    "Runs a script as a command would, and gives the tables that it wrote."
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(script, *words):
        file = tmp_path / f"{script.stem}.json"
        monkeypatch.setattr(sys, "argv", [str(script), "--tiny", "--json", str(file), *words])
        runpy.run_path(str(script), run_name="__main__")
        return json.loads(file.read_text())
    yield run
    sys.modules.pop("common", None)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tiny_run_writes_its_tables(script, command, capsys):
    written = command(script)
    printed = capsys.readouterr().out
    assert written["tiny"] and "torch" in written["machine"] and written["tables"]
    for title, rows in written["tables"].items():
        assert title in printed and rows and all(row.keys() == rows[0].keys() for row in rows)
        numbers = [value for row in rows for value in row.values() if not isinstance(value, str)]
        assert numbers and all(math.isfinite(value) and value >= 0 for value in numbers)


def test_each_script_says_how_it_is_run():
    assert len(SCRIPTS) > 5
    for script in SCRIPTS:
        text = script.read_text()
        assert f"python benchmarks/{script.name}" in text and "--tiny" in text and "--json" in text, script.name
