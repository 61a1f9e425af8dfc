"""Workers: real processes behind one port, killed, reloaded and ended while clients send."""

import asyncio
import contextlib
import os
import pwd
import re
import signal
import smtplib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.server.support import DEADLINE, Dialogue, eventually
from tests.server.test_cli import (
    CERTIFICATE,
    HERE,
    KEY,
    MODULE,
    Running,
    Starter,
    needs_nobody,
    needs_root,
    one_line,
    without_coverage,
)
from tests.soak.kill_mailbox import Record, client, examine

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets cannot be handed on")

#: Handlers in a file of the user's own.
MINE = """
import asyncio, os, signal
import smtp_handlers
import smtp_server.command.keeper

class Mailbox(smtp_handlers.Mailbox):
    # In the supervisor, which looks for this class, too.
    smtp_server.command.keeper.LONGEST_PAUSES[True] = 0.05

class Tell:
    async def handle_NOOP(self, server, session, envelope, arg):
        return f"250 {os.getpid()} {os.getuid()}"

class Slow(Tell):
    async def handle_DATA(self, server, session, envelope):
        print("begun", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        return "250 Done"

class Stuck(Tell):
    async def handle_DATA(self, server, session, envelope):
        import threading
        print("begun", flush=True)
        threading.Event().wait()

class Raises(Tell):
    def __init__(self):
        raise ValueError("no database")

class Dies(Tell):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Fails(Tell):
    def __init__(self):
        if os.path.exists("broken"):
            raise ValueError("broken")

class NeverStarts(Tell):
    async def __aenter__(self):
        print("entering", flush=True)
        await asyncio.Event().wait()

    async def __aexit__(self, *error):
        print("never left", flush=True)
"""


class Workers(Running):
    """A command with workers, as its log tells."""

    def wait_for_text(self, text: str, times: int) -> None:
        """Wait until the log has a text so many times."""
        self.wait_for(lambda: self.err.read_text().count(text) == times)

    def pids(self) -> dict[int, int]:
        """The newest process of each worker that has served."""
        found = re.findall(r"Worker (\d+) serves; its process is (\d+)\n", self.err.read_text())
        return {int(worker): int(process) for worker, process in found}


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    yield starter
    for running in starter.running:
        if running.process.poll() is None:
            running.process.kill()  # its workers see that it has gone, and end
            running.process.wait()


def start(cli: Starter, *args: str) -> Workers:
    """Start a command, and wait until all its workers serve."""
    command = (*MODULE, "-n", "-d", *HERE, "--workers", "2", *args)
    running = Workers(command, cli.folder, cli.environ)
    cli.running.append(running)
    running.wait_ready()
    return running


def is_there(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def pid_of(address: tuple[str, int]) -> int:
    """The process that serves a new connection."""
    async with await Dialogue.connect(address) as dialogue:
        await dialogue.reply()
        return int((await dialogue.ask("NOOP")).split()[1])


# Serving.


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere whoever is quicker gets a client")
async def test_clients_are_divided_among_the_workers(cli: Starter) -> None:
    running = start(cli, "-c", "mine.Tell")
    pids = {await pid_of(running.addresses[0]) for _ in range(40)}
    assert pids == set(running.pids().values())
    assert len(pids) == 2
    assert running.stop() == 0
    assert not any(map(is_there, pids))


def test_a_port_that_is_taken_by_other_workers(cli: Starter) -> None:
    running = start(cli, "-c", "sink")
    host, port = running.addresses[0]
    status, out, err = cli.run("-n", "-l", f"{host}:{port}", "--workers", "2")
    assert (status, out) == (1, "")
    assert one_line(err).startswith(f"smtp-server: cannot listen on {host}:{port}: ")
    assert running.stop() == 0


# Kills.


async def sending(address: tuple[str, int], names: Iterator[int], record: Record) -> None:
    """Send without end. That a connection is refused would be an error."""
    while True:
        await client(address[1], names, record)


@contextlib.asynccontextmanager
async def load(running: Running, clients: int) -> AsyncIterator[Record]:
    """Clients that send while this is entered."""
    record, names = Record(), count(1)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(sending(running.addresses[0], names, record)) for _ in range(clients)
        ]
        yield record
        for task in tasks:
            task.cancel()


async def kill_one(running: Workers, worker: int, killed: set[int]) -> None:
    """Kill the next process of a worker, once it serves."""
    await eventually(lambda: running.pids()[worker] not in killed)
    pid = running.pids()[worker]
    killed.add(pid)
    os.kill(pid, signal.SIGKILL)


async def one_more(record: Record) -> None:
    """Wait until one more message is answered."""
    answered = len(record.answered)
    await eventually(lambda: len(record.answered) > answered)


async def test_nothing_is_lost_when_workers_are_killed(cli: Starter) -> None:
    mails = cli.folder / "mails"
    running = start(cli, "-c", "mine.Mailbox", str(mails))
    killed: set[int] = set()
    async with load(running, clients=2) as record:
        for kill in range(20):
            await kill_one(running, 1 + kill % 2, killed)
            await one_more(record)
    assert running.process.poll() is None
    assert len(killed) == 20
    assert running.stop() == 0
    examine(mails, record)
    assert record.problems() == []
    assert len(record.answered) >= 20
    assert running.err.read_text().count(" was ended by SIGKILL; the next one starts ") == 20


async def test_clients_who_come_while_there_is_no_process_wait(cli: Starter) -> None:
    """Also the lengths of the pauses: the first is none."""
    running = start(cli, "-c", "mine.Fails")
    (cli.folder / "broken").touch()
    for pid in running.pids().values():
        os.kill(pid, signal.SIGKILL)
    for pause in ("0.1", "0.2", "0.4"):
        running.wait_for_text(
            f"has ended with status 2 before it was ready; the next one starts in {pause} s\n", 2
        )
    assert "smtp-server: cannot make the handler mine.Fails: broken" in running.err.read_text()
    waiting = await Dialogue.connect(running.addresses[0])
    (cli.folder / "broken").unlink()
    async with waiting:
        assert (await waiting.reply()).startswith("220 ")
    assert running.stop() == 0


# Deaths before the first is ready.


@pytest.mark.parametrize(
    ("handler", "status", "said"),
    [
        ("mine.Raises", 2, "smtp-server: cannot make the handler mine.Raises: no database"),
        ("mine.Dies", 1, "smtp-server: a worker was ended by SIGKILL before it was ready"),
    ],
)
def test_no_worker_can_serve(cli: Starter, handler: str, status: int, said: str) -> None:
    ended, out, err = cli.run("-n", *HERE, "--workers", "2", "-c", handler)
    assert (ended, out) == (status, "")
    assert one_line(err).startswith(said)


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_number_of_workers_that_is_none(cli: Starter, number: str) -> None:
    status, out, err = cli.run("-n", *HERE, "--workers", number)
    assert (status, out) == (2, "")
    assert "--workers" in one_line(err)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_can_be_ended_while_it_starts(cli: Starter, workers: str) -> None:
    running = Running(
        (*MODULE, "-n", *HERE, "--workers", workers, "-c", "mine.NeverStarts"),
        cli.folder,
        cli.environ,
    )
    cli.running.append(running)
    running.wait_for(running.out.read_text)
    assert running.stop() == 0
    assert running.out.read_text() == "entering\n"
    assert running.err.read_text() == ""


# The end.


def begin_message(running: Running) -> smtplib.SMTP:
    """Send a message, and wait until its hook is at work."""
    begun = running.out.read_text().count("begun")
    client = running.client()
    client.ehlo()
    client.mail("a@example.com")
    client.rcpt("b@example.com")
    client.docmd("DATA")
    client.send(".\r\n")
    running.wait_for(lambda: running.out.read_text().count("begun") > begun)
    return client


def to_supervisor(running: Workers) -> None:
    running.process.terminate()


def to_all(running: Workers) -> None:
    """As systemd does with KillMode=control-group."""
    for pid in [*running.pids().values(), running.process.pid, *running.pids().values()]:
        os.kill(pid, signal.SIGTERM)


def twice_to_workers(running: Workers) -> None:
    for pid in [*running.pids().values()] * 2:
        os.kill(pid, signal.SIGINT)
    running.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("end", [to_supervisor, to_all, twice_to_workers])
def test_what_has_begun_is_finished(cli: Starter, end: Callable[[Workers], None]) -> None:
    running = start(cli, "-c", "mine.Slow")
    with contextlib.ExitStack() as clients:
        begun = [begin_message(running) for _ in range(3)]
        idle = running.client()
        for each in (*begun, idle):
            clients.callback(each.close)
        end(running)
        assert idle.getreply()[0] == 421
        assert running.process.poll() is None
        (cli.folder / "go").touch()
        assert [each.getreply() for each in begun] == [(250, b"Done")] * 3
    assert running.process.wait(DEADLINE) == 0


def test_a_second_signal_ends_even_what_is_stuck(cli: Starter) -> None:
    running = start(cli, "-c", "mine.Stuck")
    pids = running.pids().values()
    with contextlib.closing(begin_message(running)):
        running.process.terminate()
        running.wait_for(lambda: not all(map(is_there, pids)))
        assert running.process.poll() is None, "a busy worker is not killed"
        assert running.stop() == 0
    assert not any(map(is_there, pids))


def test_a_second_signal_tells_the_clients_of_a_worker_that_can(cli: Starter) -> None:
    (cli.folder / "patient.py").write_text(
        "import smtp_server.command.supervisor\n"
        "from mine import Slow\n"
        "smtp_server.command.supervisor.AT_ONCE = 600\n"
    )
    running = start(cli, "-c", "patient.Slow", "--grace", "600")
    pids = running.pids().values()
    with contextlib.closing(begin_message(running)) as client:
        running.process.terminate()
        running.wait_for(lambda: not all(map(is_there, pids)))
        assert running.stop() == 0
        assert client.getreply()[0] == 421
    assert not any(map(is_there, pids))


def test_the_supervisor_is_killed(cli: Starter) -> None:
    """Its workers finish what has begun, and end."""
    running = start(cli, "-c", "mine.Slow")
    with contextlib.closing(begin_message(running)) as client:
        running.process.kill()
        running.process.wait(DEADLINE)
        (cli.folder / "go").touch()
        assert client.getreply() == (250, b"Done")
    end = time.monotonic() + DEADLINE
    while any(map(is_there, running.pids().values())):
        assert time.monotonic() < end
        time.sleep(0.005)


# Files that are read again.


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_certificates_are_read_again_by_all(cli: Starter, tmp_path: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    mine = tmp_path / "mine.pem"
    mine.write_text(Path(CERTIFICATE).read_text() + Path(KEY).read_text())
    running = start(cli, "-c", "sink", "--tlscert", str(mine), "--loop", loop)
    mine.unlink()
    running.process.send_signal(signal.SIGHUP)
    text = "The TLS certificates stay as they are"
    running.wait_for(lambda: running.err.read_text().count(text) == 2)
    running.wait_for(lambda: "have been read again" in running.err.read_text())
    assert running.stop() == 0


def test_workers_do_not_read_what_has_changed_since_the_start(cli: Starter) -> None:
    """Half of them with one configuration and half of them with another would be worse."""
    config = cli.folder / "config.toml"
    config.write_text('hostname = "before.test"\nmax-recipients = 7\n')
    running = start(cli, "-c", "mine.Tell", "--config", str(config))
    config.write_text("no TOML")
    before = running.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    running.wait_for(lambda: not set(before.values()) & set(running.pids().values()))
    for _ in range(8):
        with running.client() as client:
            assert client.ehlo()[1].startswith(b"before.test")
    assert running.stop() == 0


@needs_root
@needs_nobody
def test_workers_become_another_user_and_the_supervisor_does_not(cli: Starter) -> None:
    cli = without_coverage(cli)
    command = (*MODULE, "-d", *HERE, "--workers", "2", "-c", "sink")
    running = Workers(command, cli.folder, cli.environ)
    cli.running.append(running)
    running.wait_ready()
    assert {user_of(pid) for pid in running.pids().values()} == {pwd.getpwnam("nobody").pw_uid}
    assert user_of(running.process.pid) == 0
    assert running.stop() == 0


def user_of(pid: int) -> int:
    """The user that a process runs as."""
    return os.stat(f"/proc/{pid}").st_uid


def test_several_places_and_kinds(cli: Starter) -> None:
    """Each of which all workers have; a Unix socket's file goes with the supervisor alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        command = (*MODULE, "-n", "-d", *HERE, "-l", "lmtp://127.0.0.1:0", "--unix", str(path))
        running = Workers((*command, "--workers", "2", "-c", "mine.Tell"), cli.folder, cli.environ)
        cli.running.append(running)
        running.wait_for(lambda: f", {path}, " in running.err.read_text())
        ports = re.findall(r"127\.0\.0\.1:(\d+)", running.err.read_text())
        for verb, port in zip(("EHLO", "LHLO"), ports, strict=True):
            for _ in range(8):
                with smtplib.SMTP("127.0.0.1", int(port), timeout=DEADLINE) as client:
                    assert client.docmd(verb, "client.test")[0] == 250
        for _ in range(8):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(DEADLINE)
                sock.connect(str(path))
                assert sock.recv(4) == b"220 "
        assert running.stop() == 0
        assert not path.exists()
