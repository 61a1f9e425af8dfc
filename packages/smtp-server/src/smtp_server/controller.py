"""Controllers: a service for programs that have no event loop, or one that they run themselves."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self, Unpack

from smtp_protocol import AnyHandler
from smtp_server.service import GRACE, Listening, Service
from smtp_server.settings import SharedKeywords, SMTPKeywords
from smtp_server.setup import Setup
from smtp_server.smtp import SMTP
from smtp_server.tls import TLSSource

__all__ = [
    "Controller",
    "UnixSocketController",
    "UnixSocketUnthreadedController",
    "UnthreadedController",
]

# The second name is what programs that come from the older library set.
_TIMEOUT_VARIABLES = ("SMTP_SERVER_CONTROLLER_TIMEOUT", "AIOSMTPD_CONTROLLER_TIMEOUT")


class _Base:
    """What all controllers have: a handler, its keywords, and a service."""

    def __init__(
        self,
        handler: AnyHandler,
        loop: asyncio.AbstractEventLoop | None,
        ssl_context: TLSSource | None,
        server_hostname: str | None,
        keywords: SharedKeywords,
    ) -> None:
        self.handler = handler
        self.loop = loop
        self.ssl_context = ssl_context
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
        self._made = False
        if type(self).factory is _Base.factory:
            # Handler and keywords are looked at now rather than by `start`. A subclass's factory
            # may need what its constructor has yet to do.
            self.factory()

    def factory(self) -> SMTP:
        """Make the protocol of a new connection. Override it for a subclass of `SMTP`."""
        if self._setup is None:
            self._setup = SMTP(self.handler, **self.SMTP_kwargs).setup
        return SMTP(self.handler, setup=self._setup)

    @property
    def server(self) -> Listening | None:
        """The listening server; ``None`` while stopped."""
        servers = self.service.servers if self.service is not None else []
        return servers[0] if servers else None

    def _make_service(self) -> Service:
        # Whatever is wrong with the factory shows now, and not with the first client.
        self.factory()
        service = Service(
            self.factory, ssl_context=self.ssl_context, connected=self._note_connection
        )
        self._listen(service)
        if self._made:
            service.reload_tls()  # what is started again reads its certificates again
        self._made = True
        return service

    def _note_connection(self, smtp: SMTP) -> None:
        self.smtpd = smtp

    def _listen(self, service: Service) -> None:
        raise NotImplementedError

    def _started(self, service: Service) -> None:
        self.service = service


class _TCP(_Base):
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
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.hostname = "localhost" if hostname is None else hostname
        self._wanted_port = port
        self.port = port
        super().__init__(handler, loop, ssl_context, server_hostname, smtp_keywords)

    def _listen(self, service: Service) -> None:
        service.listen(self.hostname, self._wanted_port)

    def _started(self, service: Service) -> None:
        super()._started(service)
        address = service.addresses[0]
        if isinstance(address, tuple):
            self.port = address[1]


class _Unix(_Base):
    """Listening on a Unix socket."""

    def __init__(
        self,
        handler: AnyHandler,
        unix_socket: str | os.PathLike[str],
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        ssl_context: TLSSource | None = None,
        server_hostname: str | None = None,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.unix_socket = os.fspath(unix_socket)
        super().__init__(handler, loop, ssl_context, server_hostname, smtp_keywords)

    def _listen(self, service: Service) -> None:
        service.listen_unix(self.unix_socket)


class _Threaded(_Base):
    """A service in a thread with an event loop of its own."""

    #: Seconds that `start` waits for the server to listen.
    ready_timeout: float = 1.0

    _thread: threading.Thread | None = None
    _stop_request: Future[float] | None = None

    def start(self) -> None:
        """Start the server, and return when it listens.

        Raises:
            OSError: The address is not to be had; the text says why.
            TimeoutError: It does not listen after ``ready_timeout`` seconds.
            RuntimeError: It was started already.
        """
        if self._thread is not None:
            raise RuntimeError("the controller is started already; stop it first")
        timeout = self._ready_timeout()
        ready: Future[Service] = Future()
        self._stop_request = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready, self._stop_request), name="smtp-server", daemon=True
        )
        self._thread.start()
        try:
            self._started(ready.result(timeout))
        except TimeoutError:
            if ready.done():
                self.stop()
                raise
            self._stop_request.set_result(0.0)
            self._thread = None
            raise TimeoutError(
                f"the server was not ready within {timeout:g} seconds; "
                f"raise ready_timeout or {_TIMEOUT_VARIABLES[0]}"
            ) from None
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = GRACE) -> None:
        """Stop the server, and return when it has stopped. Does nothing when it was not started.

        Args:
            grace: Seconds that running transactions have to finish.
        """
        thread, self._thread = self._thread, None
        if thread is None or self._stop_request is None:
            return
        if not self._stop_request.done():
            self._stop_request.set_result(grace)
        thread.join()
        self.service = None

    def _ready_timeout(self) -> float:
        for variable in _TIMEOUT_VARIABLES:
            text = os.environ.get(variable)
            if text is not None:
                try:
                    return float(text)
                except ValueError:
                    raise ValueError(f"{variable} is a number of seconds, not {text!r}") from None
        return self.ready_timeout

    def _run(self, ready: Future[Service], stop: Future[float]) -> None:
        if self.loop is None:
            with asyncio.Runner() as runner:
                runner.run(self._serve(ready, stop))
        else:
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._serve(ready, stop))

    async def _serve(self, ready: Future[Service], stop: Future[float]) -> None:
        try:
            service = self._make_service()
            if not stop.done():
                await service.start()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(service)
        await service.close(await asyncio.wrap_future(stop))

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


class _Unthreaded(_Base):
    """A service in an event loop that the program runs itself."""

    def begin(self) -> None:
        """Start the server, in a loop that is not running yet.

        Raises:
            OSError: The address is not to be had; the text says why.
            RuntimeError: A loop is running (there, use `smtp_server.serve`), or it was begun
                already.
        """
        if self.service is not None:
            raise RuntimeError("the controller was begun already; end it first")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop is running; inside of it, use smtp_server.serve")
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        service = self._make_service()
        self.loop.run_until_complete(service.start())
        self._started(service)

    async def finalize(self, grace: float = GRACE) -> None:
        """Stop the server from inside the running loop."""
        service, self.service = self.service, None
        if service is not None:
            await service.close(grace)

    def end(self, grace: float = GRACE) -> None:
        """Stop the server, when the loop has stopped running."""
        if self.loop is not None:
            self.loop.run_until_complete(self.finalize(grace))


class Controller(_Threaded, _TCP):
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
        **smtp_keywords: Those of `SMTP`; SMTPUTF8 is on unless they say otherwise.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value cannot be meant.
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
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.ready_timeout = ready_timeout
        super().__init__(
            handler,
            hostname,
            port,
            loop,
            ssl_context=ssl_context,
            server_hostname=server_hostname,
            **smtp_keywords,
        )


class UnixSocketController(_Threaded, _Unix):
    """An SMTP server in a thread of its own, on a Unix socket.

    Args:
        handler: The object with the hooks.
        unix_socket: The path of the socket.
        loop: The event loop to run; a new one by default.
        ready_timeout: Seconds that `start` waits.
        ssl_context: With one, TLS begins with the connection.
        server_hostname: What the server calls itself.
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
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        self.ready_timeout = ready_timeout
        super().__init__(
            handler,
            unix_socket,
            loop,
            ssl_context=ssl_context,
            server_hostname=server_hostname,
            **smtp_keywords,
        )


class UnthreadedController(_Unthreaded, _TCP):
    """An SMTP server on a TCP port, in a loop that the program runs. Arguments as `Controller`."""


class UnixSocketUnthreadedController(_Unthreaded, _Unix):
    """An SMTP server on a Unix socket, in a loop that the program runs."""
