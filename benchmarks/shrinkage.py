"""How much shrinkage should a back end have? EER on the studio's validation singers, written to figures/evaluation/.

    python benchmarks/shrinkage.py [--tiny] [--json FILE]

At laptop: the mean MFCC, and a run that is trained where it is missing. A tiny run takes the smoke corpus, only the
mean MFCC, and writes no figure.
"""
import pandas as pd
from common import run

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


def measure(given):
    "The table."
    paper, preset = find_paper("cvsm"), "smoke" if given.tiny else "laptop"
    store = open_corpus(paper, preset=preset)
    names = NAMES[:1] if given.tiny else NAMES
    rows = [row for system in find_systems(paper, store, preset, names=names) for condition in BOTH
            for row in try_shares(system, store, condition)]
    if not given.tiny:
        save_table(pd.DataFrame(rows), "shrinkage", "evaluation", preset=preset, seed=0)
    return {"EER of validation singers": rows}


if __name__ == "__main__":
    run(measure)
