"""PROXY: reads the header that comes before everything else, and not one octet more.

What follows may be TLS, which could not be handed on if it had been read.
"""

import asyncio

from smtp_protocol import ProxyData, ProxyHeaderError, ProxyHeaderReader

__all__: list[str] = []


class HeaderReader(asyncio.BufferedProtocol):
    """The protocol of a connection until its PROXY header is complete, and reading is paused.

    Args:
        transport: The connection, whose protocol this becomes at once.
        loop: Its event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._header: asyncio.Future[ProxyData | ProxyHeaderError] = loop.create_future()
        self._reader = ProxyHeaderReader()
        self._buffer = bytearray()
        self._transport = transport
        self._before = transport.get_protocol()
        transport.set_protocol(self)

    async def read(self, limit: float) -> ProxyData:
        """Wait for the header, and give the connection back to the protocol that it had.

        Args:
            limit: How long the header may take, in seconds.

        Raises:
            ProxyHeaderError: There is none, or none in time.
        """
        try:
            async with asyncio.timeout(limit):
                header = await self._header
        except TimeoutError:
            raise ProxyHeaderError(f"no PROXY header within {limit:g} seconds") from None
        finally:
            self._transport.set_protocol(self._before)
        if isinstance(header, ProxyHeaderError):
            raise header
        return header

    # What asyncio calls.

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give room for what surely belongs to the header."""
        self._buffer = bytearray(self._reader.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        if self._header.done():
            return
        header: ProxyData | ProxyHeaderError | None
        try:
            header = self._reader.receive_data(bytes(self._buffer[:nbytes]))
        except ProxyHeaderError as error:
            header = error
        if header is not None:
            self._transport.pause_reading()
            self._header.set_result(header)

    def eof_received(self) -> None:
        """The header will not be complete."""
        self._give_up()

    def connection_lost(self, error: Exception | None) -> None:
        """The header will not be complete."""
        self._give_up()

    def _give_up(self) -> None:
        if not self._header.done():
            self._header.set_result(ProxyHeaderError("the connection ended in the PROXY header"))
