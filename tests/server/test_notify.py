"""Notify: what systemd would hear, on a real datagram socket."""

import asyncio
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.support import DEADLINE

from smtp_server.command.notify import Notifier

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")


@contextlib.contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    """A socket of the name that systemd would give."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE)
        sock.bind(name.replace("@", "\0", 1))
        yield sock


@pytest.fixture
def path() -> Iterator[str]:
    # Its path has to be short, which that of a test's folder need not be.
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "notify")


def test_what_is_said(path: str) -> None:
    notifier = Notifier(path)
    with listening(path) as sock:
        notifier.ready("Listens on\n[::1]:25")
        assert sock.recv(1000) == b"READY=1\nSTATUS=Listens on [::1]:25"
        before = time.monotonic_ns() // 1000
        notifier.reloading()
        said = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", sock.recv(1000))
        assert said is not None
        assert before <= int(said[1]) <= time.monotonic_ns() // 1000
        notifier.stopping()
        assert sock.recv(1000).startswith(b"STOPPING=1\n")


@needs_linux
def test_a_name_that_is_no_file() -> None:
    name = f"@smtp-server-{os.getpid()}"
    with listening(name) as sock:
        Notifier(name).ready("up")
        assert sock.recv(1000).startswith(b"READY=1\n")


@pytest.mark.parametrize("address", [None, "", "/no/such/socket", "vsock:2:1234", "@" * 200])
async def test_nobody_is_there(address: str | None) -> None:
    notifier = Notifier(address, watchdog=0.001)
    notifier.ready("up")
    notifier.reloading()
    notifier.stopping()
    if not address or address[0] not in "/@":
        async with asyncio.timeout(DEADLINE):
            await notifier.keep_alive()


async def test_signs_of_life(path: str) -> None:
    with listening(path) as sock:
        task = asyncio.create_task(Notifier(path, watchdog=0.002).keep_alive())
        for _ in range(3):
            assert await asyncio.to_thread(sock.recv, 1000) == b"WATCHDOG=1"
        task.cancel()


@pytest.mark.parametrize(
    ("environ", "signs"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 1),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "-5"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "9" * 5000}, 0),
        ({}, 0),
    ],
)
async def test_the_environment_is_read_and_cleared(
    path: str, environ: dict[str, str], signs: int
) -> None:
    environ |= {"NOTIFY_SOCKET": path, "OTHER": "x"}
    notifier = Notifier.from_environ(environ)
    assert environ == {"OTHER": "x"}
    with listening(path) as sock:
        task = asyncio.create_task(notifier.keep_alive())
        if signs:
            assert await asyncio.to_thread(sock.recv, 1000) == b"WATCHDOG=1"
            assert not task.done()
            task.cancel()
        else:
            async with asyncio.timeout(DEADLINE):
                await task
