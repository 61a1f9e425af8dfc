"""Trace: the lines that a server puts in front of a message (RFC 5321 §4.4), and counting them."""

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from ipaddress import IPv6Address, ip_address

from smtp_protocol import Envelope, Peer, Server, Session

__all__: list[str] = []

# A client may call itself what it likes. What could end the clause that its name stands in, or
# begin a comment, is not repeated.
_NOT_IN_A_NAME = re.compile(r"[^\w.:\[\]-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)
_END_OF_HEADER = re.compile(rb"\n\r?\n")
# More than enough of a line to know it by.
_BEGINNING = 64


def received(server: Server, session: Session, envelope: Envelope, identifier: str) -> bytes:
    """Make the ``Received`` field of a message that ``server`` has taken.

    The recipient is named only where there is no other, for no recipient is to learn of another
    one (RFC 5321 §7.2).

    Args:
        server: Who received it.
        session: From whom.
        envelope: What it was sent with.
        identifier: What the message can be found by in the receiver's log.

    Returns:
        The folded field, with CR LF at the end of each line.
    """
    literal = _address_literal(session.peer)
    name = _clean_name(session.host_name or "", envelope.smtp_utf8)
    origin = f"{name} ({literal})" if name and literal else name or literal or "unknown"
    recipient = ""
    if len(envelope.rcpt_tos) == 1:
        recipient = f"\r\n\tfor <{_clean(envelope.rcpt_tos[0])}>"
    return (
        f"Received: from {origin}\r\n"
        f"\tby {server.hostname} with {_protocol(server, session, envelope)} id {identifier}"
        f"{recipient};\r\n"
        f"\t{formatdate(localtime=True)}\r\n"
    ).encode()


def return_path(envelope: Envelope) -> bytes:
    """Make the ``Return-Path`` field, which final delivery adds (RFC 5321 §4.4)."""
    return f"Return-Path: <{_clean(envelope.mail_from or '')}>\r\n".encode()


def delivered_to(recipients: Iterable[str]) -> bytes:
    """Make a ``Delivered-To`` field for each recipient (RFC 9228)."""
    return "".join(f"Delivered-To: {_clean(address)}\r\n" for address in recipients).encode()


def new_identifier(session: Session) -> str:
    """Make a name for the next message of ``session``, with the session's, as in the log."""
    return f"{session.id}-{time.time_ns() // 1000:x}"


def _protocol(server: Server, session: Session, envelope: Envelope) -> str:
    """The ``with`` protocol (RFC 3848, RFC 6531 §4.3)."""
    kind = "LMTP" if "LHLO" in server.syntaxes else "SMTP"
    if envelope.smtp_utf8:
        kind = f"UTF8{kind}"
    elif kind == "SMTP":
        if not session.extended_smtp:
            return kind
        kind = "ESMTP"
    return f"{kind}{'S' if session.tls else ''}{'A' if session.authenticated else ''}"


def _address_literal(peer: Peer) -> str:
    if not isinstance(peer, tuple):
        return ""
    try:
        address = ip_address(peer[0].partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return f"[IPv6:{address}]"
        address = address.ipv4_mapped
    return f"[{address}]"


def _clean_name(name: str, utf8: bool) -> str:
    name = _NOT_IN_A_NAME.sub("?", name)
    return name if utf8 else name.encode("ascii", "replace").decode()


def _clean(address: str) -> str:
    return _CONTROL.sub("?", address)


class HeaderWatch:
    """Looks at a message as it passes by, chunk after chunk, and remembers only what it saw.

    Attributes:
        received: How many ``Received`` fields the header has so far.
        ascii_header: Whether the header is ASCII so far.
        ascii: Whether all of it is.
    """

    def __init__(self) -> None:
        self.received = 0
        self.ascii_header = True
        self.ascii = True
        self._in_header = True
        # The last line feed and the beginning of the line behind it.
        self._line = b"\n"

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the message."""
        is_ascii = chunk.isascii()
        self.ascii = self.ascii and is_ascii
        if not self._in_header:
            return
        seen = self._line + chunk
        end = _END_OF_HEADER.search(seen)
        if end is not None:
            self._in_header = False
            seen = seen[: end.start() + 1]
        self.ascii_header = self.ascii_header and (is_ascii or seen.isascii())
        # The last line may not be all there yet: it is counted when the next one begins.
        last = seen.rindex(b"\n")
        self.received += len(_RECEIVED.findall(seen, 0, last))
        self._line = seen[last : last + _BEGINNING]
