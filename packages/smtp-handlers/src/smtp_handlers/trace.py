"""Trace: the fields that a server puts in front of a message, and no peer can write into.

They are those of RFC 5321 §4.4. What a peer has a say in (its name, addresses, how the message
begins) is cleaned here, so that no reader of header fields takes it for more than it is.
"""

import re
import time
import unicodedata
from collections.abc import Iterable
from email.utils import formatdate
from ipaddress import IPv6Address, ip_address

from smtp_protocol import Envelope, Peer, Server, Session, canonical_mailbox

__all__: list[str] = []

# A client may call itself what it likes. What could end the clause that its name stands in, or
# begin a comment, is not repeated.
_NOT_IN_A_NAME = re.compile(r"[^\w.:\[\]-]")
# RFC 1035 §2.3.4, in octets. With that, all lines are shorter than 998 octets (RFC 5322 §2.1.1).
_LONGEST_NAME = 255
# In octets; a path has 256 characters at most (RFC 5321 §4.5.3.1.3), and nobody's has so many that
# take four octets each.
_LONGEST_ADDRESS = 900

# What an address cannot have in it (as in smtp_protocol.addresses), but a hook can have put there.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_ALLOWED = " \u200c\u200d"
# RFC 2047 §2: how an encoded word begins. Many a reader decodes one wherever it stands.
_ENCODED_WORD = "=?"

_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)
_END_OF_HEADER = re.compile(rb"\n\r?\n")
# More than enough of a line to know it by.
_BEGINNING = 64


def speaks_lmtp(server: Server) -> bool:
    """Whether ``server`` can answer for each recipient by itself (RFC 2033 §4.2)."""
    return "LHLO" in server.syntaxes


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
    name = _name(session.host_name or "", utf8=envelope.smtp_utf8)
    origin = f"{name} ({literal})" if name and literal else name or literal or "unknown"
    recipient = ""
    if len(envelope.rcpt_tos) == 1:
        recipient = f"\r\n\tfor <{_address(envelope.rcpt_tos[0])}>"
    return (
        f"Received: from {origin}\r\n"
        f"\tby {_name(server.hostname) or 'unknown'}"
        f" with {_protocol(server, session, envelope)} id {_name(identifier)}"
        f"{recipient};\r\n"
        f"\t{formatdate(localtime=True)}\r\n"
    ).encode()


def return_path(envelope: Envelope) -> bytes:
    """Make the ``Return-Path`` field, which final delivery adds (RFC 5321 §4.4)."""
    return f"Return-Path: <{_address(envelope.mail_from or '')}>\r\n".encode()


def delivered_to(recipients: Iterable[str]) -> bytes:
    """Make a ``Delivered-To`` field for each recipient (RFC 9228)."""
    return "".join(f"Delivered-To: {_address(address)}\r\n" for address in recipients).encode()


def guard(first: bytes) -> bytes:
    """Make what stands between our fields and a message, so that none of it becomes part of them.

    A message that begins with a blank would go on with our last field (RFC 5322 §2.2.3). It has no
    header, so an empty line goes before it. Nothing else that a message begins with does that.

    Args:
        first: The message, or its first octets.

    Returns:
        An empty line, or nothing.
    """
    return b"\r\n" if first.startswith((b" ", b"\t")) else b""


def new_identifier(session: Session) -> str:
    """Make a name for the next message of ``session``, with the session's, as in the log."""
    return f"{session.id}-{time.time_ns() // 1000:x}"


def _protocol(server: Server, session: Session, envelope: Envelope) -> str:
    """The ``with`` protocol (RFC 3848, RFC 6531 §4.3)."""
    kind = "LMTP" if speaks_lmtp(server) else "SMTP"
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


def _name(name: str, *, utf8: bool = False) -> str:
    name = _NOT_IN_A_NAME.sub("?", name)
    if not utf8:
        name = name.encode("ascii", "replace").decode()
    return _cut(name, _LONGEST_NAME)


def _address(address: str) -> str:
    """Write an address so that it is read as what it is, whatever reads it.

    An encoded word is broken with a backslash in a quoted string, which leaves the mailbox the same
    (RFC 5321 §4.1.2).
    """
    text = address
    if not (address.isascii() and address.isprintable()):
        text = "".join(each if _can_be_in_an_address(each) else "?" for each in address)
    if _ENCODED_WORD in text:
        local, at, domain = canonical_mailbox(text).rpartition("@")
        content = local.removeprefix('"').removesuffix('"')
        text = f'"{content}"{at}'.replace(_ENCODED_WORD, r"=\?")
        text += domain.replace(_ENCODED_WORD, "??")
    return _cut(text, _LONGEST_ADDRESS)


def _can_be_in_an_address(character: str) -> bool:
    return character in _ALLOWED or unicodedata.category(character) not in _FORBIDDEN_CATEGORIES


def _cut(text: str, octets: int) -> str:
    return text.encode()[:octets].decode(errors="ignore")


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
