"""Tables of the singer-identity paper: corpora in folders, networks without weights, words at the edges."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from vocalrep.data.corpora import Size
from vocalrep.evaluation.tasks import TestCorpus
from vocalrep.papers.singer_identity.claims import FIVE, FULL, NARROW
from vocalrep.papers.singer_identity.corpora import all_clips, beside_corpora, corpora_in_words, corpus_clips
from vocalrep.papers.singer_identity.corpora import count_voices, differences, draw_corpora
from vocalrep.papers.singer_identity.networks import MEANING, protocol_differences, stand_ins
from vocalrep.papers.singer_identity.tables import best_in_words, bands_in_words, identification_in_words
from vocalrep.project import VocalrepError

SMALL = Size(6, 1, 8.0)


@pytest.fixture
def vocals(tmp_path):
    "Two singers in folders; one file is no audio."
    for singer, seconds in (("anna", 9.0), ("ben", 4.5)):
        (tmp_path / singer).mkdir()
        soundfile.write(tmp_path / singer / "song.wav", 0.1 * np.ones(int(8000 * seconds)), 8000)
    (tmp_path / "ben" / "broken.wav").write_bytes(b"no audio")
    return tmp_path


def test_lengths_come_from_headers(vocals):
    clips = corpus_clips("vocals", vocals)
    assert sorted(clips.seconds.dropna()) == [4.5, 9.0] and clips.seconds.isna().sum() == 1
    ours = count_voices(clips)
    assert ours.fragments["vocals"] == 3 and ours.singers["vocals"] == 2 and np.isnan(ours.women["vocals"])


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(VocalrepError, match="is not a folder"):
        corpus_clips("vctk", tmp_path / "none")


def test_corpora_without_techniques_say_nothing_about_them(vocals):
    clips = all_clips("studio", "", SMALL, {"vocals": vocals})
    table = beside_corpora(count_voices(clips))
    assert "techniques" not in corpora_in_words(table)
    assert corpora_in_words(table).startswith("- Not given here: VCTK, NUS-48E, VocalSet, M4Singer.")
    assert set(differences(clips).corpus) <= {"studio", "vocals"}
    assert draw_corpora(table, clips).axes


def test_every_difference_of_the_protocols_is_explained():
    table = protocol_differences()
    assert set(table.index) == set(MEANING) and table.what.notna().all()
    assert (table.paper != table.released).all()


def test_a_missing_package_is_not_stood_in_for():
    names = ("F-ResNet", "H/ASP", "Wav2Vec-base", "XLSR-53")
    assert stand_ins({}, dict.fromkeys(names, "transformers cannot be imported")) == {}


def summary(systems: tuple[str, ...], metric: str = "eer") -> pd.DataFrame:
    "A summary of one corpus, the worse the later the system."
    return pd.DataFrame([dict(system=system, corpus="here", condition=condition, metric=metric, normalisation="none",
                              mean=0.1 * (place + 1), reduced="")
                         for place, system in enumerate(systems) for condition in (NARROW, FULL)])


HERE = [TestCorpus("here", None, role="out-of-domain")]


def test_nothing_is_said_of_systems_that_were_not_run():
    line, = best_in_words(summary(FIVE), HERE)
    assert line.endswith("BYOL 50.0.") and "GE2E" not in line
    accuracy = summary(FIVE, "accuracy").query("condition == @FULL")
    line, = identification_in_words(accuracy, HERE)
    assert line.endswith("CONT 10.0.") and "untrained" not in line


def test_ge2e_is_compared_where_it_was_run():
    line, = best_in_words(summary(("CONT", "CONT-VC", "GE2E", "UNIF", "VICReg", "BYOL")), HERE)
    assert line.endswith("GE2E, on the same trials, has 30.0 %: no worse than UNIF, VICReg, BYOL.")


def test_equal_bands_do_not_fall():
    line, = bands_in_words(summary(FIVE), HERE)
    assert "changes by +0.0 points on average, and falls for 0 of 5 frameworks." in line
