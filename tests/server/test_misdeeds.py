"""Misdeeds: nothing that a peer does puts a record above INFO into anybody's log, or stays."""

import asyncio
import contextlib
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.server.peers import PROXY_HEADER, Peer, Watch, leaving_nothing, watching
from tests.server.secure import shared_server_context
from tests.server.support import DEADLINE, eventually

from smtp_handlers import Sink
from smtp_protocol import MECHANISMS, AuthResult, Envelope, Handler, Server, Session
from smtp_server import SMTP, Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

#: Seconds that a hook takes, so that its client can do something meanwhile.
WORK = 0.02

#: Seconds that a peer may be silent, where that is what it does.
SHORT = 0.3


class Slow(Handler):
    """Takes its time for everything, and counts sessions."""

    def __init__(self) -> None:
        self.came: list[Session] = []
        self.gone: list[Session] = []

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Count in."""
        self.came.append(session)
        await asyncio.sleep(WORK)
        return "220 mx.test"

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> str:
        """Work."""
        await asyncio.sleep(WORK)
        return "252 maybe"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Work."""
        await asyncio.sleep(WORK)
        return "250 OK"

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Work."""
        await asyncio.sleep(WORK)
        return "221 Bye"

    async def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        """Work."""
        await asyncio.sleep(WORK)
        return True

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: object
    ) -> bool:
        """Work."""
        await asyncio.sleep(WORK)
        return True

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Count out."""
        await asyncio.sleep(WORK)
        self.gone.append(session)

    async def auth_OWN(self, server: Server, args: list[str]) -> AuthResult:
        """Ask twice, whatever the client answers."""
        for question in ("one", "two"):
            await server.challenge_auth(question)
            await asyncio.sleep(WORK)
        return AuthResult(success=False)

    async def auth_NAIVE(self, server: Server, args: list[str]) -> AuthResult:
        """Ask, and rely on getting an answer."""
        answer: Any = await server.challenge_auth("well?")
        return AuthResult(success=answer.startswith(b"good"))


class SlowStream(Slow):
    """The same, and reads messages as they come."""

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> str:
        """Work at each chunk."""
        async for _ in chunks:
            await asyncio.sleep(WORK)
        return "250 OK"


class WrappingStream(Slow):
    """Makes an error of its own of whatever ends its message, as programs do."""

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> str:
        """Read in a group of tasks."""

        async def read() -> None:
            async for _ in chunks:
                await asyncio.sleep(WORK)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
        except BaseExceptionGroup as error:
            raise RuntimeError("the message cannot be stored") from error
        return "250 OK"


class Pinging(SMTP):
    """Has a command of its own, which takes its time."""

    async def smtp_PING(self, arg: str | None) -> str:
        """Push the first half of nothing."""
        await asyncio.sleep(WORK)
        await self.push("250 pong")
        await asyncio.sleep(WORK)
        return "250 never sent"


async def decide(*args: object) -> AuthResult:
    await asyncio.sleep(WORK)
    return AuthResult(success=False)


# How far a peer goes before its misdeed.


@dataclass(frozen=True)
class Step:
    """A place in a session.

    Args:
        asked: The lines with a reply each, which lead there.
        said: What is sent then, without waiting for a reply.
    """

    asked: tuple[bytes, ...] = ()
    said: bytes = b""


def b64(octets: bytes) -> bytes:
    return b64encode(octets)


HELLO = (b"EHLO c",)
MAIL = (*HELLO, b"MAIL FROM:<a@b.example>")
RCPT = (*MAIL, b"RCPT TO:<c@d.example>")
DATA = (*RCPT, b"DATA")

# More than the server reads before it has answered some.
MANY = (b"NOOP " + b"x" * 93 + b"\r\n") * 1500

STEPS: dict[str, Step] = {
    "before the greeting": Step(),
    "greeted": Step((b"NOOP",)),
    "in a line": Step(said=b"EHLO cli"),
    "after EHLO": Step(HELLO),
    "behind EHLO": Step(said=b"EHLO c\r\n"),
    "behind an unknown command": Step(said=b"\xff\xfe\r\nXYZZY\r\n"),
    "behind a line without end": Step(said=b"NOOP " + b"x" * 10_000),
    "behind a hook": Step(HELLO, b"VRFY anne\r\n"),
    "behind two hooks": Step(HELLO, b"VRFY anne\r\nVRFY bart\r\n"),
    "behind an own verb": Step(HELLO, b"PING\r\n"),
    "behind many commands": Step(HELLO, MANY),
    "behind many errors": Step(HELLO, b"XYZZY\r\n" * 1000),
    "after MAIL": Step(MAIL),
    "after RCPT": Step(RCPT),
    "after DATA": Step(DATA),
    "in a message": Step(DATA, b"Subject: x\r\n\r\nHa"),
    "in a large message": Step(DATA, b"x" * 98 + b"\r\n" * 5000),
    "behind a message": Step(DATA, b"x\r\n.\r\n"),
    "behind two messages": Step(
        DATA, b"x\r\n.\r\n" + b"\r\n".join((*MAIL[1:], *RCPT[2:], b"DATA")) + b"\r\ny\r\n.\r\n"
    ),
    "in a chunk": Step(RCPT, b"BDAT 100\r\nabc"),
    "after a chunk": Step(RCPT, b"BDAT 3\r\nabc"),
    "behind the last chunk": Step(RCPT, b"BDAT 3\r\nabcBDAT 3 LAST\r\nxyz"),
    "behind QUIT": Step(HELLO, b"QUIT\r\n"),
    "after QUIT": Step((*HELLO, b"QUIT")),
    "behind commands behind QUIT": Step(HELLO, b"QUIT\r\n" + b"NOOP\r\n" * 1000),
    "after too many errors": Step((*HELLO, *[b"XYZZY"] * 20)),
    "in STARTTLS": Step(HELLO, b"STARTTLS\r\n"),
    "after STARTTLS": Step((*HELLO, b"STARTTLS")),
    "in the hello after STARTTLS": Step((*HELLO, b"STARTTLS"), b"\x16\x03\x01\x02\x00\x01\x00"),
    "with commands behind STARTTLS": Step(HELLO, b"STARTTLS\r\n" + MANY),
    "own mechanism": Step(HELLO, b"AUTH OWN\r\n"),
    "own mechanism, asked": Step((*HELLO, b"AUTH OWN")),
    "own mechanism, answered": Step((*HELLO, b"AUTH OWN"), b64(b"x") + b"\r\n"),
    "own mechanism, asked again": Step((*HELLO, b"AUTH OWN", b64(b"x"))),
    "own mechanism, given up": Step((*HELLO, b"AUTH OWN"), b"*\r\n"),
    "naive mechanism, asked": Step((*HELLO, b"AUTH NAIVE")),
    "naive mechanism, given up": Step((*HELLO, b"AUTH NAIVE"), b"*\r\n"),
    "naive mechanism, rubbish": Step((*HELLO, b"AUTH NAIVE"), b"!\r\n"),
    "LOGIN, name": Step((*HELLO, b"AUTH LOGIN", b64(b"anne"))),
    "LOGIN, decided": Step((*HELLO, b"AUTH LOGIN", b64(b"anne")), b64(b"x") + b"\r\n"),
    "PLAIN, decided": Step(HELLO, b"AUTH PLAIN " + b64(b"\0a\0b") + b"\r\n"),
    "XOAUTH2, told": Step(
        (*HELLO, b"AUTH XOAUTH2 " + b64(b"user=a\1auth=Bearer x\1\1")),
    ),
    "XOAUTH2, given up": Step(
        (*HELLO, b"AUTH XOAUTH2 " + b64(b"user=a\1auth=Bearer x\1\1")), b"*\r\n"
    ),
    "SCRAM-SHA-256, told": Step((*HELLO, b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=anne,r=abcdefgh"))),
}

#: Places in each of the built-in mechanisms.
LOGINS: dict[str, Step] = {
    **{f"{name}, asked": Step((*HELLO, b"AUTH " + name.encode())) for name in MECHANISMS},
    **{f"{name}, begun": Step(HELLO, b"AUTH " + name.encode() + b"\r\n") for name in MECHANISMS},
    **{
        f"{name}, rubbish": Step((*HELLO, b"AUTH " + name.encode()), b"AAAA\r\n!\r\n\xff\r\n")
        for name in MECHANISMS
    },
}

#: Where a message is, for handlers that read it as it comes.
STREAMED = {name: step for name, step in STEPS.items() if name.endswith(("message", "chunk"))}

#: Where it matters that replies are not read.
DEAF = ("greeted", "behind a hook", "behind many commands", "in a message", "own mechanism, asked")

# What it does then.

Misdeed = Callable[[Peer], Awaitable[None]]


async def goes(peer: Peer) -> None:
    peer.close()


async def closes_tls_and_goes(peer: Peer) -> None:
    await peer.close_tls()


async def ends_its_half(peer: Peer) -> None:
    peer.half_close()
    await peer.rest()
    peer.close()


async def resets(peer: Peer) -> None:
    peer.reset()


async def says_rubbish(peer: Peer) -> None:
    await peer.send(b"\0\xff\x80\r\n\r\n\n\r" * 200)
    peer.half_close()
    await peer.rest()
    peer.close()


async def says_rubbish_past_tls(peer: Peer) -> None:
    await peer.raw(b"\x17\x03\x03\x00\x20" + b"\xa5" * 300)
    if peer.tls is None:  # it did not get as far
        peer.half_close()
    await peer.rest()
    peer.reset()


async def is_silent(peer: Peer) -> None:
    await peer.rest()
    peer.close()


async def does_not_read(peer: Peer) -> None:
    for _ in range(50):
        await peer.send(b"NOOP " + b"x" * 400 + b"\r\nEHLO client.test\r\n")
    await asyncio.sleep(2 * SHORT)
    peer.reset()


MISDEEDS: list[Misdeed] = [
    goes,
    closes_tls_and_goes,
    ends_its_half,
    resets,
    says_rubbish,
    says_rubbish_past_tls,
    is_silent,
    does_not_read,
]


# The ways in.

WAYS_IN = ("tcp", "unix", "starttls", "implicit", "proxied", "proxied and implicit")


def service_at(way_in: str, handler: Handler, path: str, *, limit: float) -> Service:
    implicit = "implicit" in way_in
    return serve(
        handler,
        "127.0.0.1",
        0,
        unix_socket=path if way_in == "unix" else None,
        smtp_class=Pinging,
        ssl_context=shared_server_context() if implicit else None,
        tls_context=None if implicit else shared_server_context(),
        proxy_protocol_timeout=limit if "proxied" in way_in else None,
        tls_handshake_timeout=limit,
        timeout=limit,
        authenticator=decide,
        auth_mechanisms=tuple(MECHANISMS),
        auth_require_tls=False,
        auth_failure_delay=WORK,
        extensions=("CHUNKING",),
    )


async def walk(peer: Peer, way_in: str, step: Step) -> None:
    """Go as far as the step, or as the server lets."""
    if "proxied" in way_in:
        await peer.raw(PROXY_HEADER)
    if "implicit" in way_in:
        await peer.handshake()
    if step == STEPS["before the greeting"]:
        return
    await peer.reply()
    if way_in == "starttls":
        await peer.ask(b"EHLO c")
        if (await peer.ask(b"STARTTLS"))[:3] == b"220":
            await peer.handshake()
    for line in step.asked:
        if not await peer.ask(line):
            return
    if step.said:
        await peer.send(step.said)


async def commit(
    service: Service, way_in: str, misdeed: Misdeed, steps: Mapping[str, Step]
) -> None:
    """Have a peer for each step do the misdeed there."""

    async def one(step: Step) -> None:
        async with await Peer.connect(service.addresses[0]) as peer:
            with contextlib.suppress(EOFError):
                await walk(peer, way_in, step)
            await misdeed(peer)

    async with asyncio.TaskGroup() as group:
        for step in steps.values():
            group.create_task(one(step))


def steps_for(way_in: str, misdeed: Misdeed, handler: Slow) -> Mapping[str, Step]:
    """What is tried, for not everything makes a difference everywhere."""
    if type(handler) is not Slow:
        return STREAMED
    if misdeed is does_not_read:
        return {name: STEPS[name] for name in DEAF}
    return {**STEPS, **LOGINS} if way_in in ("tcp", "implicit") else STEPS


async def try_it(watch: Watch, way_in: str, misdeed: Misdeed, folder: Path) -> None:
    """Have the misdeed done at each step, and see that nothing is left of it."""
    handlers = [Slow(), SlowStream(), WrappingStream()]
    steps = [steps_for(way_in, misdeed, handler) for handler in handlers]
    limit = SHORT if misdeed in (is_silent, does_not_read) else DEADLINE
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE), leaving_nothing(), contextlib.AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(
                service_at(way_in, handler, str(folder / str(number)), limit=limit)
            )
            for number, handler in enumerate(handlers)
        ]
        async with asyncio.TaskGroup() as group:
            for service, those in zip(services, steps, strict=True):
                group.create_task(commit(service, way_in, misdeed, those))
        await eventually(lambda: watch.gone() == sum(map(len, steps)))
        for handler in handlers:
            # Those that were greeted have had their goodbye, once.
            assert len(handler.gone) == len(handler.came)
            assert len({session.id for session in handler.gone}) == len(handler.gone)
        began = loop.time()
        for service in services:
            await service.close(grace=DEADLINE)
        assert loop.time() - began < DEADLINE / 2


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.__name__)
@pytest.mark.parametrize("way_in", WAYS_IN)
async def test_what_a_peer_does_is_an_error_of_ours(
    way_in: str,
    misdeed: Misdeed,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """a08, a09, a10: at each step, on both loops, by every way in."""
    if misdeed is says_rubbish_past_tls and way_in in ("tcp", "unix", "proxied"):
        pytest.skip("there is no TLS")
    # Many of them are waited for so long, to no other end.
    monkeypatch.setattr("smtp_server.link._LINGER", 5 * WORK)
    with watching() as watch:
        await try_it(watch, way_in, misdeed, tmp_path_factory.mktemp("u"))
    assert watch.said(logging.WARNING) == []
    assert watch.unraisable == []
    assert capfd.readouterr().err == ""


# What asyncio's transports do not bear.


class Transport(asyncio.Transport):
    """A connection that there is not."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what is written."""
        self.written += data

    def close(self) -> None:
        """Note it."""
        self.closing = True

    def is_closing(self) -> bool:
        """Whether it was."""
        return self.closing

    def can_write_eof(self) -> bool:
        """Whether there is half of it."""
        return True

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


async def test_a_connection_is_closed_where_asyncio_is_about_to_do_so() -> None:
    """In ``resume_writing``: asyncio would tell twice, and fail, that it is lost."""
    protocol, transport = SMTP(Sink()), Transport()
    protocol.connection_made(transport)
    protocol.pause_writing()
    protocol.data_received(b"QUIT\r\n")
    protocol.resume_writing()
    assert not transport.closing
    await eventually(lambda: transport.closing)
    assert transport.written.endswith(b"221 Bye\r\n")
    protocol.connection_lost(None)


async def test_a_connection_that_is_being_lost_is_written_to() -> None:
    """asyncio warns of that, after a few times."""
    protocol, transport = SMTP(Sink()), Transport()
    protocol.connection_made(transport)
    greeting, transport.closing = transport.written, True
    protocol.data_received(b"NOOP\r\n" * 1000)
    await asyncio.sleep(SHORT)
    assert transport.written == greeting
    protocol.connection_lost(None)


async def test_many_commands_keep_others_waiting() -> None:
    """They are worked through in turns, with one reply each, in their order."""
    protocol, transport = SMTP(Sink(), hostname="mx.test", ident="x"), Transport()
    protocol.connection_made(transport)
    protocol.data_received(b"NOOP\r\n" * 1000 + b"RSET\r\nQUIT\r\n")
    assert transport.written.count(b"250 OK\r\n") < 200
    protocol.data_received(b"NOOP\r\n")  # behind QUIT
    await eventually(lambda: transport.closing)
    assert transport.written == b"220 mx.test x\r\n" + b"250 OK\r\n" * 1001 + b"221 Bye\r\n"
    protocol.connection_lost(None)
