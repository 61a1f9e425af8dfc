"""Dialing: the next address is tried, and time is shared between those that there are."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.handlers.relay.clock import loop, skip_from_now
from tests.handlers.relay.driver import Driver, connections
from tests.handlers.upstreams import CUT, STALL, Upstream

from smtp_handlers import Proxy
from smtp_handlers.relay.client import UpstreamError
from smtp_handlers.relay.dialing import Dialer, Place, interleaved
from smtp_handlers.relay.target import Target

pytestmark = pytest.mark.asyncio(loop_factories=["skipping"])

# What is at an address that never answers.
HOLE = None


@asynccontextmanager
async def network(addresses: Mapping[str, Upstream | None]) -> AsyncIterator[int]:
    """A name with several addresses, mx.example, and the port that they have in common."""
    async with AsyncExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        loop().names["mx.example"] = list(addresses)
        for address, upstream in addresses.items():
            if upstream is None:
                loop().holes.add(address)
            elif upstream.die_at != "connect":
                await stack.enter_async_context(upstream.listening(host=address, port=port))
        yield port


def fine() -> Upstream:
    return Upstream()


def bad(**how: str) -> Upstream:
    return Upstream(answers=how, on_stall=skip_from_now)


BAD: Mapping[str, Upstream | None] = {
    "refuses": Upstream(die_at="connect"),
    "hole": HOLE,
    "4yz": bad(greeting="421 4.3.2 busy"),
    "5yz": bad(greeting="554 no mail here"),
    "cut": bad(greeting=CUT),
    "stall": bad(greeting=STALL),
    "rubbish": bad(greeting="SSH-2.0-x"),
    "EHLO cut": bad(EHLO=CUT),
    "EHLO stall": bad(EHLO=STALL),
    "EHLO 4yz": bad(EHLO="450 not now"),
}


@pytest.mark.parametrize("first", BAD)
@pytest.mark.parametrize("second", ["", *BAD])
async def test_the_next_address_is_tried(first: str, second: str) -> None:
    last = Upstream()
    addresses = {"127.0.0.1": BAD[first], "127.0.0.2": BAD[second or first], "127.0.0.3": last}
    if not second:
        del addresses["127.0.0.2"]
    loop().skipping = True
    before = loop().time()
    async with network(addresses) as port:
        proxy = Proxy("mx.example", port, connect_timeout=30)
        driver = Driver(proxy)
        assert await driver.transaction() == [250] * 3
        assert loop().time() - before < 30
        assert connections(proxy) == 1
        loop().skipping = False
        await proxy.close()
    assert len(last.taken) == 3


@pytest.mark.parametrize("first", BAD)
async def test_no_address_is_left(first: str) -> None:
    loop().skipping = True
    before = loop().time()
    async with network({"127.0.0.1": BAD[first], "127.0.0.2": BAD[first]}) as port:
        proxy = Proxy("mx.example", port, connect_timeout=30)
        assert str(await Driver(proxy).mail()).startswith("451 4.4.1 ")
        assert loop().time() - before < 31
        assert connections(proxy) == 0


async def test_a_name_without_an_address() -> None:
    loop().names["mx.example"] = []
    assert str(await Driver(Proxy("mx.example")).mail()).startswith("451 4.4.1 ")


async def test_addresses_are_tried_side_by_side() -> None:
    # A hole takes a quarter of a second, not its share of the time.
    loop().skipping = True
    before = loop().time()
    async with network({"127.0.0.1": HOLE, "127.0.0.2": HOLE, "127.0.0.3": fine()}) as port:
        proxy = Proxy("mx.example", port)
        assert (await Driver(proxy).mail()).code == 250
        assert loop().time() - before < 2
        loop().skipping = False
        await proxy.close()


async def test_a_wrong_password_is_tried_once() -> None:
    upstreams = [
        Upstream(extensions=["AUTH PLAIN"], answers={"AUTH": "535 5.7.8 no"}) for _ in range(2)
    ]
    async with network({"127.0.0.1": upstreams[0], "127.0.0.2": upstreams[1]}) as port:
        proxy = Proxy("mx.example", port, username="a", password="b", tls="off")
        assert str(await Driver(proxy).mail()).startswith("451 4.7.0 ")
    assert [upstream.connections for upstream in upstreams] == [1, 0]


async def test_the_failure_told_is_that_of_the_best_address() -> None:
    first = Upstream(extensions=["8BITMIME"])
    async with network({"127.0.0.1": first, "127.0.0.2": BAD["refuses"]}) as port:
        proxy = Proxy("mx.example", port, tls="required")
        assert str(await Driver(proxy).mail()).startswith("451 4.7.4 ")


async def test_tls_is_given_up_at_the_same_address() -> None:
    stalls = Upstream(
        extensions=["STARTTLS"],
        answers={"handshake": STALL},
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        on_stall=skip_from_now,
    )
    other = Upstream()
    before = loop().time()
    async with network({"127.0.0.1": stalls, "127.0.0.2": other}) as port:
        proxy = Proxy("mx.example", port, connect_timeout=30)
        assert await Driver(proxy).transaction() == [250] * 3
        assert loop().time() - before < 30
        loop().skipping = False
        await proxy.close()
    assert (stalls.connections, other.connections) == (2, 0)


async def test_look_ups_are_one_at_a_time() -> None:
    # Each takes a thread of the few that there are, and some name servers never answer.
    looking = 0
    most = 0

    class Counting(asyncio.Event):
        async def look_up(self, *args: object, **hints: object) -> list[Place]:
            nonlocal looking, most
            looking += 1
            most = max(most, looking)
            await self.wait()
            looking -= 1
            raise OSError("no such name")

    gate = Counting()
    loop().__dict__["getaddrinfo"] = gate.look_up
    proxy = Proxy("mx.example")
    asking = [asyncio.create_task(Driver(proxy).mail()) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    loop().call_later(0.01, gate.set)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {str(answer)[:10] for answer in answers[1:]} == {"451 4.4.1 "}
    assert most == 1
    assert connections(proxy) == 0


def place(family: int, name: str) -> Place:
    return (family, socket.SOCK_STREAM, 6, (name, 25))


async def test_families_take_turns() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    given = [place(six, "a"), place(six, "b"), place(six, "c"), place(four, "d"), place(four, "e")]
    assert [each[3][0] for each in interleaved(given)] == ["a", "d", "b", "e", "c"]
    assert interleaved([]) == []


async def test_a_family_that_the_system_does_not_know() -> None:
    upstream = Upstream()
    async with upstream.listening() as port:
        target = Target(
            address=("mx.example", port),
            tls="off",
            tls_context=None,
            login=None,
            lmtp=False,
            timeout=10,
            connect_timeout=10,
        )

        async def look_up(*args: object, **hints: object) -> list[object]:
            unknown = (9999, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            known = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
            return [unknown, known]

        loop().__dict__["getaddrinfo"] = look_up
        (await Dialer(target).connect("mx.example")).abort()
    assert upstream.connections == 1


async def test_all_reasons_are_told() -> None:
    async with network({"127.0.0.1": BAD["refuses"], "127.0.0.2": BAD["refuses"]}) as port:
        target = Target(
            address=("mx.example", port),
            tls="off",
            tls_context=None,
            login=None,
            lmtp=False,
            timeout=10,
            connect_timeout=10,
        )
        with pytest.raises(UpstreamError, match=r"127\.0\.0\.1.*; .*127\.0\.0\.2"):
            await Dialer(target).connect("mx.example")
