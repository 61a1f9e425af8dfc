"""Link: the transport of one connection: reads, writes, measures idle time, encrypts, hangs up."""

import asyncio
import contextlib
import inspect
import sys
import threading
from abc import abstractmethod
from collections.abc import Coroutine
from time import monotonic
from typing import Any, cast

from smtp_server.tls import Certificates, has_ended, start_tls

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


class Errand(asyncio.Task[None]):
    """The task of something that a connection waits for.

    Cleaning up is in the coroutine's ``finally``. A task that is cancelled before its first step
    would skip it, so `cancel` waits for that step.
    """

    __slots__ = ()

    def cancel(self, msg: object = None) -> bool:
        """Cancel it, from the first place where it waits on."""
        if inspect.getcoroutinestate(_coroutine(self)) == inspect.CORO_CREATED:
            self.get_loop().call_soon(self.cancel, msg)
            return True
        return super().cancel(msg)


def _coroutine(errand: Errand) -> Coroutine[object, object, object]:
    return cast("Coroutine[object, object, object]", errand.get_coro())


def _interrupt(error: KeyboardInterrupt) -> None:
    raise error


class Link(asyncio.BufferedProtocol):
    """A connection that runs one errand at a time, and ends without losing what it said.

    Nothing here touches the transport of a connection that is lost.
    """

    # There are many connections: with slots each is smaller, and its attributes quicker to reach.
    __slots__ = (
        "_active",
        "_connected",
        "_ending",
        "_eof",
        "_hung_up",
        "_loop",
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
        self._task: Errand | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When the peer was heard last, or its turn began.
        self._active = 0.0
        self._reading = True
        self._writing = True
        self._eof = False
        self._connected = False
        self._hung_up = False
        # Whether a cancelled errand was cancelled for the session's end, and not by somebody else.
        self._ending = False

    # What is left to the protocol above.

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""

    @abstractmethod
    def _advance(self) -> None:
        """Go on with what has come, as far as it is possible now."""

    @abstractmethod
    def _idle_limit(self) -> float | None:
        """How many seconds the peer may be idle now; ``None`` for any number."""

    @abstractmethod
    def _timed_out(self, seconds: float) -> None:
        """The peer was idle for too long."""

    @abstractmethod
    def _see_whether_over(self) -> None:
        """The connection is gone, or an errand done: the session may be over with it."""

    # The beginning.

    def _attach(
        self, transport: asyncio.BaseTransport, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        """Take the connection."""
        self._connected = True
        self._transport = cast(asyncio.Transport, transport)
        self._loop = loop or asyncio.get_running_loop()

    async def _encrypt(self, certificates: Certificates, limit: float) -> None:
        """Do the TLS handshake, within ``limit`` seconds.

        Raises:
            OSError: It failed, or took too long.
        """
        self._transport = await start_tls(self._loop, self._transport, self, certificates, limit)
        # What was said of the transport before does not hold for this one.
        self._reading = self._writing = True

    # Errands.

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run an errand that the next event has to wait for.

        Its coroutine calls `_errand_done` when it is over, however it ends.
        """
        if sys.version_info >= (3, 12):
            # A hook that need not wait is then answered without a turn of the loop.
            try:
                task = Errand(coroutine, loop=self._loop, eager_start=True)
            except KeyboardInterrupt as error:
                # In here uvloop takes it for a failure of the connection; it is the program's end.
                self._loop.call_soon(_interrupt, error)
                return
        else:
            task = Errand(coroutine, loop=self._loop)
        if not task.done():
            self._task = task

    def _errand_done(self) -> None:
        self._task = None
        if not self._connected:
            self._see_whether_over()

    def _cancel_errand(self) -> None:
        """End the errand that is under way, for the session ends."""
        self._ending = True
        if self._task is not None:
            self._task.cancel()

    @property
    def _busy(self) -> bool:
        """Whether an errand is under way."""
        return self._task is not None

    # Octets in, and out.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give room for what the peer sent."""
        room = _inbox.room
        if sizehint > len(room):
            # More than this is decrypted and waits. When the peer has closed, asyncio asks only
            # once, so all of it must fit.
            _inbox.room = room = memoryview(bytearray(sizehint))
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the peer sent."""
        self.data_received(bytes(_inbox.room[:nbytes]))

    def _heard(self) -> None:
        """The peer was active, or its turn begins."""
        self._active = monotonic()

    def _flush(self) -> None:
        if self._output:
            # Nearly always it reads and has told no end, and then TLS need not be asked.
            usual = self._reading and not self._eof
            if self._connected and not (
                self._transport.is_closing() or (not usual and self._has_ended())
            ):
                self._transport.write(b"".join(self._output))
            self._output.clear()

    def _has_ended(self) -> bool:
        """Whether TLS has ended, so that nothing is to be written any more; asyncio warns of it.

        Inside TLS the peer's end is the end of everything, and not told while reading pauses.
        """
        if self._reading and not self._eof:
            return False
        return not self._transport.can_write_eof() and (self._eof or has_ended(self._transport))

    def pause_writing(self) -> None:
        """The peer does not read its replies: no more of its commands until it does."""
        self._writing = False

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writing = True
        # Not at once: asyncio closes a connection twice that is closed in here.
        self._loop.call_soon(self._advance)

    def _read(self, wanted: bool) -> None:
        """Read from the socket, or leave it to fill."""
        if wanted == self._reading or not self._connected or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._heard()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Idle time.

    def _watch_time(self, interval: float) -> None:
        """Look every ``interval`` seconds whether the peer is idle.

        One timer for the whole session will do, which is not set anew for each octet.
        """
        self._heard()
        self._timer = self._loop.call_later(interval, self._check_time, interval)

    def _check_time(self, interval: float) -> None:
        limit = self._idle_limit()
        left = interval
        if limit is not None:
            left = self._active + limit - monotonic()
            if left <= 0:
                self._timed_out(limit)
                return
        self._timer = self._loop.call_later(min(left, interval), self._check_time, interval)

    # The end.

    def _hang_up(self, *, linger: bool) -> None:
        """Close the connection behind what was said.

        Args:
            linger: Whether the peer may still be sending. What it sends is then read and dropped
                for a while: a socket that is closed over unread octets is reset, and the peer may
                then never see its last reply.
        """
        self._flush()
        if self._hung_up or not self._connected:
            return
        self._hung_up = True
        if self._timer is not None:
            self._timer.cancel()
        plain, linger = self._transport.can_write_eof(), linger and not self._eof
        if plain and linger:
            with contextlib.suppress(OSError):  # it was lost just now
                self._transport.write_eof()
        else:
            # Looked at before: TLS that has ended by itself cannot be asked any more.
            closing = self._transport.is_closing()
            ended = closing or self._has_ended()
            linger |= not ended and self._transport.get_write_buffer_size() > 0
            if not closing:  # asyncio's TLS cannot be aborted any more when it is closed twice
                self._transport.close()
        if linger:
            self._timer = self._loop.call_later(_LINGER, self._transport.abort)
        elif not plain:
            # TLS says its close_notify, and does not wait for the peer's (RFC 8446 §6.1).
            self._timer = self._loop.call_later(0, self._transport.abort)

    def _cut(self) -> None:
        """Close the connection at once; that it is lost is told in the next turn of the loop."""
        self._flush()  # what was answered before
        if self._connected:
            self._hung_up = True
            self._transport.abort()

    def _drop(self) -> None:
        """Abort, and do what `connection_lost` does, for asyncio may not call it."""
        if self._connected:
            self._transport.abort()
            self.connection_lost(ConnectionAbortedError())

    def _detach(self) -> None:
        """Forget the connection."""
        self._connected = False
        self._writing = True  # what is left to do is not held up any more
        if self._timer is not None:
            self._timer.cancel()
        self._see_whether_over()
