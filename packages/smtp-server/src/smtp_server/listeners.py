"""Listeners: sockets, bound before anything else is done, each in its own way to be reached."""

import errno
import os
import socket
import stat
from collections.abc import Sequence

__all__: list[str] = []

_BACKLOG = 128
_UNAVAILABLE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

# How often another port is tried when the one that IPv4 was given is taken in IPv6.
_TRIES = 16


def bind_tcp(host: str | None, port: int) -> list[socket.socket]:
    """Bind to every address of ``host``, all with the same port.

    Args:
        host: A name or an address; ``None`` or ``""`` for every address of the machine.
        port: 0 takes a free one.

    Returns:
        The sockets, listening.

    Raises:
        OSError: The host is not known, or the port is not to be had; the text says which.
        ValueError: The port is no port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"cannot listen on {host}: {error.strerror}") from None
    addresses = list(dict.fromkeys((family, str(host)) for family, *_, (host, *_) in found))
    for attempt in range(_TRIES):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < _TRIES - 1:
                continue
            reason = os.strerror(error.errno) if error.errno else str(error)
            text = f"cannot listen on {format_address((host or '*', port))}: {reason}"
            raise OSError(error.errno, text) from None
    raise AssertionError


def _bind_all(
    addresses: Sequence[tuple[socket.AddressFamily, str]], port: int
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, host in addresses:
        chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
        try:
            sockets.append(_bind(family, (host, chosen)))
        except OSError as error:
            if error.errno in _UNAVAILABLE:
                # A machine may know the IPv6 address of a name and not have IPv6.
                missing = error
                continue
            for bound in sockets:
                bound.close()
            raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def _bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    # asyncio switches Nagle's algorithm off only for a socket that says that it is TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bind_unix(path: str | os.PathLike[str]) -> socket.socket:
    """Bind to a Unix socket, in the place of one that nobody listens on any more.

    Raises:
        OSError: The path cannot be used, or a server listens on it.
    """
    path = os.fspath(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead_socket(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"cannot listen on {path}: {reason}") from None
    return sock


def _remove_dead_socket(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def format_address(address: tuple[str, int] | str) -> str:
    """Write ``[::1]:25``, ``127.0.0.1:25``, or a path as it is."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
