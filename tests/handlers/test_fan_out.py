"""FanOut: 250 means that every handler has the message."""

import asyncio
from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, Client, session
from tests.handlers.test_front import Streaming, Whole
from tests.handlers.test_mailbox import deliver, files, leftovers, lmtp, until
from tests.handlers.transactions import MODES, Mode, transaction

from smtp_handlers import FanOut, Mailbox
from smtp_protocol import (
    Answer,
    BodyAborted,
    Envelope,
    Handler,
    HandlerConnection,
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


# What each recipient is told, and who has the message for it.

ANNE, BART = "anne@x.example", "bart@x.example"
FULL = "452 4.2.2 full"
GONE = "550 5.1.1 gone"


class Keeps(Handler):
    """Keeps messages for some, and refuses others, at RCPT or at the end.

    Args:
        verdicts: What is said of a recipient that is refused: ``rcpt`` or ``end``, and the answer.
    """

    def __init__(self, verdicts: dict[str, str] | None = None) -> None:
        self.verdicts = verdicts or {}
        self.kept: list[str] = []

    def refusal(self, stage: str, address: str) -> str:
        when, _, answer = self.verdicts.get(address, "").partition(" ")
        return answer if when == stage else ""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        envelope.rcpt_tos.append(address)
        return self.refusal("rcpt", address) or "250 OK"

    def keep(self, recipients: list[str], content: bytes) -> list[Answer]:
        assert content == HELLO
        self.kept += [address for address in recipients if not self.refusal("end", address)]
        return [self.refusal("end", address) or "250 kept" for address in recipients]

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        return self.keep(envelope.rcpt_tos, envelope.content)


class KeepsStream(Keeps):
    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        recipients = envelope.rcpt_tos.copy()
        return self.keep(recipients, b"".join([chunk async for chunk in chunks]))


KINDS: list[type[Keeps]] = [Keeps, KeepsStream]

# What a handler says of a recipient: all is well, or a refusal at RCPT or at the end.
VERDICTS = ["", f"rcpt {GONE}", f"end {FULL}"]

each_kind = pytest.mark.parametrize(
    ("first", "other"), list(product(KINDS, KINDS)), ids=lambda kind: kind.__name__
)
each_mode = pytest.mark.parametrize("mode", MODES, ids=str)

Pattern = tuple[dict[str, str], ...]


def patterns() -> Iterator[Pattern]:
    """What a first handler, which has the say at RCPT, and two others say of two recipients."""
    pairs = [dict(zip((ANNE, BART), pair, strict=True)) for pair in product(VERDICTS, repeat=2)]
    firsts = [pair for pair in pairs if set(pair.values()) <= {"", f"end {FULL}"}]
    thirds = [
        {},
        {BART: f"rcpt {GONE}"},
        {ANNE: f"end {FULL}"},
        {ANNE: f"end {FULL}", BART: f"end {GONE}"},
    ]
    return product(firsts, pairs, thirds)


@each_kind
@pytest.mark.parametrize("mode", [Mode(), Mode(lmtp=True)], ids=str)
async def test_250_only_where_every_handler_has_it(
    first: type[Keeps], other: type[Keeps], mode: Mode
) -> None:
    for pattern in patterns():
        handlers = [kind(said) for kind, said in zip((first, other, other), pattern, strict=True)]
        told = await transaction(FanOut(*handlers), [ANNE, BART], mode)
        refused = {address for said in pattern for address, verdict in said.items() if verdict}
        if mode.lmtp:
            assert set(told.taken()) == {ANNE, BART} - refused, pattern
            assert len(told.final) == 2
        else:
            assert told.taken() == ([] if refused else [ANNE, BART]), pattern
            assert len(told.final) == 1
        for handler in handlers:
            assert set(handler.kept) >= set(told.taken()), pattern
        for said in pattern[1:]:
            late = {address for address, verdict in said.items() if verdict.startswith("end")}
            early = {address for address, verdict in said.items() if verdict.startswith("rcpt")}
            told_of = early if first is KeepsStream else early | late
            assert not told_of & set(handlers[0].kept), pattern


ONE, TWO, THREE = "250 2.0.0 one", "250 2.0.0 two", "250 2.0.0 three"


@pytest.mark.parametrize(
    ("first", "second", "third", "answer"),
    [
        (ONE, TWO, THREE, ONE),
        (ONE, FULL, THREE, FULL),
        (ONE, FULL, GONE, GONE),
        (ONE, GONE, FULL, GONE),
        (GONE, TWO, THREE, GONE),
        # The first is not asked about somebody whom another one has refused.
        (GONE, FULL, THREE, FULL),
        (GONE, TWO, FULL, FULL),
    ],
)
async def test_the_worst_is_told(first: str, second: str, third: str, answer: str) -> None:
    class Says(Handler):
        def __init__(self, answer: str) -> None:
            self.answer = answer

        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> list[Answer]:
            # Somebody has an answer that lets all of them go on.
            return [self.answer if each == BART else "250 OK" for each in envelope.rcpt_tos]

    handler = FanOut(Says(first), Says(second), Says(third))
    told = await transaction(handler, [ANNE, BART], Mode(lmtp=True))
    assert [str(reply) for reply in told.final] == ["250 2.0.0 OK", answer]


async def test_one_answer_is_for_all_that_were_asked() -> None:
    second = Keeps({BART: f"rcpt {GONE}"})
    told = await transaction(FanOut(Whole(), second, Streaming()), [ANNE, BART], Mode(lmtp=True))
    assert [str(reply) for reply in told.final] == ["250 2.0.0 taken whole", GONE]
    assert second.kept == [ANNE]


async def test_a_first_handler_with_a_list_of_its_own_need_not_know() -> None:
    class Own(Keeps):
        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            return ["250 for Anne", "250 for Bart"]

    told = await transaction(FanOut(Own(), Keeps({ANNE: VERDICTS[2]})), [ANNE, BART], MODES[2])
    assert [str(reply) for reply in told.final] == [FULL, "250 2.0.0 for Bart"]


@pytest.mark.parametrize("number", [0, 1])
@each_mode
async def test_too_few_answers_are_an_error(number: int, mode: Mode) -> None:
    class Short(Keeps):
        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            return ["250 one", "250 two"]

    handlers = [Short(), Keeps()]
    errors: list[Exception] = []
    told = await transaction(
        FanOut(handlers[number], handlers[1 - number]),
        [ANNE, BART, "c@x.example"],
        mode,
        on_failure=errors.append,
    )
    assert {reply.code for reply in told.final} == {451}
    assert [type(error) for error in errors] == [TypeError]


class SaysNothing(Handler):
    """Accepts recipients, and writes them down nowhere."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        return "250 OK"


@pytest.mark.parametrize(("other", "code"), [(Whole(), 250), (Told(MAIL=GONE), 550)])
@each_mode
async def test_nobody_written_down(other: Handler, code: int, mode: Mode) -> None:
    told = await transaction(FanOut(SaysNothing(), other), [ANNE, BART], mode)
    assert [reply.code for reply in told.final] == [code] * (2 if mode.lmtp else 1)


async def test_the_same_recipient_twice() -> None:
    async with lmtp(FanOut(Keeps(), once := Once(), Keeps())) as client:
        replies = await deliver(client, HELLO, [ANNE, BART, ANNE], 3)
    assert replies == ["250", "250", "250"]
    assert once.kept == [ANNE, BART]


class Once(Keeps):
    """Writes down nobody twice, and sorts."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        envelope.rcpt_tos = sorted({*envelope.rcpt_tos, address})
        return "250 OK"


@each_mode
async def test_a_hook_that_makes_the_list_anew_confuses_nobody(mode: Mode) -> None:
    first, second = Once({BART: f"end {FULL}"}), Keeps()
    told = await transaction(FanOut(first, second), [BART, ANNE], mode)
    assert first.kept == [ANNE]
    assert second.kept == [ANNE, BART]
    assert told.taken() == ([ANNE] if mode.lmtp else [])


async def test_text_for_all() -> None:
    class Text(Handler):
        text: str | None = None

        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
            self.text = envelope.text
            return "250 OK"

    first, second = Text(), Text()
    async with session(FanOut(first, second), decode_data=True, enable_SMTPUTF8=True) as client:
        assert (await client.send("é\r\n".encode())).code == 250
    assert first.text == second.text == "é\r\n"


@pytest.mark.parametrize("number", [0, 1])
async def test_not_ascii_is_refused_where_text_is_wanted(number: int) -> None:
    whole = Whole()
    handlers = [whole, Told()]
    fan_out = FanOut(handlers[number], handlers[1 - number])
    async with session(fan_out, decode_data=True) as client:
        assert str(await client.send(b"\xff\r\n")) == "554 The message is not ASCII"
        assert whole.taken == []
        assert (await client.send()).code == 250


# Hooks that fail.


class Stops(BaseException):
    """What only the end of a program should be."""


FAILURES: list[BaseException] = [RuntimeError("no"), SystemExit(3), Stops(), CancelledError()]

each_failure = pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
either = pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])


class Raises(Keeps):
    """Raises in one hook."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__()
        self.name = name
        self.error = error

    def may_raise(self, name: str) -> Answer:
        if name == self.name:
            raise self.error
        return "250 OK"

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        return self.may_raise("MAIL")

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        self.may_raise("RCPT")
        return await super().handle_RCPT(server, session, envelope, address, rcpt_options)

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer:
        self.may_raise("begin")
        async for _ in chunks:
            self.may_raise("chunk")
        return self.may_raise("end")

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        return self.may_raise("RSET")

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.may_raise("DISCONNECT")


async def codes_of(client: Client, to: Sequence[str]) -> tuple[int, list[int]]:
    """The code of the first refusal before the message, or of all; and those at its end."""
    for line in ("MAIL FROM:<a@x.example>", *(f"RCPT TO:<{each}>" for each in to)):
        reply = await client(line)
        if reply.code != 250:
            return reply.code, []
    assert (await client("DATA")).code == 354
    client.writer.write(HELLO + b".\r\n")
    return 250, [(await client.reply()).code for _ in to]


@pytest.mark.parametrize("name", ["MAIL", "RCPT", "begin", "chunk", "end"])
@either
@each_failure
async def test_a_handler_that_fails(number: int, name: str, error: BaseException) -> None:
    told = Told()
    handlers = [Raises(name, error), told]
    fan_out = FanOut(handlers[number], handlers[1 - number])
    async with lmtp(fan_out) as client:
        code, answers = await codes_of(client, [ANNE, BART])
        at_once = number == 0 and name in ("MAIL", "RCPT")
        assert (code, answers) == ((451, []) if at_once else (250, [451, 451]))
        assert (await client("NOOP")).code == 250
    if number == 1:
        assert "END" not in told.told
    elif name == "end":
        assert "END" in told.told


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_a_reset_that_fails_keeps_nobody_from_theirs(mode: Mode) -> None:
    last = Told()
    fan_out = FanOut(Keeps(), Raises("RSET", RuntimeError("no")), last, Told(RCPT=GONE))
    told = await transaction(fan_out, [ANNE], mode)
    assert [reply.code for reply in told.final] == [451]
    assert last.told[-2:] == ["RSET", "DISCONNECT"]


@either
async def test_a_goodbye_that_fails_keeps_nobody_from_theirs(number: int) -> None:
    told = Told()
    handlers = [Raises("DISCONNECT", RuntimeError("no")), told]
    errors: list[Exception] = []
    fan_out = FanOut(handlers[number], handlers[1 - number])
    assert (await transaction(fan_out, [ANNE], on_failure=errors.append)).taken() == [ANNE]
    assert told.told[-1] == "DISCONNECT"
    assert [str(error) for error in errors] == ["no"]


async def test_what_a_handler_raises_that_was_given_up_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BadLoser(Keeps):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> Answer:
            try:
                return "250 OK" if [chunk async for chunk in chunks] else "250 nothing"
            finally:
                raise RuntimeError("cannot clean up")

    async with session(FanOut(BadLoser(), Told(early=FULL))) as client:
        assert str(await client.send(LINE * 10_000)) == FULL
    [record] = [record for record in caplog.records if record.name == "smtp_handlers"]
    assert record.getMessage().endswith("A handler behind FanOut failed")
    assert "cannot clean up" in str(record.exc_info)


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


async def test_cancelled_while_those_that_were_given_up_hang() -> None:
    given_up, cancelled = asyncio.Event(), asyncio.Event()

    class Lingers(Handler):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> Answer:
            try:
                return "250 OK" if [chunk async for chunk in chunks] else "250 nothing"
            finally:
                given_up.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

    fan_out, told = FanOut(Lingers(), full := Keeps({ANNE: f"end {FULL}"})), Told()
    server = HandlerConnection(FanOut(fan_out, told))
    lines = f"HELO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<{ANNE}>\r\nDATA\r\n"
    server.receive_data(lines.encode() + HELLO + b".\r\n")
    answering = asyncio.create_task(server.answers())
    await given_up.wait()
    answering.cancel()
    with pytest.raises(CancelledError):
        await answering
    assert cancelled.is_set()
    assert full.kept == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
