"""Return paths: whatever a message has of them in its header is gone, and nothing else is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_handlers.return_paths import ReturnPathFilter


def filtered(message: bytes, size: int) -> bytes:
    """What comes out when the message comes in parts of so many octets."""
    passing = ReturnPathFilter()
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join([*map(passing.feed, parts), passing.close()])


def expected(message: bytes) -> bytes:
    """The same, line by line."""
    kept: list[bytes] = []
    dropping = False
    if message[:1] in (b" ", b"\t"):
        return message
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", message)
    for number, line in enumerate(lines):
        if line in (b"\r\n", b"\n", b"\r"):
            return b"".join([*kept, *lines[number:]])
        if line[:1] not in (b" ", b"\t"):
            dropping = re.match(rb"return-path[ \t]*:", line, re.IGNORECASE) is not None
        if not dropping:
            kept.append(line)
    return b"".join(kept)


MESSAGES = {
    b"": b"",
    b"Return-Path: <a@b>": b"",
    b"Return-Path: <a@b>\r\n": b"",
    b"return-PATH\t : <a@b>\r\n\t(folded)\r\nSubject: x\r\n\r\nx": b"Subject: x\r\n\r\nx",
    b"Return-Path: a\r\nReturn-Path: b\r\n c\r\n\r\nbody": b"\r\nbody",
    b"Subject: x\r\nReturn-Path: a\r\nTo: y\r\n": b"Subject: x\r\nTo: y\r\n",
    b"Subject: x\nReturn-Path: a\n\nReturn-Path: body\n": b"Subject: x\n\nReturn-Path: body\n",
    b"Subject: x\rReturn-Path: a\rTo: y\r": b"Subject: x\rTo: y\r",
    b"Subject: x\r\n\r\nReturn-Path: body\r\n": b"Subject: x\r\n\r\nReturn-Path: body\r\n",
    b"\r\nReturn-Path: body\r\n": b"\r\nReturn-Path: body\r\n",
    b" x\r\nReturn-Path: body\r\n": b" x\r\nReturn-Path: body\r\n",
    b"X-Return-Path: x\r\nReturn-Path-X: y\r\n": b"X-Return-Path: x\r\nReturn-Path-X: y\r\n",
    b"Subject: x\r\n Return-Path: folded\r\n": b"Subject: x\r\n Return-Path: folded\r\n",
    b"Subject: " + b"x" * 300 + b"\r\nReturn-Path: " + b"y" * 300: b"Subject: "
    + b"x" * 300
    + b"\r\n",
}


@pytest.mark.parametrize(("message", "rest"), MESSAGES.items())
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_messages(message: bytes, rest: bytes, size: int) -> None:
    assert filtered(message, size) == expected(message) == rest


PIECES = [b"Return-Path:", b"return-path \t:", b"Return", b"Subject:", b"x", b" ", b"\t", b":"]
ENDS = [b"\r\n", b"\n", b"\r"]


@given(st.lists(st.sampled_from([*PIECES, *ENDS, *ENDS])).map(b"".join), st.integers(1, 100))
def test_any_message_in_any_parts(message: bytes, size: int) -> None:
    assert filtered(message, size) == expected(message)
    assert filtered(expected(message), size) == expected(message)


def test_only_the_beginning_of_a_line_is_held() -> None:
    passing = ReturnPathFilter()
    passing.feed(b"Subject: x\r\n")
    assert passing.feed(b"x" * 100) == b"\r\n" + b"x" * 100
    assert passing.feed(b"x" * 100_000) == b"x" * 100_000
    assert passing.feed(b"\r\nReturn-Path: ") == b""
    assert passing.feed(b"y" * 100_000) == b"\r\n"
    assert passing.close() == b""
