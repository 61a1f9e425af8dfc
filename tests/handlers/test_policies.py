"""Policies: what each refuses, and that the rest gets to the handler behind."""

import time
from collections.abc import Callable

import pytest
from tests.handlers.clients import HELLO, session
from tests.handlers.test_front import Streaming, Whole

from smtp_handlers import AddReceived, Front, RateLimit, RequireAuth, RestrictRecipients
from smtp_protocol import Answer, AnyHandler, Envelope, Handler, Reply, Server, Session

ALLOWED = [
    "bart@example.com",
    "BART@EXAMPLE.COM",
    "x@sub.example.org",
    "postmaster",
    '"a@b"@example.com',
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


async def outcomes(handler: AnyHandler, addresses: list[str]) -> list[str]:
    """The answer to each recipient."""
    async with session(handler) as client:
        await client("MAIL FROM:<anne@example.com>")
        return [str(await client(f"RCPT TO:<{address}>")) for address in addresses]


async def test_domains() -> None:
    handler = RestrictRecipients(Whole(), ["Example.com", ".example.org"])
    assert {answer[:3] for answer in await outcomes(handler, ALLOWED)} == {"250"}
    assert {answer[:9] for answer in await outcomes(handler, REFUSED)} == {"550 5.7.1"}


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
    answers = await outcomes(handler, ["a@example.com", "postmaster"])
    assert {answer[:9] for answer in answers} == {"530 5.7.0"}
    assert {answer[:3] for answer in await outcomes(LoggedIn(handler), REFUSED)} == {"250"}


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


async def test_rate_limit_forgets(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp_handlers.policies._MANY", 3)
    handler = RateLimit(Whole(), 1, key=lambda session: session.host_name)
    async with session(handler) as client:
        for number in range(3):
            await client(f"EHLO old{number}.example")
            assert (await client.send()).code == 250
        clock.now += 59.9
        await client("EHLO new.example")
        assert (await client.send()).code == 250
        assert len(handler._buckets) == 4  # all of them still count
        clock.now += 0.2
        await client("EHLO newest.example")
        assert (await client.send()).code == 250
        assert sorted(map(str, handler._buckets)) == ["new.example", "newest.example"]


@pytest.mark.parametrize(("messages", "per"), [(0, 60), (-1, 60), (1, 0), (1, float("inf"))])
def test_rates_that_cannot_be_meant(messages: int, per: float) -> None:
    with pytest.raises(ValueError, match="a rate is at least 1 message"):
        RateLimit(Whole(), messages, per)


def test_clock_is_the_monotonic_one() -> None:
    from smtp_handlers import policies

    assert policies._now is time.monotonic


@pytest.mark.parametrize("handler", [Whole(), Streaming()], ids=["whole", "streaming"])
async def test_add_received(handler: Whole | Streaming) -> None:
    handler.taken.clear()
    async with session(AddReceived(handler)) as client:
        assert (await client.send()).code == 250
        assert (await client.send(b"")).code == 250
    for taken, content in zip(handler.taken, [HELLO, b""], strict=True):
        assert taken.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example ")
        assert taken.endswith(b"\r\n" + content)


async def test_add_received_to_decoded_text() -> None:
    class Text(Handler):
        text: str | None = ""

        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
            self.text = envelope.text
            return "250 OK"

    handler = Text()
    async with session(AddReceived(handler), decode_data=True) as client:
        assert (await client.send()).code == 250
    assert handler.text is not None
    assert handler.text.startswith("Received: ")
    assert handler.text.endswith(HELLO.decode())


async def test_several_in_front_of_one_another() -> None:
    handler = Streaming()
    stack = RateLimit(RestrictRecipients(AddReceived(handler), ["example.com"]), 2)
    async with session(stack) as client:
        assert (await client.send(to=["x@example.net"])).code == 550
        assert (await client.send()).code == 250
        assert (await client.send()).code == 450
    [taken] = handler.taken
    assert taken.startswith(b"Received: ")
