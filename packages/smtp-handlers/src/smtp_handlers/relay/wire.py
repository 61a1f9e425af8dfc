"""Wire: one connection as octets out, with back-pressure, and replies in; either may fail."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from smtp_protocol import Reply, ReplyReader

__all__: list[str] = []

# Octets that may come while nobody reads a reply: more than LMTP's answers for a thousand
# recipients. A server that sends more talks to itself.
_MOST_UNREAD = 256 * 1024


class WireError(Exception):
    """The connection is gone, or what came is no reply."""


class Wire(asyncio.Protocol):
    """The client's end of a connection."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._reader = ReplyReader()
        self._unread: deque[Reply] = deque()
        self._octets_unread = 0
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def unread(self) -> bool:
        """Whether there is a reply that nobody has read."""
        return bool(self._unread)

    @property
    def idle(self) -> bool:
        """Whether the connection is there, and the peer has said nothing that is not read."""
        return self._failure is None and not self._octets_unread

    async def reply(self) -> Reply:
        """Read the next reply.

        Raises:
            WireError: There will be none.
        """
        while not self._unread:
            if self._failure is not None:
                raise WireError(self._failure)
            await self.stir()
        reply = self._unread.popleft()
        if not self._unread:
            self._octets_unread = 0
        return reply

    async def stir(self) -> None:
        """Wait until something comes, the connection is lost, or `wake` is called."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        """End a `stir`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def write(self, octets: bytes) -> None:
        """Send, and return when the peer has taken enough of what was sent.

        Raises:
            WireError: The connection is gone.
        """
        if self._failure is None:
            self._transport.write(octets)
            await self._writable.wait()
        if self._failure is not None:
            raise WireError(self._failure)

    async def start_tls(self, context: ssl.SSLContext, name: str | None) -> None:
        """Begin TLS. What the peer sent before is forgotten, as RFC 3207 §4.2 wants.

        Raises:
            OSError: The handshake failed.
        """
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, context, server_hostname=name)
        if transport is None:
            raise ConnectionResetError("lost during the TLS handshake")
        self._transport = transport
        self._reader = ReplyReader()
        self._unread.clear()
        self._octets_unread = 0

    def abort(self) -> None:
        """Close the connection at once."""
        self._break("closed")

    def _break(self, why: str) -> None:
        self._fail(why)
        self._transport.abort()

    def _fail(self, why: str) -> None:
        if self._failure is None:
            self._failure = why
        self._writable.set()
        self.wake()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        if self._failure is not None:
            return
        self._octets_unread += len(data)
        self._reader.receive_data(data)
        try:
            while (reply := self._reader.next_reply()) is not None:
                self._unread.append(reply)
        except ValueError as error:
            self._break(str(error))
        if self._octets_unread > _MOST_UNREAD:
            self._break("the server does not stop talking")
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._fail(str(exc or "the server closed the connection"))

    def pause_writing(self) -> None:
        """The peer does not take it as fast as it is sent."""
        if self._failure is None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """The peer takes more."""
        self._writable.set()
