"""PROXY: reads the header that comes before everything else, and not one octet more.

What follows may be TLS, which could not be handed on if it had been read.
"""

import asyncio
from typing import cast

from smtp_protocol import ProxyData, ProxyHeaderError, ProxyHeaderReader

__all__: list[str] = []


async def read_proxy_header(
    transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, limit: float
) -> ProxyData:
    """Read the header with which a connection begins; reading is paused behind it.

    Args:
        transport: The connection, whose protocol this becomes.
        loop: Its event loop.
        limit: How long it may take, in seconds.

    Raises:
        ProxyHeaderError: There is none.
        TimeoutError: There is none in time.
    """
    reader = ProxyHeaderProtocol(loop)
    reader.connection_made(transport)
    transport.set_protocol(reader)
    async with asyncio.timeout(limit):
        return await reader.header


class ProxyHeaderProtocol(asyncio.BufferedProtocol):
    """The protocol of a connection until its PROXY header is complete.

    Attributes:
        header: The header, or the `ProxyHeaderError` of a connection that does not have one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.header: asyncio.Future[ProxyData] = loop.create_future()
        self._reader = ProxyHeaderReader()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a connection."""
        self._transport = cast(asyncio.Transport, transport)

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
            if self._transport is not None:
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
