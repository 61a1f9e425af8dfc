"""The compiled wheel of smtp_protocol is an extra: the pure one and more, and it does the same."""

import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.tags import sys_tags

if TYPE_CHECKING:
    # Importing it when running would make a second copy of what pytest has loaded.
    from tests.packaging.conftest import Compiled, Unpacked, Wheel

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "packages/smtp-protocol/pyproject.toml").read_text("utf-8"))
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
# As in a wheel, without a suffix: `smtp_protocol/connection`.
MODULES = [path.removeprefix("/src/").removesuffix(".py") for path in HOOK["include"]]
SUFFIX = EXTENSION_SUFFIXES[0]
# The tags of a wheel that was made to run elsewhere too.
PORTABLE = ("manylinux", "musllinux")

# What a build of the wheel here asks for beside the requirements of `build-system`.
REQUIRES = "import hatchling.build as build; print(build.get_requires_for_build_wheel())"
ORIGINS = """
import importlib, sys
for name in sys.argv[1:]:
    print(importlib.import_module(name.replace("/", ".")).__file__)
"""
DELIVER = """
import smtplib
from smtp_server.testing import SMTPServer

with SMTPServer() as server:
    with smtplib.SMTP(server.host, server.port, timeout=10) as client:
        client.sendmail("anne@example.com", ["bart@example.com"], "Subject: Hello\\n\\nHi Bart!")
    [message] = server.messages
    print(message["Subject"])
"""


def files(wheel: "Wheel") -> set[str]:
    """The files that are installed as modules or beside them."""
    return {name for name in wheel.names if ".dist-info/" not in name}


def test_pure_is_the_default(wheels: dict[str, "Wheel"]) -> None:
    assert wheels["smtp_protocol"].path.name.endswith("-py3-none-any.whl")
    assert [name for name in files(wheels["smtp_protocol"]) if name.endswith(SUFFIX)] == []


def test_only_who_asks_needs_a_compiler(unpacked: "Unpacked") -> None:
    requires = PROJECT["build-system"]["requires"]
    assert [Requirement(line).name for line in requires] == ["hatchling"]
    assert unpacked.run("-c", REQUIRES).stdout == "[]\n"
    asked = unpacked.run("-c", REQUIRES, HATCH_BUILD_HOOK_ENABLE_MYPYC="1").stdout
    assert asked == f"{HOOK['dependencies']}\n"


def test_holds_the_pure_one_and_the_compiled_modules(
    wheels: dict[str, "Wheel"], compiled_wheel: "Wheel"
) -> None:
    pure = files(wheels["smtp_protocol"])
    assert {f"{module}.py" for module in MODULES} <= pure
    extensions = {f"{module}{SUFFIX}" for module in [*MODULES, "smtp_protocol__mypyc"]}
    assert files(compiled_wheel) == pure | extensions


def test_is_for_this_python_alone(wheels: dict[str, "Wheel"], compiled_wheel: "Wheel") -> None:
    tag = next(str(tag) for tag in sys_tags() if not tag.platform.startswith(PORTABLE))
    assert compiled_wheel.path.name.endswith(f"-{tag}.whl")
    lines = compiled_wheel.dist_info("WHEEL").decode().splitlines()
    assert {"Root-Is-Purelib: false", f"Tag: {tag}"} <= set(lines)
    assert compiled_wheel.dist_info("METADATA") == wheels["smtp_protocol"].dist_info("METADATA")


def test_engine(compiled: "Compiled", tmp_path: Path) -> None:
    origins = compiled.run("-c", ORIGINS, *MODULES, cwd=tmp_path).stdout.splitlines()
    assert origins == [str(compiled.folder / f"{module}{SUFFIX}") for module in MODULES]
    tests = ("tests/protocol", "tests/conformance")
    compiled.run("-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *tests, cwd=ROOT)


def test_delivery(compiled: "Compiled", tmp_path: Path) -> None:
    assert compiled.run("-c", DELIVER, cwd=tmp_path).stdout == "Hello\n"
