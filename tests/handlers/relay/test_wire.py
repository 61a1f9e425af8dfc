"""Wire: what a server sends is bounded, and what is no reply ends the connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smtp_handlers.relay.wire import Wire, WireError

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[Wire, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A wire, and the server's end of it."""
    ends: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *end: ends.put_nowait(end), "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(Wire, *server.sockets[0].getsockname())
    reader, writer = await ends.get()
    try:
        yield wire, reader, writer
    finally:
        wire.abort()
        writer.transport.abort()
        server.close()
        await asyncio.sleep(0)


async def test_replies() -> None:
    async with wired() as (wire, _, writer):
        writer.write(b"220-a\r\n220 b\r\n250 c\r\n")
        assert (await wire.reply()).text == "a\nb"
        assert wire.unread
        assert not wire.idle
        assert (await wire.reply()).text == "c"
        assert wire.idle


@pytest.mark.parametrize(
    "octets",
    [
        b"rubbish\r\n",
        b"250 a\rb\r\n",
        b"250-a\r\n550 b\r\n",
        b"2" * 100_000,
        b"250-x\r\n" * 100_000,
        b"250 " + b"x" * 5000 + b"\r\n",
        b"\x16\x03\x01\x00\xff" * 10 + b"\n",
        b"\xff\xfe\n",
    ],
)
async def test_what_is_no_reply(octets: bytes) -> None:
    async with wired() as (wire, reader, writer):
        writer.write(octets)
        with pytest.raises(WireError):
            await wire.reply()
        assert not wire.idle
        with pytest.raises(WireError):
            await wire.write(b"NOOP\r\n")
        assert await _ended(reader)


async def test_a_server_that_does_not_stop_talking() -> None:
    async with wired() as (wire, reader, writer):
        writer.write(b"250 fine\r\n" * 100_000)
        assert await _ended(reader)
        assert not wire.idle
        while wire.unread:
            assert (await wire.reply()).code == 250
        with pytest.raises(WireError, match="does not stop talking"):
            await wire.reply()


async def test_many_replies_that_are_read() -> None:
    async with wired() as (wire, _, writer):
        for _ in range(100):
            writer.write(b"250 fine\r\n" * 1000)
            for _ in range(1000):
                await wire.reply()
        assert wire.idle


async def test_the_end_of_a_connection() -> None:
    async with wired() as (wire, _, writer):
        writer.write(b"421 bye\r\n")
        writer.close()
        assert (await wire.reply()).code == 421
        with pytest.raises(WireError):
            await wire.reply()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
