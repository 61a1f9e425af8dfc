"""Listeners: sockets for every address of a host, all or none, and errors that say where."""

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.server.support import needs_ipv6

from smtp_server.listeners import bind_tcp, bind_unix, format_address, port_number

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


# What this system may lack.

WITHOUT_IPV6 = ["EADDRNOTAVAIL", "EAFNOSUPPORT", "EPFNOSUPPORT", "EPROTONOSUPPORT"]


class SocketWithoutIPv6(socket.socket):
    """A socket of a system without IPv6; each says so in its own way."""

    number = errno.EAFNOSUPPORT
    at_bind = False

    def __init__(self, family: int = -1, *args: Any, **keywords: Any) -> None:
        if family == socket.AF_INET6 and not self.at_bind:
            raise OSError(self.number, os.strerror(self.number))
        self.simulated = family == socket.AF_INET6
        super().__init__(socket.AF_INET if self.simulated else family, *args, **keywords)

    def setsockopt(self, *args: Any) -> None:
        """IPV6_V6ONLY is not for what stands in for it."""
        if not self.simulated:
            super().setsockopt(*args)

    def bind(self, address: Any) -> None:
        """Refuse it here."""
        if self.simulated:
            raise OSError(self.number, os.strerror(self.number))
        super().bind(address)


@pytest.mark.parametrize("at_bind", [False, True])
@pytest.mark.parametrize("name", WITHOUT_IPV6)
@pytest.mark.parametrize("hosts", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
def test_without_ipv6_in_the_kernel_that_family_is_left_out(
    monkeypatch: pytest.MonkeyPatch, hosts: list[str], name: str, at_bind: bool
) -> None:
    resolve_to(monkeypatch, *hosts)
    monkeypatch.setattr(SocketWithoutIPv6, "number", getattr(errno, name))
    monkeypatch.setattr(SocketWithoutIPv6, "at_bind", at_bind)
    monkeypatch.setattr("socket.socket", SocketWithoutIPv6)
    ((host, _),) = names(bind_tcp("both.test", 0))
    assert host == "127.0.0.1"
    resolve_to(monkeypatch, "::1")
    with pytest.raises(OSError, match=r"cannot listen on \[::1\]:0: ") as error:
        bind_tcp("::1", 0)
    assert error.value.errno == getattr(errno, name)


@pytest.mark.parametrize("lacking", ["AF_INET6", "has_ipv6", "not has_ipv6"])
def test_a_python_that_was_built_without_ipv6(
    monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Such a Python tells an address of IPv6 as a number and octets."""
    found: list[Any] = [
        (10, socket.SOCK_STREAM, 6, "", (10, b"octets")),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **keywords: found)
    if lacking == "not has_ipv6":
        monkeypatch.setattr("socket.has_ipv6", False)
    else:
        monkeypatch.delattr(f"socket.{lacking}")
    ((host, _),) = names(bind_tcp("both.test", 0))
    assert host == "127.0.0.1"
    del found[1]
    with pytest.raises(OSError, match=r"cannot listen on six\.test:0: Address family"):
        bind_tcp("six.test", 0)


def test_an_error_that_is_no_lack_closes_what_was_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "::1")
    monkeypatch.setattr(SocketWithoutIPv6, "number", errno.EMFILE)
    monkeypatch.setattr("socket.socket", SocketWithoutIPv6)
    with pytest.raises(OSError, match="Too many open files"):
        bind_tcp("both.test", 0)


def test_a_system_without_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python on Windows, where the module socket has no AF_UNIX."""
    monkeypatch.delattr("socket.AF_UNIX")
    with pytest.raises(OSError, match=r"smtp\.sock: this system has no Unix sockets") as error:
        bind_unix(tmp_path / "smtp.sock")
    assert error.value.errno == errno.EAFNOSUPPORT
    names(bind_tcp("127.0.0.1", 0))


def test_a_system_whose_socket_errors_have_their_own_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Windows, where `os.strerror` does not know 10048."""
    monkeypatch.setattr("os.name", "nt")

    def bind(*args: object) -> None:
        raise OSError(10048, "Only one usage of each socket address is permitted")

    monkeypatch.setattr("socket.socket.bind", bind, raising=False)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:25: Only one usage of each"):
        bind_tcp("127.0.0.1", 25)


def test_two_servers_cannot_have_one_port_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There SO_REUSEADDR, which elsewhere is for a quick start again, would let them."""
    options: list[int] = []

    def setsockopt(self: socket.socket, level: int, option: int, value: int) -> None:
        if level == socket.SOL_SOCKET:
            options.append(option)

    monkeypatch.setattr("socket.socket.setsockopt", setsockopt, raising=False)
    names(bind_tcp("127.0.0.1", 0))
    assert options == [socket.SO_REUSEADDR]
    monkeypatch.setattr("os.name", "nt")
    names(bind_tcp("127.0.0.1", 0))
    assert options == [socket.SO_REUSEADDR]


# Ports and hosts as text.


@pytest.mark.parametrize(
    ("port", "number"), [(0, 0), (25, 25), (65535, 65535), ("0", 0), ("8765", 8765), ("00025", 25)]
)
def test_a_port_as_a_number_or_as_text(port: int | str, number: int) -> None:
    assert port_number(port) == number


NO_PORTS: list[Any] = [
    -1,
    65536,
    "65536",
    "-1",
    "+25",
    " 25",
    "25\n",
    "2_5",
    "0x19",
    "smtp",
    "",
    "٢٥",  # digits of other scripts
    "\uff12\uff15",
    "²",
    "9" * 5000,
    25.0,
    None,
    b"25",
]


@pytest.mark.parametrize("port", NO_PORTS, ids=lambda port: repr(port)[:20])
def test_what_is_no_port_is_named(port: Any) -> None:
    with pytest.raises(ValueError, match="a port is a number from 0 to 65535, not ") as error:
        bind_tcp("127.0.0.1", port)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", ".test"])
def test_what_cannot_be_a_host_is_named(host: str) -> None:
    with pytest.raises(OSError, match="cannot listen on "):
        bind_tcp(host, 0)


def test_an_address_keeps_its_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link-local address means nothing without the number of its link."""
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 7))]
    bound: list[Any] = []

    def bind(self: socket.socket, address: Any) -> None:
        bound.append(address)

    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **keywords: found)
    for name in ("bind", "listen", "setsockopt"):
        monkeypatch.setattr(f"socket.socket.{name}", bind if name == "bind" else ignore)
    for sock in bind_tcp("fe80::1%eth0", 25):
        sock.close()
    assert bound == [("fe80::1", 25, 0, 7)]


def ignore(*args: object) -> None:
    """Do nothing."""


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


def test_a_tidy_socket_takes_its_file_with_it(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    for _ in range(2):
        sock = bind_unix(path, tidy=True)
        assert path.is_socket()
        sock.close()
        assert not path.exists()
        sock.close()


def test_a_tidy_socket_leaves_the_file_of_another(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    first = bind_unix(path, tidy=True)
    path.rename(tmp_path / "elsewhere")
    with bind_unix(path, tidy=True):
        first.close()
        assert path.is_socket()
    assert not path.exists()


def test_a_name_that_is_no_file() -> None:
    """Linux has such names; others refuse them."""
    name = f"\0smtp-server-{os.getpid()}"
    with contextlib.suppress(OSError), bind_unix(name, tidy=True) as sock:
        assert os.fsencode(sock.getsockname()) == os.fsencode(name)
        with pytest.raises(OSError, match="Address already in use"):
            bind_unix(name)


def test_a_server_whose_queue_is_full_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "smtp.sock")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)
        with pytest.raises(OSError, match="Address already in use"):
            bind_unix(path)


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
