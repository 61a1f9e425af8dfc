"""Body: the end of data at exactly CR LF . CR LF, dots unstuffed, and the limits."""

import itertools
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import BareNewline, ProtocolConfig, Reply, replies
from smtp_protocol.body import BodyPolicy, DataReceiver

POLICIES: list[BareNewline] = ["normalize", "reject", "keep"]
PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"..", b"a", b"xyz", b"\0\xff"])
).map(b"".join)


def receive(segments: list[bytes], config: ProtocolConfig) -> tuple[bytes, Reply | None, bytes]:
    """The content, the refusal, and what follows the end of data, which must be there."""
    receiver, policy = DataReceiver(), BodyPolicy(config)
    content = rest = b""
    for segment in segments:
        position = 0
        if not receiver.done:
            payload, position = receiver.receive(segment, 0)
            content += policy.admit(payload)
        rest += segment[position:]
    assert receiver.done
    return content, policy.refusal, rest


def octets(text: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in text]


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> list[bytes]:
    """A text in segments, some of them empty perhaps."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def reference(text: bytes) -> tuple[bytes, bytes]:
    """The content and what follows it, line by line as RFC 5321 §4.5.2 tells it."""
    content = b""
    while True:
        line, end, text = text.partition(b"\r\n")
        assert end, "there is an end of data"
        if line == b".":
            return content, text
        content += line.removeprefix(b".") + b"\r\n"


def normalized(content: bytes) -> bytes:
    """The content with CR LF for every newline, octet by octet."""
    result = b""
    previous = b""
    for octet in octets(content):
        if octet == b"\r" or (octet == b"\n" and previous != b"\r"):
            result += b"\r\n"
        elif octet != b"\n":
            result += octet
        previous = octet
    return result


@given(cut(PIECES.map(lambda text: text + b"\r\n.\r\n")))
def test_equals_the_reference(segments: list[bytes]) -> None:
    kept, rest = reference(b"".join(segments))
    clean = normalized(kept)
    refused = (b"", replies.BARE_NEWLINE, rest)
    expected = {
        "keep": (kept, None, rest),
        "normalize": (clean, None, rest),
        "reject": (kept, None, rest) if kept == clean else refused,
    }
    for bare_newline in POLICIES:
        content, refusal, behind = receive(segments, ProtocolConfig(bare_newline=bare_newline))
        if refusal is not None:
            content = b""  # how much came before it was seen depends on the segments
        assert (content, refusal, behind) == expected[bare_newline]


@pytest.mark.parametrize("length", range(6))
def test_every_beginning_with_every_cut(length: int) -> None:
    for beginning in map(bytes, itertools.product(b".\r\na", repeat=length)):
        text = beginning + b"\r\n.\r\n"
        kept, rest = reference(text)
        for place in range(1, len(text)):
            segments = [text[:place], text[place:]]
            assert receive(segments, ProtocolConfig(bare_newline="keep")) == (kept, None, rest)


@given(cut(PIECES.map(lambda text: text + b"\r\n.\r\n")), st.integers(1, 12), st.integers(2, 12))
def test_limits_equal_the_reference(segments: list[bytes], size: int, line: int) -> None:
    kept, rest = reference(b"".join(segments))
    for bare_newline in POLICIES:
        config = ProtocolConfig(
            bare_newline=bare_newline, data_size_limit=size, line_length_limit=line
        )
        content = normalized(kept) if bare_newline == "normalize" else kept
        expected: Reply | None = None
        if len(content) > size:
            expected = replies.TOO_MUCH_DATA
        elif bare_newline == "reject" and normalized(kept) != kept:
            expected = replies.BARE_NEWLINE
        elif any(len(each) + 1 > line for each in content.split(b"\n")[:-1]):
            expected = replies.BODY_LINE_TOO_LONG
        received, refusal, behind = receive(segments, config)
        assert (refusal, behind) == (expected, rest)
        if refusal is None:
            assert received == content
        assert len(received) <= size


@given(st.lists(PIECES))
def test_no_pair_is_cut_in_two(segments: list[bytes]) -> None:
    receiver = DataReceiver()
    payloads = []
    for segment in [*segments, b"\r\n.\r\n"]:
        if not receiver.done:
            payloads.append(receiver.receive(segment, 0)[0])
    payloads = [payload for payload in payloads if payload]
    for before, after in pairwise(payloads):
        assert not (before.endswith(b"\r") and after.startswith(b"\n"))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..a\r\n.b\r\n...\r\n.\r\n", b".a\r\nb\r\n..\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\n.\r\n.\r\n", b"a\n.\r\n"),
        (b"a\n.\n.\r\n.\r\n", b"a\n.\n.\r\n"),
        (b"a\r\n.\n.\r\n.\r\n", b"a\r\n\n.\r\n"),
        (b"a\r.\r\n.\r\n", b"a\r.\r\n"),
        (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
        (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n"),
        (b"\n.\r\n.\r\n", b"\n.\r\n"),
        (b"\0\xff\r\n.\r\n", b"\0\xff\r\n"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"NOOP\r\n", b".\r\n"])
def test_end_of_data(text: bytes, content: bytes, rest: bytes) -> None:
    config = ProtocolConfig(bare_newline="keep")
    assert receive([text + rest], config) == (content, None, rest)
    assert receive(octets(text + rest), config) == (content, None, rest)


def test_it_starts_where_it_is_told() -> None:
    receiver = DataReceiver()
    data = b"DATA\r\na\r\n.\r\nQUIT\r\n"
    assert receiver.receive(data, 6) == (b"a\r\n", 12)


@pytest.mark.parametrize(
    ("bare_newline", "content", "refusal"),
    [
        ("normalize", b"a\r\nb\r\n\r\nc\r\n", None),
        ("reject", b"", replies.BARE_NEWLINE),
        ("keep", b"a\nb\r\rc\r\n", None),
    ],
)
def test_bare_newlines(bare_newline: BareNewline, content: bytes, refusal: Reply | None) -> None:
    config = ProtocolConfig(bare_newline=bare_newline)
    assert receive([b"a\nb\r\rc\r\n.\r\n"], config) == (content, refusal, b"")


@pytest.mark.parametrize(
    ("octets_sent", "limit", "refusal"),
    [
        (b"12345678\r\n.\r\n", 10, None),
        (b"12345678\r\n.\r\n", 9, replies.TOO_MUCH_DATA),
        (b"..234567\r\n.\r\n", 9, None),
        (b"..234567\r\n.\r\n", 8, replies.TOO_MUCH_DATA),
        (b".\r\n", 1, None),
        (b"1\r\n.\r\n", 0, None),
        (b"1\r\n.\r\n", None, None),
        # The octets that the handler gets are counted, not those that came.
        (b"1\n2\n\r\n.\r\n", 8, None),
        (b"1\n2\n\r\n.\r\n", 7, replies.TOO_MUCH_DATA),
    ],
)
def test_size_limit(octets_sent: bytes, limit: int | None, refusal: Reply | None) -> None:
    config = ProtocolConfig(data_size_limit=limit)
    assert receive([octets_sent], config)[1] is refusal
    assert receive(octets(octets_sent), config)[1] is refusal


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (b"12345678\r\n12345678\r\n.\r\n", None),
        (b"123456789\r\n.\r\n", replies.BODY_LINE_TOO_LONG),
        (b"1\r\n123456789\r\n.\r\n", replies.BODY_LINE_TOO_LONG),
        (b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n.\r\n", None),
        (b".12345678\r\n.\r\n", None),
        (b"1234567890" * 5 + b"\r\n.\r\n", replies.BODY_LINE_TOO_LONG),
        (b"1234\n56789\r\n.\r\n", None),
    ],
)
def test_line_length_limit(text: bytes, refusal: Reply | None) -> None:
    config = ProtocolConfig(line_length_limit=10)
    assert receive([text], config)[1] is refusal
    assert receive(octets(text), config)[1] is refusal


def test_once_refused_nothing_is_let_through() -> None:
    policy = BodyPolicy(ProtocolConfig(data_size_limit=3))
    assert [policy.admit(payload) for payload in (b"ab", b"cd", b"", b"e")] == [
        b"ab",
        b"",
        b"",
        b"",
    ]
    assert policy.refusal is replies.TOO_MUCH_DATA


@pytest.mark.parametrize("line", [b".\n", b"\r\n.\r", b"\r", b"..\r\n", b"x\r\n"])
@pytest.mark.parametrize("size", [7, 65536])
def test_time_is_linear(line: bytes, size: int) -> None:
    text = line * (4_000_000 // len(line) if size > 7 else 100_000) + b"\r\n.\r\n"
    segments = [text[start : start + size] for start in range(0, len(text), size)]
    receiver, policy = DataReceiver(), BodyPolicy(ProtocolConfig(line_length_limit=998))
    start = time.process_time()
    for segment in segments:
        policy.admit(receiver.receive(segment, 0)[0])
    assert receiver.done
    assert time.process_time() - start < 5  # a quadratic one would take many minutes
