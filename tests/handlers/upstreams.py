"""Upstreams: servers behind a Proxy that answer, die and stall as a test wants."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

EXTENSIONS = ("8BITMIME", "SIZE 1000000")

# Answers that are none: the connection is closed, or nothing is said any more.
CUT = "cut"
STALL = "stall"

_YES = re.compile(r"250 [^\r\n\0]*")

_DEFAULTS = {
    "DATA": "354 go on",
    "STARTTLS": "220 go on",
    "QUIT": "221 bye",
    "end": "250 2.0.0 taken",
}


class Upstream:
    """A server that does what it was told.

    Args:
        extensions: What EHLO offers.
        answers: The replies, by verb; ``greeting``, ``handshake`` (of TLS), ``body`` (in
            mid-message) and ``end`` (of the message) count as verbs. A list has one for each time,
            of which the last stays. `CUT` and `STALL` are among them.
        die_at: The verb at which it closes the connection, each time.
        stall_at: The verb at which it falls silent, each time.
        on_stall: What to do when it does.
        lmtp: Whether there is a reply to a message for each recipient.
        context: For STARTTLS, or with ``implicit`` for TLS from the beginning.
    """

    def __init__(
        self,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        answers: Mapping[str, str | list[str]] | None = None,
        die_at: str = "",
        stall_at: str = "",
        on_stall: Callable[[], None] = lambda: None,
        lmtp: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.extensions = extensions
        self.answers = dict(answers or {})
        self.die_at = die_at
        self.stall_at = stall_at
        self.on_stall = on_stall
        self.lmtp = lmtp
        self.context = context
        self.connections = 0
        self.open = 0
        self.stalled = 0
        self.commands: list[str] = []
        self.messages: list[bytes] = []
        # The recipients of messages that it has answered 250.
        self.taken: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def verbs(self) -> str:
        """The verbs of what came, but for hellos."""
        words = [command.split()[0] for command in self.commands]
        return " ".join(word for word in words if word not in ("EHLO", "HELO", "LHLO"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with suppress(ConnectionError, EOFError, ssl.SSLError, asyncio.CancelledError):
                await self._dialogue(reader, writer)
        finally:
            self.open -= 1
            self.tasks.discard(task)
            writer.transport.abort()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer(writer, "greeting", "220 upstream.example")
        recipients: list[str] = []
        while True:
            line = (await reader.readuntil(b"\r\n")).decode().removesuffix("\r\n")
            self.commands.append(line)
            verb = line.split()[0].upper()
            if verb == "BDAT":
                self.messages.append(await reader.readexactly(int(line.split()[1])))
                verb = "end" if line.endswith("LAST") else verb
            if verb in ("EHLO", "LHLO"):
                lines = ["upstream.example", *self.extensions]
                default = "\r\n".join([*(f"250-{each}" for each in lines[:-1]), f"250 {lines[-1]}"])
            else:
                default = _DEFAULTS.get(verb, f"250 2.0.0 {verb} done")
            code = (await self._answer(writer, verb, default))[:3]
            if verb == "MAIL":
                recipients = []
            elif verb == "RCPT" and code == "250":
                recipients.append(line.partition("<")[2].partition(">")[0])
            elif verb == "DATA" and code == "354":
                await self._message(reader, writer, recipients)
            elif verb == "STARTTLS" and code == "220":
                assert self.context is not None
                if "handshake" in self.answers:
                    await self._answer(writer, "handshake", "")
                await writer.start_tls(self.context)
            elif verb == "QUIT":
                return

    async def _message(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recipients: Sequence[str]
    ) -> None:
        content = b"\r\n"
        while not content.endswith(b"\r\n.\r\n"):
            if len(content) > 2:
                await self._die_or_stall(writer, "body")
                if "body" in self.answers:
                    await self._answer(writer, "body", "")
            content += await reader.read(65536) or b"\r\n.\r\n"
            if reader.at_eof():
                return
        if "body" in self.answers:
            raise ConnectionError  # it has said what it had to say
        self.messages.append(content[2:-3])
        groups = [[each] for each in recipients] if self.lmtp else [recipients]
        for group in groups:
            if _YES.fullmatch(await self._answer(writer, "end", "250 2.0.0 taken")):
                self.taken += group

    async def _answer(self, writer: asyncio.StreamWriter, verb: str, default: str) -> str:
        await self._die_or_stall(writer, verb)
        answer = self.answers.get(verb, default)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer == CUT:
            writer.transport.abort()
            raise ConnectionError
        if answer == STALL:
            await self._stall()
        writer.write(answer.encode() + b"\r\n")
        await writer.drain()
        return answer

    async def _die_or_stall(self, writer: asyncio.StreamWriter, verb: str) -> None:
        if self.die_at == verb:
            writer.transport.abort()
            raise ConnectionError
        if self.stall_at == verb:
            await self._stall()

    async def _stall(self) -> None:
        self.stalled += 1
        asyncio.get_running_loop().call_soon(self.on_stall)
        await asyncio.Event().wait()

    @asynccontextmanager
    async def listening(
        self,
        *,
        implicit: bool = False,
        unix_socket: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> AsyncIterator[int]:
        """Listen; gives the port."""
        context = self.context if implicit else None
        if unix_socket is not None:
            server = await asyncio.start_unix_server(self.serve, unix_socket)
            port = 0
        else:
            server = await asyncio.start_server(self.serve, host, port, ssl=context)
            port = server.sockets[0].getsockname()[1]
        try:
            yield port
        finally:
            server.close()
            tasks = list(self.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def make_certificate(folder: Path) -> Path:
    """Make a certificate for localhost that signs itself; the file has its key, too."""
    path = folder / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes((folder / "certificate.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return path
