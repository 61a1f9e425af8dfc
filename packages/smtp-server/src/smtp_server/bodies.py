"""Bodies: where the octets of a message go until a hook has them: into memory, or past it."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from io import BytesIO
from typing import Self

from smtp_protocol import BodyAborted
from smtp_server.dispatch import contained, failure_in_future

__all__: list[str] = []

# Octets that a stream holds before the socket is left unread.
_MAX_STREAMED = 64 * 1024


class MemoryBody:
    """Gathers a message, for ``handle_DATA``."""

    __slots__ = ("_content", "write")

    full = False

    def __init__(self) -> None:
        # Its getvalue() hands out the very octets that it gathered: a message is in memory once.
        self._content = BytesIO()
        self.write = self._content.write

    @property
    def octets(self) -> int:
        """How long it is so far."""
        return self._content.tell()

    def content(self) -> bytes:
        """The whole message."""
        return self._content.getvalue()

    def abort(self) -> None:
        """The message will not be complete."""


def _comes_of_the_cut(error: BaseException | None) -> bool:
    """Whether a hook failed for no other reason than that its message was cut."""
    while error is not None and not isinstance(error, BodyAborted):
        if isinstance(error, BaseExceptionGroup):
            return all(map(_comes_of_the_cut, error.exceptions))
        error = error.__cause__ or error.__context__
    return error is not None


class StreamedBody:
    """Hands a message on as it comes, to a ``handle_STREAM`` that runs meanwhile.

    It is the ``chunks`` of that hook. When the hook returns before the end, the rest is dropped.
    Most messages come in one piece: such a one is complete when the hook is called, which then
    needs no task of its own.

    Args:
        hook: Takes this and gives the coroutine that reads it.
        resume: Called when there is room again after ``full`` was true.
        failed: Called when the hook failed, and not for the message that was cut, where nobody
            waits for its answer.
        gone: Called when the hook has ended.
    """

    def __init__(
        self,
        hook: "Callable[[StreamedBody], Coroutine[object, None, object]]",
        resume: Callable[[], None],
        failed: Callable[[BaseException], None],
        gone: "Callable[[StreamedBody], None]",
    ) -> None:
        self._hook = hook
        self._resume = resume
        self._failed = failed
        self._gone = gone
        self._chunks: deque[bytes] = deque()
        self._size = 0
        #: How long the message is so far.
        self.octets = 0
        self._ended = False
        self._aborted = False
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[object] | None = None

    @property
    def due(self) -> bool:
        """Whether the hook has to be started, for there is something that does not end yet."""
        return self._task is None and self._size > 0 and not self._ended

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the hook beside what is still to come."""
        self._task = loop.create_task(contained(self._hook(self)))
        self._task.add_done_callback(self._hook_done)

    def result(self) -> Coroutine[object, None, object]:
        """What the hook returns; its exception is raised."""
        return self._hook(self) if self._task is None else self._wait(self._task)

    @staticmethod
    async def _wait(task: asyncio.Task[object]) -> object:
        try:
            return await task
        except KeyboardInterrupt as error:  # which has come out of the event loop already
            raise failure_in_future(error) from error

    def _hook_done(self, task: asyncio.Task[object]) -> None:
        if self._aborted:
            self._tell_failure(task)
        self._chunks.clear()
        self._size = 0
        self._resume()
        self._gone(self)

    def _tell_failure(self, task: asyncio.Task[object]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not _comes_of_the_cut(error):
            self._failed(error)

    @property
    def full(self) -> bool:
        """Whether the socket should not be read for now."""
        return self._size > _MAX_STREAMED

    def write(self, chunk: bytes) -> None:
        """Add a chunk, unless nobody reads any more."""
        self.octets += len(chunk)
        if self._task is not None and self._task.done():
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake()

    def content(self) -> bytes:
        """End the message, of which nothing is kept."""
        self._ended = True
        self._wake()
        return b""

    def abort(self) -> None:
        """Tell the hook that the message will not be complete."""
        if self._ended or self._aborted:
            return
        self._aborted = True
        self._wake()
        if self._task is not None and self._task.done():
            self._tell_failure(self._task)

    def cancel(self) -> None:
        """The same, and do not wait for a hook that waits for something else."""
        waits = self._waiter is not None and not self._waiter.done()
        self.abort()
        if self._task is not None and not (self._ended or waits):
            self._task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._aborted:
                raise BodyAborted
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunk = self._chunks.popleft()
        was_full = self.full
        self._size -= len(chunk)
        if was_full:
            self._resume()
        return chunk
