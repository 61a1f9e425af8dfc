"""systemd: the command tells it what it does, and takes the sockets that it has opened."""

import random
import shutil
import signal
import smtplib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.support import DEADLINE
from tests.server.test_cli import HERE, MODULE, Running, Starter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is there on Linux alone")

each_number = pytest.mark.parametrize("workers", ["1", "2"])


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for running in starter.running:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """What systemd would listen on."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(DEADLINE)
        sock.bind(str(Path(folder) / "notify"))
        yield sock


def hear(manager: socket.socket, word: str) -> dict[str, str]:
    """Wait for a message, past the signs of life, and give its fields."""
    while (text := manager.recv(4096).decode()) == "WATCHDOG=1":
        pass
    assert text.startswith(f"{word}=1\n"), text
    return dict(line.split("=", 1) for line in text.splitlines())


@each_number
def test_what_systemd_hears(cli: Starter, manager: socket.socket, workers: str) -> None:
    cli.environ |= {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000"}
    running = cli.start("-n", *HERE, "--workers", workers, "-c", "sink")
    host, port = running.addresses[0]
    assert hear(manager, "READY")["STATUS"] == f"Listens on {host}:{port}"
    before = time.monotonic_ns() // 1000
    running.process.send_signal(signal.SIGHUP)
    assert int(hear(manager, "RELOADING")["MONOTONIC_USEC"]) > before
    hear(manager, "READY")
    for _ in range(3):
        assert manager.recv(4096) == b"WATCHDOG=1"
    assert running.stop() == 0
    hear(manager, "STOPPING")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_what_the_handler_finds_in_its_environment(cli: Starter, manager: socket.socket) -> None:
    """Nothing by which a program that it starts would talk to systemd for the server."""
    (cli.folder / "mine.py").write_text(
        "import os\n"
        "class Environ:\n"
        "    async def handle_NOOP(self, server, session, envelope, arg):\n"
        "        found = [name for name in os.environ if name.startswith(('NOTIFY', 'LISTEN'))]\n"
        "        return f'250 {found}'\n"
    )
    cli.environ |= {"NOTIFY_SOCKET": manager.getsockname(), "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    for workers in ("1", "2"):
        running = cli.start("-n", *HERE, "--workers", workers, "-c", "mine.Environ")
        with running.client() as client:
            assert client.noop() == (250, b"[]")
        assert running.stop() == 0


# Socket activation.


def activate(cli: Starter, listen: str, workers: str, *options: str) -> Running:
    """Have systemd's own program open a socket, and start the command for the first client."""
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("systemd-socket-activate is not installed")
    given = [f"--setenv={name}={value}" for name, value in cli.environ.items()]
    command = (program, "--listen", listen, *given, *options, *MODULE, "-n", "--workers", workers)
    command += ("-c", "mine.Noisy")
    running = Running(command, cli.folder, cli.environ)
    cli.running.append(running)
    running.wait_for(lambda: "Listening on " in running.err.read_text())
    return running


@each_number
def test_a_port_that_systemd_has_opened(cli: Starter, workers: str) -> None:
    # An address of this machine's own that nobody else has.
    host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"
    running = activate(cli, f"{host}:2525", workers, "--fdname=smtp")
    with smtplib.SMTP(host, 2525, "client.test", timeout=DEADLINE) as client:
        client.sendmail("a@example.com", ["b@example.com"], b"Subject: Hi\r\n\r\nHello\r\n")
    running.wait_ready()
    assert running.addresses == [(host, 2525)]
    assert running.stop() == 0
    assert "mine: a@example.com" in running.out.read_text()


@pytest.mark.parametrize(
    ("name", "verb"), [("lmtp", "LHLO"), ("smtp", "EHLO"), ("smtp-server.socket", "EHLO")]
)
def test_the_name_of_a_socket_says_what_is_spoken(cli: Starter, name: str, verb: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        running = activate(cli, path, "2", f"--fdname={name}")
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb", 0) as stream:
            client.settimeout(DEADLINE)
            client.connect(path)
            assert stream.readline().startswith(b"220 ")
            stream.write(f"{verb} client.test\r\n".encode())
            assert stream.readline().startswith(b"250-")
        running.wait_for(lambda: f" listens on {path}\n" in running.err.read_text())
        assert running.stop() == 0
