"""Encodings: text and octets in printable ASCII, as xtext (RFC 3461 §4) and base64 (RFC 4648)."""

import binascii
import re

from smtp_protocol import replies
from smtp_protocol.replies import ProtocolError

__all__: list[str] = []

# RFC 3461 §4: xtext = *( xchar / hexchar );  xchar = %d33-42 / %d44-60 / %d62-126
#   hexchar = "+" 2(%d48-57 / %d65-70)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
_ESCAPED = re.compile(rb"[^!-*,-<>-~]")

# RFC 4648 §4, but for the number of characters, which is a multiple of 4. What the standard library
# itself lets pass depends on the version of Python.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")

# RFC 6533 §3: EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}"
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_BACKSLASH = re.compile(r"\\(?!x\{[0-9A-F]{2,6}\})")


def decode_xtext(text: str) -> str:
    """Decode xtext.

    Raises:
        ValueError: It is no xtext, or not UTF-8 inside.
    """
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    return _HEXCHAR.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode()).decode()


def encode_xtext(text: str) -> str:
    """Encode a text as xtext."""
    return _ESCAPED.sub(lambda match: b"+%02X" % match[0][0], text.encode()).decode()


def decode_utf8_xtext(text: str) -> str:
    """Decode the address of an ``ORCPT=utf-8;`` (RFC 6533 §3), in any of its three forms.

    Raises:
        ValueError: A backslash begins no embedded character, or one that is none.
    """
    if _BACKSLASH.search(text):
        raise ValueError("not utf-8-addr-xtext")
    decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    decoded.encode()  # a surrogate is no character
    return decoded


def decode_base64(text: str | bytes) -> bytes:
    """Decode what AUTH carries.

    Raises:
        ProtocolError: It is not base64: 501.
    """
    octets = text.encode() if isinstance(text, str) else text
    if len(octets) % 4 or not _BASE64.fullmatch(octets):
        raise ProtocolError(replies.BAD_BASE64)
    return binascii.a2b_base64(octets)
