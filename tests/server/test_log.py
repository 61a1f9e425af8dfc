"""Log: each record carries the session, commands stay at DEBUG, and nothing of a peer comes raw."""

import logging

import pytest
from tests.server.support import Keeper, dialogue, eventually

from smtp_handlers import Sink
from smtp_protocol import Envelope, Handler, Reply, Server, Session
from smtp_server.log import log, message_came

HOSTILE = b"\x1b[31mred\x07 \x00 \x7f"


def server_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("smtp_server")]


def visible(text: str) -> bool:
    return all(line.isprintable() for line in text.splitlines())


async def test_a_session_without_trouble_is_logged_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "smtp_server")
    handler = Keeper()
    async with dialogue(handler) as client:
        assert await client.deliver() == "250 Kept"
        await client.tell("EHLO again", "VRFY anne", "HELP", "NOOP", "RSET", "QUIT")
    records = server_records(caplog)
    assert records
    assert {record.levelno for record in records} == {logging.DEBUG}
    for record in records:
        assert record.__dict__["session"] == handler.sessions[0].id
        assert record.__dict__["peer"] == "127.0.0.1"
        assert f"[{handler.sessions[0].id}]" in record.getMessage()


async def test_nothing_is_written_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_server")
    async with dialogue(Sink()) as client:
        assert await client.deliver() == "250 OK"
    assert server_records(caplog) == []


@pytest.mark.parametrize(
    "line",
    [
        HOSTILE,
        b"NOOP " + HOSTILE,
        b"EHLO " + HOSTILE,
        b"HELP " + HOSTILE,
        b"VRFY " + HOSTILE,
        b"MAIL FROM:<" + HOSTILE + b"@example.com>",
        b'MAIL FROM:<"' + HOSTILE + b'"@example.com>',
        b"MAIL FROM:<a@example.com> X=" + HOSTILE,
        b"PING " + HOSTILE,
        b"NOOP \xc2\x9b31m",
        b"NOOP \xff",
    ],
)
async def test_what_a_peer_sent_is_escaped(caplog: pytest.LogCaptureFixture, line: bytes) -> None:
    caplog.set_level(logging.DEBUG)
    handler = Keeper()
    async with dialogue(handler) as client:
        await client.ask(line)
        assert await client.ask("NOOP") == "250 OK"
    await eventually(lambda: handler.gone)
    assert all(visible(record.getMessage()) for record in caplog.records)


async def test_what_a_hook_repeats_of_a_peer_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    class Echo(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return f"250 {arg}"

    caplog.set_level(logging.DEBUG)
    async with dialogue(Echo()) as client:
        assert await client.ask("NOOP \x1b[31mred") == r"250 \x1b[31mred"
    assert all(visible(record.getMessage()) for record in caplog.records)


def test_a_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_server")
    session = Session(("192.0.2.1", 4000))
    error = ValueError("x")
    log(logging.INFO, session, "%r came", "a\r\nb", error=error)
    log(logging.DEBUG, session, "Not wanted")
    (record,) = server_records(caplog)
    assert record.getMessage() == f"[{session.id}] 'a\\r\\nb' came"
    assert record.__dict__["peer"] == "192.0.2.1"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_message_for_many(caplog: pytest.LogCaptureFixture) -> None:
    """Some of its recipients are named."""
    caplog.set_level(logging.DEBUG, "smtp_server")
    envelope = Envelope()
    message_came(Session(), envelope, 0, [Reply(550, ("No",))])
    envelope.mail_from = "anne@example.com"
    envelope.rcpt_tos += [f"r{number}@example.com" for number in range(100)]
    message_came(Session(), envelope, 1234, [Reply(250, ("OK",))] * 100)
    to_nobody, to_many = [record.getMessage().partition("] ")[2] for record in caplog.records]
    assert to_nobody == "Message from '' to nobody, 0 octets: '550 No'"
    assert to_many.startswith("Message from 'anne@example.com' to 'r0@example.com', 'r1@")
    assert to_many.endswith("and 95 more, 1234 octets: '250 OK'")
