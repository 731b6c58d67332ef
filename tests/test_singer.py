"Singers: plain data of four parts, the same for the same seed."
import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalrep.studio.singer import FORMANTS, TRACT_CM, Channel, Habits, Singer, VocalFolds, VocalTract, make_singer


@given(st.integers(0, 2**40), st.sampled_from([None, "female", "male"]))
@settings(max_examples=100, deadline=None)
def test_singers_are_plain_and_plausible(seed, sex):
    singer = make_singer(seed, sex)
    assert singer == make_singer(seed, sex) and singer.sex in FORMANTS and sex in (None, singer.sex)
    numbers = [value for value in dataclasses.astuple(singer) if not isinstance(value, (str, tuple))]
    assert {type(value) for value in numbers} == {int, float} and np.isfinite(numbers).all()
    assert abs(singer.tract_cm - TRACT_CM[singer.sex]) <= 2
    assert list(singer.upper) == sorted(singer.upper) and len(singer.upper) >= 2
    assert 0.3 <= singer.open_quotient <= 0.95 and 0 <= singer.cluster <= 0.6 and singer.low_cut < singer.high_cut


def test_a_singer_has_the_fields_of_its_parts():
    fields = {field.name for part in (VocalTract, VocalFolds, Habits, Channel) for field in dataclasses.fields(part)}
    assert {field.name for field in dataclasses.fields(Singer)} == fields | {"seed", "sex"}
    changed = dataclasses.replace(make_singer(1), vibrato_hz=5.0)
    assert changed.vibrato_hz == 5.0 and changed.vowels == make_singer(1).vowels


def test_the_seed_of_a_singer_holds_whatever_its_sex_was_drawn_or_given():
    for seed in range(20):
        assert make_singer(seed) == make_singer(seed, make_singer(seed).sex)
