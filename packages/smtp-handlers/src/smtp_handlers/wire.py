"""Wire: one connection as octets out, with back-pressure, and replies in; either may fail."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from typing import cast

from smtp_protocol import Reply, ReplyReader

__all__: list[str] = []

# Replies that may wait to be read. A server that sends more talks to itself.
_MOST_UNREAD = 1000

_BARE = re.compile(rb"\r\n?|\n")


class WireError(Exception):
    """The connection is gone, or what came is no reply."""


class Wire(asyncio.Protocol):
    """The client's end of a connection."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._reader = ReplyReader()
        self._unread: deque[Reply] = deque()
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
        return self._failure is None and not self._unread

    async def reply(self) -> Reply:
        """Read the next reply.

        Raises:
            WireError: There will be none.
        """
        while not self._unread:
            if self._failure is not None:
                raise WireError(self._failure)
            await self.stir()
        return self._unread.popleft()

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

    def abort(self) -> None:
        """Close the connection at once."""
        self._fail("closed")
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
        self._reader.receive_data(data)
        try:
            while (reply := self._reader.next_reply()) is not None:
                self._unread.append(reply)
        except ValueError as error:
            self._fail(str(error))
        if len(self._unread) > _MOST_UNREAD:
            self._fail("the server does not stop talking")
        if self._failure is not None:
            self._transport.abort()
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


class DotStuffer:
    """Makes the octets of a message what stands on the wire after DATA (RFC 5321 §4.5.2).

    Every line ends with CR LF then, for what one server takes for a line's end and another does
    not is how messages are smuggled.
    """

    def __init__(self) -> None:
        self._at_line_start = True
        self._cr = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next part of the message; a CR at its end waits for what follows."""
        data = self._cr + chunk
        self._cr = b""
        if data.endswith(b"\r"):
            data, self._cr = data[:-1], b"\r"
        return self._stuff(data)

    def finish(self) -> bytes:
        """End the message."""
        rest = self._stuff(self._cr)
        return rest + (b".\r\n" if self._at_line_start else b"\r\n.\r\n")

    def _stuff(self, data: bytes) -> bytes:
        if not data:
            return data
        newlines = data.count(b"\r\n")
        if data.count(b"\n") != newlines or data.count(b"\r") != newlines:
            data = _BARE.sub(b"\r\n", data)
        if self._at_line_start and data.startswith(b"."):
            data = b"." + data
        self._at_line_start = data.endswith(b"\r\n")
        return data.replace(b"\r\n.", b"\r\n..")
