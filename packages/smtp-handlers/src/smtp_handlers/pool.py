"""Pool: connections to the next server, each with one transaction at a time, kept for the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from smtp_handlers.upstream import BUSY, Upstream, UpstreamError

__all__: list[str] = []


@dataclass(slots=True)
class _Idle:
    """A connection without a transaction, and whether somebody has taken it."""

    upstream: Upstream
    taken: bool = False


class Pool:
    """Makes connections, and keeps those that are given back.

    What is idle belongs to a task, so that it ends with the event loop. Nobody ever waits for
    another one's connection.

    Args:
        connect: Makes a connection.
        size: How many idle ones are kept.
        most: How many there are at most.
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
        self._open = 0
        self._keepers: set[asyncio.Task[None]] = set()

    async def take(self, name: str) -> Upstream:
        """Get a connection that is ready for MAIL, the last used one if there is one.

        Args:
            name: What we call ourselves.

        Raises:
            UpstreamError: There is none to be had.
        """
        while self._idle:
            idle = self._idle.pop()
            idle.taken = True
            idle.upstream.wake()
            if idle.upstream.usable:
                return idle.upstream
            self.drop(idle.upstream)
        if self._open >= self._most:
            raise UpstreamError(BUSY, f"{self._open} connections are open")
        self._open += 1
        try:
            return await self._connect(name)
        except BaseException:
            self._open -= 1
            raise

    def give_back(self, upstream: Upstream) -> None:
        """Put a connection where the next message finds it, or close it. Nobody waits for that."""
        if not upstream.usable:
            self.drop(upstream)
            return
        task = asyncio.get_running_loop().create_task(self._keep(upstream))
        self._keepers.add(task)
        task.add_done_callback(self._keepers.discard)

    def drop(self, upstream: Upstream) -> None:
        """Close a connection at once."""
        upstream.abort()
        self._open -= 1

    async def close(self) -> None:
        """Close the idle connections."""
        kept, self._idle = self._idle, []
        for idle in kept:
            idle.taken = True
            idle.upstream.wake()
        await asyncio.gather(*(idle.upstream.quit() for idle in kept))
        self._open -= len(kept)

    async def _keep(self, upstream: Upstream) -> None:
        idle = _Idle(upstream)
        try:
            with contextlib.suppress(UpstreamError):
                await upstream.reset()
                upstream.reused = True
                await self._wait_until_wanted(idle)
                if not idle.taken:
                    await upstream.quit()
        finally:
            if not idle.taken:
                self.drop(upstream)

    async def _wait_until_wanted(self, idle: _Idle) -> None:
        if len(self._idle) >= self._size:
            return
        self._idle.append(idle)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await idle.upstream.stir()
        finally:
            if not idle.taken:
                self._idle.remove(idle)
