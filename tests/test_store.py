"Stores: slices, norms, what is heard, stores together; what is no store is one error."
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vocalrep.data import audio as audio_room
from vocalrep.data import store as store_room
from vocalrep.data.corpora import folder_corpus, music4all_corpus, studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.recordings import Corpus, Recording, tabulate
from vocalrep.data.store import Sound, Store, met_in_training, source_stems, store_identity, trained_artists, verify
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


# ---- damage: an error, never a number; and `prepare` mends it ----

@pytest.fixture
def songs():
    "Twenty-four clips: three shards of equal size."
    rows = pd.DataFrame(dict(clip=[f"c{k:02}" for k in range(24)], artist=[f"a{k // 4}" for k in range(24)], level=1.0))
    rows["level"] = np.linspace(0.1, 0.9, 24)
    return Corpus("constants", tabulate(rows, "rows"), _constant)


def _constant(row, rate):
    return Recording(np.full((1, 5 * rate), row["level"], np.float32), rate, {})


def _change(path, change):
    "Other bytes in a file."
    path.write_bytes(bytes(change(bytearray(path.read_bytes()))))


def _flip(content):
    content[len(content) * 2 // 3] ^= 1
    return content


def _swap(shards):
    (shards / "00000.npy").rename(shards / "kept")
    (shards / "00001.npy").rename(shards / "00000.npy")
    (shards / "kept").rename(shards / "00001.npy")


def _fewer_rows(path):
    table = pd.read_parquet(path)
    table.drop(index=table.index[3]).to_parquet(path, index=False)


DAMAGES = {
    "a shard is missing": lambda folder: (folder / "shards/00001.npy").unlink(),
    "the last shard is missing": lambda folder: (folder / "shards/00002.npy").unlink(),
    "two shards are swapped": lambda folder: _swap(folder / "shards"),
    "a shard is another's copy": lambda folder: shutil.copy2(folder / "shards/00002.npy", folder / "shards/00000.npy"),
    "a shard is shorter": lambda folder: _change(folder / "shards/00001.npy", lambda content: content[:-200]),
    "a shard is longer": lambda folder: _change(folder / "shards/00001.npy", lambda content: content + content[-200:]),
    "a bit of a shard": lambda folder: _change(folder / "shards/00002.npy", _flip),
    "a bit of the segments": lambda folder: _change(folder / "segments.parquet", _flip),
    "a bit of the clips": lambda folder: _change(folder / "clips.parquet", _flip),
    "a bit of the shards' table": lambda folder: _change(folder / "shards.parquet", _flip),
    "a segment is lost": lambda folder: _fewer_rows(folder / "segments.parquet"),
    "a clip is lost": lambda folder: _fewer_rows(folder / "clips.parquet"),
    "a table is gone": lambda folder: (folder / "segments.parquet").unlink(),
    "a table is empty": lambda folder: (folder / "clips.parquet").write_bytes(b"")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_gives_one_error_and_is_mended_by_preparing(damage, songs, tmp_path):
    plain = Sound(1000, ("mixture",))
    made = prepare(songs, tmp_path / "store", plain, workers=1, progress=False)
    audio = [torch.clone(wave) for wave in everything(made, "mixture")]
    DAMAGES[damage](made.folder)
    with pytest.raises(VocalrepError, match="is damaged: .*vocalrep prepare") as error:
        Store(made.folder)
    assert "\n" not in str(error.value)
    now = prepare(songs, made.folder, plain, workers=1, progress=False)
    assert now.identity == made.identity and all(map(torch.equal, everything(now, "mixture"), audio))
    verify(now)
    assert now.about == made.about


def test_what_a_failing_disk_does_is_found_by_verifying(songs, tmp_path):
    made = prepare(songs, tmp_path / "store", Sound(1000, ("mixture",)), workers=1, progress=False)
    _change(made.folder / "shards/00001.npy", _flip)
    os.utime(made.folder / "store.json")                        # as if nobody had touched the shard since
    with pytest.raises(VocalrepError, match="1 shards are not what was written, such as shards/00001.npy"):
        verify(Store(made.folder))
    with pytest.raises(VocalrepError, match="damaged"):         # and from now on nobody reads it
        Store(made.folder)
    verify(prepare(songs, made.folder, Sound(1000, ("mixture",)), workers=1, progress=False))


def test_a_copied_store_is_read_once_and_then_trusted(songs, tmp_path, monkeypatch):
    made = prepare(songs, tmp_path / "store", Sound(1000, ("mixture",)), workers=1, progress=False)
    shutil.copytree(made.folder, tmp_path / "copy")
    os.utime(made.folder / "store.json")
    read, digest = [], store_room.digest
    monkeypatch.setattr(store_room, "digest", lambda path: (read.append(path), digest(path))[1])
    for path in (tmp_path / "copy/shards").iterdir():
        os.utime(path)                                          # copied after its store.json
    assert Store(tmp_path / "copy").identity == made.identity and len(read) == 3
    assert Store(tmp_path / "copy").identity == made.identity and len(read) == 3


def test_many_shards_hold_no_file_open(songs, tmp_path):
    made = prepare(songs, tmp_path / "store", Sound(1000, ("mixture",)), workers=1, progress=False)
    before = len(os.listdir("/proc/self/fd"))
    stores = [Store(made.folder) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) < before + 20 and len(stores[-1].shards) == 3


# ---- which store is it? ----

def _folder(root, seed):
    "A folder of three clips."
    rng = np.random.default_rng(seed)
    for name in ("a/one.wav", "a/two.wav", "b/three.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, rng.normal(0, 0.1, 16000), 16000)
    return root


def test_other_audio_under_the_same_names_is_another_store(tmp_path):
    plain, quietly = Sound(16000, ("mixture",)), dict(workers=1, progress=False)
    roots = [_folder(tmp_path / name, seed) for name, seed in (("one", 0), ("copy", 0), ("other", 1))]
    first, copy, other = (prepare(folder_corpus(root), root.with_suffix(".store"), plain, **quietly) for root in roots)
    assert first.identity == copy.identity != other.identity
    assert {k for k in first.identity if first.identity[k] != other.identity[k]} == {"audio"}
    renewed = prepare(folder_corpus(_folder(tmp_path / "one", 1)), first.folder, plain, **quietly)
    assert renewed.identity == other.identity


def test_a_file_is_read_again_only_when_its_size_or_time_differ(tmp_path, monkeypatch):
    plain, quietly = Sound(16000, ("mixture",)), dict(workers=1, progress=False)
    root = _folder(tmp_path / "root", 0)
    made = prepare(folder_corpus(root), tmp_path / "store", plain, **quietly)
    read, digest = [], audio_room.digest
    monkeypatch.setattr(audio_room, "digest", lambda path: (read.append(path), digest(path))[1])
    assert prepare(folder_corpus(root), made.folder, plain, **quietly).identity == made.identity and not read
    os.utime(root / "a/two.wav")
    assert prepare(folder_corpus(root), made.folder, plain, **quietly).identity == made.identity
    assert [path[-9:] for path in read] == ["a/two.wav"]


def test_labels_are_taken_in_anew(tmp_path, monkeypatch):
    plain, quietly = Sound(16000, ("mixture",)), dict(workers=1, progress=False)
    root = tmp_path / "root"
    (root / "audios").mkdir(parents=True)
    table = pd.DataFrame(dict(id=list("abcd"), artist=["NA", "null", "x", "x"]))
    table.to_csv(root / "id_information.csv", index=False)
    for k, clip in enumerate("abcd"):
        soundfile.write(root / f"audios/{clip}.mp3", np.random.default_rng(k).normal(0, 0.1, 32000), 16000)
    before = prepare(music4all_corpus(root), tmp_path / "store", plain, **quietly)
    (root / "gender.csv").write_text("artist,gender\nNA,female\nx,male\n")
    monkeypatch.setattr("vocalrep.data.prepare.prepare_chunk", None)               # no audio is touched
    now = prepare(music4all_corpus(root), before.folder, plain, **quietly)
    assert now.clips.gender.fillna("?").tolist() == ["female", "?", "male", "male"]
    assert now.clips.artist.tolist() == ["NA", "null", "x", "x"]
    assert {k for k in now.identity if now.identity[k] != before.identity[k]} == {"listing"}
    monkeypatch.undo()
    afresh = prepare(music4all_corpus(root), tmp_path / "afresh", plain, **quietly)
    for table in ("clips", "segments"):
        pd.testing.assert_frame_equal(getattr(now, table), getattr(afresh, table))
    assert afresh.identity == now.identity


# ---- whom a training has met ----

def test_artists_of_another_stores_test_may_have_been_trained_on(tmp_path):
    plain, quietly = Sound(8000, ("mixture",)), dict(workers=1, progress=False)
    small, large = (prepare(studio_corpus(artists=n, clips=1, seconds=5.0), tmp_path / str(n), plain, **quietly)
                    for n in (5, 20))
    trained = trained_artists(large)
    assert trained == dict(corpus="studio", artists=large.artists_of("train")) and len(trained["artists"]) == 16
    assert large.artists_of("test") == sorted(large.clips.artist[large.clips.split == "test"].unique())
    expected = [name for name in small.artists_of("test") if name in trained["artists"]]
    assert met_in_training(trained, small) == expected and met_in_training(trained, large) == []
    assert met_in_training(trained, large, "train") == trained["artists"]
    assert met_in_training(None, small) == met_in_training(dict(trained, corpus="other"), small, "train") == []


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
