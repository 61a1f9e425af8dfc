"""Other Pythons: the engine's tests and the transcripts pass on the oldest and the newest there is.

`re` and asyncio differ between patch releases of one version, and users have all of them.
"""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDEST = (3, 11, 0)

# What the tests that run there import, at the versions of this test run. Not pytest-xdist: two
# processes need half as much CPU time again, and in the gate the other cores have work.
NEEDED = ("hypothesis", "pytest", "pytest-asyncio", "trio")

WHICH = "import sys; i = sys.implementation; print(i.name, sys.version_info[3], i.version[:3])"

# Where pyenv, uv and hatch keep the interpreters that they install.
KEPT = (
    (os.environ.get("PYENV_ROOT") or "~/.pyenv", "versions/*/bin"),
    (os.environ.get("UV_PYTHON_INSTALL_DIR") or "~/.local/share/uv/python", "*/bin"),
    ("~/.local/share/hatch/pythons", "*/python/bin"),
)

Release = tuple[int, int, int]


def candidates() -> list[Path]:
    """Whatever is called python3 where executables are, each file once, whatever its names."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for kept, bins in KEPT:
        folders += sorted(Path(kept).expanduser().glob(bins))
    return list(
        dict.fromkeys(
            path.resolve()
            for folder in folders
            # pyenv's shims are programs that start one of its interpreters.
            if folder.is_dir() and "shims" not in folder.parts
            for path in sorted(folder.iterdir())
            if re.fullmatch(r"python3(\.[0-9]+)?", path.name)
        )
    )


def release(told: str) -> Release | None:
    """The release of an interpreter that says this of itself, if it is one that we run on."""
    match = re.fullmatch(r"cpython final \((\d+), (\d+), (\d+)\)\s*", told, re.ASCII)
    if match is None:
        return None
    found = (int(match[1]), int(match[2]), int(match[3]))
    return found if found >= OLDEST else None


def ask(python: Path) -> str:
    """What an interpreter says of itself; nothing if it cannot."""
    try:
        return subprocess.run(
            [python, "-I", "-c", WHICH], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


@cache
def others() -> dict[Release, Path]:
    """The interpreters there are beside the one of this test run, by their release."""
    found = {known: path for path in candidates() if (known := release(ask(path))) is not None}
    found.pop((sys.version_info[0], sys.version_info[1], sys.version_info[2]), None)
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout, without what this test run has in its environment."""
    ours = ("COVERAGE_", "PYTHON", "VIRTUAL_ENV", "HATCH_", "PYTEST_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,  # it hangs: on a busy machine the longest takes a minute or two
        check=False,
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("cpython final (3, 11, 0)\n", (3, 11, 0)),
        ("cpython final (3, 13, 12)\n", (3, 13, 12)),
        ("cpython final (4, 0, 0)\r\n", (4, 0, 0)),
        ("cpython final (3, 10, 13)\n", None),
        ("cpython candidate (3, 15, 0)\n", None),
        ("pypy final (3, 11, 2)\n", None),
        ("", None),
    ],
)
def test_only_final_releases_of_cpython_count(told: str, expected: Release | None) -> None:
    assert release(told) == expected


def test_interpreters_say_what_they_are() -> None:
    this = (sys.version_info[0], sys.version_info[1], sys.version_info[2])
    final = sys.implementation.name == "cpython" and sys.version_info[3] == "final"
    assert release(ask(Path(sys.executable))) == (this if final else None)
    assert ask(ROOT / "no-such-python") == ""


@pytest.mark.parametrize("choose", [min, max], ids=["oldest", "newest"])
def test_engine_and_transcripts(
    choose: Callable[[Iterable[Release]], Release], wheel_folder: Path, tmp_path: Path
) -> None:
    if not others():
        pytest.skip("there is no CPython 3.11 or newer here but the one that runs this test")
    chosen = choose(others())
    if choose is max and chosen == min(others()):
        pytest.skip(f"the only other Python, {others()[chosen]}, has its turn as the oldest")
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip to install with")

    venv = tmp_path / "venv"
    # Without pip: Debian's Python has none for it, and the one here can install there.
    made = run(others()[chosen], "-m", "venv", "--without-pip", venv)
    if "No module named venv" in made.stdout:
        pytest.skip(f"{others()[chosen]} comes without the module venv")
    assert made.returncode == 0, made.stdout

    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in NEEDED]
    # The only step that needs a network. On a laptop without one the rest of the gate is worth
    # running; a continuous integration, which sets CI, has to notice.
    fetched = run(*pip, "install", "-q", *pinned)
    if fetched.returncode != 0 and not os.environ.get("CI"):
        reason = fetched.stdout.strip().rpartition("\n")[2]
        pytest.skip(f"pip cannot install pytest for {others()[chosen]}: {reason}")
    assert fetched.returncode == 0, fetched.stdout
    wheels = sorted(wheel_folder.iterdir())
    installed = run(*pip, "install", "-q", "--no-index", "--no-deps", *wheels)
    assert installed.returncode == 0, installed.stdout

    folders = ("tests/protocol", "tests/conformance")
    tested = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert tested.returncode == 0, tested.stdout[-6000:]
    assert re.search(r"^[0-9]{4,} passed", tested.stdout, re.MULTILINE), tested.stdout[-500:]
