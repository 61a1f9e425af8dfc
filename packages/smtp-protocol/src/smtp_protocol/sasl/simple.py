"""Simple mechanisms: those that take one message or two: PLAIN, LOGIN, CRAM-MD5 and others."""

import hmac
import re
import secrets
from dataclasses import dataclass, field

from smtp_protocol import replies
from smtp_protocol.auth import Ask, Challenge, LoginPassword, Mechanism, Step
from smtp_protocol.replies import ProtocolError
from smtp_protocol.sasl.names import check_name

__all__: list[str] = []

# A password with one of these would be two lines, or end early, for whatever checks it.
_BREAKS_A_LINE = re.compile(rb"[\r\n\0]")


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


def _login_password(login: bytes, password: bytes, authzid: bytes = b"") -> LoginPassword:
    # Any other octets can be a password. Its encoding is not checked: some clients send Latin-1.
    # Its length is bounded by that of the line.
    if _BREAKS_A_LINE.search(password):
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return LoginPassword(login, password, authzid)


class Plain(Mechanism):
    """PLAIN (RFC 4616 §2): message = [authzid] NUL authcid NUL passwd."""

    def respond(self, response: bytes) -> Step:
        """Split the message."""
        match response.split(b"\0"):
            case [authzid, login, password] if login and password:
                return Ask(_login_password(check_name(login), password, check_name(authzid)))
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)


class Login(Mechanism):
    """LOGIN (draft-murchison-sasl-login): user name and password, each asked for."""

    first_challenge = b"Username:"

    def __init__(self) -> None:
        self._login: bytes | None = None

    def respond(self, response: bytes) -> Step:
        """Take the name, then the password."""
        if self._login is None:
            # No specification says which encoding the name has.
            self._login = check_name(response, utf8=False)
            return Challenge(b"Password:")
        return Ask(_login_password(self._login, response))


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
        return Ask(CramMD5Response(check_name(login, utf8=False), self._challenge, digest))


class External(Mechanism):
    """EXTERNAL (RFC 4422, appendix A)."""

    def respond(self, response: bytes) -> Step:
        """Ask whether the certificate's owner may be who the client wants to be."""
        return Ask(ExternalIdentity(check_name(response)))


class AnonymousMechanism(Mechanism):
    """ANONYMOUS (RFC 4505)."""

    def respond(self, response: bytes) -> Step:
        """Hand on the trace."""
        return Ask(Anonymous(check_name(response)))
