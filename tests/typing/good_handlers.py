"""Handlers as users write them; mypy checks this file with the rest, and nobody runs it."""

import email.policy
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage

from smtp_handlers import AsyncMessage, Message
from smtp_protocol import (
    Answer,
    AnyHandler,
    AuthResult,
    EnhancedStatus,
    Envelope,
    Handler,
    Hooks,
    MailOptions,
    ProxyData,
    RcptOptions,
    Reply,
    Server,
    Session,
    auth_mechanism,
)


class Overrides(Handler):
    """A subclass: each override is checked against the hook that it takes the place of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        if session.peer_host.startswith("192.0.2."):
            return "554 5.7.1 Not you"
        return f"220 {server.hostname} {server.ident}"

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-X-MINE", responses[-1]]

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        if mail_options.size is not None and mail_options.size > 1000:
            return Reply(552, ("Too large",), EnhancedStatus(5, 3, 4))
        if mail_options.body == "8BITMIME" and mail_options.smtputf8:
            return "451 Not today"
        return await super().handle_MAIL(server, session, envelope, address, mail_options)

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Reply:
        self.texts.append(envelope.content.decode())
        self.texts.append(envelope.original_content.decode("latin-1"))
        for recipient in envelope.recipients:
            self.texts.append(recipient.address.upper())
        if envelope.text is not None:
            self.texts.append(envelope.text.lower())
        return Reply.parse("250 OK")

    def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        return session.tls is not None and session.tls.version == "TLSv1.3"

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        return not proxy_data.local

    async def handle_exception(self, error: Exception) -> str:
        return "451 4.3.0 Later"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.texts.append(session.id)

    @auth_mechanism("X-TOKEN")
    async def auth_token(self, server: Server, args: list[str]) -> AuthResult:
        response = await server.challenge_auth("token?")
        return AuthResult(success=response == b"open sesame")


class AsyncSTARTTLS(Handler):
    """The one hook that may be a coroutine or not."""

    async def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        return True


class PerRecipient(Handler):
    """One answer for each recipient, as LMTP sends them."""

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Sequence[Answer]:
        return ["250 OK" for _ in envelope.rcpt_tos]


class Plain:
    """No base class: a hook is enough."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> str:
        if not address.endswith("@example.com"):
            return "550 5.7.1 Not relaying to that domain"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        print(envelope.mail_from, envelope.content.decode("utf-8", errors="replace"))
        return "250 Message accepted for delivery"


class Streaming:
    """The body as it comes."""

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> str:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
        return f"250 {size} octets"


@dataclass
class Seen:
    """What a handler remembers of a client, or of a message."""

    names: list[str] = field(default_factory=list[str])


class Remembers(Handler):
    """State of its own."""

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        session.state(Seen).names.append(envelope.mail_from or "nobody")
        here: Seen = envelope.state(Seen)
        if not here.names:
            server.hang_up()
        return f"250 {session.state(Seen).names[-1].upper()}"


class Farewell:
    """One hook that answers nothing."""

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        print(session.peer)


class Parsed(Message):
    """The message alone."""

    def handle_message(self, message: EmailMessage) -> None:
        print(message["Subject"])


class ParsedWithAll(Message):
    """The message, and what came with it."""

    def handle_message(
        self, message: EmailMessage, session: Session, envelope: Envelope
    ) -> Answer | None:
        return f"250 {envelope.mail_from} at {session.peer_host}" if message["To"] else None


class ParsedWithEnvelope(AsyncMessage):
    """The same later, with what is wanted by its name."""

    async def handle_message(self, mail: EmailMessage, *, envelope: Envelope) -> Reply:
        return Reply(250, (f"{len(envelope.content)} octets of {mail['Subject']}",))


OVERRIDES: Handler = Overrides()
PARSED: list[AnyHandler] = [
    Parsed(),
    ParsedWithAll(policy=email.policy.compat32),
    ParsedWithEnvelope(EmailMessage, policy=email.policy.SMTP),
]
HANDLERS: list[AnyHandler] = [
    OVERRIDES,
    AsyncSTARTTLS(),
    PerRecipient(),
    Plain(),
    Streaming(),
    Remembers(),
    Farewell(),
]


def take(handler: AnyHandler) -> Hooks:
    return Hooks(handler)


for each in HANDLERS + PARSED:
    take(each)
take(Plain())
