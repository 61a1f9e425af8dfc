"""Lines: cut at their ends, bounded in length, the same however the segments are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import BareNewline, ProtocolError, Reply, replies
from smtp_protocol.buffer import ReceiveBuffer
from smtp_protocol.lines import LineReader

MIB = 1024 * 1024


def read_lines(
    segments: list[bytes], bare_newline: BareNewline = "normalize", limit: int = 10
) -> list[bytes | Reply]:
    """Lines and refusals, up to the first 421, as a connection would see them."""
    reader, buffer = LineReader(bare_newline), ReceiveBuffer()
    found: list[bytes | Reply] = []
    for segment in segments:
        buffer.feed(segment)
        while buffer.position < len(buffer.data):
            try:
                line = reader.read(buffer, limit)
            except ProtocolError as error:
                found.append(error.reply)
                if error.reply.code == 421:
                    return found
            else:
                if line is not None:
                    found.append(line)
    return found


def octets(text: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in text]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"NOOP", []),
        (b"NOOP\r", []),
        (b"NOOP\r\n", [b"NOOP"]),
        (b"a\r\nb\r\nc", [b"a", b"b"]),
        (b"\r\n\r\n", [b"", b""]),
        (b"a\nb\r\n", [b"a", b"b"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"a\rb\r\n", [b"a\rb"]),
        (b"12345678\r\n", [b"12345678"]),
        (b"123456789\n", [b"123456789"]),
        (b"123456789\r\nNOOP\r\n", [replies.COMMAND_TOO_LONG, b"NOOP"]),
        (b"1234567890\nNOOP\r\n", [replies.COMMAND_TOO_LONG, b"NOOP"]),
        (b"x" * 1000 + b"\r\nNOOP\r\n", [replies.COMMAND_TOO_LONG, b"NOOP"]),
        (b"x" * 1000, []),
        (b"NOOP\r\n\x16\x03\x01\r\nNOOP\r\n", [b"NOOP", replies.CLOSING_NOT_SMTP]),
        (b"\x16", [replies.CLOSING_NOT_SMTP]),
        (b"N\x16\r\n", [b"N\x16"]),
        (b"x" * 20 + b"\x16\r\n", [replies.COMMAND_TOO_LONG]),
    ],
)
def test_lines(text: bytes, lines: list[bytes | Reply]) -> None:
    assert read_lines([text]) == lines
    assert read_lines(octets(text)) == lines


def test_bare_newline_is_refused() -> None:
    text = b"a\nb\r\n\n"
    lines = [replies.BARE_NEWLINE_COMMAND, b"b", replies.BARE_NEWLINE_COMMAND]
    assert read_lines([text], "reject") == lines
    assert read_lines(octets(text), "reject") == lines


@pytest.mark.parametrize("size", [MIB + 1, MIB + 2, 3 * MIB])
def test_endless_line(size: int) -> None:
    text = b"x" * size
    assert read_lines([text]) == [replies.CLOSING_LINE]
    assert read_lines([text, b"\nNOOP\r\n"]) == [replies.CLOSING_LINE]
    assert read_lines([text + b"\nNOOP\r\n"]) == [replies.CLOSING_LINE]
    assert read_lines([text[:100], text[100:] + b"\nNOOP\r\n"]) == [replies.CLOSING_LINE]


def test_longest_line_that_is_skipped() -> None:
    text = b"x" * MIB
    assert read_lines([text]) == []
    answered = [replies.COMMAND_TOO_LONG, b"NOOP"]
    assert read_lines([text, b"\nNOOP\r\n"]) == answered
    assert read_lines([text + b"\nNOOP\r\n"]) == answered
    assert read_lines([text[:5], text[5:] + b"\nNOOP\r\n"]) == answered
    # What is skipped of one line does not count for the next one.
    assert read_lines([text + b"\n" + text + b"\nNOOP\r\n"]) == [answered[0], *answered]


def test_a_long_line_is_not_kept() -> None:
    reader, buffer = LineReader("normalize"), ReceiveBuffer()
    for _ in range(100):
        buffer.feed(b"x" * 1000)
        assert reader.read(buffer, 4096) is None
        assert len(buffer) == 0
    assert sum(len(getattr(reader, name)) for name in ("_partial",)) <= 4096


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"12345", b"\x16"])).map(b"".join),
    st.data(),
    st.sampled_from(["normalize", "reject", "keep"]),
)
def test_segments_change_nothing(text: bytes, data: st.DataObject, policy: BareNewline) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = zip([0, *cuts], [*cuts, len(text)], strict=True)
    segments = [text[start:end] for start, end in edges]
    assert read_lines(segments, policy) == read_lines([text], policy)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"])).map(b"".join))
def test_short_lines_are_those_between_newlines(text: bytes) -> None:
    expected = [line.removesuffix(b"\r") for line in text.split(b"\n")[:-1]]
    assert read_lines([text], limit=1000) == expected


@pytest.mark.parametrize("policy", ["normalize", "reject"])
@pytest.mark.parametrize("line", [b"BDAT 5 LAST", b"bdat", b"BDATX", b"BDA", b"NOOP", b"XBDAT 5"])
@pytest.mark.parametrize("padding", [0, 5000])
def test_after_a_chunk_of_unknown_size_nothing_can_be_read(
    line: bytes, padding: int, policy: BareNewline
) -> None:
    text = line + b" " * padding + b"\n"
    wrong = padding > 0 or policy == "reject"
    closing = wrong and line[:4].upper() == b"BDAT"
    for segments in ([text], octets(text), [text[:3], text[3:]], [text[:5], text[5:]]):
        reader, buffer = LineReader(policy), ReceiveBuffer()
        outcome = None
        for segment in segments:
            buffer.feed(segment)
            try:
                assert reader.read(buffer, 4096) in (None, line)
            except ProtocolError as error:
                outcome = error
        assert (outcome is not None) is wrong
        assert (outcome is not None and outcome.closing) is closing
