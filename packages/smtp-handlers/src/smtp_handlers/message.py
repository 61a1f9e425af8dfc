"""Message: hands each mail on as a message object of the standard library."""

from __future__ import annotations

import asyncio
import email
import email.policy
from abc import ABC, abstractmethod
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import ClassVar

from smtp_protocol import Answer, Envelope, Handler, Server, Session, replies

__all__ = ["AsyncMessage", "Message"]

# Octets above which a message is parsed in a thread, so that no other session waits for it.
_LARGE = 128 * 1024


class _MessageBase(Handler):
    #: ``handle_message`` is for subclasses to write, and no hook of the server.
    own_hooks: ClassVar[frozenset[str]] = frozenset({"handle_message"})

    def __init__(
        self,
        message_class: type[EmailMessage] | None = None,
        *,
        policy: EmailPolicy[EmailMessage] = email.policy.default,
    ) -> None:
        self.message_class = message_class or EmailMessage
        self.policy = policy.clone(message_factory=self.message_class)

    def prepare_message(self, session: Session, envelope: Envelope) -> EmailMessage:
        """Parse the message, and write into it where it came from and where it goes.

        Returns:
            The message, with X-Peer, X-MailFrom and X-RcptTo; what the sender wrote in headers
            of these names is gone.
        """
        message = email.message_from_bytes(envelope.content, policy=self.policy)
        for name, value in (
            ("X-Peer", str(session.peer)),
            ("X-MailFrom", envelope.mail_from or ""),
            ("X-RcptTo", ", ".join(envelope.rcpt_tos)),
        ):
            del message[name]
            message[name] = value
        return message

    async def _parse(self, session: Session, envelope: Envelope) -> EmailMessage:
        if len(envelope.content) > _LARGE:
            return await asyncio.to_thread(self.prepare_message, session, envelope)
        return self.prepare_message(session, envelope)


class Message(_MessageBase, ABC):
    """Calls ``handle_message`` with each mail. Subclass it and write that method.

    Args:
        message_class: What to make of each mail; `email.message.EmailMessage` by default.
        policy: How to parse it.
    """

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Parse the mail and hand it on."""
        message = await self._parse(session, envelope)
        answer = self.handle_message(message)
        return replies.OK if answer is None else answer

    @abstractmethod
    def handle_message(self, message: EmailMessage) -> Answer | None:
        """Take one mail.

        Returns:
            The answer; ``None`` for 250.
        """


class AsyncMessage(_MessageBase, ABC):
    """Awaits ``handle_message`` with each mail. Subclass it and write that method.

    Args:
        message_class: What to make of each mail; `email.message.EmailMessage` by default.
        policy: How to parse it.
    """

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Parse the mail and hand it on."""
        message = await self._parse(session, envelope)
        answer = await self.handle_message(message)
        return replies.OK if answer is None else answer

    @abstractmethod
    async def handle_message(self, message: EmailMessage) -> Answer | None:
        """Take one mail.

        Returns:
            The answer; ``None`` for 250.
        """
