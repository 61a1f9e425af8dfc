"""Command line: as real processes, from the options to the exit status."""

import os
import pwd
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.support import DEADLINE, needs_ipv6

from smtp_server import __version__, main, testing
from smtp_server.cli import parseargs

MODULE = (sys.executable, "-m", "smtp_server")
SCRIPT = (str(Path(sysconfig.get_path("scripts")) / "smtp-server"),)
HERE = ("-l", "127.0.0.1:0")

#: A handler in a file of the user's own.
MINE = """
import asyncio

class Noisy:
    async def handle_DATA(self, server, session, envelope):
        print("mine:", envelope.mail_from, flush=True)
        return "250 Mine"

class Stuck:
    async def handle_DATA(self, server, session, envelope):
        print("stuck", flush=True)
        await asyncio.Event().wait()

class Arguments(Noisy):
    @classmethod
    def from_cli(cls, parser, *args):
        if args[:1] == ("raise",):
            raise ValueError("not these arguments")
        if args[:1] == ("error",):
            parser.error("no, thank you")
        print("arguments:", *args, flush=True)
        return cls()

class Needs(Noisy):
    def __init__(self, something):
        pass

class Lacks(Noisy):
    def __init__(self):
        {}["DATABASE"]

class Misspelt:
    async def handle_DATE(self, server, session, envelope):
        return "250 OK"

not_a_class = 5
"""


class Running:
    """A process, and what it has written so far."""

    def __init__(self, command: tuple[str, ...], folder: Path, environ: dict[str, str]) -> None:
        outputs = Path(tempfile.mkdtemp(dir=folder))
        self.out = outputs / "stdout"
        self.err = outputs / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=out, stderr=err, stdin=subprocess.DEVNULL
            )
        self.addresses: list[tuple[str, int]] = []

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until it holds; the process must not end before."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < end, self.err.read_text()
            time.sleep(0.005)

    def wait_ready(self) -> None:
        """Wait for the line that tells where it listens."""
        self.wait_for(lambda: re.search(r" listens on .*\n", self.err.read_text()))
        (line,) = re.findall(r"^smtp-server .* listens on (.*)$", self.err.read_text(), re.M)
        for address in line.split(", "):
            host, _, port = address.rpartition(":")
            self.addresses.append((host.strip("[]"), int(port)))

    def client(self, number: int = 0) -> smtplib.SMTP:
        """Connect to one of its addresses."""
        return smtplib.SMTP(*self.addresses[number], "client.test", timeout=DEADLINE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


class Starter:
    """Starts processes in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Running] = []
        self.environ = dict(os.environ)
        (folder / "mine.py").write_text(MINE)

    def start(self, *args: str, command: tuple[str, ...] = MODULE) -> Running:
        """Start one and wait until it listens."""
        running = Running((*command, *args), self.folder, self.environ)
        self.running.append(running)
        running.wait_ready()
        return running

    def run(self, *args: str, command: tuple[str, ...] = MODULE) -> tuple[int, str, str]:
        """Run one to its end, and give its exit status and both outputs."""
        running = Running((*command, *args), self.folder, self.environ)
        self.running.append(running)
        status = running.process.wait(DEADLINE)
        return status, running.out.read_text(), running.err.read_text()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for running in starter.running:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def send(running: Running, content: bytes = b"Subject: Hi\r\n\r\nHello\r\n") -> None:
    with running.client() as client:
        client.sendmail("a@example.com", ["b@example.com"], content)


def one_line(text: str) -> str:
    """The only line of ``text``."""
    assert text.count("\n") == 1, text
    return text.removesuffix("\n")


# Help and version.


def test_both_ways_to_run_it_are_the_same(cli: Starter) -> None:
    for option in ("--help", "-h"):
        helps = [cli.run(option, command=command) for command in (MODULE, SCRIPT)]
        assert helps[0] == helps[1]
        status, out, err = helps[0]
        assert (status, err) == (0, "")
        assert out.startswith("usage: smtp-server [-h]")
    for name in ("--nosetuid", "--class", "--size", "--smtputf8", "--debug", "--listen"):
        assert name in out
    assert "33554432" in out
    assert "debugging" in out


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_the_version(cli: Starter, command: tuple[str, ...]) -> None:
    for option in ("--version", "-v"):
        assert cli.run(option, command=command) == (0, f"smtp-server {__version__}\n", "")


# Running.


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
def test_it_prints_what_it_receives(cli: Starter, command: tuple[str, ...]) -> None:
    running = cli.start("-n", *HERE, command=command)
    send(running)
    assert running.stop() == 0
    out = running.out.read_text().splitlines()
    assert out[0] == "---------- MESSAGE FOLLOWS ----------"
    assert out[1:4] == ["mail options: ['SIZE=22']", "", "Subject: Hi"]
    assert out[4].startswith("X-Peer: ('127.0.0.1', ")
    assert out[5:] == ["", "Hello", "------------ END MESSAGE ------------"]
    line = one_line(running.err.read_text())
    host, port = running.addresses[0]
    assert line == f"smtp-server {__version__} listens on {host}:{port}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_gracefully(cli: Starter, number: signal.Signals) -> None:
    running = cli.start("-n", *HERE)
    with running.client() as client:
        client.noop()
        running.process.send_signal(number)
        assert client.getreply() == (421, b"4.3.2 Service shutting down")
        client.close()
    assert running.process.wait(DEADLINE) == 0
    one_line(running.err.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(cli: Starter, number: signal.Signals) -> None:
    running = cli.start("-n", *HERE, "--grace", "600", "-c", "mine.Stuck")
    idle = running.client()
    client = running.client()
    client.ehlo()
    client.mail("a@example.com")
    client.rcpt("b@example.com")
    client.docmd("DATA")
    client.send(".\r\n")
    running.wait_for(running.out.read_text)
    running.process.send_signal(number)
    closing = (421, b"4.3.2 Service shutting down")
    assert idle.getreply() == closing
    assert running.process.poll() is None
    assert running.stop(number) == 0
    assert client.getreply() == closing
    client.close()
    idle.close()
    one_line(running.err.read_text())


def test_several_listeners(cli: Starter) -> None:
    running = cli.start("-n", "-l", "127.0.0.1:0", "-l", "127.0.0.2:0", "--listen", "127.0.0.1:0")
    assert [host for host, _ in running.addresses] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    for number in range(3):
        with running.client(number) as client:
            assert client.noop()[0] == 250
    assert running.stop() == 0


@needs_ipv6
def test_an_ipv6_listener(cli: Starter) -> None:
    running = cli.start("-n", "-l", "[::1]:0")
    assert " listens on [::1]:" in one_line(running.err.read_text())
    with running.client() as client:
        assert client.noop()[0] == 250
    assert running.stop() == 0


def test_the_size_is_applied(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-s", "1000", "-c", "sink")
    with running.client() as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "1000"
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail("a@example.com", ["b@example.com"], b"x" * 2000)
        assert refused.value.smtp_code == 552
        del client.esmtp_features["size"]
        client.sendmail("a@example.com", ["b@example.com"], b"x" * 998 + b"\r\n")
        with pytest.raises(smtplib.SMTPDataError) as too_much:
            client.sendmail("a@example.com", ["b@example.com"], b"x" * 999 + b"\r\n")
        assert too_much.value.smtp_code == 552
    assert running.stop() == 0


def test_what_ehlo_says_by_default(cli: Starter) -> None:
    running = cli.start("-n", *HERE)
    with running.client() as client:
        _, message = client.ehlo()
    assert message.decode().splitlines()[1:] == ["SIZE 33554432", "8BITMIME", "HELP"]
    assert running.stop() == 0


def test_smtputf8(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-u", "stderr")
    with running.client() as client:
        client.ehlo()
        assert client.has_extn("smtputf8")
        client.sendmail("ä@example.com", ["ö@example.com"], b"x", ["SMTPUTF8"])
    assert running.stop() == 0
    assert running.out.read_text() == ""
    assert "'SMTPUTF8'" in running.err.read_text()


@pytest.mark.parametrize(
    ("options", "info", "debug", "asyncio"),
    [
        ((), False, False, False),
        (("-d",), True, False, False),
        (("-dd",), True, True, False),
        (("-d", "-d", "--debug"), True, True, True),
    ],
)
def test_debugging(
    cli: Starter, options: tuple[str, ...], info: bool, debug: bool, asyncio: bool
) -> None:
    environ = {"PYTHONASYNCIODEBUG": ""}
    cli.environ.update(environ)
    (cli.folder / "debug.py").write_text(
        "import asyncio, logging\n"
        "class Handler:\n"
        "    async def handle_NOOP(self, server, session, envelope, arg):\n"
        "        logging.getLogger('user').info('an info')\n"
        "        return f'250 {asyncio.get_running_loop().get_debug()}'\n"
    )
    running = cli.start("-n", *HERE, "-c", "debug.Handler", *options)
    with running.client() as client:
        assert client.noop()[1] == str(asyncio).encode()
    assert running.stop() == 0
    logged = running.err.read_text()
    assert ("INFO user: an info" in logged) is info
    assert ("DEBUG smtp_server: [" in logged) is info
    assert ("DEBUG smtp_server.commands: [" in logged) is debug


def test_one_debug_option_tells_of_clients_messages_and_refusals(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-d", "-s", "1000")
    with running.client() as client:
        client.sendmail("anne@example.com", ["bart@example.com", "cris@example.com"], "Hi")
        assert client.docmd("VRFY")[0] == 501
    assert running.stop() == 0
    lines = [line.partition("] ")[2] for line in running.err.read_text().splitlines()]
    assert any(line.startswith("Connection from ('127.0.0.1', ") for line in lines)
    assert (
        "Message from 'anne@example.com' to 'bart@example.com', 'cris@example.com', "
        "4 octets: '250 2.0.0 OK'"
    ) in lines
    assert "What the client sent refused: '501 5.5.4 Syntax: VRFY address'" in lines
    assert "Gone" in lines


# Handlers.


def test_a_handler_of_ones_own(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-c", "mine.Noisy")
    send(running)
    assert running.stop() == 0
    assert running.out.read_text() == "mine: a@example.com\n"


def test_an_installed_handler(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "--class", "sink")
    send(running)
    assert running.stop() == 0
    assert running.out.read_text() == ""


def test_a_handler_that_is_installed_by_its_path(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-c", "smtp_handlers.Debugging", "stderr")
    send(running)
    assert running.stop() == 0
    assert running.out.read_text() == ""
    assert "Subject: Hi" in running.err.read_text()


def test_arguments_for_the_handler(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "-c", "mine.Arguments", "one", "--", "two")
    assert running.stop() == 0
    assert running.out.read_text() == "arguments: one two\n"


# Whatever is wrong is said in one line.


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--no-such"], 2, "unrecognized arguments: --no-such"),
        (["-s", "much"], 2, "argument -s/--size: expected a whole number, not 'much'"),
        (["-s", "-5"], 2, "argument -s/--size: expected a whole number, not '-5'"),
        (["-l", "localhost:smtp"], 2, "with a port from 0 to 65535, not 'localhost:smtp'"),
        (["-l", ":70000"], 2, "with a port from 0 to 65535, not ':70000'"),
        (["-l", "[::1]:x"], 2, "with a port from 0 to 65535, not '[::1]:x'"),
        (["-c", "nothing"], 2, "there is no handler 'nothing'; there are debugging, "),
        (["-c", "no.such.module"], 2, "handler no.such.module: ModuleNotFoundError: No module"),
        (["-c", "mine.NoSuch"], 2, "cannot load the handler mine.NoSuch: AttributeError: "),
        (
            ["-c", "broken.Handler"],
            2,
            "handler broken.Handler: ZeroDivisionError: division by zero (broken.py, line 1)",
        ),
        (["-c", "leaves.Handler"], 2, "leaves.Handler: SystemExit: 0 (leaves.py, line 1)"),
        (["-c", "mine.not_a_class"], 2, "the handler mine.not_a_class is a int, which has no"),
        (["-c", "mine.Noisy", "x"], 2, "the handler mine.Noisy takes no arguments"),
        (["-c", "sink", "x"], 2, "the handler sink takes no arguments"),
        (["stdin"], 2, "the handler debugging takes one argument: stdout or stderr"),
        (["stdout", "stderr"], 2, "the handler debugging takes one argument: stdout or stderr"),
        (["-c", "mine.Arguments", "raise"], 2, "mine.Arguments: not these arguments"),
        (["-c", "mine.Arguments", "error"], 2, "no, thank you"),
        (["-c", "mine.Needs"], 2, "cannot make the handler mine.Needs: "),
        (["-c", "mine.Lacks"], 2, "mine.Lacks: KeyError: 'DATABASE' (mine.py, line 30)"),
        (["-l", "a..b:0"], 1, "cannot listen on "),
        (
            ["-c", "mine.Misspelt"],
            1,
            "Misspelt.handle_DATE is not a hook; did you mean",
        ),
        (["-l", "192.0.2.1:0"], 1, "cannot listen on 192.0.2.1:0: Cannot assign requested address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error(cli: Starter, args: list[str], status: int, said: str) -> None:
    (cli.folder / "broken.py").write_text("1 / 0")
    (cli.folder / "leaves.py").write_text("raise SystemExit(0)")
    listen = [] if "-l" in args else HERE
    result, out, err = cli.run("-n", *listen, *args)
    assert (result, out) == (status, "")
    line = one_line(err)
    assert line.startswith("smtp-server: ")
    assert said in line


def test_an_occupied_port(cli: Starter) -> None:
    first = cli.start("-n", *HERE)
    port = first.addresses[0][1]
    status, _, err = cli.run("-n", *HERE, "-l", f"127.0.0.1:{port}")
    assert status == 1
    expected = f"smtp-server: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert one_line(err) == expected
    assert first.stop() == 0


#: The command, when it has as many files open as it may have.
FEW_FILES = """
import os, resource
import smtp_server.cli, smtp_server.command.places, smtp_handlers.sink, encodings.idna
bind_tcp = smtp_server.command.places.bind_tcp
before, most = resource.getrlimit(resource.RLIMIT_NOFILE)

def bind(host, port):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) - 1, most))
    return bind_tcp(host, port)

smtp_server.command.places.bind_tcp = bind
try:
    smtp_server.cli.main(["-n", "-c", "sink", "-l", "127.0.0.1:0"])
finally:
    # What measures coverage opens files at exit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
"""


def test_too_few_descriptors_for_its_sockets(cli: Starter) -> None:
    status, out, err = cli.run(command=(sys.executable, "-c", FEW_FILES))
    assert (status, out) == (1, "")
    assert one_line(err).startswith("smtp-server: cannot listen on 127.0.0.1:0: Too many open")


def test_what_fails_when_it_begins_to_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def start(self: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("smtp_server.service.Service.start", start)
    with pytest.raises(SystemExit) as status:
        main(["-n", *HERE, "-c", "sink"])
    assert status.value.code == 1
    assert one_line(capsys.readouterr().err) == "smtp-server: Too many open files"


# On Windows, simulated: event loops take no signals, and several modules are not there.

WINDOWS_LIKE = """
import asyncio, os, signal, socket, sys

def refuse(self, *args):
    raise NotImplementedError

for name in ("add_signal_handler", "remove_signal_handler", "create_unix_server", "add_reader"):
    setattr(asyncio.SelectorEventLoop, name, refuse)
sys.modules["pwd"] = None
del signal.SIGHUP, os.setuid, os.setgid, os.setgroups
import smtp_server.cli
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
smtp_server.cli.main(sys.argv[1:])
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
print("restored", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_loop_without_signals_ends_gracefully_all_the_same(
    cli: Starter, number: signal.Signals
) -> None:
    running = cli.start("-n", *HERE, "-c", "sink", command=(sys.executable, "-c", WINDOWS_LIKE))
    with running.client() as client:
        client.noop()
        running.process.send_signal(number)
        assert client.getreply() == (421, b"4.3.2 Service shutting down")
        client.close()
    assert running.process.wait(DEADLINE) == 0
    assert running.out.read_text() == "restored\n"
    one_line(running.err.read_text())


def test_a_second_signal_without_signals_of_the_loop(cli: Starter) -> None:
    stuck = ("-n", *HERE, "--grace", "600", "-c", "mine.Stuck")
    running = cli.start(*stuck, command=(sys.executable, "-c", WINDOWS_LIKE))
    client = running.client()
    client.ehlo()
    client.mail("a@example.com")
    client.rcpt("b@example.com")
    client.docmd("DATA")
    client.send(".\r\n")
    running.wait_for(running.out.read_text)
    with running.client() as idle:
        running.process.send_signal(signal.SIGINT)
        assert idle.getreply() == (421, b"4.3.2 Service shutting down")
        idle.close()
    assert running.stop(signal.SIGTERM) == 0
    client.close()
    one_line(running.err.read_text())


def test_nobody_can_become_nobody_on_windows(cli: Starter) -> None:
    status, out, err = cli.run(*HERE, command=(sys.executable, "-c", WINDOWS_LIKE))
    assert (status, out) == (1, "")
    expected = "smtp-server: cannot become the user 'nobody'; use -n to stay who you are"
    assert one_line(err) == expected


# Becoming nobody.

AS_ROOT = os.name == "posix" and os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")

# What runs as somebody else cannot write coverage data, nor perhaps read the interpreter's own
# files: everything is imported first.
AS_SOMEBODY = """
import os, pwd, sys, asyncio, encodings.idna
import smtp_server.cli, smtp_server.command.program, smtp_handlers.debugging
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
smtp_server.cli.main(sys.argv[1:])
"""


def without_coverage(cli: Starter) -> Starter:
    for name in [name for name in cli.environ if name.startswith("COVERAGE_")]:
        del cli.environ[name]
    return cli


def has_nobody() -> bool:
    try:
        pwd.getpwnam("nobody")
    except KeyError:
        return False
    return True


needs_nobody = pytest.mark.skipif(not has_nobody(), reason="there is no user nobody")


@needs_nobody
def test_without_the_right_to_become_nobody(cli: Starter) -> None:
    command = (sys.executable, "-c", AS_SOMEBODY) if AS_ROOT else MODULE
    status, out, err = without_coverage(cli).run(*HERE, command=command)
    assert (status, out) == (1, "")
    expected = "smtp-server: cannot become the user 'nobody'; use -n to stay who you are"
    assert one_line(err) == expected


def free_port_of_root() -> int:
    import socket

    for port in range(1023, 600, -1):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


@needs_root
@needs_nobody
def test_it_binds_and_then_becomes_nobody(cli: Starter) -> None:
    nobody = pwd.getpwnam("nobody")
    port = free_port_of_root()
    running = without_coverage(cli).start("-l", f"127.0.0.1:{port}")
    assert running.addresses == [("127.0.0.1", port)]
    status = Path(f"/proc/{running.process.pid}/status")
    if status.exists():
        fields = dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", status.read_text(), re.M))
        assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert fields["Groups"] == ""
    send(running)
    assert running.stop() == 0
    assert "Subject: Hi" in running.out.read_text()
    one_line(running.err.read_text())


class Calls:
    """What is called in the place of the functions that change who the process is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuse: str | None = None) -> None:
        self.made: list[str] = []
        for name in ("setgroups", "setgid", "setuid"):
            monkeypatch.setattr(f"os.{name}", self._function(name, name == refuse))
        monkeypatch.setattr("smtp_server.command.places.bind_tcp", self._bind)

    def _function(self, name: str, refuse: bool) -> Callable[[Any], None]:
        def call(argument: object) -> None:
            self.made.append(name)
            if refuse:
                raise PermissionError(name)

        return call

    def _bind(self, host: str, port: int) -> list[Any]:
        self.made.append("bind")
        return []


@needs_nobody
def test_the_order_of_becoming_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Calls(monkeypatch)
    with pytest.raises(SystemExit) as status:
        main([*HERE, "stdin"])
    assert status.value.code == 2
    assert calls.made == ["bind", "setgroups", "setgid", "setuid"]
    assert "debugging takes one argument" in one_line(capsys.readouterr().err)


@needs_nobody
def test_becoming_nobody_where_the_system_does_not_know_that_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose users are mapped."""
    Calls(monkeypatch)

    def setgid(number: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.setgid", setgid)
    with pytest.raises(SystemExit) as status:
        main([*HERE])
    assert status.value.code == 1
    assert "use -n" in one_line(capsys.readouterr().err)


@needs_nobody
@pytest.mark.parametrize("refuse", ["setgroups", "setgid", "setuid"])
def test_becoming_nobody_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refuse: str
) -> None:
    calls = Calls(monkeypatch, refuse)
    with pytest.raises(SystemExit) as status:
        main([*HERE])
    assert status.value.code == 1
    assert calls.made[-1] == refuse
    assert "use -n" in one_line(capsys.readouterr().err)


def test_there_is_no_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", nobody)
    with pytest.raises(SystemExit) as status:
        main([*HERE])
    assert status.value.code == 1
    assert "use -n" in one_line(capsys.readouterr().err)


# Arguments, without a process.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("localhost", 8025)),
        (":", ("localhost", 8025)),
        (":25", ("localhost", 25)),
        ("mx.test", ("mx.test", 8025)),
        ("mx.test:", ("mx.test", 8025)),
        ("mx.test:0", ("mx.test", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]:25", ("::1", 25)),
        ("[::1]", ("::1", 8025)),
        ("::1", ("::1", 8025)),
        ("::", ("::", 8025)),
        ("2001:db8::1:25", ("2001:db8::1:25", 8025)),
    ],
)
def test_an_address(text: str, address: tuple[str, int]) -> None:
    [place] = parseargs(["-l", text])[1].listen
    assert (place.host, place.port) == address


NO_NUMBERS = ["x", "1_0", "1.0", "0x10", "1e3", "9" * 21, "9" * 5000, "\u0661", "\uff11", "\u00b2"]


@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: ascii(text)[:12])
@pytest.mark.parametrize("option", ["-s", "-l"])
def test_only_the_digits_of_ascii_are_numbers(
    capsys: pytest.CaptureFixture[str], option: str, text: str
) -> None:
    with pytest.raises(SystemExit) as status:
        parseargs([option, f":{text}" if option == "-l" else text])
    assert status.value.code == 2
    assert ": expected " in one_line(capsys.readouterr().err)


def test_arguments_by_default() -> None:
    parser, namespace = parseargs([])
    assert parser.prog == "smtp-server"
    assert [str(place) for place in namespace.listen] == ["localhost:8025"]
    assert namespace.size == 33554432
    assert namespace.handler_class.__name__ == "Debugging"
    assert namespace.arguments == ()
    assert (namespace.nosetuid, namespace.smtputf8, namespace.debug) == (False, False, 0)
    assert [str(place) for place in parseargs(["-l"])[1].listen] == ["localhost:8025"]


def test_sockets_are_closed_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["-n", *HERE, "-c", "sink", "x"])
    assert status.value.code == 2
    with pytest.raises(SystemExit) as status:
        main(["-n", *HERE, "-l", "192.0.2.1:0"])
    assert status.value.code == 1
    assert "cannot listen on" in capsys.readouterr().err


# TLS.

CERTIFICATE = str(Path(testing.__file__).with_name("localhost.pem"))
KEY = str(Path(testing.__file__).with_name("localhost-key.pem"))


def test_starttls(cli: Starter) -> None:
    running = cli.start("-n", "-l", "127.0.0.1:0", "--tlscert", CERTIFICATE, "--tlskey", KEY)
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    with running.client() as client:
        assert client.ehlo()[0] == 250
        assert client.docmd("MAIL", "FROM:<a@b.example>")[0] == 530
        assert client.starttls(context=trust)[0] == 220
        client.sendmail("a@b.example", ["c@d.example"], b"Subject: Hi\r\n\r\nHello\r\n")
    running.process.send_signal(signal.SIGHUP)
    with running.client() as client:
        assert client.starttls(context=trust)[0] == 220
    assert running.stop() == 0


def test_starttls_that_nobody_has_to_use(cli: Starter) -> None:
    options = ("--tlscert", CERTIFICATE, "--tlskey", KEY, "--no-requiretls")
    running = cli.start("-n", "-l", "127.0.0.1:0", *options)
    with running.client() as client:
        client.ehlo()
        assert client.docmd("MAIL", "FROM:<a@b.example>")[0] == 250
    assert running.stop() == 0


def test_tls_from_the_beginning(cli: Starter) -> None:
    running = cli.start("-n", "-l", "127.0.0.1:0", "--smtpscert", CERTIFICATE, "--smtpskey", KEY)
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    host, port = running.addresses[0]
    with smtplib.SMTP_SSL(host, port, "client.test", timeout=DEADLINE, context=trust) as client:
        client.sendmail("a@b.example", ["c@d.example"], b"Subject: Hi\r\n\r\nHello\r\n")
    assert running.stop() == 0


def test_certificates_that_have_gone_stay_in_use(cli: Starter) -> None:
    mine = cli.folder / "mine.pem"
    mine.write_text(Path(CERTIFICATE).read_text() + Path(KEY).read_text())
    running = cli.start("-n", "-l", "127.0.0.1:0", "--tlscert", str(mine))
    mine.unlink()
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: "The TLS certificates stay as they are" in running.err.read_text())
    with running.client() as client:
        assert client.starttls(context=ssl.create_default_context(cafile=CERTIFICATE))[0] == 220
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--tlscert", "none.pem"), "cannot use the certificate none.pem"),
        (("--tlskey", "none.pem"), "the key none.pem needs its certificate"),
    ],
)
def test_certificates_that_are_not_there(cli: Starter, args: tuple[str, ...], said: str) -> None:
    status, _, err = cli.run("-n", "-l", "127.0.0.1:0", *args)
    assert status == 1
    assert said in one_line(err)
