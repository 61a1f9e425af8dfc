"""Threads: work is done beside the event loop, in no more threads than there are to be."""

import asyncio
import contextvars
import gc
import threading

import pytest

from smtp_handlers.threads import Threads

name: contextvars.ContextVar[str] = contextvars.ContextVar("name")


async def test_work_is_done_in_so_many_threads() -> None:
    barrier = threading.Barrier(2)

    def work(number: int) -> tuple[int, str, str]:
        barrier.wait(60)
        return number, name.get(), threading.current_thread().name

    name.set("ours")
    threads = Threads("test-threads", 2)
    results = await asyncio.gather(*(threads.run(work, number) for number in range(4)))
    assert [result[:2] for result in results] == [(number, "ours") for number in range(4)]
    assert {result[2] for result in results} == {"test-threads_0", "test-threads_1"}


async def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await Threads("test-raises", 1).run(divmod, 1, 0)


async def test_its_threads_end_with_it() -> None:
    threads = Threads("test-ends", 1)
    [thread] = [await threads.run(threading.current_thread)]
    del threads
    gc.collect()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()
