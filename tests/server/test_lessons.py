"""Lessons: what users of other servers suffer from; each test is named after what it prevents."""

import asyncio
import logging
import re
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.fakes import FakeLoop, talk
from tests.server.support import DEADLINE, Dialogue, dialogue, talking

import smtp_server.cli
from smtp_protocol import (
    AuthResult,
    Envelope,
    Handler,
    LoginPassword,
    Server,
    Session,
)
from smtp_server import LMTP, Controller, serve, testing

CERTIFICATE = Path(testing.__file__).with_name("localhost.pem")
KEY = Path(testing.__file__).with_name("localhost-key.pem")


class Keeper(Handler):
    """Keeps what came."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Note who came."""
        self.sessions.append(session)
        return "220 mx.test"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Note what came."""
        self.envelopes.append(envelope)
        return "250 OK"


def server_context() -> ssl.SSLContext:
    """A context with the certificate of the testing kit."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


def is_right(mechanism: str, login: bytes, password: bytes) -> bool:
    """Know one password."""
    return password == b"tanstaaf"


async def test_01_valid_parameters_refused() -> None:
    async with dialogue(Keeper()) as client:
        assert await client.tell("EHLO c") != ""
        mail = "MAIL FROM:<a@b.example> AUTH=<> RET=HDRS ENVID=x SIZE=10 BODY=8BITMIME"
        assert (await client.ask(mail)).startswith("250")
        rcpt = "RCPT TO:<d@e.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;d@e.example"
        assert (await client.ask(rcpt)).startswith("250")


def test_02_implicit_tls_and_auth_do_not_work_together() -> None:
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    controller = Controller(
        Keeper(), "127.0.0.1", 0, ssl_context=server_context(), auth_callback=is_right
    )
    with (
        controller,
        smtplib.SMTP_SSL("127.0.0.1", controller.port, timeout=DEADLINE, context=trust) as client,
    ):
        assert client.login("tim", "tanstaaf")[0] == 235
        client.sendmail("a@b.example", ["d@e.example"], b"x\r\n")


async def test_03_a_long_body_line_refuses_mail() -> None:
    keeper = Keeper()
    async with dialogue(keeper) as client:
        assert await client.deliver("x" * 100_000 + "\r\n") == "250 OK"
    assert len(keeper.envelopes[0].content) == 100_002


async def test_04_the_whole_message_sits_in_memory() -> None:
    class Stream:
        largest = total = 0

        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> str:
            async for chunk in chunks:
                self.largest = max(self.largest, len(chunk))
                self.total += len(chunk)
            assert envelope.content == b""
            return "250 OK"

    stream = Stream()
    async with dialogue(stream) as client:
        assert await client.deliver(b"x" * 62 + b"\r\n" + b"y" * 5_000_000 + b"\r\n") == "250 OK"
    assert stream.total == 5_000_066
    assert stream.largest < 1_000_000


def test_05_start_connects_to_itself() -> None:
    keeper = Keeper()
    with Controller(keeper, "127.0.0.1", 0):
        pass
    assert keeper.sessions == []


def test_06_port_0_does_not_work() -> None:
    with Controller(Keeper(), "127.0.0.1", 0) as controller:
        assert controller.port > 0
        smtplib.SMTP("127.0.0.1", controller.port, timeout=DEADLINE).quit()


async def test_07_no_start_in_a_running_loop_nor_after_a_stop() -> None:
    service = serve(Keeper(), "127.0.0.1", 0)
    for _ in range(2):
        async with service, talking(service) as client:
            assert await client.ask("NOOP") == "250 OK"


async def test_08_names_of_mechanisms_are_compared_with_case() -> None:
    async with dialogue(Keeper(), auth_callback=is_right, auth_require_tls=False) as client:
        reply = await client.tell("EHLO c", "auth plain AHRpbQB0YW5zdGFhZg==")
        assert reply.startswith("235")


async def test_09_no_limits() -> None:
    async with dialogue(Keeper(), max_recipients=1, max_errors=2) as client:
        await client.tell("EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<d@e.example>")
        assert (await client.ask("RCPT TO:<f@e.example>")).startswith("452")
        assert (await client.ask("NONSENSE")).startswith("500")
        assert (await client.reply()).startswith("421")


async def test_10_an_exception_goes_to_the_peer_and_bounces_the_mail() -> None:
    class Failing(Handler):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            raise RuntimeError("the secret of the house")

    async with dialogue(Failing()) as client:
        assert await client.deliver() == "451 Local error in processing"
        assert await client.ask("NOOP") == "250 OK"


def test_11_a_slow_hook_is_idle(loop: FakeLoop) -> None:
    class Slow(Handler):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            await asyncio.sleep(600)
            return "250 late"

    peer = talk(loop, Slow(), timeout=30)
    peer.tell("EHLO client", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>", "DATA", ".")
    loop.advance(600)
    assert peer.transport.take() == "250 late\r\n"


async def test_12_a_half_closed_peer_loses_its_message() -> None:
    keeper = Keeper()
    async with dialogue(keeper) as client:
        await client.begin_data()
        await client.send("x\r\n.\r\n")
        client.writer.write_eof()
        assert await client.reply() == "250 OK"
    assert len(keeper.envelopes) == 1


async def test_13_stop_kills_a_transaction() -> None:
    begun, to_end = asyncio.Event(), asyncio.Event()

    class Slow(Handler):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            begun.set()
            await to_end.wait()
            return "250 finished"

    async with serve(Slow(), "127.0.0.1", 0) as service, talking(service) as client:
        await client.begin_data()
        await client.send("x\r\n.\r\n")
        await begun.wait()
        closing = asyncio.create_task(service.close(DEADLINE))
        await asyncio.sleep(0)
        to_end.set()
        assert await client.reply() == "250 finished"
        assert (await client.reply()).startswith("421 4.3.2")
        await closing


async def test_14_no_bdat_no_dsn_no_pipelining() -> None:
    keeper = Keeper()
    async with dialogue(keeper, extensions=smtp_server.ALL_EXTENSIONS) as client:
        words = (await client.ask("EHLO c")).split()
        assert {"250-CHUNKING", "250-DSN", "250-PIPELINING"} <= set(words)
        await client.tell("MAIL FROM:<a@b.example>", "RCPT TO:<d@e.example>")
        await client.send("BDAT 3 LAST\r\na\r\n")
        assert (await client.reply()).startswith("250")
    assert keeper.envelopes[0].content == b"a\r\n"


def test_15_private_asyncio_api() -> None:
    source = Path(smtp_server.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(r"sslproto|asyncio\._|asyncio\.\w+\._|loop\._(?!loop)", text), path


async def test_16_lmtp_answers_once_for_many_recipients() -> None:
    service = serve(Keeper(), "127.0.0.1", 0, smtp_class=LMTP)
    async with service, talking(service) as client:
        await client.tell("LHLO c", "MAIL FROM:<a@b.example>")
        await client.tell("RCPT TO:<d@e.example>", "RCPT TO:<f@e.example>", "DATA")
        await client.send("x\r\n.\r\n")
        assert [await client.reply(), await client.reply()] == ["250 2.0.0 OK", "250 2.0.0 OK"]


def test_17_the_command_line_does_not_apply_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    # That it binds first, drops all of root's rights and ends on SIGTERM is in test_cli.py.
    _, namespace = smtp_server.cli.parseargs(["-n"])
    assert namespace.size == 33554432
    with pytest.raises(SystemExit):
        smtp_server.cli.parseargs(["--help"])
    assert "33554432" in capsys.readouterr().out


def test_18_a_misspelt_hook_is_ignored() -> None:
    class Misspelt(Handler):
        async def handle_RCTP(self) -> str:
            return "250 OK"

    with pytest.raises(TypeError, match="did you mean handle_RCPT"):
        Controller(Misspelt())


async def test_19_proxy_leaves_the_peer_wrong() -> None:
    keeper = Keeper()
    async with (
        serve(keeper, "127.0.0.1", 0, proxy_protocol_timeout=DEADLINE) as service,
        await Dialogue.connect(service.addresses[0]) as client,
    ):
        await client.send("PROXY TCP4 192.0.2.7 192.0.2.8 4711 25\r\n")
        assert (await client.reply()).startswith("220")
    assert keeper.sessions[0].peer == ("192.0.2.7", 4711)


async def test_20_certificates_cannot_be_reloaded() -> None:
    made = []

    def make() -> ssl.SSLContext:
        made.append(server_context())
        return made[-1]

    async with serve(Keeper(), "127.0.0.1", 0, tls_context=make) as service:
        before = len(made)
        service.reload_tls()
        assert len(made) == before + 1


async def test_21_a_dns_lookup_for_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: object) -> str:
        raise AssertionError("the DNS is asked")

    for name in ("getfqdn", "gethostbyaddr", "gethostbyname"):
        monkeypatch.setattr(socket, name, look_up)
    async with serve(Keeper(), "127.0.0.1", 0) as service, talking(service) as client:
        assert await client.ask("NOOP") == "250 OK"


async def test_22_the_null_sender_is_brackets() -> None:
    keeper = Keeper()
    async with dialogue(keeper) as client:
        await client.begin_data("")
        await client.tell(".")
    assert keeper.envelopes[0].mail_from == ""


# 23, the relay that answers 250 whatever upstream said: tests/handlers/relay/test_proxy.py.


async def test_24_the_authenticator_must_be_synchronous() -> None:
    async def authenticator(
        server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
    ) -> AuthResult:
        await asyncio.sleep(0)
        good = isinstance(auth_data, LoginPassword) and auth_data.password == b"tanstaaf"
        return AuthResult(success=good)

    async with dialogue(Keeper(), authenticator=authenticator, auth_require_tls=False) as client:
        reply = await client.tell("EHLO c", "AUTH PLAIN AHRpbQB0YW5zdGFhZg==")
        assert reply.startswith("235")


async def test_25_noise_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper()
    with caplog.at_level(logging.DEBUG, "smtp_server"):
        async with dialogue(keeper) as client:
            assert await client.deliver() == "250 OK"
            await client.ask("QUIT")
    records = [record for record in caplog.records if record.name == "smtp_server"]
    assert records
    assert {record.levelno for record in records} == {logging.DEBUG}
    assert all(keeper.sessions[0].id in record.getMessage() for record in records)


async def test_26_a_reply_with_newlines_is_written_verbatim() -> None:
    class Injecting(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return "250 OK\r\n250 another"

    async with dialogue(Injecting()) as client:
        assert await client.ask("NOOP") == "451 Local error in processing"
        assert await client.ask("RSET") == "250 OK"


def test_27_everybody_writes_fixtures_of_their_own(smtpd: testing.SMTPServer) -> None:
    with smtplib.SMTP(smtpd.host, smtpd.port, timeout=DEADLINE) as client:
        client.sendmail("a@b.example", ["d@e.example"], b"Subject: Hi\r\n\r\nHello\r\n")
    assert smtpd.wait_for(1, timeout=DEADLINE)
    assert smtpd.messages[0]["Subject"] == "Hi"
