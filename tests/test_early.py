"The early score: what was measured before it was a room of its own, and stores with little to score."
import numpy as np
import pytest

from vocalrep.evaluation.early import early_places, early_similarity, sources_of
from vocalrep.evaluation.embedding import embed_clips, excerpt_places
from vocalrep.evaluation.verification import artist_similarity
from vocalrep.models.adapters import TorchEncoder
from vocalrep.models.encoders import MeanMFCC


def test_the_score_is_that_of_its_definition(store):
    "Centred embeddings of all validation clips (fewer than fifty artists, fewer than four clips each), over all pairs."
    row = early_similarity()(MeanMFCC(), store)
    assert list(row) == ["eer_mixture", "eer_vocals"]
    for source in ("mixture", "vocals"):
        places = excerpt_places(store, "valid", 6)
        clips, vectors = embed_clips(store, MeanMFCC(), source, places=places)
        expected = artist_similarity(vectors - vectors.mean(0), clips.artist.to_numpy(), trials=1)["eer"]
        assert row[f"eer_{source}"] == expected


def test_dry_vocals_have_one_source(vocals):
    "One validation singer is not enough; all twelve are."
    assert sources_of(vocals) == ("vocals",)
    assert early_places(vocals, 4.0) is None and early_similarity()(MeanMFCC(), vocals) == {}
    vocals = type(vocals)(vocals.folder)
    vocals.segments["split"] = "valid"
    row = early_similarity()(MeanMFCC(), vocals)
    assert list(row) == ["eer_vocals"] and 0 <= row["eer_vocals"] <= 1


@pytest.mark.parametrize("stems, expected", [
    (("vocals",), ("vocals",)), (("mixture",), ("mixture",)), (("vocals", "accompaniment"), ("mixture", "vocals")),
    (("vocals", "bass", "drums", "other"), ("mixture", "vocals")), (("bass", "drums"), ("mixture",))])
def test_sources(stems, expected):
    class Store:
        def __init__(self):
            self.stems = stems
    assert sources_of(Store()) == expected


def test_few_clips_have_no_score(store):
    store = type(store)(store.folder)
    store.segments["split"] = np.where(store.segments.artist == store.segments.artist[0], "valid", "train")
    assert early_similarity()(MeanMFCC(), store) == {}                   # one artist
    store = type(store)(store.folder)
    store.segments["split"] = "train"
    assert early_similarity()(MeanMFCC(), store) == {}                   # nobody
    store = type(store)(store.folder)
    store.segments["artist"] = None
    assert early_similarity()(MeanMFCC(), store) == {}                   # nobody knows who sings


def test_at_most_so_many(store):
    store = type(store)(store.folder)
    store.segments["split"] = "valid"
    places = early_places(store, 1.0, artists=5, per_clip=3)
    assert places.artist.nunique() == 5 and (places.groupby("clip").size() <= 3).all()


def test_other_stores_and_other_encoders_get_their_own_places(store, vocals):
    validate, long = early_similarity(), TorchEncoder(lambda waves: waves[:, :9], "long", 16000, 2.5, 9)
    assert validate(MeanMFCC(), store) and validate(MeanMFCC(), vocals) == {} and validate(long, store)
    assert validate(MeanMFCC(), store) == early_similarity()(MeanMFCC(), store)
