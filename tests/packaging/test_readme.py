"""The README's commands and its example."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_ci_runs_the_gate_as_the_readme_does() -> None:
    [gate] = [block for block in blocks("sh") if "hatch run gate" in block]
    assert (ROOT / ".ci" / "run").read_text("utf-8").endswith(f"\n{gate}")


def test_no_command_asks_the_index_for_the_packages() -> None:
    commands = [
        command.strip()
        for block in blocks("sh")
        for line in block.splitlines()
        for command in line.split("&&")
        if "pip install" in command or "pip wheel" in command
    ]
    assert commands
    ours = re.compile(r"(?<!/)\bsmtp-(server|protocol|handlers)\b")
    assert [line for line in commands if ours.search(line) and "--no-index" not in line] == []


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = blocks("python")
    exec(compile(example, "<example>", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "anne@example.com writes to bart@example.com:"
    assert lines[1:4] == ["Subject: Hello", "", "Hi Bart!"]
