"""SMTP: one connection; it carries octets to the engine, events to the hooks, and replies back."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Literal, TypeVar, Unpack, cast

from smtp_protocol import (
    Answer,
    AnyHandler,
    BodyChunk,
    BodyEnd,
    Command,
    Connected,
    ConnectionClosed,
    Ehlo,
    Envelope,
    Event,
    Helo,
    Hooks,
    Mail,
    ProtocolConfig,
    Quit,
    Rcpt,
    Recipient,
    Refused,
    Reply,
    ServerConnection,
    Session,
    State,
    Unknown,
    replies,
)
from smtp_protocol.auth import MISSING, Missing
from smtp_protocol.events import Signal
from smtp_protocol.parser import SYNTAX
from smtp_server.bodies import MemoryBody, StreamedBody
from smtp_server.dispatch import answer, reply_from
from smtp_server.limits import Budget, Connections
from smtp_server.log import log
from smtp_server.settings import Setup, SMTPKeywords, prepare
from smtp_server.verbs import method_name, own_verbs
from smtp_server.version import __version__

__all__ = ["SMTP"]

# Octets that may wait for a hook before the socket is left unread.
_MAX_WAITING = 64 * 1024

# Seconds that a peer has to read its last replies after the session's end.
_LINGER = 2.0

_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA})

T = TypeVar("T")


class SMTP(asyncio.Protocol):
    """One connection of an SMTP server, and what a hook sees as ``server``.

    A subclass adds a command, or takes over a built-in one, with a method
    ``async def smtp_VERB(self, arg: str | None)`` that returns the answer or pushes it.

    Args:
        handler: The object with the hooks.
        setup: What the connections of one server share, as another one's ``setup``; it saves
            looking at handler and keywords again.
        **keywords: See `Settings`.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value cannot be meant.
    """

    def __init__(
        self,
        handler: AnyHandler,
        *,
        setup: Setup | None = None,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        if setup is None:
            setup = prepare(type(self), handler, keywords, f"Python SMTP {__version__}")
        self.setup = setup
        self.session = Session()
        self.envelope = Envelope()
        self.connections: Connections | None = None
        self._connection = ServerConnection(setup.config)
        self._budget = Budget(setup.settings)
        self._body: MemoryBody | StreamedBody = MemoryBody()
        self._output: list[bytes] = []
        self._event: Event = Connected()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_sign = 0.0
        self._advancing = False
        self._reading = True
        self._writing = True
        self._stopping = False
        self._greeted = False
        self._linger = True
        self._hung_up = False
        self._lost = False

    # What a hook sees.

    @property
    def hostname(self) -> str:
        """The name that the server calls itself."""
        return self.setup.hostname

    @property
    def ident(self) -> str:
        """What follows the name in the greeting."""
        return self.setup.ident

    @property
    def data_size_limit(self) -> int | None:
        """The largest message in octets; ``None`` or 0 for no limit."""
        return self.setup.settings.data_size_limit

    @property
    def enable_SMTPUTF8(self) -> bool:
        """Whether SMTPUTF8 is offered."""
        return self.setup.settings.enable_SMTPUTF8

    @property
    def syntaxes(self) -> Mapping[str, str]:
        """The form of each command that the server takes, by its verb."""
        kind: type = type(self)
        return dict(sorted({**SYNTAX, **own_verbs(kind)}.items()))

    async def push(self, answer: Answer) -> None:
        """Send the reply to the command now; what the hook returns is then not sent.

        Args:
            answer: The reply, or its text.

        Raises:
            ValueError: The text is no reply.
            RuntimeError: The command was answered already.
        """
        self._reply(self._event, reply_from(answer))
        self._flush()

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        """Not part of a session without AUTH."""
        return MISSING

    # What the dispatcher sees.

    @property
    def hooks(self) -> Hooks:
        """The handler's hooks."""
        return self.setup.hooks

    @property
    def config(self) -> ProtocolConfig:
        """The engine's part of the settings."""
        return self.setup.config

    @property
    def reply_owed(self) -> bool:
        """Whether the event that is being answered has no reply yet."""
        return self._connection.reply_owed

    async def own_command(self, verb: str, arg: str | None) -> Answer | None:
        """Call this class's own method for ``verb``."""
        method: Callable[[str | None], Awaitable[Answer | None]]
        method = getattr(self, method_name(verb))
        return await method(arg)

    async def body_result(self) -> object:
        """Have the message handled that is complete now."""
        if isinstance(self._body, StreamedBody):
            return await self._body.result()
        return await self.hooks.handle_DATA(self, self.session, self.envelope)

    def log_failure(self, event: Event, error: Exception) -> None:
        """Log that a hook failed on ``event``."""
        kind = type(event).__name__
        log(logging.ERROR, self.session, "The hook for %s failed", kind, error=error)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, unless there are too many already."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = self.setup.settings.loop or asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self.session.peer = peer[:2] if isinstance(peer, tuple) else (peer or None)
        self.session.loop = self._loop
        log(logging.DEBUG, self.session, "Connection from %r", self.session.peer)
        self._watch_time()
        if self.connections is not None:
            refusal = self.connections.add(self, self.setup.settings)
            if refusal is not None:
                log(logging.WARNING, self.session, "Too many connections")
                self._finish(refusal)
                return
        self._greeted = True
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._last_sign = self._loop.time()
        self._connection.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Take that the peer sends no more; it still gets its answers."""
        self._linger = False
        self._connection.receive_eof()
        self._advance()
        return not self._hung_up

    def pause_writing(self) -> None:
        """The peer does not read its replies: no more of its commands until it does."""
        self._writing = False

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writing = True
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session, after the hook that may still be at work."""
        log(logging.DEBUG, self.session, "Connection closed (%r)", error)
        self._connection.close()
        self._body.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._lost = True
        self._depart()

    # From events to replies.

    def _advance(self) -> None:
        """Work through what has come, until octets, a hook or the peer's reading are awaited."""
        if self._advancing:
            return
        if self._task is not None:
            self._regulate_reading()
            return
        self._advancing = True
        while self._writing and self._task is None:
            event = self._connection.next_event()
            if isinstance(event, Signal):
                break
            if isinstance(event, ConnectionClosed):
                self._hang_up()
                break
            if isinstance(event, BodyChunk):
                self._body.write(event.data)
            elif isinstance(event, Refused):
                self._reply(event, event.reply)
            else:
                self._consult(event)
        self._advancing = False
        self._flush()
        self._regulate_reading()

    def _consult(self, event: Command | Connected | BodyEnd) -> None:
        """Have ``event`` answered: at once where that is possible, otherwise by a task."""
        self._event = event
        reply = self._reply_without_hook(event)
        if reply is not None:
            self._reply(event, reply)
            return
        if isinstance(event, BodyEnd):
            self.envelope.content = self._body.content()
        coroutine = answer(event, self)
        if type(event) in self.setup.quick:
            self._conclude(event, _run(coroutine))
            return
        self._flush()
        task = self._start(self._wait(event, coroutine))
        if not task.done():
            self._task = task

    def _reply_without_hook(self, event: Command | Connected | BodyEnd) -> Reply | None:
        settings = self.setup.settings
        if isinstance(event, BodyEnd):
            return self._decode() if settings.decode_data and self.hooks.stream is None else None
        if isinstance(event, Connected):
            return None
        if settings.command_call_limit is not None:
            verb = event.verb if isinstance(event, Unknown) else type(event).__name__.upper()
            closing = self._budget.command(verb)
            if closing is not None:
                return closing
        if isinstance(event, Unknown) and not hasattr(self, method_name(event.verb)):
            return replies.UNKNOWN_COMMAND
        most = settings.max_recipients
        if isinstance(event, Rcpt) and most is not None and len(self.envelope.recipients) >= most:
            return replies.TOO_MANY_RECIPIENTS
        return None

    def _decode(self) -> Reply | None:
        content, body = self._body.content(), self.envelope.mail_options.body
        if self.setup.settings.enable_SMTPUTF8 or body == "8BITMIME":
            self.envelope.text = content.decode("utf-8", "surrogateescape")
        elif content.isascii():
            self.envelope.text = content.decode("ascii")
        else:
            return replies.NOT_ASCII
        return None

    async def _wait(
        self, event: Command | Connected | BodyEnd, coroutine: Coroutine[object, None, Reply | None]
    ) -> None:
        try:
            reply = await coroutine
        finally:
            self._task = None
            self._depart()
        self._last_sign = self._loop.time()
        self._conclude(event, reply)
        self._advance()

    def _conclude(self, event: Event, reply: Reply | None) -> None:
        if reply is not None and self._connection.reply_owed:
            self._reply(event, reply)

    def _reply(self, event: Event, reply: Reply) -> None:
        """Answer ``event``, and let session and envelope follow what the wire says."""
        before = self._connection.state
        self._output.append(self._connection.send(reply))
        log(logging.DEBUG, self.session, "%r: %s", event, reply)
        self._record(event, reply)
        if self._connection.state is State.DATA:
            self._expect_body()
        elif before in _TRANSACTION and self._connection.state not in _TRANSACTION:
            self._forget_transaction()
        if isinstance(event, Refused) or reply is replies.UNKNOWN_COMMAND:
            closing = self._budget.error()
            if closing is not None and self._connection.state is not State.CLOSED:
                log(logging.WARNING, self.session, "Too many errors")
                self._output.append(self._connection.send(closing))
        if self._stopping:
            self._stop_if_idle()

    def _record(self, event: Event, reply: Reply) -> None:
        envelope = self.envelope
        match event:
            case Quit():
                self._linger = not reply.positive
            case Helo() | Ehlo() if reply.positive:
                self.session.extended_smtp = isinstance(event, Ehlo)
            case Mail(address, options):
                if not reply.positive:
                    self.envelope = Envelope()
                elif envelope.mail_from is None:
                    envelope.mail_from = address
                envelope.smtp_utf8 = options.smtputf8
            case Rcpt(_, options):
                known = len(envelope.recipients)
                if not reply.positive:
                    del envelope.rcpt_tos[known:]
                for accepted in envelope.rcpt_tos[known:]:
                    envelope.recipients.append(Recipient(accepted, options))

    def _expect_body(self) -> None:
        hooks, envelope = self.hooks, self.envelope
        if hooks.stream is None:
            self._body = MemoryBody()
            return
        self._body = StreamedBody(self._regulate_reading)
        hook = hooks.stream.handle_STREAM(self, self.session, envelope, self._body)
        self._body.run(hook, self._loop)

    def _forget_transaction(self) -> None:
        self.envelope = Envelope()
        self._body.abort()
        self._body = MemoryBody()

    # The connection's life.

    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""
        self._stopping = True
        if not self._advancing and self._task is None:
            self._stop_if_idle()
            self._advance()

    def _stop_if_idle(self) -> None:
        running = self._connection.state in _TRANSACTION or self._connection.reply_owed
        if not running and self._connection.state is not State.CLOSED:
            self._linger = False
            self._output.append(self._connection.send(replies.CLOSING_SHUTDOWN))

    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""
        if self._task is not None:
            # Later, for a task that is cancelled before its first step never gets to its end.
            self._loop.call_soon(self._task.cancel)
        self._finish(replies.CLOSING_SHUTDOWN)

    def _finish(self, reply: Reply) -> None:
        """End the session with a 421."""
        if self._connection.state is not State.CLOSED:
            self._output.append(self._connection.send(reply))
        self._linger = False
        self._hang_up()

    def _hang_up(self) -> None:
        self._flush()
        if self._hung_up:
            return
        self._hung_up = True
        if self._timer is not None:
            self._timer.cancel()
        if self._linger and self._transport.can_write_eof():
            # What the peer still sends is read and dropped: a socket that is closed over unread
            # octets is reset, and the peer may then never see its last reply.
            self._transport.write_eof()
        else:
            self._transport.close()
        self._timer = self._loop.call_later(_LINGER, self._transport.abort)

    def _depart(self) -> None:
        """Take leave of handler and service, when the connection is lost and no hook at work."""
        if self._lost and self._task is None:
            self._task = self._start(self._say_goodbye())

    async def _say_goodbye(self) -> None:
        try:
            if self._greeted:
                await self.hooks.handle_DISCONNECT(self, self.session)
        except Exception as error:
            log(logging.ERROR, self.session, "handle_DISCONNECT failed", error=error)
        finally:
            if self.connections is not None:
                self.connections.remove(self)

    # Time, reading and writing.

    def _watch_time(self) -> None:
        self._last_sign = self._loop.time()
        if self.setup.settings.timeout is not None:
            self._timer = self._loop.call_later(self.setup.settings.timeout, self._check_time)

    def _check_time(self) -> None:
        timeout = self.setup.settings.timeout or 0.0
        left = timeout - (self._loop.time() - self._last_sign)
        if self._task is not None or not self._reading:
            left = timeout  # a hook is at work: it is not the client that is idle
        if left <= 0:
            log(logging.INFO, self.session, "Idle for %g seconds", timeout)
            self._finish(replies.CLOSING_IDLE)
            return
        self._timer = self._loop.call_later(left, self._check_time)

    def _regulate_reading(self) -> None:
        wanted = self._connection.buffered <= _MAX_WAITING and not self._body.full
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush(self) -> None:
        if self._output:
            self._transport.write(b"".join(self._output))
            self._output.clear()

    def _start(self, coroutine: Coroutine[object, None, None]) -> asyncio.Task[None]:
        if sys.version_info >= (3, 12):
            # A hook that need not wait is then answered without a turn of the loop.
            return asyncio.Task(coroutine, loop=self._loop, eager_start=True)
        return self._loop.create_task(coroutine)


def _run(coroutine: Coroutine[object, None, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise RuntimeError("a default hook waits")
