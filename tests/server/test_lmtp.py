"""LMTP: LHLO, and an answer for each recipient, on each way to the server."""

from collections.abc import Sequence

import pytest
from tests.server.secure import Wire, upgrade
from tests.server.support import Dialogue, Keeper, talking

from smtp_protocol import Answer, AnyHandler, Envelope, Handler, Server, Session
from smtp_server import LMTP, SMTP, Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class Box(Handler):
    """Keeps envelopes."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []


class PerRecipient(Box):
    """Answers for each recipient by its name."""

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Sequence[Answer]:
        """Keep the message, and say no to some."""
        self.envelopes.append(envelope)
        return [
            "550 5.1.1 No such user" if to.startswith("no") else f"250 2.0.0 {number} {to}"
            for number, to in enumerate(envelope.rcpt_tos)
        ]


async def begin(client: Dialogue, *recipients: str, data: bool = True) -> None:
    assert (await client.ask("LHLO client.test")).startswith("250-")
    assert await client.ask("MAIL FROM:<anne@example.com>") == "250 2.1.0 OK"
    for recipient in recipients:
        assert await client.ask(f"RCPT TO:<{recipient}>") == "250 2.1.5 OK"
    if data:
        assert (await client.ask("DATA")).startswith("354")


async def replies(client: Dialogue, number: int) -> list[str]:
    return [await client.reply() for _ in range(number)]


async def test_an_answer_for_each_recipient(wire: Wire) -> None:
    handler = PerRecipient()
    async with wire.serve(handler, LMTP) as service:
        client = await connect(wire, service)
        await begin(client, "a@example.com", "no@example.com", "a@example.com")
        await client.send("Subject: x\r\n\r\nHi\r\n.\r\nNOOP\r\n")
        assert await replies(client, 4) == [
            "250 2.0.0 0 a@example.com",
            "550 5.1.1 No such user",
            "250 2.0.0 2 a@example.com",
            "250 2.0.0 OK",
        ]
        assert handler.envelopes[0].content == b"Subject: x\r\n\r\nHi\r\n"
        await begin(client, "b@example.com")
        assert await client.ask(".") == "250 2.0.0 0 b@example.com"
        assert await client.ask("QUIT") == "221 2.0.0 Bye"
        assert await client.rest() == ""
        await client.close()


async def connect(wire: Wire, service: Service) -> Dialogue:
    """STARTTLS here needs LHLO."""
    if wire.name != "starttls":
        return await wire.connect(service)
    client = await Dialogue.connect(service.addresses[0])
    assert (await client.reply()).startswith("220 ")
    assert "STARTTLS" in await client.ask("LHLO client.test")
    assert (await client.ask("STARTTLS")).startswith("220")
    await upgrade(client)
    return client


def lmtp(handler: AnyHandler) -> Service:
    return serve(handler, "127.0.0.1", 0, smtp_class=LMTP)


async def test_greetings() -> None:
    async with lmtp(Keeper()) as service, talking(service) as client:
        for line in ("EHLO client.test", "HELO client.test"):
            assert (await client.ask(line)).startswith("500")
            assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("503")
        assert (await client.ask("LHLO")).startswith("501")
        assert (await client.ask("LHLO client.test")).startswith("250-")
        assert await client.ask("MAIL FROM:<a@example.com>") == "250 2.1.0 OK"
    async with serve(Keeper(), "127.0.0.1", 0) as service, talking(service) as client:
        assert (await client.ask("LHLO client.test")).startswith("500")


async def test_what_the_greeting_says() -> None:
    service = serve(Keeper(), "127.0.0.1", 0, smtp_class=LMTP)
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        assert " Python LMTP " in await client.reply()
    assert not SMTP.lmtp


async def test_one_answer_for_all() -> None:
    handler = Keeper()
    async with lmtp(handler) as service, talking(service) as client:
        await begin(client, "a@example.com", "b@example.com")
        await client.send(".\r\n")
        assert await replies(client, 2) == ["250 2.0.0 Kept"] * 2
        assert await client.ask("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_too_few_or_too_many_answers(number: int) -> None:
    class Wrong(Box):
        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            return ["250 OK"] * number

    async with lmtp(Wrong()) as service, talking(service) as client:
        await begin(client, "a@example.com", "b@example.com")
        await client.send(".\r\n")
        assert [reply[:3] for reply in await replies(client, 2)] == ["451"] * 2
        assert await client.ask("NOOP") == "250 2.0.0 OK"


async def test_a_hook_that_fails() -> None:
    class Fails(Box):
        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            raise LookupError("no")

    async with lmtp(Fails()) as service, talking(service) as client:
        await begin(client, "a@example.com", "b@example.com", "c@example.com")
        await client.send(".\r\n")
        assert [reply[:3] for reply in await replies(client, 3)] == ["451"] * 3
        assert await client.ask("NOOP") == "250 2.0.0 OK"


async def test_a_recipient_that_was_refused_has_no_answer() -> None:
    service = serve(PerRecipient(), "127.0.0.1", 0, smtp_class=LMTP, max_recipients=2)
    async with service, talking(service) as client:
        await begin(client, "a@example.com", "b@example.com", data=False)
        assert (await client.ask("RCPT TO:<c@example.com>")).startswith("452")
        assert (await client.ask("RCPT TO:<@>")).startswith("553")
        await client.ask("DATA")
        await client.send(".\r\nNOOP\r\n")
        assert [r[:7] for r in await replies(client, 3)] == ["250 2.0", "250 2.0", "250 2.0"]


async def test_no_recipient() -> None:
    async with lmtp(Keeper()) as service, talking(service) as client:
        await begin(client, data=False)
        assert (await client.ask("DATA")).startswith("503")


async def test_a_message_that_is_too_large_is_refused_for_each_recipient() -> None:
    """That is one error of the client, and no reason to end the session."""
    service = serve(Keeper(), "127.0.0.1", 0, smtp_class=LMTP, data_size_limit=10)
    async with service, talking(service) as client:
        recipients = [f"{number}@example.com" for number in range(50)]
        await begin(client, *recipients)
        await client.send("x" * 100 + "\r\n.\r\nNOOP\r\n")
        answers = await replies(client, 51)
        assert [reply[:3] for reply in answers] == ["552"] * 50 + ["250"]


async def test_the_last_chunk_has_an_answer_for_each_recipient(wire: Wire) -> None:
    handler = PerRecipient()
    async with wire.serve(handler, LMTP, extensions=("CHUNKING", "BINARYMIME")) as service:
        client = await connect(wire, service)
        await client.ask("LHLO client.test")
        await client.ask("MAIL FROM:<a@example.com> BODY=BINARYMIME")
        await client.tell("RCPT TO:<a@example.com>", "RCPT TO:<no@example.com>")
        await client.send(b"BDAT 3\r\n\0\r\nBDAT 2 LAST\r\n\n.NOOP\r\n")
        answers = await replies(client, 4)
        assert [reply[:3] for reply in answers] == ["250", "250", "550", "250"]
        assert handler.envelopes[0].content == b"\0\r\n\n."
        await client.close()


async def test_many_recipients_pipelined() -> None:
    async with lmtp(PerRecipient()) as service, talking(service) as client:
        lines = ["LHLO c", "MAIL FROM:<a@example.com>"]
        lines += [f"RCPT TO:<{n}@example.com>" for n in range(500)]
        lines += ["DATA", "x", ".", "QUIT"]
        await client.send("".join(f"{line}\r\n" for line in lines))
        answers = [line for line in (await client.rest()).splitlines() if line[3:4] == " "]
        assert len(answers) == 1 + 1 + 500 + 1 + 500 + 1
        assert answers[-2] == "250 2.0.0 499 499@example.com"
