"""XCLIENT and XFORWARD: what a trusted peer says of somebody else's connection.

Postfix documents both, in XCLIENT_README and XFORWARD_README.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from smtp_protocol.xtext import decode_xtext

__all__ = ["ClientAttributes"]

#: The attributes of each, as EHLO tells them.
XCLIENT_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_PORTS = ("PORT", "DESTPORT")
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
    for word in text.split():
        name, _, value = word.partition("=")
        if name.upper() not in names:
            raise ValueError(f"no attribute {name!r}")
        known = _parse_value(name.upper(), value)
        if name.upper() in _PORTS:
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
    if decoded.upper() in _UNKNOWN:
        return None
    if not decoded or len(decoded) > _MAX_VALUE or not decoded.isprintable():
        raise ValueError(f"malformed {name}")
    if name in ("ADDR", "DESTADDR"):
        return str(ip_address(decoded[5:] if decoded.upper().startswith("IPV6:") else decoded))
    if name == "PROTO" and decoded.upper() not in ("SMTP", "ESMTP"):
        raise ValueError("not a protocol")
    return decoded


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError("not a port")
    return int(text)
