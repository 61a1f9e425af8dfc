"""Keeper: runs one worker process after the other, each with the same sockets, which stay open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from smtp_server.command.channel import Asking, Value
from smtp_server.command.errors import CannotStartError
from smtp_server.log import logger

__all__: list[str] = []

#: What a worker is asked: to serve, to read files again, to end at once.
SERVE, RELOAD, STOP = "serve", "reload", "stop"

# Seconds that a process must have served for the next one to be started without a pause.
_GOOD = 10.0

# The first pause in seconds; each is twice the one before, up to the longest.
_FIRST_PAUSE = 0.1

#: The longest pause in seconds, after a process that served and after one that did not. The first
#: may have died of one message, and others wait; the second lacks something.
LONGEST_PAUSES = {True: 1.0, False: 30.0}

#: The sockets of one worker: for each kind of listener those that it has.
Sockets = Sequence[Sequence[socket.socket]]


class Ended(NamedTuple):
    """How a process has ended: whether it ever served, its seconds, its status as in `Popen`."""

    served: bool
    seconds: float
    status: int

    def __str__(self) -> str:
        if self.status < 0:
            names = {each.value: each.name for each in signal.Signals}
            how = f"was ended by {names.get(-self.status, f'signal {-self.status}')}"
        else:
            how = f"has ended with status {self.status}"
        return how if self.served else f"{how} before it was ready"


def cannot_start(ended: Ended) -> CannotStartError:
    """What to say when the first process has ended before it served, if it has not said it."""
    if ended.status > 0:
        return CannotStartError("", ended.status)
    return CannotStartError(f"a worker {ended}")


class Pauses:
    """How long to wait before the next process: longer after each one that did not live long."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, ended: Ended) -> float:
        """The seconds to wait now."""
        if ended.served and ended.seconds >= _GOOD:
            self._next = 0.0
        seconds = min(self._next, LONGEST_PAUSES[ended.served])
        self._next = max(2 * seconds, _FIRST_PAUSE)
        return seconds


class Keeper:
    """One worker: a number and sockets, which process after process has.

    Args:
        number: Counted from 1, for the log.
        arguments: Those of the command.
        told: What else each process is told.
        sockets: What it listens on. They stay open here, so that clients who come while there is
            no process wait for the next one.
    """

    def __init__(
        self,
        number: int,
        arguments: Sequence[str],
        told: Mapping[str, Value],
        sockets: Sockets,
    ) -> None:
        self.number = number
        self._told = told
        self._arguments = arguments
        self._sockets = sockets
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Asking | None = None
        self._closing = asyncio.Event()
        #: Set while a process serves.
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return None if self._process is None else self._process.pid

    async def keep(self, *, must_start: bool = False) -> None:
        """Run one process after the other, until `drain` or `kill`.

        Args:
            must_start: Whether it is an error when the first one ends before it serves.

        Raises:
            CannotStartError: It did.
        """
        pauses = Pauses()
        while not self._closing.is_set():
            ended = await self._run_one()
            if self._closing.is_set():
                return
            if must_start and not ended.served:
                raise cannot_start(ended)
            must_start = False
            await self._pause(ended, pauses.after(ended))

    async def _pause(self, ended: Ended, seconds: float) -> None:
        level = logging.ERROR if ended.status else logging.WARNING
        when = f"in {seconds:g} s" if seconds else "at once"
        logger.log(level, "Worker %d %s; the next one starts %s", self.number, ended, when)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _run_one(self) -> Ended:
        """Run a process from its start to its end."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            self._process, self._channel = await self._spawn()
        except OSError as error:
            logger.error("Worker %d cannot be started: %s", self.number, error)
            return Ended(False, 0.0, 1)
        if self._closing.is_set():
            self._signal(signal.SIGTERM)
        serving = asyncio.create_task(self._serve(self._channel))
        status = await self._process.wait()
        self._process = None
        await self._channel.close()
        self._channel = None
        served = await serving
        self.ready.clear()
        return Ended(served, loop.time() - begin, status)

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, Asking]:
        """Start an interpreter, for a fork beside threads and an event loop is not sound."""
        ours, theirs = socket.socketpair()
        numbers = [theirs.fileno(), *(sock.fileno() for each in self._sockets for sock in each)]
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "smtp_server.worker", str(theirs.fileno())),
                    *self._arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=numbers,
                    # Or Ctrl+C would end it twice: by the terminal and by its supervisor.
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        return process, await Asking.open(ours)

    async def _serve(self, channel: Asking) -> bool:
        """Have the process serve; whether it came to that."""
        numbers = [[sock.fileno() for sock in each] for each in self._sockets]
        try:
            await channel.ask(SERVE, {**self._told, "sockets": numbers, "path": sys.path})
        except ConnectionError:
            return False
        self.ready.set()
        logger.info("Worker %d serves; its process is %s", self.number, self.pid)
        return True

    async def ask(self, question: str) -> Value:
        """Ask the process something, and wait for its answer.

        Raises:
            ConnectionError: There is none, or it has ended before it answered.
        """
        if self._channel is None:
            raise ConnectionResetError("there is no process")
        return await self._channel.ask(question)

    def drain(self) -> None:
        """Have the process finish what it has begun. No other follows it."""
        self._closing.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process without further ado. No other follows it."""
        self._closing.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                # Popen's way would take the exit status from whoever waits for it.
                os.kill(self._process.pid, number)
