"""Controller base: what every controller has, a handler, its keywords, and what it binds."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import threading
from typing import Unpack

from smtp_protocol import AnyHandler
from smtp_protocol.life import life_of
from smtp_server.listeners import bind_tcp, bind_unix
from smtp_server.moved import CONTROLLER, SMTP_NAMES, refuse_names
from smtp_server.service import GRACE, Listening, Service
from smtp_server.settings import SharedKeywords, SMTPKeywords
from smtp_server.setup import Setup, prepare
from smtp_server.smtp import SMTP
from smtp_server.tls import TLSSource

__all__: list[str] = []


class BaseController:
    """What all controllers have: a handler, its keywords, and a service."""

    def __init__(
        self,
        handler: AnyHandler,
        loop: asyncio.AbstractEventLoop | None,
        ssl_context: TLSSource | None,
        server_hostname: str | None,
        grace: float,
        keywords: SharedKeywords,
    ) -> None:
        refuse_names(type(self).__name__, dir(type(self)), CONTROLLER)
        self.handler = handler
        self._given_loop = loop
        self.ssl_context = ssl_context
        self.grace = seconds_of("grace", grace)
        self.SMTP_kwargs: SMTPKeywords = {
            "enable_SMTPUTF8": True,
            "hostname": server_hostname,
            "loop": None,
            **keywords,
        }
        #: The protocol of the newest connection.
        self.smtpd: SMTP | None = None
        self.service: Service | None = None
        self._setup: Setup | None = None
        # A subclass's factory may need what its constructor has yet to do, and a running loop.
        self._own_factory = type(self).factory is not BaseController.factory
        if not self._own_factory:
            self._look()

    def factory(self) -> SMTP:
        """Make the protocol of a new connection. Override it for a subclass of `SMTP`."""
        return SMTP(self.handler, setup=self._setup or self._look())

    def bind(self) -> list[socket.socket]:
        """Make the sockets to listen on, whenever the server is started, in the caller's thread.

        Override it to bind in a way of your own, or to give up root's rights once it is done. The
        server closes the sockets when it stops.

        Returns:
            Sockets that are bound.

        Raises:
            OSError: The address cannot be used; the text says why.
        """
        raise NotImplementedError

    @property
    def server(self) -> Listening | None:
        """The listening server; ``None`` while stopped."""
        servers = self.service.servers if self.service is not None else []
        return servers[0] if servers else None

    def _look(self) -> Setup:
        """Look at handler and keywords, in the place of all connections to come."""
        self._setup = prepare(SMTP, self.handler, self.SMTP_kwargs)
        return self._setup

    def _make_service(self) -> tuple[Service, list[socket.socket]]:
        """Do what needs no loop: look at the handler as it is now, bind, read the certificates."""
        setup = None if self._own_factory else self._look()
        sockets = list(self.bind() or ())  # an override may have forgotten to return them
        with contextlib.ExitStack() as undo:
            for sock in sockets:
                undo.enter_context(sock)
            service = Service(
                self.factory,
                sockets,
                ssl_context=self.ssl_context,
                connected=self._note_connection,
                life=life_of(self.handler),
            )
            if setup is not None:
                service.setups.add(setup)
            self._bound(sockets)
            undo.pop_all()
        return service, sockets

    def _check(self, service: Service) -> None:
        """Have what is wrong with a factory show now, and not with the first client."""
        if self._own_factory:
            made: object = service.setups.make(self.factory)
            if not isinstance(made, SMTP):
                raise TypeError(f"factory() returns an SMTP object, not {made!r}")
            # What a factory has set afterwards.
            refuse_names(type(made).__name__, getattr(made, "__dict__", {}), SMTP_NAMES)

    def _grace(self, grace: float | None) -> float:
        return self.grace if grace is None else seconds_of("grace", grace)

    def _bound(self, sockets: list[socket.socket]) -> None:
        if not sockets:
            raise ValueError("bind() returned no socket to listen on")

    def _note_connection(self, smtp: SMTP) -> None:
        self.smtpd = smtp


def refuse_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Refuse a given loop that no server can be started in, before anything is bound."""
    if loop is not None and loop.is_closed():
        raise RuntimeError("the event loop that was given is closed")
    if loop is not None and loop.is_running():
        raise RuntimeError("the event loop is running already; inside of it, use smtp_server.serve")


def seconds_of(name: str, value: float | str, *, zero: bool = True) -> float:
    """Read a number of seconds out of a keyword or the environment."""
    seconds = math.nan
    if not isinstance(value, str) or value.isascii():
        with contextlib.suppress(TypeError, ValueError):
            seconds = float(value)
    if not 0 <= seconds <= threading.TIMEOUT_MAX or not (zero or seconds):
        raise ValueError(
            f"{name} is a number of seconds{'' if zero else ' above 0'}, not {value!r}"
        )
    return seconds


class TCPController(BaseController):
    """Listening on a TCP port."""

    def __init__(
        self,
        handler: AnyHandler,
        hostname: str | None = None,
        port: int = 8025,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ssl_context: TLSSource | None = None,
        server_hostname: str | None = None,
        grace: float = GRACE,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.hostname = "localhost" if hostname is None else hostname
        self.port = port
        super().__init__(handler, loop, ssl_context, server_hostname, grace, smtp_keywords)

    @property
    def port(self) -> int:
        """The port: once the server was started, the one that it has or had."""
        return self._port if self._bound_port is None else self._bound_port

    @port.setter
    def port(self, port: int) -> None:
        self._port = port
        self._bound_port: int | None = None

    def bind(self) -> list[socket.socket]:
        """Bind to every address of the host."""
        return bind_tcp(self.hostname, self._port)

    def _bound(self, sockets: list[socket.socket]) -> None:
        super()._bound(sockets)
        address = sockets[0].getsockname()
        if isinstance(address, tuple):
            self._bound_port = address[1]


class UnixController(BaseController):
    """Listening on a Unix socket."""

    def __init__(
        self,
        handler: AnyHandler,
        unix_socket: str | os.PathLike[str],
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ssl_context: TLSSource | None = None,
        server_hostname: str | None = None,
        grace: float = GRACE,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.unix_socket = os.fspath(unix_socket)
        super().__init__(handler, loop, ssl_context, server_hostname, grace, smtp_keywords)

    def bind(self) -> list[socket.socket]:
        """Bind to the path."""
        return [bind_unix(self.unix_socket, tidy=True)]
