"""The command that measures linearity runs; what it measures is for the eye."""

import re

import pytest
from tests.benchmarks.linearity import CASES, Case, main, ratios


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--scale", "0.0001"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "seconds"
    assert len(lines) == len(CASES)
    assert all(re.fullmatch(r".{40} +[0-9.]+( +[0-9.]+){3}", line) for line in lines)


def test_sizes_are_doubled() -> None:
    made = []

    def make(size: int) -> type[None]:
        made.append(size)
        return type(None)

    ratios(Case("nothing", make, 10))
    assert made == [10, 20, 40, 80]
