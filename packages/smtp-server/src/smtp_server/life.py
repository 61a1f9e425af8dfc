"""Life: the handler of a service is entered and left in one task, whoever starts and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from smtp_protocol import HasLife
from smtp_server.log import logger

__all__: list[str] = []


class Life:
    """The life of one handler, from `enter` to `leave`, once.

    It is a task of its own, for task groups and other cancel scopes are to be left where they were
    entered, and services are started and closed in different tasks.

    Args:
        handler: The handler.
        lost: Called when the life ends by itself, as when a task of a handler's group has failed.
    """

    def __init__(self, handler: HasLife, lost: Callable[[], object]) -> None:
        self._handler = handler
        self._lost = lost
        self._leaving = asyncio.Event()
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        async with self._handler:
            if not self._entered.done():
                self._entered.set_result(None)
            await self._leaving.wait()

    async def enter(self) -> None:
        """Enter the handler.

        Raises:
            BaseException: What keeps it from being entered.
        """
        try:
            await asyncio.wait({self._task, self._entered}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        if self._task.cancelled():
            raise RuntimeError("the handler's __aenter__ was cancelled")
        if self._task.done():
            self._task.result()
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # The end of the event loop cancels it, and then there is nothing more to close.
        if not self._leaving.is_set() and not task.cancelled():
            error = task.exception()
            logger.error("The handler's life has ended: %r", error, exc_info=error)
            self._lost()

    async def leave(self) -> None:
        """Leave the handler, and wait until that is done; whoever is cancelled does not wait.

        Raises:
            BaseException: What the handler has raised.
        """
        self._leaving.set()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()
