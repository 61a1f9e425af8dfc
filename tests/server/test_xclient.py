"""XCLIENT and XFORWARD: what a trusted peer says of somebody else; and LIMITS."""

import pytest
from tests.server.secure import Wire
from tests.server.support import Dialogue, Keeper, dialogue

from smtp_handlers import Sink

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HELLO = "EHLO client.test"
TRUSTED = ("127.0.0.1", "unix")


async def test_on_each_way(wire: Wire) -> None:
    handler = Keeper()
    async with wire.talking(handler, xclient_trusted=TRUSTED) as client:
        offer = await client.ask(HELLO)
        assert "250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\n" in offer
        assert "250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\n" in offer
        line = (
            "XCLIENT NAME=mail.example.net ADDR=192.0.2.7 PORT=4000 HELO=spike.example PROTO=ESMTP"
        )
        assert (await client.ask(line)).startswith("220 ")
        (session,) = handler.sessions
        assert session.peer == ("192.0.2.7", 4000)
        assert session.peer_host == "192.0.2.7"
        assert session.xclient is not None
        assert session.xclient.name == "mail.example.net"
        assert not session.extended_smtp
        # The session is as after the greeting.
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("503")
        assert await client.deliver() == "250 Kept"
        assert (session.tls is not None) is wire.encrypted


async def test_whom_the_server_does_not_trust() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        offer = await client.ask(HELLO)
        assert "XCLIENT" not in offer
        assert "XFORWARD" not in offer
        for verb in ("XCLIENT", "XFORWARD"):
            assert (await client.ask(f"{verb} ADDR=192.0.2.7"))[0] == "5"
        assert handler.sessions[0].peer_host == "127.0.0.1"
    async with dialogue(handler, xclient_trusted=("192.0.2.0/24", "unix")) as client:
        assert (await client.ask("XCLIENT ADDR=192.0.2.7"))[0] == "5"


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "ADDR",
        "ADDR=",
        "ADDR=x",
        "WHAT=1",
        "PORT=70000",
        "ADDR=192.0.2.1 PROTO=HTTP",
        "HELO=+0G",
    ],
)
async def test_arguments_that_cannot_be_meant(arguments: str) -> None:
    handler = Keeper()
    async with dialogue(handler, xclient_trusted=TRUSTED) as client:
        await client.ask(HELLO)
        for verb in ("XCLIENT", "XFORWARD"):
            assert (await client.ask(f"{verb} {arguments}".strip())).startswith("501")
        assert handler.sessions[0].peer_host == "127.0.0.1"


async def test_what_is_not_known() -> None:
    handler = Keeper()
    async with dialogue(handler, xclient_trusted=TRUSTED) as client:
        await client.ask(HELLO)
        line = "XCLIENT NAME=[UNAVAILABLE] ADDR=[TEMPUNAVAIL] HELO=+41+2Bb"
        assert (await client.ask(line)).startswith("220 ")
        (session,) = handler.sessions
        assert session.xclient is not None
        assert (session.xclient.name, session.xclient.addr) == (None, None)
        assert session.xclient.helo == "A+b"
        assert session.peer_host == "127.0.0.1"
        assert (await client.ask("XCLIENT ADDR=IPV6:2001:db8::1")).startswith("220 ")
        assert session.peer == ("2001:db8::1", 0)


async def test_in_the_middle_of_a_transaction() -> None:
    async with dialogue(Sink(), xclient_trusted=TRUSTED) as client:
        await client.tell(HELLO, "MAIL FROM:<a@example.com>")
        assert (await client.ask("XCLIENT ADDR=192.0.2.7")).startswith("503")
        assert await client.ask("RCPT TO:<b@example.com>") == "250 OK"
        assert (await client.ask("XCLIENT ADDR=192.0.2.7")).startswith("503")


async def test_before_the_greeting_of_the_client() -> None:
    async with dialogue(Sink(), xclient_trusted=TRUSTED) as client:
        assert (await client.ask("XCLIENT ADDR=192.0.2.7")).startswith("220 ")
        assert await client.deliver() == "250 OK"


async def test_a_login() -> None:
    """Who was authenticated before the proxy need not be again."""
    handler = Keeper()
    async with dialogue(
        handler,
        xclient_trusted=TRUSTED,
        auth_required=True,
        auth_require_tls=False,
        auth_callback=lambda *_: False,
    ) as client:
        await client.ask(HELLO)
        assert (await client.ask("XCLIENT ADDR=192.0.2.7 LOGIN=anne")).startswith("220 ")
        (session,) = handler.sessions
        assert (session.authenticated, session.auth_data) == (True, "anne")
        await client.ask(HELLO)
        assert await client.ask("MAIL FROM:<a@example.com>") == "250 OK"
        await client.ask("RSET")
        assert (await client.ask("AUTH PLAIN AGEAYg==")).startswith("503")
        # The next client of the same proxy is not authenticated.
        assert (await client.ask("XCLIENT ADDR=192.0.2.8 LOGIN=[UNAVAILABLE]")).startswith("220 ")
        assert (session.authenticated, session.auth_data) == (False, None)
        await client.ask(HELLO)
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("530")


async def test_xforward() -> None:
    handler = Keeper()
    async with dialogue(handler, xclient_trusted=TRUSTED) as client:
        await client.ask(HELLO)
        line = "XFORWARD NAME=spike.example ADDR=192.0.2.9 SOURCE=REMOTE IDENT=x1"
        assert await client.ask(line) == "250 OK"
        (session,) = handler.sessions
        assert session.forwarded is not None
        assert (session.forwarded.addr, session.forwarded.ident) == ("192.0.2.9", "x1")
        assert session.peer_host == "127.0.0.1"
        await mail(client, 1)
        assert (await client.ask("XFORWARD ADDR=192.0.2.1")).startswith("503")


async def mail(client: Dialogue, recipients: int) -> list[str]:
    await client.ask("MAIL FROM:<a@example.com>")
    return [await client.ask(f"RCPT TO:<a@{n}.example>") for n in range(recipients)]


# RFC 9422.


async def test_limits() -> None:
    async with dialogue(
        Sink(),
        extensions=("LIMITS",),
        max_recipients=5,
        max_messages=2,
        max_recipient_domains=3,
    ) as client:
        assert "250-LIMITS RCPTMAX=5 MAILMAX=2 RCPTDOMAINMAX=3\n" in await client.ask(HELLO)
        assert [reply[:3] for reply in await mail(client, 4)] == ["250", "250", "250", "452"]
        assert await client.ask("RCPT TO:<b@0.EXAMPLE>") == "250 OK"
        assert await client.ask("RCPT TO:<c@0.example>") == "250 OK"
        assert (await client.ask("RCPT TO:<d@0.example>")).startswith("452")
        await client.tell("RSET", "MAIL FROM:<a@example.com>", "RSET")
        assert (await client.ask("MAIL FROM:<a@example.com>"))[0] in "45"


async def test_no_limits() -> None:
    async with dialogue(Sink(), extensions=("LIMITS",), max_recipients=None) as client:
        assert "LIMITS" not in await client.ask(HELLO)
