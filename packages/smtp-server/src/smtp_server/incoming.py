"""Incoming: the message that is coming goes to its hook, no faster than that takes it."""

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine

from smtp_protocol import Auth, BodyEnd, Envelope, Event, Reply, ServerConnection, Session, replies
from smtp_protocol.state import State
from smtp_server.bodies import MemoryBody, StreamedBody
from smtp_server.link import Link
from smtp_server.log import log
from smtp_server.setup import ServerClass, Setup

__all__: list[str] = []

# Octets that may wait for a hook before the socket is left unread.
_MAX_WAITING = 64 * 1024


class Incoming(Link, ServerClass):
    """A connection that brings messages."""

    __slots__ = ("_body", "_connection", "_streams", "envelope", "hooks", "session", "setup")

    _connection: ServerConnection

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        #: The handler's hooks.
        self.hooks = setup.hooks
        self.session = Session()
        self.envelope = Envelope()
        self._body: MemoryBody | StreamedBody | None = None
        # Those whose hook is at work, be it that it cleans up behind a message that was cut.
        self._streams: tuple[StreamedBody, ...] = ()

    @abstractmethod
    def _stream(self, chunks: AsyncIterator[bytes]) -> Coroutine[object, None, object]:
        """Call ``handle_STREAM``, which the handler has."""

    def log_failure(self, event: Event, error: BaseException) -> None:
        """Log that a hook failed on ``event``."""
        kind = type(event).__name__
        # A mechanism that was told that its client has gone, or given up, fails for that.
        given_up = isinstance(event, Auth) and not self._connection.reply_owed
        level = logging.INFO if given_up else logging.ERROR
        log(level, self.session, "The hook for %s failed", kind, error=error)

    def _open_body(self) -> MemoryBody | StreamedBody:
        """The message that comes, or begins to."""
        if self._body is None:
            if self.setup.settings.decode_data:
                utf8 = self.enable_SMTPUTF8 or self.envelope.mail_options.body == "8BITMIME"
                self.envelope.encoding = "utf-8" if utf8 else "ascii"
            if self.hooks.stream is None:
                self._body = MemoryBody()
            else:
                self._body = StreamedBody(
                    self._stream, self._stream_moved, self._stream_failed, self._stream_ended
                )
        return self._body

    def _close_body(self) -> Reply | None:
        """Put the message into the envelope; the reply is for one that cannot be decoded."""
        envelope = self.envelope
        envelope.content = self._open_body().content()
        ascii_only = envelope.encoding == "ascii"
        return replies.NOT_ASCII if ascii_only and not envelope.content.isascii() else None

    def _discard_body(self) -> None:
        """Let go of the message; a hook that still reads is told that it will not be complete."""
        body, self._body = self._body, None
        if body is None:
            return
        body.abort()
        limit = self.setup.settings.handler_timeout
        if isinstance(body, StreamedBody) and body in self._streams and limit is not None:
            self._loop.call_later(limit, body.cancel)

    def _regulate_reading(self) -> None:
        """Leave the socket unread while too much waits for a hook."""
        if self._connection.state is State.TLS:
            return  # the handshake reads
        full = self._body is not None and self._body.full
        self._read(self._connection.buffered <= _MAX_WAITING and not full)

    # Hooks that read while the message comes.

    def _start_stream(self) -> None:
        """Start the hook of a message that has begun to come and will take its time."""
        body = self._body
        if isinstance(body, StreamedBody) and body.due:
            self._streams += (body,)
            body.start(self._loop)

    def _stream_moved(self) -> None:
        """A hook has taken something of what waits for it."""
        self._heard()
        self._regulate_reading()

    def _stream_failed(self, error: BaseException) -> None:
        self.log_failure(BodyEnd(), error)

    def _stream_ended(self, body: StreamedBody) -> None:
        self._streams = tuple(other for other in self._streams if other is not body)
        if not self._connected:
            self._see_whether_over()

    def _cancel_streams(self) -> None:
        for body in self._streams:
            body.cancel()
