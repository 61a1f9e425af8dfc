"""Settings: what the keywords of a server say, checked once and shared by all its connections."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from smtp_protocol import AddressSyntax, AuthResult, BareNewline, Envelope, Server, Session
from smtp_protocol.auth import BUILT_IN
from smtp_protocol.extensions import check_extensions
from smtp_server.networks import UNIX
from smtp_server.observers import Observer
from smtp_server.tls import TLSSource

__all__: list[str] = []

#: Decides whether what a client has shown is right; it may be sync or async.
Authenticator = Callable[
    [Server, Session, Envelope, str, object], AuthResult | Awaitable[AuthResult]
]
#: The simple form: mechanism, login, password.
AuthCallback = Callable[[str, bytes, bytes], bool | Awaitable[bool]]


class SharedKeywords(TypedDict, total=False):
    """The keywords that `SMTP`, `serve` and the controllers share; see `Settings`."""

    data_size_limit: int | None
    enable_SMTPUTF8: bool
    decode_data: bool
    ident: str | None
    tls_context: TLSSource | None
    require_starttls: bool
    timeout: float | None
    data_timeout: float | None
    handler_timeout: float | None
    tls_handshake_timeout: float
    greeting_delay: float
    auth_required: bool
    auth_require_tls: bool
    auth_exclude_mechanism: Collection[str] | None
    auth_mechanisms: Collection[str]
    auth_callback: AuthCallback | None
    authenticator: Authenticator | None
    auth_in_thread: bool
    auth_failure_delay: float
    proxy_protocol_timeout: float | None
    proxy_trusted: Collection[str]
    xclient_trusted: Collection[str]
    command_call_limit: int | Mapping[str, int] | None
    extensions: Collection[str]
    address_syntax: AddressSyntax
    bare_newline: BareNewline
    line_length_limit: int | None
    max_recipients: int | None
    max_errors: int | None
    max_auth_failures: int | None
    max_messages: int | None
    max_recipient_domains: int | None
    max_connections: int | None
    max_connections_per_host: int | None
    ipv6_prefix: int
    observer: Observer | None


class SMTPKeywords(SharedKeywords, total=False):
    """The keywords of `SMTP`; see `Settings`."""

    hostname: str | None
    loop: asyncio.AbstractEventLoop | None


_SECONDS = (
    "timeout",
    "data_timeout",
    "handler_timeout",
    "tls_handshake_timeout",
    "proxy_protocol_timeout",
)
_DELAYS = ("greeting_delay", "auth_failure_delay")
_COUNTS = (
    "max_recipients",
    "max_recipient_domains",
    "max_messages",
    "max_errors",
    "max_auth_failures",
    "max_connections",
    "max_connections_per_host",
)
_COLLECTIONS = ("auth_mechanisms", "auth_exclude_mechanism", "proxy_trusted", "xclient_trusted")


def _check_call_limit(limit: int | Mapping[str, int] | None) -> None:
    limits = limit if isinstance(limit, Mapping) else {"*": limit}
    for verb, number in limits.items():
        if verb != "*" and verb != verb.upper():
            raise ValueError(f"command_call_limit names verbs in capitals: {verb.upper()!r}")
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"command_call_limit is a number from 1 on, not {number!r}")


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
        tls_context: With one, STARTTLS is offered (RFC 3207). A function that makes one is asked
            again by `Service.reload_tls`.
        require_starttls: Whether little else can be used before STARTTLS.
        timeout: How long a client may be silent, in seconds; ``None`` for ever.
        data_timeout: The same while it sends a message; ``None`` for the same as ``timeout``.
        handler_timeout: How long a hook may take, in seconds, before its client gets 451 and it
            is cancelled. The time in which it waits for the client, in AUTH, does not count.
        tls_handshake_timeout: How long a handshake may take, in seconds.
        greeting_delay: Seconds before the greeting; who talks earlier gets 421.
        auth_required: Whether mail can only be sent after AUTH (RFC 4954).
        auth_require_tls: Whether AUTH can only be used inside TLS.
        auth_exclude_mechanism: Mechanisms that are not offered.
        auth_mechanisms: The built-in mechanisms that are offered, if somebody can decide.
        auth_callback: Decides on PLAIN and LOGIN: ``(mechanism, login, password) -> bool``.
        authenticator: Decides on any mechanism: ``(server, session, envelope, mechanism,
            auth_data) -> AuthResult``, sync or async.
        auth_in_thread: Whether the two are called in a thread, for they block.
        auth_failure_delay: Seconds that a failed authentication is answered later.
        proxy_protocol_timeout: With a number, each connection has to begin with a PROXY header,
            within so many seconds.
        proxy_trusted: The networks that this header is taken from; ``"unix"`` is Unix sockets.
        xclient_trusted: The networks that XCLIENT and XFORWARD are taken from.
        command_call_limit: How often one session may send the same command, for all or by verb
            (``"*"``: those not named); above it 421.
        extensions: The EHLO keywords to offer beyond the usual ones.
        address_syntax: ``"lenient"`` or ``"strict"``: see `ProtocolConfig`.
        bare_newline: ``"normalize"``, ``"reject"`` or ``"keep"``: see `ProtocolConfig`.
        line_length_limit: The longest line of a body in octets: see `ProtocolConfig`.
        max_recipients: How many recipients one message may have; the next gets 452.
        max_auth_failures: The failed authentication that ends the session with 421. Failures
            are counted for each mechanism by itself, for clients try a password with several.
        max_messages: How many messages one session may bring.
        max_recipient_domains: How many domains the recipients of one message may have.
        max_errors: The error of a client that ends its session with 421.
        max_connections: How many sessions there may be at a time; the next gets 421.
        max_connections_per_host: The same for the clients of one address, or of one network of
            IPv6, where a client has many.
        ipv6_prefix: How many bits of an IPv6 address tell clients apart, 1 to 128.
        observer: Is told each reply; see `Observer`.
        loop: The event loop; the running one by default.

    Raises:
        ValueError: A value is invalid.
    """

    data_size_limit: int | None = 33554432
    enable_SMTPUTF8: bool = False
    decode_data: bool = False
    hostname: str | None = None
    ident: str | None = None
    tls_context: TLSSource | None = None
    require_starttls: bool = False
    timeout: float | None = 300
    data_timeout: float | None = None
    handler_timeout: float | None = None
    tls_handshake_timeout: float = 60
    greeting_delay: float = 0
    auth_required: bool = False
    auth_require_tls: bool = True
    auth_exclude_mechanism: Collection[str] | None = None
    auth_mechanisms: Collection[str] = ("LOGIN", "PLAIN")
    auth_callback: AuthCallback | None = field(default=None, repr=False)
    authenticator: Authenticator | None = field(default=None, repr=False)
    auth_in_thread: bool = False
    auth_failure_delay: float = 0.5
    proxy_protocol_timeout: float | None = None
    proxy_trusted: Collection[str] = ("127.0.0.0/8", "::1", UNIX)
    xclient_trusted: Collection[str] = ()
    command_call_limit: int | Mapping[str, int] | None = None
    extensions: Collection[str] = ()
    address_syntax: AddressSyntax = "lenient"
    bare_newline: BareNewline = "normalize"
    line_length_limit: int | None = None
    max_recipients: int | None = 1000
    max_errors: int | None = 20
    max_auth_failures: int | None = 3
    max_messages: int | None = None
    max_recipient_domains: int | None = None
    max_connections: int | None = None
    max_connections_per_host: int | None = None
    ipv6_prefix: int = 64
    observer: Observer | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        for name in ("hostname", "ident"):
            text = getattr(self, name)
            if text is not None and not (text and text.isprintable()):
                raise ValueError(f"{name} is a text that can stand in a greeting, not {text!r}")
        for name in _SECONDS:
            seconds = getattr(self, name)
            if seconds is not None and seconds <= 0:
                raise ValueError(f"{name} is a number of seconds above 0, not {seconds}")
        for name in _DELAYS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number of seconds, not {getattr(self, name)}")
        for name in _COUNTS:
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1, or None to switch it off, not {number}")
        _check_call_limit(self.command_call_limit)
        if not 1 <= self.ipv6_prefix <= 128:
            raise ValueError(f"ipv6_prefix is a number of bits from 1 to 128: {self.ipv6_prefix}")
        for name in _COLLECTIONS:
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is a collection; write ({getattr(self, name)!r},)")
        if self.require_starttls and self.tls_context is None:
            raise ValueError("require_starttls needs a tls_context")
        check_extensions(self.extensions)
        for mechanism in self.auth_mechanisms:
            if mechanism not in BUILT_IN:
                known = ", ".join(BUILT_IN)
                raise ValueError(f"there is no mechanism {mechanism!r}; there are {known}")
