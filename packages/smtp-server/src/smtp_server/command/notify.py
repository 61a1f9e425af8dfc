"""Notify: tells systemd, or whoever started the service in its way, what the service is doing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import MutableMapping

__all__: list[str] = []

# Microseconds in a second; systemd counts in them.
_MICRO = 1_000_000


class Notifier:
    """Sends states to the socket that `sd_notify(3)` describes; without one, nowhere.

    Nothing is raised when nobody listens: a service does not fail for what it tells.

    Args:
        address: The path of a datagram socket; ``@`` in front means a name of Linux's that is no
            file.
        watchdog: Seconds within which a sign of life is expected, if one is.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        # The others that there are, such as vsock:, belong to virtual machines.
        known = address is not None and address[:1] in ("/", "@")
        self._address = address if known else None
        self._watchdog = watchdog

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Take what systemd has put into the environment, so that no child process finds it.

        Args:
            environ: The environment: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``
                are read and removed.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", str(os.getpid()))
        expected = re.fullmatch("0*[1-9][0-9]{0,17}", microseconds, re.ASCII) is not None
        mine = expected and process == str(os.getpid())
        return cls(address, int(microseconds) / _MICRO if mine else None)

    def ready(self, status: str) -> None:
        """Say that the service is up, or up again; ``status`` is a line for people."""
        self._send("READY=1", f"STATUS={' '.join(status.split())}")

    def reloading(self) -> None:
        """Say that files are read again; `ready` says when that is done."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1", "STATUS=Finishing what has begun")

    async def keep_alive(self) -> None:
        """Give a sign of life twice within the time in which one is expected, until cancelled.

        It comes from the event loop: a loop that a hook blocks gives none.
        """
        while self._watchdog is not None and self._address is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog / 2)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        name = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), os.fsencode(name))
