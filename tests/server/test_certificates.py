"""TLS: contexts that can be made anew, and what a handshake in memory agrees upon."""

import asyncio
import socket
import ssl
import sys
from typing import Any

import pytest
from tests.server.fakes import FakeLoop, FakeTransport
from tests.server.secure import (
    client_context,
    server_context,
    shake_hands,
    shared_client_context,
    step,
)

from smtp_server.tls import Certificates, has_ended, start_tls, tls_info


def careless() -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# What was agreed upon.


def test_what_a_handshake_agrees_upon() -> None:
    info = tls_info(shake_hands(Certificates(server_context()).context, shared_client_context()))
    assert info.version == "TLSv1.3"
    assert info.cipher
    assert info.peer_certificate is None
    assert info.sni == "localhost"


def test_a_clients_certificate() -> None:
    certificates = Certificates(server_context(ask=True))
    info = tls_info(shake_hands(certificates.context, client_context("client.test")))
    assert info.peer_certificate is not None


def test_a_client_that_asks_for_no_name() -> None:
    info = tls_info(shake_hands(Certificates(server_context()).context, careless(), None))
    assert info.sni is None


def test_a_name_that_is_none_is_not_given_to_a_callback() -> None:
    """It could not be told it: Python prints a traceback where it is not ASCII."""
    asked: list[object] = []
    context = server_context()
    context.sni_callback = lambda *question: asked.append(question)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = Certificates(context).context.wrap_bio(to_server, to_client, server_side=True)
    client = careless().wrap_bio(ssl.MemoryBIO(), hello := ssl.MemoryBIO(), server_hostname="zzzz")
    assert not step(client)
    to_server.write(hello.read().replace(b"zzzz", b"z\xffz\xff"))
    with pytest.raises(ssl.SSLError, match="a server name that is none"):
        server.do_handshake()
    assert asked == []


def test_the_users_own_callback_chooses_by_name() -> None:
    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    assert tls_info(shake_hands(Certificates(context).context, careless(), "other.test")).sni
    assert asked == ["other.test"]


def test_a_kind_of_tls_of_the_users_own() -> None:
    class Mine(ssl.SSLObject):
        pass

    context = server_context()
    context.sslobject_class = Mine
    side = shake_hands(Certificates(context).context, careless())
    assert isinstance(side, Mine)
    assert tls_info(side).sni is None


# Contexts.


def test_a_context_stays() -> None:
    certificates = Certificates(server_context())
    certificates.reload()
    shake_hands(certificates.context, shared_client_context())


def test_a_function_is_asked_again() -> None:
    names = iter(["one.test", "two.test"])
    certificates = Certificates(lambda: server_context(next(names)))
    before = certificates.context
    shake_hands(certificates.context, shared_client_context(), "one.test")
    certificates.reload()
    assert certificates.context is not before
    shake_hands(certificates.context, shared_client_context(), "two.test")


def test_a_function_that_fails_leaves_the_context_before() -> None:
    sources = iter([server_context()])
    certificates = Certificates(lambda: next(sources))
    with pytest.raises(StopIteration):
        certificates.reload()
    shake_hands(certificates.context, shared_client_context())


@pytest.mark.parametrize("source", [lambda: None, lambda: "cert.pem"])
def test_what_is_no_context(source: Any) -> None:
    with pytest.raises(TypeError, match=r"a TLS context is an ssl\.SSLContext"):
        Certificates(source)


# The handshake of a connection.


def test_a_connection_that_is_lost_right_behind_its_handshake() -> None:
    """Its TLS then says that there was none."""
    tls = server_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    info = tls_info(tls)
    assert (info.cipher, info.peer_certificate, info.sni) == ("", None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="it does not tell")
def test_the_end_of_a_peer_is_seen_before_it_is_read() -> None:
    here, there = socket.socketpair()
    transport = FakeTransport()
    transport.extra["socket"] = here
    with here, there:
        there.send(b"unread")
        assert not has_ended(transport)
        there.shutdown(socket.SHUT_WR)
        assert has_ended(transport)


async def begin(loop: FakeLoop, transport: FakeTransport) -> asyncio.Transport:
    certificates = Certificates(server_context())
    return await start_tls(loop, transport, asyncio.Protocol(), certificates, 1)


def test_a_handshake_gives_the_transport_of_what_is_inside(loop: FakeLoop) -> None:
    loop.encrypted = FakeTransport()
    assert loop.complete(begin(loop, FakeTransport())) is loop.encrypted


def test_a_connection_that_is_lost_before(loop: FakeLoop) -> None:
    transport = FakeTransport()
    transport.abort()
    with pytest.raises(ConnectionResetError, match="before the handshake"):
        loop.complete(begin(loop, transport))


def test_a_connection_that_is_lost_meanwhile(loop: FakeLoop) -> None:
    """asyncio tells so with no transport at all."""
    with pytest.raises(ConnectionResetError, match="in the handshake"):
        loop.complete(begin(loop, FakeTransport()))
