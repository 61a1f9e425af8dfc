"""Servers: one process for one server of one library, so that its CPU time can be told apart.

Run as ``python servers.py NAME LOOP HANDLER``; prints the port when it listens, and ends when its
standard input does.
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any


async def ours(handler: str) -> int:
    """Listen with smtp-server."""
    service = importlib.import_module("smtp_server").serve(_HANDLERS[handler](), "127.0.0.1", 0)
    await service.start()
    return int(service.addresses[0][1])


async def aiosmtpd(handler: str) -> int:
    """Listen with aiosmtpd, its size limit raised to ours."""
    smtp = importlib.import_module("aiosmtpd.smtp")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: smtp.SMTP(_HANDLERS[handler]()), "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


class _Data:
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take the message."""
        return "250 OK"


_SERVERS: dict[str, Callable[[str], Awaitable[int]]] = {"ours": ours, "aiosmtpd": aiosmtpd}
_HANDLERS: dict[str, Callable[[], Any]] = {"data": _Data}


async def main(name: str, handler: str) -> None:
    """Serve until standard input ends."""
    print(await _SERVERS[name](handler), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        importlib.import_module("uvloop").install()
    asyncio.run(main(sys.argv[1], sys.argv[3]))
