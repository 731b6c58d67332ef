"Music with tags, families and genres, built here as small published trees; what does not fit gives one clear error."
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile

from vocalrep.data.annotated import (ANNOTATED, FMA_BROKEN, FMA_GENRES, MTAT_TAGS, NSYNTH_FAMILIES, fma_corpus,
                                     magnatagatune_corpus, note_instrument, nsynth_corpus, read_keys, split_by_letter)
from vocalrep.data.corpora import CORPORA, load_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.project import VocalrepError

PLAIN = Sound(16000, ("mixture",))
# clip, artist, tags
CLIPS = [("0/ada-one-0-29", "Ada", ["guitar", "slow"]), ("b/ada-two-29-58", "Ada", ["guitar"]),
         ("c/björk_x-ævi-0-29", "Björk", ["choral", "female voice"]), ("d/cleo-a__b-0-29", "Cleo", ["rock"]),
         ("f/dan-one-0-29", "Dan", []), ("9/九-一-0-29", "九", ["no vocals"])]
LISTS = {"train": ["0/ada-one-0-29", "9/九-一-0-29"], "valid": ["c/björk_x-ævi-0-29"], "test": ["d/cleo-a__b-0-29"]}
NOTES = {"train": ["bass_synthetic_033-022-050", "bass_synthetic_033-060-127", "synth_lead_synthetic_001-060-127"],
         "valid": ["vocal_acoustic_000-060-025"], "test": ["organ_electronic_007-010-100"]}
HEADER = [["", "album", "set", "set", "track", "track", "artist"],
          ["", "comments", "split", "subset", "genre_top", "title", "name"],
          ["track_id", "", "", "", "", "", ""]]
TRACKS = [["2", "0", "training", "small", "Hip-Hop", "Food", "AWOL"],
          ["5", "0", "validation", "small", "Folk", 'A "Song", long', "Ada\nand friends"],
          ["140", "1", "test", "small", "International", "Ævi", "Björk"],
          ["133297", "0", "training", "small", "Hip-Hop", "x", "Noise"],
          ["7", "0", "training", "medium", "Rock", "y", "Nobody"], ["8", "0", "test", "large", "", "z", "Nobody"]]


def write(path, seconds=0.2, rate=16000, seed=0):
    "An audio file of noise."
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)), rate)


def annotations(root, clips=CLIPS, **columns):
    "annotations_final.csv of these clips, with two tags that are not asked; columns replace what stands there."
    table = {"clip_id": range(1, len(clips) + 1)}
    table |= {tag: [int(tag in tags) for _, _, tags in clips] for tag in ("trumpet", *sorted(MTAT_TAGS), "eerie")}
    table |= {"mp3_path": [f"{clip}.mp3" for clip, _, _ in clips]} | columns
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(root / "annotations_final.csv", sep="\t", index=False)


@pytest.fixture
def mtat(tmp_path):
    "MagnaTagATune as it is unpacked."
    root = tmp_path / "MagnaTagATune μ"
    annotations(root)
    for clip, _, _ in CLIPS:
        write(root / f"{clip}.mp3", seconds=1.5)
    info = pd.DataFrame([dict(clip_id=k, artist=artist, mp3_path=f"{clip}.mp3")
                         for k, (clip, artist, _) in enumerate(CLIPS)] + [dict(clip_id=99, artist="X", mp3_path=None)])
    info.to_csv(root / "clip_info_final.csv", sep="\t", index=False)
    return root


@pytest.fixture
def nsynth(tmp_path):
    "NSynth as it is unpacked, one split as the release of MSCOL nests it."
    for split, keys in NOTES.items():
        name = f"nsynth-{split}"
        folder = tmp_path / "NSynth" / (f"{name}.jsonwav/{name}" if split == "valid" else name)
        for key in keys:
            write(folder / f"audio/{key}.wav", seconds=1.2)
        (folder / "examples.json").write_text(json.dumps({key: dict(pitch=1, qualities=[0]) for key in keys}))
    return tmp_path / "NSynth"


@pytest.fixture
def fma(tmp_path):
    "FMA-small and its metadata as they are unpacked."
    (tmp_path / "FMA/fma_metadata").mkdir(parents=True)
    pd.DataFrame(HEADER + TRACKS).to_csv(tmp_path / "FMA/fma_metadata/tracks.csv", header=False, index=False)
    for track in ("000002", "000005", "000140", "133297"):
        write(tmp_path / f"FMA/fma_small/{track[:3]}/{track}.mp3", seconds=1.5)
    return tmp_path / "FMA"


def put_lists(root, lists=LISTS, kind="npy", place="data-split"):
    "The filtered split."
    (root / place).mkdir(exist_ok=True)
    for split, names in lists.items():
        if kind == "npy":
            np.save(root / place / f"{split}_keys.npy", np.array(names))
        else:
            (root / place / f"{split}_keys.txt").write_text("\n".join(f"{n}.mp3" for n in names), encoding="utf-8")


def splits(corpus):
    "clip -> split."
    return corpus.clips.set_index("clip").split.to_dict()


# -- MagnaTagATune ---------------------------------------------------------------------------------------------------

def test_tags_artists_and_the_unfiltered_split(mtat):
    clips = magnatagatune_corpus(mtat).clips
    assert clips["clip"].tolist() == [clip for clip, _, _ in CLIPS]
    assert clips.artist.tolist() == [artist for _, artist, _ in CLIPS]
    assert [set(tags) for tags in clips.tags] == [set(tags) for _, _, tags in CLIPS]
    assert clips.tags[2] == ["female voice", "choral"]                                     # in the published order
    assert clips.split.tolist() == ["train", "train", "valid", "test", "test", "train"]


@pytest.mark.parametrize("kind", ["npy", "txt"])
@pytest.mark.parametrize("place", ["", "data-split", "data_split"])
def test_the_filtered_split_keeps_what_is_listed(mtat, kind, place):
    put_lists(mtat, kind=kind, place=place)
    expected = {name: split for split, names in LISTS.items() for name in names}
    assert splits(magnatagatune_corpus(mtat)) == splits(magnatagatune_corpus(mtat, "filtered")) == expected
    assert len(magnatagatune_corpus(mtat, "unfiltered").clips) == len(CLIPS)
    assert splits(load_corpus("magnatagatune", mtat)) == expected


def test_text_goes_before_an_array_and_bytes_are_text(mtat):
    put_lists(mtat)
    (mtat / "data-split/test_keys.txt").write_text("f/dan-one-0-29\n")
    np.save(mtat / "data-split/train_keys.npy", np.array([b"0/ada-one-0-29"]))
    assert splits(magnatagatune_corpus(mtat)) == {"0/ada-one-0-29": "train", "c/björk_x-ævi-0-29": "valid",
                                                  "f/dan-one-0-29": "test"}


def test_audio_in_a_folder_mp3_and_no_artists(mtat):
    (mtat / "clip_info_final.csv").unlink()
    (mtat / "mp3").mkdir()
    for letter in "0bcdf9":
        (mtat / letter).rename(mtat / "mp3" / letter)
    corpus = magnatagatune_corpus(mtat)
    assert corpus.clips.artist.isna().all() and corpus.read("9/九-一-0-29").rate == 16000


def test_a_store_of_tagged_clips(mtat, tmp_path):
    (mtat / "f/dan-one-0-29.mp3").write_bytes(b"")                                        # three such are published
    (mtat / "d/cleo-a__b-0-29.mp3").unlink()
    store = prepare(magnatagatune_corpus(mtat), tmp_path / "store", PLAIN, workers=1, progress=False)
    assert set(store.clips["clip"]) == {clip for clip, _, _ in CLIPS} - {"f/dan-one-0-29", "d/cleo-a__b-0-29"}
    tags = store.clips.set_index("clip").tags
    assert tags["0/ada-one-0-29"] == ["guitar", "slow"] and isinstance(tags["9/九-一-0-29"], list)
    skipped = pd.read_csv(tmp_path / "store/skipped.csv")
    assert set(skipped["clip"]) == {"f/dan-one-0-29", "d/cleo-a__b-0-29"}


def test_lists_that_do_not_fit_are_refused(mtat):
    def refused(lists, *words):
        put_lists(mtat, {**LISTS, **lists})
        with pytest.raises(VocalrepError) as error:
            magnatagatune_corpus(mtat)
        assert all(word in str(error.value) for word in words), error.value
    refused({"valid": ["c/nobody", "c/björk_x-ævi-0-29"]}, "valid_keys.npy", "1 of its 2", "c/nobody",
            "annotations_final.csv")
    refused({"valid": LISTS["train"][:1]}, "0/ada-one-0-29", "list of train")
    refused({"valid": [1.0, 2.0]}, "valid_keys.npy", "float64", "valid_keys.txt")
    refused({"valid": [["a"], ["b"]]}, "2 dimensions")
    put_lists(mtat)
    (mtat / "data-split/test_keys.npy").unlink()
    with pytest.raises(VocalrepError, match="none of test"):
        magnatagatune_corpus(mtat)
    with pytest.raises(VocalrepError, match="unknown split 'half'"):
        magnatagatune_corpus(mtat, "half")


class Bomb:
    "Says when it is unpickled."
    def __reduce__(self):
        return (pytest.fail, ("a list was unpickled",))


def test_nothing_is_unpickled(mtat):
    (mtat / "data-split").mkdir()
    for split in LISTS:
        (mtat / f"data-split/{split}_list_pub.cP").write_bytes(pickle.dumps(Bomb(), 0))
    assert len(magnatagatune_corpus(mtat).clips) == len(CLIPS)                             # unfiltered
    with pytest.raises(VocalrepError, match="pickled.*train_keys.txt"):
        magnatagatune_corpus(mtat, "filtered")
    for content in (pickle.dumps(Bomb(), 0), b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{'descr'"):
        path = mtat / "data-split/train_keys.npy"
        path.write_bytes(content)
        with pytest.raises(VocalrepError, match="train_keys.txt"):
            read_keys(path)
    np.save(path, np.array([Bomb(), None], dtype=object), allow_pickle=True)
    with pytest.raises(VocalrepError, match="train_keys.txt"):
        read_keys(path)
    with pytest.raises(VocalrepError, match="no such file"):
        read_keys(mtat / "nowhere.txt")


@pytest.mark.parametrize("change, words", [
    (dict(mp3_path=["g/x.mp3"] * 6), "folders 0 to f"), (dict(mp3_path=["0/x.mp3"] * 6), "appear twice.*0/x"),
    (dict(mp3_path=[None, *"abcde"]), "row 1 has no mp3_path"),
    (dict(rock=[0, 1, 2, 0, 0, 0]), "tag rock of c/björk.* is 2"), (dict(rock=[0.5] * 6), "rock.*0.5")])
def test_other_annotations_are_refused(mtat, change, words):
    annotations(mtat, **change)
    with pytest.raises(VocalrepError, match=words) as error:
        magnatagatune_corpus(mtat)
    assert ";" in str(error.value)


def test_a_table_of_other_tags_is_refused(mtat):
    table = pd.read_csv(mtat / "annotations_final.csv", sep="\t")
    for renamed, words in (({"rock": "Rock", "sitar": "Sitar"}, "2 of the 50 tags.*rock, sitar"),
                           ({"mp3_path": "path"}, "no column mp3_path")):
        table.rename(columns=renamed).to_csv(mtat / "annotations_final.csv", sep="\t", index=False)
        with pytest.raises(VocalrepError, match=words):
            magnatagatune_corpus(mtat)
    (mtat / "annotations_final.csv").unlink()
    with pytest.raises(VocalrepError, match="annotations_final.csv.*no such file"):
        magnatagatune_corpus(mtat)


def test_paths_stay_in_the_folder(mtat):
    annotations(mtat, [("0/../../secret", "x", [])])
    corpus = magnatagatune_corpus(mtat)
    with pytest.raises(VocalrepError, match="leads out"):
        corpus.read("0/../../secret")


# -- NSynth ----------------------------------------------------------------------------------------------------------

def test_notes_families_and_instruments(nsynth):
    clips = nsynth_corpus(nsynth).clips.set_index("clip")
    assert clips.split.to_dict() == {key: split for split, keys in NOTES.items() for key in keys}
    assert clips.family.tolist() == ["bass", "bass", "synth_lead", "vocal", "organ"]
    assert clips.artist.tolist() == ["bass_synthetic_033"] * 2 + ["synth_lead_synthetic_001", "vocal_acoustic_000",
                                                                  "organ_electronic_007"]
    assert "fault" not in clips
    assert load_corpus("nsynth", nsynth).read("bass_synthetic_033-022-050").mixture.shape == (1, 19200)


@pytest.mark.parametrize("family", NSYNTH_FAMILIES)
def test_all_families_come_out(family):
    assert note_instrument(f"{family}_acoustic_12-060-100") == (family, f"{family}_acoustic_12")
    assert family.startswith(f"{family}_acoustic_12".split("_")[0])                        # the released rule agrees


@pytest.mark.parametrize("key", ["kazoo_acoustic_001-060-100", "bass_acoustic_001-060", "bass_001-060-100", "", "../x",
                                 "bass_acoustic_001-060-100.wav", "Bass_acoustic_001-060-100", "bass\udce9"])
def test_a_key_that_does_not_parse_is_skipped_with_its_reason(nsynth, tmp_path, key):
    assert note_instrument(key) is None
    path = nsynth / "nsynth-train/examples.json"
    path.write_text(json.dumps({key: {}, NOTES["train"][0]: {}}))
    store = prepare(nsynth_corpus(nsynth), tmp_path / "store", PLAIN, workers=1, progress=False)
    assert set(store.clips["clip"]) == {NOTES["train"][0], *NOTES["valid"], *NOTES["test"]}
    skipped = pd.read_csv(tmp_path / "store/skipped.csv", keep_default_na=False)
    assert len(skipped) == 1 and "eleven families" in skipped.reason[0]


@pytest.mark.parametrize("text, words", [
    ('{"a": {}, "b": {}, "a": {}}', "a comes twice"), ("[]", "a list"), ("{", "Expecting"), ("", "Expecting"),
    ("[" * 100_000, "recursion")])
def test_damaged_notes_are_refused(nsynth, text, words):
    (nsynth / "nsynth-test/examples.json").write_text(text)
    with pytest.raises(VocalrepError, match=words) as error:
        nsynth_corpus(nsynth)
    assert "nsynth-test/examples.json" in str(error.value)


def test_a_note_in_two_splits_is_refused(nsynth):
    (nsynth / "nsynth-test/examples.json").write_text(json.dumps({NOTES["train"][0]: {}}))
    with pytest.raises(VocalrepError, match=f"appear twice.*{NOTES['train'][0]}"):
        nsynth_corpus(nsynth)


def test_one_split_alone_is_read(nsynth, tmp_path):
    (nsynth / "nsynth-test").rename(tmp_path / "nsynth-test")
    assert set(nsynth_corpus(tmp_path).clips.split) == {"test"}
    with pytest.raises(VocalrepError, match="nsynth-train/examples.json"):
        nsynth_corpus(tmp_path / "nsynth-test")


# -- FMA -------------------------------------------------------------------------------------------------------------

def test_tracks_genres_and_the_default_split(fma, tmp_path):
    corpus = fma_corpus(fma)
    clips = corpus.clips.set_index("clip")
    assert list(clips.index) == ["000002", "000005", "000140", "133297"]
    assert clips.split.tolist() == ["train", "valid", "test", "train"]
    assert clips.genre.tolist() == ["Hip-Hop", "Folk", "International", "Hip-Hop"]
    assert set(clips.genre) < set(FMA_GENRES) and len(FMA_GENRES) == 8
    assert clips.artist.tolist() == ["AWOL", "Ada\nand friends", "Björk", "Noise"]
    store = prepare(corpus, tmp_path / "store", PLAIN, workers=1, progress=False)
    assert set(store.clips["clip"]) == {"000002", "000005", "000140"} and "genre" in store.clips
    skipped = pd.read_csv(tmp_path / "store/skipped.csv", dtype=str)
    assert skipped["clip"].tolist() == ["133297"] and "broken" in skipped.reason[0] and "133297" in FMA_BROKEN


@pytest.mark.parametrize("header", [HEADER[:2], HEADER])
def test_the_third_row_of_the_header_is_no_track(fma, header):
    pd.DataFrame(header + TRACKS).to_csv(fma / "fma_metadata/tracks.csv", header=False, index=False)
    assert len(fma_corpus(fma).clips) == 4


@pytest.mark.parametrize("rows, words", [
    (TRACKS, "no set.split, set.subset"), ([HEADER[0]], "tracks.csv of fma_metadata.zip"), ([], "fma_metadata.zip"),
    (HEADER + TRACKS + TRACKS[:1], "appear twice.*000002"), (HEADER + [["x", *TRACKS[0][1:]]], "'x' is no number"),
    (HEADER + [[*TRACKS[0][:2], "holdout", *TRACKS[0][3:]]], "unknown split 'holdout'"),
    (HEADER + TRACKS[4:], "no clips found")])
def test_other_tables_of_tracks_are_refused(fma, rows, words):
    pd.DataFrame(rows).to_csv(fma / "fma_metadata/tracks.csv", header=False, index=False)
    with pytest.raises(VocalrepError, match=words) as error:
        fma_corpus(fma)
    assert "tracks.csv" in str(error.value) and ";" in str(error.value)


def test_a_table_that_is_no_text_or_not_there_is_refused(fma):
    path = fma / "fma_metadata/tracks.csv"
    path.write_bytes(b"\xff\xfe\x00,set\n\xe9")
    with pytest.raises(VocalrepError, match="tracks.csv: is not FMA's table"):
        fma_corpus(fma)
    path.unlink()
    with pytest.raises(VocalrepError, match="no such file.*fma_metadata.zip"):
        fma_corpus(fma)
    (fma / "fma_small").rename(fma / "fma_large")
    with pytest.raises(VocalrepError, match="fma_small.zip"):
        fma_corpus(fma)


# -- all of them -----------------------------------------------------------------------------------------------------

def test_every_loader_has_a_name(mtat, nsynth, fma, tmp_path):
    assert set(ANNOTATED) < set(CORPORA)
    for name, root in (("magnatagatune", mtat), ("nsynth", nsynth), ("fma", fma)):
        assert load_corpus(name, root).name == name
        with pytest.raises(VocalrepError, match="is not a folder"):
            load_corpus(name, tmp_path / "nowhere")


def test_own_splits_replace_the_official_ones(nsynth, tmp_path):
    (tmp_path / "own.csv").write_text("artist,split\nbass_synthetic_033,test\n")
    corpus = load_corpus("nsynth", nsynth, splits=tmp_path / "own.csv")
    assert splits(corpus)["bass_synthetic_033-060-127"] == "test"


@pytest.mark.parametrize("clip", ["", "x", "/0/x", "0", "00/x", "é/x"])
def test_a_clip_outside_the_folders_has_no_letter(clip):
    with pytest.raises(VocalrepError, match="0 to f"):
        split_by_letter(clip)
