"Scores without an artist: against computing them anew, for every metric."
import numpy as np
import pytest

from vocalrep.evaluation.clusters import cluster_scores
from vocalrep.evaluation.jackknife import (MOST_GROUPS, answers_without, average_left_out, clusters_without,
                                           deal_artists, eer_without, influences, leave_each_out, left_out_rows,
                                           rank_without, trials_without)
from vocalrep.evaluation.metrics import classification_scores, equal_error_rate, mean_normalized_rank, unit_rows

ARTISTS, CLIPS = 7, 4
ARTIST = np.repeat(np.arange(ARTISTS), CLIPS)


@pytest.fixture
def voices():
    rng = np.random.default_rng(0)
    return np.repeat(rng.normal(size=(ARTISTS, 8)), CLIPS, axis=0) + rng.normal(size=(ARTISTS * CLIPS, 8))


@pytest.mark.parametrize("paired", [False, True])
def test_trials_anew(voices, paired):
    "Also where several artists go together."
    rng, unit = np.random.default_rng(1), unit_rows(voices)
    group = ARTIST // 2 if paired else ARTIST
    order = np.stack([rng.permutation(ARTISTS) for _ in range(20)])
    first, second = (CLIPS * order + rng.integers(2, size=order.shape) + shift for shift in (0, 2))
    negative = (np.arange(ARTISTS) + 3) % ARTISTS + 0 * order
    found = trials_without(unit, first, second, negative, group, group.max() + 1)
    for g in range(group.max() + 1):
        pairs, ranks = {True: [], False: []}, []
        for a, b, n in zip(first, second, negative):
            s, kept = unit[a] @ unit[b].T, group[a] != g
            pairs[True] += [s[i, i] for i in np.flatnonzero(kept)]
            pairs[False] += [s[i, n[i]] for i in np.flatnonzero(kept) if group[b[n[i]]] != g]
            ranks.append(mean_normalized_rank(s[np.ix_(kept, kept)]))
        assert found["eer"][g] == pytest.approx(equal_error_rate(pairs[True], pairs[False]))
        assert found["mnr"][g] == pytest.approx(np.mean(ranks))


def test_ties_in_a_rank_count_half():
    flat = np.ones((1, 5, 5))
    assert rank_without(flat, np.arange(5)[None], 5) == pytest.approx(mean_normalized_rank(np.ones((4, 4))))


@pytest.mark.parametrize("labels", [ARTIST, ARTIST % 2, np.arange(len(ARTIST)) % 3])
def test_clusters_anew(voices, labels):
    found = clusters_without(voices, labels, ARTIST, ARTISTS)
    for g in range(ARTISTS):
        for metric, value in cluster_scores(voices[ARTIST != g], labels[ARTIST != g]).items():
            assert found[metric][g] == pytest.approx(value)


def test_clusters_that_would_vanish_have_no_score(voices):
    two = ARTIST < 2
    assert np.isnan(clusters_without(voices[two], ARTIST[two], ARTIST[two], 2)["silhouette"]).all()


def test_answers_anew():
    rng = np.random.default_rng(2)
    truth, answer = rng.integers(3, size=(2, 60))
    owner = rng.integers(ARTISTS, size=60)
    found = answers_without(truth, answer, owner, ARTISTS)
    for g in range(ARTISTS):
        for metric, value in classification_scores(truth[owner != g], answer[owner != g]).items():
            assert found[metric][g] == pytest.approx(value)
    alone = answers_without(np.zeros(3, int), np.zeros(3, int), np.zeros(3, int), 2)
    assert np.isnan(alone["accuracy"][0]) and alone["accuracy"][1] == 1


def test_a_class_that_nobody_asks_for_any_more_is_no_mistake():
    truth = np.arange(4).repeat(2)
    answer = np.array([0, 0, 1, 1, 2, 2, 3, 0])                                  # one of artist 3 is taken for artist 0
    found = answers_without(truth, answer, truth, 4)["macro_f1"]
    assert found[3] == 1 and found[0] < 1


def test_influences_of_a_mean_are_its_values():
    values = np.random.default_rng(3).normal(size=9)
    left = leave_each_out(np.arange(9), 9, lambda kept: values[kept].mean())
    assert influences(left) == pytest.approx(values - values.mean())
    assert influences(np.stack([left, left])).shape == (2, 9)


def test_pairs_belong_to_two_artists():
    pairs = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 2], [2, 0]])
    score = np.array([0.9, 0.1, 0.8, 0.7, 0.2, 0.3])
    assert eer_without(score, pairs[:, 0] == pairs[:, 1], pairs, 3)[2] == 0      # both errors are with artist 2


def test_groups_do_not_depend_on_who_else_is_there():
    few, group = deal_artists(np.array(["b", "a", "b"]))
    assert few == ["a", "b"] and group.tolist() == [1, 0, 1]
    many = [f"artist {k}" for k in range(400)]
    names, group = deal_artists(np.array(many))
    fewer, own = deal_artists(np.array(many[50:]))
    assert len(names) <= MOST_GROUPS and [names[g] for g in group[50:]] == [fewer[g] for g in own]


def test_rows_leave_out_what_has_no_value():
    rows = left_out_rows(["a", "b"], average_left_out([dict(eer=np.array([0.1, np.nan]))]), condition="mixture")
    assert rows == [dict(condition="mixture", metric="eer", left_out="a", value=0.1, repetition=0)]
