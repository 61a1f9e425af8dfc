"""Listeners: sockets, bound before anything else is done; what this system lacks is left out."""

import contextlib
import errno
import os
import re
import socket
import stat
import sys
from collections.abc import Sequence

__all__: list[str] = []

#: How many clients may wait to be accepted.
BACKLOG = 128

# What systems say about an address, known from a name, whose family they do not have.
_UNAVAILABLE = frozenset(
    getattr(errno, name)
    for name in (
        "EADDRNOTAVAIL",
        "EAFNOSUPPORT",
        "EPFNOSUPPORT",
        "EPROTONOSUPPORT",
        "ESOCKTNOSUPPORT",
    )
    if hasattr(errno, name)
)

# How often another port is tried when the one that IPv4 was given is taken in IPv6.
_TRIES = 16

# Elsewhere the option is not there, or all clients go to one of the sockets.
_DIVIDES = sys.platform == "linux"

# A family, a host, and what stands behind the port in an address of IPv6: flow and scope.
_Place = tuple[int, str, tuple[int, ...]]


def port_number(port: int | str) -> int:
    """Read a port: a number, or its digits as the environment of a process has them.

    Raises:
        ValueError: It is no port.
    """
    number = int(port) if isinstance(port, str) and re.fullmatch("[0-9]{1,5}", port) else port
    if not isinstance(number, int) or not 0 <= number <= 65535:
        raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
    return number


def bind_tcp(host: str | None, port: int | str) -> list[socket.socket]:
    """Bind to every address of ``host``, all with the same port.

    An address whose family the system does not have is left out, as long as there is another one.

    Args:
        host: A name or an address; ``None`` or ``""`` for every address of the machine.
        port: 0 takes a free one.

    Returns:
        The sockets, listening.

    Raises:
        OSError: The host is not known, or the port is not to be had; the text says which.
        ValueError: The port is no port.
    """
    port = port_number(port)
    places = _look_up(host, port)
    for attempt in range(_TRIES):
        try:
            return _bind_all(places, port)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < _TRIES - 1:
                continue
            raise _cannot_listen(format_address((host or "*", port)), error) from None
    raise AssertionError


def _look_up(host: str | None, port: int) -> list[_Place]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"cannot listen on {host}: {error.strerror}") from None
    except UnicodeError:
        raise OSError(f"cannot listen on {host!r}: that is not the name of a host") from None
    families = _families()
    places = [(int(family), address) for family, *_, address in found if family in families]
    return list(
        dict.fromkeys((family, str(host), tuple(rest)) for family, (host, _, *rest) in places)
    )


def _families() -> tuple[int, ...]:
    """The families of addresses that this Python was built with."""
    ipv6: int | None = getattr(socket, "AF_INET6", None)
    if ipv6 is None or not getattr(socket, "has_ipv6", False):
        return (socket.AF_INET,)
    return (socket.AF_INET, ipv6)


def _bind_all(places: Sequence[_Place], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing = OSError(errno.EAFNOSUPPORT, "no address of a family that this Python knows")
    with contextlib.ExitStack() as undo:
        for family, host, rest in places:
            chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                sockets.append(undo.enter_context(_bind(family, (host, chosen, *rest))))
            except OSError as error:
                if error.errno not in _UNAVAILABLE:
                    raise
                missing = error
        if not sockets:
            raise missing
        undo.pop_all()
    return sockets


def _bind(family: int, address: tuple[str | int, ...], *, beside: bool = False) -> socket.socket:
    # asyncio switches Nagle's algorithm off only for a socket that says that it is TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # On Windows it would let two servers have the same port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family != socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def divide(sock: socket.socket, many: int, closing: contextlib.ExitStack) -> list[socket.socket]:
    """Make sockets for several processes out of one that listens.

    On Linux a port can have several sockets (SO_REUSEPORT), of which each gets its part of the
    clients. Elsewhere, and for Unix sockets, the processes share one, and whichever is quicker gets
    a client.

    Args:
        sock: What `bind_tcp` or `bind_unix` has made.
        many: How many processes there are.
        closing: What closes the new ones.

    Returns:
        A socket for each of them, the given one first.

    Raises:
        OSError: The system refuses.
    """
    if many == 1 or not _DIVIDES or sock.family.name == "AF_UNIX":
        return [sock] * many
    # Only now: had it been set before it was bound, then it would have been bound beside another
    # server, and nobody would have said that the port is taken.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    address = sock.getsockname()
    siblings = (_bind(sock.family, address, beside=True) for _ in range(many - 1))
    return [sock, *map(closing.enter_context, siblings)]


class UnixListener(socket.socket):
    """A Unix socket that can take its file away when it is closed.

    It leaves the file of another server that has taken the path since. In a forked process it
    leaves the file, too: that is the parent's.
    """

    _file: tuple[str, int, int] | None = None
    _process: int | None = None

    def note_file(self, path: str) -> None:
        """Remember the file at the path, to which the socket has been bound."""
        status = os.stat(path)
        self._file = path, status.st_dev, status.st_ino
        self._process = os.getpid()

    def close(self) -> None:
        """Close the socket; its file is gone before that."""
        file, self._file = self._file, None
        if file is not None and self._process == os.getpid():
            path, *identity = file
            with contextlib.suppress(OSError):
                status = os.stat(path)
                if [status.st_dev, status.st_ino] == identity:
                    os.unlink(path)
        super().close()


def bind_unix(path: str | os.PathLike[str], *, tidy: bool = False) -> socket.socket:
    """Bind to a Unix socket, in the place of one that nobody listens on any more.

    Args:
        path: Where. With a NUL in front it is a name that is no file, which Linux has.
        tidy: Whether the file goes when the socket is closed.

    Returns:
        The socket, listening.

    Raises:
        OSError: The path cannot be used, a server listens on it, or the system has no such sockets.
    """
    path = os.fspath(path)
    if getattr(socket, "AF_UNIX", None) is None:
        raise OSError(
            errno.EAFNOSUPPORT, f"cannot listen on {path}: this system has no Unix sockets"
        )
    sock = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    is_file = not path.startswith("\0")
    try:
        if is_file:
            _remove_dead_socket(path)
        sock.bind(path)
        if is_file and tidy:
            sock.note_file(path)
        sock.listen(BACKLOG)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise _cannot_listen(path, error) from None
        raise
    return sock


def _remove_dead_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # A server whose queue is full would keep the probe waiting; it is alive.
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except BlockingIOError:
                return


def _cannot_listen(where: str, error: OSError) -> OSError:
    # The text of the error itself may name the address once more, or be that of an event loop.
    # Windows has numbers of its own for the errors of sockets, which os.strerror does not know.
    known = error.errno is not None and os.name == "posix"
    reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
    return OSError(error.errno, f"cannot listen on {where}: {reason}")


def format_address(address: tuple[str, int] | str) -> str:
    """Write ``[::1]:25``, ``127.0.0.1:25``, or a path as it is."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
