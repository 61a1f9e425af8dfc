"""Operation: a service from its start to its end, as orders say, and what systemd hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol

from smtp_server.command.notify import Notifier
from smtp_server.command.orders import Orders
from smtp_server.log import logger
from smtp_server.version import __version__

__all__: list[str] = []

# The -ddd that asks for what asyncio says.
_LOOP_DEBUG = 3


class Charge(Protocol):
    """What is operated: services in this process, or workers that have them."""

    @property
    def failed(self) -> bool:
        """Whether it has ended for a reason of its own, which was told."""

    async def start(self) -> None:
        """Return when clients are served. If this is cancelled, `drain` comes next."""

    async def ended(self) -> None:
        """Return when nothing is served any more, though nobody has asked for that."""

    async def reload(self) -> None:
        """Read again what can change in files: certificates, users, the names of log files."""

    async def drain(self) -> None:
        """Take nothing new, finish what has begun, and return then."""

    async def stop(self) -> None:
        """End at once."""


async def operate(
    charge: Charge, orders: Orders, notifier: Notifier, started: Callable[[], str]
) -> None:
    """Start a service, reload it when asked, and end it when asked or when it has ended.

    Args:
        charge: The service.
        orders: What is asked for.
        notifier: Who is told.
        started: Called once clients are served; returns a line that says so.

    Raises:
        BaseException: What keeps the service from starting, or has ended it.
    """
    try:
        if await _before(charge.start(), orders.drain):
            status = started()
            notifier.ready(status)
            async with (
                _beside(notifier.keep_alive()),
                _beside(_reload(charge, orders, notifier, status)),
            ):
                await _before(charge.ended(), orders.drain)
    finally:
        notifier.stopping()
        if not await _before(charge.drain(), orders.stop):
            await charge.stop()


async def _before(coroutine: Coroutine[None, None, None], event: asyncio.Event) -> bool:
    """Whether a coroutine comes to its end before an event; if it does not, it is cancelled."""
    task, waiting = asyncio.ensure_future(coroutine), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def operate_command(notifier: Notifier, addresses: str, charge: Charge) -> None:
    """Operate what a command has started, by the signals that it gets.

    Args:
        notifier: Who is told.
        addresses: Where it listens, for people.
        charge: The service.
    """

    def started() -> str:
        status = f"listens on {addresses}"
        print(f"smtp-server {__version__} {status}", file=sys.stderr, flush=True)
        return status.capitalize()

    orders = Orders()
    with orders.from_signals():
        await operate(charge, orders, notifier, started)


def run_loop(
    charge: Charge,
    operation: Callable[[Charge], Coroutine[None, None, None]],
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None,
    debug: int,
) -> int:
    """Run an operation in an event loop of its own.

    Args:
        charge: What is operated.
        operation: What operates it.
        make_loop: Makes the event loop; that of asyncio by default.
        debug: How often ``--debug`` was given. The third time is for the loop.

    Returns:
        The exit status.
    """
    with asyncio.Runner(debug=debug >= _LOOP_DEBUG, loop_factory=make_loop) as runner:
        runner.run(operation(charge))
    return int(charge.failed)


@contextlib.asynccontextmanager
async def _beside(coroutine: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run a coroutine while this is entered."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _reload(charge: Charge, orders: Orders, notifier: Notifier, status: str) -> None:
    while True:
        await orders.reload.wait()
        orders.reload.clear()
        notifier.reloading()
        await charge.reload()
        logger.info("Certificates and other files have been read again")
        notifier.ready(status)
