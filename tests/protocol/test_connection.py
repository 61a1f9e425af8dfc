"""Connection: one reply for each event, in order, whatever octets come and however cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.engine import EngineServer

from smtp_protocol import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    Noop,
    ProtocolConfig,
    Quit,
    Refused,
    Reply,
    ServerConnection,
    State,
    Unknown,
    replies,
)

ENHANCED = ProtocolConfig(extensions=frozenset({"ENHANCEDSTATUSCODES"}))
TRANSACTION = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<d@e>\r\n"


def greeted(config: ProtocolConfig = ENHANCED) -> ServerConnection:
    connection = ServerConnection(config)
    assert connection.next_event() == Connected()
    connection.send(Reply(220, ("mx",)))
    return connection


def in_transaction(config: ProtocolConfig = ENHANCED) -> ServerConnection:
    connection = greeted(config)
    connection.receive_data(TRANSACTION)
    for _ in range(3):
        connection.next_event()
        connection.send(replies.OK)
    return connection


def in_data(config: ProtocolConfig = ENHANCED) -> ServerConnection:
    connection = in_transaction(config)
    connection.receive_data(b"DATA\r\n")
    assert connection.next_event() == Data()
    assert connection.send(replies.START_MAIL_INPUT).startswith(b"354 ")
    return connection


def test_the_greeting_comes_first() -> None:
    connection = ServerConnection()
    connection.receive_data(b"NOOP\r\n")
    assert connection.state is State.CONNECTED
    owed = [connection.reply_owed]
    assert connection.next_event() == Connected()
    owed.append(connection.reply_owed)
    assert connection.next_event() is PAUSED
    assert connection.send(Reply(220, ("mx",))) == b"220 mx\r\n"
    owed.append(connection.reply_owed)
    assert owed == [False, True, False]
    assert connection.next_event() == Noop("")


def test_a_refused_greeting_ends_it() -> None:
    connection = ServerConnection()
    connection.next_event()
    connection.send(Reply(554, ("no",)))
    assert connection.state is State.CLOSED
    assert connection.next_event() == ConnectionClosed()


def test_pipelined_commands_wait_for_their_turn() -> None:
    connection = greeted()
    connection.receive_data(b"EHLO c\r\nNOOP x\r\nQUIT\r\n")
    assert connection.buffered == 22
    assert connection.next_event() == Ehlo("c")
    assert connection.next_event() is PAUSED
    connection.receive_data(b"after QUIT")
    assert connection.next_event() is PAUSED
    connection.send(replies.OK)
    assert connection.extended
    assert connection.next_event() == Noop("x")
    connection.send(replies.OK)
    assert connection.next_event() == Quit()
    connection.send(replies.BYE)
    assert connection.next_event() == ConnectionClosed()


def test_nothing_to_send() -> None:
    connection = greeted()
    assert connection.next_event() is NEED_DATA
    with pytest.raises(RuntimeError, match=r"no reply is owed, so 250 2\.0\.0 OK cannot be sent"):
        connection.send(replies.OK)


def test_421_may_come_unasked() -> None:
    connection = in_data()
    connection.receive_data(b"abc\r\n")
    assert connection.send(replies.CLOSING_IDLE).startswith(b"421 4.4.2 ")
    connection.receive_data(b".\r\n" * 1000)
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize(
    ("config", "reply", "wire"),
    [
        (ENHANCED, replies.OK, b"250 2.0.0 OK\r\n"),
        (ProtocolConfig(), replies.OK, b"250 OK\r\n"),
        (ENHANCED, replies.CLOSING_IDLE, b"421 4.4.2 "),
        (ProtocolConfig(), replies.CLOSING_IDLE, b"421 4.4.2 "),
    ],
)
def test_enhanced_status_codes(config: ProtocolConfig, reply: Reply, wire: bytes) -> None:
    connection = greeted(config)
    connection.receive_data(b"NOOP\r\n")
    connection.next_event()
    assert connection.send(reply).startswith(wire)


@pytest.mark.parametrize("command", [b"EHLO c\r\n", b"HELO c\r\n"])
def test_greetings_have_no_enhanced_status(command: bytes) -> None:
    connection = greeted()
    connection.receive_data(command)
    connection.next_event()
    assert connection.send(replies.OK) == b"250 OK\r\n"


def test_body() -> None:
    connection = in_data()
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"one\r\ntwo")
    assert connection.next_event() == BodyChunk(b"one\r\ntwo")
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"\r\n.\r\nNOOP\r\n")
    assert connection.next_event() == BodyChunk(b"\r\n")
    assert connection.next_event() == BodyEnd()
    assert connection.next_event() is PAUSED
    connection.send(Reply(550, ("no",)))
    assert connection.state is State.READY
    assert connection.next_event() == Noop("")


@pytest.mark.parametrize("parameter", ["SIZE=1", "SIZE=x", "FOO", "SIZE=99999999999"])
def test_parameters_need_ehlo(parameter: str) -> None:
    # RFC 5321 §4.1.1.1: after HELO there are none, so that it does not matter how they are wrong.
    connection = greeted()
    connection.receive_data(f"HELO c\r\nMAIL FROM:<a@b> {parameter}\r\n".encode())
    connection.next_event()
    connection.send(replies.OK)
    assert connection.next_event() == Refused(replies.NO_PARAMETERS)


def test_wrong_parameters() -> None:
    connection = greeted()
    connection.receive_data(b"EHLO c\r\nMAIL FROM:<a@b> SIZE=x\r\n")
    connection.next_event()
    connection.send(replies.OK)
    assert connection.next_event() == Refused(replies.BAD_PARAMETER)


def test_each_message_has_limits_of_its_own() -> None:
    config = ProtocolConfig(data_size_limit=5)
    connection = in_data(config)
    for number in range(2):
        connection.receive_data(b"12345678\r\n.\r\n" if number == 0 else b"123\r\n.\r\n")
        event = connection.next_event()
        if number == 0:
            assert event == Refused(replies.TOO_MUCH_DATA)
            assert connection.send(replies.TOO_MUCH_DATA) == (
                b"552 Message exceeds the size limit\r\n"
            )
            assert connection.state is State.READY
            connection.receive_data(TRANSACTION + b"DATA\r\n")
            for _ in range(3):
                connection.next_event()
                connection.send(replies.OK)
            connection.next_event()
            connection.send(replies.START_MAIL_INPUT)
        else:
            assert event == BodyChunk(b"123\r\n")
            assert connection.next_event() == BodyEnd()


def test_whether_the_message_comes_next() -> None:
    connection = in_transaction(ProtocolConfig(extensions=frozenset({"CHUNKING"})))
    reading = [connection.reading_body]
    for octets, reply in (
        (b"BDAT 2\r\nx", None),
        (b"y", replies.CHUNK_OK),
        (b"RSET\r\n", replies.OK),
    ):
        connection.receive_data(octets)
        while isinstance(connection.next_event(), BodyChunk):
            pass
        reading.append(connection.reading_body)
        if reply:
            connection.send(reply)
    assert reading == [False, True, False, False]
    assert in_data().reading_body


def test_data_refused() -> None:
    connection = in_transaction()
    connection.receive_data(b"DATA\r\nNOOP\r\n")
    connection.next_event()
    connection.send(replies.LOCAL_ERROR)
    assert connection.state is State.RCPT
    assert connection.next_event() == Noop("")


def test_data_answered_with_another_success() -> None:
    connection = in_transaction()
    connection.receive_data(b"DATA\r\nNOOP\r\n")
    connection.next_event()
    connection.send(replies.OK)
    assert connection.state is State.RCPT
    assert connection.next_event() == Noop("")


def test_own_verb_moves_as_the_built_in_one() -> None:
    connection = in_transaction(ProtocolConfig(own_verbs=frozenset({"DATA", "MAIL"})))
    connection.receive_data(b"DATA with an argument\r\nabc\r\n.\r\n")
    assert connection.next_event() == Unknown("DATA", "with an argument")
    connection.send(replies.START_MAIL_INPUT)
    assert connection.next_event() == BodyChunk(b"abc\r\n")
    assert connection.next_event() == BodyEnd()
    connection.send(replies.OK)
    connection.receive_data(b"DATA\r\n")
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)


def test_eof_after_all_was_answered() -> None:
    connection = greeted()
    connection.receive_data(b"NOOP\r\nQUIT\r\nNOO")
    connection.receive_eof()
    assert connection.next_event() == Noop("")
    connection.send(replies.OK)
    assert connection.next_event() == Quit()
    connection.send(replies.BYE)
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize("octets", [b"", b"NOO", b"NOOP\r"])
def test_eof(octets: bytes) -> None:
    connection = greeted()
    connection.receive_data(octets)
    connection.receive_eof()
    assert connection.next_event() == ConnectionClosed()
    assert connection.next_event() == ConnectionClosed()
    assert connection.state is State.CLOSED


def test_eof_in_mid_body() -> None:
    connection = in_data()
    connection.receive_data(b"abc\r\n.\r")
    connection.receive_eof()
    assert connection.next_event() == BodyChunk(b"abc")
    assert connection.next_event() == ConnectionClosed()


def test_close() -> None:
    connection = greeted()
    connection.receive_data(b"NOOP\r\nNOOP\r\n")
    connection.next_event()
    connection.close()
    assert connection.buffered == 0
    assert not connection.reply_owed
    connection.receive_data(b"NOOP\r\n")
    assert connection.buffered == 0
    assert connection.next_event() == ConnectionClosed()


COMMANDS = [
    b"EHLO c\r\n",
    b"HELO c\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<a@b> SIZE=1000\r\n",
    b"RCPT TO:<d@e>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"HELP MAIL\r\n",
    b"GET / HTTP/1.1\r\n",
]
OCTETS = [b"\r", b"\n", b"\r\n", b".", b"\r\n.\r\n", b"x", b"x" * 5000, b"\0", b"\xff", b"\x16"]
CONVERSATIONS = st.tuples(
    st.sampled_from([b"", TRANSACTION, TRANSACTION + b"DATA\r\n"]),
    st.lists(st.sampled_from(COMMANDS + OCTETS) | st.binary(max_size=4)).map(b"".join),
).map(b"".join)
CONFIGS = st.builds(
    ProtocolConfig,
    data_size_limit=st.sampled_from([None, 5, 1000]),
    extensions=st.sampled_from([frozenset[str](), frozenset({"SMTPUTF8"})]),
    address_syntax=st.sampled_from(["lenient", "strict"]),
    bare_newline=st.sampled_from(["normalize", "reject", "keep"]),
    line_length_limit=st.sampled_from([None, 4]),
)


def outcome(segments: list[bytes], config: ProtocolConfig) -> EngineServer:
    server = EngineServer(config)
    for segment in segments:
        server.receive(segment)
        # What is not used yet is at most what may be the beginning of something.
        assert server.connection.buffered == 0 or server.closed
    server.receive_eof()
    assert server.closed
    return server


@given(CONVERSATIONS, st.data(), CONFIGS)
def test_segments_change_nothing(text: bytes, data: st.DataObject, config: ProtocolConfig) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = zip([0, *cuts], [*cuts, len(text)], strict=True)
    some = outcome([text[start:end] for start, end in edges], config)
    whole = outcome([text], config)
    octets = outcome([bytes([octet]) for octet in text], config)
    assert whole.wire == some.wire == octets.wire
    assert whole.delivered == some.delivered == octets.delivered


@given(st.lists(CONVERSATIONS), CONFIGS)
def test_what_comes_too_early_is_kept(segments: list[bytes], config: ProtocolConfig) -> None:
    late = EngineServer(config)
    for segment in segments:
        late.connection.receive_data(segment)
    late.receive_eof()
    whole = outcome([b"".join(segments)], config)
    assert (whole.wire, whole.delivered) == (late.wire, late.delivered)


@given(CONVERSATIONS, CONFIGS)
def test_replies_are_well_formed_and_not_too_many(text: bytes, config: ProtocolConfig) -> None:
    server = outcome([text], config)
    lines = bytes(server.wire).split(b"\r\n")
    assert lines.pop() == b""
    assert all(re.fullmatch(rb"[2-5][0-9]{2}[ -][\t -~]*", line) for line in lines)
    finals = [line for line in lines if line[3:4] == b" "]
    assert len(finals) == server.connection.requests == server.connection.answered
    # The greeting; one for each line and each end of data; 421 for a line that never ends.
    assert server.connection.answered <= 1 + text.count(b"\n") + finals[-1].startswith(b"421")


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"."])).map(b"".join), CONFIGS)
def test_nothing_is_delivered_without_the_end(text: bytes, config: ProtocolConfig) -> None:
    server = outcome([TRANSACTION + b"DATA\r\n" + text], config)
    if b"\r\n.\r\n" not in b"\r\n" + text:
        assert server.delivered == []


def test_memory_stays_bounded() -> None:
    connection = in_data(ProtocolConfig(data_size_limit=1000))
    passed = 0
    for _ in range(1000):
        connection.receive_data(b"x" * 10_000)
        while isinstance(event := connection.next_event(), BodyChunk):
            passed += len(event.data)
        assert connection.buffered == 0
    assert passed <= 1000
