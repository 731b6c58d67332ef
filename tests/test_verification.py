"Pairs of clips: drawn trials by their definition, spelled out by loops, two sources, and corpora of any size."
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from vocalrep.evaluation.folds import arrange
from vocalrep.evaluation.metrics import equal_error_rate, mean_normalized_rank, normalize_embeddings, pairwise_scores
from vocalrep.evaluation.verification import (
    DRAWN, TrialRule, all_pairs, artist_similarity, compare_encoders, draw_counts, draw_pairs, similarity_trials,
    verify_sources)
from vocalrep.models.adapters import TorchEncoder
from vocalrep.models.encoders import MeanMFCC
from vocalrep.project import VocalrepError

PAPER = TrialRule(50, 100, same_clip=False, negatives="random", eer_rule="roc", rank_base="one")
RELEASED = TrialRule(50, 100, same_clip=True, negatives="opposite", eer_rule="step", rank_base="zero")


def invent(artists=12, clips=5, segments=2, dim=16, singer=3.0, seed=0):
    "Places and embeddings of artists with so many clips (a number, or one per artist)."
    rng, clips = np.random.default_rng(seed), [clips] * artists if isinstance(clips, int) else clips
    names = [(f"artist {a:03d}", f"{a:03d}-{c:03d}") for a, n in enumerate(clips) for c in range(n)]
    places = pd.DataFrame([dict(clip=clip, artist=artist, offset=k * 16000)
                           for artist, clip in names for _ in range(segments) for k in range(5)])
    places["row"] = np.arange(len(places)) // 5
    who = places.artist.str[-3:].astype(int).to_numpy()
    vectors = singer * rng.normal(size=(len(clips), dim))[who] + rng.normal(size=(len(places), dim))
    return places, vectors.astype(np.float32)


# ---- trials ----

def test_draws_depend_on_places_alone():
    places, vectors = invent(artists=60, clips=3, dim=4)
    other = np.random.default_rng(5).normal(size=(len(places), 7)).astype(np.float32)
    order = np.random.default_rng(6).permutation(len(places))
    a, b = arrange(places, vectors), arrange(places.iloc[order], other[order])
    for one, two in zip(draw_pairs(a, RELEASED), draw_pairs(b, RELEASED), strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(draw_pairs(a, RELEASED)[0], draw_pairs(a, RELEASED, seed=73)[0])


def test_order_of_rows_and_repetition_change_nothing():
    places, vectors = invent()
    order = np.random.default_rng(0).permutation(len(places))
    first = similarity_trials(places, vectors, RELEASED)
    assert first.equals(similarity_trials(places, vectors, RELEASED)) and first.value.between(0, 1).all()
    pd.testing.assert_frame_equal(first, similarity_trials(places.iloc[order], vectors[order], RELEASED), atol=1e-5)


def test_easy_and_hopeless():
    places, vectors = invent(artists=20, clips=6, singer=8.0)
    noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    easy, hopeless = (similarity_trials(places, x, PAPER).groupby("metric").value.mean() for x in (vectors, noise))
    assert easy["eer"] < 0.01 and easy["mnr"] == pytest.approx(1 / 20, abs=0.01)
    assert hopeless["eer"] == pytest.approx(0.5, abs=0.06) and hopeless["mnr"] == pytest.approx(0.525, abs=0.04)


@pytest.mark.parametrize("rule", [RELEASED, PAPER])
def test_pairs(rule):
    counts = [1, 2, 3, 7, 5, 4]
    data = arrange(*invent(clips=counts, segments=3, dim=2))
    first, second, negative = draw_pairs(data, dataclasses.replace(rule, trials=3000))
    artist = data.clips.artist.to_numpy()
    assert (artist[first] == artist[second]).all() and (negative != np.arange(first.shape[1])).all()
    assert ("artist 000" in set(artist[first].ravel())) == rule.same_clip                     # one clip, three segments
    same = pd.Series((first == second).ravel()).groupby(artist[first].ravel()).mean()
    for name, share in same.items():
        n = counts[int(name[-3:])]
        assert share == pytest.approx(2 / (3 * n - 1) if rule.same_clip else 0, abs=0.04)
    seven = first[artist[first] == "artist 003"]                                              # every clip as often
    np.testing.assert_allclose(np.bincount(seven)[np.unique(seven)] / len(seven), 1 / 7, atol=0.03)
    if rule.negatives == "random":
        assert all(len(set(negative[:, i])) == first.shape[1] - 1 for i in range(first.shape[1]))


@pytest.mark.parametrize("rule", [RELEASED, PAPER])
@pytest.mark.parametrize("how", ["none", "center", "zscore"])
def test_trials_by_loops(rule, how):
    places, vectors = invent(singer=0.5, clips=4, segments=1)
    rule = dataclasses.replace(rule, trials=5)
    scores = similarity_trials(places, vectors, rule)
    scores = scores[scores.normalisation == how]
    means = pd.DataFrame(vectors).groupby(places["clip"]).mean()
    if how != "none":
        means -= means.mean()
    if how == "zscore":
        means /= means.std(ddof=0)
    x = means.to_numpy(float)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    for trial, (first, second, negative) in enumerate(zip(*draw_pairs(arrange(places, vectors), rule))):
        matrix = np.array([[x[i] @ x[j] for j in second] for i in first])
        own = scores[scores.repetition == trial].set_index("metric").value
        wrong = [matrix[i, j] for i, j in enumerate(negative)]
        assert own["eer"] == pytest.approx(equal_error_rate(np.diag(matrix), wrong, rule.eer_rule), abs=1e-9)
        assert own["mnr"] == pytest.approx(mean_normalized_rank(matrix, rule.rank_base), abs=1e-6)


def test_released_negatives_are_opposite():
    negative = draw_pairs(arrange(*invent(artists=60, clips=2, dim=2)), RELEASED)[2]
    assert np.array_equal(negative, np.tile((np.arange(50) + 25) % 50, (100, 1)))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 2), st.integers(0, 9))
def test_no_corpus_is_too_small(clips, segments, seed):
    places, vectors = invent(clips=clips, segments=segments, dim=3, seed=seed)
    for rule in (dataclasses.replace(RELEASED, trials=3), dataclasses.replace(PAPER, trials=3)):
        scores = similarity_trials(places, vectors, rule)
        assert len(scores) and (scores.reduced != "").all() and scores.value.dropna().between(0, 1).all()
        assert (scores.value.isna() == scores.reduced.str.startswith("not possible")).all()


def test_enough_is_not_reduced():
    places, vectors = invent(artists=60, clips=12, segments=1, dim=4)
    assert set(similarity_trials(places, vectors, dataclasses.replace(PAPER, trials=5)).reduced) == {""}


# ---- all pairs, and two sources ----

def test_scores_of_all_pairs_are_those_of_each_normalisation():
    rng, who = np.random.default_rng(0), np.repeat([f"singer {k}" for k in range(6)], 4)
    x, clips = rng.normal(size=(24, 5)) + 3, pd.DataFrame(dict(artist=who))
    table = all_pairs(clips, x, trials=7)
    assert list(table) == ["normalisation", "metric", "repetition", "value", "artists", "clips"] and len(table) == 6
    for row in table.itertuples():
        expected = artist_similarity(normalize_embeddings(x, row.normalisation), who, trials=7)
        assert row.value == expected[row.metric] and (row.artists, row.clips) == (6, 24)


def test_every_way_of_normalising_starts_from_the_embeddings_as_they_are():
    "The rows of one normalisation do not depend on those before it, nor on the length of the vectors."
    places, vectors = invent(singer=1.0)
    vectors = vectors + np.float32(4) * (places.groupby("clip").ngroup() % 3).to_numpy()[:, None]     # some are longer
    scores = similarity_trials(places, vectors, PAPER, backends=dict(centred=lambda x: x - x.mean(0)))
    by = {how: part.value.to_numpy() for how, part in scores.groupby("normalisation", sort=False)}
    assert list(by) == ["none", "center", "zscore", "centred"]
    np.testing.assert_array_equal(by["center"], by["centred"])
    assert not np.array_equal(by["center"], by["none"])


def test_a_back_end_stands_beside_the_normalisations():
    rng, who = np.random.default_rng(0), np.repeat([f"singer {k}" for k in range(6)], 4)
    x, clips = rng.normal(size=(24, 5)) + 3, pd.DataFrame(dict(artist=who))
    first = np.diag([1.0, 0, 0, 0, 0])
    for table in (all_pairs(clips, x, trials=3, backends=dict(first=lambda x: x @ first)),
                  verify_sources(clips, x, x + 1, backends=dict(first=lambda x: x @ first))):
        assert list(dict.fromkeys(table.normalisation)) == ["none", "center", "zscore", "first"]
    alone = all_pairs(clips, x @ first, trials=3)
    both = all_pairs(clips, x, trials=3, backends=dict(first=lambda x: x @ first))
    assert both[both.normalisation == "first"].value.tolist() == alone[alone.normalisation == "none"].value.tolist()


def test_artists_are_drawn_anew_with_their_clips():
    rng, who = np.random.default_rng(0), np.repeat([f"singer {k}" for k in range(8)], [2, 3, 4, 5, 2, 3, 4, 5])
    x, clips = np.eye(8)[np.arange(8).repeat([2, 3, 4, 5, 2, 3, 4, 5])] + rng.normal(size=(28, 8)), dict(artist=who)
    table = all_pairs(pd.DataFrame(clips), x, trials=3, resamples=40, seed=5)
    drawn = table[(table.metric == DRAWN) & (table.normalisation == "none")].set_index("repetition").value
    counts = draw_counts(8, 40, 5)
    assert len(drawn) == 40 and (counts.sum(1) == 8).all()
    for k in (0, 7, 39):                                         # the corpus with copies, spelled out
        copies = [(i, f"{artist} {c}") for a, artist in enumerate(sorted(set(who))) for c in range(counts[k, a])
                  for i in np.flatnonzero(who == artist)]
        rows, names = np.array([i for i, _ in copies]), np.array([name for _, name in copies])
        unit = x[rows] / np.linalg.norm(x[rows], axis=1, keepdims=True)
        cosine, upper = unit @ unit.T, np.triu(np.ones((len(rows), len(rows)), bool), 1)
        same, strangers = names[:, None] == names, who[rows][:, None] != who[rows]
        assert drawn[k] == pytest.approx(equal_error_rate(cosine[upper & same], cosine[upper & strangers]), abs=1e-5)
    whole = equal_error_rate(*pairwise_scores(x, who))
    assert drawn.quantile(0.025) < whole < drawn.quantile(0.975)


def test_a_rank_needs_two_artists_with_two_clips():
    found = artist_similarity(np.random.default_rng(0).normal(size=(4, 3)), np.array(["a", "a", "b", "c"]))
    assert np.isnan(found["mnr"]) and 0 <= found["eer"] <= 1


def test_one_source_against_another_by_loops():
    rng, who = np.random.default_rng(0), np.repeat(["a", "b", "c"], [2, 3, 4])
    clips, dry = pd.DataFrame(dict(artist=who)), rng.normal(size=(9, 4))
    mixed = dry + rng.normal(size=(9, 4)) + 5
    table = verify_sources(clips, dry, mixed).set_index("normalisation").value
    for how, value in table.items():
        x, y = normalize_embeddings(dry, how), normalize_embeddings(mixed, how)
        cosine = {(i, j): x[i] @ y[j] / np.linalg.norm(x[i]) / np.linalg.norm(y[j]) for i in range(9) for j in range(9)}
        positive = [score for (i, j), score in cosine.items() if who[i] == who[j] and i != j]
        negative = [score for (i, j), score in cosine.items() if who[i] != who[j]]
        assert value == pytest.approx(equal_error_rate(positive, negative), abs=1e-9)


def test_within_one_source_it_is_all_pairs():
    rng, who = np.random.default_rng(0), np.repeat([f"singer {k}" for k in range(6)], 4)
    x, clips = rng.normal(size=(24, 5)), pd.DataFrame(dict(artist=who))
    expected = all_pairs(clips, x).query("metric == 'eer'").value
    np.testing.assert_allclose(verify_sources(clips, x).value, expected, atol=1e-9)
    assert verify_sources(clips, x, x).equals(verify_sources(clips, x))
    some, two = verify_sources(clips, x, artists=["singer 1", "singer 4"]), np.isin(who, ["singer 1", "singer 4"])
    assert some.equals(verify_sources(clips[two], x[two]))
    assert set(some.artists) == {2} and set(some.clips) == {8}


def test_encoders_of_different_excerpts_stand_in_one_table(store):
    long = TorchEncoder(lambda waves: waves, "long", 16000, 1.6, 25600)
    encoders = {"mfcc": MeanMFCC(), "long": long}
    table = compare_encoders(store, encoders, split=None, per_clip=2, sources=("vocals",), trials=3)
    assert list(table) == ["system", "condition", "normalisation", "eer", "mnr", "artists", "clips"]
    assert table.system.tolist() == 3 * ["mfcc"] + 3 * ["long"]
    assert table.normalisation.tolist() == 2 * ["none", "center", "zscore"]
    assert table.eer.between(0, 1).all() and table.clips.nunique() == 1 and set(table.condition) == {"vocals"}


def without_an_artist(places):
    return places.assign(artist=places.artist.where(places.artist != "artist 001"))


@pytest.mark.parametrize("wrong, said", [
    (lambda p, v: similarity_trials(p[:0], v[:0], PAPER), "one embedding per excerpt"),
    (lambda p, v: similarity_trials(p, np.where(np.arange(len(v))[:, None] == 3, np.inf, v), PAPER), "NaN or infinite"),
    (lambda p, v: similarity_trials(p, v, dataclasses.replace(PAPER, negatives="all")), "opposite, random"),
    (lambda p, v: similarity_trials(without_an_artist(p), v, PAPER), "have no artist"),
    (lambda p, v: artist_similarity(np.eye(3), np.array(["a", "a", "a"])), "1 artists"),
    (lambda p, v: artist_similarity(np.eye(3), np.array(["a", None, "b"])), "1 of 3 clips have no artist"),
    (lambda p, v: verify_sources(p[:3], v[:3]), "two artists"),
    (lambda p, v: verify_sources(p, v, artists=["nobody"]), "0 artists and 0 clips"),
])
def test_wrong_input(wrong, said):
    with pytest.raises(VocalrepError, match=said):
        wrong(*invent(artists=3, clips=3))
