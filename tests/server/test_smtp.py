"""SMTP: what the connection makes of the engine's events: session, envelope, order and the end."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest
from tests.server.support import (
    DEADLINE,
    HOSTNAME,
    SHORT,
    Dialogue,
    Gate,
    Keeper,
    dialogue,
    eventually,
    service_of,
    talking,
)

from smtp_handlers import Sink
from smtp_protocol import (
    Answer,
    Envelope,
    Handler,
    MailOptions,
    RcptOptions,
    Recipient,
    Server,
    Session,
)
from smtp_server import SMTP


class Look(Keeper):
    """Keeps the server, too, and lets NOOP show what a hook sees."""

    servers: ClassVar[list[Server]] = []

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        """Remember the server."""
        assert server.session is session
        assert server.envelope is envelope
        self.servers[:] = [server]
        return "250 OK"


# The session.


async def test_what_a_hook_sees_of_the_server() -> None:
    async with dialogue(Look(), ident="Ident", data_size_limit=77, enable_SMTPUTF8=True) as client:
        await client.ask("NOOP")
    server = Look.servers[0]
    assert server.hostname == HOSTNAME
    assert server.ident == "Ident"
    assert server.data_size_limit == 77
    assert server.enable_SMTPUTF8
    assert server.syntaxes["NOOP"] == "NOOP [text]"
    with pytest.raises(RuntimeError, match="a part of AUTH"):
        await server.challenge_auth("x")


async def test_the_session() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        (session,) = handler.sessions
        assert session.peer == client.writer.get_extra_info("sockname")
        assert session.peer_host == "127.0.0.1"
        assert session.loop is asyncio.get_running_loop()
        seen = [(session.host_name, session.extended_smtp)]
        for hello in ("EHLO client.test", "HELO [127.0.0.1]"):
            await client.ask(hello)
            seen.append((session.host_name, session.extended_smtp))
        assert seen == [(None, False), ("client.test", True), ("[127.0.0.1]", False)]
    async with dialogue(handler):
        assert handler.sessions[1].id != session.id


async def test_the_loop_that_was_given() -> None:
    handler = Keeper()
    service = service_of(SMTP, handler, loop=asyncio.get_running_loop())
    async with service, talking(service):
        assert handler.sessions[0].loop is asyncio.get_running_loop()


async def test_a_refused_greeting_ends_the_session() -> None:
    class Refuses(Keeper):
        async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
            await super().handle_CONNECT(server, session, envelope)
            return "554 Not for you"

    handler = Refuses()
    service = service_of(SMTP, handler)
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        assert await client.reply() == "554 Not for you"
        assert await client.rest() == ""
    assert handler.gone == handler.sessions


async def test_quit_can_be_refused() -> None:
    class Stay(Handler):
        async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> str:
            return "450 Stay a little"

    async with dialogue(Stay()) as client:
        assert await client.ask("QUIT") == "450 Stay a little"
        assert await client.ask("NOOP") == "250 OK"


async def test_what_comes_behind_quit_is_dropped() -> None:
    async with dialogue(Sink()) as client:
        await client.send("QUIT\r\nNOOP\r\n")
        assert await client.rest() == "221 Bye\r\n"


# The envelope.


async def test_the_envelope() -> None:
    handler = Keeper()
    async with dialogue(handler, enable_SMTPUTF8=True) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<> BODY=8BITMIME SMTPUTF8 SIZE=100")
        await client.tell("RCPT TO:<ünë@example.com>", "RCPT TO:<@relay.test:b@example.com>")
        await client.ask("DATA")
        assert await client.ask("..dots\r\n...\r\n\xff".encode("latin-1") + b"\r\n.") == "250 Kept"
    (envelope,) = handler.envelopes
    assert envelope.mail_from == ""
    assert envelope.mail_options == ["BODY=8BITMIME", "SMTPUTF8", "SIZE=100"]
    assert (envelope.mail_options.body, envelope.mail_options.size) == ("8BITMIME", 100)
    assert envelope.smtp_utf8
    assert envelope.rcpt_tos == ["ünë@example.com", "b@example.com"]
    assert envelope.rcpt_options == []
    assert [recipient.address for recipient in envelope.recipients] == envelope.rcpt_tos
    assert envelope.content == b".dots\r\n..\r\n\xff\r\n"
    assert envelope.original_content == envelope.content
    assert envelope.text is None


@pytest.mark.parametrize("command", ["RSET", "EHLO client.test", "HELO client.test"])
async def test_the_envelope_is_reset(command: str) -> None:
    handler = Look()
    async with dialogue(handler) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<a@example.com>")
        await client.tell("RCPT TO:<b@example.com>", "NOOP")
        before = handler.servers[0].envelope
        assert before.mail_from == "a@example.com"
        await client.tell(command, "NOOP")
        after = handler.servers[0].envelope
        assert after is not before
        assert (after.mail_from, after.rcpt_tos, after.recipients) == (None, [], [])
        assert (await client.ask("RCPT TO:<b@example.com>")).startswith("503")


async def test_the_envelope_is_new_for_each_message() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        assert await client.deliver("one\r\n") == "250 Kept"
        assert await client.deliver("two\r\n") == "250 Kept"
        assert await client.deliver("") == "250 Kept"
    assert [envelope.content for envelope in handler.envelopes] == [b"one\r\n", b"two\r\n", b""]
    assert all(envelope.rcpt_tos == ["bart@example.com"] for envelope in handler.envelopes)


async def test_the_envelope_is_new_after_a_refused_message() -> None:
    class Refuses(Look):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            await super().handle_DATA(server, session, envelope)
            return "550 No"

    handler = Refuses()
    async with dialogue(handler) as client:
        assert await client.deliver() == "550 No"
        await client.ask("NOOP")
        assert handler.servers[0].envelope is not handler.envelopes[0]
        assert (await client.ask("DATA")).startswith("503")


async def test_a_refused_sender_leaves_nothing_behind() -> None:
    class Refuses(Look):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> str:
            envelope.mail_from = address
            envelope.mail_options.extend(mail_options)
            return "550 No" if address.startswith("no") else "250 OK"

    handler = Refuses()
    async with dialogue(handler) as client:
        await client.ask("EHLO client.test")
        assert await client.ask("MAIL FROM:<no@example.com> BODY=8BITMIME") == "550 No"
        assert (await client.ask("RCPT TO:<b@example.com>")).startswith("503")
        await client.ask("NOOP")
        envelope = handler.servers[0].envelope
        assert (envelope.mail_from, envelope.mail_options) == (None, [])
        assert await client.ask("MAIL FROM:<yes@example.com>") == "250 OK"


async def test_a_hook_that_does_not_note_the_sender() -> None:
    class Forgets(Keeper):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> str:
            return "250 OK"

    handler = Forgets()
    async with dialogue(handler) as client:
        assert await client.deliver() == "250 Kept"
    assert handler.envelopes[0].mail_from == "anne@example.com"


class Policy(Keeper):
    """Refuses some recipients, whether it noted them or not, and rewrites others."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Answer by the address."""
        user = address.partition("@")[0]
        if user == "team":
            envelope.rcpt_tos += ["one@example.com", "two@example.com"]
            return "250 Both"
        if user != "unknown":
            envelope.rcpt_tos.append(address)
        if user == "raises":
            raise RuntimeError("no")
        return "250 OK" if user in ("good", "fine") else "550 No"


async def test_recipients_keep_step_with_what_was_accepted() -> None:
    handler = Policy()
    async with dialogue(handler) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<a@example.com>")
        replies = [
            await client.ask(f"RCPT TO:<{user}@example.com>")
            for user in ("unknown", "bad", "good", "raises", "team", "bad", "fine")
        ]
        assert [reply[:3] for reply in replies] == ["550", "550", "250", "451", "250", "550", "250"]
        await client.ask("DATA")
        assert await client.ask(".") == "250 Kept"
    (envelope,) = handler.envelopes
    expected = ["good@example.com", "one@example.com", "two@example.com", "fine@example.com"]
    assert envelope.rcpt_tos == expected
    assert envelope.recipients == [Recipient(address, RcptOptions()) for address in expected]


async def test_no_recipient_was_accepted() -> None:
    async with dialogue(Policy()) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<a@example.com>")
        assert await client.ask("RCPT TO:<bad@example.com>") == "550 No"
        assert (await client.ask("DATA")).startswith("503")


# Decoding.


@pytest.mark.parametrize(
    ("parameters", "body", "text"),
    [
        ("", b"ascii\r\n", "ascii\r\n"),
        (" BODY=8BITMIME", "grüß\r\n".encode(), "grüß\r\n"),
        (" BODY=8BITMIME", b"\xff\r\n", "\udcff\r\n"),
    ],
)
async def test_decoded_data(parameters: str, body: bytes, text: str) -> None:
    handler = Keeper()
    async with dialogue(handler, decode_data=True) as client:
        await client.tell("EHLO client.test", f"MAIL FROM:<a@example.com>{parameters}")
        await client.tell("RCPT TO:<b@example.com>", "DATA")
        assert await client.ask(body + b".") == "250 Kept"
    assert handler.envelopes[0].text == text
    assert handler.envelopes[0].content == body


async def test_decoded_data_with_smtputf8() -> None:
    handler = Keeper()
    async with dialogue(handler, decode_data=True, enable_SMTPUTF8=True) as client:
        assert await client.deliver("grüß\r\n") == "250 Kept"
    assert handler.envelopes[0].text == "grüß\r\n"


async def test_data_that_is_not_what_was_declared() -> None:
    handler = Keeper()
    async with dialogue(handler, decode_data=True) as client:
        assert await client.deliver("grüß\r\n") == "554 The message is not ASCII"
        assert await client.deliver("ascii\r\n") == "250 Kept"
    assert [envelope.text for envelope in handler.envelopes] == ["ascii\r\n"]


# Order, and the life of the connection.


async def test_pipelined_commands_are_answered_in_order() -> None:
    class Uneven(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            for _ in range(int(arg)):
                await asyncio.sleep(0)
            return f"250 {arg}"

    handler = Uneven()
    async with dialogue(handler) as client:
        await client.send(
            "EHLO client.test\r\nNOOP 5\r\nNOOP 0\r\nRSET\r\nMAIL FROM:<a@example.com>\r\n"
            "NOOP 3\r\nRCPT TO:<b@example.com>\r\nDATA\r\nbody\r\n.\r\nNOOP 1\r\nQUIT\r\n"
        )
        replies = [await client.reply() for _ in range(11)]
    assert replies[0].startswith(f"250-{HOSTNAME}\n")
    assert replies[1:6] == ["250 5", "250 0", "250 OK", "250 OK", "250 3"]
    assert replies[6] == "250 OK"
    assert replies[7].startswith("354 ")
    assert replies[8:] == ["250 Kept", "250 1", "221 Bye"]
    assert handler.envelopes[0].content == b"body\r\n"


async def test_each_octet_in_a_segment_of_its_own() -> None:
    handler = Keeper()
    service = service_of(SMTP, handler)
    async with service, talking(service) as client:
        for (
            octet
        ) in b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n..x\r\n.\r\n":
            await client.send(bytes([octet]))
            await asyncio.sleep(0)
        replies = [await client.reply() for _ in range(5)]
    assert replies[-1] == "250 Kept"
    assert handler.envelopes[0].content == b".x\r\n"


async def test_a_session_is_counted_out_once() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        await client.ask("QUIT")
    async with dialogue(handler) as client:
        await client.ask("NOOP")
    assert len(handler.sessions) == 2
    assert handler.gone == handler.sessions


async def test_the_peer_resets_the_connection() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        await client.ask("NOOP")
        client.reset()
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions


async def test_the_peer_resets_the_connection_while_a_hook_works() -> None:
    handler = Gate()
    async with dialogue(handler) as client:
        await client.begin_data()
        await client.send("body\r\n.\r\n")
        await handler.wait_reached()
        client.reset()
        await asyncio.sleep(SHORT)
        assert handler.gone == []
        handler.opened.set()
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions
    assert [envelope.content for envelope in handler.envelopes] == [b"body\r\n"]


async def test_the_peer_goes_in_the_middle_of_a_message() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        await client.begin_data()
        await client.send("half a message\r\n")
        await client.close()
        await eventually(lambda: handler.gone)
    assert handler.envelopes == []


async def test_the_peer_shuts_its_side_after_the_final_dot() -> None:
    handler = Gate()
    async with dialogue(handler) as client:
        await client.begin_data()
        await client.send("body\r\n.\r\nQUIT\r\n")
        client.writer.write_eof()
        await handler.wait_reached()
        handler.opened.set()
        assert await client.rest() == "250 Kept\r\n221 Bye\r\n"
    assert len(handler.envelopes) == 1
    assert handler.gone == handler.sessions


async def test_the_peer_shuts_its_side_in_the_middle_of_a_line() -> None:
    handler = Keeper()
    async with dialogue(handler) as client:
        await client.send("NOOP\r\nNOO")
        client.writer.write_eof()
        assert await client.rest() == "250 OK\r\n"
    assert handler.gone == handler.sessions


async def test_a_hook_at_work_leaves_the_socket_unread() -> None:
    handler = Gate()
    async with dialogue(handler, timeout=None) as client:
        await client.begin_data()
        await client.send(b".\r\n")
        await handler.wait_reached()
        sent = await client.flood(f"NOOP {'x' * 1000}\r\n")
        client.writer.write(b"QUIT\r\n")
        handler.opened.set()
        replies = (await client.rest()).split("\r\n")
    assert replies == ["250 Kept", *["250 OK"] * sent, "221 Bye", ""]


class Talkative(Handler):
    """Says much, in a moment or at once."""

    def __init__(self, wait: bool) -> None:
        self.wait = wait

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        """Answer at length."""
        if self.wait:
            await asyncio.sleep(0)
        return "250 " + "x" * 1000


@pytest.mark.parametrize("wait", [False, True])
async def test_a_peer_that_does_not_read_is_not_listened_to(wait: bool) -> None:
    async with dialogue(Talkative(wait), timeout=None) as client:
        transport = client.stop_reading()
        sent = await client.flood(f"NOOP {'x' * 1000}\r\n")
        transport.resume_reading()
        client.writer.write(b"QUIT\r\n")
        replies = (await client.rest()).split("\r\n")
    assert replies == [*["250 " + "x" * 1000] * sent, "221 Bye", ""]


async def test_a_peer_that_does_not_read_is_not_listened_to_for_default_answers_either() -> None:
    hostname = "x" * 1000
    service = service_of(SMTP, Sink(), hostname=hostname, timeout=None)
    async with service, talking(service) as client:
        transport = client.stop_reading()
        sent = await client.flood(f"HELO {hostname}\r\n")
        transport.resume_reading()
        client.writer.write(b"QUIT\r\n")
        replies = (await client.rest()).split("\r\n")
    assert replies == [*[f"250 {hostname}"] * sent, "221 Bye", ""]


async def test_a_handler_that_fails_to_say_goodbye(caplog: pytest.LogCaptureFixture) -> None:
    class Rude(Keeper):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
            await super().handle_DISCONNECT(server, session)
            raise RuntimeError("no")

    handler = Rude()
    async with dialogue(handler) as client:
        await client.ask("QUIT")
    assert len(handler.gone) == 1
    assert "handle_DISCONNECT failed" in caplog.text


async def test_the_connection_is_closed_after_quit_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtp_server.link._LINGER", 2 * DEADLINE)
    handler = Keeper()
    async with dialogue(handler) as client:
        assert await client.ask("QUIT") == "221 Bye"
        await eventually(lambda: handler.gone)  # the client has not closed its side


async def test_a_subclass_may_have_attributes_of_its_own() -> None:
    class Counting(SMTP):
        calls = 0

        async def smtp_PING(self, arg: str | None) -> str:
            self.calls += 1
            return f"250 {self.calls}"

    async with service_of(Counting, Keeper()) as service, talking(service) as client:
        assert await client.ask("PING") == "250 1"
        assert await client.ask("PING") == "250 2"


async def test_handlers_may_set_attributes_of_their_own() -> None:
    class Counting(Keeper):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            session.__dict__["messages"] = session.__dict__.get("messages", 0) + 1
            return f"250 {session.__dict__['messages']}"

    async with dialogue(Counting()) as client:
        assert await client.deliver() == "250 1"
        assert await client.deliver() == "250 2"


async def test_a_connection_outside_of_a_service() -> None:
    handler = Keeper()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: SMTP(handler), "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        async with await Dialogue.connect(address) as client:
            assert (await client.reply()).startswith("220 ")
            assert await client.deliver() == "250 Kept"
            assert await client.ask("QUIT") == "221 Bye"
        await eventually(lambda: handler.gone)
    assert handler.gone == handler.sessions


async def test_a_refused_message_is_not_kept() -> None:
    seen: list[Sequence[str]] = []

    class Looks(Keeper):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            seen.append(tuple(envelope.rcpt_tos))
            return "250 OK"

    async with dialogue(Looks(), data_size_limit=10) as client:
        assert await client.deliver("x" * 50 + "\r\n") == "552 Message exceeds the size limit"
        assert await client.deliver("12345678\r\n") == "250 OK"
        assert await client.deliver("123456789\r\n") == "552 Message exceeds the size limit"
    assert seen == [("bart@example.com",)]
