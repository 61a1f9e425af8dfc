"""Clients: a server around a handler, and a client that says what a test wants to be said."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Unpack

from smtp_protocol import AnyHandler, Reply
from smtp_server import serve
from smtp_server.settings import SharedKeywords

HELLO = b"Subject: Hello\r\n\r\nHi Bart!\r\n"


class Client:
    """One connection to a server, step by step."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> Reply:
        """Read the next reply."""
        lines: list[str] = []
        while not lines or lines[-1][3] == "-":
            lines.append((await self.reader.readline()).decode().removesuffix("\r\n") or "421 ")
        return Reply.parse("\n".join(lines))

    async def __call__(self, line: str) -> Reply:
        """Send a command and read its reply."""
        self.writer.write(line.encode() + b"\r\n")
        return await self.reply()

    async def body(self, content: bytes) -> Reply:
        """Send a message, dots and all, and read the reply."""
        self.writer.write(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    async def send(
        self,
        content: bytes = HELLO,
        *,
        sender: str = "anne@example.com",
        to: Iterable[str] = ("bart@example.com",),
    ) -> Reply:
        """Run a whole transaction; the result is the first negative reply, or the last one."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in to), "DATA"):
            reply = await self(line)
            if not reply.positive:
                await self("RSET")
                return reply
        return await self.body(content)

    async def close(self) -> None:
        """Go without a word."""
        self.writer.close()


@asynccontextmanager
async def connected(port: int, hello: str = "EHLO client.example") -> AsyncIterator[Client]:
    """A client that has said its hello, unless that is empty."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        assert (await client.reply()).code == 220
        if hello:
            assert (await client(hello)).code == 250
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def running(handler: AnyHandler, **keywords: Unpack[SharedKeywords]) -> AsyncIterator[int]:
    """A server around the handler, named mx.example; gives its port."""
    async with serve(handler, "127.0.0.1", 0, server_hostname="mx.example", **keywords) as service:
        [(_, port)] = [pair for pair in service.addresses if isinstance(pair, tuple)]
        yield port


@asynccontextmanager
async def session(handler: AnyHandler, **keywords: Unpack[SharedKeywords]) -> AsyncIterator[Client]:
    """A server around the handler and a client that has said EHLO."""
    async with running(handler, **keywords) as port, connected(port) as client:
        yield client
