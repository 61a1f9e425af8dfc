"""The player itself: it finds whatever differs from the transcript, in each of the ways to play."""

import pytest
from tests.conformance.engine import EngineBackend
from tests.conformance.player import MODES, Mismatch, Mode, play
from tests.conformance.transcript import Close, Delivered, Eof, Expect, Handshake, Say, parse


@pytest.mark.parametrize(
    "text",
    [
        "=start greeting",
        "=start EHLO\nC: NOOP\nS: 250 2.0.0 OK",
        "=start EHLO\nC: NOOP\nS~ 250 .* OK",
        "=start greeting\nC: EHLO c\nS*: 250",
        "=start greeting\nC: EHLO c\nS*: 250 mx.example",
        "=start TD\nC!: a\\r\\n.\\r\\n\nS*: 250\nB: a\\r\\n",
        "=start TD\nC*: 3 ab\nC!: \\r\\n.\\r\\n\nS*: 250 2.0.0\nB*: 3 ab\nB: \\r\\n",
        '=start TD\nC!: "\\r\\n.\\r\\n\nS*: 250\nB: "\\r\\n',
        "=start greeting\nC: QUIT\nS*: 221\n=close",
        "=start TD\nC: abc\n=eof\n=close",
        "@config extensions=\n=start greeting\nC: NOOP\nS: 250 OK",
        "@no-pipeline no reason\n# a comment\n\n=start greeting",
    ],
)
@pytest.mark.parametrize("mode", MODES)
async def test_right(text: str, mode: Mode) -> None:
    transcript = parse("right", text)
    await play(transcript, EngineBackend(transcript), mode)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S: 220 other", "220 mx.example ESMTP"),
        ("=start greeting\nC: NOOP\nS: 250 OK", "'250 2.0.0 OK"),
        ("=start greeting\nC: NOOP\nS: 250 2x0.0 OK", "'250 2.0.0 OK"),
        ("=start greeting\nC: NOOP\nS*: 250 2.0", "'250 2.0.0 OK"),
        ("=start greeting\nC: NOOP\nS*: 251", "'250 2.0.0 OK"),
        ("=start greeting\nC: NOOP\nS~ 250", "'250 2.0.0 OK"),
        ("=start greeting\nC: EHLO c\nS~ 250.*", "unexpected: b'250-8BITMIME"),
        ("=start greeting\nC: NOOP", "250 2.0.0 OK"),
        ("=start greeting\nS*: 250", "no reply where"),
        ("=start greeting\nC: NOO\nS*: 500\nC: NOOP\nS*: 250\nS*: 250", "no reply where"),
        ("=start greeting\n=close", "does not close"),
        ("=start greeting\nC: QUIT\nS*: 221", "no reply where"),
        ("=start TD\nC!: a\\r\\n.\\r\\n\nS*: 250", r"not in the transcript; .*a\\r\\n"),
        ("=start TD\nC!: a\\r\\n.\\r\\n\nS*: 250\nB: b\\r\\n", "not delivered: b'b"),
        ("=start TD\nC: abc\n=eof\nB: abc\\r\\n", "not delivered: b'abc"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
async def test_wrong(text: str, message: str, mode: Mode) -> None:
    transcript = parse("wrong", text)
    with pytest.raises(Mismatch, match=message.replace("(", r"\(")):
        await play(transcript, EngineBackend(transcript), mode)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"2500 OK\r\n", "no line of a reply"),
        (b"250 a\rb\r\n", "no line of a reply"),
        (b"250 \xff\r\n", "no line of a reply"),
        (b"250 OK\n", "no line of a reply"),
        (b"250-one\r\n251 two\r\n", "in a reply of"),
        (b"250-one\r\n", "is no line of a reply"),
    ],
)
async def test_malformed_replies(line: bytes, message: str) -> None:
    backend = Speaker(line)
    with pytest.raises(Mismatch, match=message):
        await play(parse("malformed", "S*: 250\n=close"), backend, "whole")


class Speaker:
    """A backend that says what it is told to."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.splitlines(keepends=True)
        self.segments: list[bytes] = []
        self.delivered: list[bytes] = []

    async def send(self, segment: bytes) -> None:
        self.segments.append(segment)

    async def send_eof(self) -> None:
        self.segments.append(b"")

    async def start_tls(self, *, refused: bool) -> None:
        self.segments.append(b"refused" if refused else b"TLS")

    async def read_line(self) -> bytes:
        return self._lines.pop(0) if self._lines else b""

    async def until_close(self) -> bytes:
        return b"".join(self._lines)


@pytest.mark.parametrize(
    ("mode", "segments"),
    [
        ("whole", [b"ab\r\nc", b"d\r\n", b""]),
        ("octets", [b"a", b"b", b"\r", b"\n", b"c", b"d", b"\r", b"\n", b""]),
        ("pipelined", [b"ab\r\ncd\r\n", b""]),
    ],
)
async def test_segments(mode: Mode, segments: list[bytes]) -> None:
    backend = Speaker(b"250 one\r\n250 two\r\n")
    transcript = parse("segments", "C: ab\nC!: c\nS*: 250\nC: d\n=eof\nS*: 250\n=close")
    await play(transcript, backend, mode)
    assert backend.segments == segments


@pytest.mark.parametrize(
    ("mode", "segments"),
    [
        ("whole", [b"a", b"b", b"TLS", b"c", b"refused", b"d", b""]),
        ("pipelined", [b"ab", b"TLS", b"c", b"refused", b"d", b""]),
    ],
)
async def test_segments_around_a_handshake(mode: Mode, segments: list[bytes]) -> None:
    backend = Speaker(b"250 one\r\n250 two\r\n")
    text = "C!: a\nS*: 250\nC!: b\n=tls\nC!: c\n=tls refused\nC!: d\nS*: 250\n=eof\n=close"
    await play(parse("segments", text), backend, mode)
    assert backend.segments == segments


async def test_segments_of_long_texts() -> None:
    backend = Speaker(b"")
    await play(parse("long", "C*: 30000 x\n=eof"), backend, "octets")
    assert {len(segment) for segment in backend.segments[:64] + backend.segments[-65:-1]} == {1}
    assert 300 > len(backend.segments) > 128
    assert b"".join(backend.segments) == b"x" * 30_000


def test_reading() -> None:
    text = (
        "# x\n@config data_size_limit=none\nC: ü\nC!: \\x00\nS~ 2.*\nB*: 2 ab\nB: c\n=tls\n"
        "=tls refused\n=eof\n=close"
    )
    transcript = parse("name", text)
    assert transcript.steps == (
        Say("ü\r\n\0".encode()),
        Expect("2.*"),
        Delivered(b"ababc"),
        Handshake(),
        Handshake(refused=True),
        Eof(),
        Close(),
    )
    assert transcript.settings["data_size_limit"] is None
    assert not transcript.needs_server
    assert transcript.not_played == {}
    reasons = "@no-octets one reason\n@no-pipeline another"
    assert parse("name", reasons).not_played == {"octets": "one reason", "pipelined": "another"}
    assert parse("name", "@config decode_data=true").needs_server
    assert not transcript.needs_tls
    assert parse("name", "@config starttls=true").needs_tls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X: y", "'X: y' is no line"),
        ("@config nothing=1", "no setting 'nothing'"),
        ("=eof\nC: NOOP", "after =eof"),
        ("=close\nS: 250 OK", "=close is the end"),
    ],
)
def test_mistakes_in_a_file(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse("name", text)
