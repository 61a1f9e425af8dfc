"""Verbs: a subclass of SMTP adds commands and takes over built-in ones, and HELP knows them."""

from typing import Any

import pytest
from tests.server.support import Keeper, service_of, talking

from smtp_protocol import Answer, Envelope, Handler, Reply, Server, Session
from smtp_server import SMTP, Controller, Service, auth_mechanism, syntax
from smtp_server.verbs import method_name, own_mechanisms, own_verbs


class Extended(SMTP):
    """Three commands more, and VRFY its own way."""

    @syntax("PING [text]")
    async def smtp_PING(self, arg: str | None) -> str:
        return f"250 PONG {arg!r}"

    async def smtp_X__LONG(self, arg: str | None) -> Reply:
        return Reply(250, ("one", "two"))

    async def smtp_LATER(self, arg: str | None) -> None:
        await self.push("250 Pushed")

    async def smtp_NEVER(self, arg: str | None) -> None:
        """Forget to answer."""

    @syntax("VRFY anybody")
    async def smtp_VRFY(self, arg: str | None) -> str:
        return f"550 Never heard of {arg}"

    async def smtp_lower(self) -> None:
        """No command: it is not written in capitals."""


def service() -> Service:
    return service_of(Extended, Keeper())


def test_the_verbs_of_a_class() -> None:
    assert own_verbs(SMTP) == {}
    assert own_verbs(Extended) == {
        "PING": "PING [text]",
        "X-LONG": "X-LONG",
        "LATER": "LATER",
        "NEVER": "NEVER",
        "VRFY": "VRFY anybody",
    }
    assert method_name("X-LONG") == "smtp_X__LONG"


def test_the_mechanisms_of_an_object() -> None:
    class Has:
        def auth_PLAIN(self) -> None: ...

        def auth_X__LONG(self) -> None: ...

        @auth_mechanism("X-NAMED")
        def auth_anything(self) -> None: ...

        def auth_lower(self) -> None: ...

        auth_VALUE = 3

    assert own_mechanisms(Has()) == {
        "PLAIN": "auth_PLAIN",
        "X-LONG": "auth_X__LONG",
        "X-NAMED": "auth_anything",
    }


async def test_a_custom_verb() -> None:
    async with service() as running, talking(running) as client:
        assert await client.ask("PING") == "250 PONG None"
        assert await client.ask("ping  hello world ") == "250 PONG 'hello world'"
        assert await client.ask("X-LONG") == "250-one\n250 two"
        assert await client.ask("PONG") == "500 Command not recognized"
        assert await client.ask("LOWER") == "500 Command not recognized"


async def test_a_pushed_answer_comes_once() -> None:
    async with service() as running, talking(running) as client:
        await client.send("LATER\r\nNOOP\r\nLATER\r\n")
        replies = [await client.reply() for _ in range(3)]
        assert replies == ["250 Pushed", "250 OK", "250 Pushed"]


async def test_a_verb_that_does_not_answer() -> None:
    async with service() as running, talking(running) as client:
        assert await client.ask("NEVER") == "451 Local error in processing"
        assert await client.ask("NOOP") == "250 OK"


async def test_a_verb_of_the_server_taken_over() -> None:
    async with service() as running, talking(running) as client:
        assert await client.ask("VRFY anne") == "550 Never heard of anne"


async def test_help() -> None:
    async with service() as running, talking(running) as client:
        commands = (await client.ask("HELP")).removeprefix("214 Commands: ").split()
        assert commands == sorted(commands)
        assert {"DATA", "EHLO", "LATER", "PING", "VRFY", "X-LONG"} <= set(commands)
        assert "LOWER" not in commands
        assert await client.ask("HELP ping") == "214 Syntax: PING [text]"
        assert await client.ask("HELP VRFY") == "214 Syntax: VRFY anybody"
        assert await client.ask("HELP x-long") == "214 Syntax: X-LONG"
        assert await client.ask("HELP lower") == "504 No help on that"


async def test_a_verb_that_begins_the_session_moves_its_state() -> None:
    class OwnHello(SMTP):
        async def smtp_HELO(self, arg: str | None) -> str:
            self.session.host_name = arg
            return "250 Hello yourself" if arg == "friend" else "550 Say friend"

    async with service_of(OwnHello, Keeper()) as running, talking(running) as client:
        assert await client.ask("HELO foe") == "550 Say friend"
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("503")
        assert await client.ask("HELO friend") == "250 Hello yourself"
        assert await client.ask("MAIL FROM:<a@example.com>") == "250 OK"


async def test_a_hook_for_a_custom_verb_is_the_verbs_own_affair() -> None:
    class WithHook(SMTP):
        async def smtp_PING(self, arg: str | None) -> str:
            return await hooks.handle_PING(arg)

    class PingHooks(Handler):
        async def handle_PING(self, arg: str | None) -> str:
            return f"250 {arg}"

    hooks = PingHooks()
    async with service_of(WithHook, hooks) as running, talking(running) as client:
        assert await client.ask("PING you") == "250 you"


async def test_a_custom_verb_with_a_controller() -> None:
    class WithPing(Controller):
        def factory(self) -> SMTP:
            return Extended(self.handler, **self.SMTP_kwargs)

    controller = WithPing(Keeper(), port=0)
    controller.start()
    try:
        assert controller.service is not None
        async with talking(controller.service) as client:
            assert await client.ask("PING") == "250 PONG None"
            assert (await client.ask("EHLO client.test")).endswith("SMTPUTF8\n250 HELP")
    finally:
        controller.stop()


async def test_a_help_hook_sees_the_syntaxes() -> None:
    class OwnHelp(Handler):
        async def handle_HELP(
            self, server: Server, session: Session, envelope: Envelope, topic: str
        ) -> str:
            return f"214 {server.syntaxes['PING']}"

    async with service_of(Extended, OwnHelp()) as running, talking(running) as client:
        assert await client.ask("HELP") == "214 PING [text]"


async def test_a_verb_that_is_added_after_the_class_was_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As tests do that patch a class: each server looks at its class anew."""

    class Patched(SMTP):
        """Gets a verb later."""

    async def ping(self: SMTP, arg: str | None) -> str:
        return "250 PONG"

    async with service_of(Patched, Keeper()) as running, talking(running) as client:
        assert await client.ask("PING") == "500 Command not recognized"
    with monkeypatch.context() as patch:
        patch.setattr(Patched, "smtp_PING", ping, raising=False)
        async with service_of(Patched, Keeper()) as running, talking(running) as client:
            assert await client.ask("PING") == "250 PONG"
            assert "PING" in await client.ask("HELP")
    async with service_of(Patched, Keeper()) as running, talking(running) as client:
        assert await client.ask("PING") == "500 Command not recognized"


class Restricted(SMTP):
    """Commands for those who have said EHLO, one of them in place of a built-in one."""

    @syntax("SECRET", when=lambda session: session.extended_smtp)
    async def smtp_SECRET(self, arg: str | None) -> str:
        return "250 Found"

    @syntax("VRFY me", when=lambda session: session.extended_smtp)
    async def smtp_VRFY(self, arg: str | None) -> str:
        return "250 You"


class Broken(SMTP):
    """A command whose condition fails."""

    @syntax("SECRET", when=lambda session: bool(1 / 0))
    async def smtp_SECRET(self, arg: str | None) -> str:
        return "250 Found"


async def test_a_command_that_is_not_for_everybody() -> None:
    async with service_of(Restricted, Keeper()) as running, talking(running) as client:
        for command in ("SECRET", "VRFY x"):
            assert await client.ask(command) == "502 Command not implemented"
        shown = await client.ask("HELP")
        assert "SECRET" not in shown
        assert "VRFY" not in shown
        assert await client.ask("HELP SECRET") == "504 No help on that"
        await client.ask("EHLO me")
        assert await client.ask("SECRET") == "250 Found"
        assert await client.ask("VRFY x") == "250 You"
        assert "SECRET" in await client.ask("HELP")
        assert await client.ask("HELP SECRET") == "214 Syntax: SECRET"


class Awaiting(SMTP):
    """A command whose condition is a coroutine function, which is not asked for its answer."""

    @staticmethod
    def _never(session: Session) -> Any:
        async def never() -> bool:
            return False

        pending = never()
        pending.close()
        return pending

    @syntax("SECRET", when=_never)
    async def smtp_SECRET(self, arg: str | None) -> str:
        return "250 Found"


async def test_a_condition_that_is_not_awaited_lets_nobody_use_the_command() -> None:
    async with service_of(Awaiting, Keeper()) as running, talking(running) as client:
        assert await client.ask("SECRET") == "451 Local error in processing"


async def test_a_condition_that_fails_is_a_hook_that_fails() -> None:
    async with service_of(Broken, Keeper()) as running, talking(running) as client:
        for command in ("SECRET", "HELP"):
            assert await client.ask(command) == "451 Local error in processing"
        assert await client.ask("NOOP") == "250 OK"


class Forwards(SMTP):
    """Looks at commands, and leaves the answer to the built-in ones."""

    async def smtp_VRFY(self, arg: str | None) -> Answer:
        return "550 Not bart" if arg == "bart" else await self.built_in("VRFY", arg)

    async def smtp_NOOP(self, arg: str | None) -> Answer:
        return await self.built_in("NOOP", arg)

    async def smtp_HELP(self, arg: str | None) -> Answer:
        return await self.built_in("HELP", arg)

    async def smtp_RSET(self, arg: str | None) -> Answer:
        return await self.built_in("RSET", arg)


class Verifies(Keeper):
    """Has a hook behind them."""

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> str:
        return f"252 Perhaps {address}"


async def test_a_command_that_goes_on_with_the_built_in_one() -> None:
    async with service_of(Forwards, Verifies()) as running, talking(running) as client:
        assert await client.ask("VRFY bart") == "550 Not bart"
        assert await client.ask("VRFY <anne@example.com>") == "252 Perhaps anne@example.com"
        assert (await client.ask("VRFY")).startswith("501")
        assert await client.ask("NOOP x") == "250 OK"
        assert await client.ask("HELP NOOP") == "214 Syntax: NOOP"
        assert await client.ask("RSET") == "451 Local error in processing"
