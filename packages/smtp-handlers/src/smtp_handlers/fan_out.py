"""FanOut: several handlers get the same message, and the client's 250 means that each has it."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from smtp_handlers.front import Answers, Front, Inner
from smtp_protocol import (
    Answer,
    AnyHandler,
    BodyAborted,
    Envelope,
    MailOptions,
    Reply,
    Server,
    Session,
)

__all__ = ["FanOut"]


class FanOut(Front):
    """Hands each message to several handlers.

    The first handler has the say in the session, up to and including each recipient. The others
    get the accepted sender and recipients, and with the first one the message, as it comes. They
    finish it one after the other, the first handler last, and as soon as one refuses, those that
    have not finished are told that the message will not be complete. So when the client is told
    anything but 250, the first handler does not have the message, unless it was the first handler
    itself that said so; another one may have it, and get it again when the client retries.

    Args:
        handler: The first handler.
        *others: Those that get the message too. Of their hooks MAIL, RCPT, DATA or STREAM,
            RSET and DISCONNECT are called, with an envelope of their own.

    Raises:
        TypeError: A handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler, *others: AnyHandler) -> None:
        super().__init__(handler)
        self._others = [Inner(other) for other in others]

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """Let the first handler decide, and write down what the others are to be told."""
        answer = await self.inner.handle_MAIL(server, session, envelope, address, mail_options)
        if not envelope.mail_options:
            envelope.mail_options.extend(mail_options)
        return answer

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answers:
        """Hand the message to all of them."""
        branches = [_Branch(self.inner, envelope)]
        try:
            for other in self._others:
                branches.append(branch := _Branch(other, Envelope()))
                refusal = await _begin(branch, server, session, envelope)
                if refusal is not None:
                    return refusal
            for branch in branches:
                branch.start(server, session)
            return await _pass_on(chunks, branches)
        except asyncio.CancelledError:
            for branch in branches:
                branch.cancel()
            raise
        finally:
            for branch in branches:
                await branch.stop()
            for branch in branches[1:]:
                if not branch.finished:
                    await branch.hooks.handle_RSET(server, session, branch.envelope)

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Tell all of them."""
        for hooks in (self.inner, *self._others):
            await hooks.handle_DISCONNECT(server, session)


class _Branch(AsyncIterator[bytes]):
    """One of the handlers, and the ``chunks`` that it reads, of which it holds one at most."""

    def __init__(self, hooks: Inner, envelope: Envelope) -> None:
        self.hooks = hooks
        self.envelope = envelope
        #: Whether the handler has returned from a complete message.
        self.finished = False
        self._chunk: bytes | None = None
        self._ended = False
        self._aborted = False
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[Answers] | None = None

    def start(self, server: Server, session: Session) -> None:
        """Let the handler read."""
        hook = self.hooks.handle_STREAM(server, session, self.envelope, self)
        self._task = asyncio.create_task(hook)
        self._task.add_done_callback(lambda _: self._room.set())
        self._room.set()

    @property
    def returned(self) -> bool:
        """Whether the handler reads no more."""
        return self._task is not None and self._task.done()

    async def put(self, chunk: bytes) -> None:
        """Hand the handler a chunk when it has taken the one before, unless it has returned."""
        await self._room.wait()
        if not self.returned:
            self._room.clear()
            self._chunk = chunk
            self._news.set()

    async def end(self) -> Answers:
        """End the message, and wait for the answer; what the handler raises is raised."""
        self._ended = True
        self._news.set()
        assert self._task is not None
        answers = await self._task
        self.finished = True
        return answers

    async def stop(self) -> None:
        """Tell the handler, if it still reads, that the message will not be complete."""
        self._aborted = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # nobody else may ask for it

    def cancel(self) -> None:
        """End the handler's work, whatever it waits for."""
        if self._task is not None:
            self._task.cancel()

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


async def _begin(
    branch: _Branch, server: Server, session: Session, original: Envelope
) -> Reply | None:
    """Begin the transaction of one of the others; the reply is a refusal."""
    hooks, envelope = branch.hooks, branch.envelope
    options = original.mail_options
    sender = original.mail_from or ""
    answer = await hooks.handle_MAIL(server, session, envelope, sender, options)
    envelope.mail_from = sender if envelope.mail_from is None else envelope.mail_from
    envelope.smtp_utf8 = original.smtp_utf8
    replies = [_reply(answer)]
    for recipient in original.recipients:
        if not replies[-1].positive:
            break
        replies.append(
            _reply(
                await hooks.handle_RCPT(
                    server, session, envelope, recipient.address, recipient.options
                )
            )
        )
        envelope.accept(recipient.address, recipient.options)
    return None if replies[-1].positive else replies[-1]


async def _pass_on(chunks: AsyncIterator[bytes], branches: Sequence[_Branch]) -> Answers:
    """Hand the message to all branches, end them from the last to the first, and answer."""
    async for chunk in chunks:
        for branch in branches:
            await branch.put(chunk)
        for branch in branches:
            if branch.returned:
                answers = await branch.end()
                if not _all_positive(answers):
                    return answers
    first, *others = branches
    for branch in reversed(others):
        answers = await branch.end()
        if not _all_positive(answers):
            return answers
    return await first.end()


def _all_positive(answers: Answers) -> bool:
    if isinstance(answers, str | Reply):
        return _reply(answers).positive
    return all(_reply(answer).positive for answer in answers)


def _reply(answer: str | Reply) -> Reply:
    return Reply.parse(answer) if isinstance(answer, str) else answer
