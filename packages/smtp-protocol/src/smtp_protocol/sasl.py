"""SASL: mechanisms as steps, responses in, challenges and questions out, without I/O (RFC 4422).

A mechanism never decides alone who may log in: it asks, with what the client has shown of itself
(`Ask`), and is told (`Mechanism.resolve`). Comparisons that the server makes take constant time.
"""

import hmac
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from smtp_protocol import replies
from smtp_protocol.auth import AuthResult, LoginPassword
from smtp_protocol.replies import ProtocolError

__all__ = [
    "Anonymous",
    "Ask",
    "Challenge",
    "CramMD5Response",
    "ExternalIdentity",
    "Finished",
    "Mechanism",
    "OAuthToken",
    "Step",
]


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


@dataclass(frozen=True, slots=True)
class OAuthToken:
    """What XOAUTH2 and OAUTHBEARER hand to an authenticator (RFC 7628 §3.1).

    Args:
        login: Whose mailbox the client wants to use; ``b""`` when it did not say.
        token: The bearer token.
    """

    login: bytes
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """What EXTERNAL hands to an authenticator: who the client wants to be (RFC 4422, app. A).

    Who it is, its TLS certificate tells, which is in ``session.tls``.
    """

    authzid: bytes


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What ANONYMOUS hands to an authenticator: the trace that the client gave (RFC 4505 §2)."""

    trace: bytes


@dataclass(frozen=True, slots=True)
class CramMD5Response:
    """What CRAM-MD5 hands to an authenticator (RFC 2195 §2)."""

    login: bytes
    challenge: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def verify(self, password: bytes) -> bool:
        """Whether the client knows ``password``, in constant time."""
        expected = hmac.new(password, self.challenge, "md5").hexdigest().encode()
        return hmac.compare_digest(expected, self.digest.lower())


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


class Plain(Mechanism):
    """PLAIN (RFC 4616 §2): message = [authzid] NUL authcid NUL passwd."""

    def respond(self, response: bytes) -> Step:
        """Split the message."""
        match response.split(b"\0"):
            case [authzid, login, password] if login and password:
                return Ask(LoginPassword(login, password, authzid))
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)


class Login(Mechanism):
    """LOGIN (draft-murchison-sasl-login): user name and password, each asked for."""

    first_challenge = b"Username:"

    def __init__(self) -> None:
        self._login: bytes | None = None

    def respond(self, response: bytes) -> Step:
        """Take the name, then the password."""
        if self._login is None:
            self._login = response
            return Challenge(b"Password:")
        return Ask(LoginPassword(self._login, response))


class CramMD5(Mechanism):
    """CRAM-MD5 (RFC 2195 §2)."""

    def __init__(self) -> None:
        self._challenge = f"<{secrets.token_hex(16)}@smtp>".encode()

    def start(self, initial_response: bytes | None) -> Step:
        """Challenge; the client cannot say anything before."""
        if initial_response is not None:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        return Challenge(self._challenge)

    def respond(self, response: bytes) -> Step:
        """Split name and digest."""
        login, space, digest = response.rpartition(b" ")
        if not space:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        return Ask(CramMD5Response(login, self._challenge, digest))


class External(Mechanism):
    """EXTERNAL (RFC 4422, appendix A)."""

    def respond(self, response: bytes) -> Step:
        """Ask whether the certificate's owner may be who the client wants to be."""
        return Ask(ExternalIdentity(response))


class AnonymousMechanism(Mechanism):
    """ANONYMOUS (RFC 4505)."""

    def respond(self, response: bytes) -> Step:
        """Hand on the trace."""
        return Ask(Anonymous(response))


class _OAuth(Mechanism):
    """A token; after a wrong one the client is told why, and answers that with nothing."""

    error: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self._failure: AuthResult | None = None

    def respond(self, response: bytes) -> Step:
        """Take the token, or the empty answer to the error."""
        if self._failure is not None:
            return Finished(self._failure)
        return Ask(self.parse(response))

    def resolve(self, result: AuthResult) -> Step:
        """Tell a failure, before it ends the exchange (RFC 7628 §3.2.2)."""
        if result.success:
            return Finished(result)
        self._failure = result
        return Challenge(json.dumps(self.error).encode(), failed=True)

    @abstractmethod
    def parse(self, response: bytes) -> OAuthToken:
        """Find user and token in the message."""


class XOAuth2(_OAuth):
    """XOAUTH2 (Google's and Microsoft's form of it): user=…^Aauth=Bearer …^A^A."""

    error: ClassVar[Mapping[str, str]] = {"status": "400", "schemes": "Bearer", "scope": ""}

    def parse(self, response: bytes) -> OAuthToken:
        """Find user and token."""
        match response.split(b"\x01"):
            case [user, auth, b"", b""] if user[:5].lower() == b"user=":
                return OAuthToken(user[5:], _bearer(auth))
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)


class OAuthBearer(_OAuth):
    """OAUTHBEARER (RFC 7628 §3.1): gs2-header kvsep *kvpair kvsep."""

    error: ClassVar[Mapping[str, str]] = {"status": "invalid_token"}

    def parse(self, response: bytes) -> OAuthToken:
        """Find user and token."""
        header, *pairs = response.split(b"\x01")
        flag, _, name = header.partition(b",")
        if flag not in (b"n", b"y") or name[-1:] != b"," or pairs[-2:] != [b"", b""]:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        auth = [pair for pair in pairs if pair[:5].lower() == b"auth="]
        if len(auth) != 1:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        authzid = name[:-1].removeprefix(b"a=").replace(b"=2C", b",").replace(b"=3D", b"=")
        return OAuthToken(authzid, _bearer(auth[0]))


def _bearer(pair: bytes) -> bytes:
    if pair[:12].lower() != b"auth=bearer ":
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return pair[12:].strip()
