"""What the notebooks share when they are tested, made once: each paper's smoke corpus, and a run of each variant.

    python .ci/smoke.py

Two processes; what is there already is kept, as everywhere.
"""
import os
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_store(name):
    "The smoke corpus of a paper."
    import torch
    from vocalrep.papers.registry import find_paper
    from vocalrep.report.paper import open_corpus
    torch.set_num_threads(1)
    return open_corpus(find_paper(name), preset="smoke", workers=1, progress=False)


def make_run(name, variant):
    "A smoke run of a variant."
    from vocalrep.papers.registry import find_paper
    from vocalrep.report.paper import train_variant
    begun = time.time()
    run = train_variant(find_paper(name), variant, make_store(name), "smoke", device="cpu", progress=False)
    return f"{run.folder.name}: {time.time() - begun:.0f} s"


def main():
    from vocalrep.papers.registry import find_papers
    papers = find_papers().values()
    work = [(paper.name, variant) for paper in papers for variant in paper.variants(preset="smoke")]
    with ProcessPoolExecutor(max_workers=2) as processes:
        for store in processes.map(make_store, [paper.name for paper in papers]):
            print(store.folder.name, flush=True)
        for line in processes.map(make_run, *zip(*work)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
