"""Service: listens on sockets, makes a connection for each client, closes without losing mail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self, Unpack

from smtp_protocol import AnyHandler, HasLife
from smtp_protocol.life import life_of
from smtp_server.accepting import TLSListener
from smtp_server.life import Life
from smtp_server.listeners import BACKLOG, bind_tcp, bind_unix
from smtp_server.sessions import Sessions
from smtp_server.settings import SharedKeywords, SMTPKeywords
from smtp_server.setup import Setup, Setups, prepare
from smtp_server.smtp import SMTP
from smtp_server.tls import Certificates, TLSSource

__all__ = ["Service", "serve"]

#: Seconds that a transaction has to finish when the service closes.
GRACE = 5.0

#: A socket that is listened on, as a server of asyncio.
Listening = asyncio.Server | TLSListener

# Turns of the loop until transports that were aborted are gone; TLS takes a few.
_TURNS = 4

# Seconds that hooks have to clean up when they are cancelled after that.
_CLEANING = 5.0


class Service:
    """A running SMTP server, or one about to run: start it, or use it as an async context manager.

    Args:
        factory: Makes the protocol of a new connection.
        sockets: Bound sockets to listen on. They are closed with the service.
        ssl_context: With one, TLS begins with the connection (RFC 8314 §3). A function that makes
            one is asked again by `reload_tls`.
        connected: Called with the protocol of each new connection.
        life: The handler, if it has something to open: it is entered before the first connection
            is accepted, and left after the last session has ended.
    """

    def __init__(
        self,
        factory: Callable[[], SMTP],
        sockets: Iterable[socket.socket] = (),
        *,
        ssl_context: TLSSource | None = None,
        connected: Callable[[SMTP], None] | None = None,
        life: HasLife | None = None,
    ) -> None:
        self._factory = factory
        self._certificates = Certificates(ssl_context) if ssl_context else None
        self._given = list(sockets)
        self._connected = connected
        self._binders: list[Callable[[], list[socket.socket]]] = []
        self._sessions = Sessions()
        self._servers: list[Listening] = []
        self._sockets: list[socket.socket] = []
        # While it is running: set when it is closed.
        self._closed: asyncio.Event | None = None
        self._handler = life
        self._life: Life | None = None
        self._ending: asyncio.Task[None] | None = None
        #: What its connections share, from one start to the next: a handler may change.
        self.setups = Setups()
        #: Prepares that, where it is known before the first connection comes.
        self.prepare: Callable[[], Setup] | None = None

    def listen(self, host: str | None, port: int) -> None:
        """Listen on a TCP port too, from the next `start` on."""
        self._binders.append(lambda: bind_tcp(host, port))

    def listen_unix(self, path: str | os.PathLike[str]) -> None:
        """Listen on a Unix socket too, from the next `start` on."""
        self._binders.append(lambda: [bind_unix(path, tidy=True)])

    @property
    def servers(self) -> list[Listening]:
        """The listening servers, one for each socket, as asyncio's are."""
        return list(self._servers)

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Where it listens: host and port, or the path of a Unix socket."""
        names = [sock.getsockname() for server in self._servers for sock in server.sockets]
        return [name[:2] if isinstance(name, tuple) else os.fsdecode(name) for name in names]

    @property
    def hostname(self) -> str:
        """The address of the first TCP socket that it listens on, such as ``"127.0.0.1"``.

        Raises:
            RuntimeError: It is not started, or listens on Unix sockets alone.
        """
        return self._first_tcp()[0]

    @property
    def port(self) -> int:
        """The port of the first TCP socket that it listens on.

        Raises:
            RuntimeError: It is not started, or listens on Unix sockets alone.
        """
        return self._first_tcp()[1]

    def _first_tcp(self) -> tuple[str, int]:
        addresses = self.addresses
        if not addresses:
            raise RuntimeError("the service does not listen, so it has no host and port: start it")
        for address in addresses:
            if isinstance(address, tuple):
                return address
        paths = ", ".join(map(str, addresses))
        raise RuntimeError(f"the service has no host and port: it listens on {paths}")

    async def start(self) -> Self:
        """Bind what is not bound yet, enter the handler, and accept connections.

        Raises:
            OSError: An address cannot be used; the text says which and why.
            RuntimeError: It is running.
            BaseException: What keeps the handler from being entered. Nothing listens then.
            TypeError: The handler has got a wrong hook since the service was made.
        """
        if self._servers:
            raise RuntimeError("the service is running already")
        loop = asyncio.get_running_loop()
        self._sockets = list(self._given)
        self._sessions.closed = False
        try:
            if self.prepare is not None and self.setups.first is None:
                self.setups.add(self.prepare())
            for bind in self._binders:
                # In a thread, for a host's name may have to be looked up.
                self._sockets += await asyncio.to_thread(bind)
            for sock in self._sockets:
                self._servers.append(await self._listen(sock, loop))
            if self._handler is not None:
                self._life = Life(self._handler, self._lost)
                await self._life.enter()
            for server in self._servers:
                await server.start_serving()
        except BaseException:
            self.stop_listening()
            with contextlib.suppress(Exception):  # the first error is the one to tell
                await self._leave()
            self.setups.clear()
            raise
        self._closed = self._closed or asyncio.Event()
        return self

    async def _listen(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> Listening:
        factory: Callable[[], SMTP]
        factory, certificates = self._new_connection, self._certificates
        if certificates is not None:
            try:
                return TLSListener(sock, loop, partial(self._accepted, certificates))
            except NotImplementedError:  # Windows' loop, which cannot watch a socket
                factory = partial(self._new_connection, certificates)
        if sock.family.name != "AF_UNIX":  # a name that not every system knows
            return await loop.create_server(
                factory, sock=sock, backlog=BACKLOG, start_serving=False
            )
        if sys.version_info >= (3, 13):
            with contextlib.suppress(TypeError):  # uvloop never removes the file
                return await loop.create_unix_server(
                    factory,
                    sock=sock,
                    backlog=BACKLOG,
                    start_serving=False,
                    cleanup_socket=False,
                )
        return await loop.create_unix_server(
            factory, sock=sock, backlog=BACKLOG, start_serving=False
        )

    def _accepted(self, certificates: Certificates, sock: socket.socket, address: object) -> None:
        self._new_connection().accepted(sock, address, certificates)

    def _new_connection(self, implicit_tls: Certificates | None = None) -> SMTP:
        smtp = self.setups.make(self._factory)
        smtp.sessions = self._sessions
        smtp.implicit_tls = implicit_tls
        if self._connected is not None:
            self._connected(smtp)
        return smtp

    def reload_tls(self) -> None:
        """Ask the functions that make TLS contexts for new ones, for the sessions to come.

        That is ``ssl_context`` and ``tls_context`` where they are functions; a context that was
        given as such stays.

        Raises:
            Exception: What such a function raises. Its context is then the one before.
        """
        errors = []
        for certificates in (self._certificates, *(setup.certificates for setup in self.setups)):
            if certificates is not None:
                try:
                    certificates.reload()
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    async def serve_forever(self) -> None:
        """Wait until the task is cancelled or `close` is called. Start first, if nobody has.

        Raises:
            OSError: An address cannot be used.
            BaseException: What has ended the handler's life, and with it the service.
        """
        if self._closed is not None:
            life = self._life
            await self._closed.wait()
            if life is not None:
                await life.leave()
        else:
            async with self:
                await self.serve_forever()

    async def close(self, grace: float = GRACE) -> None:
        """Stop listening and end the sessions.

        Those without a transaction or an exchange of AUTH get 421 at once; the others when theirs
        is finished, or after ``grace`` seconds. What was answered 250 has been handled; what was
        not has had no positive answer. The handler is left when no session is there any more.

        Args:
            grace: Seconds.

        Raises:
            BaseException: What the handler has raised when it was left.
        """
        self.stop_listening()
        try:
            await self._end_sessions(grace)
        finally:
            try:
                await self._leave()
            finally:
                if self._closed is not None:
                    self._closed.set()
                self._closed = None
                self.setups.clear()

    async def _end_sessions(self, grace: float) -> None:
        self._sessions.closed = True
        for session in self._sessions:
            session.shut_down()
        try:
            async with asyncio.timeout(grace):
                await self._sessions.wait_empty()
        except TimeoutError:
            for session in self._sessions:
                session.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEANING):
                    await self._sessions.wait_empty()
            for session in self._sessions:
                session.abort()
        finally:
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    async def _leave(self) -> None:
        life = self._life
        if life is not None:
            try:
                await life.leave()
            finally:
                self._life = None

    def _lost(self) -> None:
        """Close, for the handler's life has ended by itself, as the log tells."""
        self._ending = asyncio.create_task(self._close_after_loss())

    async def _close_after_loss(self) -> None:
        with contextlib.suppress(Exception):
            await self.close()

    def stop_listening(self) -> None:
        """Take no new connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def serve(
    handler: AnyHandler,
    hostname: str | None = "localhost",
    port: int = 8025,
    *,
    unix_socket: str | os.PathLike[str] | None = None,
    sockets: Iterable[socket.socket] | None = None,
    smtp_class: type[SMTP] = SMTP,
    ssl_context: TLSSource | None = None,
    server_hostname: str | None = None,
    **keywords: Unpack[SharedKeywords],
) -> Service:
    """Make a service in the running event loop: ``async with serve(handler) as service: ...``.

    Args:
        handler: The object with the hooks. One that is an asynchronous context manager is entered
            before the first connection is accepted, and left after the last session: see `HasLife`.
        hostname: The host to listen on; ``None`` for every address of the machine.
        port: The port; 0 takes a free one, which ``service.port`` then is.
        unix_socket: The path of a Unix socket to listen on instead.
        sockets: Bound sockets to listen on instead.
        smtp_class: The class of the connections: `LMTP`, or a subclass of your own.
        ssl_context: With one, TLS begins with the connection.
        server_hostname: What the server calls itself (`SMTP`'s ``hostname``).
        **keywords: Those of `SMTP`.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value is invalid.
    """
    all_keywords: SMTPKeywords = {"hostname": server_hostname, "loop": None, **keywords}
    service = make_service(
        handler, smtp_class, all_keywords, sockets or (), ssl_context, life=life_of(handler)
    )
    if unix_socket is not None:
        service.listen_unix(unix_socket)
    elif sockets is None:
        service.listen(hostname, port)
    return service


def make_service(
    handler: AnyHandler,
    smtp_class: type[SMTP],
    keywords: SMTPKeywords,
    sockets: Iterable[socket.socket],
    ssl_context: TLSSource | None,
    *,
    life: HasLife | None = None,
) -> Service:
    """Make a service whose connections share one setup; see `serve` and `Service`."""
    look = partial(prepare, smtp_class, handler, keywords)
    setup = look()
    service = Service(
        lambda: smtp_class(handler, setup=service.setups.first or look()),
        sockets,
        ssl_context=ssl_context,
        life=life,
    )
    service.setups.add(setup)
    service.prepare = look
    return service
