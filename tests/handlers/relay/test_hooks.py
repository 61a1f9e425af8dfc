"""Hooks: what a Proxy tells the next server, and what it makes of envelopes that others change."""

import logging
import ssl

import pytest
from tests.handlers.relay.clock import skip_from_now
from tests.handlers.relay.driver import RECIPIENTS, Driver, proxied
from tests.handlers.upstreams import CUT, STALL, Upstream

from smtp_handlers import Front, Proxy
from smtp_protocol import (
    Answer,
    Envelope,
    Mail,
    MailOptions,
    ProtocolConfig,
    RcptOptions,
    Server,
    Session,
    parse_command,
)

pytestmark = pytest.mark.asyncio(loop_factories=["skipping"])

FINE = "250 2.0.0 fine"


# A front may make two recipients of one, or none.


class Alias(Front):
    """Turns ``all@`` into two addresses."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        answer: Answer = "550 nobody"
        for each in ["a@x.example", "b@x.example"] if address == "all@x.example" else [address]:
            answer = await self.inner.handle_RCPT(server, session, envelope, each, rcpt_options)
        return answer


class SecondThoughts(Front):
    """Refuses ``b@``, but only after the handler behind has taken it."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        answer = await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)
        if address.startswith("b@"):
            envelope.rcpt_tos.remove(address)
            return "550 5.7.1 not that one"
        return answer


class Renames(Front):
    """Writes something else into the envelope than what the next server has accepted."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        answer = await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)
        envelope.rcpt_tos = [f"new-{each}" for each in envelope.rcpt_tos]
        return answer


async def test_one_recipient_that_became_two_has_two_answers() -> None:
    upstream = Upstream(lmtp=True, answers={"end": [FINE, "452 4.2.2 full", FINE]})
    async with proxied(upstream, lmtp=True) as driver:
        through = Driver(Alias(driver.handler))
        await through.mail()
        for name in ("all@x.example", "c@x.example"):
            assert (await through.rcpt(name)).code == 250
        assert through.server.envelope.rcpt_tos == list(RECIPIENTS)
        assert [reply.code for reply in await through.message()] == [250, 452, 250]
        await through.disconnect()


async def test_a_recipient_that_a_front_takes_back_shifts_no_answer() -> None:
    upstream = Upstream(lmtp=True, answers={"end": [FINE, "452 4.2.2 full", "550 no", FINE]})
    async with proxied(upstream, lmtp=True) as driver:
        through = Driver(SecondThoughts(driver.handler))
        assert await through.transaction() == [250, 550, 550]
        # No answer is left over for the next message.
        assert await through.transaction() == [250, 550, 250]
        assert upstream.connections == 1
        await through.disconnect()


@pytest.mark.parametrize(("worst", "code"), [("452 full", 452), (FINE, 250)])
async def test_a_recipient_under_another_name_is_told_no_yes_of_others(
    worst: str, code: int
) -> None:
    upstream = Upstream(lmtp=True, answers={"end": [FINE, worst, FINE]})
    async with proxied(upstream, lmtp=True) as driver:
        through = Driver(Renames(driver.handler))
        assert await through.transaction() == [code] * 3
        await through.disconnect()


# The size that is announced.


def sized(size: int) -> MailOptions:
    config = ProtocolConfig(data_size_limit=0)
    command = parse_command(f"MAIL FROM:<a@b> SIZE={size}".encode(), config)
    assert isinstance(command, Mail)
    return command.options


@pytest.mark.parametrize("recipients", [RECIPIENTS[:1], RECIPIENTS, ["x" * 64 + "@" + "y" * 60]])
async def test_no_more_is_sent_than_was_announced(recipients: list[str]) -> None:
    limit = 2000
    told = set()
    for size in range(1400, 2010, 5):
        upstream = Upstream(extensions=[f"SIZE {limit}"])
        content = b"Subject: x\r\n\r\n".ljust(size - 2, b"y") + b"\r\n"
        async with proxied(upstream) as driver:
            reply = await driver.mail(sized(size))
            told.add(reply.code)
            if reply.code != 250:
                assert str(reply).startswith("552 5.3.4 ")
                assert "MAIL" not in upstream.verbs()
                assert size + 100 > limit - 263
                continue
            for recipient in recipients:
                await driver.rcpt(recipient)
            assert [reply.code for reply in await driver.message(content)] == [250]
        [sent] = upstream.messages
        announced = int(upstream.commands[1].partition(" SIZE=")[2])
        assert len(sent) <= announced <= limit
    assert told == {250, 552}


async def test_a_message_that_begins_with_a_blank() -> None:
    upstream = Upstream()
    async with proxied(upstream) as driver:
        await driver.mail()
        await driver.rcpt()
        await driver.message(b" by mx.bank.example; Mon\r\nFrom: a@b.example\r\n\r\nhi\r\n")
    header, _, rest = upstream.messages[0].partition(b"\r\n\r\n")
    assert b"bank" not in header
    assert rest.startswith(b" by mx.bank.example; Mon\r\n")


@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_machines_name_beyond_ascii(lmtp: bool) -> None:
    upstream = Upstream(lmtp=lmtp)
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port, lmtp=lmtp)
        await Driver(proxy, hostname="müller-pc").mail()
        await proxy.close()
    assert upstream.commands[0] == f"{'LHLO' if lmtp else 'EHLO'} xn--mller-pc-65a"


async def test_our_own_name() -> None:
    upstream = Upstream()
    async with proxied(upstream, local_hostname="bücher.example") as driver:
        await driver.mail()
    assert upstream.commands[0] == "EHLO xn--bcher-kva.example"


# What is logged.


@pytest.mark.parametrize("verb", ["greeting", "MAIL", "DATA", "end", "handshake"])
@pytest.mark.parametrize("answer", [CUT, STALL, "421 \x07\u202e" + "x" * 4000, "\x00\x07rubbish"])
async def test_records_are_short_lines_at_warning(
    verb: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream = Upstream(
        extensions=["STARTTLS"] if verb == "handshake" else ["8BITMIME"],
        answers={verb: answer},
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        on_stall=skip_from_now,
    )
    async with proxied(upstream) as driver:
        await driver.transaction(["a@b"])
        session = driver.session
    ours = [record for record in caplog.records if record.name != "asyncio"]
    # What the next server has said in a reply is the client's answer, and no failure.
    assert ours != [] or (answer.startswith("421") and verb in ("MAIL", "DATA", "end"))
    for record in ours:
        text = record.getMessage()
        assert record.name == "smtp_handlers"
        assert record.levelno == logging.WARNING
        assert record.exc_info is None
        assert len(text) < 4500
        assert text.isprintable()
        assert vars(record)["session"] == session.id
        assert vars(record)["peer"] == "192.0.2.1"
