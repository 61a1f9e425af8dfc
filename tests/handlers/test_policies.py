"""Policies: what each refuses, and that the rest gets to the handler behind."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from tests.handlers.clients import HELLO, session
from tests.handlers.test_front import Streaming, Whole

from smtp_handlers import (
    AddReceived,
    Front,
    Proxy,
    RateLimit,
    RequireAuth,
    RestrictRecipients,
)
from smtp_protocol import AnyHandler, Envelope, MailOptions, Reply, Server, Session
from smtp_server import SMTP

ALLOWED = [
    "bart@example.com",
    "BART@EXAMPLE.COM",
    "x@sub.example.org",
    "postmaster",
    "Postmaster",
    '"bart"@example.com',
    r'"b\art"@Example.COM',
    "a'b+c=d@example.com",
]
REFUSED = [
    "bart@example.net",
    "bart@example.com.evil.example",
    "bart@sub.example.com",
    "x@example.org",
    "x@notexample.org",
    '"bart@example.com"@example.net',
    "bart%example.com@example.net",
]
# What a server behind could read as an order to relay.
ROUTED = [
    "victim%other.example@example.com",
    "other.example!victim@example.com",
    '"victim@other.example"@example.com',
    r'"victim\@other.example"@example.com',
    r'"victim\%other.example"@sub.example.org',
    '"other.example!victim"@example.com',
    "%@example.com",
    '"@"@example.com',
]


async def outcomes(handler: AnyHandler, addresses: list[str]) -> list[str]:
    """The answer to each recipient."""
    async with session(handler) as client:
        await client("MAIL FROM:<anne@example.com>")
        return [str(await client(f"RCPT TO:<{address}>")) for address in addresses]


async def test_domains() -> None:
    handler = RestrictRecipients(Whole(), ["Example.com", ".example.org"])
    assert {answer[:3] for answer in await outcomes(handler, ALLOWED)} == {"250"}
    assert {answer[:9] for answer in await outcomes(handler, REFUSED)} == {"550 5.7.1"}


async def test_no_relaying_through_the_local_part() -> None:
    handler = RestrictRecipients(Whole(), ["example.com", ".example.org"])
    assert {answer[:9] for answer in await outcomes(handler, ROUTED)} == {"550 5.7.1"}
    handler = RestrictRecipients(Whole(), lambda address: True)
    assert {answer[:9] for answer in await outcomes(handler, ROUTED)} == {"550 5.7.1"}
    handler = RestrictRecipients(Whole(), ["example.com", ".example.org"], allow_routing=True)
    assert {answer[:3] for answer in await outcomes(handler, ROUTED)} == {"250"}


BOOKS = [
    "anne@bücher.example",
    "anne@xn--bcher-kva.example",
    "anne@bu\u0308cher.example",
    "anne@BÜCHER.example",
    "anne@XN--BCHER-KVA.Example",
]


@pytest.mark.parametrize("domain", [address.removeprefix("anne@") for address in BOOKS])
async def test_spellings_of_a_domain_have_one_policy(domain: str) -> None:
    for handler, refusal in [
        (RestrictRecipients(Whole(), [domain]), "550"),
        (RequireAuth(Whole(), local=[domain]), "530"),
    ]:
        async with session(handler, enable_SMTPUTF8=True) as client:
            await client("MAIL FROM:<a@b.example> SMTPUTF8")
            for address in BOOKS:
                assert (await client(f"RCPT TO:<{address}>")).code == 250
            assert str(await client("RCPT TO:<anne@bucher.example>")).startswith(refusal)


async def test_domains_below_one_beyond_ascii() -> None:
    async with session(
        RestrictRecipients(Whole(), [".bücher.example"]), enable_SMTPUTF8=True
    ) as client:
        await client("MAIL FROM:<a@b.example> SMTPUTF8")
        assert (await client("RCPT TO:<a@x.xn--bcher-kva.example>")).code == 250
        assert (await client("RCPT TO:<a@x.bu\u0308cher.example>")).code == 250
        assert (await client("RCPT TO:<a@bücher.example>")).code == 550


async def test_functions_are_asked_about_the_mailbox_not_its_spelling() -> None:
    asked: list[str] = []

    def ask(address: str) -> bool:
        asked.append(address)
        return True

    await outcomes(RestrictRecipients(Whole(), ask), ['"An\\ne"@D.Example', "POSTMASTER"])
    assert asked == ["Anne@d.example", "postmaster"]


async def allows_bart(address: str) -> bool:
    return address == "bart@example.com"


@pytest.mark.parametrize(
    "allow", [allows_bart, lambda address: address == "bart@example.com"], ids=["async", "plain"]
)
async def test_function(allow: Callable[[str], bool]) -> None:
    handler = Whole()
    async with session(RestrictRecipients(handler, allow)) as client:
        assert (await client.send(to=["bart@example.com"])).code == 250
        assert (await client.send(to=["anne@example.com"])).code == 550
    assert handler.taken == [HELLO]


async def test_a_function_that_answers_with_a_refusal_allows_nobody() -> None:
    handler = Whole()
    answer: Any = "550 5.1.1 nobody here"
    async with session(RestrictRecipients(handler, lambda address: answer)) as client:
        assert (await client.send()).code == 451
    assert handler.taken == []


@pytest.mark.parametrize("policy", [RestrictRecipients, RequireAuth])
def test_one_string_is_a_mistake(
    policy: type[RestrictRecipients] | type[RequireAuth],
) -> None:
    with pytest.raises(TypeError, match=r"\['example.com'\]"):
        policy(Whole(), "example.com")


class LoggedIn(Front):
    """Makes every client an authenticated one, as AUTH would."""

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str] | str | Reply:
        session.authenticated = True
        return await self.inner.handle_EHLO(server, session, envelope, hostname, responses)


async def test_auth_for_relaying() -> None:
    handler = RequireAuth(Whole(), local=["example.com"])
    assert {answer[:9] for answer in await outcomes(handler, REFUSED)} == {"530 5.7.0"}
    assert {a[:3] for a in await outcomes(handler, ["a@example.com", "postmaster"])} == {"250"}
    assert {answer[:3] for answer in await outcomes(LoggedIn(handler), REFUSED)} == {"250"}


async def test_auth_for_everything() -> None:
    handler = RequireAuth(Whole())
    async with session(handler) as client:
        assert str(await client("MAIL FROM:<anne@example.com>")).startswith("530 5.7.0")
        assert (await client("RCPT TO:<bart@example.com>")).code == 503
    assert {answer[:3] for answer in await outcomes(LoggedIn(handler), REFUSED)} == {"250"}


async def test_auth_and_relaying_through_the_local_part() -> None:
    handler = RequireAuth(Whole(), local=["example.com", ".example.org"])
    assert {answer[:9] for answer in await outcomes(handler, ROUTED)} == {"530 5.7.0"}
    assert {answer[:3] for answer in await outcomes(LoggedIn(handler), ROUTED)} == {"250"}


@pytest.mark.parametrize(
    ("front", "mail", "rcpt"),
    [
        (RequireAuth, 530, 503),
        (lambda proxy: RequireAuth(proxy, local=["example.com"]), 250, 530),
        (lambda proxy: RestrictRecipients(proxy, ["example.com"]), 250, 550),
        (lambda proxy: RestrictRecipients(RequireAuth(proxy), ["example.com"]), 250, 550),
    ],
)
async def test_strangers_open_no_connection_to_the_next_server(
    front: Callable[[AnyHandler], Front], mail: int, rcpt: int
) -> None:
    opened = 0

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    async with server:
        proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1], tls="off")
        async with session(front(proxy)) as client:
            assert (await client("MAIL FROM:<anne@example.com>")).code == mail
            assert (await client("RCPT TO:<bart@example.net>")).code == rcpt
            await client("RSET")
            assert opened == 0
        async with session(LoggedIn(front(proxy))) as client:
            assert (await client("MAIL FROM:<anne@example.com>")).code in (250, 451)
            assert (await client("RCPT TO:<bart@example.com>")).code in (451, 503)
            assert opened > 0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("smtp_handlers.policies._now", clock)
    return clock


async def test_rate_limit(clock: Clock) -> None:
    handler = Whole()
    async with session(RateLimit(handler, 3, per=60)) as client:
        assert [(await client.send()).code for _ in range(4)] == [250, 250, 250, 450]
        assert str(await client.send()).startswith("450 4.7.1 ")
        clock.now += 20
        assert [(await client.send()).code for _ in range(2)] == [250, 450]
        clock.now += 3600
        assert [(await client.send()).code for _ in range(4)] == [250, 250, 250, 450]
    assert len(handler.taken) == 7


async def test_rate_limit_by_another_key(clock: Clock) -> None:
    handler = RateLimit(Whole(), 1, key=lambda session: session.host_name)
    async with session(handler) as client:
        assert [(await client.send()).code for _ in range(2)] == [250, 450]
        await client("EHLO another.example")
        assert [(await client.send()).code for _ in range(2)] == [250, 450]


def mail(limit: RateLimit, host: str) -> bool:
    """Whether a message from this host is taken."""
    session = Session((host, 25))
    answer = limit.handle_MAIL(SMTP(limit), session, Envelope(), "a@b.example", MailOptions())
    try:
        answer.send(None)
    except StopIteration as done:
        return str(done.value).startswith("250")
    raise AssertionError("it waits")


def address(number: int) -> str:
    return f"192.0.{number // 256}.{number % 256}"


def test_rate_limit_takes_one_network_for_one_client(clock: Clock) -> None:
    limit = RateLimit(Whole(), 1)
    assert [mail(limit, f"2001:db8::{n:x}:1") for n in range(4)] == [True, False, False, False]
    assert mail(limit, "2001:db8:0:1::1")
    assert [mail(limit, host) for host in ("192.0.2.1", "::ffff:192.0.2.1")] == [True, False]
    assert [mail(limit, "/run/socket") for _ in range(2)] == [True, False]


def test_rate_limit_with_another_prefix(clock: Clock) -> None:
    limit = RateLimit(Whole(), 1, ipv6_prefix=128)
    assert [mail(limit, f"2001:db8::{n:x}") for n in (1, 2, 1)] == [True, True, False]
    limit = RateLimit(Whole(), 1, ipv6_prefix=48)
    assert [mail(limit, f"2001:db8:0:{n:x}::1") for n in (1, 2)] == [True, False]


def test_rate_limit_remembers_so_many_clients_at_most(clock: Clock) -> None:
    limit = RateLimit(Whole(), 1, max_clients=100)
    for number in range(1000):
        clock.now += 0.001
        assert mail(limit, address(number))
        assert not mail(limit, address(0))  # who comes again and again is not forgotten
    assert len(limit._full_at) == 100
    assert [mail(limit, address(number)) for number in (950, 901, 900, 899)] == [
        *(False, False, True, True)
    ]


def test_rate_limit_forgets_who_may_send_at_full_rate(clock: Clock) -> None:
    limit = RateLimit(Whole(), 2)
    for number in range(1000):
        assert mail(limit, address(number))
    clock.now += 30.1
    assert mail(limit, address(2000))
    assert len(limit._full_at) == 1


def test_rate_limit_costs_the_same_for_each_client(clock: Clock) -> None:
    """Counted in operations on the table, which no busy machine changes."""

    class Counted(OrderedDict[Hashable, float]):
        removed = 0

        def popitem(self, last: bool = True) -> tuple[Hashable, float]:
            self.removed += 1
            return super().popitem(last)

    limit = RateLimit(Whole(), 1, max_clients=500)
    limit._full_at = table = Counted()
    for number in range(5000):
        table.removed = 0
        mail(limit, address(number))
        assert table.removed == (number >= 500)


@pytest.mark.parametrize("messages", [1, 3, 7, 1000])
def test_rate_over_a_long_time(clock: Clock, messages: int) -> None:
    limit = RateLimit(Whole(), messages, per=10)
    steps = 50 * messages
    taken = 0
    for _ in range(steps):
        clock.now += 1 / messages  # ten times as often as may be
        taken += mail(limit, "192.0.2.1")
    assert abs(taken - (messages - 1 + steps / 10)) <= 1


@pytest.mark.parametrize("wrong", [{"ipv6_prefix": 0}, {"ipv6_prefix": 129}, {"max_clients": 0}])
def test_limits_that_cannot_be_meant(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"prefix|max_clients"):
        RateLimit(
            Whole(),
            1,
            ipv6_prefix=wrong.get("ipv6_prefix", 64),
            max_clients=wrong.get("max_clients", 1),
        )


@pytest.mark.parametrize(("messages", "per"), [(0, 60), (-1, 60), (1, 0), (1, float("inf"))])
def test_rates_that_cannot_be_meant(messages: int, per: float) -> None:
    with pytest.raises(ValueError, match="a rate is at least 1 message"):
        RateLimit(Whole(), messages, per)


def test_clock_is_the_monotonic_one() -> None:
    from smtp_handlers import policies

    assert policies._now is time.monotonic


async def test_several_in_front_of_one_another() -> None:
    handler = Streaming()
    stack = RateLimit(RestrictRecipients(AddReceived(handler), ["example.com"]), 2)
    async with session(stack) as client:
        assert (await client.send(to=["x@example.net"])).code == 550
        assert (await client.send()).code == 250
        assert (await client.send()).code == 450
    [taken] = handler.taken
    assert taken.startswith(b"Received: ")
