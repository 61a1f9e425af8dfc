"""Soak: good, slow, broken and hostile clients at once, for minutes; nothing may be lost or leak.

    hatch run soak [--minutes 30] [--clients 24] [--seed 1]

A server process with STARTTLS, AUTH and BDAT keeps a journal of the messages that it was handed.
Clients talk to it over loopback as long as asked. At the end each message that was answered 250
must be in the journal, once; the server's memory and descriptors must be near what they were after
the first minute's warming up; and it must have logged no traceback and no task's lost exception.
"""

import argparse
import asyncio
import base64
import importlib
import logging
import os
import random
import re
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from smtp_protocol import (
    AuthResult,
    Envelope,
    Handler,
    LoginPassword,
    Server,
    Session,
)
from smtp_server import serve, testing

CERTIFICATE = Path(testing.__file__).with_name("localhost.pem")
KEY = Path(testing.__file__).with_name("localhost-key.pem")
WARMING_UP = 15.0
# What a program has freed the C library may keep, in holes between what is in use: that grows for
# an hour and means nothing. With these it is given back, and what is seen is what the server holds.
ALLOCATOR = {
    "PYTHONMALLOC": "malloc",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
SIZES = (0, 200, 2_000, 40_000, 600_000)
TROUBLE = re.compile(r"Traceback|never retrieved|was destroyed|was never awaited|^ERROR")


# The server.


class Journal(Handler):
    """Writes down the identity of each message, before it is answered."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Take a message."""
        if len(envelope.content) % 7 == 0:
            await asyncio.sleep(0.01)
        match = re.match(rb"X-Id: (\S+) (\d+)\r\n", envelope.content)
        if match is None or int(match[2]) != len(envelope.content):
            return "554 damaged"
        with self.path.open("a", encoding="ascii") as journal:
            journal.write(f"{match[1].decode()}\n")
        return "250 OK"


async def authenticate(
    server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
) -> AuthResult:
    """Let in whoever knows the password."""
    await asyncio.sleep(0)
    good = isinstance(auth_data, LoginPassword) and auth_data.password == b"soak"
    return AuthResult(success=good)


async def run_server(journal: str) -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    service = serve(
        Journal(journal),
        "127.0.0.1",
        0,
        tls_context=context,
        authenticator=authenticate,
        auth_failure_delay=0.01,
        timeout=5,
        data_timeout=3,
        tls_handshake_timeout=3,
        extensions=("PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES"),
    )
    async with service:
        print(service.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


# The clients.


class Soak:
    """What the clients share: where the server is, and what it has answered."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.numbers = count(1)
        self.answered: list[str] = []
        self.done: Counter[str] = Counter()
        self.trust = ssl.create_default_context(cafile=CERTIFICATE)

    def message(self) -> tuple[str, bytes]:
        """A message that says who it is and how long; dots and all."""
        name = f"m{next(self.numbers)}"
        lines = self.random.choice(SIZES) // 62
        body = b"".join(b".%061d\r\n" % number for number in range(lines))
        length = len(b"X-Id: %s 0000000000\r\n" % name.encode()) + len(body)
        return name, b"X-Id: %s %010d\r\n%s" % (name.encode(), length, body)


class Talk:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> bytes:
        """The last line of the next reply."""
        while True:
            line = await self.reader.readuntil(b"\n")
            if line[3:4] == b" ":
                return line

    async def ask(self, octets: bytes) -> bytes:
        """Send, and wait for one reply."""
        self.writer.write(octets)
        await self.writer.drain()
        return await self.reply()


async def good(soak: Soak, talk: Talk) -> None:
    """Several messages over one connection, with STARTTLS and AUTH as it comes."""
    dice = soak.random
    await talk.ask(b"EHLO soak\r\n")
    if dice.random() < 0.4:
        await talk.ask(b"STARTTLS\r\n")
        await talk.writer.start_tls(soak.trust, server_hostname="localhost")
        await talk.ask(b"EHLO soak\r\n")
        password = dice.choice((b"soak", b"soak", b"wrong"))
        words = base64.b64encode(b"\0tim\0" + password)
        await talk.ask(b"AUTH PLAIN " + words + b"\r\n")
    for _ in range(dice.randint(1, 4)):
        name, content = soak.message()
        if dice.random() < 0.3:
            await by_chunks(soak, talk, name, content)
        else:
            await by_data(soak, talk, name, content)
    await talk.ask(b"QUIT\r\n")


async def by_data(soak: Soak, talk: Talk, name: str, content: bytes) -> None:
    """One pipelined transaction with DATA."""
    talk.writer.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    for _ in range(3):
        await talk.reply()
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    if (await talk.ask(stuffed + b".\r\n")).startswith(b"250"):
        soak.answered.append(name)


async def by_chunks(soak: Soak, talk: Talk, name: str, content: bytes) -> None:
    """One transaction with BDAT."""
    await talk.ask(b"MAIL FROM:<a@b.example>\r\n")
    await talk.ask(b"RCPT TO:<c@d.example>\r\n")
    half = len(content) // 2
    await talk.ask(b"BDAT %d\r\n%s" % (half, content[:half]))
    last = content[half:]
    if (await talk.ask(b"BDAT %d LAST\r\n%s" % (len(last), last))).startswith(b"250"):
        soak.answered.append(name)


async def slow(soak: Soak, talk: Talk) -> None:
    """A message in drops, slower than a line but never silent for long."""
    name, content = soak.message()
    await talk.ask(b"HELO soak\r\n")
    await talk.ask(b"MAIL FROM:<a@b.example>\r\n")
    await talk.ask(b"RCPT TO:<c@d.example>\r\n")
    await talk.ask(b"DATA\r\n")
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    step = max(1, len(stuffed) // 20)
    for start in range(0, len(stuffed), step):
        talk.writer.write(stuffed[start : start + step])
        await asyncio.sleep(0.1)
    if (await talk.reply()).startswith(b"250"):
        soak.answered.append(name)


async def broken(soak: Soak, talk: Talk) -> None:
    """A connection that goes away at any point, with a reset or without."""
    _, content = soak.message()
    session = (
        b"EHLO soak\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        + content
        + b".\r\nQUIT\r\n"
    )
    talk.writer.write(session[: soak.random.randint(0, len(session))])
    if soak.random.random() < 0.5:
        await talk.writer.drain()
    talk.writer.transport.abort()


async def half_closed(soak: Soak, talk: Talk) -> None:
    """A whole session in one burst and an end of file; it still gets its answer."""
    name, content = soak.message()
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    talk.writer.write(
        b"EHLO soak\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + stuffed
    )
    talk.writer.write_eof()
    for _ in range(4):
        await talk.reply()
    if (await talk.reply()).startswith(b"250"):
        soak.answered.append(name)


async def hostile(soak: Soak, talk: Talk) -> None:
    """What no client sends."""
    dice = soak.random
    attacks: tuple[Callable[[], bytes], ...] = (
        lambda: dice.randbytes(5000),
        lambda: b"A" * 200_000,
        lambda: b"NOOP\r\n" * 20_000,
        lambda: b"STARTTLS\r\n" + dice.randbytes(300),
        lambda: b"EHLO x\r\nAUTH PLAIN\r\n" + base64.b64encode(dice.randbytes(9000)) + b"\r\n",
        lambda: b"EHLO x\r\nSTARTTLS\r\nRSET\r\nNOOP\r\n",
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: b"BDAT 99999999999999999999\r\n" + dice.randbytes(1000),
        lambda: b"BDAT x\r\nQUIT\r\n",
        lambda: b"\x16\x03\x01\x02\x00" + dice.randbytes(200),
    )
    talk.writer.write(dice.choice(attacks)())
    async with asyncio.timeout(dice.choice((0.05, 0.5, 8))):
        await talk.reader.read(-1)


KINDS: tuple[Callable[[Soak, Talk], Awaitable[None]], ...] = (
    good,
    good,
    good,
    slow,
    broken,
    half_closed,
    hostile,
)


async def client(soak: Soak, end: float) -> None:
    """One client after the other, until the time is over."""
    while time.monotonic() < end:
        kind = soak.random.choice(KINDS)
        reader, writer = await asyncio.open_connection("127.0.0.1", soak.port)
        outcome = "done"
        try:
            talk = Talk(reader, writer)
            async with asyncio.timeout(20):
                if kind is not hostile:
                    await talk.reply()
                await kind(soak, talk)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            outcome = type(error).__name__
        finally:
            writer.transport.abort()
        soak.done[f"{getattr(kind, '__name__', kind)}: {outcome}"] += 1


def footprint(pid: int) -> tuple[int, int]:
    """Resident memory in KiB, and open descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4, len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def run(minutes: float, clients: int, seed: int, loop: str) -> int:
    """Soak, and tell what was seen; the result is the exit status."""
    folder = Path(tempfile.mkdtemp())
    journal, errors = folder / "journal", folder / "stderr"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--server",
            str(journal),
            "--loop",
            loop,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **ALLOCATOR},
        )
    assert process.stdout is not None
    assert process.stdin is not None
    soak = Soak(int(await process.stdout.readline()), seed)
    first = await load(soak, clients, WARMING_UP, process.pid)
    last = await load(soak, clients, minutes * 60, process.pid)
    process.stdin.close()
    status = await asyncio.wait_for(process.wait(), 30)
    return report(soak, journal, errors, (first, last), status)


async def load(soak: Soak, clients: int, seconds: float, pid: int) -> tuple[int, int]:
    """Run the clients, let the last of them go, and measure the server."""
    end = time.monotonic() + seconds
    await asyncio.gather(*(client(soak, end) for _ in range(clients)))
    await asyncio.sleep(7)  # longer than any time-out of the server's
    return footprint(pid)


def report(
    soak: Soak,
    journal: Path,
    errors: Path,
    footprints: tuple[tuple[int, int], tuple[int, int]],
    status: int,
) -> int:
    """Print what was seen, and judge."""
    kept = Counter(journal.read_text().split())
    lost = [name for name in soak.answered if name not in kept]
    twice = [name for name, times in kept.items() if times > 1]
    (memory, descriptors), (memory_now, descriptors_now) = footprints
    trouble = [
        line for line in errors.read_text("utf-8", "replace").splitlines() if TROUBLE.search(line)
    ]
    for what, number in sorted(soak.done.items()):
        print(f"{what:32} {number:8}")
    print(f"{len(soak.answered)} messages answered 250, {len(kept)} in the journal")
    print(f"lost {len(lost)}, twice {len(twice)}; exit status {status}")
    print(f"memory {memory} -> {memory_now} KiB, descriptors {descriptors} -> {descriptors_now}")
    print(f"{len(trouble)} lines of trouble in the log", *trouble[:5], sep="\n")
    grown = memory_now > memory * 1.25 + 4096 or descriptors_now > descriptors + 2
    return int(bool(lost or twice or trouble or grown or status))


def main() -> None:
    """Read the options, and soak."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--server", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        importlib.import_module(options.loop).run(run_server(options.server))
    else:
        sys.exit(asyncio.run(run(options.minutes, options.clients, options.seed, options.loop)))


if __name__ == "__main__":
    main()
