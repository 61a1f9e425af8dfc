"""Workers: threads for work that blocks, of which one folder never gets all."""

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

__all__: list[str] = []


class _Job:
    """Some work, and who waits for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done: Future[None] = Future()
        self._work = work
        self._void = False

    def fail(self, error: OSError) -> None:
        """Tell who waits that the work will not be done."""
        self._void = True
        if self.done.set_running_or_notify_cancel():
            self.done.set_exception(error)

    def run(self) -> bool:
        """Do the work, unless nobody waits for it; ``False`` when it had failed before."""
        if self._void:
            return False
        if self.done.set_running_or_notify_cancel():
            try:
                self._work()
            except BaseException as error:
                self.done.set_exception(error)
            else:
                self.done.set_result(None)
        return True


@dataclass(slots=True)
class _Line:
    """The work of one folder: how much is being done, and what waits."""

    running: int = 0
    waiting: deque[_Job] = field(default_factory=deque)


class Workers:
    """Some threads of their own, so that nobody else's work waits behind theirs.

    They can be used from any event loop. They end when this object is gone.

    Args:
        name: What the threads are called.
        threads: How many there are at most.
        each: How many of them work for one folder at most.
    """

    def __init__(self, name: str, *, threads: int, each: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._each = each
        self._lines: dict[Hashable, _Line] = {}
        self._lock = threading.Lock()

    async def run(self, folder: Hashable, work: Callable[[], None]) -> None:
        """Do some work in a thread, and wait for it; what it raises is raised.

        Work that is cancelled before it began is not done; what has begun goes on.

        Raises:
            OSError: The system has no thread for it.
        """
        job = _Job(work)
        with self._lock:
            line = self._lines.setdefault(folder, _Line())
            line.waiting.append(job)
            if line.running < self._each:
                line.running += 1
                self._next(folder, line)
        await asyncio.wrap_future(job.done)

    def _next(self, folder: Hashable, line: _Line) -> None:
        """Have a thread do the next work of the folder, for one that it has finished."""
        while line.waiting:
            job = line.waiting.popleft()
            try:
                # Not at once, where there is a thread: other folders may wait for it.
                self._executor.submit(self._work, folder, line, job)
            except RuntimeError as error:
                # The executor may have the job all the same, and a thread later.
                job.fail(OSError(errno.EAGAIN, str(error)))
            else:
                return
        line.running -= 1
        if not line.running:
            del self._lines[folder]

    def _work(self, folder: Hashable, line: _Line, job: _Job) -> None:
        if job.run():
            with self._lock:
                self._next(folder, line)
