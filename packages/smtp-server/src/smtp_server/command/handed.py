"""Handed over: sockets that another process has opened for this one, taken by their numbers."""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import MutableMapping
from typing import NamedTuple

__all__: list[str] = []

# systemd's first one; the three before are standard input, output and error.
_FIRST = 3

_NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Handed(NamedTuple):
    """A listening socket: its number, and what the one who opened it calls it."""

    number: int
    name: str


def adopt(number: int) -> socket.socket:
    """Make a socket object of an open file descriptor; it is closed with that, and not inherited.

    Raises:
        OSError: There is no such descriptor, or it is no socket that listens for streams.
    """
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on descriptor {number}: it is no socket"
        ) from None
    if sock.type != socket.SOCK_STREAM or not _listens(sock):
        sock.detach()
        raise OSError(
            f"cannot listen on descriptor {number}: its socket does not listen "
            "(with systemd, Accept=no and ListenStream= are needed)"
        )
    os.set_inheritable(number, False)
    if sock.family.name == "AF_UNIX":
        return sock
    # asyncio switches Nagle's algorithm off only for a socket that says that it is TCP, and not
    # every system tells the protocol of a descriptor.
    return socket.socket(sock.family, sock.type, socket.IPPROTO_TCP, fileno=sock.detach())


def _listens(sock: socket.socket) -> bool:
    option: int | None = getattr(socket, "SO_ACCEPTCONN", None)
    try:
        return option is None or bool(sock.getsockopt(socket.SOL_SOCKET, option))
    except OSError:  # macOS knows the option and does not answer it
        return True


def from_environ(environ: MutableMapping[str, str]) -> list[Handed]:
    """What systemd has handed over (sd_listen_fds(3)); there may be nothing.

    Args:
        environ: The environment: ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES`` are read
            and removed, so that no child process takes the sockets for its own.
    """
    process, count, names = (environ.pop(name, "") for name in _NAMES)
    if process != str(os.getpid()) or not re.fullmatch("[0-9]{1,5}", count):
        return []
    numbers = range(_FIRST, _FIRST + int(count))
    called = itertools.chain(names.split(":"), itertools.repeat(""))
    return [Handed(number, name) for number, name in zip(numbers, called, strict=False)]
