"""Servers: one process is one server of one Python library, made as a plain program makes it.

    python servers.py LIBRARY LOOP JOB PORT [CERTIFICATE KEY]

It ends when its standard input does. What one job needs is imported for that job only.
"""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

# More than both libraries take by default, for the jobs with a larger message.
_LARGE = {"data_size_limit": 100_000_000}


class TakesData:
    """Gets a message whole."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take a message."""
        return "250 OK"


class TakesStream:
    """Gets a message in pieces."""

    async def handle_STREAM(
        self, server: Any, session: Any, envelope: Any, chunks: AsyncIterator[bytes]
    ) -> str:
        """Take a message."""
        async for _ in chunks:
            pass
        return "250 OK"


def _keywords(job: str, files: list[str]) -> dict[str, Any]:
    if job == "tls":
        ssl = importlib.import_module("ssl")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
        return {"tls_context": context}
    return _LARGE if job.startswith("large") else {}


async def ours(job: str, port: int, files: list[str]) -> None:
    """Listen with smtp-server."""
    library = importlib.import_module("smtp_server")
    handler = TakesStream() if job.endswith("stream") else TakesData()
    kind = library.LMTP if job == "lmtp" else library.SMTP
    keywords = _keywords(job, files)
    await library.serve(handler, "127.0.0.1", port, smtp_class=kind, **keywords).start()


async def aiosmtpd(job: str, port: int, files: list[str]) -> None:
    """Listen with aiosmtpd, which gives every message whole."""
    if job == "lmtp":
        kind = importlib.import_module("aiosmtpd.lmtp").LMTP
    else:
        kind = importlib.import_module("aiosmtpd.smtp").SMTP
    keywords = _keywords(job, files)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: kind(TakesData(), **keywords), "127.0.0.1", port)


_LIBRARIES: dict[str, Callable[[str, int, list[str]], Awaitable[None]]] = {
    "smtp-server": ours,
    "aiosmtpd": aiosmtpd,
}


async def main(library: str, job: str, port: int, files: list[str]) -> None:
    """Serve until standard input ends."""
    await _LIBRARIES[library](job, port, files)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    library, loop, job, port, *files = sys.argv[1:]
    factory = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(library, job, int(port), files))
