"""Lives of handlers: entered before the first connection, left after the last, in every server."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.server.secure import NAME, client_context, shared_server_context
from tests.server.support import DEADLINE, SHORT, Dialogue, eventually, talking

from smtp_handlers import FanOut, Front, Sink
from smtp_protocol import Envelope, Server, Session
from smtp_server import (
    SMTP,
    Controller,
    UnixSocketController,
    UnixSocketUnthreadedController,
    UnthreadedController,
    serve,
)


class Living(Sink):
    """Writes down what is called, and in which loop and task."""

    def __init__(self, name: str = "", events: list[str] | None = None) -> None:
        super().__init__()
        self.name = name
        self.events: list[str] = [] if events is None else events
        self.tasks: list[asyncio.Task[object] | None] = []
        self.fails_to_enter = self.fails_to_leave = False

    def note(self, event: str) -> None:
        self.events.append(self.name + event)

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self.tasks.append(asyncio.current_task())
        if self.fails_to_enter:
            self.note("fails")
            raise LookupError("no database")
        self.note("entered")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(0)
        self.tasks.append(asyncio.current_task())
        self.note("left")
        if self.fails_to_leave:
            raise LookupError("no goodbye")

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.note("connected")
        return "220 mx.test"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        await asyncio.sleep(0)
        self.note("disconnected")


IN_ORDER = ["entered", "connected", "disconnected", "left"]


# In every kind of server.


def by_controller(handler: Living, folder: Path) -> None:
    controller = Controller(handler, "127.0.0.1", 0, ready_timeout=DEADLINE)
    with controller:
        asyncio.run(_talk(("127.0.0.1", controller.port)))


def by_unix_controller(handler: Living, folder: Path) -> None:
    path = str(folder / "smtp")
    with UnixSocketController(handler, path, ready_timeout=DEADLINE):
        asyncio.run(_talk(path))


def by_unthreaded(
    controller: UnthreadedController | UnixSocketUnthreadedController,
    address: Callable[[], tuple[str, int] | str],
) -> None:
    try:
        controller.begin()
        assert controller.loop is not None
        controller.loop.run_until_complete(_talk(address()))
        controller.end()
    finally:
        assert controller.loop is not None
        controller.loop.close()


def by_unthreaded_controller(handler: Living, folder: Path) -> None:
    controller = UnthreadedController(handler, "127.0.0.1", 0)
    by_unthreaded(controller, lambda: ("127.0.0.1", controller.port))


def by_unthreaded_unix_controller(handler: Living, folder: Path) -> None:
    path = str(folder / "smtp")
    by_unthreaded(UnixSocketUnthreadedController(handler, path), lambda: path)


def by_factory(handler: Living, folder: Path) -> None:
    class Own(Controller):
        def factory(self) -> SMTP:
            return SMTP(self.handler)

    with Own(handler, "127.0.0.1", 0, ready_timeout=DEADLINE) as controller:
        asyncio.run(_talk(("127.0.0.1", controller.port)))


def by_serve(handler: Living, folder: Path) -> None:
    async def run() -> None:
        async with serve(handler, "127.0.0.1", 0) as service, talking(service) as client:
            assert (await client.ask("NOOP")).startswith("250")

    asyncio.run(run())


async def _talk(address: tuple[str, int] | str) -> None:
    async with await Dialogue.connect(address) as client:
        assert await client.reply() == "220 mx.test"
        assert (await client.ask("QUIT")).startswith("221")
        await client.rest()


SERVERS = [
    by_serve,
    by_controller,
    by_unix_controller,
    by_unthreaded_controller,
    by_unthreaded_unix_controller,
    by_factory,
]

each_server = pytest.mark.parametrize("run", SERVERS)
Run = Callable[[Living, Path], None]


@each_server
def test_entered_before_the_first_session_and_left_after_the_last(run: Run, tmp_path: Path) -> None:
    handler = Living()
    run(handler, tmp_path)
    assert handler.events == IN_ORDER
    assert handler.tasks[0] is not None
    assert handler.tasks[0] is handler.tasks[1]


@each_server
def test_what_keeps_it_from_being_entered_is_the_error_of_the_start(
    run: Run, tmp_path: Path
) -> None:
    handler = Living()
    handler.fails_to_enter = True
    with pytest.raises(LookupError, match="no database"):
        run(handler, tmp_path)
    assert handler.events == ["fails"]
    assert list(tmp_path.iterdir()) == []
    handler.fails_to_enter = False
    run(handler, tmp_path)
    assert handler.events[1:] == IN_ORDER


@pytest.mark.parametrize("loop_factory", ["asyncio", "uvloop"])
def test_on_both_loops(loop_factory: str) -> None:
    handler = Living()

    async def run() -> None:
        for _ in range(2):
            async with serve(handler, "127.0.0.1", 0) as service, talking(service) as client:
                assert (await client.ask("NOOP")).startswith("250")

    make = pytest.importorskip("uvloop").new_event_loop if loop_factory == "uvloop" else None
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(run())
    assert handler.events == IN_ORDER * 2


# The start.


@pytest.mark.parametrize("implicit", [False, True], ids=["plain", "implicit"])
async def test_nothing_is_accepted_before_it_is_entered(implicit: bool) -> None:
    gate = asyncio.Event()

    class Slow(Living):
        async def __aenter__(self) -> Self:
            await gate.wait()
            return await super().__aenter__()

    handler = Slow()
    ssl_context = shared_server_context() if implicit else None
    service = serve(handler, "127.0.0.1", 0, ssl_context=ssl_context)
    starting = asyncio.create_task(service.start())
    await eventually(lambda: service.addresses)

    async def greeting() -> bytes:
        context = client_context() if implicit else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", service.port, ssl=context, server_hostname=NAME if implicit else None
        )
        try:
            return await reader.readline()
        finally:
            writer.close()

    # The system has taken it, but nobody greets.
    greeted = asyncio.create_task(greeting())
    done, _ = await asyncio.wait({greeted}, timeout=SHORT)
    assert not done
    gate.set()
    await starting
    assert await greeted == b"220 mx.test\r\n"
    await service.close()
    assert handler.events == IN_ORDER


async def test_who_is_cancelled_while_he_starts_leaves_nothing_open() -> None:
    class Endless(Living):
        async def __aenter__(self) -> Self:
            self.note("entering")
            try:
                await asyncio.Event().wait()
            finally:
                self.note("cancelled")
            return self

    handler = Endless()
    service = serve(handler, "127.0.0.1", 0)
    starting = asyncio.create_task(service.start())
    await eventually(lambda: handler.events)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert handler.events == ["entering", "cancelled"]
    assert service.addresses == []


async def test_a_handler_that_cancels_itself_is_an_error() -> None:
    class Cancelled(Living):
        async def __aenter__(self) -> Self:
            raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="__aenter__ was cancelled"):
        await serve(Cancelled(), "127.0.0.1", 0).start()


async def test_what_fails_after_it_was_entered_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Living()
    handler.fails_to_leave = True

    async def start_serving(self: asyncio.Server) -> None:
        raise OSError("no room")

    monkeypatch.setattr(asyncio.Server, "start_serving", start_serving)
    with pytest.raises(OSError, match="no room"):
        await serve(handler, "127.0.0.1", 0).start()
    assert handler.events == ["entered", "left"]


def test_one_that_takes_too_long_for_a_controller_is_cancelled() -> None:
    cancelled = threading.Event()

    class Endless(Living):
        async def __aenter__(self) -> Self:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return self

    controller = Controller(Endless(), "127.0.0.1", 0, ready_timeout=SHORT)
    with pytest.raises(TimeoutError, match="its handler has not been entered"):
        controller.start()
    assert cancelled.wait(DEADLINE)


@pytest.mark.parametrize("method", ["__aenter__", "__aexit__"])
def test_half_a_life_is_an_error_of_the_program(method: str) -> None:
    async def call(*arguments: object) -> None: ...

    half = type("Half", (Sink,), {method: call})
    for make in (serve, Controller):
        with pytest.raises(TypeError, match=f"Half has {method}"):
            make(half())


# The end.


async def test_it_is_left_after_the_hook_that_was_under_way() -> None:
    class Slow(Living):
        def __init__(self) -> None:
            super().__init__()
            self.reached, self.opened = asyncio.Event(), asyncio.Event()

        async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> str:
            self.reached.set()
            await self.opened.wait()
            self.note("done")
            return "221 Done"

    handler = Slow()
    service = await serve(handler, "127.0.0.1", 0).start()
    async with talking(service) as client:
        asking = asyncio.create_task(client.ask("QUIT"))
        await handler.reached.wait()
        closing = asyncio.create_task(service.close(DEADLINE))
        done, _ = await asyncio.wait({closing}, timeout=SHORT)
        assert not done
        assert "left" not in handler.events
        handler.opened.set()
        assert await asking == "221 Done"
        await closing
    assert handler.events == ["entered", "connected", "done", "disconnected", "left"]


async def test_what_it_raises_when_it_is_left() -> None:
    handler = Living()
    handler.fails_to_leave = True
    service = await serve(handler, "127.0.0.1", 0).start()
    waiting = asyncio.create_task(service.serve_forever())
    await asyncio.sleep(0)
    with pytest.raises(LookupError, match="no goodbye"):
        await service.close()
    with pytest.raises(LookupError, match="no goodbye"):
        await waiting
    handler.fails_to_leave = False
    async with service:  # it is closed all the same, and can be started again
        pass
    assert handler.events == ["entered", "left"] * 2


async def test_a_task_group_in_it_that_fails_closes_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Grouped(Living):
        async def __aenter__(self) -> Self:
            self.group = asyncio.TaskGroup()
            await self.group.__aenter__()
            self.fail = asyncio.Event()
            self.group.create_task(self.work())
            return await super().__aenter__()

        async def work(self) -> None:
            await self.fail.wait()
            raise LookupError("the queue is away")

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            self.note("left")
            await self.group.__aexit__(kind, error, traceback)

    handler = Grouped()
    service = await serve(handler, "127.0.0.1", 0).start()
    waiting = asyncio.create_task(service.serve_forever())
    async with talking(service) as client:
        handler.fail.set()
        assert await client.rest() == "421 4.3.2 Service shutting down\r\n"
    with pytest.raises(ExceptionGroup) as failure:
        await waiting
    assert isinstance(failure.value.exceptions[0], LookupError)
    assert service.addresses == []
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "The handler's life has ended" in record.getMessage()


def test_the_end_of_the_loop_leaves_it(caplog: pytest.LogCaptureFixture) -> None:
    handler = Living()

    async def run() -> None:
        service = await serve(handler, "127.0.0.1", 0).start()
        service.stop_listening()

    asyncio.run(run())
    assert handler.events == ["entered", "left"]
    assert caplog.records == []


# What stands in front.


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda events: Front(Living("", events)), IN_ORDER),
        (lambda events: Front(Front(Living("", events))), IN_ORDER),
        (lambda events: Front(Sink()), []),
    ],
)
async def test_fronts_pass_it_on(make: Callable[[list[str]], Front], expected: list[str]) -> None:
    events: list[str] = []
    async with serve(make(events), "127.0.0.1", 0) as service, talking(service):
        pass
    assert events == expected


async def test_a_fan_out_enters_all_or_none() -> None:
    events: list[str] = []
    first, second = Living("a ", events), Living("b ", events)
    first.fails_to_enter = True
    with pytest.raises(LookupError):
        await serve(FanOut(first, second), "127.0.0.1", 0).start()
    assert events == ["b entered", "a fails", "b left"]


async def test_a_fan_out_leaves_all_whatever_one_raises() -> None:
    events: list[str] = []
    first, second = Living("a ", events), Living("b ", events)
    first.fails_to_leave = True
    service = await serve(FanOut(first, second), "127.0.0.1", 0).start()
    with pytest.raises(LookupError):
        await service.close()
    assert events == ["b entered", "a entered", "a left", "b left"]
