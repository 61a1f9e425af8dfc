"""Stopping a test server: nobody is waited for but a client that is about to say QUIT."""

import asyncio
import logging
import smtplib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.testing_kit.test_server import DIALOGUES, LIMIT, connect, send

from smtp_server.testing import SMTPServer, TLSMode, faults

each_tls = pytest.mark.parametrize("tls", [None, "starttls", "implicit"])
to_the_message = DIALOGUES["DATA"][0]


class WindowsLike(asyncio.SelectorEventLoop):
    """An event loop that cannot watch a socket, as Windows' cannot."""

    def add_reader(self, *arguments: object) -> None:
        raise NotImplementedError


@pytest.fixture(params=["this system", "Windows"], autouse=True)
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Windows":
        monkeypatch.setattr(asyncio, "new_event_loop", WindowsLike)


def stop_at_once(server: SMTPServer, caplog: pytest.LogCaptureFixture) -> None:
    """Stop a server that would have the time to wait, and see that it does not."""
    begin = time.monotonic()
    server.stop(grace=LIMIT)
    assert time.monotonic() - begin < LIMIT / 2
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@each_tls
@pytest.mark.parametrize("lines", range(len(to_the_message) + 1))
def test_a_client_in_any_state_is_cut(
    tls: TLSMode | None, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = SMTPServer(tls=tls)
    server.start()
    client = connect(server)
    for line in to_the_message[:lines]:
        assert client.docmd(line)[0] < 400
    if lines == len(to_the_message):
        client.send("half of a line")
    stop_at_once(server, caplog)
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        client.noop()
    client.close()


@each_tls
def test_a_client_that_has_begun_another_transaction_is_cut(
    tls: TLSMode | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = SMTPServer(tls=tls)
    server.start()
    client = connect(server)
    send(client)
    assert client.mail("anne@example.com")[0] == 250
    stop_at_once(server, caplog)
    client.close()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02"], ids=["nothing", "a part"])
def test_a_client_in_its_handshake_is_cut(
    tls: TLSMode, hello: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server = SMTPServer(tls=tls)
    server.start()
    with socket.create_connection((server.host, server.port), timeout=LIMIT) as client:
        if tls == "starttls":
            client.sendall(b"EHLO client.test\r\n")
            client.sendall(b"STARTTLS\r\n")
            with client.makefile("rb") as replies:
                assert any(line.startswith(b"220 2") or b"Ready" in line for line in replies)
        client.sendall(hello)
        stop_at_once(server, caplog)


@each_tls
def test_a_client_whose_hook_takes_its_time_is_cut(
    tls: TLSMode | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = SMTPServer(tls=tls)
    server.delay_next("DATA", 600)
    server.start()
    client = connect(server)
    for line in (*to_the_message, "."):
        client.putcmd(line)
    stop_at_once(server, caplog)
    assert server.messages == []
    client.close()


@each_tls
def test_a_client_whose_message_was_just_answered_may_say_quit(
    tls: TLSMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_QUITTING", LIMIT)  # however slow this machine is
    server = SMTPServer(tls=tls)
    server.start()
    done = threading.Event()

    def send_and_quit() -> tuple[int, bytes]:
        client = connect(server)
        send(client)
        done.set()
        return client.quit()

    with ThreadPoolExecutor() as pool:
        sender = pool.submit(send_and_quit)
        assert done.wait(LIMIT)
        server.stop(grace=LIMIT)
        assert sender.result(LIMIT)[0] == 221


@each_tls
def test_a_client_that_does_not_say_it_is_cut(
    tls: TLSMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_QUITTING", LIMIT)
    server = SMTPServer(tls=tls)
    server.start()
    client = connect(server)
    send(client)
    server.stop()
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        client.noop()
    assert len(server.messages) == 1
    client.close()


@each_tls
def test_a_client_that_has_been_silent_behind_its_message_is_cut(
    tls: TLSMode | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(faults, "_QUITTING", -1.0)  # as if that were long ago
    server = SMTPServer(tls=tls)
    server.start()
    client = connect(server)
    send(client)
    stop_at_once(server, caplog)
    client.close()
