"""Authentication: the values that mechanisms, handlers and authenticators pass to one another."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeVar

from smtp_protocol import replies
from smtp_protocol.replies import ProtocolError

__all__ = ["MISSING", "AuthResult", "LoginPassword", "Missing", "auth_mechanism"]


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
    """

    success: bool
    handled: bool = True
    message: str | None = None
    auth_data: object = field(default=None, repr=False)


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


# RFC 4648 §4. What `base64` itself lets pass depends on the version of Python.
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode_base64(text: str | bytes) -> bytes:
    """Decode what AUTH carries.

    Raises:
        ProtocolError: It is not base64: 501.
    """
    octets = text.encode() if isinstance(text, str) else text
    if not _BASE64.fullmatch(octets):
        raise ProtocolError(replies.BAD_BASE64)
    return base64.b64decode(octets)
