"Running a paper's notebooks: what is passed, kept, repeated, reported, stopped. Tiny ones stand for the real ones."
import errno
import gc
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import nbformat
import pytest

import vocalrep
from vocalrep.papers.registry import find_papers
from vocalrep.project import VocalrepError
from vocalrep.report import notebooks, reproduction
from vocalrep.report.notebooks import declared_parameters, library_digest, library_files, run_notebook
from vocalrep.report.paper import Citation, Paper
from vocalrep.report.reproduction import figures_folder, notebooks_folder, reproduce, reproduction_folder

DEFAULTS = "import os\ncorpus = 'studio'\npreset = 'laptop'\nseed: int = 0\nout = ''"
WRITES = """
from pathlib import Path
folder = Path(out) / "toy"
folder.mkdir(parents=True, exist_ok=True)
(folder / "NAME.csv").write_text(f"word,seed\\n{preset},{seed}\\n")
"""
COUNTS = "import os\nopen(os.path.join(os.environ['VOCALREP_HOME'], 'NAME.count'), 'a').write('x')"
WAITS = "import time\nif not os.path.exists(os.path.join(os.environ['VOCALREP_HOME'], 'go')):\n    time.sleep(60)"


def nothing(*_) -> dict:
    return {}


def toy_paper(*names: str, name: str = "toy", **fields) -> Paper:
    "A paper of these notebooks, without systems."
    return Paper(name, Citation("Toy", "Nobody", "Nowhere", ""), sound=None, protocols={"released": None},
                 presets_of=lambda protocol: {"smoke": None, "laptop": None}, variants_of=nothing, tasks_of=nothing,
                 systems=(), notebooks=names, **fields)


PAPER = toy_paper("first", "broken", "last")


def write_notebook(file: Path, *cells: str, tag: bool = True) -> Path:
    body = [nbformat.v4.new_code_cell(cell.replace("NAME", file.stem)) for cell in cells]
    if tag:
        body[0].metadata["tags"] = ["parameters"]
    claim = nbformat.v4.new_markdown_cell(f"# The notebook {file.stem}\n\n> Two and two are four.")
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[claim, *body]), file)
    return file


@pytest.fixture
def toy(tmp_path, monkeypatch):
    "A home with a paper of three notebooks, the second of which fails."
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path))
    monkeypatch.setattr(reproduction, "REPOSITORY", tmp_path)
    monkeypatch.chdir(tmp_path)
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
    started = []
    monkeypatch.setattr(notebooks, "_execute", execute)
    monkeypatch.setattr(reproduction, "start_kernel", lambda folder, imports: started.append(tuple(imports)))
    return started


def runs(home, name):
    file = home / f"{name}.count"
    return len(file.read_text()) if file.exists() else 0


# ---- through real kernels

def test_everything_through_real_kernels(toy, capsys):
    with pytest.raises(VocalrepError) as found:
        reproduce(PAPER, preset="smoke", seed=3, seeds=2)
    said = str(found.value)
    assert "1 of 3 notebooks failed" in said and "broken: cell 4 (raise ValueError" in said and "such luck" in said
    folder = reproduction_folder(PAPER, "studio", "smoke")
    assert (folder / "figures/toy/last.csv").read_text() == "word,seed\nsmoke,3\n"     # it went on; parameters arrived
    assert "such luck" in (folder / "broken.ipynb").read_text()                        # the failure can be looked at
    page = (folder / "index.html").read_text()
    assert "The notebook first" in page and "&lt;b&gt;no&lt;/b&gt; such luck" in page and "<td>smoke</td>" in page
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[ ")]
    assert [line.split("]")[1].split()[:2] for line in printed] == [["first", "done"], ["broken", "failed"],
                                                                    ["last", "done"]]
    write_notebook(toy / "nbs/toy/broken.ipynb", DEFAULTS, COUNTS)                     # repaired
    assert reproduce(PAPER, preset="smoke", seed=3, seeds=2) == folder / "index.html"
    assert (runs(toy, "first"), runs(toy, "broken"), runs(toy, "last")) == (1, 2, 1)


def test_ctrl_c_ends_at_once_and_quietly(toy, capfd):
    "The kernel ends, nobody else's tracebacks are shown, the lock is gone, and what is finished is kept."
    write_notebook(toy / "nbs/toy/last.ipynb", DEFAULTS, COUNTS, WAITS)

    def interrupt():
        while not runs(toy, "last"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        reproduce(toy_paper("first", "last"), preset="smoke")
    gc.collect()
    said = "".join(capfd.readouterr())
    assert "done" in said and not any(word in said for word in ("Traceback", "DeadKernelError", "died", "ERROR"))
    assert not list(toy.glob("reproductions/.*"))
    (toy / "go").touch()
    reproduce(toy_paper("first", "last"), preset="smoke", progress=False)
    assert (runs(toy, "first"), runs(toy, "last")) == (1, 2)


# ---- one notebook

def test_kept_only_while_nothing_changed(toy, pretend):
    source, executed, figures = toy / "nbs/toy/first.ipynb", toy / "done/first.ipynb", toy / "figures/toy"

    def run(library="a", **parameters):
        return run_notebook(source, executed, dict(out=str(toy / "figures"), **parameters), figures, library).status

    assert [run(), run()] == ["done", "kept"]
    assert [run(seed=1), run(seed=1), run(seed=0)] == ["done", "kept", "done"]         # other parameters
    assert run(seed=0, unknown=5) == "kept"                       # one that the notebook does not know is not passed
    assert [run("b", seed=0), run("b", seed=0)] == ["done", "kept"]                    # another library
    os.utime(source)
    assert run("b", seed=0) == "kept"                                                  # a fresh date is no change
    notebook = nbformat.read(source, 4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(notebook, source)
    assert run("b", seed=0) == "kept"                                                  # nor are outputs
    write_notebook(source, DEFAULTS, WRITES, COUNTS, "1 + 1")
    assert run("b", seed=0) == "done"                                                  # another source
    (figures / "first.csv").unlink()
    assert run("b", seed=0) == "done" and (figures / "first.csv").exists()             # a file that is gone
    for damaged in (executed.read_text()[:200], "[]"):
        executed.write_text(damaged)
        assert run("b", seed=0) == "done"                                              # a damaged copy


def test_files_written_are_those_of_this_run(toy, pretend):
    figures = toy / "figures/toy"
    figures.mkdir(parents=True)
    (figures / "somebody else's.csv").write_text("a\n1\n")
    asked = dict(out=str(toy / "figures"))
    outcome = run_notebook(toy / "nbs/toy/first.ipynb", toy / "done/first.ipynb", asked, figures, "a")
    assert outcome.wrote == ("first.csv",) and outcome.status == "done"


def test_declared_parameters(toy):
    assert declared_parameters(toy / "nbs/toy/first.ipynb") == {"corpus", "preset", "seed", "out"}
    untagged = write_notebook(toy / "untagged.ipynb", DEFAULTS, tag=False)
    with pytest.raises(VocalrepError, match="tagged `parameters`"):
        run_notebook(untagged, toy / "x.ipynb", {}, toy)


def test_the_whole_library_counts_but_what_only_runs_notebooks(tmp_path, monkeypatch):
    copy = tmp_path / "vocalrep"
    shutil.copytree(Path(vocalrep.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    before = library_digest()
    monkeypatch.setattr(vocalrep, "__file__", str(copy / "__init__.py"))
    assert library_digest() == before                                                  # wherever it is installed
    folders = {name.rpartition("/")[0] for name in library_files()}
    assert {"", "studio", "data", "models", "training", "evaluation", "report", "papers"} < folders
    assert {f"papers/{name}" for name in find_papers()} < folders
    for name in ("cli.py", "_modidx.py", "report/page.py", "report/notebooks.py", "report/reproduction.py"):
        (copy / name).write_text("changed")
        assert library_digest() == before, name
    for name in ("project.py", "data/store.py", "report/page2.py", next(f"{f}/paper.py" for f in folders if "/" in f)):
        (copy / name).write_text("changed")
        assert library_digest() != before, name
        before = library_digest()


def test_real_notebooks_declare_what_is_common():
    for paper in find_papers().values():
        folder = notebooks_folder(paper)
        declared = {name: declared_parameters(folder / f"{name}.ipynb") for name in paper.notebooks}
        assert declared and all({"preset", "out"} <= names for names in declared.values())
        if paper.name == "cvsm":
            assert {"table1_methods", "fig1_overview", "fig2_artists"} <= set(declared)
            assert all({"corpus", "root", "seed"} <= names for names in declared.values())


# ---- some of them, and where things go

def test_only_some_of_them(toy, pretend):
    page = reproduce(PAPER, preset="smoke", only=["last", "first"], progress=False)
    assert page.exists() and runs(toy, "broken") == 0 and runs(toy, "last") == 1
    assert reproduce(PAPER, preset="smoke", only="last", progress=False) == page and runs(toy, "last") == 1


def test_the_page_keeps_what_is_not_run_now(toy, pretend, monkeypatch):
    def page(**changed):
        asked = dict(preset="smoke", only="last", progress=False) | changed
        return reproduce(PAPER, **asked).read_text()

    page(only=["first", "last"])
    text = page()
    assert text.index("The notebook first") < text.index("The notebook last")
    assert "older" not in text.replace("folder", "")
    monkeypatch.setattr(reproduction, "library_digest", lambda: "another")
    assert "1 of an older version of the code" in page() and (runs(toy, "first"), runs(toy, "last")) == (1, 2)
    assert "The notebook first" not in page(seed=5)                                    # other parameters


def test_kernels_start_with_the_imports_of_the_paper(toy, pretend):
    paper = toy_paper("first", "last", imports=("json", "math"))
    reproduce(paper, preset="smoke", progress=False)
    reproduce(paper, preset="smoke", progress=False)
    assert pretend == [("json", "math")] * 2                                           # none for what is kept


def test_figures_go_where_asked(toy, pretend):
    reproduce(PAPER, preset="smoke", only="first", out=toy / "Büro figures", progress=False)
    assert (toy / "Büro figures/toy/first.csv").exists()


def test_home_is_the_same_for_all_kernels(toy, pretend, monkeypatch):
    seen = "import os\nfrom pathlib import Path\nPath(os.environ['VOCALREP_HOME'], 'seen').touch()"
    write_notebook(toy / "nbs/toy/first.ipynb", DEFAULTS, seen)
    monkeypatch.delenv("VOCALREP_HOME")
    reproduce(PAPER, preset="smoke", only="first", progress=False)
    assert (toy / "seen").exists() and "VOCALREP_HOME" not in os.environ


@pytest.mark.parametrize("wrong, message", [
    (dict(corpus="studios"), "corpus"),
    (dict(preset="tiny"), "preset"),
    (dict(preset="gpu"), "preset"),                        # not one of this paper's
    (dict(protocol="x"), "protocol"),
    (dict(only=["fig99"]), "notebook"),
    (dict(root="/nowhere/at all"), "not a folder"),
    (dict(corpus="vctk"), "the corpus vctk needs a root"),
    (dict(device="cpu:7"), "unknown device 'cpu:7'"),
    (dict(device="cuda:99"), "device 'cuda:99'"),
    (dict(seed=-1), "seed is -1"),
    (dict(seeds=0), "number of seeds is 0"),
    (dict(seed=2**32 - 2, seeds=3), "seed is 4294967294"),
    (dict(out_of_domain="spotify=."), "unknown corpus 'spotify'"),
    (dict(out_of_domain="vctk=/nowhere/at all"), "root '/nowhere/at all' of the corpus vctk is not a folder"),
    (dict(out_of_domain="techniques"), "no notebook among first, broken, last scores on other corpora"),
    (dict(out="broken.ipynb/figures"), "cannot write to .*broken.ipynb")])
def test_wrong_words_are_refused_before_anything_runs(toy, pretend, wrong, message):
    (toy / "broken.ipynb").touch()
    with pytest.raises(VocalrepError, match=message):
        reproduce(PAPER, **{"preset": "smoke", "progress": False, **wrong})
    assert not list(toy.glob("reproductions/*/*.ipynb")) and runs(toy, "first") == 0


def test_folders_of_other_corpora_are_passed_in_full(toy, pretend):
    write_notebook(toy / "nbs/toy/first.ipynb", "out_of_domain = out = preset = seed = ''", WRITES)
    (toy / "VCTK").mkdir()
    reproduce(PAPER, preset="smoke", only="first", out_of_domain="vctk=VCTK;techniques", progress=False)
    executed = nbformat.read(reproduction_folder(PAPER, "studio", "smoke") / "first.ipynb", 4)
    assert executed.metadata["vocalrep"]["parameters"]["out_of_domain"] == f"vctk={toy / 'VCTK'};techniques="


def test_a_full_disk_is_one_error(toy, pretend, monkeypatch):
    "Whoever writes first: papermill, which then is a failed notebook, or the page."
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as full:
        full.setattr(notebooks, "_execute", no_space)
        with pytest.raises(VocalrepError, match="1 of 1 notebooks failed:\n  first: OSError: .*No space left"):
            reproduce(PAPER, preset="smoke", only="first", progress=False)
    with monkeypatch.context() as full:
        full.setattr(os, "replace", no_space)
        with pytest.raises(VocalrepError, match="cannot write .*first.ipynb: No space left on device; free some space"):
            reproduce(PAPER, preset="smoke", only="first", progress=False)
    assert not list(toy.rglob(".*~*"))
    reproduce(PAPER, preset="smoke", only="first", progress=False)


def test_two_at_once_wait_for_each_other(toy, pretend, capsys):
    from vocalrep.project import alone
    folder, seen = reproduction_folder(PAPER, "studio", "smoke"), []
    with alone(folder):
        other = threading.Thread(target=lambda: seen.append(
            reproduce(PAPER, preset="smoke", only="first", progress=False)))
        other.start()
        time.sleep(0.5)
        assert runs(toy, "first") == 0
    other.join()
    assert seen and runs(toy, "first") == 1 and "waiting for another job" in capsys.readouterr().out


def test_notebooks_of_the_working_folder_are_never_run(tmp_path, monkeypatch):
    "What is called `nbs/cvsm` there may be anything."
    paper = find_papers()["cvsm"]
    here = tmp_path / "work" / "below"
    for folder in (here, tmp_path):
        write_notebook(folder / "nbs/cvsm/fig1_overview.ipynb", DEFAULTS)
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("VOCALREP_HOME", str(tmp_path))
    assert notebooks_folder(paper) == Path(vocalrep.__file__).resolve().parents[1] / "nbs/cvsm"


def test_bad_notebooks_are_refused_before_anything_runs(toy, pretend):
    write_notebook(toy / "nbs/toy/last.ipynb", DEFAULTS, tag=False)
    with pytest.raises(VocalrepError, match="tagged `parameters`"):
        reproduce(PAPER, preset="smoke", progress=False)
    (toy / "nbs/toy/last.ipynb").unlink()
    with pytest.raises(VocalrepError, match="has no last.ipynb"):
        reproduce(PAPER, preset="smoke", progress=False)
    assert runs(toy, "first") == 0
    with pytest.raises(VocalrepError, match="part of the repository"):
        notebooks_folder(toy_paper("a", name="installed"))


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
