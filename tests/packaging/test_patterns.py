"""Patterns of all wheels: none that Python before 3.11.5 gets wrong (CPython gh-106052)."""

from pathlib import Path

import pytest
from tests.protocol.patterns import forbidden

SOURCES = sorted((Path(__file__).parents[2] / "packages").glob("*/src/**/*.py"))


def test_all_wheels_are_looked_at() -> None:
    names = {path.parts[path.parts.index("src") + 1] for path in SOURCES}
    assert names >= {"smtp_handlers", "smtp_protocol", "smtp_server"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_possessive_quantifier_and_no_atomic_group(path: Path) -> None:
    assert forbidden(path) == []
