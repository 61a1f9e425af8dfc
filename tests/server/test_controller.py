"""Controllers: they start within their time or say why not, and stop without leaving anything."""

import asyncio
import gc
import importlib.util
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from smtplib import SMTP as Client
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from tests.server.support import DEADLINE, Dialogue, Keeper, eventually

from smtp_handlers import Sink
from smtp_protocol import Envelope, Handler, Server, Session
from smtp_server import (
    SMTP,
    Controller,
    UnixSocketController,
    UnixSocketUnthreadedController,
    UnthreadedController,
)

VARIABLES = ("SMTP_SERVER_CONTROLLER_TIMEOUT", "AIOSMTPD_CONTROLLER_TIMEOUT")
CLOSING = (421, b"4.3.2 Service shutting down")

LOOPS: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
if importlib.util.find_spec("uvloop") is not None:
    LOOPS.append(pytest.param(importlib.import_module("uvloop").new_event_loop, id="uvloop"))


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "smtp-server"}


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable is set before a test, and no thread is left after it."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before)


def client_of(controller: Controller) -> Client:
    return Client(controller.hostname, controller.port, "client.test", timeout=DEADLINE)


def ehlo_lines(controller: Controller) -> list[str]:
    with client_of(controller) as client:
        _, message = client.ehlo()
    return message.decode().splitlines()[1:]


# Starting and stopping.


def test_start_and_stop() -> None:
    controller = Controller(Sink(), port=0)
    assert controller.hostname == "localhost"
    servers = [controller.server]
    controller.start()
    servers.append(controller.server)
    assert servers[0] is None
    assert isinstance(servers[1], asyncio.Server)
    assert controller.port > 0
    assert len(threads()) == 1
    with client_of(controller) as client:
        assert client.noop() == (250, b"OK")
        assert isinstance(controller.smtpd, SMTP)
        assert controller.smtpd.session.peer_host in ("127.0.0.1", "::1")
    controller.stop()
    assert controller.server is None
    assert threads() == set()
    with pytest.raises(ConnectionRefusedError):
        client_of(controller)


def test_stop_without_start() -> None:
    controller = Controller(Sink(), port=0)
    controller.stop()
    controller.start()
    controller.stop()
    controller.stop()


def test_start_after_stop() -> None:
    handler = Keeper()
    controller = Controller(handler, "127.0.0.1", 0)
    for _ in range(3):
        controller.start()
        with client_of(controller) as client:
            client.sendmail("a@example.com", "b@example.com", "Hi")
        controller.stop()
    assert len(handler.envelopes) == 3


def test_start_twice() -> None:
    with Controller(Sink(), "127.0.0.1", 0) as controller:
        with pytest.raises(RuntimeError, match="started already"):
            controller.start()
        with client_of(controller) as client:
            assert client.noop()[0] == 250
        assert len(threads()) == 1


def test_the_default_port() -> None:
    assert Controller(Sink()).port == 8025


def test_a_context_manager() -> None:
    with Controller(Sink(), "127.0.0.1", 0) as controller, client_of(controller) as client:
        assert client.noop()[0] == 250
    with pytest.raises(ConnectionRefusedError):
        client_of(controller)


def test_two_controllers_side_by_side() -> None:
    first, second = Keeper(), Keeper()
    with Controller(first, port=0) as one, Controller(second, port=0) as two:
        assert one.port != two.port
        with client_of(one) as client, client_of(two) as other:
            client.sendmail("one@example.com", "b@example.com", "Hi")
            other.sendmail("two@example.com", "b@example.com", "Hi")
    assert [envelope.mail_from for envelope in first.envelopes] == ["one@example.com"]
    assert [envelope.mail_from for envelope in second.envelopes] == ["two@example.com"]


def test_a_loop_that_was_given() -> None:
    loop = asyncio.new_event_loop()
    try:
        controller = Controller(Keeper(), "127.0.0.1", 0, loop)
        for _ in range(2):
            with controller, client_of(controller) as client:
                assert client.noop()[0] == 250
                assert controller.smtpd is not None
                assert controller.smtpd.session.loop is loop
        assert not loop.is_running()
    finally:
        loop.close()


def test_it_never_connects_to_itself() -> None:
    handler = Keeper()
    with Controller(handler, "127.0.0.1", 0):
        pass
    assert handler.sessions == []


def test_every_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    getaddrinfo = socket.getaddrinfo

    def remember(host: Any, *args: Any, **keywords: Any) -> Any:
        asked.append(host)
        return getaddrinfo("127.0.0.1", *args, **keywords)

    monkeypatch.setattr("socket.getaddrinfo", remember)
    with Controller(Sink(), "", 0) as controller:
        assert controller.port > 0
    assert asked == [None]


# What it is told to be.


def test_smtputf8_is_on_by_default() -> None:
    with Controller(Sink(), port=0) as controller:
        assert ehlo_lines(controller) == ["SIZE 33554432", "8BITMIME", "SMTPUTF8", "HELP"]
    with Controller(Sink(), port=0, enable_SMTPUTF8=False) as controller:
        assert ehlo_lines(controller) == ["SIZE 33554432", "8BITMIME", "HELP"]


def test_the_names_of_the_server() -> None:
    with (
        Controller(Sink(), port=0, server_hostname="mx.test", ident="Mine 1.0") as controller,
        Client(timeout=DEADLINE) as client,
    ):
        assert client.connect(controller.hostname, controller.port) == (220, b"mx.test Mine 1.0")


def test_keywords_reach_the_server() -> None:
    with (
        Controller(Sink(), port=0, data_size_limit=100, max_recipients=1) as controller,
        client_of(controller) as client,
    ):
        assert "SIZE 100" in ehlo_lines(controller)
        client.ehlo()
        client.mail("a@example.com")
        assert client.rcpt("b@example.com")[0] == 250
        assert client.rcpt("c@example.com")[0] == 452


def test_a_factory_of_ones_own() -> None:
    made: list[SMTP] = []

    class Mine(Controller):
        def factory(self) -> SMTP:
            self.SMTP_kwargs["ident"] = "Mine"
            made.append(SMTP(self.handler, **self.SMTP_kwargs))
            return made[-1]

    controller = Mine(Sink(), "127.0.0.1", 0)
    assert made == []
    with controller, Client(timeout=DEADLINE) as client:
        assert client.connect(controller.hostname, controller.port)[1].endswith(b" Mine")
        assert controller.smtpd is made[-1]


# What goes wrong.


def raises_within(seconds: float, controller: Controller, *kinds: type[Exception]) -> Exception:
    began = time.monotonic()
    with pytest.raises(kinds) as error:
        controller.start()
    assert time.monotonic() - began < seconds
    assert controller.server is None
    return error.value


def test_an_occupied_port() -> None:
    with Controller(Sink(), "127.0.0.1", 0) as first:
        second = Controller(Sink(), "127.0.0.1", first.port, ready_timeout=DEADLINE)
        error = raises_within(DEADLINE, second, OSError)
        expected = f"cannot listen on 127.0.0.1:{first.port}: Address already in use"
        assert expected in str(error)
        assert len(threads()) == 1
    with second, client_of(second) as client:
        assert client.noop()[0] == 250


def test_an_address_of_another_machine() -> None:
    controller = Controller(Sink(), "192.0.2.1", 0, ready_timeout=DEADLINE)
    assert "cannot listen on 192.0.2.1:0" in str(raises_within(DEADLINE, controller, OSError))
    assert threads() == set()


def test_a_wrong_port() -> None:
    controller = Controller(Sink(), "127.0.0.1", 70000, ready_timeout=DEADLINE)
    assert "70000" in str(raises_within(DEADLINE, controller, ValueError))
    assert threads() == set()


def test_a_wrong_keyword() -> None:
    wrong: dict[str, Any] = {"hostnme": "mx.test"}
    with pytest.raises(TypeError, match="no keyword 'hostnme'; did you mean 'hostname'"):
        Controller(Sink(), **wrong)
    with pytest.raises(ValueError, match="timeout is a number of seconds"):
        Controller(Sink(), timeout=-1)


def test_a_misspelt_hook() -> None:
    class Misspelt(Handler):
        async def handle_DATE(self, server: Server, session: Session, envelope: Envelope) -> str:
            return "250 OK"

    for kind in (Controller, UnthreadedController):
        with pytest.raises(TypeError, match=r"handle_DATE is not a hook; .* handle_DATA"):
            kind(Misspelt())
    for unix_kind in (UnixSocketController, UnixSocketUnthreadedController):
        with pytest.raises(TypeError, match="handle_DATE is not a hook"):
            unix_kind(Misspelt(), "smtp.sock")


def test_a_factory_that_fails() -> None:
    class Fails(Controller):
        def factory(self) -> SMTP:
            raise LookupError("no such thing")

    controller = Fails(Sink(), "127.0.0.1", 0, ready_timeout=DEADLINE)
    assert raises_within(DEADLINE, controller, LookupError).args == ("no such thing",)
    assert threads() == set()


class Sleepy(Controller):
    """Its factory waits until it is told to go on."""

    def __init__(self, **keywords: Any) -> None:
        self.awake = threading.Event()
        super().__init__(Sink(), "127.0.0.1", 0, **keywords)

    def factory(self) -> SMTP:
        """Wait first."""
        assert self.awake.wait(DEADLINE)
        return super().factory()


def not_ready_after(seconds: float, controller: Sleepy) -> None:
    """It gives up after its time, and leaves nothing behind."""
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=f"not ready within {seconds:g} seconds") as error:
        controller.start()
    passed = time.monotonic() - began
    assert seconds <= passed < seconds + DEADLINE
    assert "ready_timeout or SMTP_SERVER_CONTROLLER_TIMEOUT" in str(error.value)
    assert controller.server is None
    controller.stop()
    controller.awake.set()
    wait_until(lambda: not threads())
    with controller, client_of(controller) as client:
        assert client.noop()[0] == 250


def test_a_start_that_takes_too_long() -> None:
    not_ready_after(0.05, Sleepy(ready_timeout=0.05))


def test_the_time_that_it_has_by_default() -> None:
    controller = Sleepy()
    assert controller.ready_timeout == 1.0
    not_ready_after(1.0, controller)


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_environment_changes_the_time(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "0.05")
    controller = Sleepy(ready_timeout=DEADLINE)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not ready within 0\.05 seconds"):
        controller.start()
    assert time.monotonic() - began < DEADLINE
    monkeypatch.setenv(variable, str(DEADLINE))
    controller.awake.set()
    wait_until(lambda: not threads())
    with controller:
        assert controller.server is not None


def test_our_own_variable_goes_before_the_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "0.05")
    monkeypatch.setenv(VARIABLES[1], str(DEADLINE))
    not_ready = Sleepy()
    with pytest.raises(TimeoutError, match=r"0\.05 seconds"):
        not_ready.start()
    not_ready.awake.set()
    wait_until(lambda: not threads())


def test_a_variable_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "soon")
    controller = Controller(Sink(), "127.0.0.1", 0)
    with pytest.raises(ValueError, match=r"SMTP_SERVER_CONTROLLER_TIMEOUT .* not 'soon'"):
        controller.start()
    assert threads() == set()
    monkeypatch.delenv(VARIABLES[0])
    with controller:
        """The controller took no harm."""


def test_a_time_out_of_the_system_is_told_as_it_is() -> None:
    class Fails(Controller):
        def factory(self) -> SMTP:
            raise TimeoutError("the system's own")

    controller = Fails(Sink(), "127.0.0.1", 0, ready_timeout=DEADLINE)
    assert raises_within(DEADLINE, controller, TimeoutError).args == ("the system's own",)
    assert threads() == set()


# What programs that come from the older library do.

OLDER_NAMES = [
    ("_create_server", r"override bind\(\), which returns the sockets"),
    ("_factory_invoker", r"override factory\(\)"),
    ("_trigger_server", r"start\(\) does not connect to the server"),
    ("_run", r"override start\(\) and stop\(\)"),
    ("_cleanup", r"override stop\(\)"),
    ("cancel_tasks", r"override stop\(\)"),
]


@pytest.mark.parametrize(("name", "instead"), OLDER_NAMES)
@pytest.mark.parametrize(
    "kind",
    [Controller, UnixSocketController, UnthreadedController, UnixSocketUnthreadedController],
)
@pytest.mark.parametrize("inherited", ["itself", "mixin"])
def test_an_override_that_is_never_called_is_refused(
    kind: type[Any], name: str, instead: str, inherited: str
) -> None:
    """A program that drops root's rights in `_create_server` would go on as root, unawares."""
    body: dict[str, object] = {name: lambda self: None}
    if inherited == "mixin":
        older: type[Any] = type("Older", (type("Mixin", (), body), kind), {})
    else:
        older = type("Older", (kind,), body)
    with pytest.raises(TypeError, match=rf"Older\.{name} is never used; {instead}"):
        older(Sink(), "smtp.sock" if "unix" in kind.__name__.lower() else None)


def test_whatever_the_older_library_calls_is_called_or_refused() -> None:
    """Each method of its controllers that a subclass may override."""
    older = pytest.importorskip("aiosmtpd.controller")
    ours = {name for kind in (Controller, UnthreadedController) for name in dir(kind)}
    refused = {name for name, _ in OLDER_NAMES}
    for kind in (older.Controller, older.UnthreadedController, older.UnixSocketController):
        names = {name for name in dir(kind) if callable(getattr(kind, name)) and name[:2] != "__"}
        assert names - ours - refused == set()
        assert refused & ours == set()


def test_binding_in_a_way_of_ones_own() -> None:
    """What is to be done once the ports are there, such as to become somebody else, fits in."""
    done: list[threading.Thread] = []

    class Binds(Controller):
        def bind(self) -> list[socket.socket]:
            sockets = [*super().bind(), *super().bind()]
            done.append(threading.current_thread())
            return sockets

    controller = Binds(Sink(), "127.0.0.1", 0, ready_timeout=DEADLINE)
    assert done == []
    for _ in range(2):
        with controller, client_of(controller) as client:
            assert client.noop()[0] == 250
            assert controller.service is not None
            assert len(controller.service.addresses) == 2
    assert done == [threading.current_thread()] * 2


@pytest.mark.parametrize("nothing", [[], None])
def test_binding_to_nothing(nothing: Any) -> None:
    class Binds(Controller):
        def bind(self) -> Any:
            return nothing

    with pytest.raises(ValueError, match=r"bind\(\) returned no socket"):
        Binds(Sink()).start()
    assert threads() == set()


def test_a_port_as_text() -> None:
    """`os.environ` has nothing else."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    text: Any = str(port)
    controller = Controller(Sink(), "127.0.0.1", text, ready_timeout=DEADLINE)
    with controller, client_of(controller) as client:
        assert client.noop()[0] == 250
        assert controller.port == port
    wrong: Any = "smtp"
    with pytest.raises(ValueError, match="a port is a number from 0 to 65535, not 'smtp'"):
        Controller(Sink(), "127.0.0.1", wrong).start()


def test_a_port_that_is_set_later_is_the_one_that_is_bound() -> None:
    controller = Controller(Sink(), "127.0.0.1", 70000, ready_timeout=DEADLINE)
    controller.port = 0
    with controller:
        bound = controller.port
        assert bound > 0
    assert controller.port == bound
    controller.port = bound
    with controller, client_of(controller) as client:
        assert client.noop()[0] == 250
        assert controller.port == bound


# Numbers of seconds.

NO_SECONDS: list[Any] = [
    "soon",
    "",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "-1",
    "1e300",
    "\u0661",
    "\uff11",
    "1s",
]


@pytest.mark.parametrize("text", [*NO_SECONDS, "0", "-0.0"])
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_no_number_of_seconds(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    controller = Controller(Sink(), "127.0.0.1", 0)
    with pytest.raises(ValueError, match=f"{variable} is a number of seconds above 0, not '"):
        controller.start()
    assert threads() == set()


NO_NUMBERS: list[Any] = [*NO_SECONDS, None, float("nan"), float("inf"), -1, -0.5, [1]]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_of_seconds(value: Any) -> None:
    for kind in (Controller, UnixSocketController):
        with pytest.raises(ValueError, match="ready_timeout is a number of seconds above 0, not "):
            kind(Sink(), "smtp.sock", ready_timeout=value)
        with pytest.raises(ValueError, match="grace is a number of seconds, not "):
            kind(Sink(), "smtp.sock", grace=value)
    for other in (UnthreadedController, UnixSocketUnthreadedController):
        with pytest.raises(ValueError, match="grace is a number of seconds, not "):
            other(Sink(), "smtp.sock", grace=value)
    if value is not None:
        with pytest.raises(ValueError, match="grace is a number of seconds, not "):
            Controller(Sink()).stop(value)
        with pytest.raises(ValueError, match="grace is a number of seconds, not "):
            UnthreadedController(Sink()).end(value)


# Stopping with sessions.


class SlowData(Keeper):
    """Its handle_DATA waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Wait in a thread, so that the loop goes on."""
        self.reached.set()
        await asyncio.to_thread(self.opened.wait, DEADLINE)
        return await super().handle_DATA(server, session, envelope)


def begin_message(client: Client) -> None:
    client.ehlo()
    client.mail("a@example.com")
    client.rcpt("b@example.com")
    assert client.docmd("DATA")[0] == 354


def test_an_idle_session_gets_421() -> None:
    handler = Keeper()
    with Controller(handler, "127.0.0.1", 0) as controller:
        client = client_of(controller)
        client.noop()
    assert client.getreply() == CLOSING
    with pytest.raises(SMTPServerDisconnected):
        client.noop()
    assert handler.gone == handler.sessions


def test_a_running_hook_finishes_and_is_answered() -> None:
    handler = SlowData()
    controller = Controller(handler, "127.0.0.1", 0)
    controller.start()
    with client_of(controller) as client:
        begin_message(client)
        client.send("body\r\n.\r\n")
        assert handler.reached.wait(DEADLINE)
        stopping = threading.Thread(target=controller.stop, args=(DEADLINE,))
        stopping.start()
        wait_until(lambda: controller.server is None)
        handler.opened.set()
        assert client.getreply() == (250, b"Kept")
        assert client.getreply() == CLOSING
        stopping.join(DEADLINE)
        client.close()
    assert len(handler.envelopes) == 1


def test_a_session_that_takes_too_long() -> None:
    handler = Keeper()
    controller = Controller(handler, "127.0.0.1", 0)
    controller.start()
    client = client_of(controller)
    begin_message(client)
    controller.stop(grace=0.05)
    assert client.getreply() == CLOSING
    client.close()
    assert handler.gone == handler.sessions
    assert handler.envelopes == []


# On a Unix socket.


def ask_unix(path: str | os.PathLike[str]) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(os.fspath(path))
        with sock.makefile("rwb") as stream:
            greeting = stream.readline()
            stream.write(b"QUIT\r\n")
            stream.flush()
            assert stream.read() == b"221 Bye\r\n"
    return greeting


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    controller = UnixSocketController(Sink(), path, ident="Unix")
    assert controller.unix_socket == str(path)
    for _ in range(2):
        with controller:
            assert ask_unix(path).endswith(b" Unix\r\n")
        assert not path.exists()


def test_a_unix_socket_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with UnixSocketController(Sink(), path):
        with pytest.raises(OSError, match="Address already in use"):
            UnixSocketController(Sink(), str(path), ready_timeout=DEADLINE).start()
        assert ask_unix(path).startswith(b"220 ")


# Without a thread.


def test_unthreaded() -> None:
    controller = UnthreadedController(Keeper(), "127.0.0.1", 0)
    controller.begin()
    assert controller.loop is not None
    assert threads() == set()

    async def talk() -> str:
        async with await Dialogue.connect((controller.hostname, controller.port)) as client:
            assert (await client.reply()).startswith("220 ")
            return await client.deliver()

    assert controller.loop.run_until_complete(talk()) == "250 Kept"
    controller.end()
    assert controller.server is None
    controller.end()
    controller.begin()
    assert controller.loop.run_until_complete(talk()) == "250 Kept"
    controller.end()
    controller.loop.close()


def test_unthreaded_with_a_loop_of_ones_own() -> None:
    loop = asyncio.new_event_loop()
    controller = UnthreadedController(Keeper(), "127.0.0.1", 0, loop)
    controller.begin()

    async def talk() -> str:
        async with await Dialogue.connect((controller.hostname, controller.port)) as client:
            assert (await client.reply()).startswith("220 ")
            await controller.finalize()
            return await client.rest()

    try:
        assert loop.run_until_complete(talk()) == "421 4.3.2 Service shutting down\r\n"
        assert controller.server is None
    finally:
        loop.close()


def test_ending_what_never_began() -> None:
    UnthreadedController(Sink(), "127.0.0.1", 0).end()


def test_beginning_twice() -> None:
    controller = UnthreadedController(Sink(), "127.0.0.1", 0)
    controller.begin()
    try:
        with pytest.raises(RuntimeError, match="begun already"):
            controller.begin()
    finally:
        controller.end()
        assert controller.loop is not None
        controller.loop.close()


@pytest.mark.parametrize("given", [True, False])
async def test_beginning_inside_a_running_loop(given: bool) -> None:
    loop = asyncio.get_running_loop() if given else None
    controller = UnthreadedController(Sink(), "127.0.0.1", 0, loop)
    with pytest.raises(RuntimeError, match="running"):
        controller.begin()
    assert controller.server is None
    assert controller.loop is loop


def test_unthreaded_on_an_occupied_port() -> None:
    with Controller(Sink(), "127.0.0.1", 0) as first:
        second = UnthreadedController(Sink(), "127.0.0.1", first.port)
        with pytest.raises(OSError, match="cannot listen on"):
            second.begin()
        assert second.server is None
        assert second.loop is not None
        second.loop.close()


def test_unthreaded_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    controller = UnixSocketUnthreadedController(Sink(), path)
    controller.begin()
    assert controller.loop is not None
    ask = controller.loop.run_in_executor(None, ask_unix, path)
    assert controller.loop.run_until_complete(ask).startswith(b"220 ")
    controller.end()
    controller.loop.run_until_complete(controller.loop.shutdown_default_executor())
    controller.loop.close()
    assert not path.exists()


def test_unthreaded_leaves_the_port_to_the_next(tmp_path: Path) -> None:
    controller = UnthreadedController(Sink(), "127.0.0.1", 0)
    controller.begin()
    controller.end()
    controller.port = controller.port
    controller.begin()
    controller.end()
    assert controller.loop is not None
    controller.loop.close()


def run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run until somebody stops the loop; somebody does."""
    watch = loop.call_later(DEADLINE, loop.stop)
    loop.run_forever()
    watch.cancel()


@pytest.mark.parametrize("new_loop", LOOPS)
def test_ending_in_a_running_loop_is_scheduled(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """As the older library has it; there is a coroutine for who wants to wait."""
    loop = new_loop()
    controller = UnthreadedController(Keeper(), "127.0.0.1", 0, loop)
    controller.begin()
    assert not controller.ended.is_set()

    async def end() -> None:
        async with await Dialogue.connect((controller.hostname, controller.port)) as client:
            assert (await client.reply()).startswith("220 ")
            controller.end()
            controller.end()
            assert await client.rest() == "421 4.3.2 Service shutting down\r\n"
        await eventually(controller.ended.is_set)

    loop.run_until_complete(end())
    assert controller.ended.is_set()
    assert controller.server is None
    controller.end()
    controller.begin()
    assert not controller.ended.is_set()
    controller.end()
    assert controller.ended.is_set()
    loop.close()
    controller.end()


@pytest.mark.parametrize("handler", ["of the loop", "of the system"])
@pytest.mark.parametrize("new_loop", LOOPS)
def test_ending_in_a_signal_handler(
    new_loop: Callable[[], asyncio.AbstractEventLoop], handler: str
) -> None:
    loop = new_loop()
    controller = UnthreadedController(Sink(), "127.0.0.1", 0, loop)
    controller.begin()

    def stop() -> None:
        controller.end()
        loop.call_soon_threadsafe(wait)

    def wait() -> None:
        if controller.service is None:
            loop.stop()
        else:
            loop.call_later(0.001, wait)

    before = signal.getsignal(signal.SIGUSR1)
    try:
        if handler == "of the loop":
            loop.add_signal_handler(signal.SIGUSR1, stop)
        else:
            signal.signal(signal.SIGUSR1, lambda *_: stop())
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        run_for_ever(loop)
        assert controller.service is None
        assert controller.ended.is_set()
        if handler == "of the loop":
            loop.remove_signal_handler(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
        loop.close()


@pytest.mark.parametrize("new_loop", LOOPS)
def test_ending_from_another_thread(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    loop = new_loop()
    controller = UnthreadedController(Sink(), "127.0.0.1", 0, loop)
    controller.begin()
    thread = threading.Thread(target=run_for_ever, args=(loop,))
    thread.start()
    controller.end()
    assert controller.ended.wait(DEADLINE)
    assert controller.server is None
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()


def test_ending_what_was_scheduled_in_a_loop_that_stopped() -> None:
    """A program that stops its loop at once, and then ends the controller once more."""
    controller = UnthreadedController(Sink(), "127.0.0.1", 0)
    controller.begin()
    loop = controller.loop
    assert loop is not None
    loop.call_soon(controller.end)
    loop.call_soon(loop.stop)
    run_for_ever(loop)
    controller.end()
    assert controller.server is None
    loop.close()


@pytest.mark.parametrize("new_loop", LOOPS)
def test_ending_after_the_loop_is_closed_leaves_nothing_open(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    path = tmp_path / "smtp.sock"
    for unix in (False, True):
        loop = new_loop()
        controller = (
            UnixSocketUnthreadedController(Sink(), path, loop)
            if unix
            else UnthreadedController(Sink(), "127.0.0.1", 0, loop)
        )
        controller.begin()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # uvloop says that it is too early
            loop.close()
        controller.end()
        controller.end()
        assert controller.service is None
        if isinstance(controller, UnthreadedController):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((controller.hostname, controller.port), DEADLINE)
        else:
            assert not path.exists()
        with pytest.raises(RuntimeError, match="the event loop that was given is closed"):
            controller.begin()
        gc.collect()


def test_beginning_again_after_its_own_loop_was_closed() -> None:
    controller = UnthreadedController(Sink(), "127.0.0.1", 0)
    for _ in range(2):
        controller.begin()
        controller.end()
        assert controller.loop is not None
        controller.loop.close()


def test_a_factory_that_fails_leaves_the_port_of_begin() -> None:
    class Fails(UnthreadedController):
        def factory(self) -> SMTP:
            raise LookupError("no such thing")

    controller = Fails(Sink(), "127.0.0.1", 0)
    for _ in range(2):
        with pytest.raises(LookupError):
            controller.begin()
        with socket.create_server(("127.0.0.1", controller.port)):
            """It is free."""
    assert controller.loop is not None
    controller.loop.close()


def test_unthreaded_takes_the_grace_of_the_controller() -> None:
    controller = UnthreadedController(Keeper(), "127.0.0.1", 0, grace=0)
    controller.begin()
    loop = controller.loop
    assert loop is not None

    async def talk() -> str:
        async with await Dialogue.connect((controller.hostname, controller.port)) as client:
            await client.reply()
            await client.begin_data()
            async with asyncio.timeout(4):  # not five seconds
                await controller.finalize()
            return await client.rest()

    assert loop.run_until_complete(talk()) == "421 4.3.2 Service shutting down\r\n"
    loop.close()


# Systems other than this one, simulated.


class WindowsLike(asyncio.SelectorEventLoop):
    """An event loop that refuses what those of Windows do not have."""

    def _refuse(self, *args: object, **keywords: object) -> Any:
        raise NotImplementedError

    add_reader = remove_reader = add_writer = remove_writer = _refuse
    add_signal_handler = remove_signal_handler = _refuse
    create_unix_server = create_unix_connection = connect_read_pipe = _refuse


def test_an_event_loop_like_those_of_windows() -> None:
    loop = WindowsLike()
    with Controller(Keeper(), "127.0.0.1", 0, loop) as controller, client_of(controller) as client:
        client.sendmail("a@example.com", "b@example.com", "Hi")
    unthreaded = UnthreadedController(Sink(), "127.0.0.1", 0, loop)
    unthreaded.begin()
    unthreaded.end()
    loop.close()


def test_the_loop_is_made_in_the_thread_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Proactor loop of Windows that is made in the main thread takes its signals for itself."""
    makers = []
    new_loop = asyncio.new_event_loop

    def make() -> asyncio.AbstractEventLoop:
        makers.append(threading.current_thread().name)
        return new_loop()

    monkeypatch.setattr("asyncio.new_event_loop", make)
    with Controller(Sink(), "127.0.0.1", 0, ready_timeout=DEADLINE):
        assert makers == ["smtp-server"]


def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python on Windows: there the error says so, when it starts."""
    controller = UnixSocketController(Sink(), "smtp.sock")
    monkeypatch.delattr("socket.AF_UNIX")
    with pytest.raises(OSError, match="this system has no Unix sockets"):
        controller.start()
    assert threads() == set()


def test_each_thread_has_its_own_octets() -> None:
    """Two servers that read at the same time do not read into the same place."""
    handlers = [Keeper(), Keeper(), Keeper()]
    controllers = [Controller(each, "127.0.0.1", 0, ready_timeout=DEADLINE) for each in handlers]
    contents = [(letter * 70 + b"\r\n") * 40_000 for letter in (b"a", b"b", b"c")]

    def send(controller: Controller, content: bytes) -> None:
        with client_of(controller) as client:
            for _ in range(3):
                client.sendmail("anne@example.com", "bart@example.com", content)

    with ExitStack() as stack:
        for controller in controllers:
            stack.enter_context(controller)
        senders = [
            threading.Thread(target=send, args=pair)
            for pair in zip(controllers, contents, strict=True)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(DEADLINE)
    for handler, content in zip(handlers, contents, strict=True):
        assert [envelope.content == content for envelope in handler.envelopes] == [True] * 3
