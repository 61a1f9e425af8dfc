"""The files for deployment: their own programs accept them, and they work together."""

import contextlib
import re
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.support import DEADLINE
from tests.server.test_cli import HERE, MODULE, Running, Starter

DEPLOY = Path(__file__).parent / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
HAPROXY = (DEPLOY / "haproxy.cfg").read_text("utf-8")
UNITS = ("smtp-server.service", "smtp-server.socket")


def find(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return path or pytest.skip(f"{program} is not installed")


# Each file by itself.


def test_the_units(tmp_path: Path) -> None:
    program = find("systemd-analyze")
    script = tmp_path / "smtp-server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    for name in UNITS:
        text = (DEPLOY / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("/opt/smtp-server/bin/smtp-server", str(script)))
    units = [str(tmp_path / name) for name in UNITS]
    verified = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    said = verified.stdout + verified.stderr
    if "Failed to initialize manager" in said or "No such file or directory" in said:
        pytest.skip(f"systemd-analyze cannot work here: {said}")
    assert (verified.returncode, said) == (0, "")


def test_the_configuration_of_haproxy() -> None:
    command = [find("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower()


@pytest.mark.parametrize("name", ["smtp-server.service", "Containerfile", "compose.yaml"])
def test_the_options_are_those_of_the_command(name: str) -> None:
    text = re.sub(r"(?m)^\s*#.*|^(?:RUN|COPY) .*", "", (DEPLOY / name).read_text("utf-8"))
    told = set(re.findall(r"(?<=[ \"-])--[a-z][a-z-]+", text))
    there = set(
        re.findall(r"--[a-z][a-z-]+", subprocess.check_output([*MODULE, "--help"], text=True))
    )
    assert told
    assert told - there == set()


def test_the_addresses_are_the_same_in_both_files() -> None:
    servers = re.findall(r"server \w+ ([\d.]+):8025", HAPROXY)
    proxy, *others = re.findall(r"ipv4_address: ([\d.]+)", COMPOSE)
    assert len(servers) == 2
    assert servers == others
    assert f"--trusted-proxies={proxy}\n" in COMPOSE
    assert re.findall(r'"25:(\d+)"', COMPOSE) == re.findall(r"bind :(\d+)", HAPROXY)


# The whole, without containers.


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for running in starter.running:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@contextlib.contextmanager
def haproxy(cli: Starter, servers: list[Running]) -> Iterator[tuple[str, int]]:
    """HAProxy with its configuration, in which only the addresses are others."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = HAPROXY.replace("bind :2525", f"bind fd@{listener.fileno()}")
        for server in servers:
            host, port = server.addresses[0]
            text = re.sub(r"10\.89\.25\.\d+:8025", f"{host}:{port}", text, count=1)
        config = cli.folder / "haproxy.cfg"
        config.write_text(text.replace("inter 5s", "inter 100ms"))
        listener.set_inheritable(True)
        log = cli.folder / "haproxy.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [find("haproxy"), "-db", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
            )
        address = listener.getsockname()
    try:
        yield address
        assert process.poll() is None
        assert "DOWN" not in log.read_text()
    finally:
        process.kill()
        process.wait()


#: It prints whom it sees as the client of each message.
TELLS = """
class Peer:
    async def handle_DATA(self, server, session, envelope):
        print(*session.peer, flush=True)
        return "250 OK"
"""


def wait_for_session(server: Running) -> None:
    """Wait until there has been one."""
    server.wait_for(lambda: "Gone" in server.err.read_text())


def test_mail_by_way_of_haproxy(cli: Starter) -> None:
    (cli.folder / "tells.py").write_text(TELLS)
    options = re.findall(r"- (--(?:proxy-protocol|hostname)\S*)", COMPOSE)
    assert len(options) == 2
    options += ["--trusted-proxies=127.0.0.1", "--workers=2", "-d", "-c", "tells.Peer"]
    servers = [cli.start("-n", *HERE, *options) for _ in range(2)]
    peers = []
    with haproxy(cli, servers) as address:
        for _ in range(8):
            with smtplib.SMTP(*address, "client.test", timeout=DEADLINE) as client:
                assert client.sock is not None
                peers.append(client.sock.getsockname())
                client.sendmail("a@example.com", ["b@example.com"], "Hi")
        for server in servers:
            wait_for_session(server)  # HAProxy's checks are sessions, too
    assert [server.stop() for server in servers] == [0, 0]
    printed = "".join(server.out.read_text() for server in servers)
    assert sorted(printed.splitlines()) == sorted(f"{host} {port}" for host, port in peers)
