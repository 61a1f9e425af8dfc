"""Handed over: real sockets, as systemd would hand them over."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from smtp_server.command.handed import adopt, from_environ


def test_a_socket_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        ours.set_inheritable(True)
        address, number = ours.getsockname(), ours.detach()
        with adopt(number) as sock:
            assert sock.fileno() == number
            assert sock.getsockname() == address
            assert sock.proto == socket.IPPROTO_TCP
            assert not sock.get_inheritable()


def test_a_unix_socket_is_taken() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(Path(folder) / "socket"))
        ours.listen()
        with adopt(ours.detach()) as sock:
            assert sock.family is socket.AF_UNIX


def connected() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname())


KINDS: dict[str, Callable[[], socket.socket]] = {
    "not listening": socket.socket,
    "connected, as with Accept=yes": connected,
    "of datagrams": lambda: socket.socket(type=socket.SOCK_DGRAM),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_cannot_be_listened_on(kind: str) -> None:
    with KINDS[kind]() as sock:
        with pytest.raises(OSError, match=f"descriptor {sock.fileno()}: its socket does not"):
            adopt(sock.fileno())
        os.fstat(sock.fileno())  # it is still open, and its owner's


def test_no_socket() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="it is no socket"):
        adopt(read)
    os.close(read)
    with pytest.raises(OSError, match="it is no socket"):
        adopt(read)
    os.close(write)


@pytest.mark.parametrize(
    "changes",
    [
        {"LISTEN_PID": "1"},
        {"LISTEN_PID": ""},
        {"LISTEN_FDS": "0"},
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDS": "many"},
        {"LISTEN_FDS": "\u0661"},
    ],
    ids=str,
)
def test_an_environment_that_is_not_for_us(changes: dict[str, str]) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
    environ |= {"OTHER": "x", **changes}
    assert from_environ(environ) == []
    assert environ == {"OTHER": "x"}
    assert from_environ(environ) == []


#: It opens two sockets, from number 3 on, and then becomes a program that takes them.
OPENS = """
import os, socket, sys
os.closerange(3, 50)
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
assert [sock.fileno() for sock in sockets] == [3, 4]
for sock in sockets:
    sock.set_inheritable(True)
    print(sock.getsockname())
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": sys.argv[1]}
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""

TAKES = """
import os
from smtp_server.command.handed import adopt, from_environ
for number, name in from_environ(os.environ):
    print(adopt(number).getsockname(), name)
"""


@pytest.mark.parametrize("names", ["smtp:lmtp", "smtp", ""])
def test_sockets_are_taken_by_number_and_name(names: str) -> None:
    lines = subprocess.check_output(
        [sys.executable, "-c", OPENS, names, TAKES], text=True
    ).splitlines()
    called = [*names.split(":"), "", ""]
    assert lines[2:] == [f"{address} {called[i]}" for i, address in enumerate(lines[:2])]
