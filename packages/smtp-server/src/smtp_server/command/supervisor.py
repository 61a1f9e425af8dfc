"""Supervisor: several workers, started, asked and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from smtp_server.command.channel import Value
from smtp_server.command.keeper import RELOAD, STOP, Keeper, Sockets

__all__: list[str] = []

#: Seconds that workers have to end at once; then they are killed.
AT_ONCE = 2.0


class Supervisor:
    """The workers of one command, to be operated as services in the own process are.

    Args:
        arguments: Those of the command, which the workers get too.
        told: What else they are told.
        sockets: Those of each worker. They are closed when the workers are to end.
    """

    #: It never does by itself: a worker that ends is followed by another.
    failed = False

    def __init__(
        self, arguments: Sequence[str], told: Mapping[str, Value], sockets: Sequence[Sockets]
    ) -> None:
        self._sockets = sockets
        self._keepers = [Keeper(i, arguments, told, each) for i, each in enumerate(sockets, 1)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the first worker and, if that can serve, the others; wait until all serve.

        Raises:
            CannotStartError: The first cannot serve, so none can.
        """
        first, *others = self._keepers
        self._tasks.append(asyncio.create_task(first.keep(must_start=True)))
        ready = asyncio.create_task(first.ready.wait())
        try:
            await asyncio.wait({ready, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._tasks[0].done():
            self._tasks[0].result()
        self._tasks += [asyncio.create_task(each.keep()) for each in others]
        for each in self._keepers:
            await each.ready.wait()

    async def ended(self) -> None:
        """Wait for what comes only of a defect."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def ask(self, question: str, limit: float | None = None) -> dict[int, Value]:
        """Ask all workers, and wait for their answers.

        Args:
            question: One of those that `smtp_server.worker` has answers for.
            limit: Seconds after which a busy worker is not waited for any more.

        Returns:
            The answers, by the number of the process: another process, another number. Whoever
            adds up figures that must not fall keeps the last ones of those that are gone.
        """
        asked = {
            asyncio.create_task(keeper.ask(question)): keeper.pid
            for keeper in self._keepers
            if keeper.pid is not None
        }
        if not asked:
            return {}
        done, late = await asyncio.wait(asked, timeout=limit)
        for task in late:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        return {asked[task]: task.result() for task in done if task.exception() is None}

    async def reload(self) -> None:
        """Have all workers read their files again, and wait until they have."""
        await self.ask(RELOAD)

    async def drain(self) -> None:
        """Have the workers finish, and wait for them. One that is busy is not killed."""
        for sockets in self._sockets:
            for sock in (sock for each in sockets for sock in each):
                sock.close()
        for keeper in self._keepers:
            keeper.drain()
        await asyncio.gather(*map(asyncio.shield, self._tasks), return_exceptions=True)

    async def stop(self) -> None:
        """Have the workers end at once; those that do not are killed."""
        await self.ask(STOP, AT_ONCE)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=AT_ONCE)
        for keeper in self._keepers:
            keeper.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
