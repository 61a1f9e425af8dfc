"""Tests of a handler without a server: octets in, replies out, and not a socket. Run by pytest."""

import asyncio
from collections.abc import AsyncIterator

import smtp_protocol as smtp


class Newsletter(smtp.Handler):
    """What is tested: people subscribe by mail to one address, and only short mail is read."""

    def __init__(self) -> None:
        self.subscribers: set[str] = set()

    async def handle_RCPT(
        self,
        server: smtp.Server,
        session: smtp.Session,
        envelope: smtp.Envelope,
        address: str,
        rcpt_options: smtp.RcptOptions,
    ) -> str:
        """Know one address."""
        if smtp.canonical_mailbox(address) != "subscribe@example.com":
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_STREAM(
        self,
        server: smtp.Server,
        session: smtp.Session,
        envelope: smtp.Envelope,
        chunks: AsyncIterator[bytes],
    ) -> str:
        """Read the message as it comes."""
        size = 0
        async for chunk in chunks:
            size += len(chunk)
        if not envelope.mail_from or size > 1000:
            return "554 5.7.1 Not like this"
        self.subscribers.add(envelope.mail_from)
        return "250 2.0.0 Welcome"


def talk(handler: smtp.AnyHandler, dialogue: str) -> list[str]:
    """What a client is answered that says all of this; lines end with LF here."""
    client = smtp.HandlerConnection(handler)
    client.receive_data(dialogue.replace("\n", "\r\n").encode())
    return asyncio.run(client.answers()).decode().splitlines()


MAIL = "EHLO client.example\nMAIL FROM:<{sender}>\nRCPT TO:<{recipient}>\n"


def test_subscribing() -> None:
    newsletter = Newsletter()
    begin = MAIL.format(sender="anne@example.net", recipient="subscribe@EXAMPLE.com")
    replies = talk(newsletter, begin + "DATA\nPlease!\n.\n")
    assert replies[-1] == "250 2.0.0 Welcome"
    assert newsletter.subscribers == {"anne@example.net"}


def test_others_are_not_known() -> None:
    begin = MAIL.format(sender="anne@example.net", recipient="bart@example.com")
    assert talk(Newsletter(), begin)[-1] == "550 5.1.1 No such user"


def test_nobody_who_cannot_be_written_to() -> None:
    newsletter = Newsletter()
    begin = MAIL.format(sender="", recipient="subscribe@example.com")
    assert talk(newsletter, begin + "DATA\nPlease!\n.\n")[-1] == "554 5.7.1 Not like this"
    assert newsletter.subscribers == set()


def test_nobody_whose_message_was_cut() -> None:
    newsletter = Newsletter()
    begin = MAIL.format(sender="anne@example.net", recipient="subscribe@example.com")
    assert talk(newsletter, begin + "DATA\nPlease!\n")[-1].startswith("354")
    assert newsletter.subscribers == set()
