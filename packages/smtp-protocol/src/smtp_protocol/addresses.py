"""Addresses: the path of a MAIL or RCPT command, text in, mailbox out (RFC 5321 §4.1.2)."""

import re
import unicodedata
from ipaddress import AddressValueError, IPv6Address
from typing import Literal

from smtp_protocol import grammar

__all__ = ["AddressSyntax", "parse_forward_path", "parse_reverse_path"]

AddressSyntax = Literal["lenient", "strict"]

# RFC 5321 §4.5.3.1.3: a path is at most 256 octets. A character beyond ASCII counts as one, so
# that an internationalized address is not shorter than others (RFC 6531 §3.4).
_MAX_PATH = 256

# Controls, invisible formatting, separators and surrogates are never part of an address. The two
# joiners are: IDNA needs them for some scripts (RFC 5892, appendix A.1 and A.2).
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_JOINERS = "\u200c\u200d"


def parse_reverse_path(text: str, syntax: AddressSyntax = "lenient") -> tuple[str, str]:
    """Read the reverse-path at the beginning of ``text``.

    Args:
        text: What follows ``MAIL FROM:``.
        syntax: ``"strict"`` is RFC 5321 to the letter; ``"lenient"`` also takes missing angle
            brackets, spaces around them, and odd dots in the local part.

    Returns:
        The mailbox as it was sent, without brackets and source route (``""`` for the null
        reverse-path), and the text behind the path.

    Raises:
        ValueError: There is no such path.
    """
    null = grammar.STRICT_NULL_PATH if syntax == "strict" else grammar.LENIENT_NULL_PATH
    match = null.match(text)
    if match is None:
        return _parse_path(text, syntax)
    return "", _behind(text, match.end())


def parse_forward_path(text: str, syntax: AddressSyntax = "lenient") -> tuple[str, str]:
    """Read the forward-path at the beginning of ``text``, ``<Postmaster>`` included.

    Args:
        text: What follows ``RCPT TO:``.
        syntax: As for `parse_reverse_path`.

    Returns:
        The mailbox as it was sent, and the text behind the path.

    Raises:
        ValueError: There is no such path.
    """
    postmaster = grammar.STRICT_POSTMASTER if syntax == "strict" else grammar.LENIENT_POSTMASTER
    match = postmaster.match(text)
    if match is None:
        return _parse_path(text, syntax)
    return match[match.lastgroup or 0], _behind(text, match.end())


def plain_path(pattern: re.Pattern[str], argument: str) -> tuple[str, str | None] | None:
    """Read the argument of MAIL or RCPT if it is of the form that nearly all clients send.

    Args:
        pattern: `grammar.PLAIN_FROM` or `grammar.PLAIN_TO`.
        argument: What follows the verb.

    Returns:
        The same as `parse_reverse_path` and `parse_forward_path` in both of their syntaxes, or
        ``None`` for an argument that they have to judge.
    """
    match = pattern.fullmatch(argument)
    if match is None or len(argument) > _MAX_PATH or not argument.isascii():
        return None
    mailbox, rest = match.groups()
    return mailbox, rest


def is_null_path(text: str) -> bool:
    """Whether ``text`` begins with an empty path, which only MAIL may have (RFC 5321 §4.1.1.3)."""
    return grammar.LENIENT_NULL_PATH.match(text) is not None


def _parse_path(text: str, syntax: AddressSyntax) -> tuple[str, str]:
    match: re.Match[str] | None = grammar.STRICT_PATH.match(text)
    if match is None and syntax == "lenient":
        match = grammar.LENIENT_PATH.match(text)
    if match is None:
        raise ValueError("no path")
    mailbox: str = match[match.lastgroup or 0]
    if match.end() > _MAX_PATH:
        raise ValueError("path too long")
    if not mailbox.isascii() and not all(map(_allowed, mailbox)):
        raise ValueError("invisible character")
    if mailbox.endswith("]"):
        _check_literal(mailbox[mailbox.rindex("[") + 1 : -1])
    return mailbox, _behind(text, match.end())


def _behind(text: str, end: int) -> str:
    rest = text[end:]
    if rest and not rest.startswith(" "):
        raise ValueError("text behind the path")
    return rest


def _allowed(character: str) -> bool:
    # Which ASCII goes where is the grammar's matter: a space may stand in a quoted string.
    return (
        character.isascii()
        or character in _JOINERS
        or unicodedata.category(character) not in _FORBIDDEN_CATEGORIES
    )


def _check_literal(literal: str) -> None:
    tag, _, address = literal.partition(":")
    if tag.lower() == "ipv6":
        # IPv6 is the only tag of a General-address-literal that IANA has registered.
        try:
            IPv6Address(address)
        except AddressValueError:
            raise ValueError("impossible IPv6 address literal") from None
    elif not grammar.IPV4_LITERAL.fullmatch(literal) or any(
        int(number) > 255 for number in literal.split(".")
    ):
        raise ValueError("impossible address literal")
