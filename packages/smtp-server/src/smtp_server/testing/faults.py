"""Faults: what goes wrong at the next steps of sessions, said by a test, done by the server."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from time import monotonic
from typing import Generic, TypeVar, get_args

from smtp_protocol import Reply, Server
from smtp_server.faults import CUT, FaultyConnection, Step
from smtp_server.testing.recorder import Recorder

__all__ = ["Step"]

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


class Connection(FaultyConnection):
    """A connection that is cut when the server stops."""

    # By the clock of `monotonic`, when its last message was answered.
    _answered = -math.inf

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
        if step == "DATA" and isinstance(server, Connection):
            server.message_answered()
        return failure
