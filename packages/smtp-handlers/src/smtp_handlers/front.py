"""Front: what stands in front of another handler has all its hooks, but for those it overrides.

One that refuses a recipient (`Gate`) lets nothing of the transaction through before it accepts one.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from io import BytesIO
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from smtp_protocol import (
    Answer,
    AnyHandler,
    Envelope,
    Handler,
    Hooks,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
    replies,
)

__all__ = ["Front", "Gate", "Inner"]

_HOOK = "handle_"
_MECHANISM = "auth_"

Answers = Answer | Sequence[Answer]


class Inner(Hooks):
    """All the hooks of a handler, to be called by what stands in front of it.

    It has both `handle_DATA` and `handle_STREAM`, whichever of them the handler has: a message
    always gets to it.

    Args:
        handler: The object with the hooks.

    Raises:
        TypeError: A hook cannot take its arguments, or the handler is a class.
    """

    def __init__(self, handler: AnyHandler) -> None:
        # Hooks of commands that the server adds are passed on as well. Whether there are such
        # commands is known to the server alone, which refuses a misspelt hook.
        verbs = [name.removeprefix(_HOOK) for name in dir(handler) if name.startswith(_HOOK)]
        super().__init__(handler, verbs)
        if self.stream is not None:
            vars(self)["handle_DATA"] = self._stream_content

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answers:
        """Hand the message on as it comes, or gather it for a handler that takes it whole."""
        if self.stream is not None:
            return await self.stream.handle_STREAM(server, session, envelope, chunks)
        content = BytesIO()
        async for chunk in chunks:
            content.write(chunk)
        envelope.content = content.getvalue()
        if envelope.encoding == "ascii" and not envelope.content.isascii():
            return replies.NOT_ASCII  # as a server answers that decodes messages
        return await self.handle_DATA(server, session, envelope)

    async def _stream_content(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answers:
        return await self.handle_STREAM(server, session, envelope, _Whole(envelope.content))


class Front(Handler):
    """Stands in front of another handler. Override the hooks that you have a say in.

    Hooks that are not overridden are those of the handler behind. One that is calls the other
    handler's through ``self.inner`` when it agrees, or answers by itself::

        class NoNullSender(Front):
            async def handle_MAIL(self, server, session, envelope, address, mail_options):
                if not address:
                    return "550 5.7.1 No bounces here"
                return await self.inner.handle_MAIL(
                    server, session, envelope, address, mail_options
                )

    Fronts can stand in front of one another; the outermost is asked first. A front is entered by
    the server and enters the handler behind, if that has a life (`smtp_protocol.HasLife`).

    Args:
        handler: The handler behind: any object with hooks.

    Attributes:
        inner: Its hooks.

    Raises:
        TypeError: The handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler) -> None:
        self.inner = Inner(handler)
        kind = type(self)
        # A server prefers handle_STREAM. A front that wants the message whole gets it whole.
        hidden = {"handle_STREAM"} if _overrides(kind, "handle_DATA") else set()
        passed_on = self.inner.own | _own_commands_and_mechanisms(handler)
        for name in passed_on - hidden:
            if not _overrides(kind, name):
                setattr(self, name, getattr(handler, name))

    async def __aenter__(self) -> Self:
        """Enter the handler behind."""
        if self.inner.life is not None:
            await self.inner.life.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leave the handler behind."""
        if self.inner.life is None:
            return None
        return await self.inner.life.__aexit__(kind, error, traceback)


class Gate(Front):
    """Refuses recipients, and lets nothing of a transaction through before it accepts one.

    Override `refusal`. MAIL is answered 250 here, and the handler behind hears of it with the first
    recipient that is accepted; if it then refuses the sender, that is the answer to RCPT. So a
    `Proxy` behind opens no connection for a stranger who may send to nobody::

        class Staff(Gate):
            async def refusal(self, session, address):
                return None if await is_staff(address) else "550 5.7.1 Staff only"

    Args:
        handler: The handler behind: any object with hooks.

    Raises:
        TypeError: The handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler) -> None:
        super().__init__(handler)
        # The transactions that the handler behind has not heard of, each with its MAIL. They end
        # with their envelopes.
        self._waiting: WeakKeyDictionary[Envelope, tuple[str, MailOptions]] = WeakKeyDictionary()

    async def refusal(self, session: Session, address: str) -> Answer | None:
        """Decide about a recipient.

        Args:
            session: Who names it.
            address: The recipient, as it was sent.

        Returns:
            What to tell the client, or ``None`` to leave the recipient to the handler behind.
        """
        return None

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """Take the sender down until there is a recipient."""
        self._waiting[envelope] = (address, mail_options)
        return await super().handle_MAIL(server, session, envelope, address, mail_options)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Refuse the recipient, or leave it to the handler behind, after its MAIL if need be."""
        refusal = await self.refusal(session, address)
        if refusal is None and envelope in self._waiting:
            refusal = await self._begin(server, session, envelope)
        if refusal is not None:
            return refusal
        return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)

    async def _begin(self, server: Server, session: Session, envelope: Envelope) -> Answer | None:
        """Tell the handler behind of the sender; the answer is its refusal."""
        sender, options = self._waiting[envelope]
        begun = False
        _forget_sender(envelope)
        try:
            answer = await self.inner.handle_MAIL(server, session, envelope, sender, options)
            begun = as_reply(answer).positive
        finally:
            if not begun:
                _forget_sender(envelope)
                await super().handle_MAIL(server, session, envelope, sender, options)
        if not begun:
            return answer
        del self._waiting[envelope]
        if envelope.mail_from is None:
            envelope.mail_from = sender  # for a hook that forgot to
        return None


def as_reply(answer: Answer) -> Reply:
    """Make a reply of what a hook answered.

    Raises:
        ValueError: The text is no reply.
    """
    return Reply.parse(answer) if isinstance(answer, str) else answer


def _forget_sender(envelope: Envelope) -> None:
    envelope.mail_from = None
    envelope.mail_options = MailOptions()


def _own_commands_and_mechanisms(handler: object) -> set[str]:
    """The names of what a server looks for in a handler beside the hooks that every server has."""
    # Asked of the class: a mock has an attribute of any name.
    not_hooks: Collection[str] = getattr(type(handler), "own_hooks", ())
    return {
        name
        for name in dir(handler)
        if (name.startswith(_HOOK) and name not in not_hooks and name not in dir(Handler))
        or name.startswith(_MECHANISM)
        or _is_mechanism(getattr(handler, name))
    }


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(Handler, name, None)


def _is_mechanism(value: object) -> bool:
    return callable(value) and isinstance(getattr(value, "auth_mechanism", None), str)


class _Whole(AsyncIterator[bytes]):
    """The chunks of a message that is there already: one, or none."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __anext__(self) -> bytes:
        content, self._content = self._content, b""
        if not content:
            raise StopAsyncIteration
        return content
