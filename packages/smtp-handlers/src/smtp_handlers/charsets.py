"""Charsets: a text is read whatever charset its sender says it is in."""

import codecs
from email.contentmanager import ContentManager, raw_data_manager
from email.message import Message
from typing import Any

__all__: list[str] = []

# They are for source code and host names, no mail is in them, and some are slow or raise.
_PYTHONS_OWN = {
    "idna",
    "mbcs",
    "oem",
    "punycode",
    "raw-unicode-escape",
    "undefined",
    "unicode-escape",
}


class Forgiving(ContentManager):
    """Reads text as `email.contentmanager.raw_data_manager` does, and also what that cannot.

    Text in a charset that nobody knows is read as UTF-8, with U+FFFD for what is none.
    """

    def get_content(self, msg: Message, *args: Any, **kw: Any) -> Any:
        """What ``get_content()`` of a part returns."""
        octets = msg.get_payload(decode=True)
        if msg.get_content_maintype() == "text" and isinstance(octets, bytes):
            return _text(octets, msg, *args, **kw)
        return raw_data_manager.get_content(msg, *args, **kw)

    def set_content(self, msg: Message, obj: Any, *args: Any, **kw: Any) -> None:
        """What ``set_content()`` of a part does."""
        raw_data_manager.set_content(msg, obj, *args, **kw)


def _text(octets: bytes, part: Message, errors: str = "replace") -> str:
    charset = part.get_content_charset("us-ascii")
    return octets.decode(*((charset, errors) if _is_known(charset) else ("utf-8", "replace")))


def _is_known(charset: str) -> bool:
    try:
        b"a".decode(charset, "replace")  # some codecs are not for text
        return codecs.lookup(charset).name not in _PYTHONS_OWN
    except (LookupError, ValueError):
        return False
