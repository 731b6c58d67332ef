"Corpora: tables in, tables out; splits, tags and cliques; what is wrong is one error."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.data.corpora import (
    CORPORA, Size, folder_corpus, load_corpus, music4all_corpus, studio_corpus, techniques_corpus)
from vocalrep.data.recordings import (
    SPLITS, fill_splits, read_splits, split_artists, split_tags, tabulate, with_splits)
from vocalrep.project import VocalrepError


@pytest.fixture
def music4all(tmp_path):
    "Writes id_information.csv (or another table) of a folder in the layout of Music4All."
    def write(name="id_information.csv", **columns):
        pd.DataFrame(columns).to_csv(tmp_path / name, sep="\t", index=False)
        return tmp_path
    return write


def splits_of(corpus):
    "clip -> split."
    return dict(zip(corpus.clips["clip"], corpus.clips["split"]))


# ---- the loaders ----

def test_music4all_tables(music4all, tmp_path):
    with pytest.raises(VocalrepError, match="id_information.csv.*columns id, artist"):
        music4all_corpus(tmp_path)
    with pytest.raises(VocalrepError, match="no column artist.*singer"):
        music4all_corpus(music4all(id=["a", "b"], singer=["x", "y"]))
    with pytest.raises(VocalrepError, match="appear twice, such as a"):
        music4all_corpus(music4all(id=["a", "a"], artist=["x", "y"]))
    quoted = music4all_corpus(music4all(id=["a", "b"], artist=['"x" & co', "y"]))
    assert quoted.clips.artist.tolist() == ['"x" & co', "y"]
    (tmp_path / "id_information.csv").write_text("id,artist\na,x\n")               # commas will do
    assert music4all_corpus(tmp_path).clips["clip"].tolist() == ["a"]


def test_names_that_look_like_nothing_are_names(music4all):
    clips = music4all_corpus(music4all(id=list("abcde"), artist=["NA", "null", "None", "nan", None])).clips
    assert clips.artist.tolist()[:4] == ["NA", "null", "None", "nan"] and clips.artist.isna().tolist()[4]


@pytest.mark.parametrize("content, message", [
    ("artist;gender\nx;male\n".encode(), "parted by ';'; part them by commas or tabs"),
    ("artist|gender\nx|male\n".encode(), "parted by '|'"),
    ("artist,gender\nBj\u00f6rk,female\n".encode("latin-1"), "is not UTF-8 .byte 0xf6 at 16.; save it as UTF-8"),
    ("artist,gender\nx,male\n".encode("utf-16"), "is not UTF-8"),
    (b"artist,gender\nx,male,f,g\n", "cannot be read"), (b"", "no column artist, gender"),
    (b"name,gender\nx,male\n", "no column artist .found: name, gender.; rename")])
def test_a_table_of_genders_that_does_not_fit_is_one_error(content, message, music4all):
    root = music4all(id=["a"], artist=["x"])
    (root / "gender.csv").write_bytes(content)
    with pytest.raises(VocalrepError, match=f"gender.csv: .*{message}"):
        music4all_corpus(root)


def test_an_official_split_stays_where_a_csv_says_nothing(music4all, tmp_path):
    root, own = music4all(id=list("abc"), artist=list("xyz"), split=["test", "train", "valid"]), tmp_path / "own.csv"
    own.write_text("clip,split\nb,valid\n")
    assert splits_of(load_corpus("music4all", root, splits=own)) == dict(a="test", b="valid", c="valid")
    large = studio_corpus(artists=30, clips=1)
    own.write_text(f"artist,split\n{large.clips.artist[0]},test\n")
    before, now = splits_of(large), splits_of(with_splits(large, own))
    assert {clip for clip in now if now[clip] != before[clip]} <= {large.clips["clip"][0]}


def test_folder_with_artists_from_a_csv(music, tmp_path):
    listing = tmp_path / "artists.csv"
    listing.write_text("path,artist\nAda/mono.wav,Someone\nBéla/low rate.flac,Another\n", encoding="utf-8")
    clips = folder_corpus(music, listing).clips
    assert dict(clips[["clip", "artist"]].to_numpy()) == {"Ada/mono.wav": "Someone", "Béla/low rate.flac": "Another"}


@pytest.mark.parametrize("name, root, message", [
    ("studios", "", "studio, music4all, folder"), ("folder", "", "not a folder"),
    ("music4all", "/no/such", "not a folder")])
def test_unknown_corpora(name, root, message):
    with pytest.raises(VocalrepError, match=message):
        load_corpus(name, root)


def test_an_empty_folder_is_one_error(tmp_path):
    with pytest.raises(VocalrepError, match="no clips found"):
        folder_corpus(tmp_path)


def test_techniques_by_name():
    corpus = load_corpus("techniques")
    assert corpus.name == "techniques" and corpus.clips.artist.nunique() == 20
    assert corpus.clips["clip"].is_unique and set(corpus.clips.gender) == {"female", "male"}
    small = techniques_corpus(singers=3)
    clip = small.clips["clip"].iloc[-1]
    (voice, rate), (again, _) = (small.read(clip, rate=16000).stems["vocals"] for _ in range(2))
    assert rate == 16000 and np.isfinite(voice).all() and np.abs(voice).max() > 0.01 and (voice == again).all()


def test_sizes_of_what_the_studio_writes(music):
    studio = load_corpus("studio", size=Size(artists=30, clips=3, seconds=8.4))
    pd.testing.assert_frame_equal(studio.clips, studio_corpus(30, 3, 8.4).clips)
    singers = {size: load_corpus("techniques", size=size).clips.artist.nunique() for size in (Size(30), Size(400))}
    assert list(singers.values()) == [6, 20]
    assert load_corpus("folder", music, size=Size(3)).name == "folder"                # others have the size they have
    with pytest.raises(VocalrepError, match=", ".join(CORPORA)):
        load_corpus("vocalsets")


# ---- splits ----

def test_splits_are_disjoint_and_stable():
    names = [f"artist {i}" for i in range(200)]
    splits = pd.Series(split_artists(names))
    assert splits.value_counts().to_dict() == {"train": 160, "valid": 20, "test": 20}
    assert splits.to_dict() == split_artists(names[::-1] * 2)
    assert set(split_artists(["a", "b"]).values()) == {"train"}


def test_an_official_split_is_kept(music4all):
    official = ["test", "train", "valid", "train"]
    corpus = music4all_corpus(music4all(id=list("abcd"), artist=["x", "x", "y", "z"], split=official))
    assert splits_of(corpus) == dict(zip("abcd", official))                  # although x is in two of them
    assert list(corpus.clips)[:5] == ["clip", "artist", "gender", "split", "path"]


def test_clips_without_a_split_join_their_artist_or_are_hashed(music4all):
    artists = [f"artist {i // 2}" for i in range(60)]
    half = ["test", None, "valid", None] + [None] * 56
    corpus = music4all_corpus(music4all(id=[f"c{i}" for i in range(60)], artist=artists, split=half))
    splits = splits_of(corpus)
    assert [splits[f"c{i}"] for i in range(4)] == ["test", "test", "valid", "valid"]
    expected = split_artists(artists[4:])
    assert all(splits[f"c{i}"] == expected[artists[i]] for i in range(4, 60))


def test_an_unknown_split_is_one_error(music4all, tmp_path):
    root = music4all(id=["a", "b"], artist=["x", "y"], split=["train", "validation"])
    with pytest.raises(VocalrepError, match="id_information.csv: unknown split 'validation'.*train, valid, test"):
        music4all_corpus(root)
    (tmp_path / "own.csv").write_text("clip,split\na,training\n")
    with pytest.raises(VocalrepError, match="own.csv: unknown split 'training'"):
        read_splits(tmp_path / "own.csv")


def test_ones_own_csv_replaces_the_splits(music4all, tmp_path):
    root, own = music4all(id=list("abcd"), artist=["x", "x", "y", "z"], split=["test"] * 4), tmp_path / "own.csv"
    own.write_text("clip,split\na,train\nb,train\nc,valid\nd,test\nabsent,test\n")
    by_clip = load_corpus("music4all", root, splits=own)
    assert splits_of(by_clip) == dict(a="train", b="train", c="valid", d="test")
    own.write_text("artist\tsplit\nx\tvalid\ny\ttrain\nz\ttrain\n")                   # tabs will do, and artists
    by_artist = load_corpus("music4all", root, splits=str(own))
    assert splits_of(by_artist) == dict(a="valid", b="valid", c="train", d="train")
    studio = studio_corpus(artists=5, clips=2)
    own.write_text(f"artist,split\n{studio.clips.artist[0]},test\n")
    divided = with_splits(studio, own).clips
    assert (divided.groupby("artist").split.nunique() == 1).all() and divided.split[0] == "test"
    assert divided.drop(columns="split").equals(studio.clips.drop(columns="split"))


@pytest.mark.parametrize("text, message", [
    ("name,split\na,train\n", "no column clip or artist"), ("clip,part\na,train\n", "no column split"),
    ("clip,split\na,train\na,test\n", "a is in two splits"),
    ("clip,split\nz,train\n", "none of its 1 values of column clip")])
def test_a_csv_that_does_not_fit_is_one_error(text, message, music4all, tmp_path):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(VocalrepError, match=f"own.csv: {message}"):
        load_corpus("music4all", music4all(id=["a"], artist=["x"]), splits=tmp_path / "own.csv")
    with pytest.raises(VocalrepError, match="cannot be read"):
        read_splits(tmp_path / "absent.csv")


# ---- clips without an artist, with tags, with a clique ----

def test_clips_without_an_artist(music4all):
    artists = ["x", None, "x", None, *(f"y{i}" for i in range(40))]
    clips = music4all_corpus(music4all(id=[f"c{i}" for i in range(44)], artist=artists)).clips
    assert clips.artist.isna().tolist() == [a is None for a in artists] and clips.split.isin(SPLITS).all()
    assert clips.split[0] == clips.split[2]
    groups = ["x", "c1", "x", "c3", *artists[4:]]
    assert clips.split.tolist() == [split_artists(groups)[group] for group in groups]


def test_a_corpus_of_nothing_but_files(music, tmp_path):
    (tmp_path / "listing.csv").write_text("path\nAda/mono.wav\nZoë/loud.wav\n", encoding="utf-8")
    clips = folder_corpus(music, tmp_path / "listing.csv").clips
    assert clips["clip"].tolist() == ["Ada/mono.wav", "Zoë/loud.wav"] and clips.artist.isna().all()
    assert set(clips.split) == {"train"}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, "1", "2", "3", "4", "5"]),
                          st.sampled_from([None, None, "train", "valid", "test"])), min_size=1, max_size=30))
def test_what_belongs_together_stays_together(rows):
    clips = pd.DataFrame(rows, columns=["artist", "clique", "split"]).assign(clip=[f"c{i}" for i in range(len(rows))])
    table = tabulate(clips, "clips")
    assert table.split.isin(SPLITS).all()
    assert [s for s, (_, _, wanted) in zip(table.split, rows) if wanted] == [wanted for *_, wanted in rows if wanted]
    free = tabulate(clips.drop(columns="split"), "clips")
    assert (free.groupby("artist").split.nunique() <= 1).all()
    unknown = free[free.artist.isna()]
    assert (unknown.groupby("clique").split.nunique() <= 1).all()
    shuffled = clips.sample(frac=1, random_state=0)
    again = tabulate(shuffled.drop(columns="split"), "clips").set_index("clip").split
    assert again.to_dict() == free.set_index("clip").split.to_dict()


def test_tags_and_cliques_from_a_csv(music, tmp_path):
    listing = "path,tags,clique\nAda/mono.wav,rock| slow,7\nZoë/loud.wav,,7\n"
    (tmp_path / "listing.csv").write_text(listing, encoding="utf-8")
    clips = folder_corpus(music, tmp_path / "listing.csv").clips
    assert clips.tags.tolist() == [["rock", "slow"], []] and clips.clique.tolist() == ["7", "7"]
    assert "tags" not in folder_corpus(music).clips and "clique" not in folder_corpus(music).clips


@pytest.mark.parametrize("value, tags", [
    ("a", ["a"]), ("a|b|", ["a", "b"]), ("", []), (None, []), (float("nan"), []), (("a", "b"), ["a", "b"]),
    (np.array(["a"]), ["a"]), ([], [])])
def test_tags(value, tags):
    assert split_tags(value) == tags


def test_known_splits_are_not_moved():
    clips = pd.DataFrame(dict(clip=list("abcd"), artist=["x", "y", None, None], split=["test", "valid", "train", None]))
    assert fill_splits(clips).tolist() == ["test", "valid", "train", "train"]
