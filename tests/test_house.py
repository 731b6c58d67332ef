"""The house that the imports draw: every room is in the picture, stairs agree with the code, and none leads up."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from vocalrep.project import VocalrepError
from vocalrep.report.house import FLOORS, Room, climbs, draw_house, floor_lines, read_rooms, save_house, stairs
from vocalrep.report.links import room_page

NBS = Path(__file__).resolve().parents[1] / "nbs"
SOURCES = {
    "project.py": "import os",
    "data/__init__.py": "from ..models import nets",
    "data/grain.py": """
        # File to edit: ../../nbs/library/data/01_grain.ipynb.
        from ..project import home
    """,
    "data/barn.py": """
        # File to edit: ../../nbs/library/data/02_barn.ipynb.
        from . import grain
        from ..project import home

        def late():
            from toy.models.nets import Net
    """,
    "models/nets.py": """
        # File to edit: ../../nbs/library/models/01_nets.ipynb.
        import toy.data.barn
        import torch
        from ..data.grain import (peak,
                                   norm)
    """,
    "papers/mine/paper.py": """
        # File to edit: ../../../nbs/library/papers/mine/01_paper.ipynb.
        from . import claims as sentences
        from ...models import nets
    """,
    "papers/mine/claims.py": "# File to edit: ../../../nbs/library/papers/mine/02_claims.ipynb.",
    "_modidx.py": "from .cli import main",
}


@pytest.fixture
def toy(tmp_path):
    "A made-up package on disk."
    for name, source in SOURCES.items():
        file = tmp_path / "toy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
    return tmp_path / "toy"


def test_rooms_of_a_made_up_package(toy):
    rooms = read_rooms(toy)
    assert set(rooms) == {"project", "data.grain", "data.barn", "models.nets", "papers.mine.paper",
                          "papers.mine.claims"}
    assert rooms["data.barn"] == Room("data.barn", 2, ("data.grain", "models.nets", "project"))
    assert rooms["models.nets"].uses == ("data.barn", "data.grain")
    assert rooms["papers.mine.paper"].uses == ("models.nets", "papers.mine.claims")


def test_stairs_count_imports_between_floors_only(toy):
    assert stairs(read_rooms(toy)) == {("data", "project"): 2, ("data", "models"): 1, ("models", "data"): 2,
                                       ("papers", "models"): 1}


def test_what_climbs_is_reported(toy):
    found = climbs(read_rooms(toy))
    assert sorted(found) == [("data.barn", "models.nets"), ("papers.mine.paper", "papers.mine.claims")]


def test_a_module_outside_the_floors_is_an_error(toy):
    (toy / "shed.py").write_text("")
    with pytest.raises(VocalrepError, match="shed is no floor"):
        climbs(read_rooms(toy))


def test_a_folder_without_modules_is_an_error(tmp_path):
    with pytest.raises(VocalrepError, match="holds no modules"):
        read_rooms(tmp_path)


def test_nothing_climbs_here():
    found = climbs(read_rooms())
    assert not found, "; ".join(f"{room} imports {used}, which lies above it" for room, used in found)


def test_every_room_has_a_notebook_and_a_floor():
    rooms = read_rooms()
    assert {room.floor for room in rooms.values()} == set(FLOORS)
    homeless = [room.name for room in rooms.values() if not (NBS / room_page(room)).is_file()]
    assert not homeless


def test_every_room_is_in_the_picture():
    rooms = read_rooms()
    figure = draw_house(rooms)
    texts = {text.get_text() for text in figure.axes[0].texts}
    written = " ".join(texts)
    for floor in FLOORS:
        assert floor in texts
        assert set(floor_lines(rooms, floor)) <= texts
    for room in rooms.values():
        assert room.name.rpartition(".")[2] in written
    plt.close(figure)


def test_as_many_arrows_as_stairs(toy):
    rooms = read_rooms(toy)
    figure = draw_house(rooms, ("project", "data", "models", "papers"))
    arrows = [patch for patch in figure.axes[0].patches if hasattr(patch, "get_arrowstyle")]
    assert len(arrows) == len(stairs(rooms))
    plt.close(figure)


def test_the_picture_is_written(tmp_path):
    file = save_house(tmp_path / "figures" / "house.png")
    assert file.read_bytes().startswith(b"\x89PNG")
