"""Limits: what one session or all of them may use up, and what ends with the service."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from tests.server.support import (
    DEADLINE,
    SHORT,
    Dialogue,
    Gate,
    Keeper,
    dialogue,
    eventually,
    service_of,
    talking,
)

from smtp_handlers import Sink
from smtp_protocol import Envelope, Reply, Server, Session, replies
from smtp_server import SMTP, Service, serve
from smtp_server.limits import Budget
from smtp_server.settings import Settings

BUSY = "421 4.7.0 Too many connections, try again later"
ERRORS = "421 4.7.0 Too many errors, closing the connection"
TOO_OFTEN = "421 4.7.0 Command sent too often"


# What a session has used up.


def used(**keywords: Any) -> Budget:
    return Budget(Settings(**keywords))


def test_calls_of_a_command() -> None:
    budget = used(command_call_limit=2)
    assert [budget.command("NOOP") for _ in range(2)] == [None, None]
    assert budget.command("RSET") is None, "each by itself"
    assert budget.command("NOOP") is replies.CLOSING_COMMANDS


def test_calls_by_command() -> None:
    budget = used(command_call_limit={"NOOP": 2, "*": 1})
    assert [budget.command(verb) for verb in ("NOOP", "NOOP", "RSET")] == [None] * 3
    assert budget.command("RSET") is replies.CLOSING_COMMANDS
    assert {used(command_call_limit={"NOOP": 1}).command("RSET") for _ in range(9)} == {None}


def test_failures_of_auth_are_counted_by_mechanism() -> None:
    budget = used(max_auth_failures=2)
    assert [budget.auth_failure(name) for name in ("PLAIN", "LOGIN")] == [None, None]
    assert budget.auth_failure("PLAIN") is replies.CLOSING_AUTH


def test_errors() -> None:
    budget = used(max_errors=2)
    assert budget.error() is None
    assert budget.error() is replies.CLOSING_ERRORS


def test_no_limits() -> None:
    budget = used(max_errors=None, max_auth_failures=None)
    for _ in range(1000):
        assert budget.command("NOOP") is None
        assert budget.auth_failure("PLAIN") is None
        assert budget.error() is None


# Commands, recipients, errors.


@pytest.mark.parametrize("limit", [2, {"NOOP": 2}, {"*": 2}, {"NOOP": 2, "*": 1}])
async def test_the_same_command_too_often(limit: int | Mapping[str, int]) -> None:
    handler = Keeper()
    async with dialogue(handler, command_call_limit=limit) as client:
        assert await client.tell("RSET", "NOOP", "noop x") == "250 OK"
        assert await client.ask("NOOP") == TOO_OFTEN
        assert await client.rest() == ""
    assert handler.gone == handler.sessions


async def test_a_command_without_a_limit() -> None:
    async with dialogue(Sink(), command_call_limit={"RSET": 1}) as client:
        assert await client.tell(*["NOOP"] * 30) == "250 OK"
        assert await client.ask("RSET") == "250 OK"
        assert await client.ask("RSET") == TOO_OFTEN


async def test_unknown_commands_are_counted_by_their_verb() -> None:
    async with dialogue(Sink(), command_call_limit=1) as client:
        assert (await client.ask("FOO")).startswith("500")
        assert (await client.ask("BAR")).startswith("500")
        assert await client.ask("foo") == TOO_OFTEN


async def test_no_limit_of_commands() -> None:
    async with dialogue(Sink()) as client:
        assert await client.tell(*["NOOP"] * 100) == "250 OK"


async def test_too_many_recipients() -> None:
    handler = Keeper()
    async with dialogue(handler, max_recipients=2) as client:
        for _ in range(2):
            await client.tell("EHLO client.test", "MAIL FROM:<a@example.com>")
            replies = [await client.ask(f"RCPT TO:<{n}@example.com>") for n in range(4)]
            assert [reply[:3] for reply in replies] == ["250", "250", "452", "452"]
            await client.ask("DATA")
            assert await client.ask(".") == "250 Kept"
    assert [len(envelope.rcpt_tos) for envelope in handler.envelopes] == [2, 2]


async def test_any_number_of_recipients() -> None:
    async with dialogue(Sink(), max_recipients=None) as client:
        await client.begin_data("a@example.com", *(f"{n}@example.com" for n in range(1100)))
        assert await client.ask(".") == "250 OK"


async def test_too_many_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handler = Keeper()
    async with dialogue(handler, max_errors=4) as client:
        assert (await client.ask("FOO")).startswith("500")
        assert (await client.ask("DATA")).startswith("503")
        assert await client.ask("NOOP") == "250 OK"
        assert (await client.ask("EHLO")).startswith("501")
        await client.send("MAIL FROM:x\r\nNOOP\r\n")
        assert await client.rest() == f"553 Malformed sender address\r\n{ERRORS}\r\n"
    assert handler.gone == handler.sessions
    assert [r.levelname for r in caplog.records if "Too many errors" in r.getMessage()] == ["INFO"]


async def test_a_hooks_refusal_is_no_error_of_the_client() -> None:
    class Refuses(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return "550 No"

    async with dialogue(Refuses(), max_errors=1) as client:
        assert await client.tell(*["NOOP"] * 5) == "550 No"


async def test_a_command_of_ones_own_that_is_unknown_after_all() -> None:
    class Shy(SMTP):
        async def smtp_PING(self, arg: str | None) -> Reply:
            return replies.UNKNOWN_COMMAND

    service = service_of(Shy, Keeper(), max_errors=2)
    async with service, talking(service) as client:
        assert (await client.ask("PING")).startswith("500")
        await client.send("PING\r\n")
        assert (await client.rest()).endswith(f"\r\n{ERRORS}\r\n")


async def test_an_error_that_ends_the_session_is_the_last_word() -> None:
    async with dialogue(Sink(), max_errors=1) as client:
        await client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await client.rest() == "421 4.7.0 This is an SMTP server\r\n"


async def test_any_number_of_errors() -> None:
    async with dialogue(Sink(), max_errors=None) as client:
        assert (await client.tell(*["FOO"] * 50)).startswith("500")


# Connections.


async def test_too_many_connections(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handler = Keeper()
    async with (
        serve(handler, "127.0.0.1", 0, max_connections=2) as service,
        talking(service) as first,
        talking(service) as second,
    ):
        async with await Dialogue.connect(service.addresses[0]) as third:
            assert await third.reply() == BUSY
            assert await third.rest() == ""
        assert len(handler.sessions) == 2
        assert await first.ask("QUIT") == "221 Bye"
        await first.close()
        await eventually(lambda: len(handler.gone) == 1)
        async with talking(service) as fourth:
            assert await fourth.ask("NOOP") == "250 OK"
        assert await second.ask("NOOP") == "250 OK"
    assert len(handler.sessions) == 3
    assert len(handler.gone) == 3
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_too_many_connections_of_one_host() -> None:
    service = serve(Sink(), "127.0.0.1", 0, max_connections_per_host=1)
    async with service, talking(service):
        async with await Dialogue.connect(service.addresses[0]) as second:
            assert await second.reply() == BUSY
        address = service.addresses[0]
        assert isinstance(address, tuple)
        reader, writer = await asyncio.open_connection(*address, local_addr=("127.0.0.2", 0))
        async with Dialogue(reader, writer) as other_host:
            assert (await other_host.reply()).startswith("220 ")


async def test_a_refused_connection_is_counted_out() -> None:
    service = serve(Sink(), "127.0.0.1", 0, max_connections=1)
    async with service:
        async with talking(service):
            for _ in range(3):
                async with await Dialogue.connect(service.addresses[0]) as client:
                    assert await client.reply() == BUSY

        async def comes_in() -> bool:
            async with await Dialogue.connect(service.addresses[0]) as client:
                return (await client.reply()).startswith("220 ")

        async with asyncio.timeout(DEADLINE):
            while True:
                if await comes_in():
                    break
                await asyncio.sleep(0.01)


async def test_an_end_that_the_peer_does_not_take_notice_of() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        assert await client.ask("QUIT") == "221 Bye"
        await eventually(lambda: handler.gone)


# A hook that is at work when the service ends.


class Stubborn(Keeper):
    """Cleans up slowly when it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.cleaned = asyncio.Event()

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        """Wait to be cancelled, and a little longer."""
        try:
            self.reached.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(SHORT)
            self.cleaned.set()
        return "250 OK"


async def test_a_hook_that_is_slow_to_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    handler = Stubborn()
    service = service_of(SMTP, handler)
    async with service, talking(service) as client:
        await client.send("NOOP\r\n")
        await handler.reached.wait()
        await service.close(grace=0)
        assert await client.rest() == "421 4.3.2 Service shutting down\r\n"
        await handler.cleaned.wait()
        await eventually(lambda: handler.gone)
        await asyncio.sleep(SHORT)
    assert handler.gone == handler.sessions
    assert caplog.text == ""


async def test_a_goodbye_that_never_ends() -> None:
    class Clings(Keeper):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
            await super().handle_DISCONNECT(server, session)
            await asyncio.Event().wait()

    handler = Clings()
    service: Service = service_of(SMTP, handler)
    await service.start()
    async with talking(service) as client:
        await client.ask("QUIT")
    await eventually(lambda: handler.gone)
    async with asyncio.timeout(DEADLINE):
        await service.close(grace=SHORT)
    assert handler.gone == handler.sessions


async def test_a_peer_that_is_gone_when_the_service_ends() -> None:
    handler = Gate()
    service = service_of(SMTP, handler)
    await service.start()
    async with talking(service) as client:
        await client.begin_data()
        await client.send(".\r\n")
        await handler.wait_reached()
        client.reset()
    async with asyncio.timeout(DEADLINE):
        await service.close(grace=SHORT)
    assert handler.gone == handler.sessions
    assert handler.envelopes == []
