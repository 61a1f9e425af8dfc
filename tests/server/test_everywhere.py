"""Every transcript of tests/conformance, on each way to the server and on each event loop."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import conformance
from tests.conformance.player import MODES, play
from tests.conformance.site import Recorder, authenticate
from tests.conformance.transcript import Eof, Say, Transcript, read
from tests.server.secure import WIRES, Wire
from tests.server.support import DEADLINE, Dialogue

from smtp_server import LMTP, SMTP

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

_FOLDER = Path(next(iter(conformance.__path__))) / "transcripts"
TRANSCRIPTS = [read(path) for path in sorted(_FOLDER.glob("*.txt"))]


@dataclass
class OneWire:
    """One connection, for the player; ``waiting`` has been read already."""

    client: Dialogue
    delivered: list[bytes]
    waiting: bytes

    async def send(self, segment: bytes) -> None:
        """A server that has closed does not take what is sent, and need not."""
        with suppress(OSError):
            self.client.writer.write(segment)
            async with asyncio.timeout(DEADLINE):
                await self.client.writer.drain()

    async def send_eof(self) -> None:
        """Inside TLS there is no half of a connection; all of it is closed."""
        if self.client.writer.can_write_eof():
            self.client.writer.write_eof()
        else:
            self.client.writer.close()

    async def start_tls(self, *, refused: bool) -> None:
        """Transcripts that do this are not played."""
        raise NotImplementedError

    async def read_line(self) -> bytes:
        """Read a line."""
        if self.waiting:
            line, self.waiting = self.waiting, b""
            return line
        async with asyncio.timeout(DEADLINE):
            return await self.client.reader.readline()

    async def until_close(self) -> bytes:
        """Read the rest."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self.client.reader.read()
        except OSError:
            return b""


def fits(transcript: Transcript, wire: Wire) -> bool:
    """Whether a transcript says the same on a wire as in the clear, where it was written for."""
    said = b"".join(step.octets for step in transcript.steps if isinstance(step, Say)).upper()
    if not wire.encrypted:
        return not transcript.needs_tls
    if transcript.needs_tls or b"AUTH" in said or b"STARTTLS" in said or b"REQUIRETLS" in said:
        return False
    return Eof() not in transcript.steps  # inside TLS there is no half of a connection


def settings(transcript: Transcript) -> tuple[type[SMTP], dict[str, Any]]:
    """The class and the keywords of the server that a transcript needs."""
    keywords: dict[str, Any] = dict(transcript.settings)
    extensions = keywords.pop("extensions")
    keywords["enable_SMTPUTF8"] = "SMTPUTF8" in extensions
    keywords["extensions"] = extensions - {"SMTPUTF8"}
    keywords["server_hostname"] = keywords.pop("hostname")
    if "auth_mechanisms" in keywords:
        keywords.update(authenticator=authenticate, auth_failure_delay=0)
    if keywords.pop("trusted", False):
        keywords["xclient_trusted"] = ("127.0.0.0/8", "unix")
    return LMTP if keywords.pop("lmtp", False) else SMTP, keywords


CASES = [
    pytest.param(transcript, wire, id=f"{transcript.name}-{wire.name}")
    for transcript in TRANSCRIPTS
    for wire in map(Wire, WIRES)
    if fits(transcript, wire)
]


@pytest.mark.parametrize(("transcript", "wire"), CASES)
async def test_a_transcript(transcript: Transcript, wire: Wire) -> None:
    smtp_class, keywords = settings(transcript)
    for mode in MODES:
        # Octet by octet TCP has it already in tests/conformance.
        if mode in transcript.not_played or mode == "octets":
            continue
        recorder = Recorder()
        async with wire.serve(recorder, smtp_class, **keywords) as service:
            hello = "LHLO" if smtp_class is LMTP else "EHLO"
            client = await wire.connect(service, hello)
            greeting = f"220 {keywords['server_hostname']} {keywords['ident']}\r\n"
            backend = OneWire(client, recorder.delivered, greeting.encode())
            await play(transcript, backend, mode)
            await client.close()
