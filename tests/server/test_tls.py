"""TLS: STARTTLS and implicit TLS, what sessions know of it, and handshakes that fail."""

import asyncio
import logging
import socket
import ssl

import pytest
from tests.server.secure import (
    client_context,
    connect_tls,
    server_context,
    shared_server_context,
    start_tls,
    upgrade,
)
from tests.server.support import (
    DEADLINE,
    HOSTNAME,
    SHORT,
    Dialogue,
    Keeper,
    dialogue,
    eventually,
    talking,
    tcp_address,
)

from smtp_handlers import Sink
from smtp_protocol import Envelope, Server, Session
from smtp_server import serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HELLO = "EHLO client.test"
TLS_FIRST = "530 5.7.0 Must issue a STARTTLS command first"
ONLY_QUIT = "554 5.7.0 TLS was not accepted; only QUIT is left"


class Look(Keeper):
    """Notes what it is told at STARTTLS, and answers with the session's state at NOOP."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[tuple[Session, Envelope]] = []

    async def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        """Keep what was given."""
        self.started.append((session, envelope))
        return True


# What works.


async def test_starttls() -> None:
    handler = Look()
    async with dialogue(handler, tls_context=server_context()) as client:
        before = await client.ask(HELLO)
        assert "\n250-STARTTLS\n" in before
        (session,) = handler.sessions
        assert (session.tls, session.ssl) == (None, None)
        assert await client.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        await upgrade(client)
        after = await client.ask(HELLO)
        assert after == before.replace("250-STARTTLS\n", "")
        assert session.tls is not None
        assert session.tls.version.startswith("TLSv1.")
        cipher = client.writer.get_extra_info("cipher")
        assert session.tls.cipher == cipher[0]
        assert session.tls.sni == "localhost"
        assert session.tls.peer_certificate is None
        assert session.ssl is not None
        assert session.ssl.version() == session.tls.version
        assert [session for session, _ in handler.started] == [session]
        assert await client.deliver() == "250 Kept"
        assert await client.ask("QUIT") == "221 Bye"
        assert await client.rest() == ""
    assert handler.gone == handler.sessions == [session]


async def test_implicit_tls() -> None:
    handler = Look()
    service = serve(handler, "127.0.0.1", 0, ssl_context=server_context(), server_hostname=HOSTNAME)
    async with service, await connect_tls(tcp_address(service)) as client:
        assert (await client.reply()).startswith(f"220 {HOSTNAME} ")
        assert "STARTTLS" not in await client.ask(HELLO)
        (session,) = handler.sessions
        assert session.tls is not None
        assert session.tls.cipher == client.writer.get_extra_info("cipher")[0]
        assert session.tls.sni == "localhost"
        assert session.ssl is not None
        assert await client.deliver() == "250 Kept"
        assert await client.ask("QUIT") == "221 Bye"
        assert await client.rest() == ""
    assert handler.started == []
    assert handler.gone == [session]


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_clients_certificate(implicit: bool) -> None:
    handler = Keeper()
    context = server_context(ask=True)
    client_tls = client_context("anne@example.com")
    service = serve(
        handler,
        "127.0.0.1",
        0,
        ssl_context=context if implicit else None,
        tls_context=None if implicit else context,
    )
    async with service:
        if implicit:
            client = await connect_tls(tcp_address(service), client_tls)
            await client.reply()
        else:
            client = await Dialogue.connect(tcp_address(service))
            await client.reply()
            await start_tls(client, client_tls)
        await client.ask(HELLO)
        (session,) = handler.sessions
        assert session.tls is not None
        assert session.tls.peer_certificate is not None
        assert b"anne@example.com" in session.tls.peer_certificate
        await client.close()


async def test_a_name_that_nobody_asked_for() -> None:
    handler = Keeper()
    context = client_context()
    context.check_hostname = False
    async with dialogue(handler, tls_context=server_context()) as client:
        assert (await client.ask(HELLO)).startswith("250")
        assert (await client.ask("STARTTLS")).startswith("220")
        async with asyncio.timeout(DEADLINE):
            await client.writer.start_tls(context)
        await client.ask(HELLO)
        assert handler.sessions[0].tls is not None
        assert handler.sessions[0].tls.sni is None


async def test_a_callback_for_the_name_that_the_user_had_set() -> None:
    context, other = server_context(), server_context("other.test")
    asked: list[str | None] = []

    def choose(
        tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        asked.append(name)
        tls.context = other

    context.sni_callback = choose
    handler = Keeper()
    async with dialogue(handler, tls_context=context) as client:
        await start_tls(client, name="other.test")
        await client.ask("NOOP")
    assert asked == ["other.test"]
    assert handler.sessions[0].tls is not None
    assert handler.sessions[0].tls.sni == "other.test"


async def test_tls_12() -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    handler = Keeper()
    async with dialogue(handler, tls_context=server_context()) as client:
        await start_tls(client, context)
        assert await client.deliver() == "250 Kept"
        assert handler.sessions[0].tls is not None
        assert handler.sessions[0].tls.version == "TLSv1.2"


async def test_starttls_over_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("u") / "s"
    handler = Keeper()
    service = serve(handler, unix_socket=path, tls_context=server_context())
    async with service, talking(service) as client:
        await start_tls(client)
        assert await client.deliver() == "250 Kept"


# The order of things.


async def test_what_is_pipelined_behind_starttls_is_dropped() -> None:
    handler = Keeper()
    async with dialogue(handler, tls_context=server_context()) as client:
        await client.ask(HELLO)
        await client.send("STARTTLS\r\nRSET\r\nNOOP\r\nMAIL FROM:<evil@example.com>\r\n")
        assert (await client.reply()).startswith("220")
        await upgrade(client)
        assert (await client.ask("HELP NOOP")).startswith("214")
        assert (await client.ask(HELLO)).startswith("250")
        assert (await client.ask("RCPT TO:<x@example.com>")).startswith("503")


async def test_much_that_is_pipelined_behind_starttls_behind_a_slow_hook() -> None:
    """So much that the socket was left unread when STARTTLS was answered."""
    reached, opened = asyncio.Event(), asyncio.Event()

    class Slow(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            if arg == "slow":
                reached.set()
                await opened.wait()
            return "250 NOOP inside" if session.tls else "250 NOOP outside"

    handler = Slow()
    service = serve(handler, "127.0.0.1", 0, tls_context=server_context(), timeout=None)
    async with service, talking(service) as client:
        await client.ask(HELLO)
        sender = asyncio.create_task(
            client.send("NOOP slow\r\nSTARTTLS\r\n" + "NOOP evil\r\n" * 100_000)
        )
        await reached.wait()
        opened.set()
        assert await client.reply() == "250 NOOP outside"
        assert (await client.reply()).startswith("220")
        # What did not fit is rubbish where a handshake should be.
        rest = await _rest_of_a_broken_session(client)
        assert b"NOOP" not in rest
        sender.cancel()
        await eventually(lambda: handler.gone)


async def _rest_of_a_broken_session(client: Dialogue) -> bytes:
    try:
        async with asyncio.timeout(DEADLINE):
            return await client.reader.read(-1)
    except OSError:
        return b""


async def test_starttls_forgets_what_was_said_before() -> None:
    handler = Look()
    async with dialogue(
        handler,
        tls_context=server_context(),
        auth_callback=lambda *_: True,
        auth_require_tls=False,
    ) as client:
        await client.ask(HELLO)
        assert (await client.ask("AUTH PLAIN AGFubmUAc2VjcmV0")).startswith("235")
        (session,) = handler.sessions
        assert (session.authenticated, session.host_name) == (True, "client.test")
        await start_tls(client)
        assert await client.ask("NOOP") == "250 OK"
        assert (session.authenticated, session.host_name) == (False, None)
        assert (session.auth_data, session.extended_smtp) == (None, False)
        for line in ("MAIL FROM:<a@example.com>", "AUTH PLAIN AGFubmUAc2VjcmV0"):
            assert (await client.ask(line)).startswith("503")
        await client.ask(HELLO)
        assert (await client.ask("AUTH PLAIN AGFubmUAc2VjcmV0")).startswith("235")


async def test_starttls_where_it_cannot_be() -> None:
    async with dialogue(Sink()) as client:
        assert "STARTTLS" not in await client.ask(HELLO)
        assert (await client.ask("STARTTLS")).startswith("502")
    async with dialogue(Sink(), tls_context=server_context()) as client:
        assert (await client.ask("STARTTLS")).startswith("503")
        await client.ask(HELLO)
        assert (await client.ask("STARTTLS now")).startswith("501")
        await client.ask("MAIL FROM:<a@example.com>")
        assert (await client.ask("STARTTLS")).startswith("503")
        assert await client.ask("RCPT TO:<b@example.com>") == "250 OK"
        assert (await client.ask("STARTTLS")).startswith("503")
        await client.ask("RSET")
        await start_tls(client)
        assert (await client.ask("STARTTLS")).startswith("503")
        await client.ask(HELLO)
        assert (await client.ask("STARTTLS")).startswith("503")
    service = serve(
        Sink(), "127.0.0.1", 0, ssl_context=server_context(), tls_context=server_context()
    )
    async with service, await connect_tls(tcp_address(service)) as client:
        await client.reply()
        assert "STARTTLS" not in await client.ask(HELLO)
        assert (await client.ask("STARTTLS")).startswith("503")


async def test_starttls_after_the_first_chunk() -> None:
    async with dialogue(Sink(), tls_context=server_context(), extensions=("CHUNKING",)) as client:
        await client.tell(HELLO, "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>")
        await client.send("BDAT 3\r\nabc")
        assert (await client.reply()).startswith("250")
        assert (await client.ask("STARTTLS")).startswith("503")
        await client.send("BDAT 0 LAST\r\n")
        assert (await client.reply()).startswith("250")


async def test_tls_is_required() -> None:
    async with dialogue(
        Sink(), tls_context=server_context(), require_starttls=True, auth_callback=lambda *_: True
    ) as client:
        for line in (
            "HELO client.test",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA",
            "RSET",
            "VRFY a@example.com",
            "EXPN list",
            "HELP",
            "AUTH PLAIN AGFubmUAc2VjcmV0",
        ):
            assert await client.ask(line) == TLS_FIRST, line
        assert await client.ask("NOOP") == "250 OK"
        assert "STARTTLS" in await client.ask(HELLO)
        assert await client.ask("MAIL FROM:<a@example.com>") == TLS_FIRST
        await start_tls(client)
        assert await client.deliver() == "250 OK"


async def test_tls_is_required_and_there_from_the_beginning() -> None:
    context = server_context()
    service = serve(
        Sink(), "127.0.0.1", 0, ssl_context=context, tls_context=context, require_starttls=True
    )
    async with service, await connect_tls(tcp_address(service)) as client:
        await client.reply()
        assert await client.deliver() == "250 OK"


async def test_requiretls() -> None:
    async with dialogue(Sink(), tls_context=server_context(), extensions=("REQUIRETLS",)) as client:
        assert "REQUIRETLS" not in await client.ask(HELLO)
        assert (await client.ask("MAIL FROM:<a@example.com> REQUIRETLS")).startswith("530 5.7.0")
        await start_tls(client)
        assert "250-REQUIRETLS" in await client.ask(HELLO)
        assert (await client.ask("MAIL FROM:<a@example.com> REQUIRETLS=1")).startswith("501")
        assert await client.ask("MAIL FROM:<a@example.com> REQUIRETLS") == "250 OK"


# The hook.


class Refuses(Keeper):
    """Refuses each client's TLS."""

    async def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        """It is there already."""
        assert session.tls is not None
        return False


class RefusesAtOnce:
    """The same, without a coroutine."""

    def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        """Say no."""
        return False


async def test_the_hook_is_a_function() -> None:
    async with dialogue(RefusesAtOnce(), tls_context=server_context()) as client:
        await start_tls(client)
        assert await client.ask("NOOP") == ONLY_QUIT


async def test_the_hook_refuses() -> None:
    handler = Refuses()
    async with dialogue(handler, tls_context=server_context()) as client:
        await start_tls(client)
        for line in (HELLO, "NOOP", "MAIL FROM:<a@example.com>", "STARTTLS", "RSET", "HELP"):
            assert await client.ask(line) == ONLY_QUIT
        assert await client.ask("QUIT") == "221 Bye"
        assert await client.rest() == ""
    assert handler.gone == handler.sessions


async def test_the_hook_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Keeper):
        async def handle_STARTTLS(
            self, server: Server, session: Session, envelope: Envelope
        ) -> bool:
            raise RuntimeError("no")

    handler = Fails()
    async with dialogue(handler, tls_context=server_context()) as client:
        await client.ask(HELLO)
        await client.ask("STARTTLS")
        try:
            await upgrade(client)
            await client.send(f"{HELLO}\r\n")
            assert await client.rest() == ""
        except OSError:
            """It was closed early."""
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions
    assert "The hook for StartTls failed" in caplog.text


async def test_what_comes_while_the_hook_waits() -> None:
    opened = asyncio.Event()

    class Slow(Keeper):
        async def handle_STARTTLS(
            self, server: Server, session: Session, envelope: Envelope
        ) -> bool:
            await opened.wait()
            return True

    async with dialogue(Slow(), tls_context=server_context()) as client:
        await start_tls(client)
        await client.send("NOOP\r\nEHLO client.test\r\nNOOP 2\r\n")
        opened.set()
        assert await client.reply() == "250 OK"
        assert (await client.reply()).startswith(f"250-{HOSTNAME}")
        assert await client.reply() == "250 OK"


async def test_early_commands_inside_implicit_tls() -> None:
    """What comes in one segment with the end of the handshake is not lost."""
    service = serve(Keeper(), "127.0.0.1", 0, ssl_context=server_context())
    async with service:
        for _ in range(5):
            answer = await asyncio.to_thread(
                _ask_early, tcp_address(service), b"EHLO client.test\r\nNOOP\r\nQUIT\r\n"
            )
            replies = answer.decode().splitlines()
            assert replies[0].startswith("220 ")
            assert replies[1].startswith("250-")
            assert replies[-3:] == ["250 HELP", "250 OK", "221 Bye"]


async def test_early_commands_behind_starttls() -> None:
    service = serve(Keeper(), "127.0.0.1", 0, tls_context=server_context())
    async with service:
        for _ in range(5):
            answer = await asyncio.to_thread(
                _ask_early, tcp_address(service), b"EHLO client.test\r\nQUIT\r\n", b"EHLO c\r\n"
            )
            replies = answer.decode().splitlines()
            assert replies[0].startswith("250-")
            assert replies[-2:] == ["250 HELP", "221 Bye"]


def _ask_early(address: tuple[str, int], octets: bytes, before: bytes = b"") -> bytes:
    """Send the end of the handshake and the first words in one segment; read to the end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    answer = b""
    with socket.create_connection(address, DEADLINE) as sock:
        if before:
            sock.recv(4096)
            sock.sendall(before + b"STARTTLS\r\n")
            while b"\n220 " not in answer:
                answer += sock.recv(4096)
            answer = b""
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(octets)
        sock.sendall(outgoing.read())
        while True:
            try:
                data = tls.read(65536)
            except ssl.SSLWantReadError:
                received = sock.recv(65536)
                if received:
                    incoming.write(received)
                else:
                    incoming.write_eof()
                continue
            except ssl.SSLError:
                return answer
            if not data:
                return answer
            answer += data


# Handshakes that fail.


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
@pytest.mark.parametrize("way", ["rubbish", "silence", "fin", "reset", "hello then reset"])
async def test_a_handshake_that_fails(
    implicit: bool, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    handler = Keeper()
    context = shared_server_context()
    service = serve(
        handler,
        "127.0.0.1",
        0,
        ssl_context=context if implicit else None,
        tls_context=None if implicit else context,
        tls_handshake_timeout=SHORT if way == "silence" else DEADLINE,
    )
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        if not implicit:
            await client.reply()
            await client.ask(HELLO)
            await client.ask("STARTTLS")
        match way:
            case "rubbish":
                await client.send("NOOP this is not TLS, is it?\r\n" * 10)
            case "fin":
                client.writer.write_eof()
            case "reset":
                client.reset()
            case "hello then reset":
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                await client.send(outgoing.read())
                async with asyncio.timeout(DEADLINE):
                    await client.reader.read(1)
                client.reset()
        await _rest_of_a_broken_session(client)
        if not implicit:
            await eventually(lambda: handler.gone)
            assert handler.gone == handler.sessions
        else:
            assert handler.sessions == []
        # The server lives, and knows of nobody else any more.
        if implicit:
            other = await connect_tls(tcp_address(service))
        else:
            other = await Dialogue.connect(tcp_address(service))
        assert (await other.reply()).startswith("220")
        assert await other.ask("QUIT") == "221 Bye"
        await other.close()
        began = asyncio.get_running_loop().time()
        await service.close(grace=DEADLINE)
        assert asyncio.get_running_loop().time() - began < DEADLINE / 2
    assert all(record.levelno <= logging.INFO for record in caplog.records), caplog.text


async def test_a_loop_that_cannot_do_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise TypeError("a transport of somebody else's")

    monkeypatch.setattr("smtp_server.link.start_tls", fail)
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0, tls_context=shared_server_context(), timeout=None)
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        await client.reply()
        await client.tell(HELLO, "STARTTLS")
        await _rest_of_a_broken_session(client)
        await eventually(lambda: handler.gone)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_loop_that_cannot_do_it_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise TypeError("a transport of somebody else's")

    monkeypatch.setattr("smtp_server.link.start_tls", fail)
    service = serve(
        Keeper(),
        "127.0.0.1",
        0,
        ssl_context=shared_server_context(),
        proxy_protocol_timeout=DEADLINE,
    )
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        await client.send("PROXY UNKNOWN\r\n")
        await _rest_of_a_broken_session(client)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_the_service_ends_in_the_middle_of_a_handshake() -> None:
    handler = Keeper()
    service = serve(handler, "127.0.0.1", 0, tls_context=shared_server_context())
    await service.start()
    async with talking(service) as client:
        await client.ask(HELLO)
        await client.ask("STARTTLS")
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=SHORT)
        assert handler.gone == handler.sessions
        assert await _rest_of_a_broken_session(client) == b""


async def test_the_service_ends_before_the_greeting() -> None:
    service = serve(
        Keeper(), "127.0.0.1", 0, ssl_context=shared_server_context(), tls_handshake_timeout=0.5
    )
    await service.start()
    async with await Dialogue.connect(service.addresses[0]) as client:
        await client.send(b"\x16")
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=DEADLINE)
        assert await _rest_of_a_broken_session(client) == b""


async def test_a_client_that_goes_without_close_notify() -> None:
    handler = Keeper()
    async with dialogue(handler, tls_context=server_context()) as client:
        await start_tls(client)
        await client.ask(HELLO)
        client.writer.transport.abort()
        await eventually(lambda: handler.gone)
