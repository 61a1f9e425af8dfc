"""Places: where to listen, and how: a host and a port, a path or a descriptor, bound when asked."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from smtp_server.command.errors import CannotStartError
from smtp_server.command.handed import adopt
from smtp_server.listeners import bind_tcp, bind_unix, format_address, port_number

__all__: list[str] = []

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8025

#: What can be spoken, and how it begins.
SCHEMES = ("smtp", "smtps", "lmtp")

_SCHEME = re.compile(rf"(?i)({'|'.join(SCHEMES)})://")
_MODE = re.compile(r":(0?[0-7]{3})\Z")

_PRIVILEGED = "; only root can have a port below 1024, or who has CAP_NET_BIND_SERVICE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one listener is, and what it says of its own.

    Args:
        scheme: ``smtp``, ``smtps`` or ``lmtp``; empty for what the other options say.
        host: A name or an address.
        port: A port.
        path: The path of a Unix socket, in the place of the two.
        mode: The mode of its file.
        fd: The number of a descriptor that listens, in the place of all that.
        own: What it says of its own, by the names of options.
    """

    scheme: str = ""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str | None = None
    mode: int | None = None
    fd: int | None = None
    own: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.fd is not None:
            return f"fd:{self.fd}"
        if self.path is not None:
            return f"unix:{self.path}"
        return format_address((self.host, self.port))

    @property
    def shared(self) -> bool:
        """Whether several processes have to share its sockets."""
        return self.fd is not None or self.path is not None

    def bind(self) -> list[socket.socket]:
        """Bind.

        Raises:
            OSError: It cannot be had; the text says why, and what to do.
        """
        if self.fd is not None:
            return [adopt(self.fd)]
        if self.path is not None:
            with _created_with(self.mode):
                return [bind_unix(self.path, tidy=True)]
        try:
            return bind_tcp(self.host, self.port)
        except PermissionError as error:
            if self.port < 1024:
                raise CannotStartError(f"{error.strerror}{_PRIVILEGED}") from None
            raise


@contextlib.contextmanager
def _created_with(mode: int | None) -> Iterator[None]:
    """Have files made with a mode from the first moment on."""
    if mode is None:
        yield
        return
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def read_place(text: object, read_own: Callable[[str, str], tuple[str, object]]) -> Place:
    """Read where to listen.

    Args:
        text: ``HOST:PORT``, ``smtp://``, ``smtps://`` or ``lmtp://`` in front of that,
            ``unix:PATH[:MODE]``, ``lmtp:///PATH``, or ``fd:NUMBER``; behind these maybe
            ``?option=value&option=value``.
        read_own: Reads the value of an option; gives its name and the value.

    Raises:
        ValueError: It is none of these.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected a place to listen, not {text!r}")
    scheme = _SCHEME.match(text)
    prefixed = scheme is not None or text.startswith(("unix:", "fd:"))
    where, _, query = text.partition("?") if prefixed else (text, "", "")
    options = dict(read_own(*pair) for pair in _pairs(query))
    if where.startswith("unix:"):
        return read_unix(where.removeprefix("unix:"), own=options)
    if where.startswith("fd:"):
        return read_fd(where.removeprefix("fd:"), own=options)
    kind = scheme[1].lower() if scheme else ""
    rest = where[scheme.end() :] if scheme else where
    if scheme and rest.startswith("/"):
        return read_unix(rest, scheme=kind, own=options)
    host, port = _host_and_port(rest)
    return Place(scheme=kind, host=host, port=port, own=options)


def _pairs(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    from urllib.parse import parse_qsl  # noqa: PLC0415 few need it

    return parse_qsl(query, keep_blank_values=True)


def read_unix(text: object, *, scheme: str = "", own: Mapping[str, object] = {}) -> Place:
    """Read ``PATH`` or ``PATH:MODE``."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"expected a path, not {text!r}")
    mode = _MODE.search(text)
    path = text[: mode.start()] if mode else text
    return Place(scheme=scheme, path=path, mode=int(mode[1], 8) if mode else None, own=own)


def read_fd(value: object, *, own: Mapping[str, object] = {}) -> Place:
    """Read the number of a descriptor."""
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"expected the number of a descriptor, not {value!r}")
    return Place(fd=number, own=own)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or _is_ipv6(text):
        host, port = text, ""  # all of it is a host
    host = host.removeprefix("[").removesuffix("]")
    try:
        return host or DEFAULT_HOST, port_number(port) if port else DEFAULT_PORT
    except ValueError:
        raise ValueError(f"expected HOST:PORT, with a port from 0 to 65535, not {text!r}") from None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
