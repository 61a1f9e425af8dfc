"""Sink: takes every message, counts it, and forgets it."""

from argparse import ArgumentParser
from collections.abc import AsyncIterator
from typing import Self

from smtp_protocol import Answer, Envelope, Handler, Server, Session, replies

__all__ = ["Sink"]


class Sink(Handler):
    """Answers 250 to everything and keeps nothing, however long a message is.

    Attributes:
        messages: How many messages it has taken.
        octets: How long they were together.
        recipients: How many recipients they had together.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0
        self.recipients = 0

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one for the command line, without arguments."""
        if args:
            parser.error("the handler sink takes no arguments")
        return cls()

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer:
        """Count the message. One that was not complete does not count."""
        octets = 0
        async for chunk in chunks:
            octets += len(chunk)
        self.messages += 1
        self.octets += octets
        self.recipients += len(envelope.rcpt_tos)
        return replies.OK
