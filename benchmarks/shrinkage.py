"""How much shrinkage should a back end have? EER on the studio's validation singers, written to figures/evaluation/.

    python benchmarks/shrinkage.py            # at laptop: the mean MFCC, and a run that is trained where it is missing
"""
import argparse

import pandas as pd

from vocalrep.evaluation.backend import fit_backends
from vocalrep.evaluation.metrics import equal_error_rate, pairwise_scores
from vocalrep.evaluation.tasks import BOTH
from vocalrep.papers.registry import find_paper
from vocalrep.report.paper import open_corpus
from vocalrep.report.plots import save_table
from vocalrep.report.scores import TRAINING_EXCERPTS, clip_embeddings, embeddings
from vocalrep.report.systems import find_systems

SHARES = (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)      # of the mean diagonal
NAMES = ("mean MFCC", "CVSM-AH")


def try_shares(system, store, condition):
    "Rows of one system under one condition: backend, shrinkage, eer."
    training = embeddings(system, store, condition, "train", per_clip=TRAINING_EXCERPTS)
    clips, means = clip_embeddings(system, store, condition, "valid")
    about = dict(system=system.name, condition=condition.name, artists=clips.artist.nunique(), clips=len(clips))
    return [dict(about, backend=name, shrinkage=share, eer=equal_error_rate(*pairwise_scores(b(means), clips.artist)))
            for share in SHARES for name, b in fit_backends([training], shrinkage=share).items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="laptop")
    preset = parser.parse_args().preset
    paper = find_paper("cvsm")
    store = open_corpus(paper, preset=preset)
    rows = [row for system in find_systems(paper, store, preset, names=NAMES) for condition in BOTH
            for row in try_shares(system, store, condition)]
    table = pd.DataFrame(rows)
    save_table(table, "shrinkage", "evaluation", preset=preset, seed=0)
    means = table.pivot_table(index="shrinkage", columns="backend", values="eer")
    print((100 * means).round(2))
