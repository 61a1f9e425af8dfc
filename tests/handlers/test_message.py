"""Message: each mail as an object of the standard library, with where it came from and went to."""

import asyncio
import email.message
import email.policy
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from email.headerregistry import BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import Policy
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.support import dialogue

from smtp_handlers import AsyncMessage, Message
from smtp_protocol import (
    Answer,
    Envelope,
    ProtocolConfig,
    ProtocolError,
    Rcpt,
    Reply,
    Session,
    parse_command,
)

HELLO = "From: Anne <anne@example.com>\r\nSubject: Hello\r\nX-Peer: a lie\r\n\r\nHi Bart\r\n"


class Keeps(Message):
    """Keeps the messages, and answers what it is told to."""

    def __init__(self, answer: Answer | None = None, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.answer = answer
        self.messages: list[EmailMessage] = []

    def handle_message(self, message: EmailMessage) -> Answer | None:
        """Keep it."""
        self.messages.append(message)
        return self.answer


class KeepsLater(AsyncMessage):
    """The same, asynchronously."""

    def __init__(self, answer: Answer | None = None, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.answer = answer
        self.messages: list[EmailMessage] = []

    async def handle_message(self, message: EmailMessage) -> Answer | None:
        """Keep it, in a moment."""
        await asyncio.sleep(0)
        self.messages.append(message)
        return self.answer


BOTH = pytest.mark.parametrize("kind", [Keeps, KeepsLater])
Kind = type[Keeps] | type[KeepsLater]


@BOTH
async def test_a_message(kind: Kind) -> None:
    handler = kind()
    async with dialogue(handler) as client:
        port = client.writer.get_extra_info("sockname")[1]
        await client.begin_data("anne@example.com", "bart@example.com", "chris@example.com")
        assert await client.ask(f"{HELLO}.") == "250 OK"
    (message,) = handler.messages
    assert type(message) is EmailMessage
    assert message["Subject"] == "Hello"
    assert message.get_content() == "Hi Bart\n"  # as the testing kit has it
    assert message.get_all("X-Peer") == [f"('127.0.0.1', {port})"]
    assert message.get_all("X-MailFrom") == ["anne@example.com"]
    assert message.get_all("X-RcptTo") == ["bart@example.com, chris@example.com"]


@BOTH
async def test_the_null_sender(kind: Kind) -> None:
    handler = kind()
    async with dialogue(handler) as client:
        await client.begin_data("")
        assert await client.ask(f"{HELLO}.") == "250 OK"
    assert handler.messages[0]["X-MailFrom"] == ""


@BOTH
@pytest.mark.parametrize("answer", ["550 No", Reply(550, ("No",))])
async def test_an_answer(kind: Kind, answer: Answer) -> None:
    async with dialogue(kind(answer)) as client:
        assert await client.deliver(HELLO) == "550 No"


@BOTH
async def test_a_class_and_a_policy_of_ones_own(kind: Kind) -> None:
    class Mine(EmailMessage):
        pass

    handler = kind(message_class=Mine, policy=email.policy.SMTP)
    async with dialogue(handler) as client:
        assert await client.deliver(HELLO) == "250 OK"
    (message,) = handler.messages
    assert type(message) is Mine
    assert message.as_bytes().startswith(b"From: Anne <anne@example.com>\r\nSubject: Hello\r\n")


@BOTH
async def test_every_message_is_parsed_in_a_thread(kind: Kind) -> None:
    threads: list[threading.Thread] = []

    class Looks(kind):  # type: ignore[valid-type, misc]
        def prepare_message(self, *args: Any) -> EmailMessage:
            threads.append(threading.current_thread())
            message: EmailMessage = super().prepare_message(*args)
            return message

    handler = Looks()
    line = "x" * 70 + "\r\n"
    async with dialogue(handler) as client:
        assert await client.deliver(HELLO) == "250 OK"
        assert await client.deliver(HELLO + line * 4000) == "250 OK"
    assert threading.current_thread() not in threads
    assert {thread.name.rpartition("_")[0] for thread in threads} == {"smtp-message"}
    assert len(handler.messages[1].get_content()) == 4000 * 71 + len("Hi Bart\n")


@BOTH
async def test_the_executor_of_the_loop_is_left_to_others(kind: Kind) -> None:
    asyncio.get_running_loop().set_default_executor(executor := ThreadPoolExecutor(1))
    async with dialogue(kind()) as client:
        free = threading.Event()
        blocked = executor.submit(free.wait, 60)
        assert await client.deliver(HELLO) == "250 OK"
        free.set()
        assert blocked.result()


class _Counting(HeaderRegistry):
    """Remembers in which threads fields were read."""

    threads: ClassVar[list[threading.Thread]] = []

    def __call__(self, name: str, value: Any) -> BaseHeader:
        self.threads.append(threading.current_thread())
        return super().__call__(name, value)


async def test_reading_fields_in_the_event_loop_parses_nothing() -> None:
    class ReadsAll(Keeps):
        def handle_message(self, message: EmailMessage) -> None:
            super().handle_message(message)
            for part in message.walk():
                assert part.items() == part.items()

    handler = ReadsAll(policy=email.policy.default.clone(header_factory=_Counting()))
    async with dialogue(handler) as client:
        assert await client.deliver(f"To: a@b.example, c@d.example\r\n{HELLO}") == "250 OK"
    assert _Counting.threads
    assert threading.current_thread() not in _Counting.threads
    assert str(handler.messages[0]["To"]) == "a@b.example, c@d.example"


@BOTH
@pytest.mark.parametrize("content", ["", "\r\n", "no header\r\n", ": : :\r\n", "\0\x1b\r\n"])
async def test_what_is_hardly_a_message(kind: Kind, content: str) -> None:
    handler = kind()
    async with dialogue(handler) as client:
        assert await client.deliver(content) == "250 OK"
    assert handler.messages[0]["X-MailFrom"] == "anne@example.com"


async def test_an_address_in_utf8() -> None:
    handler = Keeps()
    async with dialogue(handler, enable_SMTPUTF8=True) as client:
        await client.tell("EHLO client.test", "MAIL FROM:<änne@example.com> SMTPUTF8")
        await client.tell("RCPT TO:<bärt@example.com>", "DATA")
        assert await client.ask(f"{HELLO}.") == "250 OK"
    assert handler.messages[0]["X-MailFrom"] == "änne@example.com"
    assert handler.messages[0]["X-RcptTo"] == "bärt@example.com"


POLICIES = [
    email.policy.default,
    email.policy.SMTP,
    email.policy.SMTPUTF8,
    email.policy.HTTP,
    email.policy.strict,
    email.policy.default.clone(max_line_length=30, refold_source="all"),
    email.policy.default.clone(cte_type="7bit"),
    email.policy.compat32,
]
ADDED = ("X-Peer", "X-MailFrom", "X-RcptTo")


def prepared(policy: Policy, *addresses: str, content: str = HELLO) -> EmailMessage:
    """What a message from the first address to the others becomes."""
    envelope = Envelope()
    envelope.mail_from, *envelope.rcpt_tos = addresses
    envelope.content = content.encode()
    return Keeps(policy=policy).prepare_message(Session(("192.0.2.1", 25)), envelope)


def values(message: email.message.Message) -> list[str]:
    """The values of what was added, in one line each."""
    return [re.sub(r"\r?\n(?=[ \t])", "", str(message[name])) for name in ADDED]


HOSTILE = [
    "=?us-ascii?q?boss=40ours.example=0AX-Approved=3A_yes?=@evil.example",
    '"=?utf-8?b?Ym9zcw==?= =?utf-8?b?Ym9zcw==?="@evil.example',
    "a=?x?q?b?=@evil.example",
    '"a, b@c.example"@evil.example',
    '" two  spaces "@evil.example',
    '"<boss@ours.example>"@evil.example',
    '"\\" (comment) \\""@evil.example',
    f'"{"a " * 60}"@evil.example',
    "x" * 200 + "@evil.example",
    "",
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_is_never_read_as_anything_else(policy: Policy, address: str) -> None:
    message = prepared(policy, address, address, "bart@example.com")
    expected = ["('192.0.2.1', 25)", address, f"{address}, bart@example.com"]
    assert values(message) == expected
    assert [len(message.get_all(name, [])) for name in ADDED] == [1, 1, 1]
    again = email.message_from_bytes(message.as_bytes(), EmailMessage, policy=policy)
    assert values(again) == expected
    assert again.keys() == message.keys()


@pytest.mark.parametrize("policy", POLICIES[:-1])
@pytest.mark.parametrize("address", ["änne@bücher.example", '"孫子 =?utf-8?q?a?="@áéíóú.org'])
def test_an_address_in_utf8_is_read_again(policy: Policy, address: str) -> None:
    message = prepared(policy, address, *[address] * 9)
    again = email.message_from_bytes(message.as_bytes(), EmailMessage, policy=policy)
    assert (
        values(again) == values(message) == ["('192.0.2.1', 25)", address, ", ".join([address] * 9)]
    )


@given(
    st.lists(
        st.text(
            st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"])
            | st.sampled_from(list('=?"\\@, ')),
            min_size=1,
            max_size=40,
        ),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from(POLICIES),
)
def test_any_address_that_the_grammar_accepts(texts: list[str], policy: Policy) -> None:
    addresses = list(filter(_is_accepted, (f'"{_quoted(text)}"@x.example' for text in texts)))
    addresses += filter(_is_accepted, (f"{text}@x.example" for text in texts))
    message = prepared(policy, "", *addresses)
    assert values(message)[2] == ", ".join(addresses)
    again = email.message_from_bytes(message.as_bytes(), EmailMessage, policy=policy)
    assert again.keys() == message.keys()
    if policy is not email.policy.compat32 or all(map(str.isascii, addresses)):
        assert values(again) == values(message)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _is_accepted(address: str) -> bool:
    line = f"RCPT TO:<{address}>".encode()
    try:
        command = parse_command(line, ProtocolConfig(extensions=frozenset({"SMTPUTF8"})))
    except ProtocolError:
        return False
    return isinstance(command, Rcpt) and command.address == address


@pytest.mark.parametrize("policy", POLICIES)
def test_what_would_end_a_line_is_escaped(policy: Policy) -> None:
    envelope = Envelope()
    envelope.mail_from = "a\r\nX-Approved: yes\x85\u2028\udc80@b.example"
    session = Session("/tmp/a\nX-Approved: yes")
    message = Keeps(policy=policy).prepare_message(session, envelope)
    assert message["X-MailFrom"] == r"a\r\nX-Approved: yes\x85\u2028\udc80@b.example"
    again = email.message_from_bytes(message.as_bytes(), EmailMessage, policy=policy)
    assert values(again) == values(message)
    assert "X-Approved" not in again


async def test_an_encoded_word_in_an_address_writes_no_header_fields() -> None:
    handler = Keeps()
    async with dialogue(handler) as client:
        await client.begin_data(HOSTILE[0], HOSTILE[0])
        assert await client.ask(f"{HELLO}.") == "250 OK"
    [message] = handler.messages
    assert (message["X-MailFrom"], message["X-RcptTo"]) == (HOSTILE[0], HOSTILE[0])
    assert b"X-Approved" not in message.as_bytes()


REFUSED = {
    "nested 900 deep": "".join(
        f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n"
        for number in range(900)
    )
    + "\r\n" * 30_000,
    "a Subject of 1 MB": f"Subject: {'a ' * 500_000}\r\n\r\nHi\r\n",
    "10,001 fields": "X: y\r\n" * 10_001 + "\r\nHi\r\n",
}


@BOTH
@pytest.mark.parametrize("content", REFUSED.values(), ids=list(REFUSED))
async def test_what_is_beyond_the_bounds_is_refused_for_good(kind: Kind, content: str) -> None:
    handler = kind()
    async with dialogue(handler) as client:
        assert await client.deliver(content) == "554 5.6.0 The message cannot be parsed"
        assert await client.deliver(HELLO) == "250 OK"
    assert len(handler.messages) == 1


async def test_1000_quoted_recipients_are_no_work() -> None:
    addresses = [f'"{"a " * 100}{number}"@x.example' for number in range(1000)]
    message = prepared(email.policy.default, "a@b.example", *addresses)
    assert message["X-RcptTo"] == ", ".join(addresses)
    again = email.message_from_bytes(message.as_bytes(), policy=email.policy.compat32)
    assert values(again)[2] == message["X-RcptTo"]


async def test_a_strict_policy_refuses_for_good(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_handlers")
    async with dialogue(Keeps(policy=email.policy.strict)) as client:
        assert await client.deliver("no header\r\n") == "554 5.6.0 The message cannot be parsed"
        assert await client.deliver(HELLO) == "250 OK"
    [record] = [record for record in caplog.records if record.name == "smtp_handlers"]
    assert "MissingHeaderBodySeparatorDefect" in record.getMessage()
    assert vars(record)["session"] in record.getMessage()
    assert vars(record)["peer"] == "127.0.0.1"


FIELDS_THAT_RAISE = [
    "From: =?utf-8?q?a=0D=0Ab?= <x@y.example>",
    "To: unlisted-recipients:; (no To-header on input)",
    "To: <a:b@c.example;>",
    f"To: {'(' * 5000}{')' * 5000} a@b.example",
    "Subject: =?undefined?q?a?=",
    "Message-ID: <=?utf-8?q?a",
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("field", FIELDS_THAT_RAISE)
async def test_a_field_that_cannot_be_parsed_is_read_as_text(policy: Policy, field: str) -> None:
    class ReadsAll(Keeps):
        def handle_message(self, message: EmailMessage) -> None:
            super().handle_message(message)
            assert all(map(str, message.values()))
            message.as_bytes()

    handler = ReadsAll(policy=policy)
    async with dialogue(handler) as client:
        assert await client.deliver(f"{field}\r\n{HELLO}") == "250 OK"


async def test_a_fault_of_the_subclass_is_no_reason_to_refuse_for_good() -> None:
    class Fails(Keeps):
        def prepare_message(self, session: Session, envelope: Envelope) -> EmailMessage:
            raise ValueError("a bug")

    async with dialogue(Fails()) as client:
        assert (await client.deliver(HELLO))[:3] == "451"


async def test_the_octets_are_at_hand_for_signatures() -> None:
    kept: list[tuple[EmailMessage, Session, Envelope]] = []

    class WithAll(Message):
        def handle_message(
            self, message: EmailMessage, session: Session, envelope: Envelope
        ) -> None:
            kept.append((message, session, envelope))

    class WithEnvelope(AsyncMessage):
        async def handle_message(self, message: EmailMessage, *, envelope: Envelope) -> Answer:
            return f"250 {len(envelope.content)} for {envelope.rcpt_tos}"

    async with dialogue(WithAll()) as client:
        assert await client.deliver(HELLO) == "250 OK"
    [(message, session, envelope)] = kept
    assert envelope.content == HELLO.encode()
    assert (message["Subject"], session.peer_host) == ("Hello", "127.0.0.1")
    async with dialogue(WithEnvelope()) as client:
        assert await client.deliver(HELLO) == f"250 {len(HELLO)} for ['bart@example.com']"


def test_handle_message_that_cannot_be_called_is_told_at_once() -> None:
    class Wrong(Message):
        def handle_message(self, message: EmailMessage, recipients: list[str]) -> None:
            pass

    class Late(Message):
        async def handle_message(self, message: EmailMessage) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match=r"Wrong.handle_message\(message, recipients.*session"):
        Wrong()
    with pytest.raises(TypeError, match=r"Late.handle_message is async.*AsyncMessage"):
        Late()


@BOTH
async def test_a_charset_that_nobody_knows_is_read(kind: Kind) -> None:
    handler = kind()
    content = "Content-Type: text/plain; charset=no-such\r\n\r\nHi\r\n"
    async with dialogue(handler) as client:
        assert await client.deliver(content) == "250 OK"
    assert handler.messages[0].get_content() == "Hi\n"


def test_handle_message_must_be_written() -> None:
    incomplete: Any
    for incomplete in (Message, AsyncMessage):
        with pytest.raises(TypeError, match="handle_message"):
            incomplete()
