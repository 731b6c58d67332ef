"The corpus of techniques: who is in it, what they sing, and that takes are as their rows say."
import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.project import VocalrepError
from vocalrep.studio.singer import Singer, make_singer
from vocalrep.studio.songs import studio_table
from vocalrep.studio.techniques import (MATERIALS, SUNG_VOWELS, TECHNIQUES, exercise, exercise_notes, render_technique,
                                        techniques_table, with_technique)

TRACT = {"tract_cm", "vowels", "upper", "damping", "cluster", "side", "nasality"}


@pytest.fixture(scope="module")
def row():
    first = techniques_table(1).iloc[0].to_dict()
    return {**first, "technique": "straight", "material": "scale", "vowel": "ɑ", "effect": "none", "seconds": 3.0}


def test_corpora_of_different_sizes_nest():
    large = techniques_table(7, 15)
    small = techniques_table(3, 4)
    nested = large[large.artist.isin(small.artist)].groupby("artist").head(4).reset_index(drop=True)
    pd.testing.assert_frame_equal(small, nested)


def test_nobody_is_in_a_studio_corpus_and_seeds_give_other_people():
    ours = {seed: set(techniques_table(30, 1, seed=seed).singer_seed) for seed in (0, 1)}
    studio = set(studio_table(3000, 1, 5.0).singer_seed)
    assert len(ours[0]) == 30 and not ours[0] & ours[1] and not (ours[0] | ours[1]) & studio
    assert max(studio) < 2**31 <= min(ours[0] | ours[1])


def test_everybody_does_everything_before_anything_comes_again():
    table = techniques_table(4, 2 * len(TECHNIQUES))
    for _, takes in table.groupby("artist"):
        assert set(takes.technique[:len(TECHNIQUES)]) == set(takes.technique[len(TECHNIQUES):]) == set(TECHNIQUES)
        assert takes.gender.nunique() == takes.singer_seed.nunique() == 1
    for take in table.itertuples():
        how = TECHNIQUES[take.technique]
        assert take.material in how.materials and take.vowel in how.vowels and 9 <= take.seconds <= 12
    assert (table[table.material != "song"].vowel != "words").all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_effects_is_as_asked_and_changes_nothing_else(share):
    table, usual = techniques_table(3, effects=share), techniques_table(3)
    assert ((table.effect != "none") == bool(share)).all()
    pd.testing.assert_frame_equal(table.drop(columns="effect"), usual.drop(columns="effect"))


@pytest.mark.parametrize("singers, clips", [(0, 3), (3, 0)])
def test_an_empty_corpus_is_refused(singers, clips):
    with pytest.raises(VocalrepError, match="at least 1"):
        techniques_table(singers, clips)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_technique_changes_what_it_says_and_leaves_the_tract(technique):
    singer = make_singer(2**31 + 5)
    changed = with_technique(singer, technique)
    names = [field.name for field in dataclasses.fields(Singer)]
    different = {name for name in names if getattr(singer, name) != getattr(changed, name)}
    assert different <= set(TECHNIQUES[technique].changes) and not different & TRACT
    assert different or technique == "straight"


def test_unknown_techniques_materials_and_effects_name_the_choices(row):
    with pytest.raises(VocalrepError, match="unknown technique 'growl'.*vibrato"):
        with_technique(make_singer(1), "growl")
    with pytest.raises(VocalrepError, match="unknown material 'opera'.*arpeggio"):
        exercise("opera", "ɑ", 0)
    with pytest.raises(VocalrepError, match="unknown effect 'phaser'.*reverb"):
        render_technique({**row, "effect": "phaser"}, 8000)
    with pytest.raises(VocalrepError, match="8000 to 48000"):
        render_technique(row, 96000)


@given(st.sampled_from(list(TECHNIQUES)), st.sampled_from(MATERIALS), st.sampled_from(SUNG_VOWELS), st.floats(0.05, 20),
       st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_notes_come_in_order_fit_the_take_and_stay_on_the_vowel(technique, material, vowel, seconds, seed):
    singer = make_singer(seed)
    notes = exercise_notes(singer, technique, material, vowel, seconds, np.random.default_rng(seed))
    assert all(a.start + a.seconds <= b.start + 1e-9 for a, b in zip(notes, notes[1:]))
    assert all(note.seconds > 0 and note.start + note.seconds <= seconds for note in notes)
    assert {note.syllable for note in notes} <= {("", vowel, "")}
    assert all(20 < 440 * 2 ** ((note.pitch - 69) / 12) < 1500 for note in notes)
    assert notes or seconds < 5


def test_words_are_sung_as_composed():
    words, _ = exercise("song", "words", 3)
    vowels, _ = exercise("song", "u", 3)
    assert [(a.beat, a.beats, a.step) for a in words] == [(b.beat, b.beats, b.step) for b in vowels]
    assert len({event.syllable for event in words}) > 3 and words[0].beat == 0


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("effect", ["none", "reverb"])
def test_takes_are_finite_loud_enough_and_as_long_as_asked(row, technique, effect):
    how = TECHNIQUES[technique]
    sung = dict(technique=technique, material=how.materials[-1], vowel=how.vowels[-1], effect=effect)
    x = render_technique({**row, **sung}, 8000)
    assert x.dtype == np.float32 and x.shape == (24000,) and np.isfinite(x).all()
    assert 0.3 > np.sqrt(np.square(x).mean()) > 0.01 and np.abs(x).max() <= 0.981


def test_the_same_row_gives_the_same_samples_in_any_process_and_form(row):
    table = techniques_table(1, 2)
    code = ("import hashlib; from vocalrep.studio.techniques import *; "
            "take = render_technique(techniques_table(1, 2).iloc[1], 8000); "
            "print(hashlib.sha256(take.tobytes()).hexdigest())")
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    forms = table.iloc[1], table.iloc[1].to_dict(), list(table.itertuples(index=False))[1]
    assert {hashlib.sha256(render_technique(form, 8000).tobytes()).hexdigest() for form in forms} == {there}
    other = render_technique({**row, "take_seed": row["take_seed"] + 1}, 8000)
    assert not np.array_equal(other, render_technique(row, 8000))


def test_other_rates_are_the_same_take(row):
    from scipy.signal import resample_poly
    low, high = render_technique(row, 16000), resample_poly(render_technique(row, 48000), 1, 3)
    envelopes = [np.sqrt(np.square(x).reshape(-1, 800).mean(1)) for x in (low, high)]
    assert np.corrcoef(*envelopes)[0, 1] > 0.95


def test_fluttering_lips_beat_and_straight_ones_do_not(row):
    def beating(technique):
        x = render_technique({**row, "technique": technique, "material": "long", "vowel": "u"}, 8000)
        envelope = np.abs(x).reshape(-1, 20).mean(1)                                             # 400 a second
        power = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
        hz = np.fft.rfftfreq(len(envelope), 1 / 400)
        return power[(hz > 18) & (hz < 33)].sum() / power[hz > 0.5].sum()
    assert beating("lip trill") > 0.3 > 5 * beating("straight")
