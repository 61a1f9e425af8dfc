"""Faults: what goes wrong at the next steps of sessions, said by a test, done by the server."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Mapping
from time import monotonic
from typing import Generic, Literal, TypeVar, get_args

from smtp_protocol import (
    Answer,
    Bdat,
    Data,
    Envelope,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
    StartTls,
)
from smtp_protocol.auth import Missing
from smtp_server.smtp import SMTP
from smtp_server.testing.recorder import Recorder

__all__ = ["Step"]

#: Where a session can be made to fail. DATA is the answer to the whole message, DATA_COMMAND the
#: one to the command, and BDAT the one to each chunk but the last.
Step = Literal[
    "CONNECT",
    "HELO",
    "EHLO",
    "STARTTLS",
    "AUTH",
    "MAIL",
    "RCPT",
    "DATA_COMMAND",
    "BDAT",
    "DATA",
    "RSET",
    "NOOP",
    "QUIT",
    "VRFY",
    "EXPN",
    "HELP",
]

#: The answer that nobody gets, for the connection is cut.
CUT = Reply(421, ("Connection cut",))

# Seconds in which a client says QUIT that says it behind its message.
_QUITTING = 0.1

T = TypeVar("T")


class Schedule(Generic[T]):
    """One value, or none, for each of the next times that a step is reached."""

    def __init__(self) -> None:
        # By step, and by recipient where only one is meant. A deque is safe to use in two threads.
        self._queues: defaultdict[tuple[str, str | None], deque[T | None]] = defaultdict(deque)

    def add(
        self, step: Step, value: T, *, times: int, skip: int, recipient: str | None = None
    ) -> None:
        """Add ``skip`` times nothing, and then ``times`` times the value.

        Raises:
            ValueError: There is no such step, or a number makes no sense, or the step has no
                recipient.
        """
        if step not in get_args(Step):
            raise ValueError(f"{step!r} is none of {', '.join(get_args(Step))}")
        if times < 1 or skip < 0:
            raise ValueError(f"times is at least 1 and skip at least 0, not {times} and {skip}")
        if recipient is not None and step != "RCPT":
            raise ValueError(f"a recipient goes with the step RCPT, not with {step}")
        name = None if recipient is None else recipient.lower()
        self._queues[step, name].extend([None] * skip + [value] * times)

    def take(self, step: Step, recipient: str | None = None) -> T | None:
        """What is to happen this time: to this recipient, or else to any."""
        value = None if recipient is None else self._next(step, recipient.lower())
        return self._next(step, None) if value is None else value

    def _next(self, step: Step, recipient: str | None) -> T | None:
        queue = self._queues.get((step, recipient))
        return queue.popleft() if queue else None

    def clear(self) -> None:
        """Forget what is still to come."""
        self._queues.clear()


# What has no hook.
_COMMANDS: Mapping[type[Data | Bdat | StartTls], Step] = {
    Data: "DATA_COMMAND",
    Bdat: "BDAT",
    StartTls: "STARTTLS",
}


class Connection(SMTP):
    """A connection whose every step can fail, and which is cut when the server stops."""

    # By the clock of `monotonic`, when its last message was answered.
    _answered = -math.inf

    async def answer_command(self, command: Data | Bdat | StartTls) -> Answer:
        """Let a step without a hook fail as the others do."""
        handler = self.setup.handler
        failure = None
        if isinstance(handler, FaultyRecorder):
            failure = await handler.fault(_COMMANDS[type(command)], self)
        return failure or await super().answer_command(command)

    def message_answered(self) -> None:
        """Note that the client may be about to say QUIT."""
        self._answered = monotonic()

    def shut_down(self) -> None:
        """End the session, unless its client is about to do so: it would miss the answer."""
        in_transaction = self.envelope.mail_from is not None
        if in_transaction or monotonic() - self._answered > _QUITTING:
            self.abort()

    def abort(self) -> None:
        """End the session without a word, for its client may be left from a test that is over."""
        self._drop()
        super().abort()


class FaultyRecorder(Recorder):
    """A recorder at which steps can be made to fail, or to take their time."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = Schedule[Reply]()
        self.delays = Schedule[float]()

    async def fault(self, step: Step, server: Server, recipient: str | None = None) -> Reply | None:
        """Do what is to happen at a step this time; the reply is that of a failure."""
        delay = self.delays.take(step, recipient)
        if delay is not None:
            await asyncio.sleep(delay)
        failure = self.failures.take(step, recipient)
        if failure is CUT:
            server.hang_up()
        return failure

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """The greeting."""
        failure = await self.fault("CONNECT", server)
        return failure or await super().handle_CONNECT(server, session, envelope)

    async def handle_HELO(
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> Answer:
        """HELO."""
        failure = await self.fault("HELO", server)
        return failure or await super().handle_HELO(server, session, envelope, hostname)

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str] | str | Reply:
        """EHLO."""
        failure = await self.fault("EHLO", server)
        return failure or await super().handle_EHLO(server, session, envelope, hostname, responses)

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """MAIL."""
        failure = await self.fault("MAIL", server)
        return failure or await super().handle_MAIL(
            server, session, envelope, address, mail_options
        )

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """RCPT."""
        failure = await self.fault("RCPT", server, address)
        return failure or await super().handle_RCPT(
            server, session, envelope, address, rcpt_options
        )

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """The message has come, and is kept unless it is to fail."""
        failure = await self.fault("DATA", server)
        if isinstance(server, Connection):
            server.message_answered()
        return failure or await super().handle_DATA(server, session, envelope)

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """RSET."""
        failure = await self.fault("RSET", server)
        return failure or await super().handle_RSET(server, session, envelope)

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        """NOOP."""
        failure = await self.fault("NOOP", server)
        return failure or await super().handle_NOOP(server, session, envelope, arg)

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """QUIT."""
        failure = await self.fault("QUIT", server)
        return failure or await super().handle_QUIT(server, session, envelope)

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer:
        """VRFY."""
        failure = await self.fault("VRFY", server)
        return failure or await super().handle_VRFY(server, session, envelope, address)

    async def handle_EXPN(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer:
        """EXPN."""
        failure = await self.fault("EXPN", server)
        return failure or await super().handle_EXPN(server, session, envelope, address)

    async def handle_HELP(
        self, server: Server, session: Session, envelope: Envelope, topic: str
    ) -> Answer:
        """HELP."""
        failure = await self.fault("HELP", server)
        return failure or await super().handle_HELP(server, session, envelope, topic)


class FaultyRecorderWithAuth(FaultyRecorder):
    """The same for a server with AUTH, which this hook alone would make it offer."""

    async def handle_AUTH(
        self, server: Server, session: Session, envelope: Envelope, args: list[str]
    ) -> str | Reply | Literal[Missing.MISSING]:
        """AUTH, before its mechanism begins."""
        failure = await self.fault("AUTH", server)
        return failure or await super().handle_AUTH(server, session, envelope, args)
