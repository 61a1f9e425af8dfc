"""Every front before every handler, in SMTP and LMTP: each message is where its answers say."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, Client, session
from tests.handlers.test_front import Streaming, Whole
from tests.handlers.test_mailbox import everything, lmtp

from smtp_handlers import (
    AddReceived,
    Front,
    Mailbox,
    RateLimit,
    RequireAuth,
    RestrictRecipients,
    Sink,
)
from smtp_protocol import Answer, AnyHandler, Envelope, MailOptions, RcptOptions, Server, Session

OURS = "ours.example"

Make = Callable[[AnyHandler], Front]

# Each front, and how it refuses a recipient that is not ours.
FRONTS: dict[str, tuple[Make, str]] = {
    "Front": (Front, ""),
    "AddReceived": (AddReceived, ""),
    "RateLimit": (lambda handler: RateLimit(handler, 10), ""),
    "RestrictRecipients": (lambda handler: RestrictRecipients(handler, [OURS]), "550 5.7.1"),
    "RequireAuth": (lambda handler: RequireAuth(handler, local=[OURS]), "530 5.7.0"),
    "RequireAuth for all": (RequireAuth, "530 5.7.0"),
    "all of them": (
        lambda handler: RateLimit(
            RestrictRecipients(RequireAuth(AddReceived(handler), local=[OURS]), [OURS]), 10
        ),
        "550 5.7.1",
    ),
    "all the other way round": (
        lambda handler: AddReceived(
            RequireAuth(RestrictRecipients(RateLimit(handler, 10), [OURS]), local=[OURS])
        ),
        "530 5.7.0",
    ),
}


class Spy(Front):
    """Writes down what gets through to the handler behind."""

    def __init__(self, handler: AnyHandler) -> None:
        super().__init__(handler)
        self.seen: list[str] = []

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        self.seen.append("MAIL")
        return await self.inner.handle_MAIL(server, session, envelope, address, mail_options)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        self.seen.append(address)
        return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)


class Kept:
    """A handler of one kind, and the recipients that it has the message for."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.handler: Whole | Streaming | Sink | Mailbox
        match kind:
            case "whole":
                self.handler = Whole()
            case "streaming":
                self.handler = Streaming()
            case "sink":
                self.handler = Sink()
            case "mailbox":
                self.handler = Mailbox(folder)
            case _:
                self.handler = Mailbox(folder, per_recipient=True)

    def check(self, recipients: list[str]) -> None:
        """See that the message is there, whole, for these and for nobody else."""
        match self.handler:
            case Sink() as sink:
                assert (sink.messages, sink.recipients) == (bool(recipients), len(recipients))
            case Mailbox(per_recipient=True):
                found = [path.parts[-3] for path in everything(self.folder)]
                assert sorted(found) == sorted(recipients)
            case Mailbox():
                assert len(everything(self.folder)) == bool(recipients)
            case Whole() | Streaming() as handler:
                assert len(handler.taken) == bool(recipients)
                assert all(content.endswith(HELLO) for content in handler.taken)
        contents = [path.read_bytes() for path in everything(self.folder)]
        assert all(content.endswith(b"\r\n" + HELLO) for content in contents)


ADDRESSES = [[f"{name}@{domain}" for domain in (OURS, "other.example")] for name in "abc"]
PATTERNS = list(itertools.product(*ADDRESSES))


async def transaction(client: Client, to: list[str]) -> tuple[str, list[str], list[str]]:
    """The answers to MAIL, to each RCPT and to the message, which may have none."""
    mail = str(await client("MAIL FROM:<x@x.example>"))
    rcpt = [str(await client(f"RCPT TO:<{address}>")) for address in to]
    if (await client("DATA")).code != 354:
        return mail, rcpt, []
    client.writer.write(HELLO + b".\r\nVRFY anne\r\n")
    answers: list[str] = []
    while not (answer := str(await client.reply())).startswith("252"):
        answers.append(answer)
    return mail, rcpt, answers


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", ["whole", "streaming", "sink", "mailbox", "mailboxes"])
@pytest.mark.parametrize("protocol", ["SMTP", "LMTP"])
async def test_every_front_before_every_handler(
    tmp_path: Path, front: str, kind: str, protocol: str
) -> None:
    make, refusal = FRONTS[front]
    for number, pattern in enumerate(PATTERNS):
        kept = Kept(kind, tmp_path / str(number))
        spy = Spy(kept.handler)
        handler = make(spy)
        async with session(handler) if protocol == "SMTP" else lmtp(handler) as client:
            mail, rcpt, answers = await transaction(client, list(pattern))
        if front == "RequireAuth for all":
            accepted: list[str] = []
            assert mail.startswith(refusal)
        else:
            accepted = [each for each in pattern if each.endswith(OURS) or not refusal]
            assert mail.startswith("250")
            for answer, address in zip(rcpt, pattern, strict=True):
                assert answer.startswith("250" if address in accepted else refusal)
        assert spy.seen == (["MAIL", *accepted] if accepted else [])
        owed = len(accepted) if protocol == "LMTP" else min(1, len(accepted))
        assert [answer[:3] for answer in answers] == ["250"] * owed
        kept.check(accepted)
