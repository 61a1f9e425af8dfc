"""FanOut: 250 means that every handler has the message."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, session
from tests.handlers.test_front import Streaming, Whole
from tests.handlers.test_mailbox import files, leftovers, until

from smtp_handlers import FanOut, Mailbox
from smtp_protocol import (
    Answer,
    BodyAborted,
    Envelope,
    Handler,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
)
from smtp_server import SMTP

LINE = b"x" * 98 + b"\r\n"


class Told(Handler):
    """Writes down what it is told, and answers as a test wants."""

    def __init__(self, **answers: Answer | Sequence[Answer]) -> None:
        self.answers = answers
        self.told: list[str] = []

    def answer(self, name: str) -> Answer:
        self.told.append(name)
        answer = self.answers.get(name.split(maxsplit=1)[0], "250 OK")
        assert isinstance(answer, str | Reply)
        return answer

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        return self.answer(f"MAIL {address} {list(mail_options)}")

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        envelope.rcpt_tos.append(address)
        return self.answer(f"RCPT {address}")

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        return self.answer("RSET")

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.answer("DISCONNECT")

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        assert envelope.mail_from is not None
        assert [recipient.address for recipient in envelope.recipients] == envelope.rcpt_tos
        try:
            if "early" not in self.answers:
                async for _ in chunks:
                    pass
        except BodyAborted:
            self.told.append("aborted")
            raise
        return self.answers.get("early") or self.answers.get("several") or self.answer("END")


async def test_all_get_it(tmp_path: Path) -> None:
    content = HELLO + LINE * 20_000
    whole, streaming = Whole(), Streaming()
    async with session(FanOut(Mailbox(tmp_path), whole, streaming)) as client:
        assert (await client.send(content)).code == 250
        assert (await client.send(b"")).code == 250
    assert whole.taken == streaming.taken == [content, b""]
    assert [path.read_bytes().endswith(content) for path in files(tmp_path)] == [True, False]


async def test_others_are_told_of_the_transaction() -> None:
    first, second = Told(), Told()
    async with session(FanOut(first, second)) as client:
        await client("MAIL FROM:<anne@example.com> BODY=8BITMIME")
        await client("RCPT TO:<bart@example.com>")
        await client("RCPT TO:<c@example.com>")
        await client("DATA")
        assert (await client.body(HELLO)).code == 250
    transaction = [
        "MAIL anne@example.com ['BODY=8BITMIME']",
        "RCPT bart@example.com",
        "RCPT c@example.com",
        "END",
    ]
    assert first.told == second.told == [*transaction, "DISCONNECT"]


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
async def test_another_refuses_the_transaction(command: str) -> None:
    first, second, third = Told(), Told(), Told(**{command: "451 4.2.0 not me"})
    async with session(FanOut(first, second, third)) as client:
        assert str(await client.send()) == "451 4.2.0 not me"
        assert first.told == ["MAIL anne@example.com []", "RCPT bart@example.com"]
        assert second.told == [*first.told, "RSET"]
        assert third.told[-2].startswith(command)
        assert third.told[-1] == "RSET"


async def test_the_first_refuses_a_recipient() -> None:
    first, second = Told(RCPT="550 no"), Told()
    async with session(FanOut(first, second)) as client:
        assert (await client.send()).code == 550
        assert second.told == []


async def test_another_refuses_the_message() -> None:
    first, second, third = Told(), Told(END="552 5.2.2 full"), Told()
    async with session(FanOut(first, second, third)) as client:
        assert str(await client.send(LINE * 10_000)) == "552 5.2.2 full"
        # The third had it before; the first was told that it would not be complete.
        assert third.told[-1] == "END"
        assert first.told[-1] == "aborted"
        assert (await client.send()).code == 552


async def test_the_first_refuses_the_message(tmp_path: Path) -> None:
    async with session(FanOut(Told(END="451 4.2.0 later"), Mailbox(tmp_path))) as client:
        assert (await client.send()).code == 451
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("number", [0, 1])
async def test_refused_before_its_end(number: int, tmp_path: Path) -> None:
    handlers = [Told(early="552 5.3.4 too much"), Mailbox(tmp_path)]
    async with session(FanOut(handlers[number], handlers[1 - number])) as client:
        assert (await client.send(LINE * 10_000)).code == 552
    assert files(tmp_path) == leftovers(tmp_path) == []


async def test_taken_before_its_end() -> None:
    first, second = Told(early="250 enough"), Told()
    async with session(FanOut(first, second)) as client:
        assert (await client.send(LINE * 10_000)) == Reply.parse("250 enough")
    assert second.told[-2:] == ["END", "DISCONNECT"]


async def test_answers_per_recipient_are_the_firsts() -> None:
    first = Told(several=("250 one", "451 two"))
    async with session(FanOut(first, Told())) as client:
        assert (await client.send(to=["a@x.example", "b@x.example"])) == Reply.parse("451 two")


async def test_one_recipient_of_another_fails() -> None:
    second = Told(several=("250 one", "451 two"))
    async with session(FanOut(Told(), second)) as client:
        assert (await client.send(to=["a@x.example", "b@x.example"])) == Reply.parse("451 two")


class Fails(Handler):
    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer:
        await anext(chunks)
        raise RuntimeError("no more")


@pytest.mark.parametrize("content", [HELLO, LINE * 10_000], ids=["short", "long"])
async def test_one_raises(content: bytes, tmp_path: Path) -> None:
    async with session(FanOut(Mailbox(tmp_path), Fails())) as client:
        assert (await client.send(content)).code == 451
        assert files(tmp_path) == leftovers(tmp_path) == []


async def test_lost_connection(tmp_path: Path) -> None:
    told = Told()
    async with session(FanOut(told, Mailbox(tmp_path))) as client:
        for line in ("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"):
            await client(line)
        client.writer.write(LINE * 10_000)
        await client.writer.drain()
    await until(lambda: "DISCONNECT" in told.told and "aborted" in told.told)
    await until(lambda: leftovers(tmp_path) == [])
    assert files(tmp_path) == []


async def test_cancelled_though_a_handler_hangs() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    class Hangs(Handler):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> Answer:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return "250 never"

    async def chunks() -> AsyncIterator[bytes]:
        yield HELLO

    smtp = SMTP(Whole(), hostname="mx.example")
    envelope = Envelope()
    envelope.mail_from = "a@x.example"
    fan_out = FanOut(Hangs(), Told())
    hook = asyncio.create_task(fan_out.handle_STREAM(smtp, Session(), envelope, chunks()))
    await began.wait()
    hook.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hook
    assert cancelled.is_set()
