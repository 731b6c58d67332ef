"CVSM's table 1 follows from the records that training obeys; figure 2's shares from any table of clips."
import dataclasses

import numpy as np
import pandas as pd
import pytest

from vocalrep.papers.cvsm.paper import PAPER
from vocalrep.papers.cvsm.tables import METHOD_COLUMNS, artist_distribution, methods_table, published_distribution
from vocalrep.project import VocalrepError
from vocalrep.training.variants import Stage

ROWS = ["COLA", "MSCOL", "MERT", "COLA-ART", "CVSM-A", "CVSM-AH", "CVSM-AF", "CVSM-ART"]


def test_methods_follow_the_records():
    table = methods_table()
    assert list(table.index) == ROWS and tuple(table.columns) == METHOD_COLUMNS
    assert table.loc["CVSM-AH"].tolist() == ["yes", "no", "yes (half)", "no"]
    assert table.loc["CVSM-AF"].tolist() == ["yes", "no", "yes", "yes"]
    assert table.loc["COLA-ART"].tolist() == ["no", "yes", "no", "no"] and table.loc["MERT"].tolist() == ["no"] * 4


def test_a_variant_of_ones_own():
    variants = PAPER.variants()
    pairs = dataclasses.replace(variants["CVSM-AH"].stages[0].sampling, p_artificial=0.25, level="artist")
    quarter = dataclasses.replace(variants["CVSM-AH"], name="mine", stages=(Stage(1, pairs),))
    table = methods_table({**variants, "mine": quarter})
    assert list(table.index) == [*ROWS, "mine"] and table.loc["mine"].tolist() == ["yes", "yes", "yes (25%)", "no"]


def test_distribution_of_artists():
    table = artist_distribution(pd.DataFrame(dict(artist=["a"] * 5 + ["b"] + ["c"] + [None])))
    assert table.at_most.tolist() == [1, 5] and table.artists.tolist() == [2, 1]
    assert np.allclose(table.share_of_artists, [2 / 3, 1]) and np.allclose(table.share_of_clips, [2 / 7, 1])
    assert np.allclose(published_distribution().iloc[:, 1:], [[0.8292, 0.2983], [0.9792, 0.7574]])
    with pytest.raises(VocalrepError, match="no artist is named"):
        artist_distribution(pd.DataFrame(dict(artist=[None, None])))
