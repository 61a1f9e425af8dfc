"""Handler: every hook, with a body that is what the server does when the hook is missing.

Hooks are called in the order of a session. They answer with a `Reply` or its text, or with what
their own lines here say. A handler need not subclass `Handler`: any object with one of the hooks
will do (`AnyHandler`), and the others are taken from here.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Literal, Protocol

from smtp_protocol import grammar, replies
from smtp_protocol.answers import Answer
from smtp_protocol.auth import MISSING, Missing
from smtp_protocol.options import MailOptions, RcptOptions
from smtp_protocol.proxy_header import ProxyData
from smtp_protocol.replies import EnhancedStatus, Reply
from smtp_protocol.session import Envelope, Session

__all__ = [
    "AnyHandler",
    "BodyAborted",
    "Handler",
    "HandlesAUTH",
    "HandlesCONNECT",
    "HandlesDATA",
    "HandlesDISCONNECT",
    "HandlesEHLO",
    "HandlesEXPN",
    "HandlesException",
    "HandlesHELO",
    "HandlesHELP",
    "HandlesMAIL",
    "HandlesNOOP",
    "HandlesPROXY",
    "HandlesQUIT",
    "HandlesRCPT",
    "HandlesRSET",
    "HandlesSTARTTLS",
    "HandlesSTREAM",
    "HandlesVRFY",
    "Server",
]


class Server(Protocol):
    """What a hook sees of the server that runs it."""

    @property
    def hostname(self) -> str:
        """The name that the server calls itself in the greeting and in EHLO."""

    @property
    def ident(self) -> str:
        """What follows the name in the greeting."""

    @property
    def data_size_limit(self) -> int | None:
        """The largest message in octets; ``None`` or 0 for no limit."""

    @property
    def enable_SMTPUTF8(self) -> bool:
        """Whether SMTPUTF8 is offered."""

    @property
    def session(self) -> Session:
        """The session that is being served."""

    @property
    def envelope(self) -> Envelope:
        """The transaction that is going on."""

    @property
    def syntaxes(self) -> Mapping[str, str]:
        """The form of each command that the server takes, by its verb."""

    async def push(self, answer: Answer) -> None:
        """Send the reply to the command now; what the hook returns is then not sent.

        Raises:
            ValueError: The text is no reply.
            RuntimeError: The command was answered already.
        """

    def hang_up(self) -> None:
        """Close the connection at once, without a word.

        The transaction is gone, and so is what the client has sent and nobody has answered yet.
        What the hook returns is not sent. ``handle_DISCONNECT`` is called, after that hook. To end
        a session with a reply, answer with a 421 instead (RFC 5321 §3.8).
        """

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        """Send a 334 challenge of AUTH and wait for the response (RFC 4954 §4).

        Args:
            challenge: What to send.
            encode_to_b64: Whether it is still to be encoded.

        Returns:
            The response, decoded; `MISSING` when the client cancelled or sent rubbish, which
            was then answered.
        """


class Handler(Protocol):
    """All the hooks. Subclass it to have mypy check each one that you override."""

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """The connection is there; the answer is the greeting. A 4yz or 5yz one ends it."""
        return f"220 {server.hostname} {server.ident}"

    async def handle_HELO(
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> Answer:
        """HELO; the hook sets ``session.host_name``."""
        session.host_name = hostname
        return f"250 {server.hostname}"

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str] | str | Reply:
        """EHLO; the hook sets ``session.host_name`` and returns the lines of the reply.

        ``responses`` are the lines so far, ``"250-…"``, the last of them ``"250 HELP"``.
        """
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """MAIL; the hook sets ``envelope.mail_from``."""
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return replies.MAIL_OK

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """RCPT; the hook adds to ``envelope.rcpt_tos`` what it accepts."""
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return replies.RCPT_OK

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        """The message is complete, in ``envelope.content``. A positive answer takes it over.

        A sequence has one answer for each recipient, which only LMTP can send (RFC 2033 §4.2);
        SMTP sends the worst of them.
        """
        return replies.OK

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """RSET; the server forgets the transaction."""
        return replies.OK

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        """NOOP, with the text behind it."""
        return replies.OK

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """QUIT; after a positive answer the connection is closed."""
        return replies.BYE

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer:
        """VRFY, with a mailbox or the name of a user."""
        return replies.CANNOT_VRFY

    async def handle_EXPN(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer:
        """EXPN, with the name of a list."""
        return replies.NOT_IMPLEMENTED

    async def handle_HELP(
        self, server: Server, session: Session, envelope: Envelope, topic: str
    ) -> Answer:
        """HELP, with a command's name or ``""``."""
        if not topic:
            return Reply(214, (f"Commands: {' '.join(server.syntaxes)}",), EnhancedStatus(2, 0, 0))
        syntax = server.syntaxes.get(grammar.upper(topic))
        if syntax is None:
            return replies.NO_SUCH_TOPIC
        return Reply(214, (f"Syntax: {syntax}",), EnhancedStatus(2, 0, 0))

    async def handle_AUTH(
        self, server: Server, session: Session, envelope: Envelope, args: list[str]
    ) -> str | Reply | Literal[Missing.MISSING]:
        """AUTH, with its one or two words; `MISSING` leaves it to the mechanisms."""
        return MISSING

    def handle_STARTTLS(
        self, server: Server, session: Session, envelope: Envelope
    ) -> bool | Awaitable[bool]:
        """The TLS handshake is done; ``False`` leaves the client nothing but QUIT."""
        return True

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        """A PROXY header came; ``False`` closes the connection."""
        return True

    async def handle_exception(self, error: Exception) -> Answer:
        """A hook raised ``error``, which is logged; the answer is what the client gets."""
        return replies.LOCAL_ERROR

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """The connection of a session that saw `handle_CONNECT` is gone."""
        return None


class HandlesCONNECT(Protocol):
    """An object with `handle_CONNECT`."""

    async def handle_CONNECT(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer: ...


class HandlesHELO(Protocol):
    """An object with `handle_HELO`."""

    async def handle_HELO(
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> Answer: ...


class HandlesEHLO(Protocol):
    """An object with `handle_EHLO`."""

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str] | str | Reply: ...


class HandlesMAIL(Protocol):
    """An object with `handle_MAIL`."""

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer: ...


class HandlesRCPT(Protocol):
    """An object with `handle_RCPT`."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer: ...


class HandlesDATA(Protocol):
    """An object with `handle_DATA`."""

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]: ...


class BodyAborted(Exception):
    """Raised by the ``chunks`` of ``handle_STREAM``: the message will not be complete.

    The connection was lost, or the server had to refuse the message. What the hook returns is
    not sent.
    """


class HandlesSTREAM(Protocol):
    """An object with ``handle_STREAM``, which takes the place of `handle_DATA`.

    ``chunks`` gives the message as it comes; while it is not read, the client is not either. A
    hook may return before the end: the rest is then dropped, and the answer sent behind it.
    """

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]: ...


class HandlesRSET(Protocol):
    """An object with `handle_RSET`."""

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer: ...


class HandlesNOOP(Protocol):
    """An object with `handle_NOOP`."""

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer: ...


class HandlesQUIT(Protocol):
    """An object with `handle_QUIT`."""

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer: ...


class HandlesVRFY(Protocol):
    """An object with `handle_VRFY`."""

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer: ...


class HandlesEXPN(Protocol):
    """An object with `handle_EXPN`."""

    async def handle_EXPN(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer: ...


class HandlesHELP(Protocol):
    """An object with `handle_HELP`."""

    async def handle_HELP(
        self, server: Server, session: Session, envelope: Envelope, topic: str
    ) -> Answer: ...


class HandlesAUTH(Protocol):
    """An object with `handle_AUTH`."""

    async def handle_AUTH(
        self, server: Server, session: Session, envelope: Envelope, args: list[str]
    ) -> str | Reply | Literal[Missing.MISSING]: ...


class HandlesSTARTTLS(Protocol):
    """An object with `handle_STARTTLS`."""

    def handle_STARTTLS(
        self, server: Server, session: Session, envelope: Envelope
    ) -> bool | Awaitable[bool]: ...


class HandlesPROXY(Protocol):
    """An object with `handle_PROXY`."""

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool: ...


class HandlesException(Protocol):
    """An object with `handle_exception`."""

    async def handle_exception(self, error: Exception) -> Answer: ...


class HandlesDISCONNECT(Protocol):
    """An object with `handle_DISCONNECT`."""

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None: ...


# A type checker tells of the first few of these why an object is none of them, so those come first
# that are written most. `Handler`, which has all the hooks, is each of them.
#: Any object with at least one hook.
AnyHandler = (
    HandlesDATA
    | HandlesRCPT
    | HandlesMAIL
    | HandlesSTREAM
    | HandlesCONNECT
    | HandlesEHLO
    | HandlesHELO
    | HandlesAUTH
    | HandlesSTARTTLS
    | HandlesPROXY
    | HandlesVRFY
    | HandlesEXPN
    | HandlesHELP
    | HandlesNOOP
    | HandlesRSET
    | HandlesQUIT
    | HandlesException
    | HandlesDISCONNECT
)
