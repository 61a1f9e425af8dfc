"""Commands: what a client asks, as a closed union of frozen values (RFC 5321 §4.1.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from smtp_protocol.options import MailOptions, RcptOptions
from smtp_protocol.xclient import ClientAttributes

__all__ = [
    "Auth",
    "Bdat",
    "Command",
    "Data",
    "Ehlo",
    "Expn",
    "Helo",
    "Help",
    "Lhlo",
    "Mail",
    "Noop",
    "Quit",
    "Rcpt",
    "Rset",
    "StartTls",
    "Unknown",
    "Vrfy",
    "Xclient",
    "Xforward",
]


# Commands of the same form share it; values of two classes are never equal.


@dataclass(frozen=True, slots=True)
class Bare:
    """Nothing but its class."""


@dataclass(frozen=True, slots=True)
class _Greeting:
    hostname: str


@dataclass(frozen=True, slots=True)
class _Lookup:
    address: str
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class _ClientReport:
    attributes: ClientAttributes


class Ehlo(_Greeting):
    """EHLO (RFC 5321 §4.1.1.1): the client's name or address literal, as sent."""

    __slots__ = ()


class Helo(_Greeting):
    """HELO (RFC 5321 §4.1.1.1)."""

    __slots__ = ()


class Lhlo(_Greeting):
    """LHLO (RFC 2033 §4.1), the EHLO of LMTP."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL (RFC 5321 §4.1.1.2): the reverse-path's mailbox, ``""`` for the null sender."""

    address: str
    options: MailOptions


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT (RFC 5321 §4.1.1.3): the forward-path's mailbox."""

    address: str
    options: RcptOptions


class Data(Bare):
    """DATA (RFC 5321 §4.1.1.4)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT (RFC 3030 §2): the octets of this chunk have come, and are to be acknowledged.

    ``size`` is their number. The last chunk of a message comes as `BodyEnd`.
    """

    size: int
    last: bool = False


class StartTls(Bare):
    """STARTTLS (RFC 3207 §4)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH (RFC 4954 §4).

    ``mechanism`` is upper-cased; ``initial_response`` is decoded, ``None`` without one; ``args``
    are the words as sent.
    """

    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)


class Xclient(_ClientReport):
    """XCLIENT (Postfix's XCLIENT_README): who the client behind a proxy is."""

    __slots__ = ()


class Xforward(_ClientReport):
    """XFORWARD (Postfix's XFORWARD_README): who the client before a filter was."""

    __slots__ = ()


class Rset(Bare):
    """RSET (RFC 5321 §4.1.1.5)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (RFC 5321 §4.1.1.9) with its text, which has no meaning; ``""`` without one."""

    arg: str


class Quit(Bare):
    """QUIT (RFC 5321 §4.1.1.10)."""

    __slots__ = ()


class Vrfy(_Lookup):
    """VRFY (RFC 5321 §4.1.1.6): a user name or a mailbox, as sent.

    ``smtputf8`` tells whether the client can read a reply in UTF-8 (RFC 6531 §3.7.4.2).
    """

    __slots__ = ()


class Expn(_Lookup):
    """EXPN (RFC 5321 §4.1.1.7): the name of a mailing list, as sent; ``smtputf8`` as in VRFY."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Help:
    """HELP (RFC 5321 §4.1.1.8); the topic is ``""`` without one."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A verb that is not in the table: somebody's own, or nonsense.

    ``verb`` is upper-cased; ``arg`` is the rest as sent, ``None`` without one.
    """

    verb: str
    arg: str | None


Command = (
    Ehlo
    | Helo
    | Lhlo
    | Mail
    | Rcpt
    | Data
    | Bdat
    | Rset
    | Noop
    | Quit
    | Vrfy
    | Expn
    | Help
    | StartTls
    | Auth
    | Xclient
    | Xforward
    | Unknown
)

#: Each command by its verb, upper-cased.
BY_VERB: Mapping[str, type[Command]] = {
    command.__name__.upper(): command for command in get_args(Command) if command is not Unknown
}
