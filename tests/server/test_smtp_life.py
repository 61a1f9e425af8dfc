"""SMTP: the life of one connection without a socket: opened, greeted, conversing, closing, gone."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Unpack

import pytest
from tests.server.fakes import PEER, FakeLoop, FakePeer, FakeTransport
from tests.server.secure import shake_hands, shared_client_context, shared_server_context

from smtp_protocol import Envelope, Handler, Peer, ProxyData, Server, Session
from smtp_server import SMTP
from smtp_server.sessions import Sessions
from smtp_server.settings import SharedKeywords
from smtp_server.tls import Certificates

IDLE = 60.0
HEADER = "PROXY TCP4 192.0.2.7 192.0.2.8 1000 25\r\n"
TRANSACTION = ("EHLO client.test", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>")
GREETING = "220 mx.test Ident\r\n"


class Notes(Handler):
    """Keeps what it sees of a life."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sessions: list[Session] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.seen.append("greeted")
        self.sessions.append(session)
        return f"220 {server.hostname} {server.ident}"

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        self.seen.append("proxied")
        return True

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.seen.append("began")
        await self.gate.wait()
        self.seen.append("message")
        return "250 Kept"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.seen.append("gone")


class Life:
    """One connection of a service, and its other end."""

    def __init__(
        self,
        loop: FakeLoop,
        handler: Handler | None = None,
        *,
        sessions: Sessions | None = None,
        implicit: bool = False,
        peer: object = PEER,
        half_closes: bool = True,
        **keywords: Unpack[SharedKeywords],
    ) -> None:
        self.loop = loop
        self.handler = handler or Notes()
        keywords = {"ident": "Ident", "timeout": IDLE, **keywords}
        self.smtp = SMTP(self.handler, hostname="mx.test", loop=loop, **keywords)
        self.sessions = self.smtp.sessions = sessions if sessions is not None else Sessions()
        self.transport = FakeTransport(peer, half_closes=half_closes)
        self.certificates = Certificates(shared_server_context())
        if implicit:
            self.smtp.implicit_tls = self.certificates

    def arrive(self) -> FakePeer:
        """Be there in the clear."""
        return FakePeer(self.smtp, self.loop, self.transport)

    def accept(self, sock: socket.socket) -> None:
        """Be accepted by a listener whose connections begin with TLS."""
        self.loop.call(self.smtp.accepted, sock, PEER, self.certificates)

    @property
    def said(self) -> str:
        return self.transport.take()

    @property
    def notes(self) -> list[str]:
        assert isinstance(self.handler, Notes)
        return self.handler.seen


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records]


# Opened.


def test_a_connection_is_greeted_at_once(loop: FakeLoop) -> None:
    life = Life(loop)
    life.arrive()
    assert life.said == GREETING
    assert list(life.sessions) == [life.smtp]
    assert life.smtp.session.peer == PEER
    assert life.smtp.session.loop is loop


def test_one_too_many_is_told_so(loop: FakeLoop) -> None:
    life = Life(loop, max_connections=1)
    life.sessions.enter(SMTP(Notes()), life.smtp.setup.settings)
    peer = life.arrive()
    assert life.said.startswith("421 ")
    assert life.transport.ends == ["eof"], "it may be sending"
    peer.send("EHLO client.test\r\n")
    peer.lose()
    assert life.notes == [], "who was not greeted has no goodbye"
    assert len(life.sessions) == 1


def test_one_too_many_does_not_wait(loop: FakeLoop) -> None:
    life = Life(loop, max_connections=1, greeting_delay=5)
    life.sessions.enter(SMTP(Notes()), life.smtp.setup.settings)
    life.arrive()
    assert (life.said[:4], life.transport.ends) == ("421 ", ["eof"])


def test_one_too_many_behind_a_proxy_is_not_told(loop: FakeLoop) -> None:
    """Who it is would have to be read first."""
    sessions = Sessions()
    life = behind_a_proxy(loop, sessions=sessions, max_connections=1)
    sessions.enter(SMTP(Notes()), life.smtp.setup.settings)
    life.arrive()
    assert (life.said, life.transport.ends) == ("", ["abort"])
    assert len(sessions) == 1


def test_one_too_many_of_its_network(loop: FakeLoop) -> None:
    sessions = Sessions()
    first = Life(loop, sessions=sessions, max_connections_per_host=1)
    second = Life(loop, sessions=sessions, max_connections_per_host=1)
    first.arrive()
    second.arrive()
    assert (first.said, second.said[:4]) == (GREETING, "421 ")


def test_a_greeting_that_is_delayed(loop: FakeLoop) -> None:
    life = Life(loop, greeting_delay=5)
    life.arrive()
    loop.advance(4)
    assert life.said == ""
    loop.advance(1)
    assert life.said == GREETING


def test_who_talks_before_the_greeting(loop: FakeLoop) -> None:
    life = Life(loop, greeting_delay=5)
    peer = life.arrive()
    assert peer.send("EHLO client.test\r\n") == ""
    loop.advance(5)
    assert life.said.startswith("421 ")
    assert life.notes == []


def test_who_goes_before_the_greeting(loop: FakeLoop) -> None:
    life = Life(loop, greeting_delay=5)
    life.arrive().lose()
    assert len(life.sessions) == 0
    assert life.notes == []


@pytest.mark.parametrize("end", [SMTP.shut_down, SMTP.abort])
def test_the_service_ends_before_the_greeting(
    loop: FakeLoop, end: Callable[[SMTP], None], caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(loop, greeting_delay=5)
    life.arrive()
    loop.call(end, life.smtp)
    assert (life.said, life.transport.ends) == ("", ["abort"])
    assert len(life.sessions) == 0
    assert caplog.records == []


def test_a_client_that_went_before_its_address_was_seen(loop: FakeLoop) -> None:
    """It is not taken for a Unix socket, which may be trusted."""
    life = Life(loop, peer=None)
    life.transport.extra["socket"] = SimpleNamespace(family=socket.AF_INET)
    life.arrive()
    assert (life.said, life.transport.ends, life.notes) == ("", ["abort"], [])
    assert len(life.sessions) == 0


def test_who_says_nothing_and_ends_is_not_greeted(loop: FakeLoop) -> None:
    life = Life(loop, greeting_delay=5)
    assert life.arrive().end() is False


def test_a_setup_has_its_handler_already() -> None:
    smtp = SMTP(Notes())
    with pytest.raises(TypeError, match="a setup has its handler"):
        SMTP(Notes(), setup=smtp.setup)
    with pytest.raises(TypeError, match="a setup has its handler"):
        SMTP(smtp.setup.handler, setup=smtp.setup, timeout=3)


def test_tls_of_a_connection_that_is_there_already(loop: FakeLoop) -> None:
    """So it is where the event loop cannot watch a socket."""
    life = Life(loop, implicit=True)
    loop.encrypted = encrypted = FakeTransport(half_closes=False)
    encrypted.set_protocol(life.smtp)
    life.arrive()
    assert (life.said, encrypted.take()) == ("", GREETING)


def test_comings_and_goings_are_told_where_that_is_wanted(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "smtp_server")
    life = Life(loop)
    peer = life.arrive()
    peer.tell(*TRANSACTION, "DATA", "x", ".")
    peer.lose()
    told = [record.getMessage().partition("] ")[2] for record in caplog.records]
    assert [text for text in told if text.startswith(("Connection", "Message", "Gone"))] == [
        "Connection from ('192.0.2.1', 1025)",
        "Message from 'a@example.com' to 'b@example.com', 3 octets: '250 Kept'",
        "Gone",
    ]


# Opened, behind a proxy.


def behind_a_proxy(
    loop: FakeLoop,
    handler: Handler | None = None,
    *,
    implicit: bool = False,
    sessions: Sessions | None = None,
    **keywords: Unpack[SharedKeywords],
) -> Life:
    keywords = {"proxy_protocol_timeout": 5, "proxy_trusted": ("192.0.2.0/24",), **keywords}
    return Life(loop, handler, implicit=implicit, sessions=sessions, **keywords)


def test_a_header_comes_before_the_greeting(loop: FakeLoop) -> None:
    life = behind_a_proxy(loop)
    peer = life.arrive()
    assert life.said == ""
    assert peer.send(HEADER) == GREETING
    assert life.notes == ["proxied", "greeted"]
    assert life.smtp.session.peer_host == "192.0.2.7"
    assert peer.tell("NOOP") == "250 OK\r\n"


def test_a_header_before_tls(loop: FakeLoop) -> None:
    loop.encrypted = encrypted = FakeTransport(half_closes=False)
    life = behind_a_proxy(loop, implicit=True)
    encrypted.set_protocol(life.smtp)
    life.arrive().send(HEADER)
    assert (life.said, encrypted.take()) == ("", GREETING)


@pytest.mark.parametrize("implicit", [False, True])
def test_one_too_many_of_a_network_behind_a_proxy(loop: FakeLoop, implicit: bool) -> None:
    sessions = Sessions()
    for number in range(2):
        life = behind_a_proxy(
            loop, sessions=sessions, implicit=implicit, max_connections_per_host=1
        )
        loop.encrypted = encrypted = FakeTransport(half_closes=False)
        encrypted.set_protocol(life.smtp)
        life.arrive().write(HEADER)
        said = life.said + encrypted.take()
        told = "421 " if not implicit else ""
        assert said[:4] == (told if number else "220 ")


@pytest.mark.parametrize("what", ["EHLO client.test\r\n"[:5], ""])
def test_no_header_no_session(loop: FakeLoop, what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    life = behind_a_proxy(loop)
    peer = life.arrive()
    if what:
        peer.send(what)
    loop.advance(5)
    assert (life.said, life.transport.ends) == ("", ["abort"])
    assert levels(caplog) == [logging.INFO]
    assert len(life.sessions) == 0


def test_a_hook_for_the_header_that_fails(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Notes):
        async def handle_PROXY(
            self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
        ) -> bool:
            raise ValueError("secret")

    life = behind_a_proxy(loop, Fails())
    life.arrive().send(HEADER)
    assert (life.said, life.transport.ends) == ("", ["abort"])
    assert levels(caplog) == [logging.ERROR]
    assert len(life.sessions) == 0


# Opened by a listener with implicit TLS.


def test_a_socket_is_accepted_before_its_handshake(loop: FakeLoop) -> None:
    life = Life(loop)
    loop.encrypted = life.transport
    with socket.socket() as sock:
        life.accept(sock)
    assert life.said == GREETING
    assert life.smtp.session.peer == PEER
    assert len(life.sessions) == 1


def test_a_handshake_that_fails(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    life = Life(loop)
    loop.encrypted = ssl.SSLError(1, "no cipher")
    with socket.socket() as sock:
        life.accept(sock)
    assert len(life.sessions) == 0
    assert levels(caplog) == [logging.INFO]


def test_a_socket_too_many_is_closed_before_its_handshake(loop: FakeLoop) -> None:
    life = Life(loop, max_connections=1)
    life.sessions.enter(SMTP(Notes()), life.smtp.setup.settings)
    with socket.socket() as sock:
        life.accept(sock)
        assert sock.fileno() == -1
    assert len(life.sessions) == 1


def test_a_socket_behind_a_proxy(loop: FakeLoop) -> None:
    life = behind_a_proxy(loop)
    loop.encrypted = life.transport
    with socket.socket() as sock:
        life.accept(sock)
    reader = life.transport.get_protocol()
    assert reader is not life.smtp
    loop.encrypted = encrypted = FakeTransport(half_closes=False)
    peer = FakePeer(None, loop, life.transport)
    peer.send(HEADER)
    assert encrypted.take() == GREETING


# Conversing: the time.


@pytest.mark.parametrize("words", [(), ("NOO",), TRANSACTION])
def test_an_idle_client(
    loop: FakeLoop, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    life = Life(loop)
    peer = life.arrive()
    peer.send("\r\n".join(words))
    loop.advance(IDLE - 1)
    life.transport.take()
    assert life.transport.ends == []
    loop.advance(1)
    assert life.said == "421 4.4.2 Idle for too long, closing the connection\r\n"
    assert life.transport.ends == ["close"]
    assert "Idle for 60 seconds" in caplog.text
    peer.lose()
    assert life.notes == ["greeted", "gone"]


def test_a_client_that_sends_a_message_has_a_time_of_its_own(loop: FakeLoop) -> None:
    life = Life(loop, data_timeout=5)
    peer = life.arrive()
    peer.tell(*TRANSACTION)
    loop.advance(IDLE - 1)
    peer.tell("DATA", "half")
    loop.advance(4)
    peer.tell("more")
    loop.advance(4)
    assert life.said == ""
    loop.advance(1)
    assert life.said.startswith("421 4.4.2 Idle")


def test_a_client_is_not_idle_while_it_waits_for_a_hook(loop: FakeLoop) -> None:
    handler = Notes()
    life = Life(loop, handler)
    peer = life.arrive()
    handler.gate.clear()
    peer.tell(*TRANSACTION, "DATA", "x", ".")
    loop.advance(10 * IDLE)
    loop.call(handler.gate.set)
    assert life.said == "250 Kept\r\n"
    loop.advance(IDLE - 1)
    assert peer.tell("NOOP") == "250 OK\r\n", "its turn began with the reply"


def test_a_client_that_does_not_respond_in_auth_is_idle(loop: FakeLoop) -> None:
    life = Life(loop, auth_callback=lambda *_: True, auth_require_tls=False, handler_timeout=5)
    peer = life.arrive()
    assert peer.tell("EHLO client.test", "AUTH LOGIN").startswith("334")
    loop.advance(IDLE - 1)
    assert peer.tell("YQ==").startswith("334"), "a hook's time is another"
    loop.advance(IDLE)
    assert life.said.startswith("421 4.4.2 Idle")
    peer.lose()
    assert life.notes == ["greeted", "gone"]


def test_a_client_is_not_idle_while_a_stream_is_not_read(loop: FakeLoop) -> None:
    """The time of that is the hook's."""
    gate = asyncio.Event()

    class Streams(Handler):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> str:
            await gate.wait()
            return f"250 {sum([len(chunk) async for chunk in chunks])}"

    life = Life(loop, Streams(), handler_timeout=3 * IDLE)
    peer = life.arrive()
    peer.tell(*TRANSACTION, "DATA")
    while life.transport.is_reading():
        peer.tell("x" * 100)
    loop.advance(2 * IDLE)
    assert life.said == ""
    loop.advance(IDLE)
    assert life.said.startswith("421 4.3.0"), "which is the handler's failure"


def test_a_client_that_does_not_take_its_replies_is_idle(loop: FakeLoop) -> None:
    life = Life(loop)
    peer = life.arrive()
    peer.stop_taking()
    loop.advance(IDLE)
    assert life.transport.ends == ["close"]


def test_any_time(loop: FakeLoop) -> None:
    life = Life(loop, timeout=None)
    peer = life.arrive()
    loop.advance(1000 * IDLE)
    assert loop.timers == 0
    assert peer.tell("NOOP").endswith("250 OK\r\n")


# Conversing: STARTTLS.


class Encrypted:
    """A connection that gets as far as the reply to STARTTLS, and its transport behind that."""

    def __init__(
        self,
        loop: FakeLoop,
        handler: Handler | None = None,
        outcome: FakeTransport | BaseException | None = None,
        **keywords: Unpack[SharedKeywords],
    ) -> None:
        keywords = {"tls_context": shared_server_context(), **keywords}
        self.life = Life(loop, handler, **keywords)
        self.inside = outcome if isinstance(outcome, FakeTransport) else FakeTransport()
        self.inside.set_protocol(self.life.smtp)
        self.inside.extra["ssl_object"] = shake_hands(
            shared_server_context(), shared_client_context()
        )
        loop.encrypted = self.inside if outcome is None else outcome
        peer = self.life.arrive()
        peer.tell("EHLO client.test")
        self.before = self.life.smtp.session.host_name
        assert peer.tell("STARTTLS").startswith("220 ")
        self.peer = FakePeer(None, loop, self.inside)


def test_the_session_goes_on_inside_tls(loop: FakeLoop) -> None:
    encrypted = Encrypted(loop)
    assert (encrypted.before, encrypted.life.smtp.session.host_name) == ("client.test", None)
    assert encrypted.life.smtp.session.tls is not None
    assert "STARTTLS" not in encrypted.peer.tell("EHLO client.test")
    assert encrypted.life.said == ""


class Doubts(Notes):
    """Decides on STARTTLS as it is told."""

    def __init__(self, decision: Callable[[], bool | Awaitable[bool]]) -> None:
        super().__init__()
        self.decision = decision

    def handle_STARTTLS(
        self, server: Server, session: Session, envelope: Envelope
    ) -> bool | Awaitable[bool]:
        return self.decision()


def test_a_hook_refuses_what_tls_has_shown(loop: FakeLoop) -> None:
    encrypted = Encrypted(loop, Doubts(lambda: False))
    assert encrypted.peer.tell("NOOP").startswith("554")
    assert encrypted.peer.tell("QUIT").startswith("221")


def test_what_comes_while_the_hook_waits(loop: FakeLoop) -> None:
    """asyncio may have it already when reading is paused."""
    gate = asyncio.Event()

    async def later() -> bool:
        return await gate.wait()

    encrypted = Encrypted(loop, Doubts(later))
    loop.call(encrypted.life.smtp.data_received, b"NOOP\r\n")
    assert encrypted.inside.take() == ""
    loop.call(gate.set)
    assert encrypted.inside.take() == "250 OK\r\n"
    assert encrypted.inside.is_reading()


def fail() -> bool:
    raise ValueError("secret")


async def hang() -> bool:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("decision", [fail, hang])
def test_a_hook_that_fails_ends_the_session(
    loop: FakeLoop,
    decision: Callable[[], bool | Awaitable[bool]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    encrypted = Encrypted(loop, Doubts(decision), handler_timeout=5)
    loop.advance(5)
    assert (encrypted.inside.take(), encrypted.inside.ends) == ("", ["abort"])
    assert levels(caplog) == [logging.ERROR]
    assert encrypted.life.notes == ["greeted", "gone"]


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError()], ids=repr)
def test_a_handshake_behind_starttls_that_fails(
    loop: FakeLoop, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    encrypted = Encrypted(loop, None, error)
    assert encrypted.life.transport.ends == ["abort"]
    assert levels(caplog) == [logging.INFO]
    assert encrypted.life.notes == ["greeted", "gone"]
    assert len(encrypted.life.sessions) == 0


def test_the_service_ends_while_the_hook_waits(loop: FakeLoop) -> None:
    gate = asyncio.Event()

    async def later() -> bool:
        return await gate.wait()

    encrypted = Encrypted(loop, Doubts(later))
    loop.call(encrypted.life.smtp.shut_down)
    assert encrypted.inside.take() == ""
    loop.call(gate.set)
    assert encrypted.inside.take().startswith("421 4.3.2")


def test_the_service_ends_at_once_in_the_middle_of_a_handshake(loop: FakeLoop) -> None:
    encrypted = Encrypted(loop, Doubts(hang))
    loop.call(encrypted.life.smtp.abort)
    assert (encrypted.inside.take(), encrypted.inside.ends) == ("", ["abort"])
    assert encrypted.life.notes == ["greeted", "gone"]


# Closing.


def test_the_service_ends_between_transactions(loop: FakeLoop) -> None:
    life = Life(loop)
    life.arrive()
    life.transport.take()
    loop.call(life.smtp.shut_down)
    assert life.said.startswith("421 4.3.2")
    assert life.transport.ends == ["close"]


def test_a_transaction_is_finished_first(loop: FakeLoop) -> None:
    life = Life(loop)
    peer = life.arrive()
    peer.tell(*TRANSACTION)
    loop.call(life.smtp.shut_down)
    assert life.said == ""
    answers = peer.tell("DATA", "x", ".").splitlines()
    assert [line[:3] for line in answers] == ["250", "421"]


def test_a_hook_is_finished_first(loop: FakeLoop) -> None:
    handler = Notes()
    life = Life(loop, handler)
    peer = life.arrive()
    handler.gate.clear()
    peer.tell(*TRANSACTION, "DATA", "x", ".")
    loop.call(life.smtp.shut_down)
    assert life.said == ""
    loop.call(handler.gate.set)
    assert [line[:3] for line in life.said.splitlines()] == ["250", "421"]


def test_an_abort_cancels_the_hook(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    handler = Notes()
    life = Life(loop, handler)
    peer = life.arrive()
    handler.gate.clear()
    peer.tell(*TRANSACTION, "DATA", "x", ".")
    loop.call(life.smtp.abort)
    assert life.said.startswith("421 4.3.2")
    peer.lose()
    assert handler.seen == ["greeted", "began", "gone"]
    assert caplog.records == []


def test_an_end_behind_the_end(loop: FakeLoop) -> None:
    life = Life(loop)
    peer = life.arrive()
    assert peer.tell("QUIT").endswith("221 Bye\r\n")
    loop.call(life.smtp.abort)
    loop.call(life.smtp.shut_down)
    assert life.said == ""
    peer.lose()
    loop.call(life.smtp.abort)


# Gone.


def test_goodbye_is_said_once(loop: FakeLoop) -> None:
    life = Life(loop)
    peer = life.arrive()
    peer.lose()
    loop.call(life.smtp.connection_lost, None)
    assert life.notes == ["greeted", "gone"]
    assert len(life.sessions) == 0


def test_a_handler_without_goodbye(loop: FakeLoop) -> None:
    class Silent(Handler):
        pass

    life = Life(loop, Silent())
    life.arrive().lose()
    assert len(life.sessions) == 0


def test_goodbye_comes_after_the_hook(loop: FakeLoop) -> None:
    handler = Notes()
    life = Life(loop, handler)
    peer = life.arrive()
    handler.gate.clear()
    peer.tell(*TRANSACTION, "DATA", "x", ".")
    peer.lose(ConnectionResetError())
    assert handler.seen[-1] == "began"
    assert len(life.sessions) == 1
    loop.call(handler.gate.set)
    assert handler.seen[-2:] == ["message", "gone"]
    assert len(life.sessions) == 0


def test_a_goodbye_that_fails(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Notes):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
            raise SystemExit(1)

    life = Life(loop, Fails())
    life.arrive().lose()
    assert levels(caplog) == [logging.ERROR]
    assert len(life.sessions) == 0


@pytest.mark.parametrize("way", ["end", "end of TLS", "close of TLS"])
def test_what_came_before_the_end_is_worked_through(loop: FakeLoop, way: str) -> None:
    handler = Notes()
    life = Life(loop, handler, half_closes=way == "end")
    peer = life.arrive()
    handler.gate.clear()
    peer.send("\r\n".join((*TRANSACTION, "DATA", "x", ".", "")))
    assert way == "close of TLS" or peer.end() is (way == "end")
    if way != "end":
        peer.lose()
    loop.call(handler.gate.set)
    assert "message" in handler.seen
    if way == "end":
        assert life.said.endswith("250 Kept\r\n")
        peer.lose()
    assert handler.seen[-1] == "gone"


def test_a_message_that_was_cut_is_not_delivered(loop: FakeLoop) -> None:
    for error in (None, ConnectionResetError()):
        life = Life(loop)
        peer = life.arrive()
        peer.tell(*TRANSACTION, "DATA", "half")
        peer.lose(error)
        assert life.notes == ["greeted", "gone"]


def test_a_client_that_is_reset_is_not_worked_for(loop: FakeLoop) -> None:
    """Nobody would be told."""
    handler = Notes()
    life = Life(loop, handler)
    peer = life.arrive()
    handler.gate.clear()
    message = "\r\n".join((*TRANSACTION, "DATA", "x", ".", ""))
    peer.send(message * 2)
    peer.lose(ConnectionResetError())
    loop.call(handler.gate.set)
    assert handler.seen == ["greeted", "began", "message", "gone"]


def test_a_client_goes_in_the_middle_of_auth(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(loop, auth_callback=lambda *_: True, auth_require_tls=False)
    peer = life.arrive()
    assert peer.tell("EHLO client.test", "AUTH LOGIN").startswith("334")
    peer.lose(ConnectionResetError())
    assert life.notes == ["greeted", "gone"]
    assert caplog.records == []


def test_a_connection_of_no_service(loop: FakeLoop) -> None:
    life = Life(loop)
    life.smtp.sessions = None
    life.arrive().lose()
    assert life.notes == ["greeted", "gone"]


def test_nothing_is_left_of_a_life(loop: FakeLoop) -> None:
    life = Life(loop)
    peer = life.arrive()
    peer.tell(*TRANSACTION)
    peer.lose()
    assert loop.timers == 0
    assert asyncio.all_tasks(loop) == set()


def test_who_is_there(loop: FakeLoop) -> None:
    wanted: dict[object, Peer] = {("::ffff:192.0.2.9", 1, 0, 0): ("192.0.2.9", 1), "": None}
    for address, peer in wanted.items():
        life = Life(loop, peer=address)
        life.arrive()
        assert life.smtp.session.peer == peer
