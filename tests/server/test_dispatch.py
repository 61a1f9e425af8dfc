"""Dispatch: each hook is called with what its command says, and whatever it does gets one reply."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import pytest
from tests.server.fakes import FakeExchange, FakeLMTPExchange, FakeLoop
from tests.server.support import (
    DEADLINE,
    HOSTNAME,
    Dialogue,
    Keeper,
    dialogue,
    service_of,
    talking,
)

from smtp_protocol import (
    Answer,
    Auth,
    BodyEnd,
    Envelope,
    Handler,
    MailOptions,
    Noop,
    RcptOptions,
    Reply,
    Server,
    Session,
    replies,
)
from smtp_server import SMTP
from smtp_server.dispatch import (
    HookFailed,
    answer,
    contained,
    failure_in_future,
    failure_of,
    untimed,
)

LOCAL_ERROR = "451 Local error in processing"

# What a hook must not return, and what makes of it what the peer gets.
RUBBISH = [
    None,
    250,
    b"250 OK",
    "",
    "OK",
    "99 little",
    "600 much",
    "250 two\r\nlines",
    "250 OK\r\n250 OK",
    "250-unfinished",
    "250 injected\r\n221 Bye\r\n",
    "250 bare\rreturn",
    "250 nul\0",
    [],
    object(),
]


class Everything(Handler):
    """Has every hook, answers each by its name, and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def note(self, *call: object) -> str:
        self.calls.append(call)
        return f"250 {call[0]}"

    async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.note("CONNECT")
        return "220 Hello"

    async def handle_HELO(
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> str:
        return self.note("HELO", hostname)

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        self.note("EHLO", hostname, *responses)
        return [*responses[:-1], "250-X-MINE", responses[-1]]

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> str:
        envelope.mail_from = address
        return self.note("MAIL", address, *mail_options)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.note("RCPT", address, *rcpt_options)

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        return self.note("DATA", envelope.content)

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> str:
        return self.note("RSET")

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        return self.note("NOOP", arg)

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> str:
        self.note("QUIT")
        return "221 See you"

    async def handle_VRFY(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> str:
        return self.note("VRFY", address)

    async def handle_EXPN(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> str:
        return self.note("EXPN", address)

    async def handle_HELP(
        self, server: Server, session: Session, envelope: Envelope, topic: str
    ) -> str:
        return self.note("HELP", topic)

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.note("DISCONNECT")


async def test_every_hook_is_called() -> None:
    handler = Everything()
    service = service_of(SMTP, handler)
    async with service, talking(service) as client:
        assert await client.ask("HELO one") == "250 HELO"
        assert await client.ask("EHLO two") == (
            f"250-{HOSTNAME}\n250-SIZE 33554432\n250-8BITMIME\n250-X-MINE\n250 HELP"
        )
        assert await client.ask("MAIL FROM:<a@example.com> size=10 BODY=8BITMIME") == "250 MAIL"
        assert await client.ask("RCPT TO:<b@example.com>") == "250 RCPT"
        assert (await client.ask("DATA")).startswith("354 ")
        assert await client.ask("..Hi\r\n.") == "250 DATA"
        assert await client.ask("RSET") == "250 RSET"
        assert await client.ask("NOOP some text") == "250 NOOP"
        assert await client.ask("VRFY anne") == "250 VRFY"
        assert await client.ask("EXPN staff") == "250 EXPN"
        assert await client.ask("HELP rcpt") == "250 HELP"
        assert await client.ask("QUIT") == "221 See you"
        assert await client.rest() == ""
    assert handler.calls == [
        ("CONNECT",),
        ("HELO", "one"),
        ("EHLO", "two", f"250-{HOSTNAME}", "250-SIZE 33554432", "250-8BITMIME", "250 HELP"),
        ("MAIL", "a@example.com", "SIZE=10", "BODY=8BITMIME"),
        ("RCPT", "b@example.com"),
        ("DATA", b".Hi\r\n"),
        ("RSET",),
        ("NOOP", "some text"),
        ("VRFY", "anne"),
        ("EXPN", "staff"),
        ("HELP", "rcpt"),
        ("QUIT",),
        ("DISCONNECT",),
    ]


async def test_the_defaults() -> None:
    class Nothing(Handler):
        pass

    async with dialogue(Nothing()) as client:
        assert await client.ask("EHLO client.test") == (
            f"250-{HOSTNAME}\n250-SIZE 33554432\n250-8BITMIME\n250 HELP"
        )
        assert await client.ask("HELO client.test") == f"250 {HOSTNAME}"
        assert await client.ask("VRFY anne") == (
            "252 Cannot VRFY user, but will accept message and try to deliver"
        )
        assert await client.ask("EXPN list") == "502 Command not implemented"
        help_text = await client.ask("HELP")
        assert help_text.startswith("214 Commands: ")
        assert {"DATA", "EHLO", "EXPN", "HELO", "VRFY"} <= set(help_text.split())
        assert await client.ask("HELP noop") == "214 Syntax: NOOP [text]"
        assert await client.ask("HELP me") == "504 No help on that"
        assert await client.ask("NOOP") == "250 OK"
        assert await client.ask("RSET") == "250 OK"
        assert await client.ask("QUIT") == "221 Bye"
        assert await client.rest() == ""


# A hook that misbehaves.


class Misbehaving(Handler):
    """Its hooks return ``result``, or raise it."""

    result: ClassVar[Any] = None

    async def misbehave(self) -> Any:
        await asyncio.sleep(0)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        answer: Answer = await self.misbehave()
        return answer

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        answer: Answer = await self.misbehave()
        return answer


def misbehaving(what: object) -> Handler:
    class Chosen(Misbehaving):
        result = what

    return Chosen()


@pytest.mark.parametrize("result", RUBBISH, ids=lambda result: repr(result)[:20])
async def test_a_hook_that_returns_rubbish(
    caplog: pytest.LogCaptureFixture, result: object
) -> None:
    async with dialogue(misbehaving(result)) as client:
        assert await client.ask("NOOP") == LOCAL_ERROR
        assert await client.deliver() == LOCAL_ERROR
        assert await client.ask("RSET") == "250 OK"
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 2
    assert all(record.exc_info for record in records)


async def test_a_hook_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    async with dialogue(misbehaving(RuntimeError("my secret"))) as client:
        await client.send("NOOP\r\nRSET\r\nNOOP\r\n")
        replies = [await client.reply() for _ in range(3)]
        assert replies == [LOCAL_ERROR, "250 OK", LOCAL_ERROR]
        assert await client.deliver() == LOCAL_ERROR
        assert await client.deliver() == LOCAL_ERROR
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().split("] ")[1] for record in records] == [
        "The hook for Noop failed",
        "The hook for Noop failed",
        "The hook for BodyEnd failed",
        "The hook for BodyEnd failed",
    ]
    for record in records:
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == "my secret"
        assert record.exc_info[2] is not None


async def test_the_enhanced_status_of_a_failure() -> None:
    async with dialogue(
        misbehaving(RuntimeError("x")), extensions=["ENHANCEDSTATUSCODES"]
    ) as client:
        assert await client.ask("NOOP") == "451 4.3.0 Local error in processing"


async def test_a_hook_that_fails_before_the_greeting() -> None:
    class NoGreeting(Handler):
        async def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
            raise RuntimeError("no")

    service = service_of(SMTP, NoGreeting())
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        assert await client.reply() == LOCAL_ERROR
        assert await client.rest() == ""


async def test_a_hook_that_waits_for_what_was_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
            return "250 OK"

    async with dialogue(Waiting()) as client:
        assert await client.ask("NOOP") == LOCAL_ERROR
        assert await client.ask("RSET") == "250 OK"
    assert "The hook for Noop failed" in caplog.text


async def test_the_handlers_own_answer_to_an_exception() -> None:
    class Explains(Misbehaving):
        result = RuntimeError("secret")
        seen: ClassVar[list[Exception]] = []

        async def handle_exception(self, error: Exception) -> str:
            self.seen.append(error)
            return "550 5.3.5 Broken for good"

    async with dialogue(Explains()) as client:
        assert await client.ask("NOOP") == "550 5.3.5 Broken for good"
        assert await client.ask("RSET") == "250 OK"
    assert [str(error) for error in Explains.seen] == ["secret"]


@pytest.mark.parametrize("second", [RuntimeError("again"), "rubbish", None], ids=repr)
async def test_the_answer_to_an_exception_fails_too(
    caplog: pytest.LogCaptureFixture, second: object
) -> None:
    class Worse(Misbehaving):
        result = RuntimeError("first")

        async def handle_exception(self, error: Exception) -> Answer:
            if isinstance(second, Exception):
                raise second
            answer: Answer = cast(Any, second)
            return answer

    async with dialogue(Worse()) as client:
        assert await client.ask("NOOP") == LOCAL_ERROR
        assert await client.ask("RSET") == "250 OK"
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2


async def test_an_exception_after_a_pushed_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Pushes(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            await server.push("250 Pushed")
            raise RuntimeError("too late")

    async with dialogue(Pushes()) as client:
        await client.send("NOOP\r\nRSET\r\n")
        assert await client.reply() == "250 Pushed"
        assert await client.reply() == "250 OK"
    assert "The hook for Noop failed" in caplog.text


async def test_a_plain_function_is_as_good_as_a_coroutine() -> None:
    class Plain:
        def handle_CONNECT(self, server: Server, session: Session, envelope: Envelope) -> str:
            return "220 Plain"

        def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return "250 Plain"

        def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            return "250 Plain"

    plain: Any = Plain()
    async with dialogue(plain) as client:
        assert await client.ask("NOOP") == "250 Plain"
        assert await client.deliver() == "250 Plain"


# Push.


async def test_push_twice() -> None:
    class Twice(Handler):
        errors: ClassVar[list[Exception]] = []

        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            await server.push(Reply(250, ("first",)))
            with pytest.raises(RuntimeError) as second:
                await server.push("250 second")
            self.errors.append(second.value)
            return "250 third"

    async with dialogue(Twice()) as client:
        await client.send("NOOP\r\nRSET\r\n")
        assert await client.reply() == "250 first"
        assert await client.reply() == "250 OK"
    assert "no reply is owed" in str(Twice.errors[0])


async def test_push_of_rubbish() -> None:
    class Rubbish(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            await server.push("250 OK\r\n221 Bye\r\n")
            return "250 OK"

    async with dialogue(Rubbish()) as client:
        assert await client.ask("NOOP") == LOCAL_ERROR


async def test_a_pushed_answer_is_on_the_wire_before_the_hook_ends() -> None:
    ended = asyncio.Event()

    class Slow(Handler):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            await server.push("250 Queued")
            async with asyncio.timeout(DEADLINE):
                await ended.wait()
            return "250 OK"

    async with dialogue(Slow()) as client:
        assert await client.deliver() == "250 Queued"
        ended.set()
        assert await client.ask("NOOP") == "250 OK"


async def test_an_answer_for_each_recipient() -> None:
    class Each(Handler):
        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            return [f"250 {to}" if to.startswith("a") else f"450 {to}" for to in envelope.rcpt_tos]

    async with dialogue(Each()) as client:
        await client.begin_data("s@example.com", "a@example.com", "b@example.com")
        assert await client.ask(".") == "450 b@example.com"


@pytest.mark.parametrize("lines", [["250-x", "251 y"], [1], []])
async def test_a_bad_reply_to_ehlo(lines: list[Any]) -> None:
    class BadLines(Keeper):
        async def handle_EHLO(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            hostname: str,
            responses: list[str],
        ) -> list[str]:
            return lines

    async with dialogue(BadLines()) as client:
        assert await client.ask("EHLO client.test") == LOCAL_ERROR
        assert (await client.ask("MAIL FROM:<a@example.com>")).startswith("503")


# Without a connection.

NOOP = Noop("")


class Does(Handler):
    """Answers NOOP as it is told to: with a value, an exception, or not at all."""

    def __init__(self, what: object, then: object = replies.LOCAL_ERROR) -> None:
        self.what = what
        self.then = then

    async def handle_NOOP(self, *_: object) -> Any:
        return await self._do(self.what)

    async def handle_exception(self, error: Exception) -> Any:
        return await self._do(self.then)

    async def _do(self, what: object) -> object:
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, asyncio.Event):
            await what.wait()
        return what


def test_a_value_is_the_reply(loop: FakeLoop) -> None:
    fake = FakeExchange(Does("250 Done"))
    assert loop.complete(answer(NOOP, fake)) == (Reply(250, ("Done",)),)
    assert fake.failures == []


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize(
    "what",
    [
        None,
        "no reply",
        ValueError("no"),
        TimeoutError(),
        asyncio.CancelledError(),
        SystemExit(1),
        BaseException("no"),
    ],
    ids=repr,
)
def test_whatever_a_hook_does_is_one_reply(
    loop: FakeLoop, what: object, limit: float | None
) -> None:
    fake = FakeExchange(Does(what), handler_timeout=limit)
    assert loop.complete(answer(NOOP, fake)) == [replies.LOCAL_ERROR]
    ((event, error),) = fake.failures
    assert event == NOOP
    assert isinstance(error, Exception)


def test_the_answer_to_a_failure_fails(loop: FakeLoop) -> None:
    for second in (ValueError("second"), SystemExit(2), "no reply", None):
        fake = FakeExchange(Does(ValueError("first"), second))
        assert loop.complete(answer(NOOP, fake)) == [replies.LOCAL_ERROR]
        assert len(fake.failures) == 2


def test_a_failure_is_answered_as_often_as_replies_are_owed(loop: FakeLoop) -> None:
    refusal = Reply(450, ("Later",))
    fake = FakeExchange(Does(ValueError(), refusal), owed=3)
    assert loop.complete(answer(NOOP, fake)) == [refusal] * 3
    fake = FakeExchange(Does(ValueError(), refusal), owed=0)
    assert loop.complete(answer(NOOP, fake)) == []


def test_a_hook_that_takes_too_long(loop: FakeLoop) -> None:
    fake = FakeExchange(Does(asyncio.Event()), handler_timeout=5)
    assert loop.complete(answer(NOOP, fake)) == [replies.LOCAL_ERROR]
    assert loop.time() == 5
    assert isinstance(fake.failures[0][1], TimeoutError)


def test_auth_is_no_hooks_time(loop: FakeLoop) -> None:
    """It waits for the client, too."""

    class Waits(FakeExchange):
        async def authenticate(self, event: Auth) -> Reply:
            await untimed(asyncio.sleep(60), self)
            return replies.AUTH_OK

    fake = Waits(Does(""), handler_timeout=5)
    assert loop.complete(answer(Auth("PLAIN"), fake)) == (replies.AUTH_OK,)


def test_a_hook_that_has_pushed_its_answer(loop: FakeLoop) -> None:
    fake = FakeExchange(Does(None), owed=0)
    assert loop.complete(answer(NOOP, fake)) == ()
    assert fake.failures == []


def test_what_is_not_the_hooks_affair_has_no_limit(loop: FakeLoop) -> None:
    """The time of the hook begins anew behind it."""

    class Asks(Does):
        async def handle_NOOP(self, *seen: object) -> str:
            await asyncio.sleep(4)
            await untimed(asyncio.sleep(600), cast(FakeExchange, seen[0]))
            await asyncio.sleep(4)
            return "250 OK"

    for limit in (5, None):
        fake = FakeExchange(Asks(""), handler_timeout=limit)
        assert loop.complete(answer(NOOP, fake)) == (Reply(250, ("OK",)),)
    assert loop.time() == 2 * 608


def test_an_interrupt_is_the_programs(loop: FakeLoop) -> None:
    fake = FakeExchange(Does(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        loop.complete(answer(NOOP, fake))
    assert fake.failures == []


def begun(loop: FakeLoop, fake: FakeExchange) -> asyncio.Task[Sequence[Reply]]:
    """A hook that waits."""
    task = loop.create_task(answer(NOOP, fake))
    loop.turn()
    return task


def test_the_end_of_the_session_cancels_a_hook(loop: FakeLoop) -> None:
    fake = FakeExchange(Does(asyncio.Event()))
    task = begun(loop, fake)
    fake.ending = True
    task.cancel()
    loop.turn()
    assert task.cancelled()
    assert fake.failures == []


def test_somebody_else_cancels_a_hook(loop: FakeLoop) -> None:
    """Its client is told that the session ends, for the program may be ending."""
    fake = FakeExchange(Does(asyncio.Event()))
    task = begun(loop, fake)
    task.cancel()
    task.cancel()
    loop.turn()
    assert task.result() == [replies.CLOSING_FAILURE]
    assert isinstance(fake.failures[0][1], HookFailed)


@pytest.mark.parametrize(
    ("kind", "result", "owed", "wanted"),
    [
        (FakeExchange, "250 OK", 1, ["250 OK"]),
        (FakeExchange, ["250 one", "450 two"], 1, ["450 two"]),
        (FakeLMTPExchange, "250 OK", 2, ["250 OK", "250 OK"]),
        (FakeLMTPExchange, ["250 one", "450 two"], 2, ["250 one", "450 two"]),
        (FakeLMTPExchange, ["250 one"], 2, [LOCAL_ERROR, LOCAL_ERROR]),
        (FakeLMTPExchange, ValueError(), 2, [LOCAL_ERROR, LOCAL_ERROR]),
    ],
)
def test_the_answers_to_a_message(
    loop: FakeLoop,
    kind: type[FakeExchange],
    result: object,
    owed: int,
    wanted: list[str],
) -> None:
    fake = kind(Does(""), owed=owed)
    fake.result = result
    for address in ("a@example.com", "b@example.com"):
        fake.envelope.rcpt_tos.append(address)
        fake.envelope.accept(address, RcptOptions())
    assert [
        str(reply).replace("4.3.0 ", "") for reply in loop.complete(answer(BodyEnd(), fake))
    ] == wanted


def test_an_ordinary_failure_stays_what_it_is() -> None:
    error = ValueError()
    assert failure_of(error, ending=True) is error


def test_the_cause_of_another_failure_is_told(loop: FakeLoop) -> None:
    error = SystemExit(3)

    async def ask() -> Exception:
        return failure_of(error, ending=False)

    failure = loop.complete(ask())
    assert str(failure) == "SystemExit: 3"
    assert failure.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_is_no_failure_of_the_hook(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failure_of(error, ending=True)


@pytest.mark.parametrize("error", [StopIteration(3), SystemExit(3), GeneratorExit(3)])
def test_what_a_future_cannot_hand_on(error: BaseException) -> None:
    failure = failure_in_future(error)
    assert isinstance(failure, HookFailed)
    assert failure.__cause__ is error


def test_what_a_future_can_hand_on_stays_what_it_is() -> None:
    error = ValueError()
    assert failure_in_future(error) is error


def test_a_hook_is_thrown_away_with_its_loop() -> None:
    """Nothing is made of that: there is nobody to tell."""
    with pytest.raises(GeneratorExit):
        failure_of(GeneratorExit(), ending=False)
    hook = contained(asyncio.sleep(0))
    hook.send(None)
    hook.close()


def test_what_runs_in_a_task_of_its_own_does_not_end_the_loop(loop: FakeLoop) -> None:
    assert loop.complete(contained(Does("250 OK").handle_NOOP())) == "250 OK"
    with pytest.raises(HookFailed):
        loop.complete(contained(Does(SystemExit(1)).handle_NOOP()))


@pytest.mark.parametrize("name", ["mail_options", "rcpt_options"])
async def test_a_hook_that_breaks_its_envelope_ends_the_session(name: str) -> None:
    class Breaks(Handler):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> Answer:
            setattr(envelope, name, None)
            return "250 OK"

        async def handle_RCPT(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            rcpt_options: RcptOptions,
        ) -> Answer:
            envelope.rcpt_tos.append(address)
            return "250 OK"

    service = service_of(SMTP, Breaks())
    async with service, talking(service) as client:
        await client.ask("EHLO c")
        client.writer.write(b"MAIL FROM:<a@x.example> SIZE=1\r\nRCPT TO:<b@x.example>\r\n")
        rest = await client.reader.read()
        assert rest.endswith(b"421 4.3.0 Local error, closing the connection\r\n")
