"""Player: a transcript, played to a backend in one of three ways, with the same outcome in each."""

import re
from collections.abc import Iterator
from typing import Literal, Protocol

from tests.conformance.transcript import Delivered, Eof, Expect, Handshake, Say, Step, Transcript

__all__ = ["MODES", "Backend", "Mismatch", "Mode", "play"]

Mode = Literal["whole", "octets", "pipelined"]

#: What the client says between two replies is one segment; each octet is a segment; all that it
#: says, up to a TLS handshake, is one segment.
MODES: tuple[Mode, ...] = ("whole", "octets", "pipelined")

# Longer texts have their beginning and end sent octet by octet, and pieces of this size between.
_MANY = 20_000
_PIECE = 509

_REPLY_LINE = re.compile(rb"[2-5][0-9]{2}[ -][\t -~]*\r\n")


class Mismatch(AssertionError):
    """The server does something else than the transcript says."""


class Backend(Protocol):
    """A session with a server, as its client sees it."""

    #: The contents of the messages that were delivered.
    delivered: list[bytes]

    async def send(self, segment: bytes) -> None:
        """Send one segment."""

    async def send_eof(self) -> None:
        """Close the client's side."""

    async def start_tls(self, *, refused: bool) -> None:
        """Do the TLS handshake."""

    async def read_line(self) -> bytes:
        """Give the next line with its CR LF, or ``b""`` when there is none (any more)."""

    async def until_close(self) -> bytes:
        """Give what the server still says until it closes; TimeoutError when it does not."""


async def play(transcript: Transcript, backend: Backend, mode: Mode) -> None:
    """Play a transcript.

    Raises:
        Mismatch: The server does something else.
    """
    messages = 0
    said_eof = False
    for step in _in_order(transcript.steps, mode):
        match step:
            case Say(octets):
                for segment in _segments(octets, mode):
                    await backend.send(segment)
            case Eof():
                await backend.send_eof()
                said_eof = True
            case Handshake(refused):
                await backend.start_tls(refused=refused)
            case Expect():
                await _expect(step, backend)
            case Delivered(content):
                if backend.delivered[messages : messages + 1] != [content]:
                    raise Mismatch(f"not delivered: {content[:200]!r}; {_summary(backend)}")
                messages += 1
    if not (transcript.closes or said_eof):
        # The session goes on: one more command has its reply, and only that.
        await backend.send(b"NOOP\r\n")
        await _expect(Expect("250.*"), backend)
        await backend.send_eof()
    try:
        rest = await backend.until_close()
    except TimeoutError:
        raise Mismatch("the server does not close") from None
    if rest:
        raise Mismatch(f"unexpected: {rest!r}")
    if len(backend.delivered) != transcript.messages:
        raise Mismatch(f"delivered, but not in the transcript; {_summary(backend)}")


def _in_order(steps: tuple[Step, ...], mode: Mode) -> Iterator[Step]:
    if mode != "pipelined":
        yield from steps
        return
    # What comes after a handshake cannot be sent before it.
    cut = next((n for n, step in enumerate(steps) if isinstance(step, Handshake)), len(steps))
    phase, rest = steps[:cut], steps[cut:]
    yield Say(b"".join(step.octets for step in phase if isinstance(step, Say)))
    yield from (step for step in phase if isinstance(step, Eof))
    yield from (step for step in phase if not isinstance(step, Say | Eof))
    if rest:
        yield rest[0]
        yield from _in_order(rest[1:], mode)


def _segments(octets: bytes, mode: Mode) -> Iterator[bytes]:
    if mode != "octets":
        yield octets
        return
    edge = 64 if len(octets) > _MANY else len(octets)
    middle = octets[edge : len(octets) - edge] if len(octets) > _MANY else b""
    yield from _cut(octets[:edge], 1)
    yield from _cut(middle, _PIECE)
    yield from _cut(octets[edge + len(middle) :], 1)


def _cut(octets: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(octets), size):
        yield octets[start : start + size]


async def _expect(expected: Expect, backend: Backend) -> None:
    line = await backend.read_line()
    if not line:
        raise Mismatch(f"no reply where {expected.pattern!r} is expected")
    _check(line)
    if not re.fullmatch(expected.pattern, line.decode().removesuffix("\r\n")):
        raise Mismatch(f"{line!r} where {expected.pattern!r} is expected")
    while expected.whole_reply and line[3:4] == b"-":
        code, line = line[:3], await backend.read_line()
        _check(line)
        if line[:3] != code:
            raise Mismatch(f"{line!r} in a reply of {code!r}")


def _check(line: bytes) -> None:
    if not _REPLY_LINE.fullmatch(line):
        raise Mismatch(f"{line!r} is no line of a reply")


def _summary(backend: Backend) -> str:
    return f"delivered: {[content[:200] for content in backend.delivered]!r}"
