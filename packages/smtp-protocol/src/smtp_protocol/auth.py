"""Authentication: the values that mechanisms, handlers and authenticators pass to one another.

Nothing here needs cryptography; the mechanisms themselves are in ``sasl``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final, Literal, TypeVar

from smtp_protocol.replies import Reply

__all__ = [
    "MISSING",
    "Ask",
    "AuthResult",
    "Challenge",
    "Finished",
    "LoginPassword",
    "Mechanism",
    "Missing",
    "Step",
    "auth_mechanism",
]


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"


#: The answer of a hook that leaves the matter to the server.
MISSING: Final[Literal[Missing.MISSING]] = Missing.MISSING


@dataclass(frozen=True, slots=True)
class LoginPassword:
    """What PLAIN and LOGIN hand to an authenticator. Its ``repr`` does not show the password.

    Args:
        login: The user's name.
        password: The password.
        authzid: Who the client wants to be, ``b""`` for the same (RFC 4616 §2).
    """

    login: bytes
    password: bytes = field(repr=False)
    authzid: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthResult:
    """How an authentication ended.

    Args:
        success: Whether the client is who it says it is.
        handled: Kept for programs that come from the older library. A client that is owed a
            reply gets one, whatever this says.
        message: The reply to send instead of the server's.
        auth_data: What the session is to remember, for handlers to read.

    Raises:
        TypeError: ``success`` is a text or a coroutine, which is true whatever it says.
    """

    success: bool
    handled: bool = True
    message: str | None = None
    auth_data: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        decided(self.success)


def decided(value: object) -> bool:
    """Read a yes or no that somebody's program has given.

    Raises:
        TypeError: It would count as yes though it may say no: a text, the result of another
            question, or a coroutine that nobody has awaited.
    """
    if isinstance(value, str | bytes | AuthResult | Reply | Awaitable):
        raise TypeError(f"True or False is the answer, not {type(value).__name__}")
    return bool(value)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this with 334, and wait for the response.

    With ``failed`` the client has failed already, and is only being told why: whatever it
    responds, the failure counts.
    """

    data: bytes
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Find out whether the client is who it shows itself to be, and call `Mechanism.resolve`."""

    auth_data: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The exchange is over; answer 235 or 535."""

    result: AuthResult


Step = Challenge | Ask | Finished


class Mechanism(ABC):
    """One authentication exchange, seen from the server.

    Call `start` once; then `respond` after each `Challenge` and `resolve` after each `Ask`, until
    there is `Finished`. Each may raise ProtocolError: the client's message was malformed.
    """

    #: The challenge for a client that gave no initial response.
    first_challenge: ClassVar[bytes] = b""

    def start(self, initial_response: bytes | None) -> Step:
        """Begin, with the initial response where there is one."""
        if initial_response is None:
            return Challenge(self.first_challenge)
        return self.respond(initial_response)

    @abstractmethod
    def respond(self, response: bytes) -> Step:
        """Take the response to the last challenge."""

    def resolve(self, result: AuthResult) -> Step:
        """Take the answer to the last question."""
        return Finished(result)


#: The built-in mechanisms, by the names that EHLO shows.
BUILT_IN: Final = (
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "LOGIN",
    "PLAIN",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    "ANONYMOUS",
)

# RFC 4422 §3.1: sasl-mech = 1*20mech-char;  mech-char = UPPER-ALPHA / DIGIT / HYPHEN / UNDERSCORE
MECHANISM_NAME = re.compile(r"[A-Z0-9_-]{1,20}")

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def auth_mechanism(name: str) -> Callable[[FunctionT], FunctionT]:
    """Name the SASL mechanism that an ``auth_…`` method implements (RFC 4422 §3.1).

    Args:
        name: The name as EHLO shows it, such as ``"X-TOKEN"``.

    Raises:
        ValueError: The name is not 1 to 20 of A-Z, 0-9, "-" and "_".
    """
    if not MECHANISM_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no SASL mechanism's name: 1 to 20 of A-Z, 0-9, '-', '_'")

    def decorate(function: FunctionT) -> FunctionT:
        function.__dict__["auth_mechanism"] = name
        return function

    return decorate
