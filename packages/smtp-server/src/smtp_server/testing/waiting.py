"""Waiting: what takes a while never stops the event loop of a test, be it asyncio's or trio's."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__: list[str] = []

T = TypeVar("T")


def in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    return _in_asyncio() or _in_trio()


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread, and wait until it has returned, also when that is cancelled."""
    if not _in_trio():
        work = asyncio.ensure_future(asyncio.to_thread(function))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise
    import trio  # noqa: PLC0415 it is there, for it runs

    with trio.CancelScope(shield=True):
        result = await trio.to_thread.run_sync(function)
    return result


async def wait_for_future(future: Future[None], seconds: float) -> None:
    """Wait until a future is done.

    Raises:
        TimeoutError: It is not done after so many seconds.
    """
    if not _in_trio():
        async with asyncio.timeout(seconds):
            await asyncio.wrap_future(future)
        return
    import trio  # noqa: PLC0415 it is there, for it runs

    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # nobody waits any more
            token.run_sync_soon(done.set)

    future.add_done_callback(tell)
    with trio.move_on_after(seconds):
        await done.wait()
    if not future.done():
        raise TimeoutError


def _in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_trio() -> bool:
    """Whether it is trio's; what nobody has imported does not run."""
    if "trio" not in sys.modules:
        return False
    import trio  # noqa: PLC0415 see above

    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
