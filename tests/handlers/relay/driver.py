"""Driver: calls a Proxy's hooks as a server does, without a server."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypedDict, Unpack

from tests.handlers.test_mailbox import until
from tests.handlers.upstreams import Upstream

from smtp_handlers import Inner, Proxy
from smtp_handlers.relay.target import TLSMode
from smtp_protocol import (
    Answer,
    AnyHandler,
    Envelope,
    MailOptions,
    Missing,
    RcptOptions,
    Recipient,
    Reply,
    Server,
    Session,
)

CHUNKS = [b"Subject: Hello\r\n\r\n", *[(b"x" * 98 + b"\r\n") * 100] * 10]
RECIPIENTS = ("a@x.example", "b@x.example", "c@x.example")


class Options(TypedDict, total=False):
    """Some of the keywords of Proxy."""

    tls: TLSMode
    tls_context: ssl.SSLContext | None
    username: str
    password: str
    lmtp: bool
    timeout: float
    connect_timeout: float
    pool_size: int
    max_connections: int
    max_hops: int
    local_hostname: str


class FakeServer(Server):
    """What hooks see of a server, and nothing more."""

    def __init__(self, hostname: str = "mx.example") -> None:
        self._hostname = hostname
        self._session = Session(("192.0.2.1", 40000))
        self._envelope = Envelope()

    @property
    def hostname(self) -> str:
        return self._hostname

    @property
    def ident(self) -> str:
        return "test"

    @property
    def data_size_limit(self) -> int | None:
        return None

    @property
    def enable_SMTPUTF8(self) -> bool:
        return True

    @property
    def session(self) -> Session:
        return self._session

    @property
    def envelope(self) -> Envelope:
        return self._envelope

    @property
    def syntaxes(self) -> Mapping[str, str]:
        return {}

    def new_envelope(self) -> Envelope:
        """Begin another transaction."""
        self._envelope = Envelope()
        return self._envelope

    async def push(self, answer: Answer) -> None:
        raise NotImplementedError

    def hang_up(self) -> None:
        raise NotImplementedError

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        raise NotImplementedError


class Driver:
    """One client's session with a handler.

    Args:
        handler: The handler: a Proxy, or something in front of one.
    """

    def __init__(self, handler: AnyHandler, hostname: str = "mx.example") -> None:
        self.server = FakeServer(hostname)
        self.session = self.server.session
        self.session.host_name = "client.example"
        self.handler = handler
        self.hooks = Inner(handler)

    async def mail(self, parameters: MailOptions | None = None) -> Reply:
        """Say MAIL."""
        envelope = self.server.new_envelope()
        options = MailOptions() if parameters is None else parameters
        return _reply(
            await self.hooks.handle_MAIL(
                self.server, self.session, envelope, "anne@example.com", options
            )
        )

    async def rcpt(self, recipient: str = RECIPIENTS[0]) -> Reply:
        """Say RCPT."""
        envelope = self.server.envelope
        options = RcptOptions()
        reply = _reply(
            await self.hooks.handle_RCPT(self.server, self.session, envelope, recipient, options)
        )
        if reply.positive:
            for each in envelope.rcpt_tos[len(envelope.recipients) :]:
                envelope.recipients.append(Recipient(each, options))
        return reply

    async def message(self, *chunks: bytes) -> list[Reply]:
        """Send the message; there is one answer, or one for each recipient."""
        return await self.stream(_chunks(chunks or CHUNKS))

    async def stream(self, chunks: AsyncIterator[bytes]) -> list[Reply]:
        """Send a message that is still to come."""
        answers = await self.hooks.handle_STREAM(
            self.server, self.session, self.server.envelope, chunks
        )
        if isinstance(answers, str | Reply):
            answers = [answers]
        return [_reply(answer) for answer in answers]

    async def transaction(self, recipients: Sequence[str] = RECIPIENTS) -> list[int]:
        """Run a whole transaction; gives the last code that each recipient was told."""
        reply = await self.mail()
        if not reply.positive:
            return [reply.code] * len(recipients)
        codes = [(await self.rcpt(recipient)).code for recipient in recipients]
        accepted = [place for place, code in enumerate(codes) if code < 300]
        if accepted:
            answers = await self.message()
            answers = answers * len(accepted) if len(answers) == 1 else answers
            for place, answer in zip(accepted, answers, strict=True):
                codes[place] = answer.code
        return codes

    async def rset(self) -> Reply:
        """Say RSET."""
        return _reply(await self.hooks.handle_RSET(self.server, self.session, self.server.envelope))

    async def disconnect(self) -> None:
        """Be gone."""
        await self.hooks.handle_DISCONNECT(self.server, self.session)


def connections(proxy: Proxy) -> int:
    """How many connections a Proxy says it has."""
    return proxy._pool().count


def idle_connections(proxy: Proxy) -> int:
    """How many of them wait for the next message."""
    return len(proxy._pool()._idle)


@asynccontextmanager
async def proxied(upstream: Upstream, **options: Unpack[Options]) -> AsyncIterator[Driver]:
    """A client of a Proxy to the upstream, which in the end has left nothing open."""
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port, **options)
        driver = Driver(proxy)
        yield driver
        await driver.disconnect()
        await proxy.close()
        assert connections(proxy) == 0
        await until(lambda: upstream.open == upstream.stalled)


def _reply(answer: Answer) -> Reply:
    return Reply.parse(answer) if isinstance(answer, str) else answer


async def _chunks(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk
