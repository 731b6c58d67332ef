"What teaches the released probes: crops from anywhere, heard with drop-connect; and how the probes take them."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from vocalrep.evaluation import classifiers
from vocalrep.evaluation.crops import DropConnected, crop_places, embed_crops
from vocalrep.evaluation.embedding import embed_excerpts, excerpt_places
from vocalrep.evaluation.folds import TEST, arrange, gender_folds
from vocalrep.evaluation.probes import fold_scores, identify_artists, identify_gender
from vocalrep.models.encoders import MeanMFCC, SpectrogramEncoder
from vocalrep.papers.cvsm.variants import PROTOCOLS
from vocalrep.project import VocalrepError

RELEASED, PAPER = PROTOCOLS["released"].probes, PROTOCOLS["paper"].probes


def invent(artists=12, clips=4, segments=3, dim=8, seed=0):
    "Places, embeddings and crops (again excerpts of the same segments) of artists with a direction each."
    rng = np.random.default_rng(seed)
    rows = [dict(clip=f"{a:02d}-{c}", artist=f"artist {a:02d}", gender=("female", "male")[a % 2], offset=16000 * k,
                 row=100 * a + 10 * c + s)
            for a in range(artists) for c in range(clips) for s in range(segments) for k in range(5)]
    places, voices = pd.DataFrame(rows), rng.normal(size=(artists, dim))
    crops = crop_places(places, 7, 16000, 80000)
    heard = [(2 * voices[table.artist.str[-2:].astype(int)] + rng.normal(size=(len(table), dim))).astype(np.float32)
             for table in (places, crops)]
    return places, heard[0], (crops, heard[1])


# ---- crops

def test_crops_begin_anywhere_in_every_segment():
    places, _, _ = invent()
    crops = crop_places(places, 50, 16000, 80000, seed=3)
    assert (crops.groupby(["clip", "row"]).size() == 50).all() and set(crops["row"]) == set(places["row"])
    assert crops.offset.min() >= 0 and crops.offset.max() < 64000                       # U(0, 64000)
    shares, _ = np.histogram(crops.offset, bins=8, range=(0, 64000))
    assert np.allclose(shares / len(crops), 1 / 8, atol=0.02) and crops.offset.nunique() > 0.9 * len(crops)
    assert crops.equals(crop_places(places, 50, 16000, 80000, seed=3))
    assert (crop_places(places, 2, 80000, 80000).offset == 0).all()                     # an excerpt fills the segment
    with pytest.raises(VocalrepError, match="one at least"):
        crop_places(places, 0, 16000, 80000)


def test_drop_connect_is_all_that_stays_on():
    torch.manual_seed(0)
    encoder = SpectrogramEncoder()
    dropping = DropConnected(encoder).eval()
    on = {type(module).__name__ for module in dropping.modules() if module.training}
    assert on == {"DropPath"} and dropping.train().training


def test_crops_are_heard_with_and_without_drop_connect(store):
    torch.manual_seed(0)
    encoder, asked = SpectrogramEncoder().train(), excerpt_places(store)
    asked = asked[asked["clip"] == asked["clip"].iloc[0]]
    norms = {name: value.clone() for name, value in encoder.named_buffers() if "running" in name}
    state = torch.get_rng_state()
    places = crop_places(asked, 2, 16000, 80000, seed=5)
    on, again, other = (embed_crops(store, encoder, "vocals", places, True, seed=seed) for seed in (5, 5, 6))
    off = embed_crops(store, encoder, "vocals", places, False, seed=5)
    assert encoder.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, encoder.get_buffer(name)) for name, value in norms.items())
    np.testing.assert_array_equal(on, again)
    assert np.abs(on - other).max() > 0.01 * np.abs(off).max()
    assert np.abs(on - off).max() > 0.01 * np.abs(off).max()
    np.testing.assert_array_equal(off, embed_excerpts(store, encoder, "vocals", places))


def test_an_encoder_without_blocks_hears_the_same(store):
    places = crop_places(excerpt_places(store).iloc[:10], 3, 16000, 80000)
    both = [embed_crops(store, MeanMFCC(), "mixture", places, dropping) for dropping in (True, False)]
    np.testing.assert_array_equal(*both)


# ---- the probes

HASTY = dataclasses.replace(RELEASED, artist_epochs=3, gender_epochs=3, least_updates=4, gender_epoch=256,
                            learning_rate=0.05)


def test_the_protocols_differ_in_what_teaches():
    assert (PAPER.crops, PAPER.drop_connect, PAPER.lone_excerpt) == (0, False, 1.0)
    assert RELEASED.crops > 0 and (RELEASED.drop_connect, RELEASED.lone_excerpt) == (True, 0.5)


@pytest.mark.parametrize("task", [identify_artists, identify_gender])
def test_crops_teach_and_excerpts_are_asked(task, monkeypatch):
    places, vectors, crops = invent()
    drawn = []
    draw = classifiers.draw_epoch
    monkeypatch.setattr(classifiers, "draw_epoch", lambda own, *args: drawn.append(len(own.clip)) or draw(own, *args))
    scores = task(places, vectors, HASTY, crops=crops)
    assert set(drawn) == {len(crops[0])} and not scores.reduced.str.contains("taught").any()
    nonsense = (crops[0], np.random.default_rng(0).normal(size=crops[1].shape).astype(np.float32))
    assert not task(places, vectors, HASTY, crops=nonsense).value.equals(scores.value)
    drawn.clear()
    without = task(places, vectors, HASTY)
    assert set(drawn) == {len(places)} and without.reduced.str.contains("taught by the excerpts that are asked").all()
    paper = task(places, vectors, dataclasses.replace(HASTY, crops=0))
    pd.testing.assert_series_equal(without.value, paper.value)
    assert not paper.reduced.str.contains("taught").any()


def test_crops_of_other_segments_are_refused():
    places, vectors, (crops, heard) = invent()
    fewer = (crops["clip"] != "00-0").to_numpy()
    with pytest.raises(VocalrepError, match="same segments"):
        identify_artists(places, vectors, HASTY, crops=(crops[fewer], heard[fewer]))
    with pytest.raises(VocalrepError, match="same segments"):
        identify_gender(places, vectors, HASTY, crops=(crops, heard[:, :5]))


@pytest.mark.parametrize("segments, length", [(60, 4096), (2, 4096)])
def test_an_epoch_of_gender_is_as_long_as_the_protocol_says(segments, length, monkeypatch):
    "Fewer than all segments of a large corpus, each once at most; a small one several times."
    places, vectors, _ = invent(artists=24, segments=segments)
    drawn, draw = [], classifiers.draw_epoch
    monkeypatch.setattr(classifiers, "draw_epoch", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    protocol = dataclasses.replace(PAPER, gender_epochs=1, gender_epoch=length)
    identify_gender(places, vectors, protocol)
    data = arrange(places, vectors)
    segment = np.repeat(np.arange(len(data.first)), data.size)
    assert {len(rows) for rows in drawn} == {length}
    most = max(np.bincount(segment[rows]).max() for rows in drawn)
    assert most == 1 if segments == 60 else most > 20


@pytest.mark.parametrize("lone, right", [(1.0, 1.0), (0.5, 2 / 3)])
def test_a_last_excerpt_alone_counts_as_the_protocol_says(lone, right):
    "Clips of five excerpts, all answered rightly: windows of 2, 2 and 1."
    places, vectors, _ = invent(segments=1)
    data = arrange(places, vectors)
    fold = gender_folds(data, 2)[0]
    asked = data.clip[fold.part[data.clip] == TEST]
    truth = fold.label[asked]
    answer = np.stack([truth == 0, truth == 1], 1).astype(float)
    rows = pd.DataFrame(fold_scores(data, fold, answer, (1.0, 2.0, 5.0, None), 1.0, lone))
    accuracy = rows[rows.metric == "accuracy"].set_index("seconds").value
    share = truth.mean()                                                                # of those answered "yes"
    assert accuracy[2.0] == pytest.approx(1 - share + share * right)
    assert (accuracy.drop(2.0) == 1).all()
