"""Threads: blocking work of one handler runs in a few threads that nobody else uses."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

__all__: list[str] = []

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """An executor of one handler's own, so that no other work waits for this one's.

    The threads are started when they are needed, and end with the handler.

    Args:
        name: What the threads are called, with a number behind it.
        count: How many there are at most.
    """

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call ``function`` in a thread, and wait for what it returns or raises.

        It sees the context variables of the caller. Whoever is cancelled meanwhile does not wait
        for it.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        return await loop.run_in_executor(self._executor, lambda: context.run(function, *arguments))
