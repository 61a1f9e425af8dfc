"""Tails: a client that sends all and goes has its whole message handled, or nothing of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.server.peers import Peer, leaving_nothing, watching
from tests.server.secure import Wire
from tests.server.support import Keeper, eventually

from smtp_protocol import Envelope, MailOptions, Server, Session

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

LINE = b"x" * 98 + b"\r\n"
BODIES = {"small": LINE * 10, "large": LINE * 3000}


class Slow(Keeper):
    """Works until it is told to go on."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.got: list[bytes] = []

    async def work(self, where: str) -> None:
        """Do it, at that place."""
        if where == self.where:
            self.reached.set()
            await self.go_on.wait()

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        options: MailOptions,
    ) -> str:
        """Work."""
        await self.work("MAIL")
        return "250 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Work."""
        await self.work("DATA")
        self.got.append(envelope.content)
        return "250 OK"


class SlowStream(Slow):
    """Does the same as the message comes."""

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> str:
        """Work at the first chunk."""
        content = b""
        async for chunk in chunks:
            await self.work("DATA")
            content += chunk
        self.got.append(content)
        return "250 OK"


async def half_closes(peer: Peer) -> None:
    peer.half_close()


async def closes_tls(peer: Peer) -> None:
    await peer.close_tls()


async def closes(peer: Peer) -> None:
    peer.close()


@pytest.mark.parametrize("size", BODIES)
@pytest.mark.parametrize("where", ["MAIL", "DATA"])
@pytest.mark.parametrize("kind", [Slow, SlowStream])
@pytest.mark.parametrize("end", [half_closes, closes_tls, closes])
async def test_a_message_is_never_cut_to_what_had_come(
    wire: Wire, end: Callable[[Peer], Awaitable[None]], kind: type[Slow], where: str, size: str
) -> None:
    """Inside TLS, where the end may come without a close_notify, as on each other way."""
    body, handler = BODIES[size], kind(where)
    with watching() as watch:
        async with leaving_nothing(), wire.serve(handler) as service:
            connecting = await Peer.connect(service.addresses[0])
            async with connecting as peer:
                if wire.name == "implicit":
                    await peer.handshake()
                await peer.reply()
                await peer.ask(b"EHLO c")
                if wire.name == "starttls":
                    await peer.ask(b"STARTTLS")
                    await peer.handshake()
                    await peer.ask(b"EHLO c")
                await peer.ask(b"NOOP")
                commands = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
                sending = asyncio.create_task(peer.send(commands + body + b".\r\n"))
                await handler.reached.wait()
                # What is not read fills the socket, and the rest is sent when there is room.
                await asyncio.wait([sending], timeout=0.05)
                if not sending.done():
                    handler.go_on.set()
                    await sending
                await end(peer)
                handler.go_on.set()
                await eventually(lambda: handler.gone)
    assert handler.got in ([], [body])
    if end is half_closes and (size == "small" or not wire.encrypted):
        assert handler.got == [body]
    assert watch.said(logging.WARNING) == []
    assert watch.unraisable == []
