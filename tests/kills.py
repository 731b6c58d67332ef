"""Jobs that are killed at a random moment, again and again, end in the bytes of an undisturbed one.

    python tests/kills.py 100                           # kills, shared by prepare, train and reproduce
    python tests/kills.py 30 --jobs train --seed 3      # others, of one of them

Each attempt is a process that this one forks, so that everything is imported once. It is ended by SIGKILL, and then
begun again, until it comes to its end before the next kill; what it leaves must then be what the undisturbed one left,
and nothing beside it. Times, which no two runs share, are left out of the comparison.
"""
import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
TIMES = ("seconds", "pairs_per_second")
NOTEBOOK = """
import json
from pathlib import Path
from vocalrep.project import writing
for k in range(3):
    with writing(Path(out) / "toy" / f"NAME-{k}.json") as file:
        file.write_text(json.dumps(dict(preset=preset, square=k**2)))
"""


# ---- the jobs

def corpus():
    from vocalrep.data.corpora import studio_corpus
    return studio_corpus(artists=20, clips=1, seconds=5.0)


def prepare(folder: Path, shared: Path) -> None:
    "Twenty short songs, in a few chunks."
    from vocalrep.data.prepare import prepare
    prepare(corpus(), folder, workers=1, progress=False)


def train(folder: Path, shared: Path) -> None:
    "Six steps of two stages, each with a validation, on the undisturbed store."
    from vocalrep.data.corpora import Size
    from vocalrep.data.store import Store
    from vocalrep.papers.cvsm.variants import RELEASED, variants
    from vocalrep.training.loop import train
    from vocalrep.training.variants import Preset
    tiny = Preset("smoke", Size(40, 4, 10.0), "small-cnn", steps=6, step_pairs=16, batch=8, validate_every=1,
                  patience=2)
    train(variants(RELEASED, tiny)["CVSM-AF"], Store(shared / "prepare"), tiny, out=folder, device="cpu",
          progress=False)


def reproduce(folder: Path, shared: Path) -> None:
    "A paper of two notebooks that write files."
    from vocalrep.report import reproduction
    from vocalrep.report.paper import Citation, Paper
    os.environ["VOCALREP_HOME"], reproduction.REPOSITORY = str(folder), shared
    paper = Paper("toy", Citation("Toy", "Nobody", "Nowhere", ""), sound=None, protocols={"released": None},
                  presets_of=lambda protocol: {"smoke": None}, variants_of=None, tasks_of=None, systems=(),
                  notebooks=("first", "last"))
    reproduction.reproduce(paper, preset="smoke", device="cpu", progress=False)


JOBS = dict(prepare=prepare, train=train, reproduce=reproduce)


def write_notebooks(shared: Path) -> None:
    "The notebooks of the paper."
    import nbformat
    for name in ("first", "last"):
        cells = [nbformat.v4.new_code_cell(text) for text in ("preset = ''\nout = ''", NOTEBOOK.replace("NAME", name))]
        cells[0].metadata["tags"] = ["parameters"]
        file = shared / f"nbs/toy/{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {name}"), *cells]), file)


# ---- what they leave

def timeless(value):
    "JSON without times."
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def content(file: Path) -> str:
    "What must be equal of a file: its bytes, without times."
    if file.suffix == ".json":
        return json.dumps(timeless(json.loads(file.read_text())))
    if file.name == "history.csv":
        import pandas as pd
        return pd.read_csv(file, dtype=str).drop(columns="seconds").to_csv()
    if file.suffix == ".ipynb":
        cells = json.loads(file.read_text())["cells"]
        return json.dumps([[cell["source"], cell.get("outputs")] for cell in cells])
    if file.suffix == ".html":
        return "a page"                                                  # it tells what was kept, and how long it took
    return hashlib.sha256(file.read_bytes()).hexdigest()


def left(folder: Path) -> dict[str, str]:
    "What a job left: every file below its folder, hidden ones too, and its lock."
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    locks = {file.name: "a lock" for file in folder.parent.glob(f".{folder.name}*")}
    return {file.relative_to(folder).as_posix(): content(file).replace(str(folder), "") for file in files} | locks


# ---- attempts

def attempt(job: str, folder: Path, shared: Path, moment: float | None) -> bool:
    "One attempt in a process of its own, killed at a moment (seconds; None: never). Whether it came to its end."
    log = shared / "log"
    child = os.fork()
    if not child:
        try:
            with open(log, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            JOBS[job](folder, shared)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    deadline = None if moment is None else time.monotonic() + moment
    while deadline is None or time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended and status:
            sys.exit(f"{job} failed:\n{log.read_text()}")
        if ended:
            return True
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def ordeal(job: str, folder: Path, shared: Path, whole: float, kills: int, rng: random.Random) -> int:
    "Begin a job again until it ends, with so many kills at most. How many it took."
    for count in range(kills):
        if attempt(job, folder, shared, rng.uniform(0.05, 1) * whole):
            return count
    attempt(job, folder, shared, None)
    return kills


def compare(job: str, folder: Path, shared: Path) -> None:
    "End with the names of the files that differ, if any."
    expected, found = left(shared / job), left(folder)
    differ = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
    if differ or not expected:
        sys.exit(f"{job}: after the kills these differ in {folder}: {', '.join(sorted(differ))}")


def torment(job: str, kills: int, shared: Path, rng: random.Random) -> None:
    "So many kills of one job, in as many ordeals as it takes."
    begun = time.monotonic()
    attempt(job, shared / job, shared, None)
    whole, done, ordeals = time.monotonic() - begun, 0, 0
    while done < kills:
        with tempfile.TemporaryDirectory(dir=shared) as place:
            done += ordeal(job, Path(place) / "it", shared, whole, min(kills - done, 8), rng)
            compare(job, Path(place) / "it", shared)
        ordeals += 1
    print(f"{job}: {done} kills, and {ordeals} times the same bytes ({time.monotonic() - begun:.0f} s)", flush=True)


def import_everything() -> None:
    "What the jobs import late, so that no attempt waits for it."
    import lightning.fabric  # noqa: F401
    import papermill  # noqa: F401
    import parselmouth  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import midirenderer  # noqa: F401
    import timm  # noqa: F401
    import torch

    import vocalrep.papers.cvsm.paper  # noqa: F401
    import vocalrep.report.reproduction  # noqa: F401
    torch.set_num_threads(1)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("kills", type=int)
    words.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    rng, jobs = random.Random(given.seed), [job for job in JOBS if job in given.jobs]
    import_everything()
    with tempfile.TemporaryDirectory() as place:
        shared = Path(place)
        write_notebooks(shared)
        if "train" in jobs and "prepare" not in jobs:
            attempt("prepare", shared / "prepare", shared, None)
        for k, job in enumerate(jobs):
            torment(job, len(range(k, given.kills, len(jobs))), shared, rng)


if __name__ == "__main__":
    main()
