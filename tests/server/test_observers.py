"""Observers: what they are told, what they are not, and that what they do harms no session."""

import asyncio
import base64
import logging

import pytest
from tests.server.peers import Peer
from tests.server.secure import server_context
from tests.server.support import SHORT, Keeper, dialogue, eventually

from smtp_handlers import Sink
from smtp_protocol import Auth, AuthResponse, AuthResult, Event, Reply, Session, Unknown
from smtp_server import LMTP, Observer, SharedKeywords, serve


class Notes(Observer):
    """Notes everything."""

    def __init__(self) -> None:
        self.seen: list[tuple[Session, Event | None, Reply]] = []

    def replied(self, session: Session, event: Event | None, reply: Reply) -> None:
        self.seen.append((session, event, reply))

    @property
    def codes(self) -> list[tuple[str, int]]:
        """What was answered, and how."""
        return [(type(event).__name__, reply.code) for _, event, reply in self.seen]


async def test_each_reply_is_told_with_what_it_answers() -> None:
    notes, handler = Notes(), Keeper()
    async with dialogue(handler, observer=notes) as client:
        await client.deliver()
        await client.tell("DATA", "PING x", "VRFY anne")
        await client.ask("QUIT")
    assert notes.codes == [
        ("Connected", 220),
        ("Ehlo", 250),
        ("Mail", 250),
        ("Rcpt", 250),
        ("Data", 354),
        ("BodyEnd", 250),
        ("Refused", 503),
        ("Unknown", 500),
        ("Vrfy", 252),
        ("Quit", 221),
    ]
    assert {session for session, _, _ in notes.seen} == set(handler.sessions)


async def test_it_is_told_before_the_client() -> None:
    notes = Notes()
    async with dialogue(Sink(), observer=notes) as client:
        for _ in range(20):
            before = len(notes.seen)
            await client.ask("NOOP")
            assert len(notes.seen) == before + 1


async def test_lmtp_has_a_reply_for_each_recipient() -> None:
    notes = Notes()
    service = serve(Sink(), "127.0.0.1", 0, smtp_class=LMTP, observer=notes)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.send(
            b"LHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n"
            b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        )
        await peer.rest()
    assert notes.codes[-3:] == [("BodyEnd", 250), ("BodyEnd", 250), ("Quit", 221)]


async def test_starttls() -> None:
    notes = Notes()
    service = serve(Sink(), "127.0.0.1", 0, tls_context=server_context(), observer=notes)
    async with service, await Peer.connect(service.addresses[0]) as peer:
        await peer.reply()
        await peer.ask(b"EHLO me")
        await peer.ask(b"STARTTLS")
        await peer.handshake()
        await peer.ask(b"NOOP")
    assert notes.codes[-3:] == [("StartTls", 220), ("Noop", 250), ("NoneType", 421)]


async def test_a_session_that_the_server_ends_by_itself() -> None:
    notes = Notes()
    async with dialogue(Sink(), observer=notes, timeout=SHORT) as client:
        await client.rest()
    assert notes.codes == [("Connected", 220), ("NoneType", 421)]


SECRET = b"cGFzc3dvcmQ="


async def test_no_credentials_are_told() -> None:
    notes = Notes()

    def nobody(*_: object) -> AuthResult:
        return AuthResult(success=False)

    settings: SharedKeywords = {
        "authenticator": nobody,
        "auth_failure_delay": 0,
        "auth_require_tls": False,
        "observer": notes,
    }
    async with dialogue(Sink(), **settings) as client:
        await client.ask("EHLO me")
        plain = base64.b64encode(b"\0anne\0password").decode()
        assert (await client.ask(f"AUTH PLAIN {plain}")).startswith("535")
        assert (await client.ask("AUTH LOGIN")).startswith("334")
        assert (await client.ask(SECRET.decode())).startswith("334")
        assert (await client.ask(SECRET.decode())).startswith("535")
        assert (await client.ask("password password")).startswith("500")
    events = [event for _, event, _ in notes.seen]
    assert Auth("PLAIN") in events
    assert AuthResponse(b"") in events
    assert Unknown("", None) in events
    for event in events:
        values = [getattr(event, name) for name in getattr(event, "__slots__", ())]
        assert "password" not in repr(values).lower()
        assert SECRET.decode().lower() not in repr(values).lower()


async def test_what_it_raises_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(Observer):
        def replied(self, session: Session, event: Event | None, reply: Reply) -> None:
            raise RuntimeError("no room for notes")

    handler = Keeper()
    async with dialogue(handler, observer=Fails()) as client:
        assert await client.deliver() == "250 Kept"
    await eventually(lambda: handler.gone)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failures
    assert {record.getMessage()[9:] for record in failures} == {"Fails failed"}


async def test_commands_are_logged_as_without_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "smtp_server")
    async with dialogue(Sink(), observer=Notes()) as client:
        await client.ask("NOOP")
    assert "Noop(arg='')" in caplog.text


async def test_commands_are_not_logged_for_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_server")
    async with dialogue(Sink(), observer=Observer()) as client:
        await client.ask("NOOP")
    await asyncio.sleep(0)
    assert caplog.records == []
