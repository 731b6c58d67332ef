"The page of a reproduction is whole, needs nothing else, and lets no raw html of a notebook through."
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from vocalrep.report.notebooks import Outcome
from vocalrep.report.page import write_page
from vocalrep.report.plots import save_figure, save_table
from vocalrep.report.published import beside_published

PUBLISHED = """paper,item,system,corpus,role,condition,task,metric,mean,sd,note
toy,table2,COLA,Elsewhere,,mixture,similarity,eer,0.2928,0.0422,
toy,table2,MSCOL,Elsewhere,,mixture,similarity,eer,0.3,,
"""


@pytest.fixture
def paper(tmp_path):
    "As much of a paper as its page reads."
    file = tmp_path / "published.csv"
    file.write_text(PUBLISHED)
    return SimpleNamespace(name="toy", published=file, measured_on="Elsewhere", trained=frozenset({"COLA", "MSCOL"}))


def write_notebook(file, claim="Two and two are four.", said=""):
    "A notebook that displayed one remark."
    story = nbformat.v4.new_markdown_cell(f"# The notebook {file.stem}\n\n> {claim}")
    shown = nbformat.v4.new_output("display_data", data={"text/markdown": said})
    body = [story, nbformat.v4.new_code_cell("1", outputs=[shown])]
    nbformat.write(nbformat.v4.new_notebook(cells=body), file)
    return file


class Strict(HTMLParser):
    "Every tag that opens must close, in order."
    def __init__(self):
        super().__init__()
        self.open = []
        self.images = 0
        self.outside = []

    def handle_starttag(self, tag, attributes):
        source = dict(attributes).get("src", "")
        self.images += tag == "img" and source.startswith("data:image/png;base64,")
        if tag in ("link", "script", "iframe") or source and not source.startswith("data:"):
            self.outside.append(tag)
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(paper, tmp_path):
    figure = plt.figure(figsize=(1, 1))
    table = pd.DataFrame(dict(x=range(100), y=[f"<i>{k}</i>" for k in range(100)], z="same"))
    save_figure(figure, table, "drawn", "toy", tmp_path, corpus="studio", encoder="small-cnn")
    plt.close(figure)
    save_table(pd.DataFrame(dict(system=["COLA"], value=[0.25])), "alone", "toy", tmp_path, preset="smoke")
    notebook = write_notebook(tmp_path / "drawn.ipynb", "*Yes*, <script>alert(1)</script>.", "**All** is <b>well</b>.")
    wrote = ("alone.csv", "alone.json", "drawn.csv", "drawn.json", "drawn.png", "drawn.svg")
    outcomes = [Outcome("drawn", "done", 61.0, notebook, wrote),
                Outcome("gone", "failed", 1.0, tmp_path / "gone.ipynb", message="cell 2: <oops>")]
    asked = dict(corpus="studio", preset="smoke")
    text = write_page(outcomes, tmp_path / "index.html", tmp_path / "toy", paper, "CVSM & co", asked).read_text()
    parser = Strict()
    parser.feed(text)
    assert not parser.open and parser.images == 1 and not parser.outside
    assert "<script" not in text and "<i>0" not in text and "&lt;oops&gt;" in text and "CVSM &amp; co" in text
    assert "<strong>All</strong> is &lt;b&gt;well" in text and "<em>Yes</em>" in text
    assert "The first 60 of 100 rows" in text and "<td>0.25</td>" in text and "1 min 02 s" in text
    assert "encoder: small-cnn" in text and "z same." in text
    assert "1 run,\n0 kept from before, <b" in text and "1 failed" in text


def test_the_studio_replicates_nothing(paper, tmp_path):
    def page(corpus):
        return write_page([], tmp_path / "index.html", tmp_path, paper, "x", dict(corpus=corpus)).read_text()

    assert "do not replicate" in page("studio") and "and come from Elsewhere." in page("studio")
    assert "do not replicate" not in page("music4all")
    paper.measured_on = ""
    assert "which stand beside them.</p>" in page("studio")


OURS = dict(paper="toy", item="table2", system="COLA", corpus="studio", role="in-domain", condition="mixture",
            task="similarity", metric="eer", normalisation="none", probe="", seconds=float("nan"), fraction=1.0,
            mean=0.123, sd=0.01, n=5, seeds=1, artists=10, clips=20, trials=90, preset="smoke", reduced="")


def section(paper, tmp_path, table):
    "The page of one table."
    save_table(table, "table2", "toy", tmp_path)
    outcome = Outcome("table2", "done", 1.0, write_notebook(tmp_path / "table2.ipynb"), ("table2.csv", "table2.json"))
    return write_page([outcome], tmp_path / "x.html", tmp_path / "toy", paper, "x", dict(corpus="studio")).read_text()


@pytest.mark.parametrize("reduced", ["", "fewer artists"])
def test_published_numbers_are_printed_like_the_papers_table(paper, tmp_path, reduced):
    table = beside_published(pd.DataFrame([OURS | dict(reduced=reduced)]), paper, "table2")
    text = section(paper, tmp_path, table)
    assert "29.28 ± 4.22" in text and "not run</td>" in text and "not run†" not in text
    assert f"12.30 ± 1.00{'†' if reduced else ''}</td>" in text


def test_a_comparison_of_another_layout_is_printed_as_it_is(paper, tmp_path):
    table = beside_published(pd.DataFrame([OURS]), paper, "table2").rename(columns=dict(condition="mode"))
    text = section(paper, tmp_path, table)
    assert "<td>0.123</td>" in text and "12.30" not in text
