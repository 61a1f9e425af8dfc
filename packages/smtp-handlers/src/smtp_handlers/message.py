"""Message: hands each mail on as a message object of the standard library."""

from __future__ import annotations

import email.policy
import inspect
import logging
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy
from typing import ClassVar, Concatenate

from smtp_handlers.fields import envelope_field
from smtp_handlers.log import log
from smtp_handlers.parsing import Unparsable, parse
from smtp_handlers.threads import Threads
from smtp_protocol import Answer, Envelope, Handler, Reply, Server, Session, replies

__all__ = ["AsyncMessage", "Message"]

_REFUSED = Reply.parse("554 5.6.0 The message cannot be parsed")

# Parsing keeps a processor busy. One more thread than that, so that nobody waits for one message
# that takes long.
_THREADS = 2


# What handle_message may ask for beside the message.
_EXTRA = ("session", "envelope")


class _MessageBase(Handler):
    #: ``handle_message`` is for subclasses to write, and no hook of the server.
    own_hooks: ClassVar[frozenset[str]] = frozenset({"handle_message"})

    def __init__(
        self,
        message_class: type[EmailMessage] | None = None,
        *,
        policy: Policy = email.policy.default,
    ) -> None:
        self.message_class = message_class or EmailMessage
        self.policy = policy.clone(message_factory=self.message_class)
        self._asked_for = _asked_for(self)
        self._threads = Threads("smtp-message", _THREADS)

    def prepare_message(self, session: Session, envelope: Envelope) -> EmailMessage:
        """Parse the message, and write into it where it came from and where it goes.

        It is called in a thread, and may block.

        Returns:
            The message, with X-Peer, X-MailFrom and X-RcptTo; what the sender wrote in headers
            of these names is gone.

        Raises:
            ValueError: It cannot be parsed.
        """
        binary = envelope.mail_options.body == "BINARYMIME"
        message = parse(envelope.content, self.message_class, self.policy, binary=binary)
        for name, text in (
            ("X-Peer", str(session.peer)),
            ("X-MailFrom", envelope.mail_from or ""),
            ("X-RcptTo", ", ".join(envelope.rcpt_tos)),
        ):
            field = envelope_field(name, text)
            del message[name]
            # Other policies have no objects for fields, and read nothing in a text.
            message[name] = field if isinstance(self.policy, EmailPolicy) else str(field)
        return message

    async def _parse(self, session: Session, envelope: Envelope) -> EmailMessage | Reply:
        """Parse a message beside the event loop; a reply refuses what can never be parsed."""
        try:
            return await self._threads.run(self.prepare_message, session, envelope)
        except Unparsable as error:
            log(logging.INFO, session, "Refused a message that cannot be parsed: %r", str(error))
            return _REFUSED

    def _wanted(self, session: Session, envelope: Envelope) -> dict[str, object]:
        """What ``handle_message`` wants beside the message."""
        given = {"session": session, "envelope": envelope}
        return {name: value for name, value in given.items() if name in self._asked_for}


class Message(_MessageBase):
    """Calls ``handle_message`` with each mail. Subclass it and write that method.

    Write it as ``handle_message(self, message)``, or with one or both of the arguments ``session``
    and ``envelope``: ``handle_message(self, message, session, envelope)``. The envelope has the
    sender, the recipients one by one, and in ``content`` the octets as they came. The method runs
    in the event loop, and returns the answer, or ``None`` for 250.

    The mail is parsed in a thread, and all of its fields are read there, so that neither a large
    nor a hostile one makes other clients wait. One that cannot be parsed, or has more parts,
    levels or header than real mail has, is refused with ``554 5.6.0``.

    Args:
        message_class: What to make of each mail; `email.message.EmailMessage` by default.
        policy: How to parse it: one of `email.policy`, or of your own.

    Raises:
        TypeError: There is no ``handle_message``, or it cannot be called.
    """

    #: To be written by a subclass.
    handle_message: Callable[Concatenate[EmailMessage, ...], Answer | None]

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Parse the mail and hand it on."""
        message = await self._parse(session, envelope)
        if isinstance(message, Reply):
            return message
        answer = self.handle_message(message, **self._wanted(session, envelope))
        return replies.OK if answer is None else answer


class AsyncMessage(_MessageBase):
    """Awaits ``handle_message`` with each mail. Subclass it and write that method.

    In all else it is as `Message`.

    Args:
        message_class: What to make of each mail; `email.message.EmailMessage` by default.
        policy: How to parse it: one of `email.policy`, or of your own.

    Raises:
        TypeError: There is no ``handle_message``, or it cannot be called.
    """

    #: To be written by a subclass, as a coroutine function.
    handle_message: Callable[Concatenate[EmailMessage, ...], Awaitable[Answer | None]]

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Parse the mail and hand it on."""
        message = await self._parse(session, envelope)
        if isinstance(message, Reply):
            return message
        answer = await self.handle_message(message, **self._wanted(session, envelope))
        return replies.OK if answer is None else answer


def _asked_for(handler: _MessageBase) -> frozenset[str]:
    """The names of what ``handle_message`` wants beside the message.

    Raises:
        TypeError: It cannot be called with these.
    """
    owner = type(handler).__name__
    method: Callable[..., object] | None = getattr(handler, "handle_message", None)
    if method is None:
        raise TypeError(f"{owner} has no handle_message: derive a class from it and write one")
    signature = inspect.signature(method)
    parameters = signature.parameters
    any_name = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    names = [name for name in _EXTRA if any_name or name in parameters]
    try:
        signature.bind(None, **dict.fromkeys(names))
    except TypeError:
        wanted = ", ".join(parameters)
        raise TypeError(
            f"{owner}.handle_message({wanted}) cannot be called: its arguments are the message "
            "and, if it wants them, session and envelope"
        ) from None
    if isinstance(handler, Message) and inspect.iscoroutinefunction(method):
        raise TypeError(f"{owner}.handle_message is async: derive {owner} from AsyncMessage")
    return frozenset(names)
