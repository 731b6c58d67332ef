"""A new paper is a folder: `toy_papers/toy` holds a sampler, a method, two variants, a task and a claim.

No general room knows of it. It is found, trained, scored and judged as the others are.
"""
import contextlib
import sys
from pathlib import Path

import pytest
import torch

import vocalrep.papers
from vocalrep.evaluation.tasks import TestCorpus
from vocalrep.papers import registry
from vocalrep.project import VocalrepError
from vocalrep.evaluation.verdicts import FAILS, HOLDS, OPEN, SEEMS, SEEMS_NOT, UNTESTED
from vocalrep.report.claims import test_claims as judge
from vocalrep.report.paper import train_variant
from vocalrep.report.scores import SCORE_COLUMNS, evaluate, summarise
from vocalrep.report.systems import find_systems

FOLDER = Path(__file__).parent / "toy_papers"


@contextlib.contextmanager
def papers_in(folders):
    "Inside, papers are looked for in these folders."
    before = list(vocalrep.papers.__path__)
    vocalrep.papers.__path__[:] = folders
    registry.find_papers.cache_clear()
    try:
        yield
    finally:
        vocalrep.papers.__path__[:] = before
        registry.find_papers.cache_clear()


@pytest.fixture(scope="module")
def paper():
    "The toy, while its folder lies beside the others."
    with papers_in([*vocalrep.papers.__path__, str(FOLDER)]):
        yield registry.find_paper("toy")
    for name in [name for name in sys.modules if name.startswith("vocalrep.papers.toy")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def voices(dry):
    "Two tracks of each of nine singers."
    tracks = [(f"{split} {k}", split, 10.0) for split in ("train", "valid", "test") for k in range(3) for _ in range(2)]
    return dry(tracks, rate=16000)


@pytest.fixture(scope="module")
def scores(paper, voices):
    "Both variants, twice each, and the baseline."
    systems = find_systems(paper, voices, "smoke", seeds=2, device="cpu", progress=False)
    assert [system.name for system in systems] == ["TOY-NEAR"] * 2 + ["TOY-FAR"] * 2 + ["mean MFCC"]
    return evaluate(systems, [TestCorpus("dry", voices)], paper.tasks().values(), device="cpu", progress=False,
                    left_out=True)


def test_the_folder_is_found_and_lost_again(paper):
    assert set(registry.find_papers()) > {"toy"} and registry.paper_of("TOY-FAR") is paper
    assert {"TOY-NEAR", "TOY-FAR"} <= set(registry.variant_names())
    assert paper.trained == {"TOY-NEAR", "TOY-FAR"}
    with pytest.raises(VocalrepError, match="TOY-NEAR, TOY-FAR"):
        paper.variant("TOY", preset="smoke")
    with papers_in([folder for folder in vocalrep.papers.__path__ if folder != str(FOLDER)]):
        assert registry.find_papers() and "toy" not in registry.find_papers()
    with papers_in([str(FOLDER)]):
        assert list(registry.find_papers()) == ["toy"]


def test_its_variants_are_trained(paper, voices, tmp_path):
    run = train_variant(paper, "TOY-FAR", voices, "smoke", protocol="paper", out=tmp_path / "run", device="cpu",
                        progress=False)
    assert run.complete and run.config["variant"]["method"] == dict(record="Margin", margin=1.0)
    assert {"train_distance", "valid_distance", "valid_loss"} <= set(run.history) and len(run.history) == 2
    assert run.encoder()(torch.randn(2, 16000)).shape == (2, run.encoder().dim)


def test_it_is_scored(scores, voices):
    whole = scores[scores.left_out == ""]
    assert tuple(scores) == SCORE_COLUMNS and len(whole) == 5 and len(scores) == 5 * (1 + 3)     # of three singers
    assert scores.value.between(0, 1).all() and set(scores.task) == {"neighbours"}
    assert set(scores.trained_on[scores.system != "mean MFCC"]) == {voices.about["corpus"]}
    summary = summarise(scores, "toy", "table1", "smoke").set_index("system")
    assert list(summary.n) == list(summary.seeds) == [2, 2, 1]


def test_its_claim_is_judged(paper, scores):
    verdict = judge(scores, paper).iloc[0]
    assert verdict.claim == "near is better" and verdict.comparisons == verdict.tested == 2
    assert verdict.verdict in (HOLDS, FAILS, OPEN)
    noise = 1e-3 * scores.left_out.rank(method="dense")**2 + 1e-4 * scores.seed
    better = scores.assign(value=scores.system.map({"TOY-NEAR": 0.9, "TOY-FAR": 0.5, "mean MFCC": 0.4})
                           + noise * (scores.system == "TOY-NEAR"))
    assert judge(better, paper).verdict[0] == HOLDS
    assert judge(better.assign(value=-better.value), paper).verdict[0] == FAILS
    one = better[better.seed == 0]
    assert [judge(table, paper).verdict[0] for table in (one, one.assign(value=-one.value))] == [SEEMS, SEEMS_NOT]
    assert judge(scores[scores.system == "TOY-FAR"], paper).verdict[0] == UNTESTED
