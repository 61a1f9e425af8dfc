"""The fuzz target runs on its own corpus, and finds what it is there to find."""

from pathlib import Path

import pytest
from tests.fuzz.corpus import PREFIX, seeds, write
from tests.fuzz.target import one_input

from smtp_protocol import Command, ProtocolConfig


@pytest.mark.parametrize("start", range(20))
def test_the_corpus_has_no_findings(start: int) -> None:
    for seed in seeds()[start::20]:
        one_input(seed)


def test_any_short_input() -> None:
    for length in range(PREFIX + 1):
        one_input(b"\0" * length)


def test_a_finding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(line: bytes, config: ProtocolConfig) -> Command:
        raise KeyError(line)

    monkeypatch.setattr("smtp_protocol.connection.parse_command", parse)
    with pytest.raises(KeyError):
        one_input(b"\0" * PREFIX + b"EHLO c\r\n")


def test_the_corpus_is_written(tmp_path: Path) -> None:
    count = write(tmp_path / "corpus")
    assert count == len(seeds()) > 200
    assert len(list((tmp_path / "corpus").iterdir())) == len(set(seeds()))
