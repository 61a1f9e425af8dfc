"""Hanging up: whichever hook does it, the client hears no more, and the session ends as ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.server.peers import PROXY_HEADER, Peer
from tests.server.secure import server_context
from tests.server.support import Keeper, eventually

from smtp_protocol import (
    MISSING,
    Answer,
    AuthResult,
    BodyAborted,
    Envelope,
    MailOptions,
    ProxyData,
    Server,
    Session,
)
from smtp_server import LMTP, serve


class HangsUp(Keeper):
    """Hangs up at one step, and goes on as if nothing was."""

    def __init__(self, step: str, *, waits: bool) -> None:
        super().__init__()
        self.step = step
        self.waits = waits
        self.calls: list[str] = []

    async def at(self, step: str, server: Server) -> None:
        """Hang up, if this is the step."""
        self.calls.append(step)
        if step == self.step:
            if self.waits:
                await asyncio.sleep(0)
            server.hang_up()
            server.hang_up()
            await server.push("250 Nobody reads this")
            if self.waits:
                await asyncio.sleep(0.01)
            await server.push("250 Nor this")

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        await self.at("CONNECT", server)
        return await super().handle_CONNECT(server, session, envelope)

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        await self.at("MAIL", server)
        return await super().handle_MAIL(server, session, envelope, address, mail_options)

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        await self.at("DATA", server)
        return await super().handle_DATA(server, session, envelope)

    async def auth_X(self, server: Server, args: list[str]) -> AuthResult:
        """A mechanism."""
        await self.at("AUTH", server)
        response = await server.challenge_auth("still there?")
        return AuthResult(success=response is not MISSING)

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        await self.at("QUIT", server)
        return await super().handle_QUIT(server, session, envelope)

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        await self.at("DISCONNECT", server)
        await super().handle_DISCONNECT(server, session)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("step", ["CONNECT", "AUTH", "MAIL", "DATA", "QUIT"])
async def test_a_hook_that_hangs_up_has_the_last_word(step: str, waits: bool) -> None:
    handler = HangsUp(step, waits=waits)
    service = serve(handler, "127.0.0.1", 0, auth_require_tls=False)
    commands = (
        b"EHLO me\r\nAUTH X\r\nMTIz\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n"
        b"QUIT\r\n"
    )
    order = ["CONNECT", "AUTH", "MAIL", "DATA", "QUIT"]
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.send(commands)
        heard = await peer.rest()
        await eventually(lambda: handler.gone)
    assert handler.calls == [*order[: order.index(step) + 1], "DISCONNECT"]
    assert b"Nobody" not in heard
    assert b"Kept" not in heard or step == "QUIT"


class HangsUpEarly(Keeper):
    """Hangs up before there is a session, or in the middle of one that changes to TLS."""

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        server.hang_up()
        return True

    async def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        server.hang_up()
        return True


async def test_hanging_up_before_the_greeting() -> None:
    handler = HangsUpEarly()
    service = serve(handler, "127.0.0.1", 0, proxy_protocol_timeout=5, timeout=None)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.send(PROXY_HEADER + b"NOOP\r\n")
        assert await peer.rest() == b""
    assert handler.sessions == handler.gone == []


async def test_hanging_up_after_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    handler = HangsUpEarly()
    service = serve(handler, "127.0.0.1", 0, tls_context=server_context())
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.reply()
        await peer.ask(b"EHLO me")
        await peer.ask(b"STARTTLS")
        await peer.handshake()
        await peer.send(b"EHLO me\r\n")
        assert await peer.rest() == b""
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class HangsUpInTheStream(Keeper):
    """Hangs up when the first octets are there, or when all are."""

    def __init__(self, *, early: bool) -> None:
        super().__init__()
        self.early = early
        self.cut = False

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> Answer:
        try:
            async for _ in chunks:
                if self.early:
                    server.hang_up()
        except BodyAborted:
            self.cut = True
            raise
        server.hang_up()
        return "250 Kept"


@pytest.mark.parametrize("early", [True, False])
async def test_hanging_up_in_a_stream(early: bool, caplog: pytest.LogCaptureFixture) -> None:
    handler = HangsUpInTheStream(early=early)
    service = serve(handler, "127.0.0.1", 0)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.reply()
        for command in (b"EHLO me", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA"):
            await peer.ask(command)
        await peer.send(b"One\r\n" if early else b"One\r\n.\r\nNOOP\r\n")
        assert await peer.rest() == b""
        await eventually(lambda: handler.gone)
    assert handler.cut is early
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class Pushes(Keeper):
    """Answers, and hangs up."""

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        await server.push("250 The last word")
        server.hang_up()
        return "250 Nobody reads this"


async def test_what_was_answered_before_is_sent() -> None:
    """Also where the hook runs at once, as on Python 3.12, and has not been waited for."""
    service = serve(Pushes(), "127.0.0.1", 0)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.send(b"EHLO me\r\nVRFY anne\r\nNOOP\r\nNOOP\r\n")
        heard = await peer.rest()
    assert heard.splitlines()[-1] == b"250 The last word"


async def test_hanging_up_on_several_recipients() -> None:
    handler = HangsUp("DATA", waits=True)
    service = serve(handler, "127.0.0.1", 0, smtp_class=LMTP)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.send(
            b"LHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n"
            b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        )
        assert b"Kept" not in await peer.rest()
        await eventually(lambda: handler.gone)
