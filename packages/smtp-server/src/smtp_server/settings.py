"""Settings: what the keywords of a server say, checked once and shared by all its connections."""

import asyncio
import difflib
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypedDict

from smtp_protocol import (
    AddressSyntax,
    AnyHandler,
    BareNewline,
    Connected,
    Data,
    Ehlo,
    Event,
    Expn,
    Helo,
    Help,
    Hooks,
    Mail,
    Noop,
    ProtocolConfig,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)
from smtp_protocol.extensions import check_extensions
from smtp_server.verbs import own_verbs

__all__ = ["SMTPKeywords", "Settings", "Setup"]


class SharedKeywords(TypedDict, total=False):
    """The keywords that `SMTP`, `serve` and the controllers share; see `Settings`."""

    data_size_limit: int | None
    enable_SMTPUTF8: bool
    decode_data: bool
    ident: str | None
    timeout: float | None
    command_call_limit: int | Mapping[str, int] | None
    extensions: Collection[str]
    address_syntax: AddressSyntax
    bare_newline: BareNewline
    line_length_limit: int | None
    max_recipients: int | None
    max_errors: int | None
    max_connections: int | None
    max_connections_per_host: int | None


class SMTPKeywords(SharedKeywords, total=False):
    """The keywords of `SMTP`; see `Settings`."""

    hostname: str | None
    loop: asyncio.AbstractEventLoop | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one server does, and how far it goes.

    Args:
        data_size_limit: The largest message in octets; ``None`` or 0 for no limit (RFC 1870).
        enable_SMTPUTF8: Whether SMTPUTF8 is offered (RFC 6531).
        decode_data: Whether ``envelope.text`` is filled: UTF-8 where SMTPUTF8 or 8BITMIME was
            asked for, ASCII otherwise.
        hostname: What the server calls itself; the machine's name by default.
        ident: What follows the name in the greeting.
        timeout: How long a client may be silent, in seconds; ``None`` for ever.
        command_call_limit: How often one session may send the same command, for all or by verb
            (``"*"``: those not named); above it 421.
        extensions: The EHLO keywords to offer beyond the usual ones.
        address_syntax: ``"lenient"`` or ``"strict"``: see `ProtocolConfig`.
        bare_newline: ``"normalize"``, ``"reject"`` or ``"keep"``: see `ProtocolConfig`.
        line_length_limit: The longest line of a body in octets: see `ProtocolConfig`.
        max_recipients: How many recipients one message may have; the next gets 452.
        max_errors: The how-manieth error of a client ends its session with 421.
        max_connections: How many sessions there may be at a time; the next gets 421.
        max_connections_per_host: The same for the clients of one address.
        loop: The event loop; the running one by default.

    Raises:
        ValueError: A value cannot be meant.
    """

    data_size_limit: int | None = 33554432
    enable_SMTPUTF8: bool = False
    decode_data: bool = False
    hostname: str | None = None
    ident: str | None = None
    timeout: float | None = 300
    command_call_limit: int | Mapping[str, int] | None = None
    extensions: Collection[str] = ()
    address_syntax: AddressSyntax = "lenient"
    bare_newline: BareNewline = "normalize"
    line_length_limit: int | None = None
    max_recipients: int | None = 1000
    max_errors: int | None = 20
    max_connections: int | None = None
    max_connections_per_host: int | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        for name in ("hostname", "ident"):
            text = getattr(self, name)
            if text is not None and not (text and text.isprintable()):
                raise ValueError(f"{name} is a text that can stand in a greeting, not {text!r}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout is a number of seconds above 0, or None, not {self.timeout}")
        for name in ("max_recipients", "max_errors", "max_connections", "max_connections_per_host"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1, or None to switch it off, not {number}")
        check_extensions(self.extensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Whatever a connection needs that does not change: settings, hooks, protocol.

    Attributes:
        settings: The keywords.
        hooks: The handler's hooks.
        config: The engine's part of the settings.
        hostname: What the server calls itself.
        ident: What follows it in the greeting.
        quick: The events whose hook is the default: it answers at once.
    """

    settings: Settings
    hooks: Hooks
    config: ProtocolConfig
    hostname: str
    ident: str
    quick: frozenset[type[Event]]


#: Which hook answers which event.
HOOKS: Mapping[type[Event], str] = {
    Connected: "handle_CONNECT",
    Helo: "handle_HELO",
    Ehlo: "handle_EHLO",
    Mail: "handle_MAIL",
    Rcpt: "handle_RCPT",
    Rset: "handle_RSET",
    Noop: "handle_NOOP",
    Quit: "handle_QUIT",
    Vrfy: "handle_VRFY",
    Expn: "handle_EXPN",
    Help: "handle_HELP",
}


def prepare(smtp_class: type, handler: AnyHandler, keywords: SMTPKeywords, ident: str) -> Setup:
    """Check everything that the connections of one server share.

    Args:
        smtp_class: The class of the connections, whose ``smtp_…`` methods are its own verbs.
        handler: The object with the hooks.
        keywords: What the user set.
        ident: The default of that keyword.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value cannot be meant.
    """
    known = [field.name for field in fields(Settings)]
    for name in keywords:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise TypeError(f"there is no keyword {name!r}; did you mean {nearest!r}?")
    settings = Settings(**keywords)
    verbs = own_verbs(smtp_class)
    hooks = Hooks(handler, verbs)
    utf8 = {"SMTPUTF8"} if settings.enable_SMTPUTF8 else set()
    config = ProtocolConfig(
        data_size_limit=settings.data_size_limit,
        extensions=frozenset(utf8.union(settings.extensions)),
        address_syntax=settings.address_syntax,
        bare_newline=settings.bare_newline,
        line_length_limit=settings.line_length_limit,
        own_verbs=frozenset(verbs),
    )
    return Setup(
        settings=settings,
        hooks=hooks,
        config=config,
        hostname=settings.hostname or machine_name(),
        ident=settings.ident or ident,
        quick=frozenset({Data}.union(e for e, hook in HOOKS.items() if hook not in hooks.own)),
    )


@lru_cache(maxsize=1)
def machine_name() -> str:
    """The name of this machine, without a question to the DNS, which may take many seconds."""
    return socket.gethostname() or "localhost"
