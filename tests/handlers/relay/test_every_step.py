"""Every step: whatever the next server does at it, each recipient is told what became of its mail.

250 means that the next server has said 250, for that recipient. All else is what it has said, or
4yz; nobody waits for ever; and the next message goes through.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
from tests.handlers.relay.clock import loop, skip_from_now
from tests.handlers.relay.driver import RECIPIENTS, proxied
from tests.handlers.upstreams import CUT, STALL, Upstream

from smtp_handlers.relay.target import TLSMode

pytestmark = pytest.mark.asyncio(loop_factories=["skipping"])

FINE = "250 2.0.0 fine"
GONE = 451

# What the next server does, and the code that it then means.
BEHAVIOURS = {
    CUT: GONE,
    STALL: GONE,
    "450 4.7.1 not now": 450,
    "452-4.5.3 not\r\n452 4.5.3 now": 452,
    "550 5.7.1 never": 550,
    "503 5.5.1 what was that?": 503,
    "421 4.3.2 going down": GONE,
    "334 eh?": GONE,
    "354 go on": GONE,
    "rubbish": GONE,
    "25": GONE,
    "999 what?": GONE,
    "250-it never\r\n251 fits": GONE,
    "250 a\rb": GONE,
    "\0": GONE,
    "9" * 5000: GONE,
}

# The verb at which it does so, the time that it is said, and whether LMTP is spoken.
STEPS = [
    (verb, time, lmtp)
    for verb, time in [
        *(("greeting", 0), ("EHLO", 0), ("MAIL", 0), ("RCPT", 0), ("RCPT", 2), ("DATA", 0)),
        *(("body", 0), ("end", 0), ("end", 2)),
    ]
    for lmtp in (False, True)
    if lmtp or (verb, time) != ("end", 2)  # SMTP has one answer to a message
]


def answered(behaviour: str) -> bool:
    """Whether it is a reply that says no, after which the dialogue goes on."""
    return BEHAVIOURS[behaviour] != GONE


def expected(verb: str, time: int, behaviour: str, *, used: bool, lmtp: bool) -> list[int]:
    """What each of three recipients is told in the end."""
    code = BEHAVIOURS[behaviour]
    fine = [250, 250, 250]
    if verb in ("greeting", "EHLO"):
        # A no to EHLO for good is that of a server which knows HELO alone.
        if used or (verb == "EHLO" and not lmtp and answered(behaviour) and code >= 500):
            return fine
        return [GONE] * 3
    if verb == "MAIL":
        # Asked again on a fresh connection, where that may help.
        return fine if used and code != 550 else [code] * 3
    if verb == "DATA" and behaviour == "354 go on":
        return fine
    if verb == "RCPT":
        # A connection that is lost takes the recipients along that were accepted before.
        return replaced(fine, time, code) if answered(behaviour) else [GONE] * 3
    if verb == "end" and lmtp:
        # A reply that can be told from the next one is that of one recipient alone.
        alone = answered(behaviour) or behaviour[:3] in ("421", "334", "354")
        return replaced(fine, time, code) if alone else fine[:time] + [GONE] * (3 - time)
    return [code] * 3


def replaced(codes: list[int], place: int, code: int) -> list[int]:
    return [*codes[:place], code, *codes[place + 1 :]]


def planned(verb: str, time: int, behaviour: str) -> list[str]:
    """The answers to a verb, of which one is the bad one."""
    if verb == "body":
        return [behaviour]
    fine = {"greeting": "220 here", "DATA": "354 go on"}.get(verb, FINE)
    return [*[fine] * time, behaviour, fine]


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize(("verb", "time", "lmtp"), STEPS)
async def test_every_recipient_is_accounted_for(
    verb: str, time: int, lmtp: bool, behaviour: str, used: bool
) -> None:
    upstream = Upstream(lmtp=lmtp, on_stall=skip_from_now)
    async with proxied(upstream, lmtp=lmtp) as driver:
        if used:
            assert await driver.transaction() == [250] * 3
            upstream.taken.clear()
        word = "LHLO" if lmtp and verb == "EHLO" else verb
        upstream.answers[word] = planned(verb, time, behaviour)
        told = await driver.transaction()
        assert told == expected(verb, time, behaviour, used=used, lmtp=lmtp)
        has_it = [name for name, code in zip(RECIPIENTS, told, strict=True) if code == 250]
        if lmtp and verb == "end" and GONE in told:
            # Behind rubbish there may have been a yes, of which nobody can say whose it was.
            assert set(has_it) <= set(upstream.taken)
        else:
            assert has_it == upstream.taken
        # All is well again, whatever has happened to the connection.
        loop().skipping = False
        upstream.answers.clear()
        upstream.taken.clear()
        assert await driver.transaction() == [250] * 3
        assert len(upstream.taken) == 3


@pytest.mark.parametrize("tls", ["opportunistic", "required"])
@pytest.mark.parametrize("verb", ["STARTTLS", "handshake"])
@pytest.mark.parametrize(
    "behaviour", [CUT, STALL, "454 4.7.0 not now", "500 what?", "421 bye", "rubbish", "250 fine"]
)
async def test_tls_that_cannot_be_had(behaviour: str, verb: str, tls: TLSMode) -> None:
    upstream = Upstream(
        extensions=["STARTTLS", "8BITMIME"],
        answers={verb: behaviour},
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        on_stall=skip_from_now,
    )
    async with proxied(upstream, tls=tls, connect_timeout=30) as driver:
        told = await driver.transaction()
        assert told == [250 if tls == "opportunistic" else 451] * 3
        assert len(upstream.taken) == (3 if tls == "opportunistic" else 0)


async def test_tls_that_makes_us_wait_is_not_tried_with_each_message() -> None:
    upstream = Upstream(
        extensions=["STARTTLS", "LIMITS MAILMAX=1"],
        answers={"handshake": STALL},
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        on_stall=skip_from_now,
    )
    async with proxied(upstream) as driver:
        for _ in range(3):
            assert await driver.transaction() == [250] * 3
        assert upstream.verbs().split().count("STARTTLS") == 1
        loop().skip(300)
        assert await driver.transaction() == [250] * 3
        assert upstream.verbs().split().count("STARTTLS") == 2


async def test_a_server_that_does_not_read() -> None:
    # What it does not take is not read from the client, and nobody waits for ever.
    upstream = Upstream(answers={"body": STALL}, on_stall=skip_from_now)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            await asyncio.sleep(0)
            yield b"x" * 999_998 + b"\r\n"

    async with proxied(upstream) as driver:
        await driver.mail()
        await driver.rcpt()
        [reply] = await driver.stream(endless())
        assert str(reply).startswith("451 4.4.1 ")
        assert read < 30


@pytest.mark.parametrize("verb", ["RSET", "QUIT"])
@pytest.mark.parametrize("behaviour", [*BEHAVIOURS])
async def test_a_farewell_that_goes_wrong(behaviour: str, verb: str) -> None:
    # Given back by RSET and by the end of the session; neither is held up, or counted for long.
    upstream = Upstream(answers={verb: behaviour}, on_stall=skip_from_now)
    async with proxied(upstream) as driver:
        await driver.mail()
        assert (await driver.rset()).code == 250
        await driver.mail()
        await driver.disconnect()
        assert await driver.transaction() == [250] * 3


@pytest.mark.parametrize("word", ["421 4.3.2 going down", "250 what?", "rubbish"])
@pytest.mark.parametrize("verb", ["greeting", "EHLO", "AUTH"])
async def test_what_is_said_unasked_while_connecting(verb: str, word: str) -> None:
    fine = {"greeting": "220 here", "AUTH": "235 welcome"}.get(verb, "250-here\r\n250 AUTH PLAIN")
    upstream = Upstream(
        extensions=["AUTH PLAIN"],
        answers={"AUTH": "235 welcome", verb: f"{fine}\r\n{word}"},
        on_stall=skip_from_now,
    )
    async with proxied(upstream, tls="off", username="a", password="b") as driver:
        assert await driver.transaction() == [451] * 3
    assert upstream.taken == []
