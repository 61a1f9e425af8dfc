"""A live server on a TCP port of this machine, and one connection to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.conformance.site import Recorder, authenticate
from tests.conformance.transcript import Transcript

from smtp_server import LMTP, SMTP, serve

__all__ = ["LiveBackend", "live_backend"]

# Seconds after which a server that says nothing is taken to be stuck.
_PATIENCE = 20


class LiveBackend:
    """One connection to a server."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        delivered: list[bytes],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.delivered = delivered

    async def send(self, segment: bytes) -> None:
        # A server that has closed does not take what is sent, and need not.
        with suppress(ConnectionError):
            self._writer.write(segment)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def start_tls(self, *, refused: bool) -> None:
        raise NotImplementedError("TLS has tests of its own")

    async def read_line(self) -> bytes:
        async with asyncio.timeout(_PATIENCE):
            return await self._reader.readline()

    async def until_close(self) -> bytes:
        async with asyncio.timeout(_PATIENCE):
            return await self._reader.read()


@asynccontextmanager
async def live_backend(transcript: Transcript) -> AsyncIterator[LiveBackend]:
    """Start a server with the settings of a transcript, and connect to it."""
    keywords: dict[str, Any] = dict(transcript.settings)
    keywords["server_hostname"] = keywords.pop("hostname")
    extensions = keywords.pop("extensions")
    keywords["enable_SMTPUTF8"] = "SMTPUTF8" in extensions
    keywords["extensions"] = extensions - {"SMTPUTF8"}
    if "auth_mechanisms" in keywords:
        keywords.update(authenticator=authenticate, auth_failure_delay=0)
    if keywords.pop("trusted", False):
        keywords["xclient_trusted"] = ("127.0.0.0/8",)
    smtp_class = LMTP if keywords.pop("lmtp", False) else SMTP
    handler = Recorder()
    async with serve(handler, "127.0.0.1", 0, smtp_class=smtp_class, **keywords) as service:
        (address,) = service.addresses
        assert isinstance(address, tuple)
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield LiveBackend(reader, writer, handler.delivered)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
