"Preparing on a cluster: two worker processes, one of which is killed, make the same bytes as one process."
import hashlib
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import os, signal, sys, threading, time
    from pathlib import Path
    import joblib
    from dask.distributed import Client, LocalCluster
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.prepare import prepare

    def kill_one(client, folder):
        "End a worker without a word when the first chunk is there."
        while not list(Path(folder).glob("shards/*.json")):
            time.sleep(0.02)
        workers = client.run(os.getpid)
        os.kill(min(workers.values()), signal.SIGKILL)
        print("killed", flush=True)

    if __name__ == "__main__":
        corpus, folder = studio_corpus(artists=8, clips=3, seconds=5.0), sys.argv[1]
        two = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with LocalCluster(**two) as cluster, Client(cluster) as client:
            watch = threading.Thread(target=kill_one, args=(client, folder), daemon=True)
            watch.start()
            with joblib.parallel_config(backend="dask"):
                store = prepare(corpus, folder, workers=2, progress=False)
            print(len(client.run(os.getpid)), "workers,", len(store.clips), "clips")
"""


def content(folder):
    "File name -> hash."
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name[0] != "."]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_two_workers_make_the_same_bytes_although_one_is_killed(tmp_path):
    pytest.importorskip("distributed")
    from vocalrep.data.corpora import studio_corpus
    from vocalrep.data.prepare import prepare
    alone = prepare(studio_corpus(artists=8, clips=3, seconds=5.0), tmp_path / "alone", workers=1, progress=False)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "store")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr[-3000:]
    assert "killed" in said.stdout and "24 clips" in said.stdout
    assert content(tmp_path / "store") == content(alone.folder)
