"""The book: every link leads somewhere, every named room is a link, and a tiny site opens from the disk and plays."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import wave
from pathlib import Path
from types import SimpleNamespace

import pytest

from vocalrep.papers.registry import find_papers
from vocalrep.project import read_json
from vocalrep.report.book import write_book
from vocalrep.report.links import chapters, has_players, is_navigation, link_rooms, linked_notebooks, room_pages

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
PAGES = sorted(file.relative_to(NBS).as_posix() for file in NBS.rglob("[!.]*.ipynb")
               if ".ipynb_checkpoints" not in file.parts)
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")


def texts_of(notebook):
    "Markdown that a notebook holds or has displayed."
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        for output in cell.get("outputs", []):
            yield "".join(output.get("data", {}).get("text/markdown", ""))


# -- links of the notebooks ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = [link for text in texts_of(read_json(NBS / page)) for link in LINK.findall(text)]
    assert not [link for link in links if not (NBS / page).parent.joinpath(link).exists()]


def test_rows_that_pages_link_to_are_there():
    "Links to a row of the list of differences."
    rows = re.findall(r'id="([\w-]+)"', "\n".join(texts_of(read_json(NBS / "differences.ipynb"))))
    linked = re.findall(r"differences\.ipynb#([\w-]+)", "\n".join(text for page in PAGES
                                                                   for text in texts_of(read_json(NBS / page))))
    assert len(rows) == len(set(rows)) > 40 and len(linked) > 2
    assert set(linked) <= set(rows)


def test_every_notebook_has_its_place():
    order = [page for pages in chapters(find_papers().values(), NBS).values() for page in pages]
    assert sorted(order) == PAGES and len(set(order)) == len(order)
    assert order[:3] == ["index.ipynb", "contents.ipynb", "train.ipynb"]


def test_notebooks_have_their_links():
    "Rooms that are named, the way to the next page, and the word about players, in every notebook."
    wrong = [page for page, notebook in linked_notebooks(find_papers().values(), NBS).items()
             if read_json(NBS / page) != notebook]
    assert not wrong, f"run `make notebooks`: {', '.join(wrong)}"


def test_pages_with_players_say_who_plays_them():
    said = {page: [c for c in read_json(NBS / page)["cells"] if is_navigation(c)] for page in PAGES}
    for page, cells in said.items():
        if cells:
            assert ("GitHub strips" in "".join(cells[0]["source"])) == has_players(read_json(NBS / page)), page


def test_what_is_played_is_sung():
    "Players are labelled, and what they play was chosen, or checked, by the level of the voice; or it is a note."
    players = 0
    for page in PAGES:
        code = "\n".join("".join(c["source"]) for c in read_json(NBS / page)["cells"] if c["cell_type"] == "code")
        assert not re.search(r"\bAudio\(", code), f"{page}: use `vocalrep.report.players.play`"
        if re.search(r"^ *play\(", code, re.MULTILINE):
            players += 1
            assert re.search(r"\b(loudest_stretch|clip_stretch|sung_share|render_note)\(", code), page
    assert players > 8


@pytest.mark.parametrize("text", ["", "`data`", "`databases`", "```\n`data.store`\n```", "    `data.store`",
                                  "## `data.store`"])
def test_what_names_no_room_stays(text):
    assert link_rooms(text, "train.ipynb", room_pages()) == text


# -- a tiny site ---------------------------------------------------------------------------------------------------

def player(seconds=0.2, rate=8000):
    "A player as notebooks hold it."
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(bytes(int(2 * seconds * rate)))
    data = base64.b64encode(file.getvalue()).decode()
    html = f'<audio controls><source src="data:audio/wav;base64,{data}" type="audio/wav" /></audio>'
    return dict(output_type="display_data", metadata={}, data={"text/html": html, "text/plain": "Audio"})


def write_notebook(file, text, *outputs):
    "A notebook of a text and a cell that displayed something."
    cells = [dict(cell_type="markdown", id="text", metadata={}, source=text)]
    if outputs:
        code = dict(cell_type="code", id="code", metadata={}, source="#| export\nplay()", execution_count=1)
        cells.append(code | dict(outputs=list(outputs)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A site of four pages."
    pytest.importorskip("myst_nb")
    place = tmp_path_factory.mktemp("book")
    nbs = place / "nbs"
    write_notebook(nbs / "index.ipynb", "# Front\n\n[train](../nbs/train.ipynb) ![a](../figures/a.svg)")
    write_notebook(nbs / "train.ipynb", "# To train\n\nSo $x^2$, and\n\n$$y = \\sum_i x_i \\tag{1}$$", player())
    write_notebook(nbs / "toy" / "table1.ipynb", "# One table\n\n> Who is it?")
    (place / "figures").mkdir()
    (place / "figures" / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    paper = SimpleNamespace(name="toy", notebooks=("table1",), citation=SimpleNamespace(title="A toy paper"))
    write_book([paper], place / "source", nbs, functions=False)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", NBS / "book", place / "source", place / "site"]
    subprocess.run(command, check=True)
    return place / "site"


def test_the_site_has_contents_a_way_and_a_search(site):
    page = (site / "train.html").read_text()
    assert "A toy paper" in page and 'rel="next" title="One table"' in page and 'rel="prev"' in page
    assert "to train" in (site / "searchindex.js").read_text().lower() and (site / "search.html").exists()
    assert "Who is it?" in (site / "contents.html").read_text()
    assert 'href="train.html"' in (site / "index.html").read_text() and list(site.glob("_images/a*.svg"))


def test_the_site_keeps_players_and_equations_and_needs_no_network(site):
    page = (site / "train.html").read_text()
    assert "data:audio/wav;base64," in page and page.count("<math") == 2 and "#| export" not in page
    assert "before: " not in page and "GitHub strips" not in page
    for file in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img|audio|source)[^>]*(?:src|href)=\"(?:https?:)?//", file.read_text())


# -- in a browser --------------------------------------------------------------------------------------------------

PLAY = """new Promise((done, failed) => { const a = document.querySelector("audio"); a.muted = true;
    a.onended = () => done(a.duration); a.onerror = failed; a.play().catch(failed); })"""


def wait_for(file, seconds=60):
    "The text of a file that another process writes."
    end = time.monotonic() + seconds
    while not (file.exists() and file.read_text().count("\n")):
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.1)
    return file.read_text()


@pytest.fixture
def browser(tmp_path):
    "Opens a page and says what an expression on it comes to."
    program = shutil.which("chromium") or shutil.which("google-chrome")
    websocket = pytest.importorskip("websocket")
    if not program:
        pytest.skip("no chromium here")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--remote-allow-origins=*", "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path}"]
    process = subprocess.Popen([program, *flags, "about:blank"], stderr=subprocess.DEVNULL)

    def evaluate(page, expression):
        port = wait_for(tmp_path / "DevToolsActivePort").split()[0]
        call = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?{page.as_uri()}", method="PUT")
        place = json.load(urllib.request.urlopen(call))["webSocketDebuggerUrl"]
        connection = websocket.create_connection(place, timeout=60)
        time.sleep(1)                                                            # until the page is there
        asked = dict(expression=expression, awaitPromise=True, returnByValue=True)
        connection.send(json.dumps(dict(id=1, method="Runtime.evaluate", params=asked)))
        answer = json.loads(connection.recv())["result"]
        connection.close()
        return answer["result"].get("value", answer)

    yield evaluate
    process.terminate()
    process.wait(20)


def test_players_play_in_a_browser(site, browser):
    "Pages open from the disk, a player plays to its end, and the search finds."
    assert browser(site / "train.html", PLAY) == pytest.approx(0.2, abs=0.01)
    assert browser(site / "index.html", "document.querySelectorAll('.sidebar-tree a').length") >= 3
    found = "new Promise(done => setTimeout(() => done(document.querySelectorAll('ul.search li a').length), 2000))"
    file = SimpleNamespace(as_uri=lambda: (site / "search.html").as_uri() + "?q=train")
    assert browser(file, found) >= 1
