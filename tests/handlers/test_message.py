"""Message: each mail as an object of the standard library, with where it came from and went to."""

import asyncio
import email.policy
import threading
from email.message import EmailMessage
from typing import Any

import pytest
from tests.server.support import dialogue

from smtp_handlers import AsyncMessage, Message
from smtp_protocol import Answer, Reply

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
    assert message.get_content() == "Hi Bart\r\n"
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
async def test_a_large_message_is_parsed_in_a_thread(kind: Kind) -> None:
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
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [True, False]
    assert len(handler.messages[1].get_content()) == 4000 * len(line) + len("Hi Bart\r\n")


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


def test_handle_message_must_be_written() -> None:
    incomplete: Any
    for incomplete in (Message, AsyncMessage):
        with pytest.raises(TypeError, match="handle_message"):
            incomplete()
