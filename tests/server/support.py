"""What the tests of the server share: a client that sees each octet, and handlers that remember."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Self, Unpack, cast

import pytest

from smtp_protocol import AnyHandler, Envelope, Handler, Server, Session
from smtp_server import SMTP, Service, serve
from smtp_server.settings import SharedKeywords, SMTPKeywords

# Slow machines may set it to more than 1: all that is waited for takes so many times as long.
_SLOWNESS = float(os.environ.get("SMTP_TEST_SLOWNESS", "1"))

#: Seconds after which a test gives up. Nothing waits so long unless it is broken.
DEADLINE = 30.0 * _SLOWNESS

#: Seconds of a delay, or of a limit that is reached for sure, because nothing else happens.
#:
#: A limit that other things have to come before is not tested with sockets: there is a
#: `FakeLoop` for that, on which nothing takes time that is not given.
SHORT = 0.05 * _SLOWNESS

HOSTNAME = "mx.test"

Address = tuple[str, int] | str


def has_ipv6() -> bool:
    """Whether this machine has it."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def keep_little(transport: asyncio.BaseTransport) -> None:
    """Have the kernel keep little of what one side sends and the other does not read.

    It would let megabytes wait, which is slow to fill.
    """
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 128 * 1024)


class Narrow(SMTP):
    """A connection for which the kernel keeps little."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have it do so."""
        keep_little(transport)
        super().connection_made(transport)


class Dialogue:
    """A client that says what it is told to, and reads reply by reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: Address) -> Self:
        """Connect to a host and port, or to the path of a Unix socket."""
        async with asyncio.timeout(DEADLINE):
            if isinstance(address, str):
                return cls(*await asyncio.open_unix_connection(address, limit=2**20))
            return cls(*await asyncio.open_connection(*address, limit=2**20))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(DEADLINE):
                    await self.writer.wait_closed()
            except TimeoutError:
                self.writer.transport.abort()
                raise

    async def reply(self) -> str:
        """Read one reply; its lines are joined with LF. ``""`` at the end of the connection."""
        lines = []
        async with asyncio.timeout(DEADLINE):
            while line := (await self.reader.readline()).decode("ascii"):
                assert line.endswith("\r\n"), line
                lines.append(line.removesuffix("\r\n"))
                if line[3:4] != "-":
                    break
        return "\n".join(lines)

    async def send(self, data: str | bytes) -> None:
        """Send octets as they are."""
        self.writer.write(data.encode() if isinstance(data, str) else data)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()

    async def ask(self, line: str | bytes) -> str:
        """Send one line, to which CR LF is added, and read the reply."""
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def tell(self, *lines: str | bytes) -> str:
        """Send the lines one after the other, each with its reply; the last reply is returned."""
        reply = ""
        for line in lines:
            reply = await self.ask(line)
        return reply

    async def begin_data(self, sender: str = "anne@example.com", *recipients: str) -> None:
        """Get as far as the reply to DATA."""
        recipients = recipients or ("bart@example.com",)
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients)]
        for command in ["EHLO client.test", *commands]:
            assert (await self.ask(command)).startswith("250")
        assert (await self.ask("DATA")).startswith("354")

    async def deliver(self, content: str | bytes = "Subject: x\r\n\r\nHi\r\n") -> str:
        """Send a whole message, which must end a line, and read the answer to it."""
        await self.begin_data()
        await self.send(content)
        return await self.ask(".")

    async def rest(self) -> str:
        """Read until the server has closed the connection."""
        async with asyncio.timeout(DEADLINE):
            return (await self.reader.read(-1)).decode("ascii")

    def stop_reading(self) -> asyncio.Transport:
        """Leave unread what comes."""
        transport = cast(asyncio.Transport, self.writer.transport)
        keep_little(transport)
        transport.pause_reading()
        return transport

    async def flood(self, line: str) -> int:
        """Send a line again and again until nobody takes it any more; tell how often."""
        keep_little(self.writer.transport)
        self.writer.transport.set_write_buffer_limits(high=1)
        many = 100
        times = 0
        while not self.writer.is_closing():
            self.writer.write(line.encode() * many)
            times += many
            assert times * len(line) < 100_000_000, "they are all taken"
            try:
                async with asyncio.timeout(4 * SHORT):
                    await self.writer.drain()
            except TimeoutError:
                break
        return times

    def reset(self) -> None:
        """Drop the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 what it looks at has no event
            await asyncio.sleep(0.005)


def service_of(
    smtp_class: type[SMTP], handler: AnyHandler, **keywords: Unpack[SMTPKeywords]
) -> Service:
    """A service on a free port whose connections are of a subclass."""
    keywords = {"hostname": HOSTNAME, **keywords}
    service = Service(lambda: smtp_class(handler, **keywords))
    service.listen("127.0.0.1", 0)
    return service


def tcp_address(service: Service) -> tuple[str, int]:
    """The first address of a service, which is one of TCP."""
    address = service.addresses[0]
    assert isinstance(address, tuple)
    return address


@contextlib.asynccontextmanager
async def talking(service: Service) -> AsyncIterator[Dialogue]:
    """A connection to a running service, greeted."""
    async with await Dialogue.connect(service.addresses[0]) as client:
        assert (await client.reply()).startswith("220 ")
        yield client


@contextlib.asynccontextmanager
async def dialogue(
    handler: AnyHandler, **keywords: Unpack[SharedKeywords]
) -> AsyncIterator[Dialogue]:
    """A running server and one greeted connection to it."""
    service = serve(handler, "127.0.0.1", 0, server_hostname=HOSTNAME, **keywords)
    async with service, talking(service) as client:
        yield client


class Keeper(Handler):
    """Keeps the envelope of each message, and counts sessions."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.gone: list[Session] = []

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Count the session in."""
        self.sessions.append(session)
        return f"220 {server.hostname} {server.ident}"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Keep the message."""
        self.envelopes.append(envelope)
        return "250 Kept"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Count the session out."""
        self.gone.append(session)


class Gate(Keeper):
    """Keeps each message after a wait: ``reached`` is set when a hook is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Wait until the gate is open."""
        self.reached.set()
        await self.opened.wait()
        return await super().handle_DATA(server, session, envelope)

    async def wait_reached(self) -> None:
        """Wait until `handle_DATA` runs."""
        async with asyncio.timeout(DEADLINE):
            await self.reached.wait()
