"""Options: each is one entry of a table, and so an option, a key of the file and a variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Generic, TypeVar, cast

from smtp_server.command import values
from smtp_server.command.values import Kind, maybe, one_of
from smtp_server.settings import Settings

__all__: list[str] = []

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option(Generic[T_co]):
    """Something that can be said on the command line, in the environment and in the file.

    Args:
        name: ``max-errors`` is the option ``--max-errors``, the key ``max-errors`` and the variable
            ``SMTP_SERVER_MAX_ERRORS``.
        kind: What its value may be.
        help: What it does, for ``--help``.
        group: Where it stands there.
        default: Its value when nobody says anything.
        shown: What the help calls the default, where that is not its value.
        short: A letter for the command line.
        keyword: The keyword of the server that it is, if it is one.
        each: Whether one listener may have it otherwise than the others.
        repeat: Whether it may be given several times; its value is then a tuple.
        alone: Its value when it is given without one.
        adds: Whether each time that it is given counts one more.
    """

    name: str
    kind: Kind[object]
    help: str
    group: str
    default: object = None
    shown: str | None = None
    short: str | None = None
    keyword: str | None = None
    each: bool = False
    repeat: bool = False
    alone: object = None
    adds: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"SMTP_SERVER_{self.attribute.upper()}"

    @property
    def attribute(self) -> str:
        """Its name in a namespace of argparse."""
        return self.name.replace("-", "_")


class Values(dict[str, object]):
    """What was said of each option, by its name."""

    def of(self, option: Option[T]) -> T:
        """The value of an option, which its kind has made; or its default."""
        return cast(T, self.get(option.name, option.default))


WHERE = "where it listens"
WHO = "who runs it, and how"
HANDLER = "the handler"
TLS = "TLS"
AUTH = "AUTH"
MAIL = "what it says and takes"
LIMITS = "limits"
TIMES = "times, in seconds"
PROXIES = "proxies in front of it"
LOG = "the log"

_DEFAULTS: Mapping[str, object] = {field.name: field.default for field in fields(Settings)}


def _keyword(
    keyword: str,
    kind: Kind[object],
    group: str,
    help: str,
    *,
    name: str | None = None,
    short: str | None = None,
    shown: str | None = None,
    alone: object = None,
) -> Option[object]:
    """The option that is a keyword of the server."""
    return Option(
        name=name or keyword.replace("_", "-"),
        kind=kind,
        help=help,
        group=group,
        default=_DEFAULTS[keyword],
        shown=shown,
        short=short,
        keyword=keyword,
        each=True,
        alone=alone,
    )


_SECONDS = maybe(values.SECONDS)
_COUNT = maybe(values.COUNT)
_OCTETS = maybe(values.OCTETS)

#: Those that are keywords of the server. A new keyword is a line here.
KEYWORDS: tuple[Option[object], ...] = (
    _keyword(
        "data_size_limit",
        _OCTETS,
        MAIL,
        "the largest message; 0 for no limit (RFC 1870)",
        name="size",
        short="s",
    ),
    _keyword(
        "enable_SMTPUTF8",
        values.FLAG,
        MAIL,
        "offer SMTPUTF8 (RFC 6531): addresses and headers in UTF-8",
        name="smtputf8",
        short="u",
    ),
    _keyword("decode_data", values.FLAG, MAIL, "give the handler each message as text, too"),
    _keyword(
        "hostname",
        values.NAME,
        MAIL,
        "what it calls itself in the greeting",
        shown="this machine's name",
    ),
    _keyword(
        "ident",
        values.TEXT,
        MAIL,
        "what follows the name in the greeting",
        shown="program and version",
    ),
    _keyword(
        "extensions",
        values.LIST,
        MAIL,
        "what EHLO offers beyond the usual, such as PIPELINING,CHUNKING; all for all of them",
    ),
    _keyword(
        "address_syntax", one_of("lenient", "strict", "local"), MAIL, "which addresses are taken"
    ),
    _keyword(
        "bare_newline",
        one_of("normalize", "reject", "keep"),
        MAIL,
        "what becomes of lines in a message that end with LF alone",
    ),
    _keyword("line_length_limit", _OCTETS, LIMITS, "the longest line of a message"),
    _keyword("max_recipients", _COUNT, LIMITS, "recipients of a message"),
    _keyword("max_recipient_domains", _COUNT, LIMITS, "domains among these"),
    _keyword("max_messages", _COUNT, LIMITS, "messages of a session"),
    _keyword("max_errors", _COUNT, LIMITS, "the error of a client that ends its session"),
    _keyword("max_auth_failures", _COUNT, LIMITS, "the failed AUTH that ends a session"),
    _keyword("max_connections", _COUNT, LIMITS, "connections at a time"),
    _keyword(
        "max_connections_per_host",
        _COUNT,
        LIMITS,
        "the same from one address, or one network of IPv6",
    ),
    _keyword("ipv6_prefix", values.COUNT, LIMITS, "the length of such a network's prefix"),
    _keyword(
        "command_call_limit",
        maybe(values.CALLS),
        LIMITS,
        "how often a session may send one command: a number, or NOOP=10,*=100",
    ),
    _keyword("timeout", _SECONDS, TIMES, "how long a client may be silent"),
    _keyword("data_timeout", _SECONDS, TIMES, "the same in a message", shown="as --timeout"),
    _keyword("handler_timeout", _SECONDS, TIMES, "how long the handler may take for a command"),
    _keyword("tls_handshake_timeout", values.SECONDS, TIMES, "how long a handshake may take"),
    _keyword(
        "greeting_delay",
        values.SECONDS,
        TIMES,
        "how long the greeting waits; who talks before it is sent away",
    ),
    _keyword("auth_failure_delay", values.SECONDS, TIMES, "how long a failed AUTH waits"),
    _keyword(
        "require_starttls",
        values.FLAG,
        TLS,
        "with --tlscert, take mail after STARTTLS only",
        name="requiretls",
        shown="yes with --tlscert",
    ),
    _keyword("auth_required", values.FLAG, AUTH, "take mail after AUTH only"),
    _keyword("auth_require_tls", values.FLAG, AUTH, "offer AUTH inside TLS only"),
    _keyword(
        "auth_mechanisms",
        values.LIST,
        AUTH,
        "the mechanisms to offer",
        shown="LOGIN,PLAIN, and SCRAM-SHA-256 where a file has keys for it",
    ),
    _keyword(
        "auth_exclude_mechanism", values.LIST, AUTH, "mechanisms not to offer", name="auth-exclude"
    ),
    _keyword(
        "authenticator", values.NAME, AUTH, "who decides: an authenticator, as package.module:name"
    ),
    _keyword(
        "auth_callback",
        values.NAME,
        AUTH,
        "the simple form: a function of mechanism, login and password",
    ),
    _keyword("auth_in_thread", values.FLAG, AUTH, "call either in a thread, for it blocks"),
    _keyword(
        "proxy_protocol_timeout",
        _SECONDS,
        PROXIES,
        "expect a PROXY header on each connection, within so many SECONDS (5 without a value)",
        name="proxy-protocol",
        shown="no header",
        alone="5",
    ),
    _keyword(
        "proxy_trusted",
        values.LIST,
        PROXIES,
        "the networks that PROXY headers come from; unix is Unix sockets",
        name="trusted-proxies",
    ),
    _keyword(
        "xclient_trusted",
        values.LIST,
        PROXIES,
        "the networks that may say who their client is, by XCLIENT and XFORWARD",
        name="trusted-relays",
    ),
    _keyword(
        "observer",
        values.NAME,
        LOG,
        "who is told each reply: an Observer, as package.module:name",
    ),
)
