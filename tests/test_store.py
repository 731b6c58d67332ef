"Stores: slices, norms, what is heard, stores together; what is no store is one error."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from vocalrep.data.corpora import studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound, Store, source_stems, store_identity
from vocalrep.project import VocalrepError


def everything(store, source):
    "Every segment of a store, one after the other."
    size = round(store.segment_seconds * store.rate)
    return [store.excerpts(np.array([row]), np.array([0]), size, source)[0] for row in range(len(store.segments))]


# ---- what is no store ----

def test_foreign_folders_are_no_stores(tmp_path):
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(VocalrepError, match="not a store.*vocalrep prepare"):
        Store(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(VocalrepError, match="not finished.*goes on where it stopped"):
        Store(tmp_path)


def test_damaged_store_is_one_error(tmp_path):
    store = prepare(studio_corpus(artists=3, clips=1, seconds=5.0), tmp_path / "store", workers=1, progress=False)
    shard = next((store.folder / "shards").glob("?????.npy"))
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(VocalrepError, match="damaged.*prepare"):
        Store(store.folder)


@pytest.mark.parametrize("wrong, message", [
    (dict(silence=1.3), "silences cannot be shortened in 2 stems"),
    (dict(segment=0.5), "segments of 0.5 s are shorter"),
    (dict(stems=("vocals", "mixture")), "the mixture is the sum of its stems")])
def test_impossible_sounds(wrong, message):
    with pytest.raises(VocalrepError, match=message):
        Sound(**wrong)


# ---- sources ----

@pytest.mark.parametrize("stems, source, expected", [
    (("vocals", "accompaniment"), "mixture", ("vocals", "accompaniment")),
    (("vocals", "accompaniment"), "accompaniment", ("accompaniment",)),
    (("vocals", "bass", "drums", "other"), "accompaniment", ("bass", "drums", "other")),
    (("vocals", "bass", "drums", "other"), "drums", ("drums",)),
    (("vocals",), "mixture", ("vocals",)), (("mixture",), "mixture", ("mixture",))])
def test_sources_are_sums_of_stems(stems, source, expected):
    assert source_stems(stems, source) == expected


@pytest.mark.parametrize("stems, source", [(("vocals",), "accompaniment"), (("mixture",), "vocals"),
                                           (("mixture",), "accompaniment"), (("vocals", "accompaniment"), "drums")])
def test_what_is_not_stored_cannot_be_heard(stems, source):
    with pytest.raises(VocalrepError, match=f"no stem '{source}' .it has: {', '.join(stems)}"):
        source_stems(stems, source)


# ---- norms, activity, first rows ----

def test_norms_of_segments_of_five_seconds_are_those_of_the_table(store):
    rows = np.random.default_rng(0).integers(0, len(store.segments), 9)
    for source in ("mixture", "vocals", "accompaniment"):
        norms = store.norms(rows, source)
        assert norms.dtype == np.float32 and np.array_equal(norms, store.segments[f"norm_{source}"].to_numpy()[rows])
        assert store.active(source).dtype == bool and (store.active(source) == store.segments[f"active_{source}"]).all()
    with pytest.raises(VocalrepError, match="no norms of 'drums'"):
        store.norms(rows, "drums")
    assert (store.active("drums") == store.active("mixture")).all()


@pytest.mark.parametrize("seconds", [3.92, 20.0])
def test_norms_are_those_of_five_seconds_as_loud(seconds, corpus, tmp_path):
    one = studio_corpus(artists=3, clips=1, seconds=5.0)
    store = prepare(one, tmp_path / "store", Sound(8000, segment=seconds), workers=1, progress=False)
    rows = np.arange(len(store.segments))
    for row, norm in zip(rows, store.norms(rows, "vocals")):
        wave = everything(store, "vocals")[row].numpy()
        assert np.isclose(norm, np.sqrt(5 * 8000 * np.mean(wave.astype(float) ** 2)), rtol=1e-3)
    assert store.norms(rows, "vocals").dtype == np.float32


def test_first_rows_are_where_clips_begin(dry):
    store = dry([("a", "train", 12.0), ("b", "train", 1.0), ("a", "train", 6.0)], rate=500)
    first = store.first_rows()
    assert store.segments.iloc[first]["clip"].tolist() == store.clips["clip"].tolist()
    assert (store.segments.iloc[first].position == 0).all() and first.tolist() == [0, 3, 4]


# ---- what a store is ----

def test_identities_of_earlier_stores_are_what_they_were(store):
    keys = ["corpus", "clips", "listing", "rate", "stems", "separator", "weights", "segments", "skipped"]
    assert list(store.identity) == keys
    earlier = {k: v for k, v in store.about.items() if k != "segment_seconds"}
    assert store_identity(earlier) == store.identity
    assert list(store_identity(store.about | dict(silence=1.3))) == [*keys, "silence"]
    assert list(store_identity(store.about | dict(segment_seconds=3.92))) == [*keys, "segment_seconds"]


def test_a_store_that_says_nothing_of_segments_has_five_seconds(store, tmp_path):
    shutil.copytree(store.folder, tmp_path / "earlier")
    about = json.loads((tmp_path / "earlier/store.json").read_text())
    del about["segment_seconds"]
    (tmp_path / "earlier/store.json").write_text(json.dumps(about))
    assert Store(tmp_path / "earlier").segment_seconds == 5.0


# ---- stores together ----

def test_joined_stores_are_their_parts(dry):
    parts = [dry([(f"{name}{i}", "train", 1 + 2.3 * i) for i in range(n)], rate=500)
             for name, n in (("a", 3), ("b", 10), ("c", 1))]                                            # b: two shards
    assert len(parts[1].shards) == 2
    tables = [(part.clips.copy(), part.segments.copy()) for part in parts]
    expected = [wave for part in parts for wave in everything(part, "vocals")]
    for both in (parts[0].joined(parts[1]).joined(parts[2]), parts[0].joined(parts[1].joined(parts[2]))):
        assert all(map(torch.equal, everything(both, "vocals"), expected)) and len(both.segments) == len(expected)
        assert both.clips["clip"].tolist() == [clip for part in parts for clip in part.clips["clip"]]
        for clip in both.clips.itertuples():                                           # the clips' own addresses, too
            rows = both.segments[both.segments["clip"] == clip.clip]
            assert both.base[clip.shard] + clip.start == rows.address.iloc[0] and (rows.shard == clip.shard).all()
        loaded = [wave.clone() for wave in everything(both.load(), "vocals")]
        assert all(map(torch.equal, loaded, expected))
    for part, (clips, segments) in zip(parts, tables):                                 # and the parts are as they were
        pd.testing.assert_frame_equal(part.clips, clips)
        pd.testing.assert_frame_equal(part.segments, segments)


def test_stores_that_were_prepared_differently_cannot_be_joined(dry, store, tmp_path):
    voices = dry([("a", "train", 2.0)], rate=500)
    with pytest.raises(VocalrepError, match="vocals at 500 samples/s and .* vocals, accompaniment at 16000.*alike"):
        voices.joined(store)
    with pytest.raises(VocalrepError, match="prepare them alike"):
        voices.joined(dry([("a", "train", 2.0)], rate=600))
    one, sound = studio_corpus(artists=3, clips=1, seconds=5.0), Sound(16000, segment=3.92)
    with pytest.raises(VocalrepError, match="in segments of 3.92 s; prepare them alike"):
        store.joined(prepare(one, tmp_path / "short", sound, workers=1, progress=False))
