"""Pool: connections are kept and counted, and renewed before the next server minds."""

import asyncio

import pytest
from tests.handlers.relay.clock import loop
from tests.handlers.relay.driver import Driver, connections, proxied
from tests.handlers.test_mailbox import until
from tests.handlers.upstreams import CUT, STALL, Upstream

from smtp_handlers import Proxy

pytestmark = pytest.mark.asyncio(loop_factories=["skipping"])

FINE = "250 2.0.0 fine"


@pytest.mark.parametrize(
    "limit",
    [
        "452 4.5.3 Too many messages in this session",
        "450 4.7.1 Too much mail",
        "451 4.3.2 Please try again later",
        "421 4.7.0 Too many messages",
        "503 5.5.1 Bad sequence of commands",
        CUT,
    ],
)
async def test_a_limit_for_one_session_stops_no_client(limit: str) -> None:
    # The third MAIL of each connection is refused.
    upstream = Upstream(answers={"MAIL": [*[FINE, FINE, limit] * 10]})
    async with proxied(upstream) as driver:
        for _ in range(8):
            assert await driver.transaction() == [250] * 3
        assert upstream.connections == 4


async def test_a_server_that_takes_no_mail_now_says_so() -> None:
    # It is not asked twice where once will do: a connection with such an answer is not kept.
    upstream = Upstream(answers={"MAIL": "452 4.3.1 No room"})
    async with proxied(upstream) as driver:
        for _ in range(3):
            assert str(await driver.mail()) == "452 4.3.1 No room"
        assert upstream.verbs().split().count("MAIL") == 3


async def test_what_is_refused_for_good_keeps_its_connection() -> None:
    upstream = Upstream(answers={"MAIL": [FINE, *["550 5.7.1 not you"] * 3, FINE]})
    async with proxied(upstream) as driver:
        assert await driver.transaction() == [250] * 3
        for _ in range(3):
            assert str(await driver.mail()) == "550 5.7.1 not you"
        assert await driver.transaction() == [250] * 3
        assert upstream.connections == 1


@pytest.mark.parametrize(
    ("limits", "connections_made"),
    [
        ("LIMITS MAILMAX=1", 6),
        ("limits mailmax=2 RCPTMAX=10", 3),
        ("LIMITS MAILMAX=5", 2),
        ("LIMITS", 1),
        ("LIMITS MAILMAX=0", 1),
        ("LIMITS MAILMAX=\u0663", 1),
    ],
)
async def test_limits_that_the_next_server_tells(limits: str, connections_made: int) -> None:
    upstream = Upstream(extensions=[limits])
    async with proxied(upstream) as driver:
        for _ in range(6):
            assert await driver.transaction() == [250] * 3
        assert upstream.connections == connections_made


async def test_recipients_beyond_the_next_servers_limit() -> None:
    upstream = Upstream(extensions=["LIMITS RCPTMAX=2"])
    async with proxied(upstream) as driver:
        assert await driver.transaction() == [250, 250, 452]
        assert await driver.transaction(["a@b", "c@d"]) == [250, 250]
    assert upstream.verbs().split().count("RCPT") == 4


async def test_use_is_bounded() -> None:
    upstream = Upstream()
    async with proxied(upstream) as driver:
        for _ in range(101):
            assert await driver.transaction(["a@b"]) == [250]
        assert upstream.connections == 2


async def test_age_is_bounded() -> None:
    upstream = Upstream()
    async with proxied(upstream) as driver:
        for _ in range(12):
            assert await driver.transaction() == [250] * 3
            loop().skip(50)
        assert upstream.connections == 2


async def test_idle_connections_end_after_a_minute() -> None:
    upstream = Upstream()
    async with proxied(upstream) as driver:
        assert await driver.transaction() == [250] * 3
        await asyncio.sleep(0)  # the one that keeps it begins to wait
        loop().skip(61)
        await until(lambda: upstream.open == 0)
        assert upstream.verbs().endswith("QUIT")


async def test_a_dead_connection_is_noticed_in_the_time_of_a_new_one() -> None:
    upstream = Upstream(on_stall=lambda: setattr(loop(), "skipping", True))
    async with proxied(upstream, timeout=300, connect_timeout=30) as driver:
        assert await driver.transaction() == [250] * 3
        upstream.answers["MAIL"] = [STALL, FINE]
        before = loop().time()
        assert await driver.transaction() == [250] * 3
        assert loop().time() - before < 60


@pytest.mark.parametrize("word", ["421 4.4.2 idle", "250 what?", "rubbish"])
async def test_what_is_said_unasked_is_no_reply(word: str) -> None:
    upstream = Upstream(answers={"RCPT": f"{FINE}\r\n{word}"})
    async with proxied(upstream) as driver:
        assert (await driver.mail()).code == 250
        assert (await driver.rcpt()).code == 250
        assert [reply.code for reply in await driver.message()] == [451]
        del upstream.answers["RCPT"]
        assert await driver.transaction() == [250] * 3


async def test_what_is_said_unasked_while_idle() -> None:
    upstream = Upstream(answers={"end": [f"{FINE}\r\n421 4.4.2 and bye", FINE]})
    async with proxied(upstream) as driver:
        assert await driver.transaction() == [250] * 3
        await until(lambda: upstream.open == 0)
        assert await driver.transaction() == [250] * 3
        assert upstream.connections == 2


async def test_there_are_never_more_than_the_most() -> None:
    upstream = Upstream()
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port, max_connections=3)
        drivers = [Driver(proxy) for _ in range(9)]
        answers = await asyncio.gather(*(driver.mail() for driver in drivers))
        assert sorted(answer.code for answer in answers) == [250] * 3 + [451] * 6
        assert connections(proxy) == upstream.open == 3
        for driver in drivers:
            await driver.disconnect()
        await until(lambda: upstream.verbs().split().count("RSET") == 3)
        assert connections(proxy) == upstream.open == 3
        await proxy.close()
        assert connections(proxy) == 0


async def test_a_fresh_connection_takes_the_place_of_an_idle_one() -> None:
    upstream = Upstream(answers={"MAIL": [FINE, FINE, "452 4.5.3 enough", FINE]})
    async with proxied(upstream, max_connections=2) as driver:
        other = Driver(driver.handler)
        await driver.mail()
        await other.mail()
        await driver.rset()
        await other.rset()
        assert await driver.transaction() == [250] * 3
        await other.disconnect()


async def test_closing_waits_for_what_is_being_given_back() -> None:
    upstream = Upstream()
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port)
        driver = Driver(proxy)
        await driver.mail()
        await driver.disconnect()
        await proxy.close()
        assert upstream.verbs() == "MAIL RSET QUIT"
        assert connections(proxy) == 0
        # It is no end of the Proxy.
        assert await driver.transaction() == [250] * 3
        await proxy.close()
