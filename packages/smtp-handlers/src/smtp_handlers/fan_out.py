"""FanOut: several handlers get the same message, and 250 to the client means that each has it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from smtp_handlers.branches import First, Other, Told, accepted
from smtp_handlers.front import Answers, Front, Inner
from smtp_handlers.trace import speaks_lmtp
from smtp_protocol import AnyHandler, Envelope, Reply, Server, Session, worst_reply

__all__ = ["FanOut"]


class FanOut(Front):
    """Hands each message to several handlers.

    The first handler has the say in the session, up to and including each recipient. The others
    get the accepted sender and recipients, and with the first one the message, as it comes. They
    finish it one after the other, the first handler last. A recipient is told the worst that any of
    them has said: 250 means that each has the message for it.

    In SMTP, where all recipients have one answer, those that have not finished are told that the
    message will not be complete as soon as one handler refuses a recipient. In LMTP (RFC 2033) that
    is so when each recipient was refused by some handler; before, the others go on. The first
    handler does not get the message for a recipient that another one has refused, unless it takes
    messages as they come and the refusal comes after the message. Another handler may have the
    message though its client was told something else, and get it again when the client retries.

    Args:
        handler: The first handler.
        *others: Those that get the message too. Of their hooks MAIL, RCPT, DATA or STREAM,
            RSET (when they do not get it after all) and DISCONNECT are called, in this order, with
            an envelope of their own.

    Raises:
        TypeError: A handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler, *others: AnyHandler) -> None:
        super().__init__(handler)
        self._others = [Inner(other) for other in others]
        # The first handler, which gets each message last, is entered last.
        hooks = (*self._others, self.inner)
        self._lives = [each.life for each in hooks if each.life is not None]

    async def __aenter__(self) -> Self:
        """Enter all of them, or none."""
        async with AsyncExitStack() as undo:
            for life in self._lives:
                await undo.enter_async_context(life)
            undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leave all of them, whatever one of them raises."""
        stack = AsyncExitStack()
        for life in self._lives:
            stack.push_async_exit(life)
        return await stack.__aexit__(kind, error, traceback)

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answers:
        """Hand the message to all of them."""
        first = First(self.inner, envelope)
        others = [Other(other, envelope) for other in self._others]
        outcome = _Outcome(first.everyone, each=speaks_lmtp(server))
        try:
            await _deliver(chunks, first, others, outcome, server, session)
        except asyncio.CancelledError:
            _cancel(branch.task for branch in (first, *others) if branch.task is not None)
            raise
        finally:
            await _end(first, others, server, session)
        return outcome.answers()

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Tell all of them, whatever one of them raises."""
        async with AsyncExitStack() as stack:
            for hooks in (*reversed(self._others), self.inner):
                stack.push_async_callback(hooks.handle_DISCONNECT, server, session)


class _Outcome:
    """What each recipient is to be told: the worst that any of the handlers has said.

    Where the handler wrote down no recipient at all, there is one answer, as for a single one.

    Args:
        recipients: All of them.
        each: Whether each has an answer of its own.
    """

    def __init__(self, recipients: Sequence[str], *, each: bool) -> None:
        self._none = not recipients
        self._each = each
        self._worst: list[Reply | None] = [None] * max(1, len(recipients))

    def note(self, told: Told, *, prefer: bool = False) -> None:
        """Take what one handler has said, of two that are as bad the one that is preferred."""
        for number, reply in told.items():
            before = self._worst[number]
            if before is None:
                self._worst[number] = reply
            else:
                self._worst[number] = worst_reply([reply, before] if prefer else [before, reply])

    @property
    def left(self) -> list[int]:
        """Those whom no handler has refused yet."""
        return [
            number for number, reply in enumerate(self._worst) if reply is None or accepted(reply)
        ]

    @property
    def decided(self) -> bool:
        """Whether the others need not finish, for all that they could say is worth nothing."""
        return not self.left if self._each else len(self.left) < len(self._worst)

    def answers(self) -> Answers:
        """The answers to the message."""
        told = [reply for reply in self._worst if reply is not None]
        return told if self._each and not self._none else worst_reply(told)


async def _deliver(
    chunks: AsyncIterator[bytes],
    first: First,
    others: Sequence[Other],
    outcome: _Outcome,
    server: Server,
    session: Session,
) -> None:
    """Hand the message to all branches, and end them from the last to the first."""
    for other in others:
        outcome.note(await other.begin(server, session))
        if outcome.decided:
            return
    first.narrow(outcome.left)
    branches = [first, *others]
    for branch in branches:
        branch.start(server, session)
    async for chunk in chunks:
        for branch in branches:
            await branch.put(chunk)
        for branch in branches:
            if branch.returned:
                outcome.note(await branch.end(), prefer=branch is first)
        if outcome.decided:
            return
    for branch in reversed(branches):
        if branch is first:
            first.narrow(outcome.left)
        if not branch.finished:
            outcome.note(await branch.end(), prefer=branch is first)
        if outcome.decided:
            return


async def _end(first: First, others: Sequence[Other], server: Server, session: Session) -> None:
    """See that nothing is at work any more, and that those know it that do not have the message."""
    branches = [first, *others]
    for branch in branches:
        branch.abort()
    try:
        await _all_done([branch.task for branch in branches if branch.task is not None])
    finally:
        first.envelope.rcpt_tos = first.everyone
        for branch in branches:
            branch.log_failure(session)
        async with AsyncExitStack() as stack:
            for other in reversed(others):
                if other.begun and not other.finished:
                    reset = other.hooks.handle_RSET
                    stack.push_async_callback(reset, server, session, other.envelope)


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all of them. When the caller is cancelled, so are they, and waited for as well."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
            _cancel(pending)
    if cancelled is not None:
        raise cancelled


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
