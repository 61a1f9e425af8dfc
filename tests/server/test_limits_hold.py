"""Limits hold: whatever way a transaction ends, what it has used up stays counted, and no more."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from tests.server.secure import shared_server_context, upgrade
from tests.server.support import Dialogue, Keeper, service_of, talking

from smtp_protocol import Answer, Envelope, MailOptions, RcptOptions, Reply, Server, Session
from smtp_server import LMTP, SMTP, syntax

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

TOO_OFTEN = "421 4.7.0 Command sent too often"
ERRORS = "421 4.7.0 Too many errors, closing the connection"
TOO_MANY_GUESSES = "421 4.7.0 Too many failed authentications"

LIMIT = 400
SMALL = b"x" * 98 + b"\r\n"
LARGE = SMALL * 5


class Interrupting(BaseException):
    """What is no `Exception`."""


class Moody(Keeper):
    """Does with a message, a sender or a recipient what its local-part says."""

    def _do(self, address: str | None) -> str:
        word = (address or "").partition("@")[0]
        if word == "raise":
            raise RuntimeError(word)
        if word == "interrupt":
            raise Interrupting
        return {"later": "451 Later", "never": "550 Never"}.get(word, "250 OK")

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        options: MailOptions,
    ) -> str:
        """Say what is to be said of a sender."""
        return self._do(address.removeprefix("mail-"))

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        options: RcptOptions,
    ) -> str:
        """Say what is to be said of a recipient."""
        envelope.rcpt_tos.append(address)
        return self._do(address)

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Say what is to be said of a message."""
        self.envelopes.append(envelope)
        return self._do((envelope.mail_from or "").removeprefix("data-"))


# How a transaction ends that MAIL has begun, and RCPT has given a recipient.

Exit = Callable[[Dialogue, str], Awaitable[None]]


def by_command(line: str) -> Exit:
    async def leave(client: Dialogue, hello: str) -> None:
        assert (await client.ask(line.replace("EHLO", hello)))[:3] == "250"

    return leave


async def by_data(client: Dialogue, hello: str) -> None:
    assert (await client.ask("DATA"))[:3] == "354"
    await client.send(SMALL)
    await answers_to_body(client, b".\r\n")


async def by_data_too_large(client: Dialogue, hello: str) -> None:
    assert (await client.ask("DATA"))[:3] == "354"
    await client.send(LARGE)
    assert (await answers_to_body(client, b".\r\n"))[:3] == "552"


async def by_chunks(client: Dialogue, hello: str) -> None:
    assert (await client.ask(b"BDAT 100\r\n" + SMALL[:-2]))[:3] == "250"
    await answers_to_body(client, b"BDAT 0 LAST\r\n")


async def by_one_chunk(client: Dialogue, hello: str) -> None:
    await answers_to_body(client, b"BDAT 100 LAST\r\n" + SMALL)


async def by_chunks_too_large(client: Dialogue, hello: str) -> None:
    assert (await client.ask(b"BDAT 300\r\n" + LARGE[:298]))[:3] == "250"
    assert (await client.ask(b"BDAT 200\r\n" + LARGE[:198]))[:3] == "552"


async def by_a_last_chunk_too_large(client: Dialogue, hello: str) -> None:
    assert (await answers_to_body(client, b"BDAT 500 LAST\r\n" + LARGE))[:3] == "552"


async def by_rset_between_chunks(client: Dialogue, hello: str) -> None:
    assert (await client.ask(b"BDAT 300\r\n" + LARGE[:298]))[:3] == "250"
    assert (await client.ask("RSET"))[:3] == "250"


async def by_ehlo_between_chunks(client: Dialogue, hello: str) -> None:
    assert (await client.ask(b"BDAT 300\r\n" + LARGE[:298]))[:3] == "250"
    assert (await client.ask(f"{hello} again"))[:3] == "250"


async def by_starttls(client: Dialogue, hello: str) -> None:
    await client.ask("RSET")
    if (await client.ask("STARTTLS"))[:3] == "220":  # it can be done only once
        await upgrade(client)
    assert (await client.ask(f"{hello} inside"))[:3] == "250"


async def by_auth(client: Dialogue, hello: str) -> None:
    await client.ask("RSET")
    if (await client.ask("AUTH PLAIN"))[:3] == "334":  # and this
        assert (await client.ask(b64encode(b"\0anne\0right")))[:3] == "235"


async def by_xclient(client: Dialogue, hello: str) -> None:
    await client.ask("RSET")
    assert (await client.ask("XCLIENT ADDR=192.0.2.7"))[:3] == "220"
    assert (await client.ask(f"{hello} somebody"))[:3] == "250"


async def answers_to_body(client: Dialogue, octets: bytes) -> str:
    """Send the end of a message; the last of its answers, of which LMTP has one for each RCPT."""
    await client.send(octets + b"NOOP here\r\n")
    reply = before = await client.reply()
    while not reply.endswith(" here"):
        before, reply = reply, await client.reply()
    return before


#: The ways out, each with the sender that makes the hooks take it.
EXITS: dict[str, tuple[str, Exit]] = {
    "RSET": ("anne", by_command("RSET")),
    "EHLO": ("anne", by_command("EHLO again")),
    "STARTTLS": ("anne", by_starttls),
    "AUTH": ("anne", by_auth),
    "XCLIENT": ("anne", by_xclient),
    "DATA": ("anne", by_data),
    "DATA refused for now": ("data-later", by_data),
    "DATA refused": ("data-never", by_data),
    "DATA fails": ("data-raise", by_data),
    "DATA is interrupted": ("data-interrupt", by_data),
    "DATA too large": ("anne", by_data_too_large),
    "BDAT": ("anne", by_chunks),
    "one BDAT": ("anne", by_one_chunk),
    "BDAT refused": ("data-later", by_chunks),
    "BDAT fails": ("data-raise", by_one_chunk),
    "BDAT too large": ("anne", by_chunks_too_large),
    "last BDAT too large": ("anne", by_a_last_chunk_too_large),
    "RSET between chunks": ("anne", by_rset_between_chunks),
    "EHLO between chunks": ("anne", by_ehlo_between_chunks),
}


class Here(Moody):
    """Says what NOOP is told, so that a client knows where it is."""

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        """Say it."""
        return f"250 {arg or 'OK'}"


class Person:
    """A client that knows which protocol it speaks."""

    def __init__(self, client: Dialogue, hello: str) -> None:
        self.ask = client.ask
        self.tell = client.tell
        self.rest = client.rest
        self.client = client
        self.hello = hello

    async def begin(self, sender: str = "anne") -> None:
        """Begin a transaction."""
        reply = await self.ask(f"MAIL FROM:<{sender}@example.com>")
        assert reply[:3] == "250", reply

    async def leave(self, name: str) -> None:
        """Have a transaction with one recipient, and leave it that way."""
        sender, leave = EXITS[name]
        await self.begin(sender)
        await self.tell("RCPT TO:<bart@1.example>")
        await leave(self.client, self.hello)


async def for_each_exit(
    smtp_class: type[SMTP], keywords: Mapping[str, Any], story: Callable[[Person, str], Any]
) -> list[Here]:
    """Tell the story to a server, with each way out."""
    handlers = []
    for name in EXITS:
        handlers.append(Here())
        service = service_of(
            smtp_class,
            handlers[-1],
            data_size_limit=LIMIT,
            extensions=("CHUNKING",),
            tls_context=shared_server_context(),
            auth_callback=lambda mechanism, login, password: password == b"right",
            auth_require_tls=False,
            auth_failure_delay=0,
            xclient_trusted=("127.0.0.0/8",),
            **keywords,
        )
        async with service, talking(service) as client:
            person = Person(client, "LHLO" if smtp_class.lmtp else "EHLO")
            assert (await client.ask(f"{person.hello} client.test"))[:3] == "250"
            await story(person, name)
    return handlers


each_class = pytest.mark.parametrize("smtp_class", [SMTP, LMTP])


@each_class
async def test_messages_of_a_session(smtp_class: type[SMTP]) -> None:
    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            await person.leave(name)
        for line in ("RSET", f"{person.hello} again"):
            reply = await person.ask("MAIL FROM:<anne@example.com>")
            assert reply.startswith("452 "), name
            assert reply.endswith("Too many messages in this session"), name
            await person.ask(line)

    await for_each_exit(smtp_class, {"max_messages": 2}, story)


@each_class
async def test_recipients_of_a_message(smtp_class: type[SMTP]) -> None:
    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            await person.leave(name)
            await person.begin()
            recipients = ["a@1", "never@1", "raise@1", "b@2", "later@1", "c@3", "a@1"]
            replies = [await person.ask(f"RCPT TO:<{each}.example>") for each in recipients]
            codes = [reply[:3] for reply in replies]
            assert codes == ["250", "550", "451", "250", "452", "452", "452"], name
            await by_data(person.client, person.hello)

    for handler in await for_each_exit(smtp_class, {"max_recipients": 2}, story):
        assert max(len(envelope.rcpt_tos) for envelope in handler.envelopes) == 2


@each_class
async def test_domains_of_a_message(smtp_class: type[SMTP]) -> None:
    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            await person.leave(name)
            await person.begin()
            recipients = ["a@2", "never@9", "b@3", "c@4", "d@2", "e@1", "f@3"]
            replies = [await person.ask(f"RCPT TO:<{each}.example>") for each in recipients]
            codes = [reply[:3] for reply in replies]
            assert codes == ["250", "550", "250", "452", "250", "452", "250"], name
            await by_data(person.client, person.hello)

    await for_each_exit(smtp_class, {"max_recipient_domains": 2}, story)


@each_class
async def test_octets_of_a_message(smtp_class: type[SMTP]) -> None:
    """What a transaction was cut in leaves its octets neither to the next, nor to the limit."""

    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            await person.leave(name)
            await person.begin()
            await person.tell("RCPT TO:<a@1.example>", "DATA")
            fitting = await answers_to_body(person.client, SMALL * 4 + b".\r\n")
            assert fitting[:3] == "250", name
            for leave in (by_data_too_large, by_chunks_too_large, by_a_last_chunk_too_large):
                await person.begin()
                await person.tell("RCPT TO:<a@1.example>")
                await leave(person.client, person.hello)
            assert (await person.ask(f"MAIL FROM:<a@b> SIZE={LIMIT + 1}"))[:3] == "552", name

    for handler in await for_each_exit(smtp_class, {"max_errors": None}, story):
        assert max(len(envelope.content) for envelope in handler.envelopes) == LIMIT


@each_class
async def test_calls_of_a_session(smtp_class: type[SMTP]) -> None:
    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            await person.leave(name)
        assert await person.ask("MAIL FROM:<anne@example.com>") == TOO_OFTEN, name
        assert await person.rest() == ""

    await for_each_exit(smtp_class, {"command_call_limit": {"MAIL": 2}}, story)


@each_class
async def test_errors_of_a_session(smtp_class: type[SMTP]) -> None:
    async def story(person: Person, name: str) -> None:
        for _ in range(2):
            assert (await person.ask("XYZZY"))[:3] == "500", name
            await person.leave(name)
        await person.client.send("XYZZY\r\n" * 10)
        rest = await person.rest()
        assert ERRORS in rest, name
        assert rest.count("500 ") <= 7 - 2, name

    await for_each_exit(smtp_class, {"max_errors": 7}, story)


@each_class
async def test_guesses_of_a_session(smtp_class: type[SMTP]) -> None:
    guess = f"AUTH LOGIN {b64encode(b'anne').decode()}"
    word = b64encode(b"wrong").decode()

    async def story(person: Person, name: str) -> None:
        if name == "AUTH":  # who is let in guesses no more
            return
        for _ in range(2):
            assert (await person.tell(guess, word))[:3] == "535", name
            await person.leave(name)
        assert (await person.tell(guess, word)).startswith("421 4.7.0 Too many"), name

    await for_each_exit(smtp_class, {"max_auth_failures": 3}, story)


# However a command goes, it counts.


class Own(SMTP):
    """Has a command of its own, and one that nobody may use."""

    @syntax("PING")
    async def smtp_PING(self, arg: str | None) -> Answer:
        """Answer as it is told."""
        if arg == "raise":
            raise RuntimeError(arg)
        return "250 pong" if arg is None else "550 no"

    @syntax("TRICK", when=lambda session: session.authenticated)
    async def smtp_TRICK(self, arg: str | None) -> Answer:
        """Do nothing."""
        return "250 OK"


#: Lines that are all the same command, after what leads there.
SAME: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "EHLO": ((), ("EHLO c", "EHLO", "EHLO a\tb")),
    "HELO": ((), ("HELO c", "HELO", "helo c")),
    "LHLO": ((), ("LHLO c", "LHLO", "LHLO c")),
    "NOOP": ((), ("NOOP", "NOOP x", "nOOp")),
    "HELP": ((), ("HELP", "HELP x", "HELP MAIL")),
    "VRFY": ((), ("VRFY", "VRFY a", "VRFY <a@b")),
    "EXPN": ((), ("EXPN", "EXPN a", "EXPN")),
    "RSET": ((), ("RSET x", "RSET", "RSET")),
    "MAIL": (
        ("EHLO c",),
        ("MAIL", "MAIL FROM:<never@b>", "MAIL FROM:<a@b> SIZE=9999", "MAIL FROM:<\xff@b>"),
    ),
    "MAIL too often": (("EHLO c", "MAIL FROM:<a@b>", "RSET"), ("MAIL FROM:<a@b>",) * 3),
    "MAIL in the wrong place": ((), ("MAIL FROM:<a@b>",) * 3),
    "RCPT": (
        ("EHLO c", "MAIL FROM:<a@b>"),
        ("RCPT", "RCPT TO:<raise@b>", "RCPT TO:<>", "RCPT TO:<never@b>"),
    ),
    "RCPT too often": (
        ("EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<a@b>"),
        ("RCPT TO:<c@b>", "RCPT TO:<d@b>", "RCPT TO:<a@c>"),
    ),
    "DATA": (("EHLO c", "MAIL FROM:<a@b>"), ("DATA", "DATA x", "DATA")),
    "BDAT": (
        ("EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<a@b>"),
        ("BDAT 0", "BDAT 0 LAST", "BDAT 0 LAST"),
    ),
    "BDAT LAST": (
        ("EHLO c", "MAIL FROM:<data-later@b>", "RCPT TO:<a@b>"),
        ("BDAT 0 LAST", "BDAT 0 LAST", "BDAT 0"),
    ),
    "AUTH": (("EHLO c",), ("AUTH", "AUTH PLAIN !", "AUTH NO", "AUTH PLAIN AGEAYg==")),
    "STARTTLS": ((), ("STARTTLS", "STARTTLS x", "STARTTLS")),
    "QUIT": ((), ("QUIT x", "QUIT x", "QUIT x")),
    "XCLIENT": (("EHLO c",), ("XCLIENT", "XCLIENT X=1", "XCLIENT ADDR=192.0.2.7")),
    "XFORWARD": (("EHLO c",), ("XFORWARD", "XFORWARD X=1", "XFORWARD ADDR=192.0.2.7")),
    "PING": ((), ("PING", "PING raise", "PING no", "PING")),
    "TRICK": ((), ("TRICK", "TRICK x", "trick")),
    "XYZZY": ((), ("XYZZY", "XYZZY x", "xyzzy")),
}


@pytest.mark.parametrize("name", SAME)
async def test_the_same_command_counts_however_it_goes(name: str) -> None:
    before, lines = SAME[name]
    verb = name.split(maxsplit=1)[0]
    spent = sum(line.startswith(verb) for line in before)
    service = service_of(
        Own,
        Moody(),
        command_call_limit={verb: spent + len(lines)},
        extensions=("CHUNKING",),
        data_size_limit=LIMIT,
        max_messages=1,
        max_recipients=1,
        max_errors=None,
        max_auth_failures=None,
        auth_failure_delay=0,
        auth_require_tls=False,
        auth_callback=lambda *_: False,
    )
    async with service, talking(service) as client:
        for line in before:
            assert (await client.ask(line))[:3] == "250"
        for line in lines:
            assert await client.ask(line.encode("latin-1")) != TOO_OFTEN, line
        assert await client.ask(lines[-1].encode("latin-1")) == TOO_OFTEN
        assert await client.rest() == ""


async def test_the_verbs_that_a_client_makes_up_take_no_memory_without_end() -> None:
    limits: dict[str, Any] = {"command_call_limit": 1000, "max_errors": None}
    service = service_of(SMTP, Keeper(), **limits)
    async with service, talking(service) as client:
        await client.send("".join(f"X{number:05}\r\n" for number in range(2000)))
        assert TOO_OFTEN in await client.rest()


async def test_asking_for_a_command_that_is_for_others() -> None:
    service = service_of(Own, Keeper(), max_errors=3)
    async with service, talking(service) as client:
        await client.send("TRICK\r\n" * 10)
        assert (await client.rest()).split("\r\n")[3] == ERRORS


class TakingOver(SMTP):
    """Says itself what it has to say to MAIL and RCPT."""

    async def smtp_MAIL(self, arg: str | None) -> Answer:
        """Take it."""
        self.envelope.mail_from = "anne@example.com"
        return "250 mine"

    async def smtp_RCPT(self, arg: str | None) -> Answer:
        """Take it."""
        self.envelope.rcpt_tos.append("bart@example.com")
        return Reply(250, ("mine",))


class TakingOverLMTP(TakingOver, LMTP):
    """The same, in LMTP."""


@pytest.mark.parametrize("smtp_class", [TakingOver, TakingOverLMTP])
async def test_limits_of_verbs_that_were_taken_over(smtp_class: type[SMTP]) -> None:
    handler = Here()
    service = service_of(smtp_class, handler, max_messages=2, max_recipients=2)
    async with service, talking(service) as client:
        await client.ask("LHLO c" if smtp_class.lmtp else "EHLO c")
        for _ in range(2):
            assert (await client.ask("MAIL FROM:<a@b.example>")).endswith(" mine")
            replies = [await client.ask("RCPT TO:<a@b.example>") for _ in range(3)]
            assert [reply[:3] for reply in replies] == ["250", "250", "452"]
            assert (await client.ask("DATA"))[:3] == "354"
            assert (await answers_to_body(client, SMALL + b".\r\n"))[:3] == "250"
        assert (await client.ask("MAIL FROM:<a@b.example>"))[:3] == "452"
    assert [len(envelope.rcpt_tos) for envelope in handler.envelopes] == [2, 2]
