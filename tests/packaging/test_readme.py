"""The README's commands and its example."""

import re
import subprocess
import sys
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
    [example, _] = blocks("python")
    exec(compile(example, "<example>", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "anne@example.com writes to bart@example.com:"
    assert lines[1:4] == ["Subject: Hello", "", "Hi Bart!"]


def test_the_tests_pass(tmp_path: Path) -> None:
    [_, tests] = blocks("python")
    (tmp_path / "test_readme.py").write_text(tests, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-p", "no:asyncio"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in run.stdout, run.stdout
