"""Names: the user names that the mechanisms receive, decoded and checked.

They are checked here, before an authenticator sees them: they go into logs, look-ups and replies.
"""

import re
import unicodedata

from smtp_protocol import replies
from smtp_protocol.replies import ProtocolError

__all__: list[str] = []

# RFC 4616 §2 asks for 255 octets and RFC 4505 §3 for 255 characters, of up to four octets each.
_MAX_NAME = 4 * 255

# Control characters, and what ends a line or a paragraph.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Zl", "Zp"})

# RFC 5802 §5.1: "," and "=" are written "=2C" and "=3D", and no other "=" is allowed.
_BAD_SASLNAME = re.compile(rb"=(?!2C|3D)|,")


def check_name(name: bytes, *, utf8: bool = True) -> bytes:
    """See that ``name`` is one.

    Args:
        name: The octets that the client sent.
        utf8: Whether the mechanism says that names are UTF-8. Clients are known to send others
            where it does not.

    Returns:
        The same.

    Raises:
        ProtocolError: It has a control character, is too long, or not UTF-8.
    """
    try:
        text = name.decode("utf-8", "strict" if utf8 else "surrogateescape")
    except UnicodeDecodeError:
        raise ProtocolError(replies.BAD_AUTH_RESPONSE) from None
    if len(name) > _MAX_NAME or not _FORBIDDEN_CATEGORIES.isdisjoint(
        map(unicodedata.category, text)
    ):
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return name


def decode_saslname(name: bytes) -> bytes:
    """Decode and check a ``saslname`` (RFC 5802 §5.1).

    Raises:
        ProtocolError: It is none.
    """
    if _BAD_SASLNAME.search(name):
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return check_name(name.replace(b"=2C", b",").replace(b"=3D", b"="))
