"""Listeners: sockets for every address of a host, all or none, and errors that say where."""

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.server.support import needs_ipv6

from smtp_server.listeners import bind_tcp, bind_unix, format_address

Found = list[tuple[socket.AddressFamily, int, int, str, tuple[Any, ...]]]


def names(sockets: Sequence[socket.socket]) -> list[tuple[Any, ...]]:
    """Where the sockets listen; they are closed."""
    found = []
    for sock in sockets:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        found.append(sock.getsockname()[:2])
        sock.close()
    return found


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses."""
    found: Found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0))
        if ":" in host
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
        for host in addresses
    ]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **keywords: found)


def test_a_free_port() -> None:
    ((host, port),) = names(bind_tcp("127.0.0.1", 0))
    assert host == "127.0.0.1"
    assert port > 0


def test_a_port_of_ones_own() -> None:
    ((_, port),) = names(bind_tcp("127.0.0.1", 0))
    assert names(bind_tcp("127.0.0.1", port)) == [("127.0.0.1", port)]


@pytest.mark.parametrize("host", [None, ""])
def test_every_address_of_the_machine(monkeypatch: pytest.MonkeyPatch, host: str | None) -> None:
    asked: list[Any] = []

    def getaddrinfo(*args: object, **keywords: object) -> Found:
        asked.append((*args, keywords["flags"]))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    names(bind_tcp(host, 0))
    assert asked == [(None, 0, socket.AI_PASSIVE)]


def test_a_name_with_the_same_address_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1", "127.0.0.2")
    first, second = names(bind_tcp("twice.test", 0))
    assert (first[0], second[0]) == ("127.0.0.1", "127.0.0.2")
    assert first[1] == second[1]


@needs_ipv6
def test_both_families_have_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "::1")
    first, second = names(bind_tcp("both.test", 0))
    assert (first[0], second[0]) == ("127.0.0.1", "::1")
    assert first[1] == second[1]


def test_an_address_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    ((host, _),) = names(bind_tcp("half.test", 0))
    assert host == "127.0.0.1"


def test_no_address_is_there() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: .*assign") as error:
        bind_tcp("192.0.2.1", 0)
    assert error.value.errno == errno.EADDRNOTAVAIL


def test_an_occupied_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
        ) as error:
            bind_tcp("127.0.0.1", port)
        assert error.value.errno == errno.EADDRINUSE


def test_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        with pytest.raises(OSError, match=f"cannot listen on both.test:{port}"):
            bind_tcp("both.test", port)
        with socket.create_server(("127.0.0.1", port)):
            """The first one was given back."""


def test_another_port_where_the_first_is_taken_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    ports: list[int] = []
    bind = socket.socket.bind

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            if address[1] == 0:
                bind(self, address)
                return
            ports.append(address[1])
            if len(ports) <= refusals:
                raise OSError(errno.EADDRINUSE, "taken")
            bind(self, address)

    monkeypatch.setattr("socket.socket", Socket)
    refusals = 3
    first, second = names(bind_tcp("both.test", 0))
    assert first[1] == second[1]
    assert len(ports) == 4
    refusals = 1000
    with pytest.raises(OSError, match=r"cannot listen on both\.test:0: Address already in use"):
        bind_tcp("both.test", 0)


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: object, **keywords: object) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host: Name or service"):
        bind_tcp("no.such.host", 0)


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises((OSError, ValueError), match=f"{port}"):
        bind_tcp("127.0.0.1", port)


# Unix sockets.


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with bind_unix(path) as sock:
        assert sock.getsockname() == str(path)


def test_a_unix_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = str(tmp_path / "smtp.sock")
    bind_unix(path).close()
    assert os.path.exists(path)
    with bind_unix(path):
        """The old one did not stand in the way."""


def test_a_unix_socket_that_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "smtp.sock")
    with bind_unix(path):
        with pytest.raises(OSError, match=f"cannot listen on {path}: Address already in use"):
            bind_unix(path)
        assert os.path.exists(path)


def test_a_file_in_the_place_of_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match=f"cannot listen on {path}: Address already in use"):
        bind_unix(path)
    assert path.read_text() == "precious"


def test_a_unix_socket_in_no_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on .*: No such file or directory"):
        bind_unix(tmp_path / "no" / "smtp.sock")


def test_a_unix_socket_with_too_long_a_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on .*too long"):
        bind_unix(tmp_path / ("x" * 200))


def test_addresses_as_text() -> None:
    assert format_address(("127.0.0.1", 25)) == "127.0.0.1:25"
    assert format_address(("::1", 25)) == "[::1]:25"
    assert format_address("/run/smtp.sock") == "/run/smtp.sock"
