"""One fact, one place: what a server was told, offers and notes does not disagree with itself."""

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.peers import Peer
from tests.server.secure import client_context, server_context, shared_client_context
from tests.server.support import Dialogue, Keeper, dialogue, talking

from smtp_protocol import (
    MECHANISMS,
    AuthResult,
    Envelope,
    Handler,
    MailOptions,
    Server,
    Session,
)
from smtp_server import (
    SMTP,
    Controller,
    Service,
    UnixSocketController,
    UnthreadedController,
    serve,
)

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class Plain:
    """A handler whose hooks are set on the object, as ``monkeypatch.setattr`` does."""

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Take it."""
        return "250 first"


async def refuse(*args: object) -> str:
    return "550 nobody here"


async def second(*args: object) -> str:
    return "250 second"


async def ask(service: Service) -> tuple[str, str]:
    async with talking(service) as client:
        await client.tell("EHLO c", "MAIL FROM:<a@b.example>")
        refused = await client.ask("RCPT TO:<c@d.example>")
        return refused, await client.ask("NOOP")


# A second server with the same handler.


async def test_mail_that_a_new_hook_refuses_gets_250() -> None:
    """a07: each server looks at its handler afresh."""
    handler: Any = Plain()
    made = []

    def make() -> ssl.SSLContext:
        made.append(server_context())
        return made[-1]

    def new(**keywords: Any) -> Service:
        return serve(handler, "127.0.0.1", 0, tls_context=make, **keywords)

    async with new() as service:
        assert (await ask(service))[0] == "250 OK"
    handler.handle_RCPT, handler.handle_NOOP = refuse, second
    async with new() as service:
        assert await ask(service) == ("550 nobody here", "250 second")
    # Also while another one is there, and with the old class of connections.
    del handler.handle_RCPT
    async with new() as one, Service(lambda: SMTP(handler)) as two:
        two.listen("127.0.0.1", 0)
        assert await ask(one) == ("250 OK", "250 second")
    async with service_by_factory(handler) as three:
        assert await ask(three) == ("250 OK", "250 second")
    assert len(made) == 3


def service_by_factory(handler: Any) -> Service:
    """The factory makes each connection from handler and keywords."""
    service = Service(lambda: SMTP(handler, timeout=60))
    service.listen("127.0.0.1", 0)
    return service


async def test_a_second_controller_gets_the_hooks_of_the_first() -> None:
    """a07, as it was seen."""
    handler: Any = Plain()
    seen = []
    for _ in range(2):
        with Controller(handler, "127.0.0.1", 0) as controller:
            async with await Dialogue.connect(("127.0.0.1", controller.port)) as client:
                await client.reply()
                await client.tell("EHLO c", "MAIL FROM:<a@b.example>")
                seen.append(await client.ask("RCPT TO:<c@d.example>"))
        handler.handle_RCPT = refuse
    assert seen == ["250 OK", "550 nobody here"]


def by_serve(handler: Any, **keywords: Any) -> Service:
    """The service prepares what its connections share."""
    return serve(handler, "127.0.0.1", 0, **keywords)


async def ask_controller(controller: Controller | UnixSocketController) -> tuple[str, str]:
    assert controller.service is not None
    return await ask(controller.service)


@pytest.mark.parametrize("make", [by_serve, service_by_factory])
async def test_a_service_that_is_started_again_gets_the_hooks_of_before(
    make: Callable[[Any], Service],
) -> None:
    handler: Any = Plain()
    service = make(handler)
    async with service:
        assert await ask(service) == ("250 OK", "250 OK")
    handler.handle_RCPT, handler.handle_NOOP = refuse, second
    async with service:
        assert await ask(service) == ("550 nobody here", "250 second")
    del handler.handle_RCPT
    service.listen("192.0.2.1", 0)  # it is not this machine's
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        await service.start()
    assert service.setups.first is None


async def test_a_handler_that_is_wrong_when_the_service_is_started_again() -> None:
    handler: Any = Plain()
    service = by_serve(handler)
    async with service:
        pass
    handler.handle_RCPT = handler.handle_rcpt = "no method"
    with pytest.raises(TypeError):
        await service.start()


class ByFactory(Controller):
    """Makes each connection from handler and keywords."""

    def factory(self) -> SMTP:
        """Make one."""
        return SMTP(self.handler, **self.SMTP_kwargs)


@pytest.mark.parametrize("kind", [Controller, ByFactory, UnixSocketController])
async def test_a_controller_that_is_started_again_gets_the_hooks_of_before(
    kind: type[Controller | UnixSocketController], tmp_path_factory: pytest.TempPathFactory
) -> None:
    handler: Any = Plain()
    controller: Controller | UnixSocketController
    if issubclass(kind, UnixSocketController):
        controller = kind(handler, str(tmp_path_factory.mktemp("u") / "s"))
    else:
        controller = kind(handler, "127.0.0.1", 0)
    for expected in ("250 OK", "250 OK"), ("550 nobody here", "250 second"), ("250 OK", "250 OK"):
        with controller:
            assert await ask_controller(controller) == expected
        handler.handle_RCPT, handler.handle_NOOP = refuse, second
        if expected != ("250 OK", "250 OK"):
            controller.handler = Plain()  # another one altogether


async def test_an_unthreaded_controller_that_is_started_again_gets_the_hooks_of_before() -> None:
    handler: Any = Plain()
    seen = []
    loop = asyncio.new_event_loop()

    def use() -> None:
        controller = UnthreadedController(handler, "127.0.0.1", 0, loop=loop)
        for _ in range(2):
            controller.begin()
            assert controller.service is not None
            seen.append(loop.run_until_complete(ask(controller.service)))
            controller.end()
            handler.handle_RCPT, handler.handle_NOOP = refuse, second
        loop.close()

    await asyncio.to_thread(use)
    assert seen == [("250 OK", "250 OK"), ("550 nobody here", "250 second")]


async def test_a_handler_is_kept_alive_by_a_cache() -> None:
    """a07: when its server has gone, nobody holds it."""

    async def use() -> weakref.ref[object]:
        handler: Any = Plain()
        service = serve(handler, "127.0.0.1", 0)
        async with service, talking(service) as client:
            assert await client.deliver() == "250 first"
        async with service_by_factory(handler) as service, talking(service) as client:
            assert await client.deliver() == "250 first"
        return weakref.ref(handler)

    ghost = await use()
    gc.collect()
    assert ghost() is None


# What EHLO says, and what AUTH takes.


def decide(*args: object) -> AuthResult:
    return AuthResult(success=False)


class Own(Handler):
    """Has a mechanism of its own, one with a built-in's name, and decides on others."""

    async def auth_X__OWN(self, server: Server, args: list[str]) -> AuthResult:
        """Refuse."""
        return AuthResult(success=False)

    async def auth_PLAIN(self, server: Server, args: list[str]) -> AuthResult:
        """Refuse."""
        return AuthResult(success=False)


ALL: dict[str, Any] = {"auth_mechanisms": tuple(MECHANISMS), "authenticator": decide}
CLEAR: dict[str, Any] = {"auth_require_tls": False}

#: Handler and keywords.
SITUATIONS: dict[str, tuple[Handler, dict[str, Any]]] = {
    "nobody decides": (Keeper(), CLEAR),
    "the usual ones": (Keeper(), {**CLEAR, "authenticator": decide}),
    "a callback": (Keeper(), {**CLEAR, "auth_callback": lambda *_: False}),
    "all": (Keeper(), {**CLEAR, **ALL}),
    "only inside TLS": (Keeper(), ALL),
    "some excluded": (Keeper(), {**CLEAR, **ALL, "auth_exclude_mechanism": ("plain", "LOGIN")}),
    "all excluded": (Keeper(), {**CLEAR, **ALL, "auth_exclude_mechanism": tuple(MECHANISMS)}),
    "EXTERNAL alone": (Keeper(), {**CLEAR, **ALL, "auth_mechanisms": ("EXTERNAL",)}),
    "own ones": (Own(), CLEAR),
    "own ones and all": (Own(), {**CLEAR, **ALL}),
    "an own one excluded": (Own(), {**CLEAR, "auth_exclude_mechanism": ("X-OWN",)}),
    "TLS is required": (Keeper(), {**ALL, "require_starttls": True}),
    "AUTH is required": (Keeper(), {**CLEAR, **ALL, "auth_required": True}),
}

NOT_TAKEN = ("502", "503", "504", "530", "538")


@pytest.mark.parametrize("place", ["clear", "tls", "certificate"])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_mechanism_is_taken_that_is_not_offered(situation: str, place: str) -> None:
    """b09: what EHLO says and what AUTH takes are one question."""
    handler, keywords = SITUATIONS[situation]
    keywords = {
        **keywords,
        "tls_context": server_context(ask=True),
        "max_errors": None,
        "max_auth_failures": None,
        "auth_failure_delay": 0,
    }
    context = client_context("anne@example.com") if place == "certificate" else None
    async with (
        serve(handler, "127.0.0.1", 0, **keywords) as service,
        await Peer.connect(service.addresses[0]) as peer,
    ):
        await peer.reply()
        hello = await peer.ask(b"EHLO c")
        if place != "clear":
            assert (await peer.ask(b"STARTTLS"))[:3] == b"220"
            await peer.handshake(context or shared_client_context())
            hello = await peer.ask(b"EHLO c")
        lines = [line[4:].split() for line in hello.decode().splitlines()]
        offered = [set(words[1:]) for words in lines if words[0] == "AUTH"] or [set()]
        assert set() not in offered or len(offered) == 1
        for name in (*MECHANISMS, "X-OWN", "NTLM", "", "PLAIN-", "plain"):
            reply = (await peer.ask(f"AUTH {name}".encode())).decode()
            if reply[:3] == "334":
                await peer.ask(b"*")
            taken = reply[:3] not in NOT_TAKEN and reply[:3] != "501"
            assert taken is (name.upper() in offered[0]), (name, reply)
    if place != "certificate":
        assert "EXTERNAL" not in offered[0]
    elif situation in ("all", "only inside TLS", "EXTERNAL alone", "TLS is required"):
        assert "EXTERNAL" in offered[0]


# What a hook forgot.


class Looking(Keeper):
    """Has hooks that only look."""

    async def handle_HELO(
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> str:
        """Look."""
        return "550 5.7.1 Access denied" if hostname == "bad" else "250 welcome"

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        """Look."""
        return ["550 5.7.1 Access denied"] if hostname == "bad" else responses

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> str:
        """Look."""
        return "250 fine"


@pytest.mark.parametrize("verb", ["HELO", "EHLO"])
async def test_a_hook_that_only_looks_leaves_the_name_unknown(verb: str) -> None:
    """a23: the server fills in what a hook forgot, as for MAIL."""
    handler = Looking()
    async with dialogue(handler) as client:
        assert (await client.ask(f"{verb} bad")).startswith("550")
        assert [session.host_name for session in handler.sessions] == [None]
        assert (await client.ask("MAIL FROM:<a@b.example>")).startswith("503")
        assert (await client.ask(f"{verb} pc")).startswith("250")
        assert [session.host_name for session in handler.sessions] == ["pc"]
        await client.tell("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA")
        assert await client.ask("x\r\n.") == "250 Kept"
    (envelope,) = handler.envelopes
    assert envelope.mail_from == "a@b.example"
