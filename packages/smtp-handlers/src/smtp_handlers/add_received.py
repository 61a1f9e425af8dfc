"""AddReceived: each message gets a Received field on its way to the handler behind."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from smtp_handlers.front import Front
from smtp_handlers.trace import guard, new_identifier, received
from smtp_protocol import Answer, AnyHandler, Envelope, Server, Session

__all__ = ["AddReceived"]


class AddReceived(Front):
    """Puts a ``Received`` field in front of each message (RFC 5321 §4.4).

    `Mailbox` and `Proxy` do that by themselves.

    Args:
        handler: What takes the mail.

    Raises:
        TypeError: The handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler) -> None:
        super().__init__(handler)
        if self.inner.stream is not None:
            self.handle_STREAM = self._stream

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        """Hand on the message with the field."""
        field = received(server, session, envelope, new_identifier(session))
        field += guard(envelope.content)
        envelope.content = field + envelope.content
        return await self.inner.handle_DATA(server, session, envelope)

    async def _stream(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        field = received(server, session, envelope, new_identifier(session))
        preceded = _Preceded(field, chunks)
        return await self.inner.handle_STREAM(server, session, envelope, preceded)


class _Preceded(AsyncIterator[bytes]):
    """A message with a field in front."""

    def __init__(self, field: bytes, message: AsyncIterator[bytes]) -> None:
        self._field = field
        self._message = message

    async def __anext__(self) -> bytes:
        if not self._field:
            return await anext(self._message)
        first = b""
        with contextlib.suppress(StopAsyncIteration):
            while not first:
                first = await anext(self._message)
        field, self._field = self._field, b""
        return field + guard(first) + first
