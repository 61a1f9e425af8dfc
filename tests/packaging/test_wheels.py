"""The built distributions: their metadata, their content, and how they run once installed."""

import json
import re
import tarfile
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    # Importing it when running would make a second copy of what pytest has loaded.
    from tests.packaging.conftest import Environment, Wheel

PACKAGES = Path(__file__).parents[2] / "packages"
RANGE = ">=1.0.0.dev0,<2"
REQUIRES = {
    "smtp_protocol": [],
    "smtp_handlers": [f"smtp-protocol{RANGE}"],
    "smtp_server": [f"smtp-handlers{RANGE}", f"smtp-protocol{RANGE}"],
}
ENTRY_POINTS: dict[str, dict[str, dict[str, str]]] = {
    "smtp_protocol": {},
    "smtp_handlers": {
        "smtp_server.handlers": {
            "debugging": "smtp_handlers:Debugging",
            "mailbox": "smtp_handlers:Mailbox",
            "proxy": "smtp_handlers:Proxy",
            "sink": "smtp_handlers:Sink",
        }
    },
    "smtp_server": {
        "console_scripts": {"smtp-server": "smtp_server.cli:main"},
        "pytest11": {"smtp_server": "_smtp_server_pytestplugin"},
    },
}
# pytest imports its plugins in every run; a module of the package would bring all of that along.
BESIDE_PACKAGE = {"smtp_server": {"_smtp_server_pytestplugin.py"}}
# `time` is built in and loaded by every interpreter; test_imports sees to that one.
NOT_LOADED_BY_PROTOCOL = ["asyncio", "logging", "socket", "ssl", "threading"]

each_package = pytest.mark.parametrize("package", sorted(REQUIRES))


def version_of(package: str) -> str:
    """The version as the source says it, which is the one place where it is written."""
    source = PACKAGES / package.replace("_", "-") / "src" / package / "version.py"
    [version] = re.findall(r'^__version__ = "([^"]+)"$', source.read_text("utf-8"), re.MULTILINE)
    return str(version)


def test_there_are_three(wheels: dict[str, "Wheel"]) -> None:
    assert sorted(wheels) == sorted(REQUIRES)


@each_package
def test_metadata(wheels: dict[str, "Wheel"], package: str) -> None:
    metadata = wheels[package].metadata
    assert metadata["Name"] == package.replace("_", "-")
    assert metadata["Version"] == version_of(package)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert "Apache License" in wheels[package].dist_info("licenses/LICENSE").decode()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith(f"# {metadata['Name']}\n")


@each_package
def test_requirements(wheels: dict[str, "Wheel"], package: str) -> None:
    lines = wheels[package].metadata.get_all("Requires-Dist", [])
    requirements = [Requirement(line) for line in lines]
    unconditional = [r for r in requirements if "extra ==" not in str(r.marker)]
    assert set(unconditional) == {Requirement(line) for line in REQUIRES[package]}


def test_extras(wheels: dict[str, "Wheel"]) -> None:
    extras = {
        package: wheel.metadata.get_all("Provides-Extra", []) for package, wheel in wheels.items()
    }
    assert extras == {"smtp_protocol": [], "smtp_handlers": [], "smtp_server": ["uvloop"]}


@each_package
def test_entry_points(wheels: dict[str, "Wheel"], package: str) -> None:
    parser = ConfigParser()
    if ENTRY_POINTS[package]:
        parser.read_string(wheels[package].dist_info("entry_points.txt").decode())
    found = {section: dict(parser[section]) for section in parser.sections()}
    assert found == ENTRY_POINTS[package]


@each_package
def test_wheel_holds_its_own_package_only(wheels: dict[str, "Wheel"], package: str) -> None:
    source = PACKAGES / package.replace("_", "-") / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in wheels[package].names if ".dist-info/" not in name}
    assert inside == expected
    assert f"{package}/py.typed" in inside
    beside = {name for name in inside if not name.startswith(f"{package}/")}
    assert beside == BESIDE_PACKAGE.get(package, set())


@each_package
def test_sdist_holds_what_a_build_needs(sdist_folder: Path, package: str) -> None:
    version = version_of(package)
    with tarfile.open(sdist_folder / f"{package}-{version}.tar.gz") as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    beside_source = {name for name in names if not name.startswith(f"src/{package}/")}
    beside_source -= {f"src/{name}" for name in BESIDE_PACKAGE.get(package, ())}
    assert beside_source - {".gitignore"} == {
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
    }
    assert f"src/{package}/py.typed" in names


def test_version_option(fresh: "Environment") -> None:
    by_script = fresh.run("smtp-server", "--version")
    by_module = fresh.run("python", "-m", "smtp_server", "--version")
    assert by_script.stdout == by_module.stdout
    assert version_of("smtp_server") in by_script.stdout


def test_help_option(fresh: "Environment") -> None:
    by_script = fresh.run("smtp-server", "--help")
    by_module = fresh.run("python", "-m", "smtp_server", "--help")
    assert by_script.stdout == by_module.stdout
    assert by_script.stdout.lower().startswith("usage: smtp-server ")


@each_package
def test_import(fresh: "Environment", package: str) -> None:
    where = fresh.run("python", "-c", f"import {package}; print({package}.__file__)").stdout
    assert Path(where.strip()).is_relative_to(fresh.scripts.parent)


def test_installed_versions(fresh: "Environment") -> None:
    pip = ("-m", "pip", "--isolated", "--disable-pip-version-check")
    listed = json.loads(fresh.run("python", *pip, "list", "--format=json").stdout)
    versions = {row["name"].replace("-", "_"): row["version"] for row in listed}
    expected = {package: version_of(package) for package in REQUIRES}
    assert {package: versions.get(package) for package in REQUIRES} == expected
    assert set(versions) - {"pip", "setuptools"} == set(REQUIRES)


def test_protocol_loads_no_input_or_output(fresh: "Environment") -> None:
    code = "import json, sys, smtp_protocol; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(fresh.run("python", "-c", code).stdout)
    assert "smtp_protocol" in loaded
    assert [name for name in NOT_LOADED_BY_PROTOCOL if name in loaded] == []
    assert [name for name in loaded if name.split(".")[0] in {"smtp_server", "smtp_handlers"}] == []
