"""Memory: how much a server's memory grows with the length of a message, per handler.

    python tests/soak/memory.py [--megabytes 200]

For each handler a server is started in a process of its own and given a short message, then a long
one. What counts is the difference between the peaks of the resident memory (VmHWM) after each.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_MEGABYTE = 1_000_000
_LINE = b"x" * 98 + b"\r\n"
_BLOCK = _LINE * 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured for one handler."""

    handler: str
    base: float
    growth: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.handler:10} {self.base:7.1f} MB after a short message, "
            f"{self.growth:+7.1f} MB after the long one, which took {self.seconds:.1f} s"
        )


@asynccontextmanager
async def server(*handler: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run the command with this handler and no limit of size."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "smtp_server", "-n", "-s", "0", "-l", "127.0.0.1:0", "-c"),
        *handler,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        line = (await process.stderr.readline()).decode()
        yield process, int(line.rpartition(":")[2])
    finally:
        process.kill()
        await process.wait()


async def send(port: int, blocks: int) -> None:
    """Send a message of so many blocks of a megabyte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def reply(code: bytes) -> None:
        line = await reader.readline()
        if not line.startswith(code):
            raise SystemExit(f"the server said {line!r}")

    await reply(b"220")
    for line, code in (
        (b"HELO c.example", b"250"),
        (b"MAIL FROM:<a@x.example>", b"250"),
        (b"RCPT TO:<b@x.example>", b"250"),
        (b"DATA", b"354"),
    ):
        writer.write(line + b"\r\n")
        await reply(code)
    for _ in range(blocks):
        writer.write(_BLOCK)
        await writer.drain()
    writer.write(b".\r\n")
    await reply(b"250")
    writer.close()


def peak(process: asyncio.subprocess.Process) -> float:
    """The peak of the process's resident memory, in megabytes."""
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024 / _MEGABYTE


async def measure(name: str, megabytes: int, *handler: str) -> Figures:
    """Measure one handler."""
    async with server(*handler) as (process, port):
        await send(port, 1)
        base = peak(process)
        start = time.monotonic()
        await send(port, megabytes)
        seconds = time.monotonic() - start
        return Figures(name, base, peak(process) - base, seconds)


async def measure_all(megabytes: int, folder: Path) -> list[Figures]:
    """Measure Mailbox, and Proxy with another server behind it."""
    async with AsyncExitStack() as stack:
        mailbox = await measure("Mailbox", megabytes, "smtp_handlers.Mailbox", str(folder))
        _, port = await stack.enter_async_context(server("smtp_handlers.Mailbox", str(folder)))
        target = f"smtp://127.0.0.1:{port}"
        proxy = await measure("Proxy", megabytes, "smtp_handlers.Proxy", target)
    return [mailbox, proxy]


def main() -> None:
    """Print the figures; exit with 1 when memory grows with the message."""
    parser = argparse.ArgumentParser(
        description="Measure the memory of servers with long messages."
    )
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure_all(megabytes, Path(folder)))
    print(*figures, sep="\n")
    sys.exit(1 if any(each.growth > megabytes / 10 for each in figures) else 0)


if __name__ == "__main__":
    main()
