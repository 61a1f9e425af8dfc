"""Openings: from accept to greeting a connection is counted, limited in time, and logged once."""

import asyncio
import contextlib
import hashlib
import logging
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.server.hellos import hello_with
from tests.server.peers import PROXY_HEADER, Peer, Watch, leaving_nothing, watching
from tests.server.secure import (
    authority,
    client_context,
    server_context,
    shared_client_context,
    shared_server_context,
)
from tests.server.support import DEADLINE, Keeper, eventually

from smtp_server import Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

SHORT = 0.05
BUSY = b"421 4.7.0 Too many connections, try again later\r\n"

#: The ways in, as keywords of the service.
SILENT: dict[str, dict[str, Any]] = {
    "plain": {},
    "implicit": {"implicit": True},
    "proxied": {"proxy_protocol_timeout": DEADLINE},
    "proxied and implicit": {"implicit": True, "proxy_protocol_timeout": DEADLINE},
    "delayed": {"greeting_delay": DEADLINE},
    "delayed and implicit": {"implicit": True, "greeting_delay": DEADLINE},
}


def service_with(handler: Keeper, *, implicit: bool = False, **keywords: Any) -> Service:
    context = shared_server_context() if implicit else None
    return serve(handler, "127.0.0.1", 0, ssl_context=context, timeout=None, **keywords)


@contextlib.asynccontextmanager
async def kept_of(peers: list[Peer], number: int) -> AsyncIterator[list[Peer]]:
    """Those peers, ``number`` of them, that the server keeps when it has closed the others."""
    ends = {peer: asyncio.create_task(peer.rest()) for peer in peers}
    try:
        await eventually(lambda: [t.done() for t in ends.values()].count(False) <= number)
        await asyncio.sleep(SHORT)
        kept = [peer for peer, end in ends.items() if not end.done()]
        assert len(kept) == number
        yield kept
    finally:
        for end in ends.values():
            end.cancel()
        await asyncio.wait(ends.values())
        for peer in peers:
            peer.close()


async def closes_at_once(service: Service) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await service.close(grace=DEADLINE)
    assert loop.time() - began < DEADLINE / 2


# Counted from accept on.


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_host"])
@pytest.mark.parametrize("way", SILENT)
async def test_silent_clients_are_not_counted(way: str, limit: str) -> None:
    """b25: before the greeting, in the handshake, in the PROXY header."""
    if limit == "max_connections_per_host" and "proxied" in way:
        pytest.skip("whose host it is, the header tells")
    handler, keywords = Keeper(), {**SILENT[way], limit: 3}
    with watching() as watch:
        async with leaving_nothing(), service_with(handler, **keywords) as service:
            peers = [await Peer.connect(service.addresses[0]) for _ in range(10)]
            async with kept_of(peers, 3):
                pass
            # Their places are free as soon as they have gone.
            await eventually(lambda: watch.gone() == 10)
            peers = [await Peer.connect(service.addresses[0]) for _ in range(3)]
            async with kept_of(peers, 3):
                pass
            await closes_at_once(service)
    refusals = [text for text in watch.infos() if "Too many connections" in text]
    assert len(refusals) == 7
    quiet(watch)


def quiet(watch: Watch) -> None:
    assert watch.said(logging.WARNING) == []
    assert watch.unraisable == []


@pytest.mark.parametrize("implicit", [False, True])
async def test_clients_behind_a_proxy_are_counted_as_soon_as_they_are_known(implicit: bool) -> None:
    """Also those that are silent in the handshake behind the header."""
    handler = Keeper()
    service = service_with(
        handler,
        implicit=implicit,
        proxy_protocol_timeout=DEADLINE,
        greeting_delay=0 if implicit else DEADLINE,
        max_connections_per_host=2,
    )
    with watching() as watch:
        async with leaving_nothing(), service:
            peers = [await Peer.connect(service.addresses[0]) for _ in range(5)]
            for peer in peers:
                await peer.raw(PROXY_HEADER)
            async with kept_of(peers, 2):
                pass
            await closes_at_once(service)
    assert len([text for text in watch.infos() if "Too many connections" in text]) == 3
    quiet(watch)


async def test_one_ipv6_network_is_many_hosts() -> None:
    """b17: 2^64 addresses are one client's; another network is another client."""
    hosts = {
        "2001:db8::1": True,
        "2001:db8::2": False,
        "2001:db8:0:0:ffff::3": False,
        "2001:db8:0:1::1": True,
        "::ffff:192.0.2.1": True,
        "64:ff9b::c000:201": False,
        "::ffff:192.0.2.2": True,
    }
    service = service_with(Keeper(), proxy_protocol_timeout=DEADLINE, max_connections_per_host=1)
    async with service, contextlib.AsyncExitStack() as stack:
        for host, good in hosts.items():
            peer = await stack.enter_async_context(await Peer.connect(service.addresses[0]))
            await peer.raw(f"PROXY TCP6 {host} 2001:db8::ff 4000 25\r\n".encode())
            assert ((await peer.reply())[:3] == b"220") is good, host


async def test_a_prefix_of_ones_own() -> None:
    service = service_with(
        Keeper(), proxy_protocol_timeout=DEADLINE, max_connections_per_host=1, ipv6_prefix=128
    )
    async with service, contextlib.AsyncExitStack() as stack:
        for host, good in {
            "2001:db8::1": True,
            "2001:db8::2": True,
            "2001:db8:0::1": False,
        }.items():
            peer = await stack.enter_async_context(await Peer.connect(service.addresses[0]))
            await peer.raw(f"PROXY TCP6 {host} 2001:db8::ff 4000 25\r\n".encode())
            assert ((await peer.reply())[:3] == b"220") is good, host


@pytest.mark.parametrize("keyword", ["proxy_trusted", "xclient_trusted"])
async def test_a_client_that_was_reset_before_it_was_seen_is_trusted(keyword: str) -> None:
    """It has no address any more, as those have none that come over a Unix socket."""
    handler = Keeper()
    more: dict[str, Any] = {keyword: ("unix",)}
    said = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n"
    if keyword == "proxy_trusted":
        more["proxy_protocol_timeout"] = DEADLINE
        said = PROXY_HEADER + said
    else:
        said = b"EHLO c\r\nXCLIENT ADDR=192.0.2.7\r\n" + said
    with watching() as watch:
        async with leaving_nothing(), service_with(handler, **more) as service:
            peer = Peer(connected_before_anything_else(service))
            peer.sock.send(said)
            peer.reset()
            await asyncio.sleep(SHORT)
            await closes_at_once(service)
    assert {session.peer_host for session in handler.sessions} <= {"127.0.0.1"}
    if keyword == "proxy_trusted":
        assert (handler.sessions, handler.envelopes) == ([], [])
    quiet(watch)


def connected_before_anything_else(service: Service) -> socket.socket:
    """A connection that the event loop has had no time to accept."""
    (address,) = service.addresses
    assert isinstance(address, tuple)
    return socket.create_connection(address)


# Handshakes that fail.

Failure = Callable[[Peer], Any]


async def distrust(peer: Peer) -> None:
    """As a client does that does not know the authority."""
    with pytest.raises(ssl.SSLError):
        await peer.handshake(ssl.create_default_context())


async def old_version(peer: Peer) -> None:
    context = client_context()
    with ignoring_deprecations():
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, EOFError)):
        await peer.handshake(context)


@contextlib.contextmanager
def ignoring_deprecations() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


async def no_common_cipher(peer: Peer) -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("NULL-SHA256:@SECLEVEL=0")  # which no server has by default
    with pytest.raises((ssl.SSLError, EOFError)):
        await peer.handshake(context)


async def rubbish(peer: Peer) -> None:
    await peer.raw(b"EHLO client.test\r\nQUIT\r\n")
    await peer.rest()


async def zeros(peer: Peer) -> None:
    await peer.raw(bytes(4000))
    await peer.rest()


async def http(peer: Peer) -> None:
    await peer.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await peer.rest()


async def nothing_and_fin(peer: Peer) -> None:
    peer.half_close()
    await peer.rest()


async def nothing_and_reset(peer: Peer) -> None:
    peer.reset()


async def half_a_hello_and_fin(peer: Peer) -> None:
    hello = peer.hello()
    await peer.raw(hello[: len(hello) // 2])
    peer.half_close()
    await peer.rest()


async def half_a_hello_and_reset(peer: Peer) -> None:
    hello = peer.hello()
    await peer.raw(hello[: len(hello) // 2])
    peer.reset()


async def a_hello_and_fin(peer: Peer) -> None:
    await peer.raw(peer.hello())
    peer.half_close()
    while await peer.receive():
        pass


async def a_hello_and_reset(peer: Peer) -> None:
    await peer.raw(peer.hello())
    await peer.receive()
    peer.reset()


async def a_hello_and_rubbish(peer: Peer) -> None:
    await peer.raw(peer.hello())
    await peer.receive()
    await peer.raw(b"\x16\x03\x03\x00\x04abcd" * 3)
    await peer.rest()


async def an_alert(peer: Peer) -> None:
    await peer.raw(b"\x15\x03\x01\x00\x02\x02\x28")
    await peer.rest()


async def a_name_that_is_too_long(peer: Peer) -> None:
    await peer.raw(hello_with(b"a" * 300))
    await peer.rest()


async def silence(peer: Peer) -> None:
    await peer.rest()


FAILURES: list[Failure] = [
    distrust,
    old_version,
    no_common_cipher,
    rubbish,
    zeros,
    http,
    nothing_and_fin,
    nothing_and_reset,
    half_a_hello_and_fin,
    half_a_hello_and_reset,
    a_hello_and_fin,
    a_hello_and_reset,
    a_hello_and_rubbish,
    an_alert,
    a_name_that_is_too_long,
    silence,
]


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_failed_handshake_leaves_no_record(implicit: bool, proxied: bool) -> None:
    """a13, b13: one line at INFO, with peer and reason, and nothing else at any level above."""
    handler = Keeper()
    with watching() as watch:
        for failure in FAILURES:
            watch.records.clear()
            service = serve(
                handler,
                "127.0.0.1",
                0,
                ssl_context=shared_server_context() if implicit else None,
                tls_context=None if implicit else shared_server_context(),
                proxy_protocol_timeout=DEADLINE if proxied else None,
                tls_handshake_timeout=SHORT if failure is silence else DEADLINE,
            )
            async with asyncio.timeout(DEADLINE), leaving_nothing(), service:
                async with await Peer.connect(service.addresses[0]) as peer:
                    host = peer.sock.getsockname()[0]
                    if proxied:
                        await peer.raw(PROXY_HEADER)
                        host = "192.0.2.7"
                    if not implicit:
                        await peer.reply()
                        await peer.ask(b"EHLO c")
                        assert (await peer.ask(b"STARTTLS"))[:3] == b"220"
                    await failure(peer)
                    await eventually(watch.infos)
                await closes_at_once(service)
            one_line(watch, failure, host)
    assert watch.unraisable == []
    assert len(handler.gone) == len(handler.sessions)


def one_line(watch: Watch, failure: Failure, host: str) -> None:
    said = failure.__name__, watch.said(logging.INFO)
    (record,) = [record for record in watch.records if record.levelno >= logging.INFO]
    assert "] No session: the TLS handshake failed: " in record.getMessage(), said
    assert record.getMessage().rpartition(": ")[2], said
    assert record.__dict__["peer"] == host, said
    assert record.__dict__["session"], said
    assert record.levelno == logging.INFO, said


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_handshake_that_is_cancelled_from_elsewhere(implicit: bool) -> None:
    handler = Keeper()
    with watching() as watch:
        async with leaving_nothing():
            mine = asyncio.all_tasks()
            service = serve(
                handler,
                "127.0.0.1",
                0,
                ssl_context=shared_server_context() if implicit else None,
                tls_context=None if implicit else shared_server_context(),
                max_connections=1,
            )
            async with service:
                for _ in range(2):
                    async with await Peer.connect(service.addresses[0]) as peer:
                        if not implicit:
                            await peer.reply()
                            await peer.ask(b"EHLO c")
                            assert (await peer.ask(b"STARTTLS"))[:3] == b"220"
                        await eventually(lambda: asyncio.all_tasks() - mine)
                        for task in asyncio.all_tasks() - mine:
                            task.cancel()
                        assert await peer.rest() == b""
                    await eventually(lambda: len(handler.gone) == len(handler.sessions))
                await closes_at_once(service)
    assert watch.unraisable == []


# The end of a service, and silent handshakes.


@pytest.mark.parametrize("way", ["implicit", "starttls", "proxied", "proxied and implicit"])
async def test_serve_forever_waits_for_a_silent_handshake(way: str) -> None:
    """b14: it ends with `close`, which ends with the grace."""
    implicit, proxied = "implicit" in way, "proxied" in way
    service = serve(
        Keeper(),
        "127.0.0.1",
        0,
        ssl_context=shared_server_context() if implicit else None,
        tls_context=shared_server_context() if way == "starttls" else None,
        proxy_protocol_timeout=2 * DEADLINE if proxied else None,
        tls_handshake_timeout=2 * DEADLINE,
    )
    with watching() as watch:
        async with asyncio.timeout(DEADLINE), leaving_nothing():
            await service.start()
            forever = asyncio.create_task(service.serve_forever())
            peers = [await Peer.connect(service.addresses[0]) for _ in range(4)]
            if proxied and implicit:
                await peers[0].raw(PROXY_HEADER)
            if implicit:
                await peers[0].raw(peers[0].hello()[:50])
            if way == "starttls":
                for peer in peers:
                    await peer.reply()
                    await peer.ask(b"EHLO c")
                    await peer.ask(b"STARTTLS")
            await asyncio.sleep(SHORT)
            await service.close(grace=SHORT)
            await forever
            for peer in peers:
                assert await peer.rest() == b""
                peer.close()
    quiet(watch)


# Certificates that are read again.


def offer(peer: Peer) -> tuple[str, str | None]:
    """What a peer was shown: the certificate, and the version."""
    assert peer.tls is not None
    shown = peer.tls.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest(), peer.tls.version()


@pytest.mark.parametrize("way", ["implicit", "starttls", "proxied"])
async def test_a_reload_changes_the_certificate_alone(way: str) -> None:
    """b07: verify mode and versions, too, for the next handshake, whichever keyword it was."""
    strict = False

    def make() -> ssl.SSLContext:
        context = server_context()
        if strict:
            context.verify_mode = ssl.CERT_REQUIRED
            authority().configure_trust(context)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    service = serve(
        Keeper(),
        "127.0.0.1",
        0,
        ssl_context=None if way == "starttls" else make,
        tls_context=make if way == "starttls" else None,
        proxy_protocol_timeout=DEADLINE if way == "proxied" else None,
    )

    async def meet(context: ssl.SSLContext) -> tuple[str, str | None] | None:
        async with await Peer.connect(service.addresses[0]) as peer:
            if way == "proxied":
                await peer.raw(PROXY_HEADER)
            if way == "starttls":
                await peer.reply()
                await peer.ask(b"EHLO c")
                await peer.ask(b"STARTTLS")
            try:
                await peer.handshake(context)
                if way == "starttls":
                    said = await peer.ask(b"NOOP")
                else:
                    said = await peer.reply()
            except (ssl.SSLError, EOFError):
                return None
            return offer(peer) if said[:1] == b"2" else None

    async with service:
        first = await meet(old)
        assert first is not None
        assert first[1] == "TLSv1.2"
        assert await meet(shared_client_context()) is not None
        strict = True
        service.reload_tls()
        assert await meet(old) is None
        assert await meet(shared_client_context()) is None
        good = await meet(client_context("anne@example.com"))
        assert good is not None
        assert good[1] == "TLSv1.3"
        assert good[0] != first[0]


# The server's name.


@pytest.mark.parametrize("kind", ["sni_callback", "set_servername_callback", None])
@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_server_name_that_prints_a_traceback(
    implicit: bool, kind: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """b22: with a callback of the user's own, which cannot be told every name, or without."""
    context, asked = server_context(), []

    def callback(tls: object, name: str | None, context: object) -> None:
        asked.append(name)

    if kind == "sni_callback":
        context.sni_callback = callback
    elif kind is not None:
        with ignoring_deprecations():
            context.set_servername_callback(callback)
    handler = Keeper()
    names = [b"localhost", "café".encode(), b"a\r\nb", b"x" * 200, b"a..b", b"x" * 255, b"x" * 300]
    with watching() as watch:
        async with leaving_nothing():
            service = serve(
                handler,
                "127.0.0.1",
                0,
                ssl_context=context if implicit else None,
                tls_context=None if implicit else context,
                tls_handshake_timeout=DEADLINE,
            )
            async with service:
                for name in names:
                    for cut in (False, True):
                        async with await Peer.connect(service.addresses[0]) as peer:
                            if not implicit:
                                await peer.reply()
                                await peer.ask(b"EHLO c")
                                await peer.ask(b"STARTTLS")
                            hello = hello_with(name)
                            for octets in split(hello) if cut else [hello]:
                                await peer.raw(octets)
                                await asyncio.sleep(0)
                            await peer.receive()
                await closes_at_once(service)
    quiet(watch)
    assert capfd.readouterr().err == ""
    assert set(asked) <= {"localhost", "a\r\nb"}
    assert ("localhost" in asked) is (kind is not None)
    for text in watch.infos():
        assert text.isprintable()


class Interrupting(BaseException):
    """What is no `Exception`."""


def no_answer(*question: object) -> None:
    raise KeyError(question[1])


def interrupting(*question: object) -> None:
    raise Interrupting


def leaving(*question: object) -> None:
    raise SystemExit(3)


def answering(answer: object) -> Callable[..., Any]:
    return lambda *question: answer


def switching_to_rubbish(tls: Any, *question: object) -> None:
    tls.context = "none"


@pytest.mark.parametrize(
    "callback",
    [
        no_answer,
        interrupting,
        leaving,
        switching_to_rubbish,
        answering("no"),
        answering(2**80),
        answering(-1),
        answering(no_answer),
    ],
)
@pytest.mark.parametrize("way", ["implicit", "starttls", "proxied"])
async def test_a_callback_that_fails_is_told_of_once(
    way: str, callback: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """The standard library would print it to stderr, and the handshake fail without a reason."""
    context, handler = server_context(), Keeper()
    service = serve(
        handler,
        "127.0.0.1",
        0,
        ssl_context=context if way != "starttls" else None,
        tls_context=context if way == "starttls" else None,
        proxy_protocol_timeout=DEADLINE if way == "proxied" else None,
    )
    # Also one that is set when the server has the context already.
    context.sni_callback = callback
    with watching() as watch:
        async with leaving_nothing(), service:
            for _ in range(2):
                async with await Peer.connect(service.addresses[0]) as peer:
                    if way == "proxied":
                        await peer.raw(PROXY_HEADER)
                    if way == "starttls":
                        await peer.reply()
                        await peer.ask(b"EHLO c")
                        await peer.ask(b"STARTTLS")
                    with pytest.raises((EOFError, ssl.SSLError)):
                        await peer.handshake()
                    assert await peer.rest() == b""
            # What is mended meanwhile is used.
            context.sni_callback = lambda *question: None
            async with await Peer.connect(service.addresses[0]) as peer:
                if way == "proxied":
                    await peer.raw(PROXY_HEADER)
                if way == "starttls":
                    await peer.reply()
                    await peer.ask(b"EHLO c")
                    await peer.ask(b"STARTTLS")
                await peer.handshake()
                assert (await peer.ask(b"NOOP"))[:1] == b"2"
    assert watch.unraisable == []
    assert capfd.readouterr().err == ""
    records = [record for record in watch.records if record.levelno > logging.INFO]
    assert [record.levelno for record in records] == [logging.ERROR] * 2
    for record in records:
        assert "the sni_callback failed" in record.getMessage()
        assert vars(record)["session"]
        assert vars(record)["peer"] == ("192.0.2.7" if way == "proxied" else "127.0.0.1")
        assert record.exc_info
    assert len(handler.gone) == len(handler.sessions)


def split(octets: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in octets]


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_server_name_is_known_though_it_is_cut(implicit: bool) -> None:
    handler = Keeper()
    service = serve(
        handler,
        "127.0.0.1",
        0,
        ssl_context=shared_server_context() if implicit else None,
        tls_context=None if implicit else shared_server_context(),
    )
    context = client_context()
    context.check_hostname = False
    async with service:
        for name in ("localhost", None):
            async with await Peer.connect(service.addresses[0]) as peer:
                if not implicit:
                    await peer.reply()
                    await peer.ask(b"EHLO c")
                    await peer.ask(b"STARTTLS")
                await peer.handshake(context, name, cut=True)
                assert (await peer.ask(b"NOOP"))[:3] in (b"220", b"250")
                (session,) = handler.sessions[-1:]
                assert session.tls is not None
                assert session.tls.sni == name


class Own(ssl.SSLObject):
    """A class of the user's own."""


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
async def test_a_context_with_a_class_of_its_own(implicit: bool) -> None:
    """It is taken as it is; the name is then not known."""
    context, handler = server_context(), Keeper()
    context.sslobject_class = Own
    service = serve(
        handler,
        "127.0.0.1",
        0,
        ssl_context=context if implicit else None,
        tls_context=None if implicit else context,
    )
    async with service, await Peer.connect(service.addresses[0]) as peer:
        if not implicit:
            await peer.reply()
            await peer.ask(b"EHLO c")
            await peer.ask(b"STARTTLS")
        await peer.handshake()
        assert (await peer.ask(b"NOOP"))[:1] == b"2"
        (session,) = handler.sessions
        assert isinstance(session.ssl, Own)
        assert session.tls is not None
        assert session.tls.sni is None
