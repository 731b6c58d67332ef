"Songs: what is written can be played, stems add up, and one thing can be changed at a time."
import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.studio.arrangement import STYLES, Arrangement, arrange, score
from vocalrep.studio.composition import LANGUAGES, bars, compose, one_voice, sung_notes
from vocalrep.studio.singer import make_singer
from vocalrep.studio.songs import STEMS, render, render_clip, row_dict, studio_table

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.floats(0.5, 40), st.integers(0, LANGUAGES - 1))
@settings(max_examples=60, deadline=None)
def test_notes_come_in_order_and_fit_the_clip(seed, seconds, language):
    song = compose(seed, seconds, language)
    notes = sung_notes(song, make_singer(seed), np.random.default_rng(0))
    assert all(a.start + a.seconds <= b.start + 1e-9 for a, b in zip(notes, notes[1:]))
    assert all(0 < note.start < seconds for note in notes)
    assert all(at < seconds and bar < len(section.chords) for at, section, bar in bars(song))
    assert one_voice(notes) == notes


@given(seeds, st.sampled_from(list(STYLES)), st.integers(30, 75))
@settings(max_examples=60, deadline=None)
def test_every_part_is_safe_for_the_synthesiser(seed, style, key):
    for parts in score(compose(seed, 12.0), arrange(seed, style), key).values():
        for program, is_drum, notes in parts:
            assert program >= 0 and notes
            for start, seconds, pitch, velocity in notes:
                assert start >= 0 and seconds > 0 and 0 < velocity < 128
                assert is_drum or 21 <= pitch <= 96


def test_wrong_requests_name_what_was_found():
    with pytest.raises(VocalrepError, match="0 seconds cannot be composed"):
        compose(1, 0)
    with pytest.raises(VocalrepError, match="unknown language 12"):
        compose(1, 5.0, LANGUAGES)
    with pytest.raises(VocalrepError, match="unknown style 'polka'.*reggae"):
        arrange(1, "polka")
    with pytest.raises(VocalrepError, match="8000 to 48000"):
        render(compose(1, 1.0), make_singer(1), arrange(1), 4000)
    for artists, clips in ((0, 3), (3, 0)):
        with pytest.raises(VocalrepError, match="at least 1"):
            studio_table(artists, clips, 5.0)


@pytest.mark.parametrize("rate", [8000, 22050])
def test_stems_add_up_to_a_mixture_that_does_not_clip(rate):
    stems = render(compose(10, 3.0), make_singer(21), arrange(3, "pop"), rate)
    assert tuple(stems) == STEMS and np.abs(sum(stems.values())).max() <= 0.981
    assert {(x.dtype, x.shape) for x in stems.values()} == {(np.dtype("float32"), (3 * rate,))}
    assert all(np.isfinite(x).all() for x in stems.values())


def test_a_band_of_nobody_is_silent_and_the_singer_goes_on():
    nobody = dataclasses.replace(arrange(3, "folk"), bass=-1, chords=-1, pad=-1, lead=-1, drums="none")
    assert isinstance(nobody, Arrangement)
    stems = render(compose(10, 6.0), make_singer(21), nobody, 8000)
    assert not any(stems[stem].any() for stem in STEMS[1:]) and stems["vocals"].any()


def test_the_vocals_depend_on_the_band_in_nothing_but_their_level():
    a, b = (render(compose(10, 6.0), make_singer(21), arrange(k), 8000)["vocals"] for k in (1, 2))
    np.testing.assert_allclose(a, b * (a @ b) / (b @ b), atol=1e-4)


def test_corpora_of_different_sizes_nest():
    large, small = studio_table(9, 5, 7.5), studio_table(4, 3, 7.5)
    nested = large[large.artist.isin(small.artist)].groupby("artist").head(3).reset_index(drop=True)
    pd.testing.assert_frame_equal(small, nested)
    assert set(studio_table(9, 1, 5.0, seed=1).singer_seed).isdisjoint(large.singer_seed)


def test_a_row_may_be_a_series_a_tuple_or_a_dict():
    table = studio_table(1, 1, 1.0)
    forms = table.iloc[0], next(table.itertuples(index=False)), table.iloc[0].to_dict()
    assert all(row_dict(form)["clip"] == "s00000-c00" for form in forms)
    first, *others = (render_clip(form, 8000) for form in forms)
    assert all(np.array_equal(first[stem], other[stem]) for other in others for stem in STEMS)
