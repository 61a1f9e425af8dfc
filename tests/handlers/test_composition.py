"""Composition: whatever stands before whatever, 250 means that every handler has the message.

Each front is put before each handler, in SMTP and LMTP, for messages by DATA and in chunks, with
every pattern of recipients that are taken, that the front refuses, and that the handler fails for.
After each message it is counted who was told 250 and who has it.
"""

import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from itertools import product
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO
from tests.handlers.transactions import MODES, Mode, transaction

from smtp_handlers import (
    AddReceived,
    Debugging,
    FanOut,
    Front,
    Mailbox,
    Message,
    Proxy,
    RateLimit,
    RequireAuth,
    RestrictRecipients,
    Sink,
)
from smtp_protocol import Answer, AnyHandler, Envelope, Handler, RcptOptions, Server, Session
from smtp_server import LMTP, SMTP, serve

OURS, OTHERS = "ours.example", "others.example"
REFUSED = "550 5.7.1 not for us"
FULL = "452 4.2.2 full"
GONE = "550 5.1.1 gone"

# A recipient is named after what becomes of it: ``ok``, ``other`` (which fronts refuse), ``gone``
# (which the handler refuses at RCPT), or ``full`` (which it fails for when the message has come).


def address_of(kind: str, number: int = 0) -> str:
    return f"{kind}{number}@{OTHERS if kind == 'other' else OURS}"


def patterns(*kinds: str) -> list[list[str]]:
    """Every pattern of one to three recipients of these kinds."""
    return [
        [address_of(kind, number) for number, kind in enumerate(pattern)]
        for length in (1, 2, 3)
        for pattern in product(kinds, repeat=length)
    ]


def fails(address: str) -> bool:
    return address.startswith("full")


# The handlers, each with what it has.


class Keeper:
    """A handler, and whom it has messages for.

    Attributes:
        handler: It.
        recipients: What it writes down, if it does not have it anywhere else.
        each: Whether it can fail for one recipient alone, where there is an answer for each.
    """

    handler: AnyHandler
    each = False

    def __init__(self, folder: Path) -> None:
        self.recipients: list[str] = []

    def kept(self) -> list[str]:
        """Whom it has got messages for since this was asked last."""
        kept = self.recipients.copy()
        self.recipients.clear()
        return kept

    @asynccontextmanager
    async def listening(self, mode: Mode) -> AsyncIterator[None]:
        """Have behind the handler what it needs."""
        yield


class OfSink(Keeper):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        recipients = self.recipients

        class Told(Sink):
            async def handle_STREAM(
                self,
                server: Server,
                session: Session,
                envelope: Envelope,
                chunks: AsyncIterator[bytes],
            ) -> Answer:
                before = self.messages
                answer = await super().handle_STREAM(server, session, envelope, chunks)
                assert self.messages == before + 1
                recipients.extend(envelope.rcpt_tos)
                return answer

        self.handler = Told()


class OfDebugging(Keeper):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stream = io.StringIO()
        printed = self.recipients

        class Told(Debugging):
            async def handle_DATA(
                self, server: Server, session: Session, envelope: Envelope
            ) -> Answer:
                answer = await super().handle_DATA(server, session, envelope)
                printed.extend(envelope.rcpt_tos)
                return answer

        self.handler = Told(self.stream)

    def kept(self) -> list[str]:
        text = self.stream.getvalue()
        assert text.count("Hi Bart!") == bool(self.recipients)
        self.stream.seek(0)
        self.stream.truncate()
        return super().kept()


class OfMessage(Keeper):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        recipients = self.recipients

        class Told(Message):
            def handle_message(self, message: EmailMessage) -> Answer | None:
                return take(message, recipients)

        self.handler = Told()


def take(message: EmailMessage, recipients: list[str]) -> Answer | None:
    to = message["X-RcptTo"].split(", ")
    if any(map(fails, to)):
        return FULL
    assert message.get_content().split() == ["Hi", "Bart!"]
    recipients += to
    return None


class OfMailbox(Keeper):
    per_recipient = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder / "mail"
        self.handler = Mailbox(self.folder, per_recipient=self.per_recipient)

    def kept(self) -> list[str]:
        recipients = []
        for path in self.folder.rglob("new/*"):
            content = path.read_bytes()
            assert content.endswith(b"\r\n" + HELLO)
            to = [
                line[14:] for line in content.split(b"\r\n") if line.startswith(b"Delivered-To: ")
            ]
            recipients += [address.decode() for address in to]
            path.unlink()
        assert not list(self.folder.rglob("tmp/*"))
        return recipients


class OfMailboxes(OfMailbox):
    """One folder for each recipient; a file is in the way of some."""

    per_recipient = True
    each = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for number in range(3):
            (self.folder / address_of("full", number)).touch()


class Own(Handler):
    """Somebody's own: takes the message whole, and answers for each where that can be told."""

    def __init__(self, recipients: list[str] | None = None) -> None:
        self.recipients = [] if recipients is None else recipients

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        if address.startswith("gone"):
            return GONE
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def take(self, server: Server, to: Sequence[str], content: bytes) -> list[Answer]:
        assert content.endswith(HELLO)
        together = "LHLO" not in server.syntaxes and any(map(fails, to))
        answers: list[Answer] = [FULL if together or fails(each) else "250 kept" for each in to]
        self.recipients += [
            each for each, answer in zip(to, answers, strict=True) if answer != FULL
        ]
        return answers

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        return self.take(server, envelope.rcpt_tos, envelope.content)


class OwnStream(Own):
    """The same, but as it comes."""

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        to = envelope.rcpt_tos.copy()
        return self.take(server, to, b"".join([chunk async for chunk in chunks]))


class OfOwn(Keeper):
    each = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.handler = Own(self.recipients)


class OfOwnStream(Keeper):
    each = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.handler = OwnStream(self.recipients)


class OfProxy(Keeper):
    """What is kept is kept by the next server."""

    each = True

    @asynccontextmanager
    async def listening(self, mode: Mode) -> AsyncIterator[None]:
        kind = LMTP if mode.lmtp else SMTP
        async with serve(Own(self.recipients), "127.0.0.1", 0, smtp_class=kind) as service:
            [(_, port)] = [pair for pair in service.addresses if isinstance(pair, tuple)]
            self.handler = Proxy("127.0.0.1", port, lmtp=mode.lmtp, tls="off")
            yield


# Each of them, and the kinds of recipients that it can tell apart.
KEEPERS: dict[str, tuple[Callable[[Path], Keeper], tuple[str, ...]]] = {
    "Sink": (OfSink, ("ok",)),
    "Debugging": (OfDebugging, ("ok",)),
    "Message": (OfMessage, ("ok", "full")),
    "Mailbox": (OfMailbox, ("ok",)),
    "Mailbox for each": (OfMailboxes, ("ok", "full")),
    "Proxy": (OfProxy, ("ok", "gone", "full")),
    "own": (OfOwn, ("ok", "gone", "full")),
    "own stream": (OfOwnStream, ("ok", "gone", "full")),
}


# The fronts.


class OwnFront(Front):
    """Somebody's own, which refuses recipients."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        if not address.endswith(OURS):
            return REFUSED
        return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)


class OwnFilter(Front):
    """Somebody's own, which wants each message whole."""

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        assert envelope.content == HELLO
        return await self.inner.handle_DATA(server, session, envelope)


def everything(handler: AnyHandler, witness: Own) -> Front:
    fan_out = FanOut(OwnFilter(handler), AddReceived(witness))
    return RateLimit(RestrictRecipients(RequireAuth(fan_out, [OURS]), [OURS]), MANY)


MANY = 1_000_000

# How each is put before a handler, and whether it refuses recipients that are not ours. Of FanOut a
# witness is the other handler, which takes everything.
FRONTS: dict[str, tuple[Callable[[AnyHandler, Own], AnyHandler], bool]] = {
    "nothing": (lambda handler, _: handler, False),
    "RestrictRecipients": (lambda handler, _: RestrictRecipients(handler, [OURS]), True),
    "RequireAuth": (lambda handler, _: RequireAuth(handler, [OURS]), True),
    "RateLimit": (lambda handler, _: RateLimit(handler, MANY), False),
    "AddReceived": (lambda handler, _: AddReceived(handler), False),
    "FanOut first": (FanOut, False),
    "FanOut second": (lambda handler, witness: FanOut(witness, handler), False),
    "own front": (lambda handler, _: OwnFront(handler), True),
    "own filter": (lambda handler, _: OwnFilter(handler), False),
    "everything": (everything, True),
}


class Witness(Own):
    """Takes everything."""

    handle_RCPT = Handler.handle_RCPT

    def take(self, server: Server, to: Sequence[str], content: bytes) -> list[Answer]:
        assert content.endswith(HELLO)
        self.recipients += to
        return ["250 seen"] * len(to)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("front", FRONTS)
async def test_250_means_that_every_handler_has_it(
    tmp_path: Path, front: str, keeper: str, mode: Mode
) -> None:
    make_front, refuses = FRONTS[front]
    make_keeper, kinds = KEEPERS[keeper]
    kept, witness = make_keeper(tmp_path), Witness()
    async with kept.listening(mode):
        handler = make_front(kept.handler, witness)
        for to in patterns(*kinds, "other") if refuses else patterns(*kinds):
            told = await transaction(handler, to, mode)
            late = {address for address in to if fails(address)}
            early = {address for address in to if address.startswith("other")}
            # The handler is asked about recipients by FanOut when those have been accepted.
            (late if front == "FanOut second" else early).update(
                address for address in to if address.startswith("gone")
            )
            assert set(told.accepted()) == set(to) - early, to
            expected = [address for address in told.accepted() if address not in late]
            if late and not (kept.each and mode.lmtp):
                expected = []
            assert told.taken() == expected, to
            assert sorted(kept.kept()) == expected, to
            if front == "FanOut second":
                assert witness.recipients == expected, to
            elif front in ("FanOut first", "everything"):
                assert set(witness.recipients) >= set(expected), to
            witness.recipients.clear()


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("keeper", KEEPERS)
async def test_what_is_refused_at_the_beginning_goes_nowhere(
    tmp_path: Path, keeper: str, mode: Mode
) -> None:
    kept, witness = KEEPERS[keeper][0](tmp_path), Witness()
    async with kept.listening(mode):
        for handler in (
            RequireAuth(FanOut(kept.handler, witness)),
            RateLimit(FanOut(kept.handler, witness), 1),
        ):
            told = [await transaction(handler, [address_of("ok")], mode) for _ in range(2)]
            assert told[-1].mail.code in (450, 530)
            assert told[-1].taken() == []
        assert kept.kept() == witness.recipients == [address_of("ok")]  # of the limit's first
