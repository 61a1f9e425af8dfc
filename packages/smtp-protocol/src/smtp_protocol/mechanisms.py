"""Mechanisms: the table of those that are built in, by the names that EHLO shows."""

from collections.abc import Callable, Mapping

from smtp_protocol.sasl import (
    AnonymousMechanism,
    CramMD5,
    External,
    Login,
    Mechanism,
    OAuthBearer,
    Plain,
    XOAuth2,
)
from smtp_protocol.scram import ScramSHA1, ScramSHA256

__all__ = ["MECHANISMS"]

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
