"What is said of a studio song is true of its recording, and is the same every time."
import numpy as np
import pandas as pd
import pytest

from vocalrep.data.corpora import studio_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound, Store
from vocalrep.project import VocalrepError
from vocalrep.studio.arrangement import STYLES
from vocalrep.studio.composition import compose
from vocalrep.studio.songs import render_clip, studio_table
from vocalrep.studio.tags import (FAST, PROGRAMS, SLOW, SONG_TAGS, TAG_GROUPS, song_tags, tag_matrix, with_song_tags,
                                  written_song)

SEEDS = ("composition_seed", "arrangement_seed", "singer_seed")


@pytest.fixture(scope="module")
def songs():
    "300 songs with their tags."
    return with_song_tags(studio_table(150, 2, 10.0))


def contents(folder):
    "Every file below a folder, and what it holds."
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def sounds(stem):
    "Whether anything is heard of a stem."
    return bool(np.abs(stem).max() > 1e-3)


def test_every_tag_occurs_and_none_nearly_always(songs):
    share = pd.Series(tag_matrix(songs.tags).mean(0), SONG_TAGS)
    assert len(songs) == 300 and share.min() > 0.01 and share.max() <= 0.9, share
    assert 20 <= len(SONG_TAGS) == len(set(SONG_TAGS)) <= 30


@pytest.mark.parametrize("seconds", [10.0, 15.0, 30.0])
def test_tags_occur_at_other_lengths(seconds):
    share = tag_matrix(with_song_tags(studio_table(40, 1, seconds, seed=1)).tags).mean(0)
    assert share.max() <= 0.93 and (share > 0).mean() > 0.75


def test_tags_come_in_their_order_and_agree_with_each_other(songs):
    for tags in songs.tags:
        assert tags == [tag for tag in SONG_TAGS if tag in tags]
        assert sum(tag in TAG_GROUPS["voice"] for tag in tags) == 1
        assert ("drums" in tags) != ("no drums" in tags)
        assert not {"loud", "soft"} <= set(tags) and not {"fast", "slow"} <= set(tags)
        assert "drums" in tags or not {"beat", "dance", "loud"} & set(tags)
    assert (songs.genre == songs["style"]).all() and set(songs.genre) == set(STYLES)


def test_who_sings_and_how_fast(songs):
    for row in songs.head(60).itertuples():
        song = written_song(row)
        voice = f"{row.gender} vocal" if song.sung >= 1 else "no vocals"
        assert voice in row.tags
        tempo = song.composition.tempo
        assert ("fast" in row.tags, "slow" in row.tags) == (tempo >= FAST, tempo < SLOW)
    alone = songs[songs.tags.map(lambda tags: "no vocals" in tags)]
    assert len(alone) and all(written_song(row).sung < 1 for row in alone.itertuples())


def test_a_tag_is_heard_in_its_stem(songs):
    "Drums iff their stem sounds; the bass iff it is written; somebody else iff anything is tagged of the rest."
    chosen = pd.concat([songs.head(6), *(songs[songs.tags.map(lambda tags: tag in tags)].head(2)
                                         for tag in ("no drums", "dance", "soft", "double bass"))])
    for row in chosen.itertuples():
        stems, parts = render_clip(row, 8000), written_song(row).parts
        assert ("drums" in row.tags) == sounds(stems["drums"]) == bool(parts["drums"])
        assert bool(parts["bass"]) == sounds(stems["bass"])
        programs = {part[0] for stem in ("bass", "other") for part in parts[stem]}
        for tag in TAG_GROUPS["instruments"]:
            assert tag not in row.tags or programs & set(PROGRAMS[tag])


def test_the_score_is_the_one_that_is_played(songs):
    "Where nobody drums in the score the stem is empty, to the sample."
    row = songs[songs.tags.map(lambda tags: "no drums" in tags)].iloc[0]
    assert not render_clip(row, 8000)["drums"].any()


def test_tags_are_of_the_clip(songs):
    "A song that is cut before anybody sings has no vocals."
    row = songs.iloc[0].to_dict()
    song = written_song(row)
    first = min(song.composition.pickup, 0.5)
    assert "no vocals" in song_tags({**row, "seconds": first + 0.2})
    assert compose(row["composition_seed"], 10.0, row["language"]).tempo == song.composition.tempo


def test_any_kind_of_row_gives_the_same(songs):
    table = studio_table(3, 1, 10.0)
    series = [song_tags(table.iloc[k]) for k in range(3)]
    assert series == [song_tags(row) for row in table.itertuples()] == songs.tags[[0, 2, 4]].tolist()
    series[0].append("changed")
    assert "changed" not in song_tags(table.iloc[0])


def test_a_store_is_described_and_stays_what_it_is(tmp_path):
    corpus = studio_corpus(3, 1, 2.0)
    store = prepare(corpus, tmp_path / "store", Sound(16000, ("vocals", "accompaniment")), workers=1, progress=False)
    before = contents(tmp_path / "store")
    clips, identity = with_song_tags(store.clips), store.identity
    assert clips.tags.tolist() == with_song_tags(corpus.clips).tags.tolist()
    assert "tags" not in store.clips and list(clips.columns[:len(store.clips.columns)]) == list(store.clips.columns)
    again = Store(tmp_path / "store")
    assert again.identity == identity
    assert before == contents(tmp_path / "store")


def test_clips_of_something_else_are_refused():
    table = studio_table(2, 1, 5.0)
    for lacking in (*SEEDS, "style", "seconds"):
        with pytest.raises(VocalrepError, match=f"without {lacking}.*no studio song"):
            with_song_tags(table.drop(columns=lacking))
    with pytest.raises(VocalrepError, match="style"):
        song_tags({**table.iloc[0].to_dict(), "style": "polka"})


def test_the_matrix_of_nothing_and_of_other_names():
    assert tag_matrix([]).shape == (0, len(SONG_TAGS))
    assert tag_matrix([["slow", "odd"], []], ["fast", "slow"]).tolist() == [[False, True], [False, False]]
