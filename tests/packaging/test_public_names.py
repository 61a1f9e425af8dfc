"""Only documented names are public: each ``__all__`` against the page of the package.

In ``docs/api/<package>.rst`` every public name is a section of its own: a line with the name in
double backquotes and nothing else, underlined. Names that are told together may share a heading,
with commas between them::

    ``Session``
    -----------

    ``HandlesRCPT``, ``HandlesDATA``
    --------------------------------
"""

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "api"
HEADING = re.compile(
    r"""^(``[A-Za-z_]\w*``(?:,[ ]``[A-Za-z_]\w*``)*)[ ]*\n  # the names, alone on a line
        ([-=~^"'+*\#.])\2+[ ]*$                             # underlined with one character""",
    re.MULTILINE | re.VERBOSE,
)

each_package = pytest.mark.parametrize(
    "package", ["smtp_protocol", "smtp_handlers", "smtp_server", "smtp_server.testing"]
)


def documented(page: str) -> list[str]:
    """The names that have a heading on the page, in the order of the page."""
    return [name for line, _ in HEADING.findall(page) for name in re.findall(r"\w+", line)]


def public(package: str) -> list[str]:
    names = importlib.import_module(package).__all__
    assert isinstance(names, list | tuple)
    return list(names)


@each_package
def test_all_is_consistent(package: str) -> None:
    # Its order is ruff's business (RUF022).
    names = public(package)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    module = importlib.import_module(package)
    assert [name for name in names if not hasattr(module, name)] == []


@each_package
def test_public_names_are_the_documented_ones(package: str) -> None:
    on_page = documented((PAGES / f"{package}.rst").read_text("utf-8"))
    names = public(package)
    assert sorted(set(names) - set(on_page)) == [], "public but without a heading on the page"
    assert sorted(set(on_page) - set(names)) == [], "on the page but not in __all__"
    assert [name for name, count in Counter(on_page).items() if count > 1] == []


def test_headings() -> None:
    page = (
        "smtp_protocol\n=============\n\n``Session``\n-----------\n\nSee ``Envelope``\n\n"
        "``Reply``\n\n``HandlesRCPT``, ``HandlesDATA``\n~~~~~~~~~~~~~~~~\n"
    )
    assert documented(page) == ["Session", "HandlesRCPT", "HandlesDATA"]
