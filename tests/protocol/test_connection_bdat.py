"""Connection, BDAT: octets are counted, never looked at, and consumed even when refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.engine import EngineServer

from smtp_protocol import (
    NEED_DATA,
    PAUSED,
    Bdat,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Noop,
    ProtocolConfig,
    Refused,
    Reply,
    Rset,
    ServerConnection,
    State,
    replies,
)
from smtp_protocol.replies import syntax_error

CHUNKING = frozenset({"CHUNKING", "BINARYMIME"})
TRANSACTION = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<d@e>\r\n"


def in_transaction(*lines: bytes, **settings: Any) -> ServerConnection:
    settings.setdefault("extensions", CHUNKING)
    connection = ServerConnection(ProtocolConfig(**settings))
    assert connection.next_event() == Connected()
    connection.send(Reply(220, ("mx",)))
    connection.receive_data(b"".join(lines or [TRANSACTION]))
    while connection.next_event() is not NEED_DATA:
        connection.send(replies.OK)
    return connection


def test_chunks() -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 8\r\n12345")
    assert connection.next_event() == BodyChunk(b"12345")
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"678bdat 8 last\r\n")
    assert connection.next_event() == BodyChunk(b"678")
    assert connection.next_event() == Bdat(8)
    assert connection.next_event() is PAUSED
    assert connection.send(replies.CHUNK_OK) == b"250 Chunk received\r\n"
    states = [connection.state]
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"12345678NOOP\r\n")
    assert connection.next_event() == BodyChunk(b"12345678")
    assert connection.next_event() == BodyEnd()
    connection.send(replies.OK)
    states.append(connection.state)
    assert states == [State.CHUNKS, State.READY]
    assert connection.next_event() == Noop("")


@pytest.mark.parametrize("before", [b"", b"BDAT 3\r\nabc"])
def test_an_empty_last_chunk(before: bytes) -> None:
    connection = in_transaction()
    connection.receive_data(before)
    while connection.next_event() is not NEED_DATA:
        if connection.reply_owed:
            connection.send(replies.CHUNK_OK)
    connection.receive_data(b"BDAT 0 LAST\r\n")
    assert connection.next_event() == BodyEnd()


def test_an_empty_first_chunk() -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 0\r\n")
    assert connection.next_event() == Bdat(0)
    connection.send(replies.CHUNK_OK)
    assert connection.state is State.CHUNKS


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT",
        b"BDAT LAST",
        b"BDAT 12x LAST",
        b"BDAT -1",
        b"BDAT +1",
        b"BDAT 8 FIRST",
        b"BDAT 8 LAST x",
        b"BDAT 8LAST",
        b"BDAT " + b"9" * 30,
        "BDAT ٣".encode(),
    ],
)
@pytest.mark.parametrize("extensions", [CHUNKING, frozenset[str]()])
def test_a_size_that_is_none_ends_the_session(line: bytes, extensions: frozenset[str]) -> None:
    connection = in_transaction(extensions=extensions)
    connection.receive_data(line + b"\r\nNOOP\r\n")
    event = connection.next_event()
    assert event == Refused(syntax_error("BDAT size [LAST]").reply, closing=True)
    assert connection.send(event.reply) == b"501 Syntax: BDAT size [LAST]\r\n"
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize(
    ("lines", "settings", "reply"),
    [
        ([b"NOOP\r\n"], {}, replies.BAD_SEQUENCE),
        ([b"EHLO c\r\n"], {}, replies.BAD_SEQUENCE),
        ([b"EHLO c\r\n", b"MAIL FROM:<a@b>\r\n"], {}, replies.BAD_SEQUENCE),
        ([TRANSACTION], {"extensions": frozenset()}, replies.NOT_IMPLEMENTED),
        ([b"EHLO c\r\n"], {"starttls": True, "require_starttls": True}, replies.NEEDS_STARTTLS),
        ([b"EHLO c\r\n"], {"auth": True, "auth_required": True}, replies.NEEDS_AUTH),
    ],
)
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_octets_of_a_refused_chunk_are_consumed(
    lines: list[bytes], settings: dict[str, Any], reply: Reply, last: bytes
) -> None:
    connection = in_transaction(*lines, **settings)
    before = connection.state
    connection.receive_data(b"BDAT 10" + last + b"\r\nQUIT\r\nQUI")
    assert connection.next_event() is NEED_DATA
    assert connection.buffered == 0
    connection.receive_data(b"TNOOP\r\n")
    assert connection.next_event() == Refused(reply)
    connection.send(reply)
    assert connection.state is before
    event = connection.next_event()
    assert event == Noop("") or event == Refused(replies.NEEDS_STARTTLS)


def test_too_much_in_all() -> None:
    connection = in_transaction(data_size_limit=10)
    connection.receive_data(b"BDAT 6\r\n123456")
    assert connection.next_event() == BodyChunk(b"123456")
    assert connection.next_event() == Bdat(6)
    connection.send(replies.CHUNK_OK)
    connection.receive_data(b"BDAT 5\r\n12345BDAT 1 LAST\r\nxRSET\r\n")
    assert connection.next_event() == Refused(replies.TOO_MUCH_DATA)
    assert connection.send(replies.TOO_MUCH_DATA).startswith(b"552 ")
    assert connection.state is State.READY
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)
    connection.send(replies.BAD_SEQUENCE)
    assert connection.next_event() == Rset()


def test_exactly_the_limit() -> None:
    connection = in_transaction(data_size_limit=10)
    connection.receive_data(b"BDAT 6\r\n123456BDAT 4 LAST\r\n1234")
    assert connection.next_event() == BodyChunk(b"123456")
    assert connection.next_event() == Bdat(6)
    connection.send(replies.CHUNK_OK)
    assert connection.next_event() == BodyChunk(b"1234")
    assert connection.next_event() == BodyEnd()


def test_too_much_in_the_last() -> None:
    connection = in_transaction(data_size_limit=10)
    connection.receive_data(b"BDAT 11 LAST\r\n12345678901")
    assert connection.next_event() == Refused(replies.TOO_MUCH_DATA)
    connection.send(replies.TOO_MUCH_DATA)
    assert connection.state is State.READY


@pytest.mark.parametrize(
    "line", [b"MAIL FROM:<a@b>", b"RCPT TO:<x@y>", b"DATA", b"STARTTLS", b"AUTH PLAIN"]
)
def test_what_cannot_come_between(line: bytes) -> None:
    connection = in_transaction(starttls=True, auth=True)
    connection.receive_data(b"BDAT 1\r\nx" + line + b"\r\n")
    assert connection.next_event() == BodyChunk(b"x")
    assert connection.next_event() == Bdat(1)
    connection.send(replies.CHUNK_OK)
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)
    connection.send(replies.BAD_SEQUENCE)
    assert connection.state is State.CHUNKS


@pytest.mark.parametrize(("line", "event"), [(b"RSET", Rset()), (b"NOOP", Noop(""))])
def test_what_can(line: bytes, event: object) -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 1\r\nx" + line + b"\r\n")
    connection.next_event()
    connection.next_event()
    connection.send(replies.CHUNK_OK)
    assert connection.next_event() == event
    connection.send(replies.OK)
    assert connection.state is (State.READY if line == b"RSET" else State.CHUNKS)


def test_after_a_refused_chunk_there_is_no_transaction() -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 1\r\nxBDAT 1 LAST\r\ny")
    connection.next_event()
    assert connection.next_event() == Bdat(1)
    connection.send(Reply(452, ("no room",)))
    assert connection.state is State.READY
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)


def test_a_chunk_cut_short() -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 9 LAST\r\n12345678")
    connection.receive_eof()
    assert connection.next_event() == BodyChunk(b"12345678")
    assert connection.next_event() == ConnectionClosed()


def test_data_cannot_carry_binarymime() -> None:
    connection = in_transaction(
        b"EHLO c\r\n", b"MAIL FROM:<a@b> BODY=BINARYMIME\r\n", b"RCPT TO:<d@e>\r\n"
    )
    connection.receive_data(b"DATA\r\nBDAT 1 LAST\r\n\0")
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)
    connection.send(replies.BAD_SEQUENCE)
    assert connection.next_event() == BodyChunk(b"\0")


@pytest.mark.parametrize("policy", ["normalize", "reject", "keep"])
@pytest.mark.parametrize("text", [b"\r\n.\r\n", b"\0", b"\r", b"\n", b"..\n.\n", b"x" * 3000])
def test_nothing_is_changed(policy: str, text: bytes) -> None:
    server = EngineServer(
        ProtocolConfig(extensions=CHUNKING, bare_newline=policy, line_length_limit=9)  # type: ignore[arg-type]
    )
    server.receive(TRANSACTION + b"BDAT %d LAST\r\n" % len(text) + text)
    assert server.delivered == [text]


def test_a_size_of_twenty_digits_takes_no_memory() -> None:
    connection = in_transaction(data_size_limit=1000)
    connection.receive_data(b"BDAT " + b"9" * 20 + b" LAST\r\n")
    for _ in range(200):
        connection.receive_data(b"x" * 10_000)
        assert connection.next_event() is NEED_DATA
        assert connection.buffered == 0


def test_421_in_mid_chunk() -> None:
    connection = in_transaction()
    connection.receive_data(b"BDAT 9 LAST\r\nx")
    connection.next_event()
    assert connection.send(replies.CLOSING_IDLE).startswith(b"421 ")
    assert connection.next_event() == ConnectionClosed()


@given(st.lists(st.binary(max_size=30)), st.binary(max_size=30), st.integers(1, 50))
def test_chunks_are_joined(chunks: list[bytes], last: bytes, size: int) -> None:
    text = TRANSACTION + b"".join(b"BDAT %d\r\n" % len(chunk) + chunk for chunk in chunks)
    text += b"BDAT %d LAST\r\n" % len(last) + last
    server = EngineServer(ProtocolConfig(extensions=CHUNKING))
    for start in range(0, len(text), size):
        server.receive(text[start : start + size])
    assert server.delivered == [b"".join(chunks) + last]
    assert server.connection.answered == 1 + 3 + len(chunks) + 1
