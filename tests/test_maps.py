"Maps, clusters and overlaps of whole systems."
import copy

import pytest

from vocalrep.evaluation.tasks import MIXTURE, VOCALS, TestCorpus
from vocalrep.models.encoders import MeanMFCC
from vocalrep.project import VocalrepError
from vocalrep.report.maps import cluster_systems, map_systems, overlap_scores, overlap_systems
from vocalrep.report.scores import SCORE_COLUMNS
from vocalrep.report.systems import System


def cepstra(name, count, seed=0, trained_on="studio"):
    "Mean MFCC of so many cepstra, said to be trained with a seed."
    return System(name, lambda device: MeanMFCC(count).eval(), f"mfcc-{count}", seed, trained_on=trained_on)


ABSENT = System("MERT", None, origin="no weights")
SYSTEMS = [cepstra("A", 10), cepstra("A", 12, 1), cepstra("B", 14), cepstra("B", 16, 1), cepstra("floor", 20, 0, "")]


@pytest.fixture
def everybody(store):
    return TestCorpus("studio", store, None)


def test_maps_and_their_clusters(everybody):
    points = map_systems(SYSTEMS[:2], everybody, "artist", layouts=2, device="cpu")
    assert points.repetition.nunique() == 2 and set(points.seed) == {0, 1}
    assert points.groupby("label")["clip"].nunique().min() >= 2
    clusters = cluster_systems(SYSTEMS[:2], everybody, "artist", points, device="cpu")
    assert list(clusters) == list(SCORE_COLUMNS) and set(clusters.condition) == {"mixture"}
    counts = clusters.groupby(["seed", "task", "metric"]).size().unstack("task")
    assert (counts["artist clusters"] == 2).all() and (counts["artist clusters, embedding"] == 1).all()


def test_a_map_is_of_its_condition(everybody):
    dry, mixed = (map_systems(SYSTEMS[:1], everybody, "artist", condition, 1, "cpu") for condition in (VOCALS, MIXTURE))
    assert not dry[["x", "y"]].equals(mixed[["x", "y"]])


def test_one_label_cannot_be_mapped(store):
    women = copy.copy(store)
    women.segments = store.segments.assign(gender="female")
    with pytest.raises(VocalrepError, match="fewer than two values of 'gender'"):
        map_systems(SYSTEMS[-1:], TestCorpus("women", women, None), "gender", device="cpu")


def test_overlaps_are_counted_seed_by_seed(everybody):
    overlap = overlap_systems([ABSENT, *SYSTEMS], everybody, [VOCALS], device="cpu")
    assert set(overlap.seed) == {0, 1} and set(overlap.system) == {"A", "B", "floor"}
    assert (overlap[overlap.system == overlap.other].share == 1).all()
    share = overlap.set_index(["seed", "system", "other"]).share
    assert all(share[seed, a, b] == share[seed, b, a] for seed in (0, 1) for a in "AB" for b in ("floor", "A"))
    scores = overlap_scores(overlap, everybody)
    assert list(scores) == list(SCORE_COLUMNS) and len(scores) == 2 * 3
    pair = scores[(scores.system == "A & B") & (scores.seed == 1)]
    assert pair.value.item() == share[1, "A", "B"] and pair.clips.item() == overlap.queries.iloc[0]
