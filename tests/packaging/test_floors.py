"""Floors: a file imports files of the floors below it, and the page on architecture shows them.

The page has a table for each wheel, and for each folder in it: floor, file, and what it is for. A
file that is added gets its row there.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name

import pytest
from tests.packaging.test_imports import PACKAGES, SOURCES

PAGE = (PACKAGES.parent / "docs" / "architecture.rst").read_text("utf-8")

_ROW = re.compile(r"^(\d+) +``([\w/.]+)`` +\S.*$", re.MULTILINE)

#: Whom a module imports, by name: modules of its own wheel alone.
Graph = dict[str, set[str]]


def graph_of(sources: dict[str, str]) -> Graph:
    """Who imports whom, anywhere in the module, also for a type checker alone.

    Args:
        sources: The text of each module of a wheel; a package's is that of its ``__init__.py``.
    """
    return {name: set(_imported(name, text, sources)) - {name} for name, text in sources.items()}


def _imported(name: str, text: str, sources: dict[str, str]) -> list[str]:
    folder = name if f"{name}." in " ".join(sources) else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import():
                found += [alias.name for alias in node.names]
            case ast.ImportFrom():
                where = resolve_name("." * node.level + (node.module or ""), folder)
                names = [f"{where}.{alias.name}" for alias in node.names]
                found += [each if each in sources else where for each in names]
    return [each for each in found if each in sources]


def read_sources(package: str) -> dict[str, str]:
    """The modules of a wheel, by name."""
    root = SOURCES[package]
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text("utf-8")
    return sources


GRAPHS = {package: graph_of(read_sources(package)) for package in sorted(SOURCES)}


def graph_around(folder: str) -> Graph:
    """The graph of the wheel that a folder is in."""
    return GRAPHS[folder.partition(".")[0]]


FOLDERS = [
    ".".join(path.parent.relative_to(root.parent).parts)
    for root in SOURCES.values()
    for path in sorted(root.rglob("__init__.py"))
]


def floors_on_page(folder: str) -> list[tuple[int, str]]:
    """The rows of a folder's table: floor, and module or folder."""
    [section] = re.findall(rf"^``{re.escape(folder)}``\n-+\n(.*?)(?:^-+$|\Z)", PAGE, re.M | re.S)
    rows = [
        (int(floor), name.removesuffix(".py").removesuffix("/"))
        for floor, name in _ROW.findall(section)
    ]
    return rows


def inside(folder: str, module: str) -> str | None:
    """What a module is in a folder: one of its files, one of its folders, or not there."""
    rest = module.removeprefix(f"{folder}.") if module.startswith(f"{folder}.") else ""
    return rest.split(".")[0] or None


def arrows_up(folder: str, floors: list[tuple[int, str]], graph: Graph) -> list[str]:
    """The imports inside a folder that do not go to a lower floor."""
    floor_of = {name: floor for floor, name in floors}
    wrong = set()
    for module, imported in graph.items():
        here = inside(folder, module)
        for other in imported:
            there = inside(folder, other)
            if here and other == folder:
                wrong.add(f"{here} imports the package itself")
            elif here and there and here != there and floor_of[there] >= floor_of[here]:
                wrong.add(f"{here} (floor {floor_of[here]}) imports {there} ({floor_of[there]})")
    return sorted(wrong)


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_there_is_no_circle(package: str) -> None:
    try:
        TopologicalSorter(GRAPHS[package]).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_has_every_file_on_its_floor(folder: str) -> None:
    rows = floors_on_page(folder)
    modules = {inside(folder, module) for module in graph_around(folder)} - {None}
    assert sorted(name for _, name in rows) == sorted(filter(None, modules))
    floors = [floor for floor, _ in rows]
    assert floors == sorted(floors), "the lowest floor comes first"
    assert set(floors) == set(range(1, max(floors) + 1))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_import_goes_upwards(folder: str) -> None:
    assert arrows_up(folder, floors_on_page(folder), graph_around(folder)) == []


# The test itself.

_FLOORS = [(1, "low"), (1, "beside"), (2, "high"), (2, "wing")]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("p.low", "import p.high"),
        ("p.low", "from p import high"),
        ("p.low", "from p.high import Name"),
        ("p.low", "from . import high"),
        ("p.low", "from .beside import Name"),
        ("p.low", "if TYPE_CHECKING:\n    from p.high import Name"),
        ("p.low", "def late():\n    from p.wing.inner import Name"),
        ("p.wing.inner", "from p.high import Name"),
        ("p.wing.inner", "from .. import high"),
        ("p.high", "from p import Name"),
    ],
)
def test_an_arrow_that_goes_upwards_is_seen(module: str, text: str) -> None:
    names = ("p", "p.low", "p.beside", "p.high", "p.wing", "p.wing.inner")
    graph = graph_of(dict.fromkeys(names, "") | {module: text})
    assert len(arrows_up("p", _FLOORS, graph)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("p.high", "import p.low"),
        ("p.high", "from p.low import Name\nfrom .beside import Name"),
        ("p.wing.inner", "from ..low import Name"),
        ("p.wing", "from p.wing.inner import Name"),
        ("p", "from p.high import Name"),
        ("p.low", "import re, other.high"),
    ],
)
def test_an_arrow_that_goes_downwards_is_good(module: str, text: str) -> None:
    names = ("p", "p.low", "p.beside", "p.high", "p.wing", "p.wing.inner")
    graph = graph_of(dict.fromkeys(names, "") | {module: text})
    assert arrows_up("p", _FLOORS, graph) == []
