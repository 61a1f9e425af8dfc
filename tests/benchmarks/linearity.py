"""Linearity: what doubling the input does to the CPU time of the engine, as ratios.

    hatch run linearity [-s SCALE]

About 2 is linear, about 4 would be quadratic. Nothing is asserted: a ratio of small times is
noisy. Each time is the least of several.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from smtp_protocol import (
    MECHANISMS,
    NEED_DATA,
    AddressSyntax,
    Bdat,
    BodyChunk,
    Data,
    ProtocolError,
    ProxyHeaderReader,
    Refused,
    Reply,
    ReplyReader,
    ServerConnection,
    parse_forward_path,
    replies,
)
from smtp_protocol.config import ProtocolConfig

__all__ = ["CASES", "Case", "main", "ratios"]

_CONFIG = ProtocolConfig(extensions=frozenset({"CHUNKING"}), data_size_limit=None)
_TRANSACTION = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<d@e.example>\r\n"
_TOKEN = b"n,,\x01auth=Bearer %b\xff\x01\x01"
_FIRST = b"n,,n=a,r=b"
_REPEATS = 3
_DOUBLINGS = 3


def _cut(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _talk(segments: Iterable[bytes]) -> None:
    """Give the engine the segments, and answer everything well."""
    connection = ServerConnection(_CONFIG)
    connection.next_event()
    connection.send(Reply(220, ("mx",)))
    for segment in segments:
        connection.receive_data(segment)
        while (event := connection.next_event()) is not NEED_DATA:
            match event:
                case BodyChunk():
                    pass
                case Data():
                    connection.send(replies.START_MAIL_INPUT)
                case Bdat():
                    connection.send(replies.CHUNK_OK)
                case Refused(reply):
                    connection.send(reply)
                case _:
                    connection.send(replies.OK)


def _session(text: bytes) -> bytes:
    return b"EHLO c\r\n" + _TRANSACTION + text


def _body(content: bytes, size: int = 65536) -> Callable[[], None]:
    text = _session(b"DATA\r\n" + content + b"\r\n.\r\n")
    segments = list(_cut(text, size))
    return lambda: _talk(segments)


def _commands(text: bytes, size: int | None = None) -> Callable[[], None]:
    segments = list(_cut(_session(text), size or len(text) + 1000))
    return lambda: _talk(segments)


def _replies(text: bytes, size: int) -> Callable[[], None]:
    segments = list(_cut(text, size))

    def read() -> None:
        reader = ReplyReader()
        for segment in segments:
            reader.receive_data(segment)
            while reader.next_reply() is not None:
                pass

    return read


def _header(size: int) -> Callable[[], None]:
    # At most 65,535 octets may follow the first 16.
    payload = bytes(12) + b"\x04" + (size - 15).to_bytes(2) + bytes(size - 15)
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + size.to_bytes(2) + payload
    segments = list(_cut(header, 1))

    def read() -> None:
        reader = ProxyHeaderReader()
        assert [data for data in map(reader.receive_data, segments) if data]

    return read


def _path(text: str) -> Callable[[], None]:
    syntaxes: tuple[AddressSyntax, ...] = ("lenient", "strict", "local")

    def read() -> None:
        for syntax in syntaxes:
            with suppress(ValueError):
                parse_forward_path(text, syntax)

    return read


def _response(mechanism: str, response: bytes) -> Callable[[], None]:
    def respond() -> None:
        with suppress(ProtocolError):
            MECHANISMS[mechanism]().start(response)

    return respond


@dataclass(frozen=True)
class Case:
    """One kind of input.

    Args:
        name: What it is.
        make: Makes the input of a size, and gives the work.
        size: The smallest size.
    """

    name: str
    make: Callable[[int], Callable[[], None]]
    size: int


CASES = (
    Case("body in large segments", lambda n: _body(b"x" * 78 * n, 65536), 100_000),
    Case("body of short lines", lambda n: _body(b"text\r\n" * n), 500_000),
    Case("body in one segment", lambda n: _body(b"text\r\n" * n, 1 << 40), 500_000),
    Case("body, one octet a segment", lambda n: _body(b"text\r\n" * n, 1), 10_000),
    Case("one long line", lambda n: _body(b"x" * n), 8_000_000),
    Case("one long line, one octet a segment", lambda n: _body(b"x" * n, 1), 60_000),
    Case("dot lines", lambda n: _body(b"\r\n.." * n), 300_000),
    Case("dot lines, one octet a segment", lambda n: _body(b"\r\n.." * n, 1), 15_000),
    Case("nearly the end: CR LF . CR", lambda n: _body(b"\r\n.\r" * n), 100_000),
    Case("nearly the end: LF . LF", lambda n: _body(b"\n.\n" * n), 100_000),
    Case("nearly the end, one octet a segment", lambda n: _body(b"\r\n.\r" * n, 1), 15_000),
    Case("nearly the end, five octets a segment", lambda n: _body(b"\r\n.\r" * n, 5), 30_000),
    Case("bare LF", lambda n: _body(b"\n" * n), 300_000),
    Case("bare CR", lambda n: _body(b"\r" * n), 300_000),
    Case("NOOP flood, a segment each", lambda n: _commands(b"NOOP\r\n" * n, 6), 5_000),
    Case("NOOP flood, one octet a segment", lambda n: _commands(b"NOOP\r\n" * n, 1), 3_000),
    Case("NOOP flood in one segment", lambda n: _commands(b"NOOP\r\n" * n), 5_000),
    Case("empty lines in one segment", lambda n: _commands(b"\r\n" * n), 5_000),
    Case(
        "pipelined transactions in one segment",
        lambda n: _commands(b"RSET\r\n" + (_TRANSACTION + b"DATA\r\ntext\r\n.\r\n") * n),
        1_000,
    ),
    Case("recipients", lambda n: _commands(b"RCPT TO:<d@e.example>\r\n" * n), 3_000),
    Case("chunks of one octet", lambda n: _commands(b"BDAT 1\r\nx" * n), 3_000),
    Case("one large chunk", lambda n: _commands(b"BDAT %d\r\n" % n + b"x" * n, 4096), 20_000_000),
    Case(
        "one chunk, one octet a segment",
        lambda n: _commands(b"BDAT %d\r\n" % n + b"x" * n, 1),
        60_000,
    ),
    Case("lines over the limit", lambda n: _commands((b"x" * 4999 + b"\n") * n, 1000), 500),
    Case("PROXY header, one octet a segment", lambda n: _header(max(n, 20)), 8_000),
    Case("replies, one octet a segment", lambda n: _replies(b"250-a\r\n250 b\r\n" * n, 1), 3_000),
    Case("path of dots", lambda n: _path("<a" + "." * n), 100_000),
    Case("path of atoms", lambda n: _path("<" + "a." * n), 100_000),
    Case("path of words", lambda n: _path("<" + 'a."b".' * n), 50_000),
    Case("path of quoted pairs", lambda n: _path('<"' + '\\"' * n), 100_000),
    Case("path of spaces", lambda n: _path(" " * n + "x"), 100_000),
    Case("path of hyphens", lambda n: _path("<a@" + "b-" * n + "!"), 100_000),
    Case("path of labels", lambda n: _path("<a@" + "b." * n + "!"), 100_000),
    Case("path of hops", lambda n: _path("<" + "@a," * n), 100_000),
    Case("token of spaces", lambda n: _response("OAUTHBEARER", _TOKEN % (b" " * n)), 100_000),
    Case("SCRAM extensions", lambda n: _response("SCRAM-SHA-1", _FIRST + b",p=x" * n), 100_000),
    Case("replies in one segment", lambda n: _replies(b"250-a\r\n250 b\r\n" * n, 1 << 40), 5_000),
)


def ratios(case: Case, scale: float = 1.0) -> tuple[float, list[float]]:
    """The time of the smallest size in seconds, and by how much each doubling multiplies it."""
    size = max(1, int(case.size * scale))
    times = []
    for doubling in range(_DOUBLINGS + 1):
        work = case.make(size << doubling)
        times.append(min(_cpu_time(work) for _ in range(_REPEATS)))
    return times[0], [later / earlier if earlier else 0.0 for earlier, later in pairwise(times)]


def _cpu_time(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main(arguments: list[str]) -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(prog="linearity", description="CPU time, doubling the input.")
    parser.add_argument("-s", "--scale", type=float, default=1.0, help="of all sizes")
    scale = parser.parse_args(arguments).scale
    print(f"{'':40}{'seconds':>8}  ratios of time when the size is doubled")
    for case in CASES:
        seconds, doubled = ratios(case, scale)
        print(
            f"{case.name:40}{seconds:8.3f}  {'  '.join(f'{x:5.2f}' for x in doubled)}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
