"Single notes: the table is nested and official, every instrument sounds, and what sounds is what the row says."
import numpy as np
import pandas as pd
import pytest

from vocalrep.data.corpora import CORPORA, Size, load_corpus, notes_corpus
from vocalrep.data.prepare import prepare
from vocalrep.data.store import Sound
from vocalrep.project import VocalrepError
from vocalrep.studio.notes import (FAMILIES, HELD, LARGEST, PITCHES, SECONDS, TEST, VALID, VELOCITIES,
                                   instrument_split, notes_table, render_note)

PROGRAMS = [program for members in FAMILIES.values() for program in members]


def test_families_and_official_splits():
    assert len(FAMILIES) == 11 and len(PROGRAMS) == len(set(PROGRAMS)) == 80
    assert {*VALID, *TEST} <= set(PROGRAMS) and not set(VALID) & set(TEST)
    for members in FAMILIES.values():
        counts = pd.Series([instrument_split(program) for program in members]).value_counts()
        assert counts["valid"] == 1 and 1 <= counts["test"] <= 2 and counts["train"] >= 3


def test_the_table_is_nested_and_its_notes_differ():
    small, large = notes_table(3), notes_table(7)
    pd.testing.assert_frame_equal(small, large.groupby("artist", sort=False).head(3).reset_index(drop=True))
    assert large["clip"].is_unique and not large.duplicated(["program", "pitch", "velocity"]).any()
    assert set(large.pitch) <= set(PITCHES) and set(large.velocity) == set(VELOCITIES)
    assert large.groupby("artist")[["split", "family", "program"]].nunique().eq(1).all().all()
    assert (notes_table(7, seed=1)["clip"] != large["clip"]).any()
    assert len(notes_table(LARGEST)) == LARGEST * len(PROGRAMS)
    for wrong in (0, LARGEST + 1, 2.5):
        with pytest.raises(VocalrepError, match="notes per instrument"):
            notes_table(wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_instrument_sounds_and_is_let_go(family):
    for k, program in enumerate(FAMILIES[family]):
        x = render_note(dict(program=program, pitch=PITCHES[(17 * k) % len(PITCHES)], velocity=VELOCITIES[k % 5]), 8000)
        assert x.dtype == np.float32 and len(x) == SECONDS * 8000 and np.isfinite(x).all()
        assert np.abs(x).max() == pytest.approx(0.9, abs=1e-5)
        held = np.sqrt(np.square(x[:int(HELD * 8000)]).mean())
        assert held > 0.003 and np.sqrt(np.square(x[-800:]).mean()) < 0.1 * np.abs(x).max()


def test_any_kind_of_row_gives_the_same_samples():
    table = notes_table(1)
    row = table.iloc[20]
    x = render_note(row, 8000)
    assert np.array_equal(x, render_note(row.to_dict(), 8000))
    assert np.array_equal(x, render_note(next(table.iloc[20:21].itertuples(index=False)), 8000))


@pytest.mark.parametrize("change", [dict(program=1), dict(program=65), dict(pitch=35), dict(pitch=79), dict(velocity=0),
                                    dict(velocity=128)])
def test_wrong_rows_are_refused(change):
    row = dict(program=0, pitch=60, velocity=100)
    with pytest.raises(VocalrepError, match=next(iter(change))):
        render_note({**row, **change})
    for rate in (4000, 96000):
        with pytest.raises(VocalrepError, match="8000 to 48000"):
            render_note(row, rate)


def test_the_corpus_and_its_size():
    assert "notes" in CORPORA
    corpus = load_corpus("notes")
    assert corpus.name == "notes" and len(corpus.clips) == 12 * 80 and corpus.stems == ()
    sizes = {size: len(load_corpus("notes", size=size).clips) for size in (Size(40, 4), Size(1, 1), Size(30000, 6))}
    assert list(sizes.values()) == [160, 80, 80 * LARGEST]
    recording = corpus.read(corpus.clips["clip"][5], rate=8000)
    assert recording.mixture.shape == (1, 32000) and recording.rate == 8000


def test_a_store_of_notes_keeps_family_instrument_and_split(tmp_path):
    corpus = notes_corpus(1)
    few = corpus.clips.iloc[[0, 8, 9]].reset_index(drop=True)
    small = type(corpus)("notes", few, corpus.reader)
    store = prepare(small, tmp_path / "store", Sound(16000, ("mixture",), segment=3.92), workers=1, progress=False)
    columns = ["clip", "artist", "family", "split"]
    assert store.clips[columns].to_numpy().tolist() == few[columns].to_numpy().tolist()
    assert store.about["separator"] == "none" and len(store.segments) == 3 and store.active().all()
