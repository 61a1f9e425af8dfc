"""Pool: connections to the next server, each with one transaction at a time, kept for the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from smtp_handlers.relay.client import BUSY, Upstream, UpstreamError

__all__: list[str] = []


@dataclass(slots=True, eq=False)
class _Idle:
    """A connection without a transaction, and whether somebody has taken it."""

    upstream: Upstream
    taken: bool = False


class Pool:
    """Makes connections, and keeps those that are given back.

    What is idle belongs to a task, so that it ends with the event loop. Nobody ever waits for
    another one's connection.

    Args:
        connect: Makes a connection; its argument is what we call ourselves.
        size: How many idle ones are kept.
        most: How many there are at most, those that are being made and ended included.
        seconds: How long an idle one is kept.
    """

    def __init__(
        self,
        connect: Callable[[str], Awaitable[Upstream]],
        *,
        size: int,
        most: int,
        seconds: float,
    ) -> None:
        self._connect = connect
        self._size = size
        self._most = most
        self._seconds = seconds
        self._idle: list[_Idle] = []
        self._connecting = 0
        self._open: set[Upstream] = set()
        self._keepers: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def count(self) -> int:
        """How many connections there are."""
        return self._connecting + len(self._open)

    async def take(self, name: str, *, fresh: bool = False) -> Upstream:
        """Get a connection that is ready for MAIL, the last used one if there is one.

        Args:
            name: What we call ourselves.
            fresh: Whether it must be one that nobody has used before.

        Raises:
            UpstreamError: There is none to be had.
        """
        while self._idle and not fresh:
            upstream = self._take_idle(-1)
            if upstream.usable and _seconds_left(upstream) > 0:
                return upstream
            self.drop(upstream)
        while self.count >= self._most:
            if not self._idle:
                raise UpstreamError(BUSY, f"{self.count} connections are open")
            self.drop(self._take_idle(0))
        self._connecting += 1
        try:
            upstream = await self._connect(name)
        finally:
            self._connecting -= 1
        self._open.add(upstream)
        return upstream

    def give_back(self, upstream: Upstream) -> None:
        """Put a connection where the next message finds it, or close it. Nobody waits for that."""
        if not upstream.usable:
            self.drop(upstream)
        elif _seconds_left(upstream) > 0:
            idle = _Idle(upstream)
            if not upstream.in_transaction:
                self._offer(idle)
            self._start(idle, self._keep(idle))
        else:
            self.retire(upstream)

    def retire(self, upstream: Upstream) -> None:
        """Say goodbye to a connection that is of no use for another message. Nobody waits."""
        self._open.discard(upstream)
        self._start(_Idle(upstream), upstream.quit())

    def drop(self, upstream: Upstream) -> None:
        """Close a connection at once."""
        upstream.abort()
        self._open.discard(upstream)

    async def close(self) -> None:
        """Close the connections that have no transaction."""
        self._closing = True
        try:
            while self._idle:
                self._idle.pop().upstream.wake()
            if self._keepers:
                await asyncio.wait(self._keepers)
        finally:
            self._closing = False

    def _take_idle(self, index: int) -> Upstream:
        idle = self._idle.pop(index)
        idle.taken = True
        idle.upstream.wake()
        return idle.upstream

    def _start(self, idle: _Idle, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keepers.add(task)
        task.add_done_callback(partial(self._done, idle))

    def _done(self, idle: _Idle, task: asyncio.Task[None]) -> None:
        """See that a connection ends with its task, which may never have run."""
        self._keepers.discard(task)
        if not idle.taken:
            self.drop(idle.upstream)

    def _offer(self, idle: _Idle) -> None:
        if len(self._idle) < self._size and not self._closing:
            self._idle.append(idle)

    async def _keep(self, idle: _Idle) -> None:
        with contextlib.suppress(UpstreamError):
            if idle not in self._idle and not idle.taken:
                await idle.upstream.reset()
                self._offer(idle)
            if idle in self._idle:
                await self._wait_until_wanted(idle)
            if not idle.taken:
                await idle.upstream.quit()

    async def _wait_until_wanted(self, idle: _Idle) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._seconds, _seconds_left(idle.upstream))):
                    await idle.upstream.stir()
        finally:
            if idle in self._idle:
                self._idle.remove(idle)


def _seconds_left(upstream: Upstream) -> float:
    return upstream.seconds_left(asyncio.get_running_loop().time())
