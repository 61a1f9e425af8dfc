"""Mailboxes: one spelling for each, so that two spellings of one mailbox compare as equal."""

import re
import unicodedata
from ipaddress import AddressValueError, IPv6Address

from smtp_protocol import grammar

__all__ = ["canonical_mailbox"]

# What cannot stand in an Atom (RFC 5321 §4.1.2), and so needs quotes. Dots in odd places would
# need them, too, but come without them often enough, unless there is nothing else.
_SPECIAL = re.compile(r'[\x00-\x20"(),:;<>@\[\\\]\x7f]')

# RFC 3490 §3.1: what IDNA takes for the dot between two labels.
_DOT = re.compile("[.\u3002\uff0e\uff61]")
# ASCII that no host name has: if normalization brings it about, the label was none.
_NOT_IN_LABEL = re.compile(r"[\x00-,./:-@\[-^`{-\x7f]")
# RFC 1035 §2.3.4, in octets.
_LONGEST_LABEL = 63


def canonical_mailbox(address: str) -> str:
    """Write a mailbox in the one form that all its spellings have in common.

    The local part keeps its case, loses quotes and backslashes that it does not need
    (``"anne"`` is ``anne``: RFC 5321 §4.1.2), and is put into Unicode's form NFC; ``postmaster``
    is in lower case (RFC 5321 §4.5.1). The domain is in lower case, with A-labels for U-labels
    (RFC 5890 §2.3.2.4); an address literal has its shortest form.

    A-labels are those of IDNA2008 (RFC 5891 §4.4), after the mapping of RFC 5895: ``ß`` is not
    ``ss``. (The codec ``idna`` of the standard library is IDNA2003, which takes both for the same
    domain, though they can belong to different people.) Whether such a label may be registered is
    not checked.

    Args:
        address: A mailbox as hooks get it; ``postmaster`` without a domain is one, too.

    Returns:
        The same mailbox, ``""`` for the null sender. A domain beyond ASCII that cannot have
        A-labels is put into lower case and form NFC. A text that is no mailbox gives some text.
    """
    if not address:
        return ""
    local, at, domain = address.rpartition("@")
    if not at:
        return _canonical_local_part(address)
    return f"{_canonical_local_part(local)}@{_canonical_domain(domain)}"


def unquoted(local_part: str) -> str:
    """Take the quotes and backslashes away.

    Args:
        local_part: The part of a mailbox before its last ``@``.

    Returns:
        What it says, without quotes and backslashes; one with a quote that does not end is returned
        as it is.
    """
    if '"' not in local_part:
        return local_part
    characters: list[str] = []
    quoted = escaped = False
    for character in local_part:
        if escaped:
            escaped = False
            characters.append(character)
        elif character == '"':
            quoted = not quoted
        elif quoted and character == "\\":
            escaped = True
        else:
            characters.append(character)
    return local_part if quoted else "".join(characters)


def _canonical_local_part(local_part: str) -> str:
    content = unicodedata.normalize("NFC", unquoted(local_part))
    if content.isascii() and content.lower() == "postmaster":
        return "postmaster"
    if content.strip(".") and not _SPECIAL.search(content):
        return content
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _canonical_domain(domain: str) -> str:
    if domain.startswith("["):
        return _canonical_literal(domain)
    if domain.isascii():
        return domain.lower()
    labels = [_a_label(label) for label in _DOT.split(domain)]
    if None in labels:
        return unicodedata.normalize("NFC", domain.lower())
    return ".".join(label for label in labels if label is not None)


def _a_label(label: str) -> str | None:
    """The label in lower case and ASCII; ``None`` if there is no such label."""
    if label.isascii():
        return label.lower()
    # RFC 5895 §2: lower case, width, and form NFC. NFKC does the last two, and leaves a U-label as
    # it is (RFC 5892 §2.2). Letter by letter: where a sigma stands is not to decide what its lower
    # case is.
    lower = "".join(map(str.lower, unicodedata.normalize("NFKC", label)))
    label = unicodedata.normalize("NFKC", lower)
    if len(label) > _LONGEST_LABEL or _NOT_IN_LABEL.search(label):
        return None
    if label.isascii():
        return label
    encoded = f"xn--{label.encode('punycode').decode()}"
    return encoded if len(encoded) <= _LONGEST_LABEL else None


def _canonical_literal(literal: str) -> str:
    tag, _, address = literal[1:-1].partition(":")
    try:
        if tag.isascii() and tag.lower() == "ipv6":
            return f"[IPv6:{IPv6Address(address)}]"
    except AddressValueError:
        return literal.lower()
    if grammar.IPV4_LITERAL.fullmatch(literal[1:-1]):
        return f"[{'.'.join(str(int(number)) for number in tag.split('.'))}]"
    return literal.lower()
