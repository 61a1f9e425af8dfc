"""Link: one connection below SMTP: octets in and out, silence, the TLS handshake, the end."""

import asyncio
import sys
import threading
from abc import abstractmethod
from collections.abc import Coroutine
from time import monotonic
from typing import cast

from smtp_protocol.session import Peer
from smtp_server.tls import Certificates, start_tls

__all__: list[str] = []

# Seconds that a peer has to read its last replies after the session's end.
_LINGER = 2.0


class _Inbox(threading.local):
    """Where a thread's event loop puts what it reads; taken out before it reads again.

    Making room anew for each read costs more than all that is done with the octets. It is looked up
    for each: a loop may go on in another thread.
    """

    def __init__(self) -> None:
        self.room = memoryview(bytearray(128 * 1024))


_inbox = _Inbox()


class Link(asyncio.BufferedProtocol):
    """A connection that can do one errand at a time, and ends without losing what it said."""

    # There are many connections: with slots each is smaller, and its attributes quicker to reach.
    __slots__ = (
        "_hung_up",
        "_last_sign",
        "_linger",
        "_loop",
        "_lost",
        "_output",
        "_reading",
        "_task",
        "_timer",
        "_transport",
        "_writing",
    )

    _transport: asyncio.Transport
    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._output: list[bytes] = []
        # The hook that is at work, or another errand that the next event has to wait for.
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_sign = 0.0
        self._reading = True
        self._writing = True
        self._linger = True
        self._hung_up = False
        self._lost = False

    # What is left to the protocol above.

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""

    @abstractmethod
    def _advance(self) -> None:
        """Go on with what has come, as far as it is possible now."""

    @abstractmethod
    def _patience(self) -> float | None:
        """How many seconds of silence the peer may keep now; ``None`` for any number."""

    @abstractmethod
    def _silent(self, seconds: float) -> None:
        """The peer has kept silent for too long."""

    @abstractmethod
    def _leave(self) -> None:
        """Do what is to be done when the connection is gone and no errand under way."""

    # The beginning.

    def _attach(
        self, transport: asyncio.BaseTransport, loop: asyncio.AbstractEventLoop | None
    ) -> Peer:
        """Take the connection; who is at its other end comes back."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = loop or asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        return peer[:2] if isinstance(peer, tuple) else (peer or None)

    async def _encrypt(self, certificates: Certificates, limit: float) -> None:
        """Do the TLS handshake, within ``limit`` seconds.

        Raises:
            OSError: It failed, or took too long.
        """
        self._transport = await start_tls(self._loop, self._transport, self, certificates, limit)
        # What was said of the transport before does not hold for this one.
        self._reading = self._writing = True

    # Errands.

    def _start(self, coroutine: Coroutine[object, None, None]) -> None:
        """Run an errand that the next event has to wait for."""
        if sys.version_info >= (3, 12):
            # A hook that need not wait is then answered without a turn of the loop.
            task = asyncio.Task(coroutine, loop=self._loop, eager_start=True)
        else:
            task = self._loop.create_task(coroutine)
        if not task.done():
            self._task = task

    def _errand_done(self) -> None:
        self._task = None
        if self._lost:
            self._leave()

    # Octets in, and out.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give room for what the peer sent."""
        return _inbox.room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the peer sent."""
        self.data_received(bytes(_inbox.room[:nbytes]))

    def _flush(self) -> None:
        if self._output:
            self._transport.write(b"".join(self._output))
            self._output.clear()

    def pause_writing(self) -> None:
        """The peer does not read its replies: no more of its commands until it does."""
        self._writing = False

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writing = True
        self._advance()

    def _read(self, wanted: bool) -> None:
        """Read from the socket, or leave it to fill."""
        if wanted == self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._last_sign = monotonic()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Silence.

    def _watch_time(self, interval: float) -> None:
        """Look every ``interval`` seconds whether the peer is silent.

        One timer for the whole session will do, which is not set anew for each octet.
        """
        self._last_sign = monotonic()
        self._timer = self._loop.call_later(interval, self._check_time, interval)

    def _check_time(self, interval: float) -> None:
        patience = self._patience()
        left = interval
        if patience is not None:
            left = self._last_sign + patience - monotonic()
            if left <= 0:
                self._silent(patience)
                return
        self._timer = self._loop.call_later(min(left, interval), self._check_time, interval)

    # The end.

    def _hang_up(self) -> None:
        """Close the connection behind what was said."""
        self._flush()
        if self._hung_up:
            return
        self._hung_up = True
        if self._timer is not None:
            self._timer.cancel()
        plain = self._transport.can_write_eof()
        if plain and self._linger:
            # What the peer still sends is read and dropped: a socket that is closed over unread
            # octets is reset, and the peer may then never see its last reply.
            self._transport.write_eof()
        else:
            self._transport.close()
            if plain and not self._transport.get_write_buffer_size():
                return  # there is nothing to wait for
        self._timer = self._loop.call_later(_LINGER, self._transport.abort)

    def _detach(self) -> None:
        """Forget the connection, and take leave when no errand is under way."""
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None:
            self._leave()
