"""OAuth: the mechanisms that carry a bearer token, OAUTHBEARER (RFC 7628) and XOAUTH2."""

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from smtp_protocol import replies
from smtp_protocol.auth import Ask, AuthResult, Challenge, Finished, Mechanism, Step
from smtp_protocol.replies import ProtocolError
from smtp_protocol.sasl.names import check_name, decode_saslname

__all__: list[str] = []

# RFC 7628 §3.1: gs2-header kvsep *kvpair kvsep;  RFC 5801 §4: gs2-header = gs2-cb-flag ","
# [gs2-authzid] ","
_GS2_HEADER = re.compile(rb"[ny],(?:a=(?P<authzid>[^,]+))?,")
# RFC 6750 §2.1: credentials = "Bearer" 1*SP b64token; the token is whatever is no control character
# and no space.
_BEARER = re.compile(rb"(?i:auth=bearer) +(?:(?P<token>[^\x00-\x20\x7f]+) *)?")


@dataclass(frozen=True, slots=True)
class OAuthToken:
    """What XOAUTH2 and OAUTHBEARER hand to an authenticator (RFC 7628 §3.1).

    Args:
        login: Whose mailbox the client wants to use; ``b""`` when it did not say.
        token: The bearer token.
    """

    login: bytes
    token: bytes = field(repr=False)


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
                return OAuthToken(check_name(user[5:], utf8=False), _token(auth))
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)


class OAuthBearer(_OAuth):
    """OAUTHBEARER (RFC 7628 §3.1)."""

    error: ClassVar[Mapping[str, str]] = {"status": "invalid_token"}

    def parse(self, response: bytes) -> OAuthToken:
        """Find user and token."""
        first, *pairs = response.split(b"\x01")
        header = _GS2_HEADER.fullmatch(first)
        auth = [pair for pair in pairs if pair[:5].lower() == b"auth="]
        if header is None or pairs[-2:] != [b"", b""] or len(auth) != 1:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        return OAuthToken(decode_saslname(header["authzid"] or b""), _token(auth[0]))


def _token(pair: bytes) -> bytes:
    match = _BEARER.fullmatch(pair)
    if match is None:
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return match["token"] or b""
