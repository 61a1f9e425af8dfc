"""The hooks of pre-commit run what the gate runs, and fetch no tool of their own."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def told(key: str) -> list[str]:
    """What the file says of one key, from top to bottom."""
    return re.findall(rf"^\s*(?:- )?{key}: (.*)$", HOOKS, re.MULTILINE)


def test_commands_are_those_of_lint_and_types() -> None:
    scripts = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))["envs"]["default"]["scripts"]
    commands = [*scripts["lint"], scripts["types"]]
    assert told("entry") == [f".venv-hatch/bin/hatch run {command}" for command in commands]


def test_no_hook_has_a_version_of_its_own() -> None:
    hooks = len(told("id"))
    assert told("repo") == ["local"]
    assert told("language") == ["system"] * hooks
    assert told("rev") == told("additional_dependencies") == []


def test_a_tool_sees_the_whole_checkout_as_in_the_gate() -> None:
    assert told("pass_filenames") == ["false"] * len(told("id"))
