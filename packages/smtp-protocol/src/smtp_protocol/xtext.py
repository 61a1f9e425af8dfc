"""xtext: any text in the printable ASCII that a parameter's value can hold (RFC 3461 §4)."""

import re

__all__: list[str] = []

# RFC 3461 §4: xtext = *( xchar / hexchar );  xchar = %d33-42 / %d44-60 / %d62-126
#   hexchar = "+" 2(%d48-57 / %d65-70)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*+")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
_ESCAPED = re.compile(rb"[^!-*,-<>-~]")

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
