"""Running: one handler behind several services, which start, read files again and end together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence

from smtp_protocol import HasLife
from smtp_server.command.errors import CannotStartError, in_one_line
from smtp_server.life import Life
from smtp_server.log import logger
from smtp_server.service import Service

__all__: list[str] = []

# Seconds that a handler has to be left when nobody wants to wait any more.
_CLEANING = 5.0


class Services:
    """Several services with one handler, whose life is that of all of them.

    Args:
        services: The services. They have no life of their own.
        life: The handler, if it has something to open.
        grace: Seconds that what is going on has at the end.
        files: What reads some files again, each with what it is called.
    """

    def __init__(
        self,
        services: Sequence[Service],
        life: HasLife | None,
        grace: float,
        files: Sequence[tuple[str, Callable[[], None]]] = (),
    ) -> None:
        self._services = services
        self._grace = grace
        self._handler = life
        self._life: Life | None = None
        self._files = [
            *(("TLS certificates", service.reload_tls) for service in services),
            *files,
        ]
        #: Set when the handler's life has ended by itself.
        self.lost = asyncio.Event()

    @property
    def failed(self) -> bool:
        """Whether the handler has failed, as the log tells."""
        return self.lost.is_set()

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
            await self._close(0)
            raise CannotStartError(in_one_line(error)) from None
        except BaseException:
            with contextlib.suppress(Exception):
                await self._close(0)
            raise

    async def _enter(self, handler: HasLife) -> None:
        self._life = life = Life(handler, self.lost.set)
        try:
            await life.enter()
        except BaseException as error:
            self._life = None
            if not isinstance(error, Exception):
                raise
            text = f"the handler {type(handler).__name__} cannot begin: {in_one_line(error)}"
            raise CannotStartError(text) from None

    async def _close(self, grace: float) -> None:
        for service in self._services:
            service.stop_listening()
        await asyncio.gather(*(service.close(grace) for service in self._services))
        if self._life is not None:
            await self._life.leave()

    async def ended(self) -> None:
        """Wait until the handler's life has ended by itself."""
        await self.lost.wait()

    async def reload(self) -> None:
        """Read the files again; what cannot be read stays as it was."""
        for what, read in self._files:
            try:
                read()
            except Exception as error:
                logger.error("The %s stay as they are: %s", what, error)

    async def drain(self) -> None:
        """Listen no more, finish what has begun, and leave the handler."""
        await self._end(self._grace)

    async def _end(self, grace: float) -> None:
        try:
            await self._close(grace)
        except Exception as error:
            if not self.lost.is_set():  # which was told
                logger.error("The handler could not be left: %r", error, exc_info=error)
                self.lost.set()

    async def stop(self) -> None:
        """Close all of them without a grace, and end the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEANING):
                await self._end(0)
        # A hook that blocks a thread would keep the interpreter from ending.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
