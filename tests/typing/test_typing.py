"""Types: mypy finds nothing in the good programs, and exactly what is marked in the bad ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
GOOD = sorted(HERE.glob("good_*.py"))
BAD = sorted((HERE / "bad").glob("bad_*.py"))

# One process of xdist runs mypy, once.
pytestmark = pytest.mark.xdist_group("typing")

_REPORT = re.compile(r"(?P<path>.*?):(?P<line>\d+): error: (?P<text>.*)")
_MARK = "# error: "


@pytest.fixture(scope="module")
def errors() -> dict[Path, list[tuple[int, str]]]:
    """What mypy says of each file, by line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    # A cache of its own: another run of mypy may be at work on the usual one.
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "typing")]
    files = [*GOOD, *BAD]
    run = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    found: dict[Path, list[tuple[int, str]]] = {file: [] for file in files}
    for line in run.stdout.splitlines():
        match = _REPORT.fullmatch(line)
        if match is not None:
            found[ROOT / match["path"]].append((int(match["line"]), match["text"]))
    return found


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_programs(path: Path, errors: dict[Path, list[tuple[int, str]]]) -> None:
    assert errors[path] == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_handlers(path: Path, errors: dict[Path, list[tuple[int, str]]]) -> None:
    expected = {
        number: line.partition(_MARK)[2]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if _MARK in line
    }
    assert expected, "each file is wrong somewhere"
    assert {number for number, _ in errors[path]} == set(expected), errors[path]
    for number, part in expected.items():
        assert any(part in text for line, text in errors[path] if line == number), errors[path]
