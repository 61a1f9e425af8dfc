"""Opening: what a connection goes through before its greeting: PROXY header, TLS, a delay."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from smtp_protocol import Peer, ProxyData, ProxyHeaderError, unmapped
from smtp_protocol.auth import decided
from smtp_server.dispatch import timed
from smtp_server.exchange import Exchange
from smtp_server.proxy import HeaderReader
from smtp_server.settings import Settings
from smtp_server.tls import CallbackError, Certificates

__all__: list[str] = []


class NoSession(Exception):
    """The connection is closed without a word, for the reason that the text tells.

    A cause is the failure of something of the user's.
    """


def takes_steps(settings: Settings) -> bool:
    """Whether anything comes before the greeting of a connection that begins in the clear."""
    return settings.proxy_protocol_timeout is not None or settings.greeting_delay > 0


async def take_header(exchange: Exchange, reader: HeaderReader, limit: float) -> None:
    """Let the PROXY header say who the client is, and leave reading paused behind it.

    Args:
        exchange: The connection, whose session has the proxy as its peer so far.
        reader: What reads the header.
        limit: How long it may take, in seconds.

    Raises:
        NoSession: There is none, or none in time; or the peer is not trusted, or the handler
            refuses it.
    """
    session = exchange.session
    if session.peer not in exchange.setup.proxies:
        raise NoSession(f"a PROXY header from {session.peer_host} is not trusted")
    try:
        header = await reader.read(limit)
    except ProxyHeaderError as error:
        raise NoSession(str(error)) from None
    session.proxy_data = replace(header, peer=session.peer)
    session.peer = _client(header, session.peer)
    ask = exchange.hooks.handle_PROXY(exchange, session, exchange.envelope, session.proxy_data)
    if not decided(await timed(ask, exchange)):
        raise NoSession("the handler refused the PROXY header")


def _client(header: ProxyData, proxy: Peer) -> Peer:
    if header.src_addr is None:
        return proxy
    if isinstance(header.src_addr, str):
        return header.src_addr
    return unmapped(str(header.src_addr)), header.src_port or 0


async def take_socket(
    protocol: asyncio.BaseProtocol, sock: socket.socket, tls: Certificates | None, limit: float
) -> None:
    """Have a socket that was accepted become a connection.

    Args:
        protocol: What becomes its protocol.
        sock: The socket. It belongs to the event loop from now on.
        tls: With it, TLS begins at once.
        limit: How long the handshake may take, in seconds.

    Raises:
        NoSession: The handshake failed, or took too long.
    """
    take = asyncio.get_running_loop().connect_accepted_socket
    if tls is None:
        await take(lambda: protocol, sock)
        return
    with handshake_errors():
        await take(lambda: protocol, sock, ssl=tls.context, ssl_handshake_timeout=limit)


@contextmanager
def handshake_errors() -> Iterator[None]:
    """Make one error of all those that a TLS handshake has."""
    try:
        yield
    except CallbackError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise NoSession("the TLS handshake failed: the sni_callback failed") from error.__cause__
    except OSError as error:
        why = str(error) or type(error).__name__
        raise NoSession(f"the TLS handshake failed: {why}") from None


def is_gone(transport: asyncio.BaseTransport) -> bool:
    """Whether a client without an address came over TCP, and went before anybody saw who it was.

    It would be taken for one that comes over a Unix socket, and trusted like one.
    """
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6)


def peer_of(address: object) -> Peer:
    """The peer of a socket's address; an IPv4-mapped IPv6 address becomes the IPv4 address."""
    if isinstance(address, tuple):
        return unmapped(address[0]), address[1]
    return address if isinstance(address, str) and address else None
