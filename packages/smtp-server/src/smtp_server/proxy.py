"""PROXY: reads the header that comes before everything else, and not one octet more.

What follows may be TLS, which could not be handed on if it had been read.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from smtp_protocol import Connected, ProxyData, ProxyHeaderError, ProxyHeaderReader

if TYPE_CHECKING:
    from smtp_server.smtp import SMTP

__all__: list[str] = []


async def meet_client(
    smtp: SMTP, reader: ProxyHeaderProtocol, transport: asyncio.Transport
) -> None:
    """Let the PROXY header say who the client of ``smtp`` is.

    Args:
        smtp: The connection, whose session has the proxy as its peer so far.
        reader: What reads the header.
        transport: The transport, whose protocol is ``smtp`` again in the end.

    Raises:
        ProxyHeaderError: There is none, from a peer that is trusted, that the handler takes.
        TimeoutError: There is none in time.
    """
    session, hooks = smtp.session, smtp.hooks
    if session.peer not in smtp.setup.proxies:
        raise ProxyHeaderError(f"a PROXY header from {session.peer_host} is not trusted")
    async with asyncio.timeout(smtp.setup.settings.proxy_protocol_timeout):
        header = await reader.header
    transport.set_protocol(smtp)
    session.proxy_data = replace(header, peer=session.peer)
    if isinstance(header.src_addr, str):
        session.peer = header.src_addr
    elif header.src_addr is not None:
        session.peer = (str(header.src_addr), header.src_port or 0)
    try:
        accepted = await hooks.handle_PROXY(smtp, session, smtp.envelope, session.proxy_data)
    except Exception as error:
        smtp.log_failure(Connected(), error)
        accepted = False
    if not accepted:
        raise ProxyHeaderError("the handler refused it")
    transport.resume_reading()


class ProxyHeaderProtocol(asyncio.BufferedProtocol):
    """The protocol of a connection until its PROXY header is complete, and reading is paused.

    Args:
        transport: The connection, whose protocol this becomes.
        loop: Its event loop.

    Attributes:
        header: The header, or the `ProxyHeaderError` of a connection that does not have one.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.header: asyncio.Future[ProxyData] = loop.create_future()
        self._reader = ProxyHeaderReader()
        self._buffer = bytearray()
        self._transport = transport
        transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give room for what surely belongs to the header."""
        self._buffer = bytearray(self._reader.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        if self.header.done():
            return
        try:
            header = self._reader.receive_data(bytes(self._buffer[:nbytes]))
        except ProxyHeaderError as error:
            self.header.set_exception(error)
            return
        if header is not None:
            self._transport.pause_reading()
            self.header.set_result(header)

    def eof_received(self) -> None:
        """The header will not be complete."""
        self._give_up()

    def connection_lost(self, error: Exception | None) -> None:
        """The header will not be complete."""
        self._give_up()

    def _give_up(self) -> None:
        if not self.header.done():
            self.header.set_exception(ProxyHeaderError("cut short"))
