"""Life: time, peers that do not read or do not end, and the end of the service, on each way."""

import asyncio
import contextlib
import gc
import logging
import socket
from functools import partial

import pytest
from tests.server.secure import (
    Wire,
    WireName,
    connect_tls,
    server_context,
    shared_client_context,
    shared_server_context,
    start_tls,
)
from tests.server.support import (
    DEADLINE,
    SHORT,
    Dialogue,
    Gate,
    Keeper,
    Narrow,
    dialogue,
    eventually,
    talking,
    tcp_address,
)

from smtp_handlers import Sink
from smtp_protocol import AuthResult, Envelope, Server, Session
from smtp_server import SMTP, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HELLO = "EHLO client.test"
IDLE = "421 4.4.2 Idle for too long, closing the connection"
CLOSING = "421 4.3.2 Service shutting down"


# Time.


@pytest.mark.parametrize("name", ["tcp", "unix", "implicit"])
async def test_an_idle_session(name: WireName) -> None:
    handler = Keeper()
    async with Wire(name).talking(handler, timeout=SHORT) as client:
        assert await client.reply() == IDLE
        assert await rest(client) == ""
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions


async def rest(client: Dialogue) -> str:
    """What comes until the end; inside TLS that may be abrupt."""
    try:
        return await client.rest()
    except OSError:
        return ""


async def test_an_idle_upload(wire: Wire) -> None:
    handler = Keeper()
    async with wire.talking(handler, timeout=DEADLINE, data_timeout=SHORT) as client:
        await client.begin_data()
        await client.send("half\r\n")
        assert await client.reply() == IDLE
    assert handler.envelopes == []


async def test_a_chunk_that_stops_coming() -> None:
    async with dialogue(
        Sink(), timeout=DEADLINE, data_timeout=SHORT, extensions=("CHUNKING",)
    ) as client:
        await client.tell(HELLO, "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>")
        await client.send("BDAT 100\r\nhalf of it")
        assert await client.reply() == IDLE


async def test_a_hook_that_takes_too_long(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    handler = Gate()
    async with wire.talking(handler, handler_timeout=SHORT) as client:
        await client.begin_data()
        await client.send("x\r\n.\r\nNOOP\r\n")
        assert (await client.reply()).startswith("451")
        assert await client.reply() == "250 OK"
    assert handler.envelopes == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_authenticator_that_takes_too_long() -> None:
    async def ask(*_: object) -> AuthResult:
        await asyncio.Event().wait()
        raise AssertionError

    async with dialogue(
        Sink(), handler_timeout=SHORT, authenticator=ask, auth_require_tls=False
    ) as client:
        await client.ask(HELLO)
        assert (await client.ask("AUTH PLAIN AGEAYg=="))[:3] in ("451", "454")
        assert await client.ask("NOOP") == "250 OK"


async def test_a_starttls_hook_that_takes_too_long() -> None:
    class Hangs(Keeper):
        async def handle_STARTTLS(
            self, server: Server, session: Session, envelope: Envelope
        ) -> bool:
            await asyncio.Event().wait()
            return True

    handler = Hangs()
    async with dialogue(handler, handler_timeout=SHORT, tls_context=server_context()) as client:
        await start_tls(client)
        assert await rest(client) == ""
        await eventually(lambda: handler.gone)


# Before the greeting.


async def test_a_client_that_waits_for_the_greeting(wire: Wire) -> None:
    handler = Keeper()
    async with wire.serve(handler, greeting_delay=SHORT) as service:
        began = asyncio.get_running_loop().time()
        client = await wire.connect(service)
        assert asyncio.get_running_loop().time() - began >= SHORT * 0.9
        assert await client.deliver() == "250 Kept"
        await client.close()


async def test_a_client_that_goes_before_the_greeting() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0, greeting_delay=DEADLINE)
    async with service:
        async with await Dialogue.connect(service.addresses[0]) as client:
            client.reset()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await service.close(grace=DEADLINE)
        assert loop.time() - began < DEADLINE / 2
    assert handler.sessions == []


# Peers that do not read, or do not end.


class Wordy(Keeper):
    """Has long answers."""

    served = 0

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        """Say much, and count."""
        self.served += 1
        return "250 " + "x" * 1000


async def test_a_peer_that_does_not_read_is_not_listened_to(wire: Wire) -> None:
    handler = Wordy()
    async with wire.talking(handler, Narrow, timeout=None) as client:
        transport = client.stop_reading()
        sent = await client.flood(f"NOOP {'x' * 1000}\r\n")
        # Sixteen times as much would be some hundred megabytes.
        assert sent < 30_000
        assert handler.served <= sent
        transport.resume_reading()
        client.writer.write(b"QUIT\r\n")
        answers = (await rest(client)).splitlines()
        assert len(answers) == sent + 1


@pytest.mark.parametrize("command", ["NOOP", HELLO])
async def test_short_commands_with_long_answers(wire: Wire, command: str) -> None:
    """The answers wait in the server only as far as a few more make no difference."""
    handler = Keeper()
    async with wire.talking(handler, Narrow, timeout=None) as client:
        transport = client.stop_reading()
        await client.flood(f"{command}\r\n")
        (session,) = handler.sessions
        assert waiting_for_the_peer(session) < 1024 * 1024
        transport.abort()
        await eventually(lambda: handler.gone)


def waiting_for_the_peer(session: Session) -> int:
    """How many octets of answers are held by the server."""
    (smtp,) = [
        thing for thing in gc.get_objects() if isinstance(thing, SMTP) and thing.session is session
    ]
    return sum(map(len, smtp._output)) + smtp._transport.get_write_buffer_size()


@pytest.mark.parametrize("name", ["tcp", "unix", "implicit"])
async def test_a_peer_that_does_not_read_is_idle(
    name: WireName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_server.link._LINGER", SHORT)
    handler = Wordy()
    async with Wire(name).talking(handler, Narrow, timeout=4 * SHORT) as client:
        transport = client.stop_reading()
        flood = asyncio.create_task(client.flood(f"NOOP {'x' * 1000}\r\n"))
        await eventually(lambda: handler.gone)
        flood.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await flood
        transport.abort()


@pytest.mark.parametrize("wire_name", ["tcp", "unix"])
async def test_a_half_closed_peer_gets_its_answers(wire_name: str) -> None:
    handler = Gate()
    wire = Wire("unix" if wire_name == "unix" else "tcp")
    async with wire.talking(handler) as client:
        await client.begin_data()
        await client.send("x\r\n.\r\nNOOP\r\n")
        client.writer.write_eof()
        await handler.wait_reached()
        handler.opened.set()
        assert await client.rest() == "250 Kept\r\n250 OK\r\n"
    assert handler.gone == handler.sessions


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_peer_that_closes_tls_after_the_final_dot(implicit: bool) -> None:
    """Its message was whole, and is delivered, though there is no way to tell it."""
    handler = Gate()
    wire = Wire("implicit" if implicit else "starttls")
    async with wire.talking(handler) as client:
        await client.begin_data()
        await client.send("x\r\n.\r\n")
        await client.close()
        await handler.wait_reached()
        handler.opened.set()
        await eventually(lambda: handler.gone)
    assert [envelope.content for envelope in handler.envelopes] == [b"x\r\n"]


async def test_nothing_is_delivered_of_a_message_that_was_cut(wire: Wire) -> None:
    for way in ("close", "reset"):
        handler = Keeper()
        async with wire.talking(handler, extensions=("CHUNKING",)) as client:
            await client.begin_data()
            await client.send("x\r\n.\r")
            if way == "close":
                await client.close()
            else:
                client.reset()
            await eventually(handler.gone.__len__)
        assert handler.envelopes == []


# The end of the service.


async def test_the_end(wire: Wire) -> None:
    handler = Gate()
    async with wire.serve(handler) as service:
        idle, busy, half = [await wire.connect(service) for _ in range(3)]
        await busy.begin_data()
        await busy.send("x\r\n.\r\n")
        await handler.wait_reached()
        await half.tell(HELLO, "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>", "DATA")
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        assert await idle.reply() == CLOSING
        assert await rest(idle) == ""
        await half.send("y\r\n.\r\n")
        handler.opened.set()
        for client in (busy, half):
            assert await client.reply() == "250 Kept"
            assert await client.reply() == CLOSING
            assert await rest(client) == ""
        await closing
        for client in (idle, busy, half):
            await client.close()
    assert len(handler.gone) == 3


@pytest.mark.parametrize("implicit", [False, True], ids=["tcp", "implicit"])
async def test_the_end_does_not_wait_for_clients_that_do_nothing(
    implicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_server.link._LINGER", 2 * DEADLINE)
    context = shared_server_context() if implicit else None
    async with serve(Keeper(), "127.0.0.1", 0, ssl_context=context) as service:
        # A blocking one, whose TLS answers nothing on its own.
        plain = await asyncio.to_thread(socket.create_connection, tcp_address(service), DEADLINE)
        wrap = partial(shared_client_context().wrap_socket, server_hostname="localhost")
        with await asyncio.to_thread(wrap, plain) if implicit else plain as client:
            assert (await asyncio.to_thread(client.recv, 100)).startswith(b"220 ")
            async with asyncio.timeout(DEADLINE):
                await service.close()
            assert (await asyncio.to_thread(client.recv, 100)).startswith(b"421 ")


async def test_the_end_in_the_middle_of_auth() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0, auth_callback=lambda *_: True, auth_require_tls=False)
    await service.start()
    async with talking(service) as client, talking(service) as other:
        await client.tell(HELLO, "AUTH LOGIN")
        await other.tell(HELLO, "AUTH LOGIN", "YQ==")
        closing = asyncio.create_task(service.close(grace=DEADLINE))
        await asyncio.sleep(0)
        assert (await other.ask("Yg==")).startswith("235")
        assert await other.rest() == f"{CLOSING}\r\n"
        await service.close(grace=0)
        assert await client.rest() == f"{CLOSING}\r\n"
        await closing
    assert len(handler.gone) == 2


async def test_a_handshake_in_the_moment_of_the_end() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0, ssl_context=shared_server_context())
    await service.start()
    address = tcp_address(service)
    clients = [asyncio.create_task(connect_tls(address)) for _ in range(5)]
    await asyncio.sleep(0.002)
    await service.close(grace=DEADLINE)
    for task in clients:
        with contextlib.suppress(OSError):
            client = await task
            words = await rest(client)
            assert words in ("", f"{CLOSING}\r\n") or words.endswith(f"\r\n{CLOSING}\r\n")
            await client.close()
    await eventually(lambda: len(handler.gone) == len(handler.sessions))
