"Probes of artists and gender: parity with plain implementations, small corpora, bad input."
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.evaluation.classifiers import fit_exact
from vocalrep.evaluation.folds import TEST, arrange, artist_folds
from vocalrep.evaluation.probes import SCORE_COLUMNS, ProbeProtocol, identify_artists, identify_gender
from vocalrep.project import VocalrepError

RELEASED = ProbeProtocol(artist_epochs=100, gender_epochs=50, same_clip=True, negatives="opposite", eer_rule="step",
                         rank_base="zero", crops=0, drop_connect=False, lone_excerpt=0.5)
HASTY = dataclasses.replace(RELEASED, artist_epochs=3, gender_epochs=3, least_updates=8, gender_epoch=512, trials=20)


def invent(artists=12, clips=5, segments=2, dim=16, singer=3.0, sex=0.0, seed=0):
    "Places and embeddings of artists with so many clips (a number, or one per artist)."
    rng = np.random.default_rng(seed)
    clips = [clips] * artists if isinstance(clips, int) else clips
    rows = [dict(clip=f"{a:03d}-{c:03d}", artist=f"artist {a:03d}", gender=("female", "male")[a % 2], offset=k, s=s)
            for a, n in enumerate(clips) for c in range(n) for s in range(segments) for k in range(5)]
    places = pd.DataFrame(rows)
    places["row"] = places.groupby(["clip", "s"], sort=False).ngroup()
    who = places.artist.str[-3:].astype(int).to_numpy()
    vectors = singer * rng.normal(size=(len(clips), dim))[who] + rng.normal(size=(len(places), dim))
    return places.drop(columns="s"), (vectors + sex * np.where(who % 2, 1, -1)[:, None]).astype(np.float32)


def identical(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), atol=1e-5)


# --- who takes part

def test_unknown_genders_are_left_out():
    places, vectors = invent(artists=24, clips=3)
    places.loc[places.artist < "artist 004", "gender"] = None
    places.loc[places.artist == "artist 005", "gender"] = "other"
    scores = identify_gender(places, vectors, HASTY)
    assert set(scores.artists) == {19} and scores.reduced.str.contains("1 rarer values").all()
    only = identify_gender(places.drop(columns="gender"), vectors, HASTY)
    assert only.value.isna().all() and only.reduced.str.contains("none known").all()


def test_clips_without_an_artist_are_named_and_left_out():
    places, vectors = invent()
    unknown = places["clip"].isin(["000-000", "000-001"]).to_numpy()
    scores = identify_artists(places.assign(artist=places.artist.mask(unknown)), vectors, HASTY)
    assert scores.value.notna().all()
    assert scores.reduced.str.startswith("2 clips without an artist left out; 12 of 50 artists").all()
    identical(scores.drop(columns="reduced"),
              identify_artists(places[~unknown], vectors[~unknown], HASTY).drop(columns="reduced"))
    nobody = identify_artists(places.assign(artist=None), vectors, HASTY)
    assert nobody.value.isna().all() and (nobody.reduced == "not possible: no artist known").all()


@pytest.mark.parametrize("task", [identify_artists, identify_gender])
def test_order_of_rows_and_repetition_change_nothing(task):
    places, vectors = invent()
    order = np.random.default_rng(0).permutation(len(places))
    first = task(places, vectors, HASTY)
    identical(first, task(places, vectors, HASTY))
    identical(first, task(places.iloc[order], vectors[order], HASTY))
    assert tuple(first.columns) == SCORE_COLUMNS and first.value.between(0, 1).all()


def test_memory_maps_are_read(tmp_path):
    places, vectors = invent()
    np.save(tmp_path / "v.npy", vectors)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    identical(identify_artists(places, vectors, HASTY), identify_artists(places, mapped, HASTY))


# --- scores

@pytest.mark.parametrize("probe, least", [("linear", 0.9), ("exact", 0.97)])  # linear: over when validation is perfect
def test_easy_and_hopeless(probe, least):
    places, vectors = invent(artists=20, clips=6, singer=8.0, sex=20.0)
    protocol = dataclasses.replace(RELEASED, learning_rate=5e-3, least_updates=30, gender_epoch=1920)
    noise = np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    assert identify_artists(places, vectors, protocol, probe).value.mean() > least
    assert identify_artists(places, noise, protocol, probe).value.mean() < 0.3
    assert identify_gender(places, vectors, protocol, probe).value.mean() > 0.97


def test_scores_at_each_clip_length():
    places, vectors = invent(singer=0.5, dim=24, clips=8)
    data = arrange(places, vectors)
    scores = identify_artists(places, vectors, HASTY, "exact", seconds=(1, 5, 10, None))
    fold = artist_folds(data)[2]
    p, clip = fit_exact(data, fold), data.clip[fold.part[data.clip] == TEST]
    own = scores[(scores.repetition == 2) & (scores.metric == "accuracy")].set_index("seconds").value
    assert own[1.0] == pytest.approx((p.argmax(1) == fold.label[clip]).mean())
    fives = [p[i:i + 5].mean(0).argmax() == fold.label[clip[i]] for i in range(0, len(p), 5)]
    assert own[5.0] == pytest.approx(np.mean(fives))
    whole = scores[scores.seconds.isna()].set_index(["repetition", "metric"]).value
    tens = scores[scores.seconds == 10].set_index(["repetition", "metric"]).value
    pd.testing.assert_series_equal(whole, tens)  # clips last ten seconds
    longer = identify_artists(places, vectors, HASTY, "exact", seconds=(20,))
    assert longer.reduced.str.endswith("; 100% of the windows are shorter").all()


def test_low_resource_keeps_the_questions():
    places, vectors = invent(singer=1.0, clips=10)
    scores = identify_artists(places, vectors, HASTY, "exact", fractions=(0.1, 1.0))
    few, whole = scores[scores.fraction == 0.1], scores[scores.fraction == 1.0]
    assert (few["clips"].to_numpy() == whole["clips"].to_numpy()).all()
    assert few.value.mean() < whole.value.mean()
    assert few.reduced.str.contains("without a training clip").all()


# --- small corpora and bad input

@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 2), st.integers(0, 9))
def test_no_corpus_is_too_small(clips, segments, seed):
    places, vectors = invent(clips=clips, segments=segments, dim=3, seed=seed)
    hasty = dataclasses.replace(HASTY, artist_epochs=1, gender_epochs=1, least_updates=1, gender_epoch=64)
    for scores in (identify_artists(places, vectors, hasty, fractions=(0.2, 1.0)),
                   identify_artists(places, vectors, hasty, "exact"), identify_gender(places, vectors, hasty)):
        assert tuple(scores.columns) == SCORE_COLUMNS and len(scores) and (scores.reduced != "").all()
        assert scores.value.dropna().between(0, 1).all()
        assert (scores.value.isna() == scores.reduced.str.startswith("not possible")).all()


def test_enough_is_not_reduced():
    places, vectors = invent(artists=60, clips=12, segments=1, dim=4)
    protocol = dataclasses.replace(HASTY, least_updates=2)
    assert set(identify_gender(places, vectors, protocol).reduced) == {""}
    artists = identify_artists(places, vectors, protocol).reduced
    assert not artists.str.contains("of 50|per artist|lengthened").any()


@pytest.mark.parametrize("task, spoil, options", [
    (identify_artists, lambda p, v: (p, v[:-1]), {}),
    (identify_artists, lambda p, v: (p.drop(columns="artist"), v), {}),
    (identify_gender, lambda p, v: (p, v[:, 0]), {}), (identify_gender, lambda p, v: (p, v + np.inf), {}),
    (identify_artists, lambda p, v: (p, v), dict(probe="mlp")),
    (identify_gender, lambda p, v: (p, v), dict(probe="mlp")),
    (identify_artists, lambda p, v: (p, v), dict(fractions=(1.5,))),
    (identify_artists, lambda p, v: (p, v), dict(fractions=())),
    (identify_artists, lambda p, v: (p, v[:, None]), dict(probe="exact"))])
def test_wrong_input(task, spoil, options):
    places, vectors = spoil(*invent(artists=4, clips=3))
    with pytest.raises(VocalrepError):
        task(places, vectors, HASTY, **options)
