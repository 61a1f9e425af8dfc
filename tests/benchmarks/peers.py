"""Peers: how ours and the others are started, each alone in a process, and why one cannot be."""

import importlib.metadata
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks.loads import CERTIFICATE, KEY, Missing, program

__all__ = ["PEERS", "Job", "Peer", "Running", "install_node", "running"]

#: What a server is started for. With ``stream``, ours gets the messages in pieces.
Job = Literal["data", "stream", "large", "large-stream", "tls", "lmtp"]

_HERE = Path(__file__).parent
_SECONDS = 30.0


@dataclass(frozen=True)
class Peer:
    """One server to be measured.

    Args:
        name: What the tables call it.
        command: The command that does a job on a port; ``None`` if it cannot do that job.
        version: Its version; raises `Missing` with the reason if it is not here.
        module: For a Python library, what a program imports of it.
    """

    name: str
    command: Callable[[Job, int], list[str] | None]
    version: Callable[[], str]
    module: str | None = None


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    pid: int
    port: int


def _python(name: str, library: str, loop: str, module: str) -> Peer:
    def command(job: Job, port: int) -> list[str]:
        files = [str(CERTIFICATE), str(KEY)] if job == "tls" else []
        script = str(_HERE / "servers.py")
        return [sys.executable, script, library, loop, job, str(port), *files]

    def version() -> str:
        needed = [library, "uvloop"] if loop == "uvloop" else [library]
        return ", ".join(f"{each} {_distribution(each)}" for each in needed)

    return Peer(name, command, version, module)


def _distribution(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Missing(f"{name} is not installed") from None


def _smtp_sink(job: Job, port: int) -> list[str] | None:
    if job == "tls":
        return None
    options = ["-L"] if job == "lmtp" else []
    if os.geteuid() == 0:
        options += ["-u", "nobody"]  # It refuses to run as root.
    # It would take no more than 256 connections at a time.
    return [program("smtp-sink"), *options, "-m", "100000", f"inet:127.0.0.1:{port}", "1024"]


def _postfix_version() -> str:
    program("smtp-sink")
    return "Postfix " + _output("postconf", "-d", "-h", "mail_version")


def _node(job: Job, port: int) -> list[str]:
    return ["node", str(_HERE / "peer.js"), job, str(port), str(CERTIFICATE), str(KEY)]


def _node_version() -> str:
    program("node")
    script = "process.version + ', smtp-server ' + require('smtp-server/package.json').version"
    try:
        return "Node.js " + _output("node", "-p", script)
    except Missing:
        raise Missing(
            "node does not find the package smtp-server: set NODE_PATH, or --install-node FOLDER"
        ) from None


def _output(*command: str) -> str:
    words = [program(command[0]), *command[1:]]
    try:
        return subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=_SECONDS
        ).stdout.strip()
    except subprocess.SubprocessError as error:
        raise Missing(f"{command[0]} cannot do it") from error


PEERS = (
    _python("ours", "smtp-server", "asyncio", "smtp_server"),
    _python("ours/uvloop", "smtp-server", "uvloop", "smtp_server"),
    _python("aiosmtpd", "aiosmtpd", "asyncio", "aiosmtpd.controller"),
    _python("aiosmtpd/uvloop", "aiosmtpd", "uvloop", "aiosmtpd.controller"),
    Peer("smtp-sink", _smtp_sink, _postfix_version),
    Peer("node", _node, _node_version),
)


def install_node(folder: Path) -> None:
    """Put npm's smtp-server into a folder, and let node find it there.

    Raises:
        Missing: npm could not do it.
    """
    modules = folder.resolve() / "node_modules"
    if not (modules / "smtp-server").exists():
        _output("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "smtp-server")
    os.environ["NODE_PATH"] = str(modules)


@contextmanager
def running(peer: Peer, job: Job) -> Iterator[Running]:
    """Start a server, and wait until its port takes connections.

    Raises:
        Missing: It does not come to listen.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = peer.command(job, port)
    assert command is not None
    # It ends with this process, whatever happens, for its standard input does.
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            _wait(peer, process, port)
            yield Running(process.pid, port)
        finally:
            process.kill()


def _wait(peer: Peer, process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.0005)
    raise Missing(f"{peer.name} does not listen")
