"""Service: several listeners, one life, and an end that loses nothing."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.secure import connect_tls, shared_server_context
from tests.server.support import (
    DEADLINE,
    SHORT,
    Dialogue,
    Gate,
    Keeper,
    dialogue,
    eventually,
    talking,
    tcp_address,
)

from smtp_handlers import Sink
from smtp_protocol import Envelope, Server, Session
from smtp_server import SMTP, Service, serve
from smtp_server.listeners import BACKLOG

CLOSING = "421 4.3.2 Service shutting down"


def sink_service(*sockets: socket.socket) -> Service:
    return Service(lambda: SMTP(Sink()), sockets)


async def refuses_connections(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except ConnectionRefusedError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


# Listening.


async def test_a_service_and_its_address() -> None:
    async with serve(Sink(), "127.0.0.1", 0) as service:
        address = tcp_address(service)
        assert address[0] == "127.0.0.1"
        assert address[1] > 0
        assert len(service.servers) == 1
        async with talking(service) as client:
            assert await client.deliver() == "250 OK"
    assert service.addresses == []
    assert service.servers == []
    assert await refuses_connections(address)


async def test_several_listeners(tmp_path: Path) -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0)
    service.listen("127.0.0.2", 0)
    service.listen_unix(tmp_path / "smtp.sock")
    async with service:
        assert len(service.addresses) == 3
        assert service.addresses[2] == str(tmp_path / "smtp.sock")
        for address in service.addresses:
            async with await Dialogue.connect(address) as client:
                assert (await client.reply()).startswith("220 ")
                assert await client.deliver() == "250 Kept"
    assert len(handler.envelopes) == 3
    peers = [session.peer_host for session in handler.sessions]
    assert peers == ["127.0.0.1", "127.0.0.1", "local"]
    assert handler.sessions[2].peer is None


async def test_host_and_port_for_whoever_writes_the_first_program(tmp_path: Path) -> None:
    service = serve(Sink(), unix_socket=tmp_path / "smtp.sock")
    service.listen("127.0.0.2", 0)
    service.listen("127.0.0.1", 0)
    async with service:
        assert (service.hostname, service.port) == service.addresses[1]
        async with await Dialogue.connect((service.hostname, service.port)) as client:
            assert (await client.reply()).startswith("220 ")


async def test_a_service_without_host_and_port_says_why(tmp_path: Path) -> None:
    service = serve(Sink(), unix_socket=tmp_path / "smtp.sock")
    with pytest.raises(RuntimeError, match=r"does not listen.*start it"):
        _ = service.port
    async with service:
        with pytest.raises(RuntimeError, match=r"no host and port: it listens on .*smtp\.sock"):
            _ = service.hostname
    with pytest.raises(RuntimeError, match="does not listen"):
        _ = service.port


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serve(Sink(), unix_socket=path) as service, talking(service) as client:
        assert service.addresses == [str(path)]
        assert await client.ask("NOOP") == "250 OK"
    assert not path.exists()


async def test_a_unix_socket_that_somebody_else_took_over(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with serve(Sink(), unix_socket=path):
        path.unlink()
        path.write_text("not ours")
    assert path.read_text() == "not ours"
    path.unlink()
    async with serve(Sink(), unix_socket=path):
        path.unlink()


async def test_sockets_that_were_bound_before() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [sock.getsockname() for sock in sockets]
    async with serve(Sink(), sockets=sockets) as service:
        assert service.addresses == addresses
        for address in addresses:
            async with await Dialogue.connect(address) as client:
                assert (await client.reply()).startswith("220 ")
    assert [sock.fileno() for sock in sockets] == [-1, -1]


async def test_no_listener_at_all() -> None:
    async with sink_service() as service:
        assert service.addresses == []
        forever = asyncio.create_task(service.serve_forever())
        await asyncio.sleep(0)
        assert not forever.done()
        await service.close()
        await forever


async def test_an_occupied_port_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        service = sink_service()
        service.listen_unix(tmp_path / "smtp.sock")
        service.listen("127.0.0.1", 0)
        service.listen("127.0.0.1", other.getsockname()[1])
        with pytest.raises(OSError, match="cannot listen on 127"):
            await service.start()
        assert service.addresses == []
        other.close()
        async with service:
            assert len(service.addresses) == 3


async def test_a_socket_that_cannot_listen_leaves_nothing_behind() -> None:
    good = socket.create_server(("127.0.0.1", 0))
    address = good.getsockname()
    bad = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service = sink_service(good, bad)
    with pytest.raises(ValueError, match="Stream Socket"):
        await service.start()
    assert service.addresses == []
    assert (good.fileno(), bad.fileno()) == (-1, -1)
    assert await refuses_connections(address)
    # Nor in the loop: descriptors are given out again.
    async with sink_service() as other:
        other.listen("127.0.0.1", 0)
        await other.start()
        async with talking(other) as client:
            assert await client.ask("NOOP") == "250 OK"


async def test_starting_twice() -> None:
    async with serve(Sink(), "127.0.0.1", 0) as service:
        with pytest.raises(RuntimeError, match="running already"):
            await service.start()
        async with talking(service) as client:
            assert await client.ask("NOOP") == "250 OK"


async def test_starting_again() -> None:
    service = serve(Sink(), "127.0.0.1", 0)
    for _ in range(3):
        async with service, talking(service) as client:
            assert await client.ask("NOOP") == "250 OK"


async def test_a_wrong_keyword_is_an_error_at_once() -> None:
    wrong: dict[str, Any] = {"tiemout": 3}
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        serve(Sink(), **wrong)


# Serving for ever.


async def test_serving_ends_when_it_is_closed() -> None:
    async with serve(Sink(), "127.0.0.1", 0) as service:
        serving = asyncio.create_task(service.serve_forever())
        async with talking(service) as client:
            assert await client.ask("NOOP") == "250 OK"
            assert not serving.done()
            await service.close()
            assert await client.reply() == CLOSING
        async with asyncio.timeout(DEADLINE):
            await serving


async def test_serving_is_cancelled() -> None:
    handler = Keeper()
    started: asyncio.Future[Service] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with serve(handler, "127.0.0.1", 0) as service:
            started.set_result(service)
            await service.serve_forever()

    task = asyncio.create_task(run())
    service = await started
    address = tcp_address(service)
    async with talking(service) as client:
        task.cancel()
        assert await client.rest() == f"{CLOSING}\r\n"
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert handler.gone == handler.sessions
    assert await refuses_connections(address)


# The end.


async def test_idle_sessions_get_421() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as fresh, talking(service) as greeted:
        await greeted.ask("EHLO client.test")
        await service.close()
        assert await fresh.rest() == f"{CLOSING}\r\n"
        assert await greeted.rest() == f"{CLOSING}\r\n"
    assert len(handler.gone) == 2


async def test_a_running_hook_finishes_and_is_answered() -> None:
    handler = Gate()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    address = tcp_address(service)
    async with talking(service) as client:
        await client.begin_data()
        await client.send("body\r\n.\r\n")
        await handler.wait_reached()
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        assert await refuses_connections(address)
        assert not closing.done()
        handler.opened.set()
        assert await client.rest() == f"250 Kept\r\n{CLOSING}\r\n"
        await closing
    assert len(handler.envelopes) == 1
    assert handler.gone == handler.sessions


async def test_a_message_that_is_still_coming_is_taken() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.begin_data()
        await client.send("the first half\r\n")
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        assert await client.ask("the second\r\n.") == "250 Kept"
        assert await client.rest() == f"{CLOSING}\r\n"
        await closing
    assert handler.envelopes[0].content == b"the first half\r\nthe second\r\n"


async def test_a_transaction_goes_on_until_it_ends() -> None:
    service = serve(Sink(), "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<a@example.com>")
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        assert await client.ask("RCPT TO:<b@example.com>") == "250 OK"
        assert await client.ask("RSET") == "250 OK"
        assert await client.rest() == f"{CLOSING}\r\n"
        await closing


async def test_the_grace_is_over() -> None:
    handler = Gate()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as slow, talking(service) as waiting:
        await slow.begin_data()
        await slow.send("body\r\n.\r\n")
        await handler.wait_reached()
        await waiting.begin_data()
        await service.close(grace=SHORT)
        assert await slow.rest() == f"{CLOSING}\r\n"
        assert await waiting.rest() == f"{CLOSING}\r\n"
    assert handler.envelopes == []
    assert len(handler.gone) == 2


async def test_a_hook_between_messages_is_waited_for() -> None:
    reached, opened = asyncio.Event(), asyncio.Event()

    class SlowNoop(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            reached.set()
            await opened.wait()
            return "250 Slow"

    service = serve(SlowNoop(), "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.send("NOOP\r\nNOOP\r\n")
        await reached.wait()
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        opened.set()
        assert await client.rest() == f"250 Slow\r\n{CLOSING}\r\n"
        await closing


async def test_a_goodbye_is_waited_for() -> None:
    opened = asyncio.Event()

    class SlowGoodbye(Keeper):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
            await opened.wait()
            await super().handle_DISCONNECT(server, session)

    handler = SlowGoodbye()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        assert await client.rest() == f"{CLOSING}\r\n"
        assert not closing.done()
        opened.set()
        await closing
    assert handler.gone == handler.sessions


async def test_a_goodbye_that_never_ends_does_not_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtp_server.service._CLEANING", SHORT, raising=False)

    class Clings(Keeper):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
            await super().handle_DISCONNECT(server, session)
            await asyncio.Event().wait()

    handler = Clings()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service):
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=SHORT)
        await eventually(lambda: handler.gone)


async def test_a_hook_that_does_not_want_to_end_does_not_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtp_server.service._CLEANING", SHORT, raising=False)
    reached, opened = asyncio.Event(), asyncio.Event()

    class Ignores(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            reached.set()
            while not opened.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await opened.wait()
            return "250 OK"

    handler = Ignores()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.send("NOOP\r\n")
        await reached.wait()
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=SHORT)
        assert await client.rest() == f"{CLOSING}\r\n"
        assert handler.gone == []
        opened.set()
        await eventually(lambda: handler.gone)


async def test_closing_twice() -> None:
    handler = Gate()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.begin_data()
        await client.send(".\r\n")
        await handler.wait_reached()
        first = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        await service.close(grace=0)
        await first
        assert await client.rest() == f"{CLOSING}\r\n"
    await service.close()


async def test_closing_over_a_peer_that_does_not_read() -> None:

    class Long(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return "250 " + "x" * 1000

    handler = Long()
    service = serve(handler, "127.0.0.1", 0, timeout=None)
    await service.start()
    async with talking(service) as client:
        transport = client.stop_reading()
        await client.flood(f"NOOP {'x' * 1000}\r\n")
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=SHORT)
        transport.abort()
    assert handler.gone == handler.sessions


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc on this system")
async def test_no_descriptor_is_lost() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with dialogue(Sink()):
        """Whatever is made once has been made."""
    before = descriptors()
    for _ in range(5):
        async with dialogue(Sink()) as client:
            await client.ask("QUIT")
    await eventually(lambda: descriptors() <= before)


# TLS from the beginning.


@pytest.mark.parametrize("watched", [True, False])
async def test_tls_begins_with_the_connection(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on Windows, whose event loop cannot watch a socket."""
    if not watched:

        def refuse(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr("smtp_server.service.TLSListener", refuse)
    service = serve(Sink(), "127.0.0.1", 0, ssl_context=shared_server_context())
    async with service, await connect_tls(tcp_address(service)) as client:
        assert (await client.reply()).startswith("220 ")
        assert await client.ask("NOOP") == "250 OK"


def test_all_contexts_are_made_anew_though_one_fails() -> None:
    asked: list[str] = []

    def first() -> ssl.SSLContext:
        asked.append("first")
        if len(asked) > 2:
            raise OSError("no such file")
        return shared_server_context()

    def second() -> ssl.SSLContext:
        asked.append("second")
        return shared_server_context()

    service = Service(partial(SMTP, Sink(), tls_context=second), ssl_context=first)
    service.setups.make(partial(SMTP, Sink(), tls_context=second))
    assert asked == ["first", "second"]
    with pytest.raises(OSError, match="no such file"):
        service.reload_tls()
    assert asked == ["first", "second", "first", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the backlog of a socket")
@pytest.mark.parametrize("implicit", [False, True], ids=["plain", "implicit"])
async def test_asyncio_does_not_change_the_backlog(implicit: bool) -> None:
    service = serve(
        Sink(), "127.0.0.1", 0, ssl_context=shared_server_context() if implicit else None
    )
    async with service:
        for server in service.servers:
            for sock in server.sockets:
                # A struct tcp_info: eight octets, and numbers, of which the sixth is the backlog.
                told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
                assert struct.unpack("8x6I", told)[5] == BACKLOG
