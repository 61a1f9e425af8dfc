"""A controller's thread: whatever ends it, or keeps it from starting, leaves nothing open."""

import asyncio
import errno
import gc
import importlib.util
import logging
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.server.secure import shared_client_context, shared_server_context
from tests.server.support import DEADLINE, Keeper

from smtp_handlers import Sink
from smtp_protocol import Envelope, Server, Session
from smtp_server import SMTP, Controller, Service, UnixSocketController
from smtp_server import thread as thread_module

Loop = asyncio.AbstractEventLoop
Kind = type[Controller] | type[UnixSocketController]


def loop_factories() -> dict[str, Callable[[], Loop]]:
    factories: dict[str, Callable[[], Loop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop") is not None:
        factories["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return factories


FACTORIES = loop_factories()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "smtp-server"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable is set before a test; no thread and nothing unclosed is left after it."""
    for variable in thread_module.TIMEOUT_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    yield
    wait_until(lambda: not threads())
    gc.collect()  # what was not closed warns now, and a warning is an error


@dataclass
class Place:
    """One way to have a controller: its kind, its loop, and whose the loop is."""

    kind: Kind
    given: bool
    new_loop: Callable[[], Loop]
    folder: Path
    loop: Loop | None = None

    def make(self, handler: Any = None, kind: Kind | None = None, **keywords: Any) -> Any:
        """Make a controller."""
        kind = kind or self.kind
        if self.given and self.loop is None:
            self.loop = self.new_loop()
        keywords = {"loop": self.loop, "ready_timeout": DEADLINE, **keywords}
        where: tuple[Any, ...] = (
            ("127.0.0.1", 0) if issubclass(kind, Controller) else (self.folder / "smtp.sock",)
        )
        return kind(handler or Keeper(), *where, **keywords)

    def address(self, controller: Any) -> Any:
        """Where a controller listens, or did."""
        if isinstance(controller, Controller):
            return (controller.hostname, controller.port)
        return controller.unix_socket

    def connect(self, controller: Any) -> socket.socket:
        """Connect to where a controller listens, or did."""
        unix = isinstance(controller, UnixSocketController)
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            sock.settimeout(DEADLINE)
            sock.connect(self.address(controller))
        except BaseException:
            sock.close()
            raise
        return sock

    def greeted(self, controller: Any) -> socket.socket:
        """Connect, and read the greeting."""
        sock = self.connect(controller)
        assert sock.recv(100).startswith(b"220 ")
        return sock


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both kinds of controllers with a thread."""
    return Controller if request.param == "tcp" else UnixSocketController


@pytest.fixture(params=FACTORIES)
def new_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Loop]:
    """Makes the loops, those that a controller makes for itself as well."""
    factory = FACTORIES[request.param]
    monkeypatch.setattr("asyncio.new_event_loop", factory)
    return factory


@pytest.fixture(params=["own", "given"])
def place(
    request: pytest.FixtureRequest, kind: Kind, new_loop: Callable[[], Loop], tmp_path: Path
) -> Iterator[Place]:
    """Each kind, with each loop, its own or given."""
    place = Place(kind, request.param == "given", new_loop, tmp_path)
    yield place
    if place.loop is not None:
        place.loop.close()


def raiser(error: BaseException) -> Callable[..., None]:
    def call(*args: object) -> None:
        raise error

    return call


def keep_stopping(loop: Loop) -> None:
    """Stop the loop in each of its turns, for ever."""
    with suppress(RuntimeError):  # it is closed
        loop.stop()
        loop.call_soon(keep_stopping, loop)


def cancel_all(loop: Loop, times: int = 1) -> None:
    """Cancel all tasks and stop, as controllers of the older library did; or again and again."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    if times > 1:
        loop.call_later(0.01, cancel_all, loop, times - 1)
    else:
        loop.stop()


class Hooks(Keeper):
    """Its NOOP does what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.noop: Callable[[], object] = int

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str | None
    ) -> str:
        """Do it."""
        self.noop()
        return "250 OK"


# What ends a thread that serves: called in its loop, by a callback or by a hook.
ENDS: dict[str, Callable[[Loop], object]] = {
    "loop.stop": lambda loop: loop.stop(),
    "loop.stop in each turn": keep_stopping,
    "an exit": lambda loop: sys.exit("no config"),
    "an interrupt": lambda loop: raiser(KeyboardInterrupt())(),
    "all tasks cancelled": cancel_all,
    "all tasks cancelled again and again": lambda loop: cancel_all(loop, 5),
}
FOR_EVER = {"loop.stop in each turn", "all tasks cancelled again and again"}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_the_thread_the_port_is_closed(
    place: Place, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()
    controller = place.make(hooks)
    for _ in range(2):
        caplog.clear()
        controller.start()
        loop = controller.loop
        with place.greeted(controller) as client:
            loop.call_soon_threadsafe(ENDS[end], loop)
            wait_until(lambda: not threads())
            while client.recv(1000):
                """Its session has ended."""
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            place.connect(controller)
        assert controller.server is None
        assert controller.loop is place.loop
        assert loop.is_closed() is not place.given
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.name == "smtp_server"
        assert record.getMessage().startswith("The server's thread has ended: ")
        assert hooks.gone == hooks.sessions
        controller.stop()
        if place.given and end in FOR_EVER:
            break  # what was scheduled in that loop goes on whenever it runs


def test_a_hook_that_stops_the_loop(place: Place) -> None:
    hooks = Hooks()
    controller = place.make(hooks)
    controller.start()
    hooks.noop = controller.loop.stop
    with place.greeted(controller) as client:
        client.sendall(b"NOOP\r\n")
        assert client.recv(100).startswith(b"250 OK\r\n")
        wait_until(lambda: not threads())
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        place.connect(controller)
    controller.stop()


def test_a_thread_that_has_ended_needs_no_stop_before_the_next_start(place: Place) -> None:
    controller = place.make()
    for _ in range(3):
        controller.start()
        loop = controller.loop
        loop.call_soon_threadsafe(loop.stop)
        wait_until(lambda: not threads())
    controller.start()
    place.greeted(controller).close()
    controller.stop()


def test_a_stop_is_no_error(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    controller = place.make()
    for _ in range(2):
        controller.start()
        loop = controller.loop
        assert loop is place.loop or not place.given
        with place.greeted(controller) as client:
            controller.stop()
            assert client.recv(100) == b"421 4.3.2 Service shutting down\r\n"
            assert client.recv(100) == b""
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            place.connect(controller)
        assert loop.is_closed() is not place.given
        assert controller.loop is place.loop
        assert controller.service is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_transaction_finishes_though_the_loop_was_stopped(place: Place) -> None:
    """The port is closed at once; what is under way has the controller's grace."""

    class Slow(Keeper):
        def __init__(self) -> None:
            super().__init__()
            self.reached = threading.Event()
            self.opened = threading.Event()

        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            self.reached.set()
            await asyncio.to_thread(self.opened.wait, DEADLINE)
            return await super().handle_DATA(server, session, envelope)

    handler = Slow()
    controller = place.make(handler, grace=DEADLINE)
    controller.start()
    with place.greeted(controller) as client, client.makefile("rb") as replies:
        client.sendall(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        while not replies.readline().startswith(b"354"):
            """Go on."""
        client.sendall(b"Hi\r\n.\r\n")
        assert handler.reached.wait(DEADLINE)
        loop = controller.loop
        loop.call_soon_threadsafe(loop.stop)
        wait_until(lambda: controller.server is None)
        handler.opened.set()
        assert replies.readline() == b"250 Kept\r\n"
        assert replies.readline().startswith(b"421 ")
    controller.stop()
    assert len(handler.envelopes) == 1


def test_tasks_that_hooks_leave_behind_end_with_a_loop_that_is_closed(
    new_loop: Callable[[], Loop],
) -> None:
    ended = []

    class Leaves(Sink):
        tasks: set[asyncio.Task[None]] = set()  # noqa: RUF012 for this test alone

        async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
            self.tasks.add(asyncio.create_task(self.wait()))
            return "220 Hi"

        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

    with (
        Controller(Leaves(), "127.0.0.1", 0, ready_timeout=DEADLINE) as controller,
        socket.create_connection(("127.0.0.1", controller.port), DEADLINE) as client,
    ):
        client.recv(100)
    assert ended == [True]


def test_a_hook_that_blocks_a_thread_does_not_keep_stop_waiting() -> None:
    reached, opened = threading.Event(), threading.Event()

    class Blocks(Sink):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str | None
        ) -> str:
            reached.set()
            await asyncio.to_thread(opened.wait, DEADLINE)
            return "250 OK"

    before = set(threading.enumerate())
    controller = Controller(Blocks(), "127.0.0.1", 0, ready_timeout=DEADLINE, grace=0)
    controller.start()
    with socket.create_connection(("127.0.0.1", controller.port), DEADLINE) as client:
        client.recv(100)
        client.sendall(b"NOOP\r\n")
        assert reached.wait(DEADLINE)
        controller.stop()
        assert not threads()
        assert not opened.is_set()
    opened.set()
    wait_until(lambda: set(threading.enumerate()) <= before)


# Who stops it.


def test_a_hook_may_stop_its_own_server(place: Place) -> None:
    """It cannot wait for the end, which would wait for it."""
    hooks = Hooks()
    controller = place.make(hooks)
    for _ in range(2):
        controller.start()
        hooks.noop = controller.stop
        with place.greeted(controller) as client:
            client.sendall(b"NOOP\r\n")
            data = b""
            while received := client.recv(1000):
                data += received
            assert data == b"250 OK\r\n421 4.3.2 Service shutting down\r\n"
        wait_until(lambda: not threads())
    controller.stop()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        place.connect(controller)


def test_a_worker_of_a_hook_may_stop_the_server() -> None:
    """The server does not wait for its workers, one of which waits for the server."""

    class Stops(Sink):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str | None
        ) -> str:
            await asyncio.to_thread(controller.stop, 0)
            return "250 OK"

    controller = Controller(Stops(), "127.0.0.1", 0, ready_timeout=DEADLINE)
    controller.start()
    with socket.create_connection(("127.0.0.1", controller.port), DEADLINE) as client:
        client.recv(100)
        client.sendall(b"NOOP\r\n")
        while client.recv(100):
            """It ends."""
    wait_until(lambda: not threads())


def test_stop_from_many_threads_at_once(place: Place) -> None:
    """Each returns when the server has stopped, and not before."""
    controller = place.make()
    after: list[set[threading.Thread]] = []

    def stop() -> None:
        controller.stop()
        after.append(threads())

    for _ in range(3):
        controller.start()
        after.clear()
        callers = [threading.Thread(target=stop) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(DEADLINE)
        assert after == [set()] * len(callers)


def test_the_grace_of_the_controller_is_that_of_stop_and_with(
    new_loop: Callable[[], Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    graces: list[float] = []
    close = Service.close

    async def note(service: Service, grace: float = -1.0) -> None:
        graces.append(grace)
        await close(service, grace)

    monkeypatch.setattr(Service, "close", note)
    for way in ("stop", "with"):
        hooks = Hooks()
        controller = Controller(hooks, "127.0.0.1", 0, ready_timeout=DEADLINE, grace=0)
        controller.start()
        with socket.create_connection(("127.0.0.1", controller.port), DEADLINE) as client:
            client.recv(100)
            client.sendall(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n")
            replies = b""
            while b"250 OK" not in replies:
                replies += client.recv(1000)
            if way == "stop":
                controller.stop()
            else:
                controller.__exit__(None, None, None)
            assert client.recv(1000).startswith(b"421 ")
    assert graces == [0, 0]


# What keeps it from starting.


def refuse_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class Unready(Controller):
    """Its factory does what a test wants, in the loop."""

    do: Callable[[], object]

    def factory(self) -> SMTP:
        """Do it first."""
        self.do()
        return super().factory()


class UnreadyUnix(UnixSocketController):
    """The same on a Unix socket."""

    do: Callable[[], object]

    def factory(self) -> SMTP:
        """Do it first."""
        self.do()
        return super().factory()


def unready(place: Place, do: Callable[[], object], **keywords: Any) -> Any:
    kind: Kind = Unready if place.kind is Controller else UnreadyUnix
    controller = place.make(kind=kind, **keywords)
    controller.do = do
    return controller


def fails_at_once(controller: Any, kind: type[BaseException], text: str) -> None:
    """It tells the error itself, and no time-out of its own is over before that."""
    before, began = threads(), time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        controller.start()
    assert type(caught.value) is kind
    assert time.monotonic() - began < DEADLINE
    assert threads() == before
    assert controller.server is None


def starts_now(place: Place, controller: Any) -> None:
    """As if nothing had been: it starts and stops, and its address is free before and after."""
    for _ in range(2):
        controller.start()
        place.greeted(controller).close()
        controller.stop()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            place.connect(controller)


def left_open(place: Place, controller: Any) -> bool:
    """Whether its address answers."""
    try:
        place.connect(controller).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True


# What keeps a server from listening: what fails and how, what is raised, what it says.
FAILURES: dict[str, tuple[str, BaseException, type[BaseException], str]] = {
    "no thread": (
        "threading.Thread.start",
        RuntimeError("can't start new thread"),
        RuntimeError,
        "can't start new thread",
    ),
    "no more descriptors to listen": (
        "smtp_server.service.Service.start",
        OSError(errno.EMFILE, "Too many open files"),
        OSError,
        "Too many open files",
    ),
    "an interrupt while it begins": (
        "smtp_server.service.Service.start",
        KeyboardInterrupt("now"),
        KeyboardInterrupt,
        "now",
    ),
    "an exit in the factory": ("do", SystemExit("no config"), SystemExit, "no config"),
    "an error in the factory": ("do", LookupError("no such thing"), LookupError, "no such thing"),
    "a time-out of the system": ("do", TimeoutError("its own"), TimeoutError, "its own"),
    "a cancelled factory": (
        "do",
        asyncio.CancelledError("gone"),
        asyncio.CancelledError,
        ".*",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_keeps_it_from_listening_is_told_at_once(
    place: Place, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    where, error, kind, text = FAILURES[failure]
    controller = unready(place, int)
    with pytest.MonkeyPatch.context() as patch:
        if where == "do":
            controller.do = raiser(error)
        else:
            patch.setattr(where, raiser(error))
        for _ in range(2):
            fails_at_once(controller, kind, text)
            assert not left_open(place, controller)
            controller.stop()
    controller.do = int
    starts_now(place, controller)
    assert caplog.records == []  # start() has said it


def test_no_descriptors_for_a_loop_is_told_at_once(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(kind, False, asyncio.new_event_loop, tmp_path)
    controller = place.make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asyncio.new_event_loop", raiser(OSError(errno.EMFILE, "Too many")))
        fails_at_once(controller, OSError, "Too many")
    starts_now(place, controller)


def test_an_address_that_is_taken_is_told_at_once(
    kind: Kind, new_loop: Callable[[], Loop], tmp_path: Path
) -> None:
    place = Place(kind, False, new_loop, tmp_path)
    first, second = place.make(), place.make()
    with first:
        if isinstance(second, Controller):
            second.port = first.port
        fails_at_once(second, OSError, "cannot listen on .*: Address already in use")
        place.greeted(first).close()
    starts_now(place, second)


def test_a_loop_that_is_closed(kind: Kind, new_loop: Callable[[], Loop], tmp_path: Path) -> None:
    place = Place(kind, True, new_loop, tmp_path)
    controller = place.make()
    assert place.loop is not None
    place.loop.close()
    fails_at_once(controller, RuntimeError, "the event loop that was given is closed")


def test_a_loop_that_is_running(kind: Kind, new_loop: Callable[[], Loop], tmp_path: Path) -> None:
    place = Place(kind, True, new_loop, tmp_path)
    controller = place.make()

    async def inside() -> None:
        fails_at_once(controller, RuntimeError, "is running already.*smtp_server.serve")

    assert place.loop is not None
    place.loop.run_until_complete(inside())
    starts_now(place, controller)
    place.loop.close()


def test_two_controllers_cannot_have_one_loop(new_loop: Callable[[], Loop], tmp_path: Path) -> None:
    place = Place(Controller, True, new_loop, tmp_path)
    first, second = place.make(), place.make()
    with first:
        fails_at_once(second, RuntimeError, "the event loop is running already")
        place.greeted(first).close()
    starts_now(place, second)
    assert place.loop is not None
    place.loop.close()


def test_a_factory_that_stops_the_loop(place: Place) -> None:
    controller = unready(place, int)

    def stop_loop() -> None:
        controller.loop.stop()

    controller.do = stop_loop
    with suppress(RuntimeError):  # the loop may come to listen in that turn, or not
        controller.start()
    wait_until(lambda: not threads())
    assert not left_open(place, controller)
    controller.do = int
    starts_now(place, controller)


def test_a_factory_that_returns_no_connection(place: Place) -> None:
    class Nothing(Controller):
        def factory(self) -> Any:
            return None

    controller = place.make(kind=Nothing)
    fails_at_once(controller, TypeError, r"factory\(\) returns an SMTP object, not None")


def test_a_certificate_that_cannot_be_read(place: Place) -> None:
    def make_context() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(place.folder / "none.pem")
        return context

    controller = place.make(ssl_context=make_context)
    fails_at_once(controller, FileNotFoundError, "No such file")
    assert not left_open(place, controller)


def test_a_factory_that_never_returns_does_not_keep_the_port(place: Place) -> None:
    """`start` gives up, and the address is free though the thread is still there."""
    opened = threading.Event()
    controller = unready(place, lambda: opened.wait(DEADLINE), ready_timeout=0.05)
    with pytest.raises(TimeoutError, match=r"within 0\.05 seconds: its factory has not returned; "):
        controller.start()
    assert len(threads()) == 1
    assert not left_open(place, controller)
    controller.stop()
    if place.given:
        with pytest.raises(RuntimeError, match="is running already"):
            controller.start()
    opened.set()
    wait_until(lambda: not threads())
    controller.do = int
    controller.ready_timeout = DEADLINE
    starts_now(place, controller)


def test_what_fails_after_start_has_given_up_is_in_the_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    opened = threading.Event()

    def fail_late() -> None:
        opened.wait(DEADLINE)
        raise LookupError("no such thing")

    controller = unready(place, fail_late, ready_timeout=0.05)
    with pytest.raises(TimeoutError):
        controller.start()
    opened.set()
    wait_until(lambda: not threads())
    [record] = caplog.records
    assert "LookupError('no such thing')" in record.getMessage()


def test_a_listener_that_takes_its_time_is_named(place: Place) -> None:
    opened = threading.Event()
    start = Service.start

    async def slow(self: Service) -> Service:
        await asyncio.to_thread(opened.wait, DEADLINE)
        return await start(self)

    controller = place.make(ready_timeout=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Service, "start", slow)
        with pytest.raises(TimeoutError, match="it has not begun to listen; raise ready_timeout"):
            controller.start()
        opened.set()
        wait_until(lambda: not threads())
    assert not left_open(place, controller)
    controller.ready_timeout = DEADLINE
    starts_now(place, controller)


def test_an_interrupt_while_start_waits(place: Place) -> None:
    """Control-C of somebody whose factory hangs."""
    opened = threading.Event()
    controller = unready(place, lambda: opened.wait(DEADLINE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smtp_server.thread.ServerThread._wait", raiser(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            controller.start()
    assert not left_open(place, controller)
    opened.set()
    wait_until(lambda: not threads())
    controller.do = int
    starts_now(place, controller)


# A process that has other things to do.


def test_a_busy_process_makes_it_in_the_time_that_it_has_by_default() -> None:
    """Turns are counted, not the clock alone: each turn of a busy process takes longer.

    The threads are simulated by a clock: each turn of the caller takes 0.2 s more, as with some 40
    threads that compute, and the thread needs as many turns as it did there.
    """
    waited: list[float] = []
    needed = 10

    class Settled(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # the thread's own wait for its begin
                return super().wait()
            waited.append(timeout + 0.2)
            return len(waited) >= needed and super().wait(DEADLINE)

    controller = Controller(Sink(), "127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.Event", Settled)
        controller.start()
    controller.stop()
    assert len(waited) == needed
    assert sum(waited) > controller.ready_timeout == 1.0


def test_the_way_to_ready_is_short_and_its_sockets_are_bound_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What may take its time is done by the caller: names are looked up, sockets bound."""
    callers = []
    getaddrinfo = socket.getaddrinfo

    def look_up(*args: Any, **keywords: Any) -> Any:
        callers.append(threading.current_thread())
        return getaddrinfo(*args, **keywords)

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    with Controller(Sink(), "localhost", 0, ready_timeout=DEADLINE):
        assert callers == [threading.current_thread()]


# The process that it is in.


def run_python(program: str) -> tuple[int, str, str]:
    command = (sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program))
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_end_of_a_program_does_not_wait_for_its_server() -> None:
    """The thread is a daemon, and the end of it is silent."""
    program = """
        import socket
        from smtp_handlers import Sink
        from smtp_server import Controller
        controller = Controller(Sink(), "127.0.0.1", 0, ready_timeout=30)
        controller.start()
        client = socket.create_connection(("127.0.0.1", controller.port))
        print(client.recv(4))
        client.detach()
    """
    assert run_python(program) == (0, "b'220 '\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_leaves_the_server_alone(tmp_path: Path) -> None:
    """Its `stop` neither hangs nor takes the parent's socket away; its `start` is its own."""
    program = f"""
        import os, socket, threading, warnings
        from smtp_handlers import Sink
        from smtp_server import Controller, UnixSocketController
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads

        def greeting(controller):
            if isinstance(controller, Controller):
                sock = socket.create_connection(("127.0.0.1", controller.port), 30)
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(controller.unix_socket)
            with sock:
                return sock.recv(4)

        tcp = Controller(Sink(), "127.0.0.1", 0, ready_timeout=30)
        unix = UnixSocketController(Sink(), {str(tmp_path / "s")!r}, ready_timeout=30)
        with tcp, unix:
            child = os.fork()
            if child == 0:
                tcp.stop()
                unix.stop()
                tcp.port = 0
                tcp.start()
                good = greeting(tcp) == b"220 "
                tcp.stop()
                os._exit(0 if good else 1)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), greeting(tcp), greeting(unix))
    """
    assert run_python(program) == (0, "0 b'220 ' b'220 '\n", "")


def test_ctrl_c_in_the_main_thread_stops_the_server_of_with() -> None:
    """The program ends as any other does, and the server has stopped before."""
    program = """
        import signal, socket
        from smtp_handlers import Sink
        from smtp_server import Controller
        try:
            with Controller(Sink(), "127.0.0.1", 0, ready_timeout=30) as controller:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print(controller.server)
    """
    assert run_python(program) == (0, "None\n", "")


# A stop in the middle of a handshake.


def whole_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    tls = shared_client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02", None], ids=["", "a part", "the hello"])
@pytest.mark.parametrize("way", ["implicit", "starttls", "proxied"])
@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_a_stop_in_the_middle_of_a_handshake_leaves_nothing_unclosed(
    place: Place, way: str, said: bytes | None, grace: float, caplog: pytest.LogCaptureFixture
) -> None:
    context = shared_server_context()
    keywords: dict[str, Any] = {"tls_context" if way == "starttls" else "ssl_context": context}
    if way == "proxied":
        keywords["proxy_protocol_timeout"] = DEADLINE
    controller = place.make(grace=grace, **keywords)
    controller.start()
    with place.connect(controller) as client:
        if way == "proxied":
            client.sendall(b"PROXY UNKNOWN\r\n")
        if way == "starttls":
            client.sendall(b"EHLO c\r\nSTARTTLS\r\n")
            with client.makefile("rb") as replies:
                assert any(line.startswith(b"220 ") and b"TLS" in line for line in replies)
        client.sendall(whole_hello() if said is None else said)
        if said is None:
            assert client.recv(1)  # its own part of the handshake
        controller.stop()
        with suppress(ConnectionResetError):
            while client.recv(1000):
                pass
    assert caplog.records == []
