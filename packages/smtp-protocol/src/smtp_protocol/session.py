"""Session and envelope: what a server knows of one client, and of one message, for its handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

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


class Envelope:
    """One message and where it goes. Handlers may set attributes of their own.

    Attributes:
        mail_from: The reverse-path; ``""`` is the null sender, ``None`` is before MAIL.
        mail_options: The parameters of MAIL.
        smtp_utf8: Whether MAIL had SMTPUTF8.
        rcpt_tos: The accepted recipients, as the handler wrote them down.
        rcpt_options: The parameters of all recipients in one list, as sent.
        recipients: The accepted recipients with the parameters of each. The server keeps it in
            step with ``rcpt_tos``.
        content: The message in octets, with its final CR LF; ``b""`` until it has come.
        text: The decoded message, where the server was told to decode.
    """

    def __init__(self) -> None:
        self.mail_from: str | None = None
        self.mail_options: MailOptions = MailOptions()
        self.smtp_utf8 = False
        self.rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
        self.recipients: list[Recipient] = []
        self.content = b""
        self.text: str | None = None

    @property
    def original_content(self) -> bytes:
        """The same as ``content``, which is never anything but the octets that came."""
        return self.content
