"""XCLIENT and XFORWARD: what a trusted peer says of somebody else's connection.

Postfix documents both, in XCLIENT_README and XFORWARD_README.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from smtp_protocol import grammar
from smtp_protocol.encodings import decode_xtext

__all__ = ["ClientAttributes"]

#: The attributes of each, as EHLO tells them.
XCLIENT_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_PORTS = ("PORT", "DESTPORT")
_PORT = re.compile(r"[0-9]{1,5}")
_ADDRESSES = ("ADDR", "DESTADDR")
_WORDS = {"PROTO": ("SMTP", "ESMTP"), "SOURCE": ("LOCAL", "REMOTE")}
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_MAX_VALUE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAttributes:
    """What was said; ``None`` is what was not said, or said to be unknown.

    Args:
        name: The client's host name.
        addr: Its address, without the prefix ``IPV6:``.
        port: Its port.
        proto: ``"SMTP"`` or ``"ESMTP"``.
        helo: What it said in HELO or EHLO.
        login: Who it authenticated as (XCLIENT).
        destaddr: The address that it connected to (XCLIENT).
        destport: The port that it connected to (XCLIENT).
        ident: The message's name in the mail system (XFORWARD).
        source: ``"LOCAL"`` or ``"REMOTE"`` (XFORWARD).
    """

    name: str | None = None
    addr: str | None = None
    port: int | None = None
    proto: str | None = None
    helo: str | None = None
    login: str | None = None
    destaddr: str | None = None
    destport: int | None = None
    ident: str | None = None
    source: str | None = None


def parse_attributes(text: str, names: tuple[str, ...]) -> ClientAttributes:
    """Read ``NAME=value`` words.

    Args:
        text: The words.
        names: Which names there are.

    Raises:
        ValueError: There is none, a name is unknown, or a value is malformed.
    """
    texts: dict[str, str | None] = {}
    ports: dict[str, int | None] = {}
    for word in filter(None, text.split(" ")):
        keyword, _, value = word.partition("=")
        name = grammar.upper(keyword)
        if name not in names:
            raise ValueError(f"no attribute {keyword!r}")
        known = _parse_value(name, value)
        if name in _PORTS:
            ports[name.lower()] = None if known is None else _parse_port(known)
        else:
            texts[name.lower()] = known
    if not texts and not ports:
        raise ValueError("no attribute")
    return ClientAttributes(
        name=texts.get("name"),
        addr=texts.get("addr"),
        port=ports.get("port"),
        proto=texts.get("proto"),
        helo=texts.get("helo"),
        login=texts.get("login"),
        destaddr=texts.get("destaddr"),
        destport=ports.get("destport"),
        ident=texts.get("ident"),
        source=texts.get("source"),
    )


def _parse_value(name: str, value: str) -> str | None:
    decoded = decode_xtext(value)
    if grammar.upper(decoded) in _UNKNOWN:
        return None
    if not decoded or len(decoded) > _MAX_VALUE or not decoded.isprintable():
        raise ValueError(f"malformed {name}")
    if name in _ADDRESSES:
        return _parse_address(decoded)
    if name in _WORDS and grammar.upper(decoded) not in _WORDS[name]:
        raise ValueError(f"{name} is one of {_WORDS[name]}")
    return decoded


def _parse_address(text: str) -> str:
    if "%" in text:
        raise ValueError("a scope is no part of an address here")
    tag = grammar.upper(text[:5])
    return str(ip_address(text[5:] if tag == "IPV6:" else text))


def _parse_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError("not a port")
    return int(text)
