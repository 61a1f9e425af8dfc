"""SMTP: one connection; it carries octets to the engine, events to the hooks, and replies back."""

import asyncio
import inspect
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from time import monotonic
from typing import ClassVar, Literal, Unpack, cast

from smtp_protocol import (
    MISSING,
    NEED_DATA,
    PAUSED,
    Answer,
    AnyHandler,
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Envelope,
    Event,
    Mail,
    ProxyHeaderError,
    Quit,
    Refused,
    Reply,
    ServerConnection,
    Session,
    StartTls,
    State,
    Unknown,
    replies,
)
from smtp_protocol.auth import Missing
from smtp_protocol.parser import syntaxes
from smtp_server.bodies import MemoryBody, StreamedBody, decode
from smtp_server.bookkeeping import forget_clear_text, record
from smtp_server.dispatch import Question, answer, answer_at_once, reply_from
from smtp_server.limits import Budget, Connections
from smtp_server.link import Link
from smtp_server.log import log, logger
from smtp_server.proxy import ProxyHeaderProtocol, meet_client
from smtp_server.settings import SMTPKeywords
from smtp_server.setup import Setup, prepare
from smtp_server.tls import Certificates, tls_info
from smtp_server.verbs import method_name, own_verbs

__all__ = ["SMTP"]

# Octets that may wait for a hook before the socket is left unread.
_MAX_WAITING = 64 * 1024

# Answers to pipelined commands that go out together at most.
_MAX_ANSWERS = 64

_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA, State.CHUNKS})
_BUSY = _TRANSACTION | {State.TLS, State.CLOSED}


class SMTP(Link):
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

    #: Whether this is LMTP.
    lmtp: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "_advancing",
        "_begun",
        "_body",
        "_connection",
        "_early",
        "_event",
        "_greeted",
        "_response",
        "_stopping",
        "_streams",
        "_verbose",
        "budget",
        "connections",
        "envelope",
        "hooks",
        "implicit_tls",
        "session",
        "setup",
        "trusted",
    )

    _connection: ServerConnection

    def __init__(
        self,
        handler: AnyHandler,
        *,
        setup: Setup | None = None,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        super().__init__()
        self.setup = prepare(self, handler, keywords) if setup is None else setup
        #: The handler's hooks.
        self.hooks = self.setup.hooks
        self.session = Session()
        self.envelope = Envelope()
        self.budget = Budget(self.setup.settings)
        #: Whether XCLIENT and XFORWARD are taken from the peer.
        self.trusted = False
        #: The service's count of its sessions, if there is a service.
        self.connections: Connections | None = None
        #: With it, TLS begins behind the PROXY header.
        self.implicit_tls: Certificates | None = None
        self._body: MemoryBody | StreamedBody | None = None
        # Those whose hook is at work, be it that it cleans up behind a message that was cut.
        self._streams: tuple[StreamedBody, ...] = ()
        # What came inside TLS before the engine knew of that.
        self._early = b""
        self._event: Event = Connected()
        # The response to a challenge of AUTH that a hook waits for.
        self._response: asyncio.Future[bytes | None] | None = None
        # Whether each command is logged, which is looked at once for the connection.
        self._verbose = False
        self._advancing = False
        self._stopping = False
        self._begun = False
        self._greeted = False

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
        return dict(sorted({**syntaxes(self.setup.config), **own_verbs(kind)}.items()))

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
        """Send a 334 challenge of AUTH and wait for the response (RFC 4954 §4).

        Args:
            challenge: What to send.
            encode_to_b64: Whether it is still to be encoded.

        Returns:
            The response, decoded; `MISSING` when the client cancelled or sent rubbish, which
            was then answered.

        Raises:
            RuntimeError: No AUTH is going on.
        """
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        text = b64encode(octets).decode() if encode_to_b64 else octets.decode()
        if not isinstance(self._event, Auth | AuthResponse):
            raise RuntimeError("a challenge is a part of AUTH")
        self._reply(self._event, Reply(334, (text,)))
        # It may have come already, and is then taken at once.
        self._response = waiting = self._loop.create_future()
        self._last_sign = monotonic()
        self._advance()
        response = await waiting
        return MISSING if response is None else response

    # What the dispatcher sees.

    @property
    def replies_owed(self) -> int:
        """How many replies the event that is being answered still needs."""
        return self._connection.replies_owed

    async def own_command(self, verb: str, arg: str | None) -> Answer | None:
        """Call this class's own method for ``verb``."""
        method: Callable[[str | None], Awaitable[Answer | None]]
        method = getattr(self, method_name(verb))
        return await method(arg)

    def body_result(self) -> Coroutine[object, None, object]:
        """Have the message handled that is complete now."""
        if isinstance(self._body, StreamedBody):
            return self._body.result()
        return self.hooks.handle_DATA(self, self.session, self.envelope)

    def log_failure(self, event: Event, error: Exception) -> None:
        """Log that a hook failed on ``event``."""
        kind = type(event).__name__
        log(logging.ERROR, self.session, "The hook for %s failed", kind, error=error)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, after what has to come before that."""
        self.session.peer = self._attach(transport, self.setup.settings.loop)
        self.session.loop = self._loop
        self._connection = ServerConnection(self.setup.config)
        self._verbose = logger.isEnabledFor(logging.DEBUG)
        if self._verbose:
            log(logging.DEBUG, self.session, "Connection from %r", self.session.peer)
        settings = self.setup.settings
        room = self.connections is None or self.connections.enter(self, settings)
        if not room and settings.proxy_protocol_timeout:
            self._drop()  # it cannot be told before the header, and that can take its time
        elif settings.proxy_protocol_timeout or settings.greeting_delay:
            # What comes first is not for the engine, and may come before the task is begun.
            proxied = settings.proxy_protocol_timeout is not None
            header = ProxyHeaderProtocol(self._transport, self._loop) if proxied else None
            if header is None:
                self._meet()
            self._task = self._loop.create_task(self._prepare(header))
        else:
            self._meet()
            self._note_tls()
            self._begin()

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._last_sign = monotonic()
        if self._connection.state is State.TLS:
            self._early += data
            return
        self._connection.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Take that the peer sends no more; it still gets its answers."""
        self._linger = False
        self._connection.receive_eof()
        self._advance()
        # Inside TLS nothing can be sent behind the peer's end: asyncio closes it in any case.
        return not self._hung_up and self.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session, after the hook that may still be at work."""
        if self._lost:
            return
        if self._verbose:
            log(logging.DEBUG, self.session, "Connection closed (%r)", error)
        self._connection.close()
        self._forget_body()
        if self._response is not None and not self._response.done():
            self._response.set_result(None)
        if self._task is not None and not self._begun:
            # Later, for a task that is cancelled before its first step never gets to its end.
            self._loop.call_soon(self._task.cancel)
        self._detach()

    # Before the greeting, and TLS.

    async def _prepare(self, header: ProxyHeaderProtocol | None) -> None:
        """Do what comes before the greeting: PROXY header, TLS handshake, delay."""
        settings = self.setup.settings
        try:
            if header is not None:
                await meet_client(self, header, self._transport)
                self._meet()
            if self.implicit_tls is not None:
                await self._encrypt(self.implicit_tls, settings.tls_handshake_timeout)
            self._note_tls()
            if settings.greeting_delay:
                await asyncio.sleep(settings.greeting_delay)
        except (OSError, ProxyHeaderError) as error:
            log(logging.INFO, self.session, "No session: %s", error or "time is over")
            self._drop()
            return
        finally:
            self._errand_done()
        if not self._lost:
            early = settings.greeting_delay and self._connection.buffered
            self._begin(replies.CLOSING_EARLY if early else None)

    def _meet(self) -> None:
        """Find out what the engine has to know of the client, before the first octet comes."""
        tls = self.implicit_tls or self._transport.get_extra_info("ssl_object")
        self.trusted = self.session.peer in self.setup.relays
        if tls or self.trusted:
            self._connection = ServerConnection(
                self.setup.config, tls=tls is not None, trusted=self.trusted
            )

    def _note_tls(self) -> None:
        self.session.ssl = self._transport.get_extra_info("ssl_object")
        if self.session.ssl is not None:
            self.session.tls = tls_info(self.session.ssl)

    def _begin(self, refusal: Reply | None = None) -> None:
        """Greet, unless there is a reason not to."""
        self._begun = True
        settings = self.setup.settings
        streaming = settings.handler_timeout if self.hooks.stream is not None else None
        limits = (settings.timeout, settings.data_timeout, streaming)
        if any(limits):
            self._watch_time(min(limit for limit in limits if limit is not None))
        if self.connections is not None:
            refusal = self.connections.admit(self, settings) or refusal
        if refusal is not None:
            log(logging.WARNING, self.session, "Refused: %s", refusal)
            self._finish(refusal)
            return
        self._greeted = True
        self._advance()

    async def _switch_to_tls(self, certificates: Certificates) -> None:
        """Go on inside TLS, after the reply to STARTTLS (RFC 3207 §4)."""
        try:
            await self._encrypt(certificates, self.setup.settings.tls_handshake_timeout)
            self._transport.pause_reading()
            forget_clear_text(self.session)
            self.envelope = Envelope()
            self._note_tls()
            await self._have_tls_approved()
        except OSError as error:
            log(logging.INFO, self.session, "The TLS handshake failed: %s", error)
            self._drop()
        finally:
            self._errand_done()
        if not self._lost:
            self._go_on_inside_tls()

    async def _have_tls_approved(self) -> None:
        try:
            async with asyncio.timeout(self.setup.settings.handler_timeout):
                accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
                good = await accepted if inspect.isawaitable(accepted) else accepted
        except Exception as error:
            self.log_failure(StartTls(), error)
            self._drop()
            return
        if self._lost:
            return
        self._connection.tls_started()
        if not good:
            self._connection.tls_refused()

    def _go_on_inside_tls(self) -> None:
        self._last_sign = monotonic()
        early, self._early = self._early, b""
        self._connection.receive_data(early)
        self._transport.resume_reading()
        self._stop_if_idle()
        self._advance()

    # From events to replies.

    def _advance(self) -> None:
        """Work through what has come, until octets, a hook or the peer's reading are awaited."""
        if self._advancing:
            return
        self._advancing = True
        connection, quick = self._connection, self.setup.quick
        while self._writing and (self._task is None or self._response is not None):
            event = connection.next_event()
            if event is NEED_DATA or event is PAUSED:
                break
            if type(event) in quick:
                self._event = question = cast(Question, event)
                self._reply(question, answer_at_once(question, self))
                if len(self._output) >= _MAX_ANSWERS:
                    self._flush()  # and see whether the peer reads them
            elif isinstance(event, BodyChunk):
                self._open_body().write(event.data)
            elif isinstance(event, Refused):
                self._refuse(event)
            elif isinstance(event, AuthResponse):
                self._respond(event, event.data)
            elif isinstance(event, ConnectionClosed):
                self._hang_up()
                break
            else:
                self._consult(event)
        self._advancing = False
        if self._output:
            self._flush()
        if self._task is not None or self._streams or not (self._reading and self._writing):
            self._regulate_reading()

    def _refuse(self, event: Refused) -> None:
        self._conclude(event, [event.reply] * self._connection.replies_owed)
        self._count_error()
        self._respond(event, None)

    def _respond(self, event: Event, data: bytes | None) -> None:
        """Give the hook that waits for a response of AUTH what came."""
        response, self._response = self._response, None
        self._event = event
        if response is not None and not response.done():
            response.set_result(data)

    def _consult(self, event: Question) -> None:
        """Have ``event`` answered: at once where that is possible, otherwise by a task."""
        self._event = event
        reply = self._reply_without_hook(event)
        if reply is not None:
            self._conclude(event, [reply] * self._connection.replies_owed)
            if reply is replies.UNKNOWN_COMMAND:
                self._count_error()
            return
        self._flush()
        self._start(self._wait(event))

    def _reply_without_hook(self, event: Question) -> Reply | None:
        settings = self.setup.settings
        if isinstance(event, Connected):
            return None
        if isinstance(event, BodyEnd):
            return self._close_body(settings.decode_data)
        if settings.command_call_limit is not None:
            verb = event.verb if isinstance(event, Unknown) else type(event).__name__.upper()
            closing = self.budget.command(verb)
            if closing is not None:
                return closing
        if isinstance(event, Unknown) and not hasattr(self, method_name(event.verb)):
            return replies.UNKNOWN_COMMAND
        return None

    async def _wait(self, event: Question) -> None:
        try:
            answers = await answer(event, self)
        finally:
            self._errand_done()
        self._last_sign = monotonic()
        self._conclude(event, answers)
        self._advance()

    def _conclude(self, event: Event, answers: Sequence[Reply]) -> None:
        for reply in answers:
            if self._connection.reply_owed:
                self._reply(event, reply)

    def _reply(self, event: Event, reply: Reply) -> None:
        """Answer ``event``, and let session and envelope follow what the wire says."""
        connection = self._connection
        before = connection.state
        self._output.append(connection.send(reply))
        if self._verbose:
            # A client that does not wait may send its password where it is no known command.
            what = "Unknown()" if reply is replies.UNKNOWN_COMMAND else repr(event)
            log(logging.DEBUG, self.session, "%s: %s", what, reply)
        record(event, reply, self.session, self.envelope)
        after = connection.state
        if after is not before:
            self._moved(before, after)
        elif isinstance(event, Mail):
            self.envelope = Envelope()  # of a transaction that did not begin
        if self._stopping:
            self._stop_if_idle()

    def _moved(self, before: State, after: State) -> None:
        """Do what goes with the state in which the session is now."""
        if after is State.DATA:
            self._open_body()
        elif before in _TRANSACTION and after not in _TRANSACTION:
            self.envelope = Envelope()
            self._forget_body()
        elif after is State.CLOSED and isinstance(self._event, Quit):
            self._linger = False  # there is nothing that the client could still send
        elif after is State.TLS and self.setup.certificates is not None:
            self._flush()
            self._transport.pause_reading()
            self._start(self._switch_to_tls(self.setup.certificates))

    def _count_error(self) -> None:
        closing = self.budget.error()
        if closing is not None and self._connection.state is not State.CLOSED:
            log(logging.WARNING, self.session, "Too many errors")
            self._output.append(self._connection.send(closing))

    # The message.

    def _open_body(self) -> MemoryBody | StreamedBody:
        if self._body is None:
            stream = self.hooks.stream
            if stream is None:
                self._body = MemoryBody()
            else:
                self._body = body = StreamedBody(
                    self._regulate_reading, self._stream_failed, self._stream_ended
                )
                self._streams += (body,)
                hook = stream.handle_STREAM(self, self.session, self.envelope, body)
                body.run(hook, self._loop)
        return self._body

    def _close_body(self, decode_data: bool) -> Reply | None:
        """Put the message into the envelope; the reply is for one that cannot be decoded."""
        envelope = self.envelope
        envelope.content = self._open_body().content()
        if decode_data:
            utf8 = self.enable_SMTPUTF8 or envelope.mail_options.body == "8BITMIME"
            envelope.text = decode(envelope.content, utf8)
            return replies.NOT_ASCII if envelope.text is None else None
        return None

    def _forget_body(self) -> None:
        body, self._body = self._body, None
        if body is None:
            return
        body.abort()
        limit = self.setup.settings.handler_timeout
        if isinstance(body, StreamedBody) and body in self._streams and limit is not None:
            self._loop.call_later(limit, body.cancel)

    def _stream_failed(self, error: Exception) -> None:
        self.log_failure(BodyEnd(), error)

    def _stream_ended(self, body: StreamedBody) -> None:
        self._streams = tuple(other for other in self._streams if other is not body)
        if self._lost and self._task is None:
            self._leave()

    def _cancel_streams(self) -> None:
        for body in self._streams:
            body.cancel()

    # The connection's life.

    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""
        self._stopping = True
        if not self._begun:
            self._drop()
        elif not self._advancing and self._task is None:
            self._stop_if_idle()
            self._advance()

    def _stop_if_idle(self) -> None:
        busy = self._connection.state in _BUSY or self._connection.reply_owed
        if self._stopping and not busy:
            self._linger = False
            self._output.append(self._connection.send(replies.CLOSING_SHUTDOWN))

    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""
        if self._task is not None:
            # Later, for a task that is cancelled before its first step never gets to its end.
            self._loop.call_soon(self._task.cancel)
        self._cancel_streams()
        self._finish(replies.CLOSING_SHUTDOWN)

    def _finish(self, reply: Reply) -> None:
        """End the session with a 421."""
        if self._connection.state is State.TLS or not self._begun:
            self._drop()  # in the middle of a handshake there is no way to say it
            return
        if self._connection.state is not State.CLOSED:
            self._output.append(self._connection.send(reply))
        self._linger = False
        self._hang_up()

    def _drop(self) -> None:
        """Close the connection at once, and forget it.

        In the middle of a handshake or a PROXY header asyncio would tell somebody else.
        """
        self._transport.abort()
        self.connection_lost(None)

    def _leave(self) -> None:
        if self._streams:
            return  # the last of them comes here again
        if self._greeted and "handle_DISCONNECT" in self.hooks.own:
            self._start(self._say_goodbye())
        elif self.connections is not None:
            self.connections.remove(self)

    async def _say_goodbye(self) -> None:
        try:
            await self.hooks.handle_DISCONNECT(self, self.session)
        except Exception as error:
            log(logging.ERROR, self.session, "handle_DISCONNECT failed", error=error)
        finally:
            if self.connections is not None:
                self.connections.remove(self)

    # Time, and the flow of octets.

    def _patience(self) -> float | None:
        """How many seconds of silence the client may keep now; ``None`` for any number."""
        settings = self.setup.settings
        at_work = self._task is not None and self._response is None
        if at_work or (self._writing and not self._reading):
            # It is the client that waits: for a hook, whose time is limited elsewhere, or for a
            # handle_STREAM that does not read on.
            return None if at_work else settings.handler_timeout
        if self._connection.reading_body and settings.data_timeout is not None:
            return settings.data_timeout
        return settings.timeout

    def _silent(self, seconds: float) -> None:
        log(logging.INFO, self.session, "Silent for %g seconds", seconds)
        self._cancel_streams()
        self._finish(replies.CLOSING_IDLE)

    def _regulate_reading(self) -> None:
        if self._connection.state is State.TLS:
            return  # the handshake reads
        full = self._body is not None and self._body.full
        self._read(self._connection.buffered <= _MAX_WAITING and not full)
