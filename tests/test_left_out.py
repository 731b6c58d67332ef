"Tasks give the same scores as ever, and on request those without each artist beside them, as rows of the same table."
import numpy as np
import pandas as pd
import pytest

from vocalrep.evaluation.folds import TEST, arrange, artist_folds, excerpts_of
from vocalrep.evaluation.classifiers import fit_exact
from vocalrep.evaluation.jackknife import deal_artists
from vocalrep.evaluation.metrics import classification_scores
from vocalrep.evaluation.probes import identify_artists
from vocalrep.evaluation.trials import (
    RankRule, draw_candidates, sample_trials, scores_without_singers, trial_eer, trial_mnr)
from vocalrep.evaluation.verification import TrialRule, similarity_trials
from vocalrep.papers.cvsm.paper import PAPER

ARTISTS, CLIPS = 12, 4


@pytest.fixture
def voices():
    "Clips of twelve artists, two excerpts each, and their embeddings."
    rng, N = np.random.default_rng(0), 2 * ARTISTS * CLIPS
    artist, clip = np.repeat(np.arange(ARTISTS), 2 * CLIPS), np.repeat(np.arange(ARTISTS * CLIPS), 2)
    places = pd.DataFrame(dict(clip=[f"clip {k:02d}" for k in clip], artist=[f"artist {k:02d}" for k in artist],
                               gender=np.where(artist % 2, "female", "male"), row=np.arange(N), offset=0))
    return places, (rng.normal(size=(ARTISTS, 8))[artist] + rng.normal(size=(N, 8))).astype(np.float32)


def check_beside(plain, both):
    "The rows without an artist stand beside those that were there before."
    whole = both[both.left_out.fillna("") == ""].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole[plain.columns], plain, check_dtype=False)
    return both[both.left_out.fillna("") != ""]


def test_trials(voices):
    rule = TrialRule(ARTISTS, 30, True, "opposite", "step", "zero")
    plain = similarity_trials(*voices, rule)
    left = check_beside(plain, similarity_trials(*voices, rule, left_out=True))
    assert set(left.left_out) == set(voices[0].artist) and len(left) == ARTISTS * len(plain) / 30
    mean = plain.groupby(["metric", "normalisation"]).value.mean()
    without = left.groupby(["metric", "normalisation"]).value.mean()
    assert without.to_numpy() == pytest.approx(mean.loc[without.index].to_numpy(), abs=0.05)


def test_probes(voices):
    protocol = PAPER.protocol().probes
    plain = identify_artists(*voices, protocol, "exact")
    left = check_beside(plain, identify_artists(*voices, protocol, "exact", left_out=True))
    data = arrange(*voices)
    names, group = deal_artists(data.clips.artist)
    right = []
    for fold in artist_folds(data, protocol.artists, protocol.repetitions):
        clip = data.clip[excerpts_of(data, fold, TEST)]
        mean = pd.DataFrame(fit_exact(data, fold)).groupby(clip).mean()
        kept = mean[group[mean.index] != 3]
        right.append(classification_scores(fold.label[kept.index], kept.to_numpy().argmax(1))["accuracy"])
    found = left[(left.left_out == names[3]) & (left.metric == "accuracy")].value.item()
    assert found == pytest.approx(np.mean(right))


def test_lists_of_trials(voices):
    places, x = voices
    fragments = places.assign(name=places.artist + "/" + places.row.map("{:03d}".format))
    trials = sample_trials(fragments, 400)
    queries = draw_candidates(fragments, trials, RankRule("trials", 20, "singer", 100))
    names, found = scores_without_singers(fragments, x, trials, queries)
    singer = fragments.set_index("name").artist
    kept = (singer[trials["first"]].to_numpy() != names[2]) & (singer[trials["second"]].to_numpy() != names[2])
    assert found["eer"][2] == pytest.approx(trial_eer(fragments, x, trials[kept].reset_index(drop=True))["value"])
    assert found["mnr"].mean() == pytest.approx(trial_mnr(fragments, x, queries)["value"], abs=0.02)


def test_cvsm_and_singer_identity_ask_for_them():
    from vocalrep.papers.registry import find_papers
    tasks = [task for paper in find_papers().values() for task in paper.tasks().values()]
    compared = {claim.measures[0][0] for paper in find_papers().values() for claim in paper.claims if claim.measures}
    assert all("left_out" in task.context for task in tasks if task.name in compared and not task.clips)
