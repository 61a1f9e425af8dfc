"""Ends: whatever a hook does, its client has a reply or the end, and its place is free again."""

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from dataclasses import dataclass
from typing import Any

import pytest
from tests.server.peers import PROXY_HEADER, Peer, Watch, leaving_nothing, watching
from tests.server.secure import WireName, shared_server_context
from tests.server.support import DEADLINE, eventually

from smtp_protocol import AuthResult, Envelope, Server, Session
from smtp_server import LMTP, SMTP, Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

#: Seconds that a hook may take where it hangs.
SHORT = 0.05


class Failed(BaseException):
    """Such as ``pytest.fail`` raises, or ``gevent.Timeout``."""


class Speechless(BaseException):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise SystemExit("my secret")


# What a hook can do.

Deed = Callable[[], Awaitable[Any]]


def returning(result: object) -> Deed:
    async def deed() -> object:
        return result

    return deed


async def cancel_oneself() -> object:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "250 not reached"


async def cancel_oneself_and_return() -> object:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return None


async def hang() -> object:
    await asyncio.Event().wait()
    return "250 not reached"


async def fail_when_cancelled() -> object:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise Failed from None
    return "250 not reached"


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("my secret"),
    "BaseException": lambda: Failed("my secret"),
    "no text": Speechless,
    "SystemExit": lambda: SystemExit("my secret"),
    "GeneratorExit": lambda: GeneratorExit("my secret"),
    "StopIteration": lambda: StopIteration("my secret"),
    "StopAsyncIteration": lambda: StopAsyncIteration("my secret"),
    "CancelledError": lambda: asyncio.CancelledError("my secret"),
    "TimeoutError": lambda: TimeoutError("my secret"),
    "ConnectionResetError": lambda: ConnectionResetError("my secret"),
    "a group": lambda: BaseExceptionGroup("my secret", [Failed(), SystemExit()]),
}

DONE: dict[str, Deed] = {
    "None": returning(None),
    "rubbish": returning(object()),
    "two replies": returning("250 OK\r\n250 my secret"),
    "cancels itself": cancel_oneself,
    "cancels itself at its end": cancel_oneself_and_return,
    "hangs": hang,
    "fails when cancelled": fail_when_cancelled,
}

DEEDS = (*RAISED, *DONE)


# The hooks, and how a client gets to each.


@dataclass(frozen=True)
class Way:
    """How a client gets to a hook.

    Args:
        hook: The method's name.
        lines: What it says; the hook is at work for the last of them.
    """

    hook: str
    lines: tuple[bytes, ...] = ()


MAIL = (b"EHLO c", b"MAIL FROM:<a@b.example>")
RCPT = (*MAIL, b"RCPT TO:<c@d.example>")
MESSAGE = (*RCPT, b"DATA", b"x\r\n.")
PLAIN_AUTH = (b"EHLO c", b"AUTH PLAIN AGEAYg==")

WAYS = [
    Way("handle_CONNECT"),
    Way("handle_HELO", (b"HELO c",)),
    Way("handle_EHLO", (b"EHLO c",)),
    Way("handle_MAIL", MAIL),
    Way("handle_RCPT", RCPT),
    Way("handle_DATA", MESSAGE),
    Way("handle_STREAM", MESSAGE),
    Way("handle_RSET", (b"RSET",)),
    Way("handle_NOOP", (b"NOOP",)),
    Way("handle_QUIT", (b"QUIT",)),
    Way("handle_VRFY", (b"VRFY anne",)),
    Way("handle_EXPN", (b"EXPN staff",)),
    Way("handle_HELP", (b"HELP",)),
    Way("handle_AUTH", PLAIN_AUTH),
    Way("handle_STARTTLS", (b"EHLO c", b"STARTTLS")),
    Way("handle_PROXY"),
    Way("handle_exception", (b"VRFY fails",)),
    Way("handle_DISCONNECT", (b"QUIT",)),
    Way("smtp_PING", (b"PING",)),
    Way("auth_X", (b"EHLO c", b"AUTH X")),
    Way("authenticator", PLAIN_AUTH),
    Way("auth_callback", PLAIN_AUTH),
]


class Base:
    """Counts the sessions, and does well; ``armed`` until it has done its deed."""

    def __init__(self, deed: str) -> None:
        self.deed = deed
        self.armed = True
        self.last_line = asyncio.Event()
        self.reached = asyncio.Event()
        self.came: list[Session] = []
        self.gone: list[Session] = []

    async def misbehave(self) -> Any:
        """Do the deed, once."""
        if self.deed in RAISED:
            self.fail()
        self.armed = False
        self.reached.set()
        return await DONE[self.deed]()

    def fail(self) -> Any:
        """Do it, where it is to raise something."""
        self.armed = False
        self.reached.set()
        raise RAISED[self.deed]()

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Count in."""
        self.came.append(session)
        return "220 mx.test"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Count out."""
        self.gone.append(session)


#: What a hook answers that does well; the others say ``250 OK``.
RIGHT = {
    "handle_CONNECT": "220 mx.test",
    "handle_QUIT": "221 Bye",
    "handle_AUTH": "235 welcome",
    "handle_STARTTLS": True,
    "handle_PROXY": True,
    "auth_X": AuthResult(success=True),
}


def handler_with(way: Way, deed: str, *, plain: bool = False) -> Base:
    """A handler whose hook does the deed, the first time."""

    def note(handler: Base, args: Sequence[Any]) -> None:
        if way.hook == "handle_CONNECT":
            handler.came.append(args[1])
        elif way.hook == "handle_DISCONNECT":
            handler.gone.append(args[1])

    async def hook(self: Base, *args: Any) -> Any:
        note(self, args)
        return await self.misbehave() if self.armed else RIGHT.get(way.hook, "250 OK")

    def plain_hook(self: Base, *args: Any) -> Any:
        note(self, args)
        return self.fail() if self.armed else RIGHT.get(way.hook, "250 OK")

    async def fail(self: Base, *args: object) -> str:
        raise ValueError

    body: dict[str, Any] = {}
    if way.hook.startswith(("handle_", "auth_X")):
        body[way.hook] = plain_hook if plain else hook
    if way.hook == "handle_exception":
        body["handle_VRFY"] = fail
    handler = type("Misbehaving", (Base,), body)(deed)
    assert isinstance(handler, Base)
    return handler


class Pinging(SMTP):
    """Asks its handler about PING."""

    async def smtp_PING(self, arg: str | None) -> Any:
        """Misbehave."""
        handler = self.setup.handler
        assert isinstance(handler, Base)
        return await handler.misbehave() if handler.armed else "250 pong"


def service_with(
    way: Way,
    handler: Base,
    *,
    wire: WireName = "tcp",
    lmtp: bool = False,
    proxied: bool = False,
    path: str | None = None,
    plain: bool = False,
    **more: Any,
) -> Service:
    """A service with one place, at which ``way`` leads to the handler's deed."""

    async def decide(*args: object) -> Any:
        return await handler.misbehave() if handler.armed else AuthResult(success=True)

    def decide_at_once(*args: object) -> Any:
        return handler.fail() if handler.armed else AuthResult(success=True)

    keywords: dict[str, Any] = {
        "max_connections": 1,
        "auth_require_tls": False,
        "auth_failure_delay": 0,
    }
    if way.hook in ("authenticator", "auth_callback"):
        keywords[way.hook] = decide_at_once if plain else decide
    elif way.hook == "handle_AUTH":
        keywords["auth_callback"] = lambda *_: True
    if wire == "starttls" or way.hook == "handle_STARTTLS":
        keywords["tls_context"] = shared_server_context()
    if proxied or way.hook == "handle_PROXY":
        keywords["proxy_protocol_timeout"] = DEADLINE
    handled: Any = handler
    return serve(
        handled,
        "127.0.0.1",
        0,
        unix_socket=path,
        smtp_class=LMTP if lmtp else Pinging,
        ssl_context=shared_server_context() if wire == "implicit" else None,
        **{**keywords, **more},
    )


async def connect(service: Service, wire: WireName, proxied: bool) -> tuple[Peer, bytes]:
    """A connection and its greeting, inside TLS where that is how the wire begins."""
    peer = await Peer.connect(service.addresses[0])
    if proxied:
        await peer.raw(PROXY_HEADER)
    if wire == "implicit":
        try:
            await peer.handshake()
        except EOFError:
            return peer, b""
    return peer, await peer.reply()


async def go(peer: Peer, way: Way, wire: WireName, handler: Base, greeting: bytes) -> bytes:
    """Say what leads to the hook; the last reply is returned, ``b""`` for the end."""
    reply = greeting
    if wire == "starttls" and greeting[:1] == b"2":
        await peer.ask(b"EHLO c")
        await peer.ask(b"STARTTLS")
        await peer.handshake()
    for line in way.lines:
        if not reply:
            break
        if line is way.lines[-1]:
            handler.last_line.set()
        reply = await peer.ask(line)
    if way.hook == "handle_STARTTLS":
        try:
            await peer.handshake()
        except EOFError:
            return b""
        reply = await peer.ask(b"NOOP")
    return reply


def is_well(reply: bytes) -> bool:
    """Whether a client is served, or told to come again, or sees the end; nothing is promised."""
    return reply == b"" or reply[:1] == b"4"


async def outcome(
    service: Service, way: Way, wire: WireName, proxied: bool, handler: Base
) -> bytes:
    """What one client sees at last; it has gone then."""
    peer, greeting = await connect(service, wire, proxied)
    async with peer:
        return await go(peer, way, wire, handler, greeting)


async def the_end(service: Service, handler: Base) -> None:
    """Everybody has gone, nothing is left, and the service closes at once."""
    await eventually(lambda: len(handler.gone) == len(handler.came))
    assert len(set(map(id, handler.gone))) == len(handler.gone)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await service.close(grace=DEADLINE)
    assert loop.time() - began < DEADLINE / 2


def no_noise(watch: Watch) -> None:
    """Our own records alone are above INFO, and nothing went past the logs."""
    others = [record for record in watch.records if not record.name.startswith("smtp_server")]
    assert [record for record in others if record.levelno > logging.INFO] == []
    assert watch.unraisable == []
    assert "my secret" not in "".join(watch.infos())


#: What a hook may do without having failed.
GOOD = {
    ("handle_DISCONNECT", "None"),
    ("handle_DISCONNECT", "rubbish"),
    ("handle_DISCONNECT", "two replies"),
    ("handle_DISCONNECT", "cancels itself at its end"),
    # What is not true is false, and what is true is true.
    ("handle_STARTTLS", "None"),
    ("handle_STARTTLS", "rubbish"),
    ("handle_STARTTLS", "cancels itself at its end"),
    ("handle_PROXY", "None"),
    ("handle_PROXY", "rubbish"),
    ("handle_PROXY", "cancels itself at its end"),
    ("auth_callback", "None"),
    ("auth_callback", "rubbish"),
    ("auth_callback", "cancels itself at its end"),
}


async def try_it(
    watch: Watch,
    way: Way,
    deed: str,
    *,
    wire: WireName = "tcp",
    proxied: bool = False,
    meanwhile: Callable[[Base], Coroutine[None, None, None]] | None = None,
    **more: Any,
) -> None:
    """Have one client meet the deed, another one after it, and look at what is left."""
    watch.records.clear()
    proxied = proxied or way.hook == "handle_PROXY"
    handler = handler_with(way, deed, plain=bool(more.get("plain")))
    if deed in ("hangs", "fails when cancelled"):
        more["handler_timeout"] = DEADLINE if meanwhile else SHORT
    service = service_with(way, handler, wire=wire, proxied=proxied, **more)
    async with asyncio.timeout(DEADLINE), leaving_nothing(), service:
        other = asyncio.create_task(meanwhile(handler)) if meanwhile else None
        reply = await outcome(service, way, wire, proxied, handler)
        await eventually(handler.reached.is_set)
        if other is not None:
            await other
        failed = meanwhile is not None or (way.hook, deed) not in GOOD
        if failed and way.hook != "handle_DISCONNECT":
            assert is_well(reply), reply
        await eventually(lambda: len(handler.gone) == len(handler.came))
        if failed:
            await eventually(lambda: watch.said(logging.ERROR))
        # The place is free again.
        number = len(handler.came)
        while (await outcome(service, way, wire, proxied, handler))[:3] in (  # noqa: ASYNC110
            b"",
            b"421",
        ):
            await asyncio.sleep(0.001)
        assert len(handler.came) > number
        await the_end(service, handler)
    assert "my secret" not in "".join(watch.infos())
    no_noise(watch)


async def try_them(way: Way, deeds: Iterable[str], **more: Any) -> None:
    """Have each deed met."""
    with watching() as watch:
        for deed in deeds:
            try:
                await try_it(watch, way, deed, **more)
            except BaseException as error:
                error.add_note(f"{way.hook}: {deed}")
                raise
    no_noise(watch)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.hook)
async def test_a_path_that_ends_without_reply_or_cleanup(way: Way) -> None:
    """a01: any hook, ``handle_STREAM``, an authenticator; whatever is raised."""
    await try_them(way, DEEDS)


#: The ways in that are not plain TCP, as `service_with` takes them.
WAYS_IN: dict[str, dict[str, Any]] = {
    "starttls": {"wire": "starttls"},
    "implicit": {"wire": "implicit"},
    "unix": {"wire": "unix"},
    "lmtp": {"lmtp": True},
    "proxied": {"proxied": True},
    "proxied and implicit": {"proxied": True, "wire": "implicit"},
}


@pytest.mark.parametrize("way_in", WAYS_IN)
async def test_a_path_that_ends_without_cleanup_on_each_way_in(
    way_in: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    more = WAYS_IN[way_in]
    if way_in == "unix":
        more = {**more, "path": str(tmp_path_factory.mktemp("u") / "s")}
    hooks = ("handle_CONNECT", "handle_DATA", "handle_STREAM", "handle_VRFY", "handle_DISCONNECT")
    for way in WAYS:
        if way.hook in hooks:
            if way_in == "lmtp":
                lines = tuple(line.replace(b"EHLO", b"LHLO") for line in way.lines)
                way = Way(way.hook, lines)  # noqa: PLW2901
            await try_them(way, ("BaseException", "CancelledError", "cancels itself"), **more)


@pytest.mark.parametrize("hook", ["authenticator", "auth_callback"])
async def test_a_thread_that_ends_without_reply_or_cleanup(hook: str) -> None:
    """a01: an authenticator that is called in a thread, or is a plain function."""
    (way,) = [way for way in WAYS if way.hook == hook]
    await try_them(way, RAISED, plain=True)
    await try_them(way, RAISED, plain=True, auth_in_thread=True)


async def test_a_plain_function_that_fails() -> None:
    """Of those hooks that may be one; ``handle_STREAM`` is called where octets come."""
    for way in WAYS:
        if way.hook.startswith("handle_"):
            await try_them(way, ("Exception", "SystemExit", "CancelledError"), plain=True)


@pytest.mark.parametrize("error", RAISED)
async def test_a_stream_that_fails_while_its_answer_is_awaited(error: str) -> None:
    """What a task of its own ends with is not what every coroutine can be told."""

    class Late(Base):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> object:
            async for _ in chunks:
                pass
            await asyncio.sleep(SHORT)
            return self.fail()

    handler = Late(error)
    (way,) = [way for way in WAYS if way.hook == "handle_STREAM"]
    with watching() as watch:
        service = service_with(way, handler)
        async with asyncio.timeout(DEADLINE), leaving_nothing(), service:
            reply = await outcome(service, way, "tcp", False, handler)
            assert reply == b"451 Local error in processing\r\n"
            await the_end(service, handler)
    no_noise(watch)


# Cancelled from elsewhere.


async def cancel_when_reached(handler: Base) -> None:
    """As a program does that cancels all its tasks, or a library that cancels one of them."""
    mine = asyncio.all_tasks()
    await handler.reached.wait()
    for task in asyncio.all_tasks() - mine:
        task.cancel()


async def cancel_at_once(handler: Base) -> None:
    """The same before the first step, where a task does not make it when it is made."""
    mine = asyncio.all_tasks()
    await handler.last_line.wait()
    while not (others := asyncio.all_tasks() - mine):  # noqa: ASYNC110 there is no event
        await asyncio.sleep(0)
    for task in others:
        task.cancel()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.hook)
async def test_a_task_cancelled_from_elsewhere(way: Way) -> None:
    """a22: the client has 4xx, and the session ends or goes on."""
    await try_them(way, ("hangs", "fails when cancelled"), meanwhile=cancel_when_reached)


#: Those whose task begins with the hook.
BEGUN = [way for way in WAYS if way.lines and way.hook != "handle_STARTTLS"]


@pytest.mark.parametrize("way", BEGUN, ids=lambda way: way.hook)
async def test_a_task_cancelled_before_its_first_step(way: Way) -> None:
    await try_them(way, ("hangs",), meanwhile=cancel_at_once)


# Exchanges of AUTH.


class Leaving(Base):
    """Its mechanisms ask the client, and do not stay for its response."""

    async def auth_WAIT(self, server: Server, args: list[str]) -> AuthResult:
        """Give the client no time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHORT):
                await server.challenge_auth("well?")
        return AuthResult(success=True)

    async def auth_RAISE(self, server: Server, args: list[str]) -> AuthResult:
        """The same, but it fails."""
        async with asyncio.timeout(SHORT):
            await server.challenge_auth("well?")
        return AuthResult(success=True)

    async def auth_PUSH(self, server: Server, args: list[str]) -> AuthResult:
        """Ask without waiting at all."""
        await server.push("334 ")
        return AuthResult(success=True)

    async def auth_CANCEL(self, server: Server, args: list[str]) -> AuthResult:
        """Be cancelled by somebody."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(SHORT, task.cancel)
        await server.challenge_auth("well?")
        return AuthResult(success=True)


@pytest.mark.parametrize("mechanism", [b"WAIT", b"RAISE", b"PUSH", b"CANCEL"])
async def test_an_exchange_of_auth_that_its_hook_has_left(mechanism: bytes) -> None:
    """The client owes a response, and whoever should take it has gone: that session ends."""
    handler = Leaving("None")
    service = serve(handler, "127.0.0.1", 0, auth_require_tls=False, timeout=None)
    with watching() as watch:
        async with asyncio.timeout(DEADLINE), leaving_nothing(), service:
            async with await Peer.connect(service.addresses[0]) as peer:
                await peer.reply()
                await peer.ask(b"EHLO c")
                assert (await peer.ask(b"AUTH " + mechanism))[:3] == b"334"
                assert await peer.rest() == b"421 4.3.0 Local error, closing the connection\r\n"
                assert not handler.came[0].authenticated
            await the_end(service, handler)
    no_noise(watch)


async def test_a_hook_that_is_cancelled_for_a_client_that_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Inside TLS a client's close is its end, and what it sent before is worked through."""
    monkeypatch.setattr("smtp_server.service._CLEANING", 2 * DEADLINE)
    wires: tuple[WireName, ...] = ("starttls", "implicit", "tcp")
    for wire in wires:
        (way,) = [way for way in WAYS if way.hook == "handle_DATA"]
        handler = handler_with(way, "hangs")
        service = service_with(way, handler, wire=wire)
        async with asyncio.timeout(DEADLINE), leaving_nothing():
            await service.start()
            peer, greeting = await connect(service, wire, False)
            task = asyncio.create_task(go(peer, way, wire, handler, greeting))
            await handler.reached.wait()
            task.cancel()
            await asyncio.wait([task])
            await peer.close_tls()
            await asyncio.sleep(SHORT)
            await service.close(grace=SHORT)
            assert len(handler.gone) == len(handler.came) == 1


_INTERRUPTED = """
import asyncio, ssl, sys
from smtp_server import serve
from tests.server.secure import server_context

_, loop, where = sys.argv

def interrupt(*args):
    raise KeyboardInterrupt

class Handler:
    async def handle_VRFY(self, server, session, envelope, address):
        await asyncio.sleep(0)
        if where == "stream":
            return "252 what comes next"
        interrupt()

    async def handle_STREAM(self, server, session, envelope, chunks):
        interrupt()

    async def handle_DISCONNECT(self, server, session):
        print("gone", flush=True)

async def at_once(self, server, session, envelope, address):
    interrupt()

if where == "at once":
    Handler.handle_VRFY = at_once
context = server_context() if where == "sni_callback" else None
if context is not None:
    context.sni_callback = interrupt

async def main():
    async with serve(Handler(), "127.0.0.1", 0, ssl_context=context) as service:
        if context is not None:
            await asyncio.open_connection(*service.addresses[0], ssl=True, server_hostname="x.test")
        reader, writer = await asyncio.open_connection(*service.addresses[0])
        for line in "EHLO c", "VRFY a", "MAIL FROM:<a@b>", "RCPT TO:<a@b>", "DATA", ".":
            writer.write(line.encode() + b"\\r\\n")
        await asyncio.sleep(60)

try:
    if "uvloop" in loop:
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("where", ["at once", "later", "stream", "sni_callback"])
async def test_an_interrupt_ends_the_program_and_its_sessions(where: str) -> None:
    loop = type(asyncio.get_running_loop()).__module__
    command = [sys.executable, "-c", _INTERRUPTED, loop, where]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    greeted = where != "sni_callback"
    assert done.stdout.split() == ["gone"] * greeted + ["interrupted"], done.stderr
