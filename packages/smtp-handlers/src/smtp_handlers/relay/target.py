"""Target: where the next server is and how it is talked to, checked before the first message."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, TypedDict, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from smtp_protocol import LoginPassword

__all__: list[str] = []

TLSMode = Literal["required", "opportunistic", "off", "implicit"]

_MODES: Mapping[str, TLSMode] = {mode: mode for mode in get_args(TLSMode)}

# URL schemes: the default port, when TLS begins by default, and whether it is LMTP.
_SCHEMES: Mapping[str, tuple[int, TLSMode | None, bool]] = {
    "smtp": (25, None, False),
    "smtps": (465, "implicit", False),
    "lmtp": (24, None, True),
}

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")
# RFC 5321 §4.1.1.1: EHLO has a domain or an address literal.
_OWN_NAME = re.compile(rf"{_HOST_NAME.pattern}|\[[A-Za-z0-9.:-]+\]")
# RFC 1035 §2.3.4
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the next server is and how to talk to it.

    Args:
        address: Its host and port, or the path of a Unix socket.
        tls: When TLS begins, and whether it must.
        tls_context: What it accepts; ``None`` with ``tls="off"`` alone.
        login: Who we are to it.
        lmtp: Whether it speaks LMTP (RFC 2033).
        timeout: Seconds for each of its replies, and for it to take each block of a message.
        connect_timeout: Seconds until it is ready for MAIL.
    """

    address: tuple[str, int] | str
    tls: TLSMode
    tls_context: ssl.SSLContext | None
    login: LoginPassword | None = field(repr=False)
    lmtp: bool
    timeout: float
    connect_timeout: float

    @property
    def host(self) -> str | None:
        """The name that its certificate is for."""
        return self.address[0] if isinstance(self.address, tuple) else None


def make_address(
    host: str | None, port: int, path: str | os.PathLike[str] | None
) -> tuple[str, int] | str:
    """Make the address of the next server.

    Raises:
        ValueError: It is none.
    """
    if (host is None) == (path is None):
        raise ValueError("the next server is a host or a Unix socket: give one of the two")
    if host is None:
        return os.fspath(path or "")
    if not 0 < port < 65536:
        raise ValueError(f"a port is 1 to 65535, not {port}")
    return _host(host), port


def make_tls(
    mode: TLSMode | None, context: ssl.SSLContext | None, *, unix: bool
) -> tuple[TLSMode, ssl.SSLContext | None]:
    """Make the mode of TLS and the context for it.

    Args:
        mode: What was asked for; ``None`` for the default.
        context: What was given; ``None`` for the default.
        unix: Whether the next server is behind a Unix socket.

    Raises:
        ValueError: There is no such mode, or no TLS there.
    """
    if unix and mode not in (None, "off"):
        raise ValueError("there is no TLS on a Unix socket")
    if mode is None:
        mode = "off" if unix else "opportunistic"
    if mode not in _MODES:
        raise ValueError(f"tls is one of {', '.join(_MODES)}, not {mode!r}")
    if mode == "off":
        return mode, None
    return mode, context or _default_context(mode)


def _default_context(mode: TLSMode) -> ssl.SSLContext:
    if mode != "opportunistic":
        return ssl.create_default_context()
    # RFC 7435: encryption that nobody has vouched for is better than none.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_login(username: str | None, password: str | None, tls: TLSMode) -> LoginPassword | None:
    """Make who we are to the next server.

    Raises:
        ValueError: One of the two is missing, or would be sent where anybody may read it.
    """
    if username is None and password is None:
        return None
    if username is None or password is None:
        raise ValueError("a username needs a password, and the reverse")
    if tls == "opportunistic":
        raise ValueError(
            "a password needs tls='required' or 'implicit', or 'off' to send it in the clear"
        )
    if "\0" in username + password:
        raise ValueError("there is no NUL in a username or a password")  # RFC 4616 §2
    return LoginPassword(username.encode(), password.encode())


def own_name(name: str) -> str:
    """Make of a machine's name what it is called in SMTP: letters beyond ASCII as A-labels.

    Args:
        name: A domain or an address literal (RFC 5321 §4.1.2).

    Raises:
        ValueError: It cannot be said in EHLO.
    """
    ascii_name = name if name.startswith("[") else _a_labels(name)
    if not _OWN_NAME.fullmatch(ascii_name):
        raise ValueError(f"a machine is not called {name!r} in EHLO (RFC 5321 §4.1.1.1)")
    return ascii_name


def _host(host: str) -> str:
    if "://" in host:
        # It may have a password in it.
        raise ValueError("the host is a URL: Proxy.from_url takes one")
    try:
        ip_address(host)
    except ValueError:
        host = _a_labels(host)
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(
                f"{host!r} is neither the name of a host nor an IP address; "
                "the port is an argument of its own"
            ) from None
    return host


def _a_labels(name: str) -> str:
    """A name with each label in ASCII (RFC 5890 §2.3.2.1)."""
    try:
        if len(name) > _LONGEST_NAME:
            raise ValueError
        return name.encode("idna").decode("ascii")
    except ValueError:
        raise ValueError(
            f"{name[:_LONGEST_NAME]!r} is no name of a host: a label is empty, too long or not "
            "for names"
        ) from None


class Arguments(TypedDict):
    """The arguments of Proxy that a URL has."""

    remote_hostname: str | None
    remote_port: int
    unix_socket: str | None
    tls: TLSMode | None
    username: str | None
    password: str | None
    lmtp: bool


def read_url(url: str) -> Arguments:
    """Read the URL of a server. What it raises does not repeat it, for it may have a password.

    Args:
        url: ``smtp://user:password@host:port?tls=required``, or with ``smtps`` or ``lmtp``, or
            ``lmtp:///path`` for a Unix socket; ``%`` forms stand for what has another meaning.

    Raises:
        ValueError: It is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("no URL of a server: its host or its port is none") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"a URL of the next server begins with {', '.join(_SCHEMES)}, and ://")
    default_port, tls, lmtp = _SCHEMES[parts.scheme]
    if parts.fragment or (parts.hostname and parts.path not in ("", "/")):
        raise ValueError("behind the host and the port of a URL there may be ?tls=… alone")
    return Arguments(
        remote_hostname=parts.hostname,
        remote_port=default_port if port is None else port,
        unix_socket=None if parts.hostname else unquote(parts.path) or None,
        tls=_mode(parts) or tls,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        lmtp=lmtp,
    )


def _mode(parts: SplitResult) -> TLSMode | None:
    if not parts.query:
        return None
    mode = parts.query.removeprefix("tls=")
    if mode == parts.query or mode not in _MODES:
        raise ValueError(f"behind ? of a URL stands tls={'|'.join(_MODES)}")
    return _MODES[mode]
