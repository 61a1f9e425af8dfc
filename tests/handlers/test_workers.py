"""Workers: one folder never has all the threads, and no call is lost or made twice."""

import asyncio
import errno
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from tests.handlers.test_mailbox import until

from smtp_handlers.workers import Workers


def threads_of(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


class Blocked:
    """Work that ends when it may, and counts how much of it is being done."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.may_end.wait(20)
        with self._lock:
            self.running -= 1


@contextmanager
def ending(work: Blocked) -> Iterator[Blocked]:
    """See that the work ends, whatever happens to the test."""
    try:
        yield work
    finally:
        work.may_end.set()


async def test_one_folder_does_not_get_all_threads() -> None:
    workers = Workers("one", threads=4, each=2)
    with ending(Blocked()) as slow:
        tasks = [asyncio.create_task(workers.run("slow", slow)) for _ in range(20)]
        await until(lambda: slow.running == 2)
        for _ in range(20):
            await workers.run("fast", lambda: None)
        assert slow.running == 2
        slow.may_end.set()
        await asyncio.gather(*tasks)
    assert slow.most == 2


async def test_all_threads_together_are_bounded() -> None:
    workers = Workers("together", threads=3, each=2)
    with ending(Blocked()) as slow:
        tasks = [asyncio.create_task(workers.run(number, slow)) for number in range(20)]
        await until(lambda: slow.running == 3)
        slow.may_end.set()
        await asyncio.gather(*tasks)
    assert slow.most == 3


async def test_work_of_a_folder_begins_in_its_order() -> None:
    workers = Workers("order", threads=4, each=1)
    done: list[int] = []
    await asyncio.gather(*(workers.run("x", partial(done.append, number)) for number in range(50)))
    assert done == list(range(50))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), ValueError("no"), SystemExit(3)])
async def test_what_is_raised_is_raised_and_the_thread_goes_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    workers = Workers("raises", threads=1, each=1)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await workers.run("x", fail)
        assert caught.value is error
    await workers.run("x", lambda: None)


async def test_cancelled_before_it_began_is_never_done() -> None:
    workers = Workers("cancelled", threads=1, each=1)
    done: list[int] = []
    with ending(Blocked()) as slow:
        first = asyncio.create_task(workers.run("x", slow))
        await until(lambda: slow.running == 1)
        second = asyncio.create_task(workers.run("x", partial(done.append, 2)))
        third = asyncio.create_task(workers.run("x", partial(done.append, 3)))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        slow.may_end.set()
        await asyncio.gather(first, third)
    assert done == [3]


async def test_cancelled_while_it_is_done_still_counts() -> None:
    workers = Workers("counts", threads=4, each=1)
    with ending(Blocked()) as slow:
        for _ in range(5):
            task = asyncio.create_task(workers.run("x", slow))
            await until(lambda: slow.running == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert slow.most == 1


async def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers("none", threads=1, each=1)
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OSError, match="can't start new thread"):
            await workers.run("x", partial(done.append, 1))
    await workers.run("x", partial(done.append, 2))
    assert done == [2]


def test_one_event_loop_after_the_other() -> None:
    workers = Workers("loops", threads=2, each=1)
    done: list[int] = []
    for number in range(3):
        asyncio.run(workers.run("x", partial(done.append, number)))
    assert done == [0, 1, 2]


async def test_threads_end_with_their_owner() -> None:
    workers = Workers("owner", threads=3, each=3)
    with ending(Blocked()) as slow:
        tasks = [asyncio.create_task(workers.run("x", slow)) for _ in range(3)]
        await until(lambda: slow.running == 3)
        assert threads_of("owner") == 3
        slow.may_end.set()
        await asyncio.gather(*tasks)
    del workers, tasks
    gc.collect()
    await until(lambda: threads_of("owner") == 0)
