"""Cancelled: wherever a hook is broken off, its connection goes with it and is counted no more."""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine

import pytest
from tests.handlers.relay.driver import Driver, connections
from tests.handlers.test_mailbox import until
from tests.handlers.upstreams import Upstream

from smtp_handlers import Proxy

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

ENOUGH = 200


class Stopwatch:
    """Cancels the task that it runs in when it waits for the so-manieth time."""

    def __init__(self, at: int) -> None:
        self.left = at

    @coroutine
    def run(self, work: Coroutine[None, None, None]) -> Generator[object, None, None]:
        steps = work.__await__()
        failure: BaseException | None = None
        while True:
            try:
                waiting = next(steps) if failure is None else steps.throw(failure)
            except StopIteration:
                return
            self.left -= 1
            if self.left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            failure = None
            try:
                yield waiting
            except BaseException as error:
                failure = error


async def session(driver: Driver) -> None:
    """What a client does, every hook that waits among it."""
    await driver.mail()
    await driver.rcpt()
    await driver.rset()
    await driver.mail()
    await driver.rcpt()
    await driver.rcpt("c@x.example")
    await driver.message(b"Subject: a\r\n", b"\r\n", b"x" * 3_000_000)


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
async def test_a_hook_is_cancelled_wherever_it_waits(lmtp: bool, used: bool) -> None:
    upstream = Upstream(lmtp=lmtp)
    async with upstream.listening() as port:
        for at in range(1, ENOUGH):
            proxy = Proxy("127.0.0.1", port, lmtp=lmtp, max_connections=2)
            if used:
                assert await Driver(proxy).transaction() == [250] * 3
            driver = Driver(proxy)
            stopwatch = Stopwatch(at)
            [outcome] = await asyncio.gather(stopwatch.run(session(driver)), return_exceptions=True)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
            # A client whose hook was cancelled may go on before it goes.
            if at % 2:
                assert (await driver.rset()).code == 250
            await driver.disconnect()
            assert await Driver(proxy).transaction() == [250] * 3
            await proxy.close()
            assert connections(proxy) == 0
            await until(lambda: upstream.open == 0)
            if stopwatch.left > 0:
                break
    assert 10 < at < ENOUGH - 1
    assert outcome is None
