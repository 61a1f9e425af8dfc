"""Peers: clients of octets alone, which can end in every way, and say nothing of it to any log.

asyncio's own transports tell of their troubles in the very log that the tests look at.
"""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Self

from tests.server.secure import shared_client_context
from tests.server.support import DEADLINE, Address

#: What a proxy says of a client.
PROXY_HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n"


class Peer:
    """A connected socket, with TLS on it or not."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._read = b""

    @classmethod
    async def connect(cls, address: Address) -> Self:
        """Connect to a host and port, or to the path of a Unix socket."""
        unix = isinstance(address, str)
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        sock.setblocking(False)
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_connect(sock, address)
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.sock.close()

    # Octets.

    async def raw(self, octets: bytes) -> None:
        """Send octets past TLS. A server that has closed does not take them, and need not."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.get_running_loop().sock_sendall(self.sock, octets)

    async def send(self, octets: bytes) -> None:
        """Send octets, inside TLS where there is TLS."""
        if self.tls is not None:
            self.tls.write(octets)
            octets = self._outgoing.read()
        await self.raw(octets)

    async def _receive(self) -> bytes:
        """Some octets as they come; ``b""`` at the end, be it a reset."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await asyncio.get_running_loop().sock_recv(self.sock, 65536)
            except OSError:
                return b""

    async def receive(self) -> bytes:
        """Some octets of what was said; ``b""`` at the end."""
        if self.tls is None:
            return await self._receive()
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                octets = await self._receive()
                if not octets:
                    return b""
                self._incoming.write(octets)
            except ssl.SSLError:
                return b""

    async def reply(self) -> bytes:
        """A reply, all its lines; what there is of it at the end of the connection."""
        lines = b""
        while True:
            line, newline, rest = self._read.partition(b"\n")
            if newline:
                self._read = rest
                lines += line + newline
                if line[3:4] != b"-":
                    return lines
                continue
            octets = await self.receive()
            if not octets:
                return lines + self._read
            self._read += octets

    async def ask(self, line: bytes) -> bytes:
        """Send one line, and read the reply."""
        await self.send(line + b"\r\n")
        return await self.reply()

    async def rest(self) -> bytes:
        """Whatever comes until the connection ends."""
        octets, self._read = self._read, b""
        while more := await self.receive():
            octets += more
        return octets

    # TLS.

    async def handshake(
        self,
        context: ssl.SSLContext | None = None,
        name: str | None = "localhost",
        *,
        cut: bool = False,
    ) -> None:
        """Begin TLS, and send what that needs octet by octet if it is to be ``cut``.

        Raises:
            ssl.SSLError: The server's part did not please, or ours did not please the server.
            EOFError: The server has closed.
        """
        context = context or shared_client_context()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                said = self._outgoing.read()
                for piece in (said[i : i + 1] for i in range(len(said))) if cut else [said]:
                    await self.raw(piece)
                    await asyncio.sleep(0)
                octets = await self._receive()
                if not octets:
                    raise EOFError from None
                self._incoming.write(octets)
            except ssl.SSLError:
                await self.raw(self._outgoing.read())  # the alert
                raise
            else:
                await self.raw(self._outgoing.read())
                self.tls = tls
                return

    def hello(self) -> bytes:
        """What a TLS client says first."""
        outgoing = ssl.MemoryBIO()
        tls = shared_client_context().wrap_bio(
            ssl.MemoryBIO(), outgoing, server_hostname="localhost"
        )
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()

    # Ends.

    def close(self) -> None:
        """FIN, and whatever comes then is answered with RST. Inside TLS nobody is told before."""
        self.sock.close()

    def half_close(self) -> None:
        """FIN, but it still reads."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST; on a Unix socket, which has none, it is closed over what was not read."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def close_tls(self) -> None:
        """Close as TLS wants it, with a last word, and FIN at once."""
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            await self.raw(self._outgoing.read())
        self.sock.close()


class Watch(logging.Handler):
    """Hears everything that anything says of itself: records, and what cannot be raised."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []
        self.unraisable: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    def said(self, level: int) -> list[str]:
        """The records from a level on."""
        shape = logging.Formatter("%(name)s %(levelname)s %(message)s")
        return [shape.format(record) for record in self.records if record.levelno >= level]

    def infos(self) -> list[str]:
        """The texts at INFO."""
        return [r.getMessage() for r in self.records if r.levelno == logging.INFO]

    def gone(self) -> int:
        """How many sessions have ended."""
        return len([record for record in self.records if record.getMessage().endswith("] Gone")])

    def note_unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        """Keep what cannot be raised, such as a warning in a destructor."""
        self.unraisable.append(f"{what.err_msg} {what.object!r}: {what.exc_value!r}")


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Hear everything while this is entered."""
    watch = Watch()
    root = logging.getLogger()
    level, hook = root.level, sys.unraisablehook
    root.addHandler(watch)
    root.setLevel(logging.DEBUG)
    sys.unraisablehook = watch.note_unraisable
    try:
        yield watch
        gc.collect()
    finally:
        sys.unraisablehook = hook
        root.setLevel(level)
        root.removeHandler(watch)


@contextlib.asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """See that no task is left that was not there before, nor a socket."""
    tasks, sockets = asyncio.all_tasks(), _sockets()
    yield
    async with asyncio.timeout(DEADLINE):
        # What was closed is closed a few turns of the loop later.
        while asyncio.all_tasks() != tasks or _sockets() - sockets:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def _sockets() -> set[str]:
    """The sockets that this process has, as far as that can be known."""
    names = set()
    with contextlib.suppress(FileNotFoundError):  # where there is no /proc
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                names.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in names if name.startswith("socket:")}
