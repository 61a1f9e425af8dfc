"""Which package may import what, read from the source without running it."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
SOURCES = {
    package: PACKAGES / package.replace("_", "-") / "src" / package
    for package in ("smtp_protocol", "smtp_handlers", "smtp_server")
}
# The arrows between the packages; a package may import itself, of course.
ARROWS = {
    "smtp_protocol": {"smtp_protocol"},
    "smtp_handlers": {"smtp_handlers", "smtp_protocol"},
    "smtp_server": {"smtp_server", "smtp_protocol"},
}
# Beside these and the standard library: what an extra brings, and what the testing kit imports only
# where a test runs in it.
THIRD_PARTY = {
    "smtp_protocol": set[str](),
    "smtp_handlers": set[str](),
    "smtp_server": {"uvloop", "trio"},
}
# smtp_protocol does no input or output and reads no clock.
NOT_AT_RUN_TIME = {
    "smtp_protocol": {"asyncio", "logging", "socket", "ssl", "threading", "time"},
    "smtp_handlers": set[str](),
    "smtp_server": set[str](),
}


@dataclass(frozen=True)
class Import:
    """One imported module: its name, its line, and whether a type checker alone sees it."""

    module: str
    line: int
    typing_only: bool


def is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case _:
            return False


def imports_of(node: ast.AST, *, package: str, typing_only: bool = False) -> Iterator[Import]:
    """Every import below ``node``, wherever it stands; relative ones count as the package's."""
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing_only)
        case ast.ImportFrom():
            module = package if node.level else node.module or ""
            yield Import(module, node.lineno, typing_only)
        case ast.If() if is_type_checking(node.test):
            for child in node.body:
                yield from imports_of(child, package=package, typing_only=True)
            for child in node.orelse:
                yield from imports_of(child, package=package, typing_only=typing_only)
        case _:
            for child_node in ast.iter_child_nodes(node):
                yield from imports_of(child_node, package=package, typing_only=typing_only)


def refusal(package: str, found: Import) -> str | None:
    """Why this import may not stand in this package, or ``None`` when it may."""
    top = found.module.split(".")[0]
    if top in SOURCES:
        return None if top in ARROWS[package] else f"{package} must not depend on {top}"
    if top not in sys.stdlib_module_names | THIRD_PARTY[package]:
        return f"{top} is no declared dependency"
    if top in NOT_AT_RUN_TIME[package] and not found.typing_only:
        return f"{top} only under TYPE_CHECKING"
    return None


def refusals(package: str, source: str) -> list[str]:
    """The refused imports of one module, each as ``line: reason``."""
    found = imports_of(ast.parse(source), package=package)
    return [f"{each.line}: {why}" for each in found if (why := refusal(package, each))]


MODULES = [
    pytest.param(package, path, id=f"{package}/{path.relative_to(folder).as_posix()}")
    for package, folder in SOURCES.items()
    for path in sorted(folder.rglob("*.py"))
]


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_source_is_there(package: str) -> None:
    assert (SOURCES[package] / "__init__.py").is_file()


@pytest.mark.parametrize(("package", "path"), MODULES)
def test_imports(package: str, path: Path) -> None:
    assert refusals(package, path.read_text("utf-8")) == []


def first_line(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


@pytest.mark.parametrize(("package", "path"), MODULES)
def test_the_first_line_says_what_the_file_is(package: str, path: Path) -> None:
    name = r"" if path.name == "__init__.py" else r"[A-Z][^:]*: "
    assert re.fullmatch(rf"{name}\S.*[.:?!]", first_line(path)), first_line(path)


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_no_two_files_are_the_same(package: str) -> None:
    lines = Counter(first_line(path) for path in SOURCES[package].rglob("*.py"))
    assert [line for line, times in lines.items() if times > 1] == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("smtp_protocol", "import smtp_server"),
        ("smtp_protocol", "from smtp_handlers.sink import Sink"),
        ("smtp_protocol", "if TYPE_CHECKING:\n    import smtp_server"),
        ("smtp_protocol", "import re, asyncio.events"),
        ("smtp_protocol", "def late():\n    from time import monotonic"),
        ("smtp_protocol", "try:\n    import ssl\nexcept ImportError: ..."),
        ("smtp_protocol", "if TYPE_CHECKING:\n    import re\nelse:\n    import socket"),
        ("smtp_protocol", "if not TYPE_CHECKING:\n    import socket"),
        ("smtp_protocol", "import attrs"),
        ("smtp_protocol", "import uvloop"),
        ("smtp_handlers", "from smtp_server import SMTP"),
        ("smtp_server", "import smtp_handlers"),
        ("smtp_server", "import dns.resolver"),
    ],
)
def test_refused(package: str, source: str) -> None:
    assert len(refusals(package, source)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("smtp_protocol", "import re\nfrom . import replies\nfrom .replies import Reply"),
        ("smtp_protocol", "if TYPE_CHECKING:\n    from ssl import SSLObject"),
        ("smtp_protocol", "if typing.TYPE_CHECKING:\n    import asyncio"),
        ("smtp_handlers", "import socket\nfrom smtp_protocol import Handler"),
        ("smtp_server", "import asyncio\nimport uvloop\nfrom smtp_protocol import Reply"),
    ],
)
def test_allowed(package: str, source: str) -> None:
    assert refusals(package, source) == []
