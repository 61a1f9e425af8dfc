"""Build the wheels and sdists once, and install the wheels in one fresh environment."""

import os
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"

# What would carry the test run's own environment into the processes started here:
# the fresh environment has no coverage, and must see no package but its own.
STRIPPED_PREFIXES = ("COVERAGE_", "PIP_", "PYTHON", "VIRTUAL_ENV", "HATCH_")


def run(
    *command: str | Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a clean environment; a failure shows what it printed."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(STRIPPED_PREFIXES)
    }
    environ |= variables
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Wheel:
    """A built wheel: where it is and what it holds."""

    path: Path

    @property
    def names(self) -> list[str]:
        """The names of the files inside."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.namelist()

    def dist_info(self, name: str) -> bytes:
        """The content of one file of the ``.dist-info`` folder."""
        inside = "-".join(self.path.name.split("-")[:2]) + ".dist-info/" + name
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(inside)

    @property
    def metadata(self) -> Message:
        """The core metadata."""
        return BytesParser().parsebytes(self.dist_info("METADATA"))


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which nothing but the wheels is installed."""

    scripts: Path
    """The folder of its executables."""
    elsewhere: Path
    """An empty folder to run in, so that no checkout is on the import path."""

    def run(self, executable: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's executables."""
        return run(self.scripts / executable, *arguments, cwd=self.elsewhere)


@dataclass(frozen=True)
class Unpacked:
    """A source distribution's content."""

    root: Path

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python, with the packages of this test run, where ``pyproject.toml`` is."""
        return run(sys.executable, *arguments, cwd=self.root, **variables)


@dataclass(frozen=True)
class Compiled:
    """A folder with the compiled wheel, for the interpreter and the packages of this test run."""

    folder: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with this ``smtp_protocol`` before all others."""
        return run(sys.executable, *arguments, cwd=cwd, PYTHONPATH=str(self.folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one process of xdist run all that needs what is built: it is built once."""
    for item in items:
        if {"wheel_folder", "sdist_folder"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("wheels"))


def build(target: str, folder: Path) -> Path:
    for project in sorted(PACKAGES.iterdir()):
        run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=project)
    return folder


@pytest.fixture(scope="session")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three wheels and nothing else."""
    return build("wheel", tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def sdist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three source distributions and nothing else."""
    return build("sdist", tmp_path_factory.mktemp("sdists"))


@pytest.fixture(scope="session")
def wheels(wheel_folder: Path) -> dict[str, Wheel]:
    """The three wheels by the name of the package that each is for."""
    return {path.name.split("-")[0]: Wheel(path) for path in wheel_folder.iterdir()}


@pytest.fixture(scope="session")
def fresh(wheel_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment into which pip has installed ``smtp-server`` from the wheels."""
    root = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", root / "venv")
    scripts = root / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (scripts / "python", "-m", "pip", "--isolated", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--find-links", wheel_folder, "smtp-server")
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    return Environment(scripts, elsewhere)


@pytest.fixture(scope="session")
def unpacked(sdist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """The unpacked source distribution of ``smtp-protocol``."""
    [sdist] = sdist_folder.glob("smtp_protocol-*.tar.gz")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    [root] = folder.iterdir()
    return Unpacked(root)


def why_not_compile() -> str | None:
    """What is missing for compiling an extension module, or ``None``."""
    if find_spec("hatch_mypyc") is None:
        return "hatch-mypyc is not installed"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    try:
        done = subprocess.run(
            [*compiler, "-fsyntax-only", "-I", include, "-x", "c", "-"],
            input="#include <Python.h>\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except OSError as error:
        return f"no C compiler: {error}"
    return f"no headers to compile with: {done.stderr[-200:]}" if done.returncode else None


@pytest.fixture(scope="session")
def compiled_wheel(unpacked: Unpacked, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """The compiled wheel, of the sdist: the hook leaves what it makes beside the sources."""
    if why := why_not_compile():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("compiled-wheel")
    command = ("-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    unpacked.run(*command, HATCH_BUILD_HOOK_ENABLE_MYPYC="1")
    [path] = folder.iterdir()
    return Wheel(path)


@pytest.fixture(scope="session")
def compiled(
    compiled_wheel: Wheel, fresh: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    """The compiled wheel as pip installs it, in a folder that holds nothing else."""
    folder = tmp_path_factory.mktemp("compiled")
    pip = ("-m", "pip", "--isolated", "--disable-pip-version-check")
    where = ("--no-index", "--no-deps", "--target", str(folder))
    fresh.run("python", *pip, "install", *where, str(compiled_wheel.path))
    return Compiled(folder)
