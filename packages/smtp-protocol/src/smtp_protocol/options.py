"""Options: the parameters of MAIL and RCPT, as they were sent and as typed values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = [
    "Body",
    "DeliverBy",
    "MailOptions",
    "Notify",
    "OriginalRecipient",
    "RcptOptions",
    "RequireRecipientValidSince",
]

Body = Literal["7BIT", "8BITMIME", "BINARYMIME"]
Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY (RFC 2852 §4): within how many seconds, and what to do when that fails.

    Args:
        seconds: From now; 0 or less when it is late already.
        mode: ``"N"``: tell the sender and go on; ``"R"``: return the message.
        trace: Whether relaying is to be told, too.
    """

    seconds: int
    mode: Literal["N", "R"]
    trace: bool = False


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """ORCPT (RFC 3461 §4.2): whom the message was sent to at first.

    Args:
        kind: The type of the address, such as ``"rfc822"`` or ``"utf-8"``, as sent.
        address: The address, decoded.
    """

    kind: str
    address: str


@dataclass(frozen=True, slots=True)
class RequireRecipientValidSince:
    """RRVS (RFC 7293 §3.1): deliver only if the mailbox has had one owner since.

    Args:
        since: When the sender knew the owner.
        action: What to do where nobody can tell: ``"C"`` continue, ``"R"`` reject, ``None`` when
            the sender did not say.
    """

    since: datetime
    action: Literal["C", "R"] | None = None


class Options(list[str]):
    """The option strings as sent, with what they say as typed attributes."""

    #: The values of parameters that were registered by the user, by keyword.
    extra: Mapping[str, object] = {}

    def extend(self, options: Iterable[str]) -> None:
        """Add the strings and, where ``options`` carries them, the typed values too."""
        super().extend(options)
        if isinstance(options, type(self)):
            self.__dict__.update(options.__dict__)

    def __repr__(self) -> str:
        values = (f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({', '.join([super().__repr__(), *values])})"


class MailOptions(Options):
    """The parameters of a MAIL command.

    The list holds them as they were sent (``"SIZE=1000"``), keywords upper-cased.
    """

    #: SIZE: the message's size as the client estimates it, in octets (RFC 1870 §6).
    size: int | None = None
    #: BODY: how the body is encoded (RFC 6152 §2, RFC 3030 §3).
    body: Body | None = None
    #: AUTH: who submitted the message first, ``""`` for nobody known (RFC 4954 §5).
    auth: str | None = None
    #: RET: how much of the message a failure notice returns (RFC 3461 §4.3).
    ret: Literal["FULL", "HDRS"] | None = None
    #: ENVID: the sender's name for the message, for notices to repeat (RFC 3461 §4.4).
    envid: str | None = None
    #: SMTPUTF8: addresses and headers may be UTF-8 (RFC 6531 §3.4).
    smtputf8: bool = False
    #: REQUIRETLS: the message may only travel over verified TLS (RFC 8689 §2).
    requiretls: bool = False
    #: BY: the time within which to deliver (RFC 2852 §4).
    by: DeliverBy | None = None
    #: MT-PRIORITY: -9 (lowest) to 9 (RFC 6710 §4).
    mt_priority: int | None = None
    #: HOLDFOR: deliver in so many seconds (RFC 4865 §6).
    holdfor: int | None = None
    #: HOLDUNTIL: deliver then (RFC 4865 §6).
    holduntil: datetime | None = None


class RcptOptions(Options):
    """The parameters of a RCPT command.

    The list holds them as they were sent, keywords upper-cased.
    """

    #: NOTIFY: which notices the sender wants (RFC 3461 §4.1); empty when nothing was said.
    notify: frozenset[Notify] = frozenset()
    #: ORCPT: whom the message was sent to at first (RFC 3461 §4.2).
    orcpt: OriginalRecipient | None = None
    #: RRVS: since when the mailbox must have had its owner (RFC 7293 §3.1).
    rrvs: RequireRecipientValidSince | None = None
