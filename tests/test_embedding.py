"Embedding a store under what a page cannot show well: any source, level and excerpt against the shards themselves."
import numpy as np
import pandas as pd
import pytest
import torch

from vocalrep.evaluation.embedding import (
    clip_means, embed_clips, embed_excerpts, encode, excerpt_offsets, excerpt_places, fragment_places)
from vocalrep.models.adapters import TorchEncoder
from vocalrep.models.encoders import MeanMFCC
from vocalrep.project import VocalrepError


def listener(seconds=1.0, rate=16000, level="recorded"):
    "An encoder that returns what it hears."
    return TorchEncoder(lambda waves: waves, "listener", rate, seconds, round(rate * seconds), level=level)


def naive_excerpts(store, places, source, samples, level):
    "One excerpt after another, from the shards themselves."
    found = []
    for place in places.itertuples():
        segment = store.segments.iloc[place.row]
        starts = [segment.start + i * segment.stride for i in store.stems_of(source)]
        stems = [store.shards[segment.shard][start:][:80000].astype(np.float64) * segment.scale for start in starts]
        whole = sum(stems)
        heard = whole[place.offset:place.offset + samples]
        found.append(heard / {"unit-norm": np.linalg.norm(whole), "recorded": 1, "peak": np.abs(heard).max()}[level])
    return np.array(found)


@pytest.mark.parametrize("source", ["mixture", "vocals"])
@pytest.mark.parametrize("level", ["unit-norm", "recorded", "peak"])
@pytest.mark.parametrize("seconds", [1.0, 1.6, 5.0])
def test_excerpts_of_a_store_are_those_of_its_shards(store, source, level, seconds):
    encoder = listener(seconds, level=level)
    places = excerpt_places(store, seconds=seconds).iloc[::7].reset_index(drop=True)
    vectors = embed_excerpts(store, encoder, source, places, batch=3)
    assert vectors.dtype == np.float32 and vectors.shape == (len(places), encoder.samples)
    tolerance = 1e-5 if level == "unit-norm" else 2e-4
    np.testing.assert_allclose(vectors, naive_excerpts(store, places, source, encoder.samples, level), atol=tolerance)


@pytest.mark.parametrize("seconds, count", [(1.0, 5), (1.6, 3), (0.1, 50), (5.0, 1), (2.5, 2), (4.99, 1)])
def test_places_of_any_excerpt_length_stay_inside_their_segment(store, seconds, count):
    places = excerpt_places(store, seconds=seconds)
    assert places.groupby("row").size().eq(count).all() and places.offset.max() + round(seconds * 16000) <= 80000
    assert store.segments.active_vocals[places["row"]].all()


def test_excerpts_longer_than_a_segment(store):
    with pytest.raises(VocalrepError, match="5.01 s do not fit"):
        excerpt_places(store, seconds=5.01)
    assert excerpt_offsets(5.01, 16000, 20.0).tolist() == [0, 80160, 160320]


@pytest.mark.parametrize("per_clip", [None, 1, 3])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_clips_are_the_means_of_their_excerpts(store, per_clip, batch):
    places = excerpt_places(store, per_clip=per_clip)
    vectors = embed_excerpts(store, MeanMFCC(), "vocals", places)
    clips, means = embed_clips(store, MeanMFCC(), "vocals", per_clip=per_clip, batch=batch)
    again, same = clip_means(places, vectors)
    pd.testing.assert_frame_equal(clips, again)
    np.testing.assert_allclose(means, same, atol=1e-4)
    for clip, artist, excerpts, mean in zip(clips["clip"], clips.artist, clips.excerpts, means):
        mine = (places["clip"] == clip).to_numpy()
        assert mine.sum() == excerpts and set(places.artist[mine]) == {artist}
        np.testing.assert_allclose(mean, vectors[mine].mean(0), atol=1e-4)


def test_means_follow_the_rows_wherever_they_stand():
    places = pd.DataFrame(dict(clip=list("babcab"), artist=list("yxyzxy"), gender=None))
    clips, means = clip_means(places, np.array([[0.], [1], [3], [7], [2], [6]], np.float32))
    assert clips["clip"].tolist() == ["b", "a", "c"] and clips.artist.tolist() == ["y", "x", "z"]
    assert clips.excerpts.tolist() == [3, 2, 1]
    np.testing.assert_allclose(means, [[3], [1.5], [7]])
    with pytest.raises(VocalrepError, match="5 embeddings.*6 excerpts"):
        clip_means(places, np.zeros((5, 2)))


def test_clips_without_an_artist_are_embedded_too():
    places = pd.DataFrame(dict(clip=list("aabb"), artist=[None, None, "x", "x"], gender=None))
    clips, means = clip_means(places, np.arange(4.0)[:, None])
    assert clips["clip"].tolist() == ["a", "b"] and clips.artist.isna().tolist() == [True, False]
    np.testing.assert_allclose(means, [[0.5], [2.5]])


def test_embedding_leaves_the_encoder_in_its_mode(store):
    encoder = TorchEncoder(torch.nn.Dropout(0.5), "dropout", 16000, 1.0, 16000).train()
    places = excerpt_places(store, per_clip=1)
    heard = embed_excerpts(store, encoder, "vocals", places)
    np.testing.assert_array_equal(heard, embed_excerpts(store, listener(), "vocals", places))
    assert encoder.training and encoder.module.training

    def fails(waves):
        raise ValueError("inside")
    encoder = TorchEncoder(fails, "fails", 16000, 1.0, 1).train()
    with pytest.raises(ValueError, match="inside"):
        embed_excerpts(store, encoder, "vocals", places)
    assert encoder.training


def test_norms_reach_the_encoder():
    waves, norms = torch.ones(2, 16000), np.array([2.0, 4.0], np.float32)
    assert torch.equal(encode(listener(level="unit-norm"), waves, norms)[:, 0], torch.tensor([0.5, 0.25]))
    assert torch.equal(encode(listener(), waves, norms), waves)
    assert encode(listener(level="unit-norm"), waves).square().sum(1).numpy() == pytest.approx([0.2, 0.2], rel=1e-5)


def test_a_store_says_what_does_not_fit(store):
    with pytest.raises(VocalrepError, match="44100.*prepare the corpus at rate 44100"):
        embed_clips(store, listener(rate=44100))
    with pytest.raises(VocalrepError, match="drums"):
        embed_excerpts(store, listener(), "drums")
    with pytest.raises(VocalrepError, match="no excerpt"):
        embed_excerpts(store, listener(), places=excerpt_places(store).head(0))
    with pytest.raises(VocalrepError, match="no segment with vocals in the dev split"):
        excerpt_places(store, "dev")


# ---- fragments ----

def test_fragments_cut_whole_recordings(vocals):
    fragments = fragment_places(vocals, seconds=2.0)
    samples = vocals.clips.set_index("clip").samples
    counts = fragments.groupby("clip").size()
    assert (counts == (samples // 88200).reindex(counts.index)).all() and fragments.name.is_unique
    assert (fragments.offset % 88200 == 0).all()
    heard = embed_excerpts(vocals, listener(2.0, 44100), "vocals", fragments.head(2))
    whole = vocals.excerpts(fragments["row"].to_numpy()[:1], np.array([0]), 2 * 88200, "vocals")
    np.testing.assert_array_equal(heard.ravel(), whole.numpy().ravel())
    with pytest.raises(VocalrepError, match="lasts 60 s"):
        fragment_places(vocals, seconds=60.0)
