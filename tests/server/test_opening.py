"""Opening: what a connection goes through before its greeting."""

import asyncio
import socket
import ssl
from types import SimpleNamespace

import pytest
from tests.server.fakes import FakeExchange, FakeLoop, FakeTransport
from tests.server.secure import shared_server_context

from smtp_protocol import Envelope, Handler, Peer, ProxyData, Server, Session
from smtp_server.opening import (
    NoSession,
    handshake_errors,
    is_gone,
    peer_of,
    take_header,
    take_socket,
    takes_steps,
)
from smtp_server.proxy import HeaderReader
from smtp_server.settings import Settings
from smtp_server.tls import Certificates

LIMIT = 3.0
PROXY: Peer = ("10.0.0.1", 5000)


class Looks(Handler):
    """Keeps what it is told of the header."""

    def __init__(self, *, accept: bool = True) -> None:
        self.accept = accept
        self.headers: list[ProxyData] = []

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        self.headers.append(proxy_data)
        return self.accept


class Arrival:
    """A connection that begins with a PROXY header."""

    def __init__(self, loop: FakeLoop, handler: Handler, peer: Peer = PROXY) -> None:
        self.loop = loop
        self.transport = FakeTransport()
        self.reader = HeaderReader(self.transport, loop)
        self.fake = FakeExchange(
            handler, proxy_protocol_timeout=LIMIT, proxy_trusted=("10.0.0.0/8",)
        )
        self.fake.session.peer = peer

    def send(self, octets: bytes) -> None:
        while octets:
            room = self.reader.get_buffer(-1)
            size = min(len(room), len(octets))
            room[:size], octets = octets[:size], octets[size:]
            self.loop.call(self.reader.buffer_updated, size)

    def take(self) -> Session:
        self.loop.complete(take_header(self.fake, self.reader, LIMIT))
        return self.fake.session


# Whether anything comes first.


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (Settings(), False),
        (Settings(tls_context=shared_server_context()), False),
        (Settings(proxy_protocol_timeout=1), True),
        (Settings(greeting_delay=0.1), True),
    ],
)
def test_whether_anything_comes_before_the_greeting(settings: Settings, steps: bool) -> None:
    assert takes_steps(settings) is steps


# The PROXY header.


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 25\r\n", ("192.0.2.7", 1000)),
        (b"PROXY TCP6 2001:db8::7 ::1 1000 25\r\n", ("2001:db8::7", 1000)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1000 25\r\n", ("192.0.2.7", 1000)),
        (b"PROXY UNKNOWN\r\n", PROXY),
    ],
)
def test_the_header_says_who_the_client_is(loop: FakeLoop, header: bytes, peer: Peer) -> None:
    handler = Looks()
    arrival = Arrival(loop, handler)
    arrival.send(header)
    session = arrival.take()
    assert session.peer == peer
    assert session.proxy_data is handler.headers[0]
    assert session.proxy_data.peer == PROXY
    assert not arrival.transport.is_reading(), "what follows may be TLS"


def test_a_client_of_a_unix_socket(loop: FakeLoop) -> None:
    arrival = Arrival(loop, Looks())
    path = b"/run/client".ljust(108, b"\0")
    arrival.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + (216).to_bytes(2) + 2 * path)
    assert arrival.take().peer == "/run/client"


def test_a_peer_that_is_not_trusted(loop: FakeLoop) -> None:
    handler = Looks()
    arrival = Arrival(loop, handler, ("192.0.2.1", 5000))
    arrival.send(b"PROXY UNKNOWN\r\n")
    with pytest.raises(NoSession, match=r"a PROXY header from 192\.0\.2\.1 is not trusted"):
        arrival.take()
    assert handler.headers == []


def test_no_header_in_time(loop: FakeLoop) -> None:
    arrival = Arrival(loop, Looks())
    with pytest.raises(NoSession, match="within 3 seconds"):
        arrival.take()
    assert loop.time() == LIMIT


def test_something_else_than_a_header(loop: FakeLoop) -> None:
    arrival = Arrival(loop, Looks())
    arrival.send(b"EHLO client.test\r\n"[:8])
    with pytest.raises(NoSession):
        arrival.take()


def test_a_connection_that_ends_in_the_header(loop: FakeLoop) -> None:
    arrival = Arrival(loop, Looks())
    arrival.send(b"PROXY ")
    arrival.reader.eof_received()
    arrival.reader.connection_lost(None)
    with pytest.raises(NoSession, match="ended in the PROXY header"):
        arrival.take()


def test_a_handler_that_refuses_the_header(loop: FakeLoop) -> None:
    arrival = Arrival(loop, Looks(accept=False))
    arrival.send(b"PROXY UNKNOWN\r\n")
    with pytest.raises(NoSession, match="the handler refused"):
        arrival.take()


# The socket, and the handshake.


@pytest.mark.parametrize("tls", [None, Certificates(shared_server_context())])
def test_a_socket_becomes_a_connection(loop: FakeLoop, tls: Certificates | None) -> None:
    loop.encrypted = transport = FakeTransport()
    protocol = asyncio.Protocol()
    with socket.socket() as sock:
        loop.complete(take_socket(protocol, sock, tls, LIMIT))
    assert transport.get_protocol() is protocol


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionResetError("reset"), "the TLS handshake failed: reset"),
        (ssl.SSLError(1, "no cipher"), "the TLS handshake failed: no cipher"),
        (TimeoutError(), "the TLS handshake failed: TimeoutError"),
    ],
)
def test_a_handshake_that_fails(loop: FakeLoop, error: OSError, why: str) -> None:
    loop.encrypted = error
    certificates = Certificates(shared_server_context())
    with socket.socket() as sock, pytest.raises(NoSession) as told:
        loop.complete(take_socket(asyncio.Protocol(), sock, certificates, LIMIT))
    assert why in str(told.value)
    assert told.value.__suppress_context__, "what a peer does has no traceback"


def test_a_failure_of_the_program_is_no_failure_of_the_handshake() -> None:
    with pytest.raises(ValueError, match="mistake"), handshake_errors():
        raise ValueError("mistake")


# Who is there.


@pytest.mark.parametrize(
    ("family", "gone"), [(socket.AF_INET, True), (socket.AF_INET6, True), (None, False)]
)
def test_a_client_that_went_before_its_address_was_seen(
    family: socket.AddressFamily | None, gone: bool
) -> None:
    transport = FakeTransport(None)
    if family is not None:
        transport.extra["socket"] = SimpleNamespace(family=family)
    assert is_gone(transport) is gone


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 1000), ("192.0.2.1", 1000)),
        (("::ffff:192.0.2.1", 1000, 0, 0), ("192.0.2.1", 1000)),
        (("2001:db8::1", 1000, 0, 0), ("2001:db8::1", 1000)),
        (("fe80::1%eth0", 1000, 0, 2), ("fe80::1%eth0", 1000)),
        ("/run/socket", "/run/socket"),
        ("", None),
        (b"\0abstract", None),
        (None, None),
    ],
)
def test_the_peer_of_an_address(address: object, peer: Peer) -> None:
    assert peer_of(address) == peer
