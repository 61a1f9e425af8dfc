"""Front: what it does not override is the other handler's, and a message always gets there."""

from collections.abc import AsyncIterator, Callable
from unittest.mock import AsyncMock, Mock

import pytest
from tests.handlers.clients import HELLO, session

from smtp_handlers import Front, Gate
from smtp_protocol import (
    Answer,
    AnyHandler,
    AuthResult,
    Envelope,
    Handler,
    Hooks,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
    auth_mechanism,
)


class Whole(Handler):
    """Takes messages whole."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        self.taken.append(envelope.content)
        return "250 taken whole"


class Streaming:
    """Takes messages as they come, and subclasses nothing."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer:
        self.taken.append(b"".join([chunk async for chunk in chunks]))
        return "250 taken as it came"


class LooksAtContent(Front):
    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | list[Answer]:
        if b"spam" in envelope.content:
            return "554 5.6.0 No spam"
        return list_or_answer(await self.inner.handle_DATA(server, session, envelope))


class LooksAtChunks(Front):
    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | list[Answer]:
        return list_or_answer(await self.inner.handle_STREAM(server, session, envelope, chunks))


def list_or_answer(result: object) -> Answer:
    assert isinstance(result, str | Reply)
    return result


@pytest.mark.parametrize("front", [Front, LooksAtContent, LooksAtChunks])
@pytest.mark.parametrize(
    ("handler", "answer"),
    [(Whole(), "250 taken whole"), (Streaming(), "250 taken as it came")],
    ids=["whole", "streaming"],
)
async def test_message_gets_there(
    front: type[Front], handler: Whole | Streaming, answer: str
) -> None:
    handler.taken.clear()
    async with session(front(front(handler))) as client:
        assert await client.send() == Reply.parse(answer)
        assert await client.send(b"") == Reply.parse(answer)
    assert handler.taken == [HELLO, b""]


@pytest.mark.parametrize("handler", [Whole(), Streaming()], ids=["whole", "streaming"])
async def test_front_that_wants_the_message_whole_is_never_passed_by(
    handler: Whole | Streaming,
) -> None:
    handler.taken.clear()
    async with session(LooksAtContent(handler)) as client:
        assert (await client.send(b"spam\r\n")).code == 554
    assert handler.taken == []


class Various:
    own_hooks = frozenset({"handle_own"})

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        return ["250-X-OWN", *responses]

    async def handle_exception(self, error: Exception) -> str:
        return f"459 {error}"

    async def handle_PING(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        return f"250 PONG {arg}"

    def handle_own(self) -> None:
        """No hook at all."""

    async def auth_TOKEN(self, server: Server, args: list[str]) -> AuthResult:
        return AuthResult(success=True)

    @auth_mechanism("X-OTHER")
    async def other(self, server: Server, args: list[str]) -> AuthResult:
        return AuthResult(success=True)


def test_everything_else_is_the_other_handlers() -> None:
    handler: AnyHandler = Various()
    front = Front(Front(handler))
    assert {"handle_PING", "auth_TOKEN", "other"} <= set(vars(front))
    assert "handle_own" not in dir(front)
    assert Hooks(front, {"PING"}).own == {"handle_EHLO", "handle_exception"}


@pytest.mark.parametrize("front", [Front, Gate])
async def test_mock_behind_a_front(front: type[Front]) -> None:
    handler = Mock(handle_DATA=AsyncMock(return_value="250 mocked"))
    async with session(front(handler)) as client:
        assert str(await client.send()) == "250 mocked"
    handler.handle_DATA.assert_awaited_once()


async def test_hooks_of_the_other_handler_are_called() -> None:
    class Fails(Front):
        async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> str:
            raise RuntimeError("no")

    class NoOwnCommands(Various):
        own_hooks = frozenset({"handle_own", "handle_PING"})

    async with session(Fails(NoOwnCommands())) as client:
        assert (await client("EHLO again")).lines[0] == "X-OWN"
        assert (await client("RSET")) == Reply.parse("459 no")


def test_misspelt_hook_is_refused_as_without_front() -> None:
    class Misspelt(Whole):
        async def handle_RCTP(self) -> None: ...

    with pytest.raises(TypeError, match=r"handle_RCTP is not a hook; did you mean handle_RCPT"):
        Hooks(Front(Misspelt()))


def test_bad_hook_and_class_are_refused_at_once() -> None:
    class Bad:
        async def handle_DATA(self) -> None: ...

    with pytest.raises(TypeError, match="handle_DATA"):
        Front(Bad())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pass an instance"):
        Front(Whole)  # type: ignore[arg-type]


async def test_defaults_stay_the_servers_own() -> None:
    # A server answers at once where it knows that the hook is the default one.
    assert Hooks(Front(Whole())).own == {"handle_DATA"}
    assert Hooks(Front(Streaming())).own == {"handle_STREAM"}


class Odd(Gate):
    """Accepts recipients with an odd number."""

    async def refusal(self, session: Session, address: str) -> Answer | None:
        return None if int(address.partition("@")[0]) % 2 else "550 5.7.1 even"


class Low(Gate):
    """Accepts recipients below 6."""

    async def refusal(self, session: Session, address: str) -> Answer | None:
        return None if int(address.partition("@")[0]) < 6 else "550 5.7.1 high"


class Told(Handler):
    """Writes down what it is told, and what it finds in the envelope."""

    def __init__(self, *senders: Answer | Exception) -> None:
        self.senders = list(senders)
        self.told: list[str] = []

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        assert (envelope.mail_from, list(envelope.mail_options)) == (None, [])
        self.told.append(f"MAIL {address} {mail_options.size}")
        answer = self.senders.pop(0) if self.senders else "250 OK"
        if isinstance(answer, Exception):
            raise answer
        if answer == "250 default":
            return await super().handle_MAIL(server, session, envelope, address, mail_options)
        return answer

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        self.told.append(f"RCPT {address} of {envelope.mail_from} {list(envelope.mail_options)}")
        return await super().handle_RCPT(server, session, envelope, address, rcpt_options)

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        self.told.append("RSET")
        return "250 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        self.told.append(f"DATA for {envelope.rcpt_tos}")
        return "250 OK"


@pytest.mark.parametrize("gate", [Odd, lambda handler: Low(Odd(handler))], ids=["one", "two"])
async def test_gate_lets_nothing_through_before_a_recipient(
    gate: Callable[[AnyHandler], Front],
) -> None:
    handler = Told("250 default")
    async with session(gate(handler)) as client:
        assert str(await client("MAIL FROM:<a@x.example> SIZE=9")) == "250 OK"
        assert str(await client("RCPT TO:<2@x.example>")) == "550 5.7.1 even"
        assert str(await client("RCPT TO:<4@x.example>")) == "550 5.7.1 even"
        assert handler.told == []
        assert str(await client("RCPT TO:<3@x.example>")) == "250 OK"
        assert str(await client("RCPT TO:<2@x.example>")) == "550 5.7.1 even"
        assert str(await client("RCPT TO:<5@x.example>")) == "250 OK"
        await client("DATA")
        assert (await client.body(HELLO)).code == 250
    assert handler.told == [
        "MAIL a@x.example 9",
        "RCPT 3@x.example of a@x.example ['SIZE=9']",
        "RCPT 5@x.example of a@x.example ['SIZE=9']",
        "DATA for ['3@x.example', '5@x.example']",
    ]


async def test_gate_and_a_transaction_that_came_to_nothing() -> None:
    handler = Told("250 default", "250 default")
    async with session(Odd(handler)) as client:
        for number, sender in enumerate(["first", "second", "third"]):
            await client(f"MAIL FROM:<{sender}@x.example>")
            await client(f"RCPT TO:<{number}@x.example>")
            await client("RSET")
    assert [line.split(" ")[:2] for line in handler.told] == [
        ["RSET"],
        ["MAIL", "second@x.example"],
        ["RCPT", "1@x.example"],
        ["RSET"],
        ["RSET"],
    ]


async def test_sender_that_the_handler_behind_a_gate_refuses() -> None:
    handler = Told("553 5.1.7 no", ValueError("broken"), "450 4.2.0 later", "250 forgets it")
    async with session(Odd(handler)) as client:
        await client("MAIL FROM:<a@x.example> SIZE=9")
        answers = [str(await client("RCPT TO:<1@x.example>"))[:9] for _ in range(4)]
        assert answers == ["553 5.1.7", "451 Local", "450 4.2.0", "250 OK"]
        await client("DATA")
        assert (await client.body(HELLO)).code == 250
    assert handler.told == [
        *["MAIL a@x.example 9"] * 4,
        "RCPT 1@x.example of a@x.example []",
        "DATA for ['1@x.example']",
    ]


async def test_gate_and_what_a_front_before_it_sees() -> None:
    seen: list[tuple[str | None, list[str]]] = []

    class Looks(Front):
        async def handle_RCPT(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            rcpt_options: RcptOptions,
        ) -> Answer:
            seen.append((envelope.mail_from, list(envelope.mail_options)))
            return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)

    handler = Told("450 4.2.0 later", "250 default")
    async with session(Looks(Odd(handler))) as client:
        await client("MAIL FROM:<a@x.example> SIZE=9")
        for _ in range(3):
            await client("RCPT TO:<1@x.example>")
    assert seen == [("a@x.example", ["SIZE=9"])] * 3


async def test_gate_that_refuses_nothing() -> None:
    handler = Whole()
    async with session(Gate(handler)) as client:
        assert (await client.send()).code == 250
    assert handler.taken == [HELLO]
