"""Opening: what a connection goes through before its greeting: PROXY header, TLS, a delay."""

import asyncio
import socket
from dataclasses import replace
from typing import Protocol

from smtp_protocol import Peer, ProxyData, ProxyHeaderError, unmapped
from smtp_server.exchange import Exchange
from smtp_server.proxy import HeaderReader
from smtp_server.settings import Settings
from smtp_server.tls import Certificates

__all__: list[str] = []


class NoSession(Exception):
    """The connection is closed without a word, for the reason that the text tells."""


class Opened(Exchange, asyncio.BaseProtocol, Protocol):
    """A connection that is being opened."""

    @property
    def transport(self) -> asyncio.Transport:
        """What it reads from and writes to."""

    def make_engine(self, *, tls: bool) -> None:
        """Begin the protocol, for the client that is known by now."""

    async def encrypt(self, certificates: Certificates) -> None:
        """Do the TLS handshake of a connection that is there in the clear."""


def takes_steps(settings: Settings) -> bool:
    """Whether anything comes before the greeting of a connection that begins in the clear."""
    return settings.proxy_protocol_timeout is not None or settings.greeting_delay > 0


def check_proxy(connection: Opened) -> None:
    """See whether a PROXY header is taken from the peer at all.

    Raises:
        NoSession: It is not.
    """
    session = connection.session
    if session.peer not in connection.setup.proxies:
        raise NoSession(f"a PROXY header from {session.peer_host} is not trusted")


async def take_header(connection: Opened, reader: HeaderReader, limit: float) -> None:
    """Let the PROXY header say who the client is.

    Args:
        connection: The connection, whose session has the proxy as its peer so far.
        reader: What reads the header.
        limit: How long it may take, in seconds.

    Raises:
        NoSession: There is none in time, or the handler refuses it.
    """
    session = connection.session
    try:
        header = await reader.read(limit)
    except ProxyHeaderError as error:
        raise NoSession(str(error)) from None
    session.proxy_data = replace(header, peer=session.peer)
    session.peer = _client(header, session.peer)
    accept = connection.hooks.handle_PROXY
    if not await accept(connection, session, connection.envelope, session.proxy_data):
        raise NoSession("the handler refused the PROXY header")
    connection.transport.resume_reading()


def _client(header: ProxyData, proxy: Peer) -> Peer:
    if header.src_addr is None:
        return proxy
    if isinstance(header.src_addr, str):
        return header.src_addr
    return unmapped(str(header.src_addr)), header.src_port or 0


async def accept_tls(
    connection: Opened, sock: socket.socket, certificates: Certificates, limit: float
) -> None:
    """Have a socket that was accepted begin with TLS.

    Args:
        connection: What becomes its protocol.
        sock: The socket. It belongs to the event loop from now on.
        certificates: The context.
        limit: How long the handshake may take, in seconds.

    Raises:
        OSError: The handshake failed, or took too long.
    """
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: connection, sock, ssl=certificates.context, ssl_handshake_timeout=limit
    )


def peer_of(address: object) -> Peer:
    """The peer of an address that a socket has told: an IPv4 client is one in IPv6 clothes, too."""
    if isinstance(address, tuple):
        return unmapped(address[0]), address[1]
    return address if isinstance(address, str) and address else None
