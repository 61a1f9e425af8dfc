"""Patterns: linear in any text and the same in every Python, shown without measuring."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.protocol.patterns import choices, compiled, forbidden, longest, searched

import smtp_protocol

PATTERNS = compiled(smtp_protocol)
FILES = sorted(Path(smtp_protocol.__path__[0]).rglob("*.py"))


@pytest.mark.parametrize("name", PATTERNS)
def test_one_character_decides_each_choice(name: str) -> None:
    assert choices(PATTERNS[name]) == []


def test_all_patterns_are_seen() -> None:
    names = [name.rpartition(".")[2] for name in PATTERNS]
    assert len(names) > 30
    # Whatever is made by `re` is made once, where it has a name.
    calls = [
        found
        for path in FILES
        for found in re.findall(r"(?<!\w)re\.(\w+)\(", path.read_text("utf-8"))
    ]
    assert set(calls) == {"compile"}


def test_what_is_searched_for_is_short() -> None:
    # It is tried at each place, so a long one would take the square of the time.
    names = {name for path in FILES for name in searched(path)}
    found = {name: longest(PATTERNS[name]) for name in PATTERNS if name.rpartition(".")[2] in names}
    assert len(found) >= 5
    assert max(found.values()) <= 16


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_possessive_quantifier_and_no_atomic_group(path: Path) -> None:
    # CPython before 3.11.5 has them match too much (gh-106052).
    assert forbidden(path) == []


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        (r"(?:a+)+", "repetition"),
        (r"(?:a*)*", "empty"),
        (r"a*a", "repetition"),
        (r"(?:ab|[a-c]d)", "alternatives"),
        (r"(?:[a-z]+\.?)*@", "repetition"),
        (r"a++", "POSSESSIVE"),
        (r"(?>a)", "ATOMIC"),
        (r"a*?b", "MIN_REPEAT"),
        (r"(?i:last)", "beyond ASCII"),
        (r"(?i)last", "beyond ASCII"),
        (r"(?ai:A)*a", "repetition"),
        (r"[^b]*a", "repetition"),
        (r"x*.", "repetition"),
    ],
)
def test_what_is_found(pattern: str, complaint: str) -> None:
    found = choices(re.compile(pattern))
    assert any(complaint in each for each in found)


@pytest.mark.parametrize(
    "pattern",
    [r"a+(?:\.a+)*@", r" ?x", rb"(?i:last)+\r", r"(?:a|b)*(?= |\Z)"],
)
def test_what_is_let_pass(pattern: Any) -> None:
    assert choices(re.compile(pattern)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('import re\nX = re.compile(r"a++")', True),
        ('import re\nX = re.compile(rf"{Y}*+")', True),
        ('import re\nX = re.compile(rf"{Y}{{1,3}}+")', True),
        ('import re\nX = re.compile(rb"a?+")', True),
        ('import re\nX = r"(?>a)"', True),
        ('import re\nX = re.compile(r"[*+]+\\++")', False),
        ('import re\nX = re.compile(r"[+-]?[0-9]+")', False),
        ('X = "C++"', False),
    ],
)
def test_what_is_found_in_a_file(source: str, found: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(source)
    assert bool(forbidden(path)) is found
