"""Addresses: the path of a MAIL or RCPT command, text in, mailbox out (RFC 5321 §4.1.2)."""

import re
import unicodedata
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Final, Literal

from smtp_protocol import grammar

__all__ = ["AddressSyntax", "parse_forward_path", "parse_reverse_path"]

AddressSyntax = Literal["lenient", "strict", "local"]

#: The words of `AddressSyntax`.
ADDRESS_SYNTAXES: Final = ("lenient", "strict", "local")

# RFC 5321 §4.5.3.1.3: a path is at most 256 octets. A character beyond ASCII counts as one, so
# that an internationalized address is not shorter than others (RFC 6531 §3.4).
_MAX_PATH = 256

# RFC 1035 §2.3.4: a label has at most 63 octets. RFC 5321 §4.5.3.1.2: a domain at most 255. What
# is not ASCII is counted as the A-label that DNS knows it by (RFC 5890 §2.3.2.1).
_MAX_LABEL = 63
_MAX_DOMAIN = 255

_PATHS: Mapping[AddressSyntax, re.Pattern[str]] = {
    "lenient": grammar.LENIENT_PATH,
    "strict": grammar.STRICT_PATH,
    "local": grammar.LOCAL_PATH,
}

# Controls, invisible formatting, separators and surrogates are never part of an address. The two
# joiners are: IDNA needs them for some scripts (RFC 5892, appendix A.1 and A.2).
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_JOINERS = "\u200c\u200d"


def parse_reverse_path(text: str, syntax: AddressSyntax = "lenient") -> tuple[str, str]:
    """Read the reverse-path at the beginning of ``text``.

    Args:
        text: What follows ``MAIL FROM:``.
        syntax: ``"strict"`` is RFC 5321 to the letter; ``"lenient"`` also takes missing angle
            brackets, spaces around them, and odd dots in the local part; ``"local"`` is as
            lenient, and takes a local part without a domain.

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
    return match["mailbox"] or match["bare"], _behind(text, match.end())


def plain_path(pattern: re.Pattern[str], argument: str) -> tuple[str, str | None] | None:
    """Read the argument of MAIL or RCPT if it is of the form that nearly all clients send.

    Args:
        pattern: `grammar.PLAIN_FROM` or `grammar.PLAIN_TO`.
        argument: What follows the verb.

    Returns:
        The same as `parse_reverse_path` and `parse_forward_path` in all of their syntaxes, or
        ``None`` for an argument that they have to judge.
    """
    match = pattern.fullmatch(argument)
    if match is None:
        return None
    mailbox, rest = match.groups()
    # A mailbox that is no longer than one label may be cannot be too long in any of its parts.
    return (mailbox, rest) if len(mailbox) <= _MAX_LABEL else None


def parse_mailbox(text: str) -> str:
    """Read a mailbox that stands alone: no brackets, no route, nothing behind it.

    Raises:
        ValueError: It is none.
    """
    if not grammar.MAILBOX.fullmatch(text) or len(text) > _MAX_PATH:
        raise ValueError("no mailbox")
    _check_characters(text)
    _check_domain_of(text)
    return text


def is_null_path(text: str) -> bool:
    """Whether ``text`` begins with an empty path, which only MAIL may have (RFC 5321 §4.1.1.3)."""
    return grammar.LENIENT_NULL_PATH.match(text) is not None


def domain_of(mailbox: str) -> str:
    """The domain or literal of a mailbox; ``""`` for one that has none, such as ``postmaster``."""
    _, at, domain = mailbox.rpartition("@")
    return domain if at and not domain.endswith('"') else ""


def _parse_path(text: str, syntax: AddressSyntax) -> tuple[str, str]:
    match = _PATHS[syntax].match(text)
    if match is None:
        raise ValueError("no path")
    groups = match.groupdict()
    mailbox = groups["mailbox"] or groups["bare"]
    if match.end() > _MAX_PATH:
        raise ValueError("path too long")
    for hop in (groups["route"] or "").split(","):
        _check_domain(hop.removeprefix("@"))
    _check_characters(match[0])
    _check_domain_of(mailbox)
    rest = _behind(text, match.end())
    if groups.get("bare") and not domain_of(mailbox) and rest.lstrip(" ").startswith("<"):
        raise ValueError("a name before the path")
    return mailbox, rest


def _behind(text: str, end: int) -> str:
    rest = text[end:]
    if rest and not rest.startswith(" "):
        raise ValueError("text behind the path")
    return rest


# What the grammar does not say. Each raises ValueError.


def _check_characters(text: str) -> None:
    if not text.isascii() and not all(map(_allowed, text)):
        raise ValueError("invisible character")


def _check_domain_of(mailbox: str) -> None:
    domain = domain_of(mailbox)
    if domain.startswith("["):
        _check_literal(domain[1:-1])
    else:
        _check_domain(domain)


def _allowed(character: str) -> bool:
    # Which ASCII goes where is the grammar's matter: a space may stand in a quoted string.
    return (
        character.isascii()
        or character in _JOINERS
        or unicodedata.category(character) not in _FORBIDDEN_CATEGORIES
    )


def _check_domain(domain: str) -> None:
    octets = [_octets_of(label) for label in domain.split(".")]
    if max(octets) > _MAX_LABEL:
        raise ValueError("a label of the domain is too long")
    if sum(octets) + len(octets) - 1 > _MAX_DOMAIN:
        raise ValueError("the domain is too long")


def _octets_of(label: str) -> int:
    return len(label) if label.isascii() else len(b"xn--" + label.encode("punycode"))


def _check_literal(literal: str) -> None:
    tag, _, address = literal.partition(":")
    if grammar.lower(tag) == "ipv6":
        # IPv6 is the only tag of a General-address-literal that IANA has registered.
        try:
            IPv6Address(address)
        except AddressValueError:
            raise ValueError("impossible IPv6 address literal") from None
    elif not grammar.IPV4_LITERAL.fullmatch(literal) or any(
        int(octet) > 255 for octet in literal.split(".")
    ):
        raise ValueError("impossible address literal")
