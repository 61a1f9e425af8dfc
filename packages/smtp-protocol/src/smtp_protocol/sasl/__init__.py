"""SASL: the built-in mechanisms of AUTH, by the names that EHLO shows (RFC 4422).

Each is an exchange in steps, responses in, challenges and questions out, without I/O. A mechanism
never decides alone who may log in: it asks, with what the client has shown of itself (`Ask`), and
is told (`Mechanism.resolve`). Comparisons that it makes take constant time.
"""

from collections.abc import Callable, Mapping

from smtp_protocol.auth import Ask, Challenge, Finished, Mechanism, Step
from smtp_protocol.sasl.oauth import OAuthBearer, OAuthToken, XOAuth2
from smtp_protocol.sasl.scram import ScramKeys, ScramLogin, ScramSHA1, ScramSHA256
from smtp_protocol.sasl.simple import (
    Anonymous,
    AnonymousMechanism,
    CramMD5,
    CramMD5Response,
    External,
    ExternalIdentity,
    Login,
    Plain,
)

__all__ = [
    "MECHANISMS",
    "Anonymous",
    "Ask",
    "Challenge",
    "CramMD5Response",
    "ExternalIdentity",
    "Finished",
    "Mechanism",
    "OAuthToken",
    "ScramKeys",
    "ScramLogin",
    "ScramSHA1",
    "ScramSHA256",
    "Step",
]

#: Every built-in mechanism. Which of them are offered, and that ANONYMOUS is not, is the
#: server's setting.
MECHANISMS: Mapping[str, Callable[[], Mechanism]] = {
    "SCRAM-SHA-256": ScramSHA256,
    "SCRAM-SHA-1": ScramSHA1,
    "CRAM-MD5": CramMD5,
    "LOGIN": Login,
    "PLAIN": Plain,
    "OAUTHBEARER": OAuthBearer,
    "XOAUTH2": XOAuth2,
    "EXTERNAL": External,
    "ANONYMOUS": AnonymousMechanism,
}
