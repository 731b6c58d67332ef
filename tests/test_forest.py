"The picture of claims: a panel for each unit, a mark for each kind of verdict, none where there is no interval."
import matplotlib
matplotlib.use("agg")
import numpy as np
import pandas as pd
import pytest

from vocalrep.evaluation.verdicts import FAILS, HOLDS, OPEN, SEEMS, SEEMS_NOT, UNTESTED
from vocalrep.project import VocalrepError
from vocalrep.report.forest import draw_claims

ROWS = [("a beats b", HOLDS, 0.05, 0.01, 0.09, "accuracy"), ("people like a", UNTESTED, np.nan, np.nan, np.nan, ""),
        ("c is like d", OPEN, -0.02, np.nan, np.nan, "eer"), ("d beats e", FAILS, -0.2, -0.3, -0.1, "mnr"),
        ("e beats f", f"{SEEMS} as far as tested: 3 of 6", 0.1, 0.05, 0.15, "share"),
        ("f lies apart", SEEMS_NOT, -0.2, -0.5, -0.1, "silhouette")]
TABLE = pd.DataFrame(ROWS, columns=["label", "verdict", "effect", "low", "high", "metric"])


def marks(axis):
    "Rows with a mark, and where it stands."
    return {float(y): float(x) for line in axis.lines if line.get_marker() not in ("", "None", None, "|")
            for x, y in zip(*line.get_data())}


def test_rows_and_panels():
    figure = draw_claims(TABLE)
    points, plain = figure.axes
    names = [[t.get_text() for t in axis.get_yticklabels()] for axis in (points, plain)]
    assert names == [["a beats b", "c is like d", "d beats e", "e beats f (3 of 6 tested)"], ["f lies apart"]]
    assert marks(points) == pytest.approx({0: 5, 2: -20, 3: 10}) and marks(plain) == {0: -0.2}
    assert [t.get_text().strip() for t in points.texts] == ["no interval"]
    for axis, least in ((points, 30), (plain, 0.5)):
        low, high = axis.get_xlim()
        assert low == -high and least < high < 1.1 * least
    legend = figure.legends[0]
    assert "1 of 6" in legend.get_title().get_text()
    kinds = (HOLDS, FAILS, SEEMS, SEEMS_NOT, OPEN)
    assert [t.get_text() for t in legend.get_texts()] == [f"{kind} (1)" for kind in kinds]


def test_one_unit_is_one_panel():
    assert len(draw_claims(TABLE[TABLE.metric != "silhouette"]).axes) == 1


def test_nothing_to_draw():
    with pytest.raises(VocalrepError, match="none of 1 claims"):
        draw_claims(TABLE[TABLE.verdict == UNTESTED])
