"""Running a paper's notebooks: what is passed, kept, repeated, reported; kills; the page. Tiny notebooks written here stand for the real ones."""
import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from vocalrep.report import reproduction as room
from vocalrep.project import VocalrepError
from vocalrep.report.reproduction import Outcome, declared_parameters, figures_folder, notebooks_folder, reproduce, run_notebook, save_table, write_page

DEFAULTS = "import os\ncorpus = 'studio'\npreset = 'laptop'\nseed: int = 0\nout = ''"
WRITES = """
from pathlib import Path
folder = Path(out) / "toy"; folder.mkdir(parents=True, exist_ok=True)
(folder / "NAME.csv").write_text(f"word,seed\\n{preset},{seed}\\n")
"""
COUNTS = "import os; open(os.path.join(os.environ['VOCALREP_HOME'], 'NAME.count'), 'a').write('x')"


def write_notebook(file: Path, *cells: str, tag: bool = True, claim: str = "Two and two are four.") -> Path:
    body = [nbformat.v4.new_markdown_cell(f"# The notebook {file.stem}\n\n> {claim}")] + [nbformat.v4.new_code_cell(c.replace("NAME", file.stem)) for c in cells]
    if tag:
        body[1].metadata["tags"] = ["parameters"]
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=body), file)
    return file


@pytest.fixture
def toy(tmp_path, monkeypatch):
    "A home with a paper of three notebooks, the second of which fails."
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(room.ORDER, "toy", ("first", "broken", "last"))
    for name in ("first", "last"):
        write_notebook(tmp_path / f"nbs/toy/{name}.ipynb", DEFAULTS, WRITES, COUNTS)
    write_notebook(tmp_path / "nbs/toy/broken.ipynb", DEFAULTS, COUNTS, "raise ValueError('<b>no</b> such luck')")
    return tmp_path


@pytest.fixture
def pretend(monkeypatch):
    "Notebooks that run in no time: the parameters cell is replaced by the parameters, the others are executed here."
    def execute(source, executed, parameters, progress, kernel=None):
        notebook = nbformat.read(source, 4)
        space = {}
        for k, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
            exec(cell.source, space)
            if k == 0:
                space.update(parameters)
        return notebook
    monkeypatch.setattr(room, "_execute", execute)
    monkeypatch.setattr(room, "start_kernel", lambda *_: None)


def runs(home, name):
    file = home / f"{name}.count"
    return len(file.read_text()) if file.exists() else 0


def test_everything_through_real_kernels(toy, capsys):
    with pytest.raises(VocalrepError) as found:
        reproduce("toy", preset="smoke", seed=3, seeds=2)
    assert "1 of 3 notebooks failed" in str(found.value) and "broken: cell 4 (raise ValueError" in str(found.value) and "such luck" in str(found.value)
    folder = room.reproduction_folder("toy", "studio", "smoke")
    assert (folder / "figures/toy/last.csv").read_text() == "word,seed\nsmoke,3\n"           # it went on, and the parameters arrived
    assert "such luck" in (folder / "broken.ipynb").read_text()                                # the failure can be looked at
    page = (folder / "index.html").read_text()
    assert "The notebook first" in page and "&lt;b&gt;no&lt;/b&gt; such luck" in page and "<td>smoke</td>" in page
    said = [line.split("]")[1].split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("[ ")]
    assert said == [["first", "done"], ["broken", "failed"], ["last", "done"]]
    write_notebook(toy / "nbs/toy/broken.ipynb", DEFAULTS, COUNTS)                             # repaired
    assert reproduce("toy", preset="smoke", seed=3, seeds=2) == folder / "index.html"
    assert (runs(toy, "first"), runs(toy, "broken"), runs(toy, "last")) == (1, 2, 1)


def test_a_kill_leaves_nothing_that_looks_finished(toy):
    write_notebook(toy / "nbs/toy/last.ipynb", DEFAULTS, COUNTS, "import time\nif not os.path.exists(os.path.join(os.environ['VOCALREP_HOME'], 'go')): time.sleep(60)")
    code = ("import sys; from vocalrep.report.reproduction import run_notebook\n"
            "results = [run_notebook(f'nbs/toy/{name}.ipynb', f'done/{name}.ipynb', dict(out='figures'), 'figures/toy', 'a').status for name in ('first', 'last')]\n"
            "sys.exit(results != ['kept', 'done'])")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=toy, start_new_session=True)
    deadline = time.monotonic() + 120
    while runs(toy, "last") < 1 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert runs(toy, "last") == 1
    (toy / "go").touch()
    subprocess.run([sys.executable, "-c", code], cwd=toy, check=True)
    assert (runs(toy, "first"), runs(toy, "last")) == (1, 2)


def test_kept_only_while_nothing_changed(toy, pretend):
    source, executed, figures = toy / "nbs/toy/first.ipynb", toy / "done/first.ipynb", toy / "figures/toy"
    run = lambda library="a", **parameters: run_notebook(source, executed, dict(out=str(toy / "figures"), **parameters), figures, library).status
    assert [run(), run()] == ["done", "kept"]
    assert [run(seed=1), run(seed=1), run(seed=0)] == ["done", "kept", "done"]                 # other parameters
    assert [run(seed=0, unknown=5)] == ["kept"]                                                # one that the notebook does not know is not passed
    assert [run("b", seed=0), run("b", seed=0)] == ["done", "kept"]                            # another library
    os.utime(source)
    assert run("b", seed=0) == "kept"                                                          # a fresh date is no change
    notebook = nbformat.read(source, 4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(notebook, source)
    assert run("b", seed=0) == "kept"                                                          # nor are outputs
    write_notebook(source, DEFAULTS, WRITES, COUNTS, "1 + 1")
    assert run("b", seed=0) == "done"                                                          # another source
    (figures / "first.csv").unlink()
    assert run("b", seed=0) == "done" and (figures / "first.csv").exists()                     # a file that is gone
    executed.write_text(executed.read_text()[:200])
    assert run("b", seed=0) == "done"                                                          # a damaged copy
    executed.write_text("[]")
    assert run("b", seed=0) == "done"


def test_files_written_are_those_of_this_run(toy, pretend):
    figures = toy / "figures/toy"
    figures.mkdir(parents=True)
    (figures / "somebody else's.csv").write_text("a\n1\n")
    outcome = run_notebook(toy / "nbs/toy/first.ipynb", toy / "done/first.ipynb", dict(out=str(toy / "figures")), figures, "a")
    assert outcome.wrote == ("first.csv",) and outcome.status == "done"


def test_declared_parameters(toy):
    assert declared_parameters(toy / "nbs/toy/first.ipynb") == {"corpus", "preset", "seed", "out"}
    untagged = write_notebook(toy / "untagged.ipynb", DEFAULTS, tag=False)
    with pytest.raises(VocalrepError, match="tagged `parameters`"):
        run_notebook(untagged, toy / "x.ipynb", {}, toy)


def test_real_notebooks_declare_what_is_common():
    folder = notebooks_folder("cvsm")
    there = [name for name in room.ORDER["cvsm"] if (folder / f"{name}.ipynb").exists()]
    assert {"table1_methods", "fig1_overview", "fig2_artists"} <= set(there)
    for name in there:
        assert {"corpus", "root", "preset", "seed", "out"} <= declared_parameters(folder / f"{name}.ipynb"), name


def test_only_some_of_them(toy, pretend):
    page = reproduce("toy", preset="smoke", only=["last", "first"], progress=False)
    assert page.exists() and runs(toy, "broken") == 0 and runs(toy, "last") == 1
    assert reproduce("toy", preset="smoke", only="last", progress=False) == page and runs(toy, "last") == 1


def test_the_page_keeps_what_is_not_run_now(toy, pretend, monkeypatch):
    reproduce("toy", preset="smoke", only=["first", "last"], progress=False)
    text = reproduce("toy", preset="smoke", only="last", progress=False).read_text()
    assert text.index("The notebook first") < text.index("The notebook last") and "older" not in text.replace("folder", "")
    monkeypatch.setattr(room, "_library_digest", lambda: "another")
    text = reproduce("toy", preset="smoke", only="last", progress=False).read_text()
    assert "1 of an older version of the code" in text and runs(toy, "first") == 1 and runs(toy, "last") == 2
    assert "The notebook first" not in reproduce("toy", preset="smoke", seed=5, only="last", progress=False).read_text()       # other parameters


def test_figures_go_where_asked(toy, pretend):
    reproduce("toy", preset="smoke", only="first", out=toy / "Büro figures", progress=False)
    assert (toy / "Büro figures/toy/first.csv").exists()


def test_home_is_the_same_for_all_kernels(toy, pretend, monkeypatch):
    write_notebook(toy / "nbs/toy/first.ipynb", DEFAULTS, "import os\nfrom pathlib import Path\nPath(os.environ['VOCALREP_HOME'], 'seen').touch()")
    monkeypatch.delenv("VOCALREP_HOME")
    reproduce("toy", preset="smoke", only="first", progress=False)
    assert (toy / "seen").exists() and "VOCALREP_HOME" not in os.environ


@pytest.mark.parametrize("wrong, message", [(dict(paper="cvsn"), "paper"), (dict(corpus="studios"), "corpus"), (dict(preset="tiny"), "preset"), (dict(protocol="x"), "protocol"),
                                            (dict(only=["fig99"]), "notebook"), (dict(root="/nowhere/at all"), "not a folder")])
def test_wrong_words_are_refused_before_anything_runs(toy, pretend, wrong, message):
    with pytest.raises(VocalrepError, match=message):
        reproduce(**{"paper": "toy", "preset": "smoke", "progress": False, **wrong})
    assert not (toy / "reproductions").exists() and runs(toy, "first") == 0


def test_missing_notebooks(toy, pretend, monkeypatch):
    (toy / "nbs/toy/last.ipynb").unlink()
    with pytest.raises(VocalrepError, match="has no last.ipynb"):
        reproduce("toy", preset="smoke")
    monkeypatch.setitem(room.ORDER, "installed", ("a",))
    with pytest.raises(VocalrepError, match="part of the repository"):
        notebooks_folder("installed")


def test_figures_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path))
    monkeypatch.delenv("IN_TEST", raising=False)
    committed = tmp_path / "figures"
    assert figures_folder("laptop") == figures_folder("gpu", None) == figures_folder("paper", "", "studio") == committed
    assert figures_folder("smoke", tmp_path / "mine") == tmp_path / "mine"
    for trial in (figures_folder("smoke"), figures_folder("laptop", "", "music4all")):
        assert committed not in (trial, *trial.parents) and tmp_path in trial.parents
    monkeypatch.setenv("IN_TEST", "1")
    assert figures_folder("laptop") != committed


class Strict(HTMLParser):
    "Every tag that opens must close, in order."
    def __init__(self):
        super().__init__()
        self.open, self.images, self.outside = [], 0, []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.images += tag == "img" and attributes["src"].startswith("data:image/png;base64,")
        self.outside += [v for k, v in attributes.items() if k == "src" and not v.startswith("data:")] + [tag] * (tag in ("link", "script", "iframe"))
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    import matplotlib.pyplot as plt
    import pandas as pd
    from vocalrep.report.plots import save_figure
    figures = tmp_path / "cvsm"
    figure = plt.figure(figsize=(1, 1))
    save_figure(figure, pd.DataFrame(dict(x=range(100), y=[f"<i>{k}</i>" for k in range(100)])), "drawn", folder=tmp_path, corpus="studio", encoder="small-cnn")
    plt.close(figure)
    save_table(pd.DataFrame(dict(system=["COLA"], value=[0.25])), "alone", folder=tmp_path, preset="smoke")
    notebook = write_notebook(tmp_path / "drawn.ipynb", DEFAULTS, "1", claim="*Yes*, <script>alert(1)</script>.")
    body = nbformat.read(notebook, 4)
    body.cells[2].outputs = [nbformat.v4.new_output("display_data", data={"text/markdown": "**All** is <b>well</b>."})]
    nbformat.write(body, notebook)
    outcomes = [Outcome("drawn", "done", 61.0, notebook, ("alone.csv", "alone.json", "drawn.csv", "drawn.json", "drawn.png", "drawn.svg")),
                Outcome("gone", "failed", 1.0, tmp_path / "gone.ipynb", message="cell 2: <oops>")]
    text = write_page(outcomes, tmp_path / "index.html", figures, "CVSM & co", dict(corpus="studio", preset="smoke")).read_text()
    parser = Strict()
    parser.feed(text)
    assert not parser.open and parser.images == 1 and not parser.outside
    assert "<script" not in text and "<i>0" not in text and "&lt;oops&gt;" in text and "CVSM &amp; co" in text
    assert "<strong>All</strong> is &lt;b&gt;well" in text and "<em>Yes</em>" in text and "do not replicate" in text
    assert "The first 60 of 100 rows" in text and "<td>0.25</td>" in text and "1 min 02 s" in text and "encoder: small-cnn" in text
    assert "do not replicate" not in write_page(outcomes, tmp_path / "index.html", figures, "x", dict(corpus="music4all")).read_text()


def test_published_numbers_are_printed_like_the_papers_table(tmp_path):
    import pandas as pd
    from vocalrep.report.published import beside_published
    ours = pd.DataFrame([dict(paper="cvsm", item="table2", system="COLA", mode="mixture", task="similarity", metric="eer", mean=0.123, sd=0.01, n=5, seeds=1, corpus="studio", preset="smoke", reduced="")])
    save_table(beside_published(ours, "table2"), "table2", folder=tmp_path)
    notebook = write_notebook(tmp_path / "table2.ipynb", DEFAULTS)
    text = write_page([Outcome("table2", "done", 1.0, notebook, ("table2.csv", "table2.json"))], tmp_path / "x.html", tmp_path / "cvsm", "x", dict(corpus="studio")).read_text()
    assert "12.30 ± 1.00</td>" in text and "29.28 ± 4.22" in text and "not run</td>" in text and "not run†" not in text


def test_an_empty_table_is_not_saved(tmp_path):
    import pandas as pd
    with pytest.raises(VocalrepError, match="empty"):
        save_table(pd.DataFrame(dict(a=[])), "nothing", folder=tmp_path)
    assert not list(tmp_path.rglob("*.csv"))
