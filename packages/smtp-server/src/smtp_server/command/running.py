"""Running: one handler behind several services, from their start to the signal that ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from smtp_protocol import HasLife
from smtp_server.command.errors import CannotStartError, in_one_line
from smtp_server.life import Life
from smtp_server.listeners import format_address
from smtp_server.log import logger
from smtp_server.service import Service
from smtp_server.version import __version__

__all__: list[str] = []

# Windows has the last one, and no SIGHUP, which asks for files to be read again.
_ENDING = ("SIGINT", "SIGTERM", "SIGBREAK")
_RELOADING = ("SIGHUP",)

# Seconds that a handler has to be left when nobody wants to wait any more.
_CLEANING = 5.0


class Services:
    """Several services with one handler, whose life is that of all of them.

    Args:
        services: The services. They have no life of their own.
        life: The handler, if it has something to open.
        files: What reads some files again, each with what it is called.
    """

    def __init__(
        self,
        services: Sequence[Service],
        life: HasLife | None,
        files: Sequence[tuple[str, Callable[[], None]]] = (),
    ) -> None:
        self._services = services
        self._handler = life
        self._life: Life | None = None
        self._files = [
            *(("TLS certificates", service.reload_tls) for service in services),
            *files,
        ]
        #: Set when the handler's life has ended by itself.
        self.lost = asyncio.Event()

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Where they listen."""
        return [address for service in self._services for address in service.addresses]

    async def start(self) -> None:
        """Enter the handler, and listen.

        Raises:
            CannotStartError: What keeps it from that. Nothing listens then.
        """
        try:
            if self._handler is not None:
                await self._enter(self._handler)
            for service in self._services:
                await service.start()
        except OSError as error:
            await self.close(0)
            raise CannotStartError(in_one_line(error)) from None
        except BaseException:
            with contextlib.suppress(Exception):
                await self.close(0)
            raise

    async def _enter(self, handler: HasLife) -> None:
        self._life = life = Life(handler, self.lost.set)
        try:
            await life.enter()
        except Exception as error:
            self._life = None
            text = f"the handler {type(handler).__name__} cannot begin: {in_one_line(error)}"
            raise CannotStartError(text) from None

    async def close(self, grace: float) -> None:
        """Close all of them, and leave the handler.

        Args:
            grace: Seconds that what is going on has.

        Raises:
            BaseException: What the handler has raised.
        """
        for service in self._services:
            service.stop_listening()
        await asyncio.gather(*(service.close(grace) for service in self._services))
        if self._life is not None:
            await self._life.leave()

    def reload(self) -> None:
        """Read the files again; what cannot be read stays as it was."""
        for what, read in self._files:
            try:
                read()
            except Exception as error:
                logger.error("The %s stay as they are: %s", what, error)


async def serve_until_told(services: Services, grace: float) -> int:
    """Serve until a signal ends it.

    Args:
        services: The services, not started yet.
        grace: Seconds that what is going on has then.

    Returns:
        The exit status.
    """
    signals: asyncio.Queue[None] = asyncio.Queue()
    with contextlib.ExitStack() as cleaning:
        _at_signals(_ENDING, partial(signals.put_nowait, None), cleaning)
        _at_signals(_RELOADING, services.reload, cleaning)
        await services.start()
        addresses = ", ".join(map(format_address, services.addresses))
        text = f"smtp-server {__version__} listens on {addresses}"
        print(text, file=sys.stderr, flush=True)
        await _first(signals.get(), services.lost.wait())
        closing = asyncio.create_task(_close(services, grace))
        second = asyncio.create_task(signals.get())
        await asyncio.wait({closing, second}, return_when=asyncio.FIRST_COMPLETED)
        if second.done():
            await _stop_at_once(services)
        await closing
        second.cancel()
    return int(services.lost.is_set())


async def _close(services: Services, grace: float) -> None:
    try:
        await services.close(grace)
    except Exception as error:
        if not services.lost.is_set():  # which was told
            logger.error("The handler could not be left: %r", error, exc_info=error)
            services.lost.set()


async def _first(*coroutines: object) -> None:
    tasks = [asyncio.ensure_future(each) for each in coroutines]  # type: ignore
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _stop_at_once(services: Services) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLEANING):
            await _close(services, 0)
    # A hook that blocks a thread would keep the interpreter from ending.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _at_signals(
    names: Sequence[str], call: Callable[[], object], cleaning: contextlib.ExitStack
) -> None:
    """Have a function called in the running loop at each of these signals that there is."""
    loop = asyncio.get_running_loop()
    for name in names:
        number: signal.Signals | None = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, call)
        except NotImplementedError:  # the loops of Windows
            before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
            cleaning.callback(signal.signal, number, before or signal.SIG_DFL)
