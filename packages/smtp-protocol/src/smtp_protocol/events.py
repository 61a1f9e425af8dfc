"""Events: what `ServerConnection.next_event` tells, commands included."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from smtp_protocol.commands import Bare, Command
from smtp_protocol.replies import Reply

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "AuthResponse",
    "BodyChunk",
    "BodyEnd",
    "Connected",
    "ConnectionClosed",
    "Event",
    "Refused",
    "Signal",
]


class Signal(Enum):
    """Why there is no event."""

    #: All octets are used up: feed more, or tell the end of file.
    NEED_DATA = "need data"
    #: A reply is owed: send it before asking again.
    PAUSED = "paused"


NEED_DATA: Final[Literal[Signal.NEED_DATA]] = Signal.NEED_DATA
PAUSED: Final[Literal[Signal.PAUSED]] = Signal.PAUSED


class Connected(Bare):
    """The connection is there; the reply to it is the greeting (RFC 5321 §3.1)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """A piece of the message, dot-stuffing removed. No reply is owed."""

    data: bytes


class BodyEnd(Bare):
    """The message is complete."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer did what it must not do; ``reply`` is what it is to be sent.

    With ``closing`` the session ends with it. ``verb`` is that of the command which is refused, for
    those who count commands; ``""`` where there is none, as for the octets of a message.
    """

    reply: Reply
    closing: bool = False
    # Two refusals are the same where the peer is told the same.
    verb: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's response to a challenge of AUTH, decoded (RFC 4954 §4)."""

    data: bytes = field(repr=False)


class ConnectionClosed(Bare):
    """Nothing more comes: the peer ended the connection, or the session is over."""

    __slots__ = ()


Event = Command | Connected | BodyChunk | BodyEnd | AuthResponse | Refused | ConnectionClosed
