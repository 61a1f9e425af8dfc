"""Conversation: one session's events become replies, in their order, with the help of the hooks."""

import asyncio
import logging
from abc import abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from time import monotonic
from typing import Literal

from smtp_protocol import (
    MISSING,
    NEED_DATA,
    PAUSED,
    Answer,
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Envelope,
    Event,
    Mail,
    Quit,
    Refused,
    Reply,
    State,
    Unknown,
    ehlo_keywords,
    replies,
)
from smtp_protocol.answers import reply_from
from smtp_protocol.auth import Missing, decided
from smtp_protocol.bookkeeping import record
from smtp_protocol.calls import Request, answer_at_once
from smtp_protocol.parser import syntaxes
from smtp_protocol.state import TRANSACTION
from smtp_server.authentication import authenticate, conclude, offered
from smtp_server.bodies import StreamedBody
from smtp_server.dispatch import answer, answer_built_in, current_task, untimed
from smtp_server.incoming import Incoming
from smtp_server.limits import Budget
from smtp_server.log import commands_logger, logger, message_came, refused
from smtp_server.observers import tell
from smtp_server.setup import Setup
from smtp_server.verbs import method_name

__all__: list[str] = []

# Events that are worked through before others have their turn.
_AT_ONCE = 64

_CONNECTED = Connected()

_NOT_TO_INTERRUPT = TRANSACTION | {State.TLS, State.CLOSED}

# These replies to AUTH are counted in authentication.py; its other refusals count as errors.
_VERDICTS = frozenset({535, 421})

# What is no command, or none for this client: who goes on asking for it makes errors.
_NOT_TAKEN = (replies.UNKNOWN_COMMAND, replies.NOT_IMPLEMENTED)


class Conversation(Incoming):
    """What is said on one connection; a hook sees it as ``server``."""

    __slots__ = (
        "_advancing",
        "_event",
        "_observed",
        "_pause",
        "_response",
        "_stopping",
        "_telling",
        "budget",
        "clock",
        "trusted",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.budget = Budget(setup.settings)
        #: What limits the hook that is at work.
        self.clock: asyncio.Timeout | None = None
        #: Whether XCLIENT and XFORWARD are taken from the peer.
        self.trusted = False
        # What a hook is asked about.
        self._event: Event = _CONNECTED
        # The response to a challenge of AUTH that a hook waits for.
        self._response: asyncio.Future[bytes | None] | None = None
        # What a client waits for that has to be slowed down.
        self._pause: asyncio.Future[None] | None = None
        # Whether messages are logged, and whether somebody is told of each reply: looked at once
        # for the connection.
        self._telling = logger.isEnabledFor(logging.DEBUG)
        self._observed = setup.settings.observer is not None or (
            self._telling and commands_logger.isEnabledFor(logging.DEBUG)
        )
        self._advancing = False
        self._stopping = False

    @abstractmethod
    def _start_tls(self) -> None:
        """Do the handshake: STARTTLS was accepted."""

    @abstractmethod
    def end_session(self, reply: Reply) -> None:
        """End the session with a 421, whatever is going on."""

    @abstractmethod
    def hang_up(self) -> None:
        """Close the connection at once, without a word."""

    # What a hook sees.

    @property
    def syntaxes(self) -> Mapping[str, str]:
        """The form of each command that the server takes, by its verb."""
        forms = {**syntaxes(self.setup.config), **self.setup.verbs}
        return {verb: forms[verb] for verb in sorted(forms) if self._may_use(verb)}

    def _may_use(self, verb: str) -> bool:
        """Whether the condition of an own command holds, if it has one."""
        condition = self.setup.conditions.get(verb)
        return condition is None or decided(condition(self.session))

    async def push(self, answer: Answer) -> None:
        """Send the reply to the command now; what the hook returns is then not sent.

        Args:
            answer: The reply, or its text.

        Raises:
            ValueError: The text is no reply.
            RuntimeError: The command was answered already.
        """
        reply = reply_from(answer)
        if self._connected and not self._hung_up:
            self._reply(self._event, reply)
            if not self._advancing:  # otherwise it goes out with the replies before it
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
            was then answered, and when it is gone.

        Raises:
            RuntimeError: No AUTH is going on.
        """
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        text = b64encode(octets).decode() if encode_to_b64 else octets.decode()
        if isinstance(self._event, Refused):  # the client has given up before
            return MISSING
        if not isinstance(self._event, Auth | AuthResponse):
            raise RuntimeError("a challenge is a part of AUTH")
        if not self._connected or self._connection.state is State.CLOSED:
            return MISSING
        self._reply(self._event, Reply(334, (text,)))
        # It may have come already, and is then taken at once.
        self._response = waiting = self._loop.create_future()
        self._heard()
        self._advance()
        response = await untimed(waiting, self)
        return MISSING if response is None else response

    async def built_in(self, verb: str, arg: str | None) -> Answer:
        """Answer a command as if no method of this class had taken it over: the hook is asked.

        Args:
            verb: VRFY, EXPN, NOOP or HELP.
            arg: What came behind it.

        Raises:
            ValueError: It is another one.
        """
        return await answer_built_in(verb, arg, self)

    # What the dispatcher sees.

    @property
    def replies_owed(self) -> int:
        """How many replies the event that is being answered still needs."""
        return self._connection.replies_owed

    @property
    def ending(self) -> bool:
        """Whether the session is being ended, so that nobody waits for an answer any more."""
        return self._ending

    def ehlo_lines(self) -> Sequence[str]:
        """The lines of the reply to EHLO."""
        setup = self.setup
        keywords = ehlo_keywords(
            setup.config,
            tls=self.session.tls is not None,
            trusted=self.trusted,
            mechanisms=offered(self) if setup.mechanisms else (),
        )
        return [setup.hostname, *keywords]

    def body_result(self) -> Coroutine[object, None, object]:
        """Have the message handled that is complete now."""
        if isinstance(self._body, StreamedBody):
            return self._body.result()
        return self.hooks.handle_DATA(self, self.session, self.envelope)

    def _stream(self, chunks: AsyncIterator[bytes]) -> Coroutine[object, None, object]:
        assert self.hooks.stream is not None
        return self.hooks.stream.handle_STREAM(self, self.session, self.envelope, chunks)

    def authenticate(self, event: Auth) -> Coroutine[object, None, Reply]:
        """Go through the exchange that AUTH begins."""
        return untimed(authenticate(event, self), self)

    def conclude(self, event: Auth, reply: Reply) -> Coroutine[object, None, Reply]:
        """Take a verdict of ``handle_AUTH``."""
        return untimed(conclude(event.mechanism, reply, self), self)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the client waits no more, so that its place is free."""
        self._pause = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._end_pause)
        self._cut_pause()
        try:
            await self._pause
        finally:
            timer.cancel()

    def _cut_pause(self) -> None:
        """End the pause of a client that has gone, unless it has sent more before."""
        if (self._eof or not self._connected) and not self._connection.buffered:
            self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

    async def own_command(self, verb: str, arg: str | None) -> Answer | None:
        """Call this class's own method for ``verb``, if this client may."""
        if not self._may_use(verb):
            return replies.NOT_IMPLEMENTED
        method: Callable[[str | None], Awaitable[Answer | None]]
        method = getattr(self, method_name(verb))
        return await method(arg)

    # From events to replies.

    def _advance(self) -> None:
        """Work through what has come, until octets, a hook or the peer's reading are awaited."""
        if self._advancing:
            return
        self._advancing = True
        connection, at_once = self._connection, self.setup.at_once
        left = _AT_ONCE
        while left and self._writing and (self._task is None or self._response is not None):
            left -= 1
            event = connection.next_event()
            if event is NEED_DATA or event is PAUSED:
                break
            begin = at_once.get(type(event))
            if begin is not None:
                self._reply(event, answer_at_once(begin(event, self)))
            elif isinstance(event, BodyChunk):
                self._open_body().write(event.data)
            elif isinstance(event, Refused):
                self._refuse(event)
            elif isinstance(event, AuthResponse):
                self._respond(event, event.data)
            elif isinstance(event, ConnectionClosed):
                self._discard_body()
                self._hang_up(linger=True)
                break
            else:
                self._consult(event)
        if left:
            self._advancing = False
        else:
            # Give the event loop a turn, in which it can tell that the client reads no replies or
            # is gone: asyncio warns of one that is written to again and again.
            self._loop.call_soon(self._go_on)
        if self._output:
            self._flush()
        if self._body is not None and self.hooks.stream is not None:
            self._start_stream()
        if not self._connected:
            self._see_whether_over()
        elif self._streams or not (left and self._reading and self._writing):
            self._regulate_reading()

    def _go_on(self) -> None:
        self._advancing = False
        self._advance()

    def _refuse(self, event: Refused) -> None:
        # A command counts whatever was wrong with it.
        reply = (self.budget.command(event.verb) if event.verb else None) or event.reply
        self._conclude(event, [reply] * self._connection.replies_owed)
        self._respond(event, None)

    def _respond(self, event: Event, data: bytes | None) -> None:
        """Give the hook that waits for a response of AUTH what came."""
        response, self._response = self._response, None
        self._event = event
        if response is not None and not response.done():
            response.set_result(data)

    def _consult(self, event: Request) -> None:
        """Have ``event`` answered: at once where that is possible, otherwise by a task."""
        self._event = event
        if type(event) in self.setup.may_refuse:
            reply = self._refuse_before_hook(event)
            if reply is not None:
                self._conclude(event, [reply] * self._connection.replies_owed)
                return
        self._start(self._run_hook(event))

    def _refuse_before_hook(self, event: Request) -> Reply | None:
        """Refuse what no hook is asked about; a message is put into its envelope."""
        if isinstance(event, BodyEnd):
            by_chunks = self._connection.state is not State.DATA
            return (self.budget.command("BDAT") if by_chunks else None) or self._close_body()
        verb = event.verb if isinstance(event, Unknown) else type(event).__name__.upper()
        if isinstance(event, Unknown) and verb not in self.setup.verbs:
            return self.budget.command(verb) or replies.UNKNOWN_COMMAND
        return self.budget.command(verb)

    async def _run_hook(self, event: Request) -> None:
        try:
            answers = await answer(event, self)
        except asyncio.CancelledError:
            raise  # the session is being ended
        except BaseException:
            if current_task() is not None:
                self._drop()
            raise
        finally:
            self._errand_done()
        self._active = monotonic()
        try:
            self._conclude(event, answers)
        except Exception as error:  # of what a hook has left in the envelope
            self.log_failure(event, error)
            self.end_session(replies.CLOSING_FAILURE)
        if self._connection.state is State.AUTH:
            # The hook has ended while its 334 is unanswered: nobody will read the response.
            self._response = None
            self.end_session(replies.CLOSING_FAILURE)
        self._advance()

    def _conclude(self, event: Event, answers: Sequence[Reply]) -> None:
        """Send what is owed to ``event``, unless its hook has done so, or the client is gone."""
        connection = self._connection
        if self._telling and connection.reply_owed and isinstance(event, BodyEnd):
            octets = self._body.octets if self._body is not None else 0
            message_came(self.session, self.envelope, octets, answers)
        for reply in answers:
            if connection.reply_owed:
                self._reply(event, reply)

    def _reply(self, event: Event | None, reply: Reply) -> None:
        """Put a reply on the wire; nothing else does.

        Session and envelope follow what it says of ``event``; without one it ends the session.
        """
        connection = self._connection
        before = connection.state
        self._output.append(connection.send(reply))
        if self._observed:
            tell(self.setup.settings.observer, self.session, event, reply)
        if event is None:
            return
        record(event, reply, self.session, self.envelope)
        after = connection.state
        if after is not before:
            self._moved(event, before, after)
        elif isinstance(event, Mail) or (isinstance(event, Unknown) and event.verb == "MAIL"):
            self.envelope = Envelope()  # of a transaction that did not begin
        if reply.code >= 400 and not connection.reply_owed:  # once for all recipients of LMTP
            self._note_refusal(event, reply)
        if self._stopping:
            self._stop_if_idle()

    def _moved(self, event: Event, before: State, after: State) -> None:
        """Do what goes with the state in which the session is now."""
        if after is State.DATA:
            self._open_body()
        elif before in TRANSACTION and after not in TRANSACTION:
            self.envelope = Envelope()
            self._discard_body()
        elif after is State.CLOSED and isinstance(event, Quit):
            self._hang_up(linger=False)  # there is nothing that the client could still send
        elif after is State.TLS:
            self._flush()
            self._start_tls()

    def _note_refusal(self, event: Event, reply: Reply) -> None:
        auth = isinstance(event, Auth | AuthResponse)
        if not ((auth and reply.code in _VERDICTS) or isinstance(event, BodyEnd)):
            refused(self.session, event, reply)
        bad_auth = auth and reply.code // 100 == 5 and reply.code not in _VERDICTS
        not_taken = isinstance(event, Unknown) and reply in _NOT_TAKEN
        if isinstance(event, Refused) or not_taken or bad_auth:
            self._count_error()

    def _count_error(self) -> None:
        closing = self.budget.error()
        if closing is not None and self._connection.state is not State.CLOSED:
            refused(self.session, None, closing)
            self._reply(None, closing)

    def _stop_if_idle(self) -> None:
        if self._connection.state not in _NOT_TO_INTERRUPT and not self._connection.reply_owed:
            self._reply(None, replies.CLOSING_SHUTDOWN)
            self._hang_up(linger=False)
