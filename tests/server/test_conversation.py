"""Conversation: events become replies, in their order, with the help of the hooks."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal

import pytest
from tests.server.fakes import FakeLoop, FakePeer, FakeTransport, talk
from tests.server.secure import shared_server_context

from smtp_protocol import (
    MISSING,
    Answer,
    AuthResult,
    BodyAborted,
    Envelope,
    Handler,
    MailOptions,
    Server,
    Session,
)
from smtp_protocol.auth import Missing
from smtp_server import SMTP, syntax

HELLO = "EHLO client.test"
TRANSACTION = (HELLO, "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>")
ERROR = "451 Local error in processing\r\n"


class Plain(Handler):
    """Leaves everything to the defaults."""


class Waits(Handler):
    """Answers NOOP when its gate is open, with what it is told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[str] = []
        self.answer: Answer = "250 Waited"

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        self.seen.append(arg)
        await self.gate.wait()
        return self.answer


class Asks(Handler):
    """Does in NOOP and AUTH what its test says, and keeps what came of it."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.results: list[object] = []

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        self.results.append(await self.what(server))
        return "250 Asked"

    async def auth_X__ASK(self, server: Server, args: list[str]) -> AuthResult:
        self.results.append(await self.what(server))
        return AuthResult(success=True)


class Keeps(Handler):
    """Keeps each message."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 Kept"


class Streams(Handler):
    """Reads each message as it comes, once its gate is open."""

    def __init__(self, *, opened: bool = True) -> None:
        self.gate = asyncio.Event()
        self.chunks: list[bytes] = []
        self.ends: list[str] = []
        if opened:
            self.gate.set()

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> str:
        try:
            await self.gate.wait()
            self.chunks += [chunk async for chunk in chunks]
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("read")
        return "250 Read"


# Order.


def test_defaults_are_answered_without_a_task(loop: FakeLoop) -> None:
    peer = talk(loop, Plain())
    assert peer.tell(HELLO).startswith("250-mx.test\r\n250-SIZE")
    assert peer.tell("NOOP") == "250 OK\r\n"
    assert asyncio.all_tasks(loop) == set()


def test_pipelined_replies_go_out_together(loop: FakeLoop) -> None:
    peer = talk(loop, Plain())
    peer.write("NOOP\r\nRSET\r\nVRFY anne\r\n")
    assert peer.transport.writes() == 1
    assert codes(peer.transport.take()) == ["250", "250", "252"]


def codes(text: str) -> list[str]:
    return [line[:3] for line in text.splitlines()]


def test_not_too_many_replies_wait(loop: FakeLoop) -> None:
    """A client that does not read them is to be noticed in time."""
    peer = talk(loop, Plain())
    peer.write("NOOP\r\n" * 200)
    assert 1 < peer.transport.writes() < 10
    assert peer.transport.take() == "250 OK\r\n" * 200


def test_commands_wait_for_a_hook(loop: FakeLoop) -> None:
    handler = Waits()
    peer = talk(loop, handler)
    assert peer.tell("NOOP one", "NOOP two", "RSET") == ""
    assert handler.seen == ["one"]
    loop.call(handler.gate.set)
    assert peer.transport.take() == "250 Waited\r\n250 Waited\r\n250 OK\r\n"
    assert handler.seen == ["one", "two"]


def test_what_comes_before_a_hook_is_on_the_wire_while_it_waits(loop: FakeLoop) -> None:
    assert talk(loop, Waits()).send("RSET\r\nNOOP\r\n") == "250 OK\r\n"


def test_replies_are_not_given_to_a_peer_that_does_not_take_them(loop: FakeLoop) -> None:
    peer = talk(loop, Plain())
    peer.stop_taking()
    assert peer.tell("NOOP", "NOOP") == ""
    assert peer.take_again() == "250 OK\r\n" * 2


def test_a_peer_is_left_unread_while_much_waits(loop: FakeLoop) -> None:
    handler = Waits()
    peer = talk(loop, handler)
    peer.send("NOOP\r\n" * 10_000)
    peer.send("NOOP\r\n" * 10_000)
    assert not peer.transport.is_reading()
    loop.call(handler.gate.set)
    assert peer.transport.take() == "250 Waited\r\n" * 20_000
    assert [peer.transport.is_reading()] == [True]


def test_an_interrupt_ends_the_connection_and_is_the_programs(loop: FakeLoop) -> None:
    async def interrupt(server: Server) -> None:
        raise KeyboardInterrupt

    peer = talk(loop, Asks(interrupt))
    with pytest.raises(KeyboardInterrupt):
        peer.tell("NOOP")
    assert peer.transport.ends == ["abort"]


# What a hook sees.


def test_a_hook_sees_the_server(loop: FakeLoop) -> None:
    async def look(server: Server) -> object:
        return (server.hostname, server.ident, server.data_size_limit, server.enable_SMTPUTF8)

    handler = Asks(look)
    talk(loop, handler, ident="Ident", data_size_limit=77, enable_SMTPUTF8=True).tell("NOOP")
    assert handler.results == [("mx.test", "Ident", 77, True)]


class Own(SMTP):
    """Has a command of its own."""

    @syntax("PING [text]")
    async def smtp_PING(self, arg: str | None) -> str:
        return f"250 PONG {arg}"


def test_a_command_of_ones_own(loop: FakeLoop) -> None:
    peer = talk(loop, Plain(), Own)
    assert peer.tell("PING hello") == "250 PONG hello\r\n"
    assert peer.tell("HELP PING") == "214 Syntax: PING [text]\r\n"


def test_what_a_hook_pushes_is_the_reply(loop: FakeLoop) -> None:
    gate = asyncio.Event()

    async def push(server: Server) -> None:
        await server.push("250 Pushed")
        await gate.wait()

    peer = talk(loop, Asks(push))
    assert peer.tell("NOOP") == "250 Pushed\r\n"
    loop.call(gate.set)
    assert peer.tell("RSET") == "250 OK\r\n"


def test_pushing_twice_is_an_error_of_the_hook(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def push(server: Server) -> None:
        await server.push("250 One")
        await server.push("250 Two")

    assert talk(loop, Asks(push)).tell("NOOP") == "250 One\r\n"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_pushing_to_somebody_who_has_gone(loop: FakeLoop) -> None:
    gate = asyncio.Event()

    async def push(server: Server) -> str:
        await gate.wait()
        await server.push("250 Pushed")
        return "done"

    handler = Asks(push)
    peer = talk(loop, handler)
    peer.tell("NOOP")
    peer.lose(ConnectionResetError())
    loop.call(gate.set)
    assert handler.results == ["done"]


# Challenges.


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


async def challenge(server: Server) -> object:
    return await server.challenge_auth("Who?")


def asking(loop: FakeLoop, handler: Asks) -> FakePeer:
    peer = talk(loop, handler, auth_require_tls=False)
    assert peer.tell(HELLO, "AUTH X-ASK") == f"334 {b64('Who?')}\r\n"
    return peer


def test_a_challenge_and_its_response(loop: FakeLoop) -> None:
    handler = Asks(challenge)
    peer = asking(loop, handler)
    assert peer.tell(b64("Anne")).startswith("235")
    assert handler.results == [b"Anne"]


@pytest.mark.parametrize(("text", "encoded"), [("Who?", False), (b"Who?", False), (b"Who?", True)])
def test_how_a_challenge_is_written(loop: FakeLoop, text: str | bytes, encoded: bool) -> None:
    async def ask(server: Server) -> object:
        return await server.challenge_auth(text, encode_to_b64=encoded)

    peer = talk(loop, Asks(ask), auth_require_tls=False)
    wanted = b64("Who?") if encoded else "Who?"
    assert peer.tell(HELLO, "AUTH X-ASK") == f"334 {wanted}\r\n"


@pytest.mark.parametrize("response", ["*", "no base64"])
def test_a_response_that_is_none(loop: FakeLoop, response: str) -> None:
    handler = Asks(challenge)
    assert asking(loop, handler).tell(response).startswith("501")
    assert handler.results == [MISSING]


def test_a_response_that_has_come_already(loop: FakeLoop) -> None:
    handler = Asks(challenge)
    peer = talk(loop, handler, auth_require_tls=False)
    answers = peer.send(f"{HELLO}\r\nAUTH X-ASK\r\n{b64('Anne')}\r\nRSET\r\n")
    assert codes(answers)[-3:] == ["334", "235", "250"]
    assert handler.results == [b"Anne"]


def test_somebody_goes_instead_of_responding(loop: FakeLoop) -> None:
    handler = Asks(challenge)
    asking(loop, handler).lose(ConnectionResetError())
    loop.turn()
    assert handler.results == [MISSING]


def test_a_challenge_for_somebody_who_has_gone(loop: FakeLoop) -> None:
    gate = asyncio.Event()

    async def ask_late(server: Server) -> object:
        await gate.wait()
        return await server.challenge_auth("Who?")

    handler = Asks(ask_late)
    peer = talk(loop, handler, auth_require_tls=False)
    peer.tell(HELLO, "AUTH X-ASK")
    peer.lose(ConnectionResetError())
    loop.call(gate.set)
    assert handler.results == [MISSING]


def test_a_mechanism_that_asks_on_when_its_client_has_given_up(loop: FakeLoop) -> None:
    async def ask_twice(server: Server) -> object:
        return [await server.challenge_auth("Who?"), await server.challenge_auth("And now?")]

    handler = Asks(ask_twice)
    peer = asking(loop, handler)
    assert codes(peer.tell("*")) == ["501"]
    assert handler.results == [[MISSING, MISSING]]
    assert peer.tell("NOOP") != ""


def test_a_challenge_is_a_part_of_auth(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    assert talk(loop, Asks(challenge)).tell("NOOP") == ERROR
    assert "a challenge is a part of AUTH" in caplog.text


def test_a_hook_of_auth_ends_while_a_response_is_awaited(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The client would get no answer any more."""
    asked: list[asyncio.Task[object]] = []

    async def leave(server: Server) -> None:
        asked.append(asyncio.create_task(challenge(server)))
        await asyncio.sleep(0)
        raise ValueError("forgotten")

    peer = talk(loop, Asks(leave), auth_require_tls=False)
    assert codes(peer.tell(HELLO, "AUTH X-ASK")) == ["334", "421"]
    assert peer.transport.ends == ["close"]
    asked[0].cancel()


class Judges(Handler):
    """Refuses AUTH with an initial response, and leaves any other to the mechanisms."""

    async def handle_AUTH(
        self, server: Server, session: Session, envelope: Envelope, args: list[str]
    ) -> str | Literal[Missing.MISSING]:
        return "535 No" if len(args) > 1 else MISSING


def test_a_verdict_of_the_hook(loop: FakeLoop) -> None:
    peer = talk(loop, Judges(), auth_require_tls=False, auth_failure_delay=3)
    assert peer.tell(HELLO, "AUTH PLAIN AGEAYg==") == ""
    loop.advance(3)
    assert peer.transport.take() == "535 No\r\n"


def test_a_hook_leaves_it_to_the_mechanisms(loop: FakeLoop) -> None:
    peer = talk(loop, Judges(), auth_require_tls=False)
    assert codes(peer.tell(HELLO, "AUTH PLAIN")) == ["334"]


# Errors and limits.


def test_a_sender_that_is_refused_leaves_nothing_behind(loop: FakeLoop) -> None:
    class Refuses(Keeps):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> str:
            envelope.mail_from = address
            return "550 No" if address == "bad@example.com" else "250 OK"

    handler = Refuses()
    peer = talk(loop, handler)
    assert codes(peer.tell(HELLO, "MAIL FROM:<bad@example.com> SIZE=3")) == ["550"]
    peer.tell(*TRANSACTION[1:], "DATA", "x", ".")
    (envelope,) = handler.envelopes
    assert envelope.mail_from == "a@example.com"
    assert envelope.mail_options == []


def test_a_command_too_often(loop: FakeLoop) -> None:
    peer = talk(loop, Plain(), command_call_limit={"NOOP": 1})
    assert peer.tell("RSET", "RSET", "NOOP") == "250 OK\r\n"
    assert peer.tell("NOOP").startswith("421")
    assert peer.transport.ends == ["eof"]


def test_too_many_errors(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    peer = talk(loop, Plain(), max_errors=3)
    assert peer.tell("NOSUCH", "MAIL").startswith("50")
    assert codes(peer.tell("NOSUCH")) == ["500", "421"]
    assert peer.transport.ends == ["eof"]
    assert len(caplog.records) == 4


def test_a_verdict_is_no_error(loop: FakeLoop) -> None:
    """It is counted by itself."""
    peer = talk(
        loop,
        Plain(),
        max_errors=1,
        auth_callback=lambda *_: False,
        auth_require_tls=False,
        auth_failure_delay=0,
    )
    assert peer.tell(HELLO, "AUTH PLAIN AGEAYg==").startswith("535")
    assert peer.tell("AUTH NOSUCH").startswith("504")
    assert peer.transport.ends == ["eof"]


def test_each_command_is_logged_where_that_is_wanted(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "smtp_server")
    talk(loop, Plain(), ident="Ident").tell("NOOP hello", "QUIT")
    commands = [each for each in caplog.records if each.name == "smtp_server.commands"]
    assert [record.getMessage().split("] ")[1] for record in commands] == [
        "Connected(): '220 mx.test Ident'",
        "Noop(arg='hello'): '250 2.0.0 OK'",
        "Quit(): '221 2.0.0 Bye'",
    ]


# The message.


def test_a_message_comes_whole(loop: FakeLoop) -> None:
    handler = Keeps()
    peer = talk(loop, handler)
    assert peer.tell(*TRANSACTION, "DATA").startswith("354")
    assert peer.tell("one", "..two", ".") == "250 Kept\r\n"
    (envelope,) = handler.envelopes
    assert envelope.content == b"one\r\n.two\r\n"
    assert envelope.rcpt_tos == ["b@example.com"]


def test_the_next_message_has_an_envelope_of_its_own(loop: FakeLoop) -> None:
    handler = Keeps()
    peer = talk(loop, handler)
    for text in ("one", "two"):
        peer.tell(*TRANSACTION, "DATA", text, ".")
    assert [envelope.content for envelope in handler.envelopes] == [b"one\r\n", b"two\r\n"]


@pytest.mark.parametrize(
    ("parameter", "text", "answer", "decoded"),
    [
        ("", "plain", "250 Kept", "plain\r\n"),
        ("", "grün", "554", None),
        (" BODY=8BITMIME", "grün", "250 Kept", "grün\r\n"),
    ],
)
def test_a_message_is_decoded(
    loop: FakeLoop, parameter: str, text: str, answer: str, decoded: str | None
) -> None:
    handler = Keeps()
    peer = talk(loop, handler, decode_data=True)
    hello, mail, rcpt = TRANSACTION
    assert peer.tell(hello, mail + parameter, rcpt, "DATA", text, ".").startswith(answer)
    assert [envelope.text for envelope in handler.envelopes] == [decoded][: decoded is not None]


def test_a_stream_is_read_as_it_comes(loop: FakeLoop) -> None:
    handler = Streams()
    peer = talk(loop, handler)
    assert peer.tell(*TRANSACTION, "DATA", "one", "two", ".") == "250 Read\r\n"
    assert b"".join(handler.chunks) == b"one\r\ntwo\r\n"


def test_a_stream_that_is_not_read_leaves_the_peer_unread(loop: FakeLoop) -> None:
    handler = Streams(opened=False)
    peer = talk(loop, handler)
    peer.tell(*TRANSACTION, "DATA")
    while peer.transport.is_reading():
        peer.send(("x" * 998 + "\r\n") * 10)
    loop.call(handler.gate.set)
    assert [peer.transport.is_reading()] == [True]
    assert peer.tell(".") == "250 Read\r\n"


def test_a_stream_that_is_cut(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    handler = Streams()
    peer = talk(loop, handler, handler_timeout=5)
    peer.tell(*TRANSACTION, "DATA", "one")
    peer.lose(ConnectionResetError())
    assert handler.ends == ["BodyAborted"]
    assert caplog.records == []


def test_a_stream_that_does_not_notice_that_it_is_cut(loop: FakeLoop) -> None:
    handler = Streams(opened=False)
    peer = talk(loop, handler, handler_timeout=5)
    peer.tell(*TRANSACTION, "DATA", "one")
    peer.lose(ConnectionResetError())
    loop.advance(4)
    assert handler.ends == []
    loop.advance(1)
    assert handler.ends == ["CancelledError"]


def test_a_stream_that_fails_when_it_is_cut(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Handler):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> str:
            with suppress(BodyAborted):
                return str([chunk async for chunk in chunks])
            raise ValueError("full disk")

    peer = talk(loop, Fails())
    peer.tell(*TRANSACTION, "DATA", "one")
    peer.lose(ConnectionResetError())
    assert "The hook for BodyEnd failed" in caplog.text


def test_a_transaction_that_is_reset_has_no_message(loop: FakeLoop) -> None:
    handler = Streams()
    peer = talk(loop, handler, extensions=("CHUNKING",))
    assert peer.tell(*TRANSACTION, "BDAT 3\r\none").startswith("250")
    assert peer.tell("RSET") == "250 OK\r\n"
    loop.turn()
    assert handler.ends == ["BodyAborted"]


def test_a_message_is_told_of_where_that_is_wanted(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "smtp_server")
    talk(loop, Keeps()).tell(*TRANSACTION, "DATA", "one", ".")
    assert "Message from 'a@example.com' to 'b@example.com', 5 octets: '250 Kept'" in caplog.text


def test_what_a_hook_left_in_the_envelope_is_its_failure(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(Handler):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> str:
            broken: Any = None
            envelope.mail_options = broken
            return "250 OK"

    peer = talk(loop, Breaks())
    assert codes(peer.tell(HELLO, "MAIL FROM:<a@example.com> SIZE=3")) == ["250", "421"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# The end.


def test_quit_closes_at_once(loop: FakeLoop) -> None:
    peer = talk(loop, Plain())
    assert peer.send("QUIT\r\nNOOP\r\n") == "221 Bye\r\n"
    assert peer.transport.ends == ["close"]


def test_a_peer_that_ends_gets_its_answers(loop: FakeLoop) -> None:
    handler = Waits()
    peer = talk(loop, handler)
    peer.tell("NOOP", "RSET")
    assert peer.end(), "the connection stays open in the other direction"
    loop.call(handler.gate.set)
    assert peer.transport.take() == "250 Waited\r\n250 OK\r\n"
    assert peer.transport.ends == ["close"]


def test_the_server_stops_between_transactions(loop: FakeLoop) -> None:
    handler = Waits()
    peer = talk(loop, handler)
    peer.tell(*TRANSACTION, "NOOP")
    loop.call(smtp_of(peer).shut_down)
    loop.call(handler.gate.set)
    assert peer.transport.take() == "250 Waited\r\n"
    assert codes(peer.tell("RSET")) == ["250", "421"]
    assert peer.transport.ends == ["close"]


def smtp_of(peer: FakePeer) -> SMTP:
    protocol = peer.transport.get_protocol()
    assert isinstance(protocol, SMTP)
    return protocol


def test_the_server_stops_at_once_in_the_middle_of_a_stream(loop: FakeLoop) -> None:
    handler = Streams(opened=False)
    peer = talk(loop, handler)
    peer.tell(*TRANSACTION, "DATA", "one")
    loop.call(smtp_of(peer).abort)
    assert codes(peer.transport.take()) == ["421"]
    assert handler.ends == ["CancelledError"]


def test_starttls_is_answered_before_the_handshake(loop: FakeLoop) -> None:
    loop.encrypted = FakeTransport(half_closes=False)
    peer = talk(loop, Plain(), tls_context=shared_server_context())
    answer = peer.send(f"{HELLO}\r\nSTARTTLS\r\nNOOP\r\n")
    assert answer.endswith("220 2.0.0 Ready to start TLS\r\n"), "and nothing more in the clear"
    assert loop.encrypted.take() == ""
