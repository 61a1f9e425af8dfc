"""Session and envelope: what a server knows of one client, and of one message, for its handler."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal, NamedTuple

from smtp_protocol.options import MailOptions, RcptOptions

if TYPE_CHECKING:
    import asyncio
    import ssl

    from smtp_protocol.proxy_header import ProxyData
    from smtp_protocol.xclient import ClientAttributes

__all__ = ["Envelope", "Peer", "Recipient", "Session", "TLSInfo"]

#: Host and port, the path of a Unix socket, or ``None`` when nobody knows.
Peer = tuple[str, int] | str | None

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What TLS was agreed upon.

    Args:
        version: Such as ``"TLSv1.3"``.
        cipher: The name of the cipher suite.
        peer_certificate: The client's certificate in DER, if it was asked for and gave one.
        sni: The server name that the client asked for (RFC 6066 §3).
    """

    version: str
    cipher: str
    peer_certificate: bytes | None = field(default=None, repr=False)
    sni: str | None = None


class Session:
    """One client's connection. Handlers may set attributes of their own.

    Attributes:
        peer: The client: host and port, a path, or ``None``; behind a PROXY header the client
            that it names.
        host_name: What the client called itself in HELO or EHLO; ``None`` before.
        extended_smtp: Whether it said EHLO.
        tls: What TLS was agreed upon, by STARTTLS or from the beginning; ``None`` in the clear.
        ssl: The TLS object behind ``tls``, for what that does not tell.
        proxy_data: The PROXY header that came before the greeting.
        authenticated: Whether AUTH succeeded.
        auth_data: What the authenticator said of who it is.
        xclient: What a trusted proxy said of the client (XCLIENT).
        forwarded: What a trusted filter said of the client before it (XFORWARD).
        loop: The event loop that the session runs in, if it runs in one.
    """

    def __init__(self, peer: Peer = None, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._number = next(_numbers)
        self.peer = peer
        self.host_name: str | None = None
        self.extended_smtp = False
        self.tls: TLSInfo | None = None
        self.ssl: ssl.SSLObject | None = None
        self.proxy_data: ProxyData | None = None
        self.authenticated = False
        self.auth_data: object = None
        self.xclient: ClientAttributes | None = None
        self.forwarded: ClientAttributes | None = None
        self.loop = loop
        self._introduced: str | None = None

    def introduce(self, name: str) -> None:
        """Note how an accepted HELO or EHLO called the client, unless the hook has done so.

        Args:
            name: What the command said.
        """
        if self.host_name is self._introduced:
            self.host_name = name  # for a hook that only looked
        self._introduced = self.host_name

    @property
    def id(self) -> str:
        """Short, unique in the process, and in each log record of the session."""
        return f"{self._number:06x}"

    @property
    def peer_host(self) -> str:
        """The client's address or path, for policies and logs; ``"local"`` when not known."""
        peer = self.peer
        return (peer[0] if isinstance(peer, tuple) else peer) or "local"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One accepted recipient: its address, and the parameters that RCPT gave for it."""

    address: str
    options: RcptOptions


class _Accepted(NamedTuple):
    """One RCPT that was accepted: what it said, and which addresses its hook added for it."""

    address: str
    options: RcptOptions
    added: Sequence[str]


class Envelope:
    """One message and where it goes. Handlers may set attributes of their own.

    Attributes:
        mail_from: The reverse-path; ``""`` is the null sender, ``None`` is before MAIL.
        mail_options: The parameters of MAIL.
        smtp_utf8: Whether MAIL had SMTPUTF8.
        rcpt_tos: The accepted recipients, as the handler wrote them down.
        rcpt_options: The parameters of all recipients in one list, as sent.
        content: The message in octets, with its final CR LF; ``b""`` until it has come.
        encoding: What ``text`` is decoded from, ``"utf-8"`` or ``"ascii"``; ``None`` where the
            server was not told to decode.
    """

    encoding: Literal["utf-8", "ascii"] | None = None

    # The RCPT commands that were accepted, and the list as it was after the last of them.
    _accepted: list[_Accepted] | None = None
    _known: list[str] | None = None
    _number_known = 0

    def __init__(self) -> None:
        self.mail_from: str | None = None
        self.mail_options: MailOptions = MailOptions()
        self.smtp_utf8 = False
        self.rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
        self.content = b""

    @property
    def original_content(self) -> bytes:
        """The same as ``content``, which is never anything but the octets that came."""
        return self.content

    @property
    def text(self) -> str | None:
        """The message as text, decoded from ``content``.

        ``None`` where the server was not told to decode, and of a message that cannot be. Octets
        that are no UTF-8 are kept as surrogates (PEP 383).
        """
        if self.encoding == "utf-8":
            return self.content.decode("utf-8", "surrogateescape")
        return self.content.decode() if self.encoding and self.content.isascii() else None

    @property
    def recipients(self) -> list[Recipient]:
        """What is in ``rcpt_tos`` now, each with the parameters that its RCPT had."""
        options: dict[str, deque[RcptOptions]] = {}
        for accepted in self._accepted or ():
            for address in {*accepted.added, accepted.address}:
                options.setdefault(address, deque()).append(accepted.options)
        recipients = []
        for address in self.rcpt_tos:
            known = options.get(address)
            if known is None:
                recipients.append(Recipient(address, RcptOptions()))
            else:
                # Of an address that was given twice, the second one has the second RCPT's.
                recipients.append(
                    Recipient(address, known.popleft() if len(known) > 1 else known[0])
                )
        return recipients

    # For the server, which knows what it answered.

    def accept(self, address: str, options: RcptOptions) -> None:
        """Note an accepted RCPT: what its hook has added to ``rcpt_tos`` is there because of it.

        Args:
            address: What RCPT said.
            options: Its parameters.
        """
        recipients, known = self.rcpt_tos, self._known
        if self._accepted is None or known is None:
            self._accepted = [_Accepted(address, options, recipients[:])]
        else:
            if recipients is known and len(recipients) >= self._number_known:
                added = recipients[self._number_known :]
            else:  # a hook that makes the whole list anew
                before = set(known[: self._number_known])
                added = [other for other in recipients if other not in before]
            self._accepted.append(_Accepted(address, options, added))
        self._known = recipients
        self._number_known = len(recipients)

    def refuse(self) -> None:
        """Take back what the hook of a refused RCPT has done to ``rcpt_tos``."""
        self.rcpt_tos = [] if self._known is None else self._known
        del self.rcpt_tos[self._number_known :]

    def places(self) -> list[list[int]]:
        """For each accepted RCPT, where in ``rcpt_tos`` the addresses are that it brought.

        That is how the answers of a handler, one for each address, become LMTP's, one for each
        RCPT (RFC 2033 §4.2). A RCPT whose addresses are not there has no place.
        """
        free: dict[str, deque[int]] = {}
        for place, address in enumerate(self.rcpt_tos):
            free.setdefault(address, deque()).append(place)
        found = []
        for accepted in self._accepted or ():
            wanted = [address for address in accepted.added if address in free]
            if not wanted and accepted.address in free:
                wanted = [accepted.address]
            # The last place of an address serves whoever comes later, too.
            places = [free[address] for address in wanted]
            found.append([place.popleft() if len(place) > 1 else place[0] for place in places])
        return found
