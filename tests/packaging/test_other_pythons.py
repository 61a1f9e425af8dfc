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

# What the tests that run there import, at the versions of this test run.
NEEDED = ("hypothesis", "pytest", "pytest-asyncio")

WHICH = "import sys; print(*sys.version_info[:3], sys.implementation.name, sys.version_info[3])"


Release = tuple[int, int, int]


def candidates() -> list[Path]:
    """Whatever is called python3 on the path of executables, or is one of pyenv's."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(pyenv.glob("versions/*/bin"))
    return [
        path
        for folder in dict.fromkeys(folders)
        if folder.is_dir() and "shims" not in folder.parts
        for path in sorted(folder.iterdir())
        if re.fullmatch(r"python3(\.[0-9]+)?", path.name)
    ]


def release(python: Path) -> Release | None:
    """The release of an interpreter, if it is a final one of CPython that we run on."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", WHICH], capture_output=True, text=True, timeout=30, check=True
        )
        major, minor, micro, name, level = done.stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    found = (int(major), int(minor), int(micro))
    return found if found >= OLDEST and (name, level) == ("cpython", "final") else None


@cache
def others() -> dict[Release, Path]:
    """The interpreters there are beside the one of this test run, by their release."""
    found = {known: path for path in candidates() if (known := release(path)) is not None}
    found.pop((sys.version_info[0], sys.version_info[1], sys.version_info[2]), None)
    return found


@pytest.mark.parametrize("choose", [min, max], ids=["oldest", "newest"])
def test_engine_and_transcripts(
    choose: Callable[[Iterable[Release]], Release], wheel_folder: Path, tmp_path: Path
) -> None:
    if not others():
        pytest.skip("there is no other Python")
    chosen = choose(others())
    if choose is max and chosen == min(others()):
        pytest.skip("the newest other Python is also the oldest")
    if importlib.util.find_spec("virtualenv") is None:
        pytest.skip("virtualenv is not installed")
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COVERAGE_", "PYTHON", "VIRTUAL_ENV", "HATCH_", "PYTEST_"))
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    run(sys.executable, "-m", "virtualenv", "-q", "-p", others()[chosen], tmp_path / "venv")
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in NEEDED]
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    run(*pip, *pinned)
    run(*pip, "--no-index", "--find-links", wheel_folder, "smtp-server")
    folders = ("tests/protocol", "tests/conformance")
    printed = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert re.search(r"^[0-9]{4,} passed", printed, re.MULTILINE)
