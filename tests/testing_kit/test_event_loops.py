"""The kit in tests that are coroutines: nothing of it stops their event loop, whichever it is."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine

import pytest
import trio
from tests.testing_kit.test_plugin import SEND, run_apart
from tests.testing_kit.test_server import LIMIT, connect, send

from smtp_server.testing import Recorder, SMTPServer

Main = Callable[[], Coroutine[object, object, None]]


def in_asyncio(main: Main) -> None:
    asyncio.run(main())


each_loop = pytest.mark.parametrize("run", [in_asyncio, trio.run], ids=["asyncio", "trio"])


def send_to(server: SMTPServer) -> None:
    with connect(server) as client:
        send(client)


@each_loop
def test_a_server_in_a_coroutine(run: Callable[[Main], None]) -> None:
    servers = []

    async def main() -> None:
        async with SMTPServer() as server:
            sender = threading.Thread(target=send_to, args=(server,))
            sender.start()
            [message] = await server.wait_for_async(1, timeout=LIMIT)
            assert message["Subject"] == "Hello"
            assert await server.wait_for_async(1, timeout=LIMIT) == [message]
            sender.join()
            servers.append(server)

    run(main)
    with pytest.raises(ConnectionRefusedError):
        connect(servers[0])


@each_loop
def test_waiting_in_vain(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"0 of 1 messages within 0.01 seconds"):
            await Recorder().wait_for_async(1, timeout=0.01)

    run(main)


@each_loop
def test_waiting_that_would_stop_the_loop(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="await wait_for_async"):
            Recorder().wait_for(1)

    run(main)


@each_loop
def test_the_loop_goes_on_while_a_server_starts_and_stops(
    run: Callable[[Main], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`start` and `stop` are made to wait for what only the loop can do."""
    turned = threading.Event()

    def wait_before(method: Callable[[SMTPServer], None]) -> Callable[[SMTPServer], None]:
        @functools.wraps(method)
        def waiting(server: SMTPServer) -> None:
            assert turned.wait(LIMIT)
            turned.clear()
            method(server)

        return waiting

    for name in ("start", "stop"):
        monkeypatch.setattr(SMTPServer, name, wait_before(getattr(SMTPServer, name)))

    async def turn(sleep: Callable[[float], Awaitable[None]]) -> None:
        for _ in range(2):
            while turned.is_set():
                await sleep(0.001)
            turned.set()

    async def serve() -> None:
        async with SMTPServer():
            pass

    async def main() -> None:
        if run is in_asyncio:
            await asyncio.gather(serve(), turn(asyncio.sleep))
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                nursery.start_soon(turn, trio.sleep)

    run(main)


def test_a_server_stops_though_its_test_is_cancelled() -> None:
    """Both when it starts and when it is left."""
    servers: list[SMTPServer] = []

    async def serve(running: asyncio.Event) -> None:
        async with SMTPServer() as server:
            servers.append(server)
            running.set()
            await asyncio.Event().wait()

    async def leave() -> None:
        running = asyncio.Event()
        task = asyncio.create_task(serve(running))
        await running.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(leave())

    async def leave_in_trio() -> None:
        with trio.CancelScope() as scope:
            async with SMTPServer() as server:
                servers.append(server)
                scope.cancel()
                await trio.sleep_forever()

    trio.run(leave_in_trio)
    assert len(servers) == 2
    for server in servers:
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_a_server_stops_though_its_start_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    server, begun, cancelled = SMTPServer(), threading.Event(), threading.Event()
    start = server.start

    def slow_start() -> None:
        begun.set()
        assert cancelled.wait(LIMIT)
        start()

    monkeypatch.setattr(server, "start", slow_start)

    async def main() -> None:
        async def serve() -> None:
            async with server:
                raise AssertionError("it was cancelled")

        task = asyncio.create_task(serve())
        assert await asyncio.to_thread(begun.wait, LIMIT)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_a_message_after_the_end_of_the_loop_that_waited_for_it() -> None:
    with SMTPServer() as server:

        async def main() -> None:
            with trio.move_on_after(0.01):
                await server.wait_for_async(1)

        trio.run(main)
        send_to(server)
        assert len(server.messages) == 1


TESTS = """
import threading

async def test_one(smtpd):
    sender = threading.Thread(target=send, args=(smtpd,))
    sender.start()
    [message] = await smtpd.wait_for_async(1, timeout=30)
    assert message["Subject"] == "Hello"
    sender.join()

async def test_several(smtpd_factory):
    one, other = smtpd_factory(), smtpd_factory()
    sender = threading.Thread(target=send, args=(other,))
    sender.start()
    assert len(await other.wait_for_async(1, timeout=30)) == 1
    assert one.messages == []
    sender.join()
"""


def test_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(SEND + TESTS)
    options = ("-W", "error", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=2)


def test_anyio(pytester: pytest.Pytester) -> None:
    """On each of its loops, as by default."""
    pytest.importorskip("anyio", reason="anyio is not installed")
    tests = f"{TESTS}\npytestmark = pytest.mark.anyio\n"
    run_apart(pytester, tests).assert_outcomes(passed=4)
