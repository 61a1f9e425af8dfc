"""Accepting: a listener for TLS from the first octet. Clients count before their handshake."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

__all__: list[str] = []

logger = logging.getLogger("smtp_server")

# Connections that are accepted before anything else gets its turn.
_AT_ONCE = 100

# Seconds until it is tried again when there are too many open files.
_PAUSE = 1.0

# What Linux tells of a connection that has failed before it was accepted: accept(2).
_LOST = frozenset(
    getattr(errno, name)
    for name in (
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "EPROTO",
    )
    if hasattr(errno, name)
)


class TLSListener(asyncio.AbstractServer):
    """A listening socket, as asyncio's servers are, that gives what it accepts to the service.

    asyncio's own would do the handshake first, and tell nobody meanwhile.

    Args:
        sock: The socket. It is closed with this.
        loop: The event loop.
        accepted: Called with each accepted socket, and the address of its peer.

    Raises:
        NotImplementedError: This event loop cannot watch a socket.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[socket.socket, object], None],
    ) -> None:
        self._loop = loop
        self._accepted = accepted
        self._socket: socket.socket | None = sock
        self._ended = asyncio.Event()
        self._serving = False
        # Whether it was told that nothing can be accepted, which is told once.
        self._failing = False
        sock.setblocking(False)
        loop.add_reader(sock, self._accept)
        loop.remove_reader(sock)  # it can watch it, and begins to when it is told

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The socket, until it is closed."""
        return () if self._socket is None else (self._socket,)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._serving and self._socket is not None

    def close(self) -> None:
        """Accept no more connections."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._ended.set()

    async def start_serving(self) -> None:
        """Accept connections from now on."""
        self._serving = True
        self._resume()

    async def serve_forever(self) -> None:
        """Wait until it is closed."""
        await self._ended.wait()

    async def wait_closed(self) -> None:
        """Wait until it is closed; the sessions are not waited for."""
        await self._ended.wait()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                self._all_accepted()
                return
            except (InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _LOST:
                    self._cannot_accept(self._socket, error)
                return
            sock.setblocking(False)
            try:
                self._accepted(sock, address)
            except BaseException:
                sock.close()
                raise

    def _cannot_accept(self, listening: socket.socket, error: OSError) -> None:
        if not self._failing:
            logger.error("Cannot accept connections, they have to wait: %s", error)
        self._failing = True
        self._loop.remove_reader(listening)
        self._loop.call_later(_PAUSE, self._resume)

    def _all_accepted(self) -> None:
        if self._failing:
            logger.warning("Connections are accepted again")
        self._failing = False

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept)
