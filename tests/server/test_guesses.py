"""Guesses: one mistyped password leaves a session, and guessing ends it, whatever way it goes."""

import asyncio
import smtplib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.peers import Peer
from tests.server.secure import Wire
from tests.server.support import DEADLINE, Dialogue, Keeper, dialogue, eventually
from tests.server.test_auth import (
    KEYWORDS,
    LOGINS,
    SECRET,
    TOO_MANY,
    WRONG,
    Clerk,
    Login,
    b64,
    plain,
)

from smtp_protocol import MECHANISMS, AuthResult, Server
from smtp_server import Controller

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HELLO = "EHLO client.test"
ERRORS = "421 4.7.0 Too many errors, closing the connection"

# Each ends a guess in its own way.

Guess = Callable[[Dialogue], Awaitable[str]]


def by(login: Login) -> Guess:
    async def guess(client: Dialogue) -> str:
        return await login(client, b"wrong-horse-battery")

    return guess


def oauth(name: str, token: bytes, last: str) -> Guess:
    async def guess(client: Dialogue) -> str:
        reply = await client.ask(f"AUTH {name} {b64(token)}")
        return await client.ask(last) if reply.startswith("334") else reply

    return guess


XOAUTH2 = b"user=anne\x01auth=Bearer guess\x01\x01"
OAUTHBEARER = b"n,a=anne,\x01host=x\x01auth=Bearer guess\x01\x01"

GUESSES: dict[str, Guess] = {
    **{login.__name__: by(login) for login in LOGINS},
    **{
        f"{name} ended with {last}": oauth(name, token, last)
        for name, token in (("XOAUTH2", XOAUTH2), ("OAUTHBEARER", OAUTHBEARER))
        for last in ("*", "!", "=", "AQ==", "\x00", "QUIT")
    },
}


@pytest.mark.parametrize("name", GUESSES)
async def test_guesses_that_cost_nothing(name: str) -> None:
    """b08: the third one ends the session, whatever the client says when it is told."""
    guess, clerk = GUESSES[name], Clerk()
    async with dialogue(Keeper(), authenticator=clerk, **KEYWORDS) as client:
        await client.ask(HELLO)
        for _ in range(2):
            assert (await guess(client))[:3] in ("535", "501")
        last = await guess(client)
        said = "\n".join((last, await client.rest()))
        assert TOO_MANY in said
    assert len(clerk.asked) <= 3


@pytest.mark.parametrize("name", GUESSES)
async def test_guesses_that_are_not_delayed(name: str) -> None:
    """b08: the next command is answered after the delay alone."""
    delay = 0.1
    keywords: dict[str, Any] = {**KEYWORDS, "auth_failure_delay": delay}
    async with dialogue(Keeper(), authenticator=Clerk(), **keywords) as client:
        await client.ask(HELLO)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await GUESSES[name](client)
        assert await client.ask("NOOP") == "250 OK"
        assert loop.time() - began > delay / 2


@pytest.mark.parametrize(
    "line",
    [
        "XYZZY",
        "AUTH",
        "AUTH PLAIN !",
        "AUTH PLAIN AAAA",
        "AUTH NTLM",
        "AUTH plain AAAA",
        "AUTH EXTERNAL =",
        "AUTH CRAM-MD5 AAAA",
        "AUTH LOGIN !",
        "AUTH XOAUTH2 AAAA",
        "AUTH SCRAM-SHA-256 AAAA",
        "AUTH PLAIN a b c",
    ],
)
async def test_errors_of_auth_never_end_a_session(line: str) -> None:
    """b23: each error reply counts."""
    async with dialogue(Keeper(), authenticator=Clerk(), max_errors=4, **KEYWORDS) as client:
        await client.ask(HELLO)
        for _ in range(4):
            assert (await client.ask(line))[:3] in ("500", "501", "502", "504"), line
        assert await client.rest() == f"{ERRORS}\r\n"


@pytest.mark.parametrize("answer", ["*", "!", "AAAA", "x" * 20_000])
@pytest.mark.parametrize("name", ["PLAIN", "CRAM-MD5", "SCRAM-SHA-1"])
async def test_responses_of_auth_never_end_a_session(name: str, answer: str) -> None:
    """b23: those to a challenge, too."""
    async with dialogue(Keeper(), authenticator=Clerk(), max_errors=4, **KEYWORDS) as client:
        await client.ask(HELLO)
        for _ in range(4):
            assert (await client.ask(f"AUTH {name}"))[:3] == "334"
            assert (await client.ask(answer))[:3] in ("500", "501")
        assert await client.rest() == f"{ERRORS}\r\n"


async def test_what_a_hook_refuses_is_counted() -> None:
    class Refusing(Keeper):
        async def handle_AUTH(self, *args: object) -> str:
            return "535 5.7.8 no"

    async with dialogue(Refusing(), **KEYWORDS) as client:
        await client.ask(HELLO)
        for _ in range(2):
            assert await client.ask(f"AUTH PLAIN {plain()}") == "535 5.7.8 no"
        assert await client.ask(f"AUTH PLAIN {plain()}") == TOO_MANY


async def test_what_an_own_mechanism_refuses_is_counted() -> None:
    class Own(Keeper):
        async def auth_X(self, server: Server, args: list[str]) -> AuthResult:
            await server.challenge_auth("?")
            return AuthResult(success=False)

    async with dialogue(Own(), **KEYWORDS) as client:
        await client.ask(HELLO)
        for expected in (WRONG, WRONG, TOO_MANY):
            await client.ask("AUTH X")
            assert await client.ask("AAAA") == expected


@pytest.mark.parametrize(
    "mechanisms", [("CRAM-MD5", "PLAIN", "LOGIN"), ("PLAIN", "LOGIN"), tuple(MECHANISMS)]
)
async def test_a_mistyped_password_is_three_failures(mechanisms: tuple[str, ...]) -> None:
    """smtplib tries a password with each mechanism; one typo leaves the session."""
    keywords: dict[str, Any] = {**KEYWORDS, "auth_mechanisms": mechanisms}
    clerk = Clerk()

    def use(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            for _ in range(2):
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.login("anne", "mistyped")
                assert client.noop()[0] == 250
            assert client.login("anne", SECRET.decode())[0] == 235

    with Controller(Keeper(), "127.0.0.1", 0, authenticator=clerk, **keywords) as controller:
        await asyncio.to_thread(use, controller.port)


async def test_guessing_with_every_mechanism_in_turn() -> None:
    """It ends when one of them has failed too often, so the number of guesses is bounded."""
    asked: list[object] = []

    def deny(*args: object) -> AuthResult:
        asked.append(args)
        return AuthResult(success=False)

    async with dialogue(Keeper(), authenticator=deny, **KEYWORDS) as client:
        await client.ask(HELLO)
        guesses = 0
        while guesses < 1000:
            for login in LOGINS:
                try:
                    reply = await login(client, b"guess")
                except (AssertionError, OSError):
                    reply = ""
                if reply[:3] not in ("535", "501"):
                    break
                guesses += 1
            else:
                continue
            break
        assert guesses <= 2 * len(LOGINS)


# The wait after a failure.


def hangs_up(peer: Peer) -> None:
    peer.close()


def resets(peer: Peer) -> None:
    peer.reset()


def half_closes(peer: Peer) -> None:
    peer.half_close()


@pytest.mark.parametrize("end", [hangs_up, resets, half_closes])
@pytest.mark.parametrize("guess", ["AUTH PLAIN", "AUTH XOAUTH2"])
async def test_who_has_gone_takes_no_place(
    wire: Wire, guess: str, end: Callable[[Peer], None]
) -> None:
    """The next client need not wait for the delay of one that is gone."""
    token = b"\0a\0b" if guess == "AUTH PLAIN" else b"user=a\1auth=Bearer x\1\1"
    handler, asked = Keeper(), asyncio.Event()

    def deny(*args: object) -> AuthResult:
        asked.set()
        return AuthResult(success=False)

    keywords: dict[str, Any] = {
        **KEYWORDS,
        "auth_failure_delay": 10 * DEADLINE,
        "max_connections": 1,
    }
    async with wire.serve(handler, authenticator=deny, **keywords) as service:
        first = await Peer.connect(service.addresses[0])
        async with first as peer:
            if wire.name == "implicit":
                await peer.handshake()
            await peer.reply()
            if wire.name == "starttls":
                await peer.ask(HELLO.encode())
                await peer.ask(b"STARTTLS")
                await peer.handshake()
            await peer.ask(HELLO.encode())
            line = f"{guess} {b64(token)}".encode()
            if guess == "AUTH PLAIN":
                await peer.send(line + b"\r\n")
            else:
                assert (await peer.ask(line))[:3] == b"334"
                await peer.send(b"*\r\n")
            await asked.wait()
            end(peer)
            await eventually(lambda: handler.gone)
            async with await wire.connect(service) as client:
                assert (await client.ask("NOOP"))[:3] == "250"


async def test_who_sends_all_guesses_at_once_and_goes_waits_after_each(wire: Wire) -> None:
    """Otherwise it would cost nothing to guess so."""
    handler, clerk, delay = Keeper(), Clerk(), 0.1
    keywords: dict[str, Any] = {**KEYWORDS, "auth_failure_delay": delay, "max_auth_failures": None}
    loop = asyncio.get_running_loop()
    async with wire.serve(handler, authenticator=clerk, **keywords) as service:
        client = await wire.connect(service)
        await client.ask(HELLO)
        began = loop.time()
        await client.send(f"AUTH PLAIN {plain(b'wrong')}\r\n" * 4)
        await client.close()
        await eventually(lambda: handler.gone)
        # Nobody is told the last of them.
        assert loop.time() - began > (len(clerk.asked) - 1.5) * delay
