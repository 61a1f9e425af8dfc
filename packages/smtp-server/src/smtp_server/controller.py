"""Controllers: a service for programs that have no event loop, or one that they run themselves."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import Self, Unpack

from smtp_protocol import AnyHandler
from smtp_server.controller_base import (
    BaseController,
    TCPController,
    UnixController,
    refuse_loop,
    seconds_of,
)
from smtp_server.service import GRACE, Service
from smtp_server.settings import SharedKeywords
from smtp_server.thread import TIMEOUT_VARIABLES, ServerThread
from smtp_server.tls import TLSSource

__all__ = [
    "Controller",
    "UnixSocketController",
    "UnixSocketUnthreadedController",
    "UnthreadedController",
]


class _Threaded(BaseController):
    """A service in a thread of its own."""

    #: Seconds that `start` waits for the server to listen.
    ready_timeout: float = 1.0

    _thread: ServerThread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the server runs in; while it is stopped, the one that was given."""
        thread = self._thread
        return thread.loop if thread is not None and thread.alive else self._given_loop

    def start(self) -> None:
        """Start the server, and return when it listens.

        Raises:
            OSError: The address cannot be used; the text says why.
            TimeoutError: It does not listen after ``ready_timeout`` seconds; the text says what
                took so long. The time to bind does not count.
            RuntimeError: It was started already, the loop that was given is closed or running, or
                the system has no thread for it.
        """
        if self._thread is not None and self._thread.alive:
            raise RuntimeError("the controller is started already; stop it first")
        timeout = self._ready_timeout()
        refuse_loop(self._given_loop)
        service, sockets = self._make_service()
        check = partial(self._check, service)
        self._thread = ServerThread(
            service, sockets, loop=self._given_loop, check=check, grace=self.grace
        )
        try:
            self._thread.start(timeout)
        except BaseException:
            self._thread = None
            raise
        self.service = service

    def stop(self, grace: float | None = None) -> None:
        """Stop the server, and return when it has stopped. Does nothing when it was not started.

        In a hook, which the server has to wait for, it returns at once, and the server stops
        afterwards.

        Args:
            grace: Seconds that running transactions have to finish; those of the controller by
                default.
        """
        seconds = self._grace(grace)
        thread = self._thread
        if thread is None:
            return
        thread.stop(seconds)
        if self._thread is thread and not thread.alive:
            self._thread = self.service = None

    def _ready_timeout(self) -> float:
        for variable in TIMEOUT_VARIABLES:
            text = os.environ.get(variable)
            if text is not None:
                return seconds_of(variable, text, zero=False)
        return seconds_of("ready_timeout", self.ready_timeout, zero=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Unthreaded(BaseController):
    """A service in an event loop that the program runs itself."""

    _own_loop: asyncio.AbstractEventLoop | None = None
    _sockets: Sequence[socket.socket] = ()

    @cached_property
    def ended(self) -> threading.Event:
        """Set when the server has ended, for who waits in another thread."""
        return threading.Event()

    @cached_property
    def _endings(self) -> set[asyncio.Task[None]]:
        return set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop: the one that was given, or the one that `begin` has made."""
        return self._given_loop or self._own_loop

    def begin(self) -> None:
        """Start the server, in a loop that is not running yet.

        Raises:
            OSError: The address cannot be used; the text says why.
            RuntimeError: A loop is running (there, use `smtp_server.serve`), the one that was
                given is closed, or the controller was begun already.
        """
        if self.service is not None:
            raise RuntimeError("the controller was begun already; end it first")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop is running; inside of it, use smtp_server.serve")
        refuse_loop(self._given_loop)
        loop = self.loop
        if loop is None or loop.is_closed():
            loop = self._own_loop = asyncio.new_event_loop()
        service, sockets = self._make_service()
        try:
            loop.run_until_complete(self._begin(service))
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self.service, self._sockets = service, sockets
        self.ended.clear()

    async def _begin(self, service: Service) -> None:
        self._check(service)
        await service.start()

    async def finalize(self, grace: float | None = None) -> None:
        """Stop the server from inside the running loop.

        Args:
            grace: Seconds that running transactions have to finish; those of the controller by
                default.
        """
        seconds = self._grace(grace)
        service = self.service
        if service is not None:
            await service.close(seconds)
            self._finish(service)

    def end(self, grace: float | None = None) -> None:
        """Stop the server; in a loop that is running, soon.

        There it is only scheduled, so that a signal handler can call it: ``ended`` is set when it
        is done. In a coroutine ``await finalize()`` waits for it. After the end of the loop it
        waits, and does nothing when the server was ended before.

        Args:
            grace: As for `finalize`.
        """
        seconds = self._grace(grace)
        loop, service = self.loop, self.service
        if loop is None or service is None:
            return
        if loop.is_running():
            loop.call_soon_threadsafe(self._schedule_end, loop, seconds)
        elif loop.is_closed():
            self._finish(service)
        else:
            loop.run_until_complete(self.finalize(seconds))

    def _schedule_end(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        task = loop.create_task(self.finalize(seconds))
        self._endings.add(task)  # the loop itself does not keep it
        task.add_done_callback(self._endings.discard)

    def _finish(self, service: Service) -> None:
        if self.service is service:
            for sock in self._sockets:
                sock.close()
            self.service = None
            self.ended.set()


class Controller(_Threaded, TCPController):
    """An SMTP server in a thread of its own, on a TCP port.

    Args:
        handler: The object with the hooks.
        hostname: The host to listen on, ``"localhost"`` by default; ``""`` for every address
            of the machine.
        port: The port; 0 takes a free one, which ``port`` is after `start`.
        loop: The event loop to run; a new one by default.
        ready_timeout: Seconds that `start` waits. The environment's
            ``SMTP_SERVER_CONTROLLER_TIMEOUT`` goes before.
        ssl_context: With one, TLS begins with the connection.
        server_hostname: What the server calls itself.
        grace: Seconds that running transactions have to finish when the server stops.
        **smtp_keywords: Those of `SMTP`; SMTPUTF8 is on unless they say otherwise.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value is invalid.
    """

    def __init__(
        self,
        handler: AnyHandler,
        hostname: str | None = None,
        port: int = 8025,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ready_timeout: float = 1.0,
        ssl_context: TLSSource | None = None,
        server_hostname: str | None = None,
        grace: float = GRACE,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.ready_timeout = seconds_of("ready_timeout", ready_timeout, zero=False)
        super().__init__(
            handler,
            hostname,
            port,
            loop,
            ssl_context=ssl_context,
            server_hostname=server_hostname,
            grace=grace,
            **smtp_keywords,
        )


class UnixSocketController(_Threaded, UnixController):
    """An SMTP server in a thread of its own, on a Unix socket.

    Args:
        handler: The object with the hooks.
        unix_socket: The path of the socket.
        loop: The event loop to run; a new one by default.
        ready_timeout: Seconds that `start` waits.
        ssl_context: With one, TLS begins with the connection.
        server_hostname: What the server calls itself.
        grace: Seconds that running transactions have to finish when the server stops.
        **smtp_keywords: Those of `SMTP`; SMTPUTF8 is on unless they say otherwise.
    """

    def __init__(
        self,
        handler: AnyHandler,
        unix_socket: str | os.PathLike[str],
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ready_timeout: float = 1.0,
        ssl_context: TLSSource | None = None,
        server_hostname: str | None = None,
        grace: float = GRACE,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.ready_timeout = seconds_of("ready_timeout", ready_timeout, zero=False)
        super().__init__(
            handler,
            unix_socket,
            loop,
            ssl_context=ssl_context,
            server_hostname=server_hostname,
            grace=grace,
            **smtp_keywords,
        )


class UnthreadedController(_Unthreaded, TCPController):
    """An SMTP server on a TCP port, in a loop that the program runs. Arguments as `Controller`."""


class UnixSocketUnthreadedController(_Unthreaded, UnixController):
    """An SMTP server on a Unix socket, in a loop that the program runs."""
