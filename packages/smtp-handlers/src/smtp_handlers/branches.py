"""Branches: the handlers that get the same message, each in a task of its own, with its answer."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping

from smtp_handlers.front import Answers, Inner
from smtp_handlers.log import log
from smtp_protocol import (
    BodyAborted,
    Envelope,
    Mail,
    Rcpt,
    Reply,
    Server,
    Session,
    replies_from,
    reply_from,
)
from smtp_protocol.bookkeeping import record

__all__: list[str] = []

#: What some of the recipients are told, by their places in ``rcpt_tos`` of the session's envelope.
Told = Mapping[int, Reply]


def accepted(reply: Reply) -> bool:
    """Whether a command or a message was accepted."""
    return reply.code < 300


class Branch(AsyncIterator[bytes]):
    """One of the handlers, and the ``chunks`` that it reads, of which it holds one at most."""

    def __init__(self, hooks: Inner, envelope: Envelope) -> None:
        self.hooks = hooks
        self.envelope = envelope
        #: Whether its answer was taken.
        self.finished = False
        #: The hook at work. It never fails: what it raises is raised by `end`.
        self.task: asyncio.Task[None] | None = None
        self._answers: Answers = ()
        self._error: BaseException | None = None
        self._chunk: bytes | None = None
        self._ended = False
        self._aborted = False
        self._room = asyncio.Event()
        self._news = asyncio.Event()

    def start(self, server: Server, session: Session) -> None:
        """Let the handler read."""
        self.task = asyncio.create_task(self._work(server, session))
        self.task.add_done_callback(lambda _: self._room.set())
        self._room.set()

    async def _work(self, server: Server, session: Session) -> None:
        try:
            self._answers = await self.hooks.handle_STREAM(server, session, self.envelope, self)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._error = error

    @property
    def returned(self) -> bool:
        """Whether the handler has returned, and nobody has asked for its answer yet."""
        return not self.finished and self.task is not None and self.task.done()

    async def put(self, chunk: bytes) -> None:
        """Hand the handler a chunk when it has taken the one before, unless it has returned."""
        await self._room.wait()
        if self.task is not None and not self.task.done():
            self._room.clear()
            self._chunk = chunk
            self._news.set()

    async def end(self) -> Told:
        """End the message, and wait for the answer.

        Raises:
            BaseException: What the handler has raised.
        """
        self._ended = True
        self._news.set()
        assert self.task is not None
        await asyncio.wait({self.task})
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        told = self.told(self._answers)
        self.finished = True
        return told

    @abstractmethod
    def told(self, answers: Answers) -> Told:
        """What the answers of the handler mean for which recipients.

        Raises:
            TypeError: There are not as many as recipients.
            ValueError: One is no reply.
        """

    def abort(self) -> None:
        """Tell the handler, if it still reads, that the message will not be complete."""
        self._aborted = True
        self._news.set()

    def log_failure(self, session: Session) -> None:
        """Log what the handler has raised and nobody asked for."""
        if self._error is not None and not isinstance(
            self._error, BodyAborted | asyncio.CancelledError
        ):
            log(logging.ERROR, session, "A handler behind FanOut failed", error=self._error)

    async def __anext__(self) -> bytes:
        while True:
            chunk, self._chunk = self._chunk, None
            if self._aborted:
                raise BodyAborted
            if chunk is not None:
                self._room.set()
                return chunk
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()


class First(Branch):
    """The first handler, whose envelope is the session's."""

    def __init__(self, hooks: Inner, envelope: Envelope) -> None:
        super().__init__(hooks, envelope)
        #: All that it has accepted.
        self.everyone = envelope.rcpt_tos
        self._asked = list(range(len(self.everyone)))

    def narrow(self, left: Collection[int]) -> None:
        """Take out the recipients that another handler has refused, if it can still heed that."""
        if self.task is None or (self.hooks.stream is None and not self.task.done()):
            self._asked = [number for number in self._asked if number in left]
            self.envelope.rcpt_tos = [self.everyone[number] for number in self._asked]

    def told(self, answers: Answers) -> Told:
        if not self.everyone:
            return {0: replies_from(answers, 1)[0]}
        if isinstance(answers, str | Reply):
            return dict.fromkeys(self._asked, reply_from(answers))
        # It may have kept a list of its own, and not know that anybody was taken out.
        numbers = range(len(self.everyone)) if len(answers) == len(self.everyone) else self._asked
        if len(answers) != len(numbers):
            raise TypeError(f"a handler answers once, or for each of {len(numbers)} recipients")
        return dict(zip(numbers, map(reply_from, answers), strict=True))


class Other(Branch):
    """One of the others, which has a transaction of its own."""

    def __init__(self, hooks: Inner, original: Envelope) -> None:
        super().__init__(hooks, Envelope())
        #: Whether it has heard of the transaction.
        self.begun = False
        self._original = original
        self._recipients = original.recipients
        self._asked: list[int] = []

    async def begin(self, server: Server, session: Session) -> Told:
        """Begin the transaction; what it refuses is told."""
        self.begun = True
        hooks, envelope, original = self.hooks, self.envelope, self._original
        envelope.encoding = original.encoding
        mail = Mail(original.mail_from or "", original.mail_options)
        reply = reply_from(
            await hooks.handle_MAIL(server, session, envelope, mail.address, mail.options)
        )
        record(mail, reply, session, envelope)
        envelope.smtp_utf8 = original.smtp_utf8
        if not accepted(reply):
            return dict.fromkeys(range(max(1, len(self._recipients))), reply)
        refused = {}
        for number, recipient in enumerate(self._recipients):
            rcpt = Rcpt(recipient.address, recipient.options)
            reply = reply_from(
                await hooks.handle_RCPT(server, session, envelope, rcpt.address, rcpt.options)
            )
            record(rcpt, reply, session, envelope)
            if accepted(reply):
                self._asked.append(number)
            else:
                refused[number] = reply
        return refused

    def told(self, answers: Answers) -> Told:
        if not self._recipients:
            return {0: replies_from(answers, 1)[0]}
        final = replies_from(answers, len(self._asked), self.envelope)
        return dict(zip(self._asked, final, strict=True))
