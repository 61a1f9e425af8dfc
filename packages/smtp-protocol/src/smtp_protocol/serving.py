"""Serving: one client and one handler, octets in and octets out, under any kind of I/O."""

import inspect
from base64 import b64encode
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Literal

from smtp_protocol import commands, replies
from smtp_protocol.answers import Answer, auth_reply, replies_from, reply_from
from smtp_protocol.auth import (
    BUILT_IN,
    Ask,
    AuthResult,
    Challenge,
    Mechanism,
    Missing,
    Step,
    decided,
)
from smtp_protocol.bookkeeping import forget_clear_text, record
from smtp_protocol.calls import AnswersCommands, Request, call_hook
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.connection import ServerConnection
from smtp_protocol.events import (
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Event,
    Refused,
    Signal,
)
from smtp_protocol.extensions import ehlo_keywords
from smtp_protocol.handler import AnyHandler, Server
from smtp_protocol.hooks import Hooks
from smtp_protocol.parser import syntaxes
from smtp_protocol.replies import ProtocolError, Reply
from smtp_protocol.session import Envelope, Peer, Session
from smtp_protocol.state import TRANSACTION, State

__all__ = ["HandlerConnection"]

#: Decides whether what a client has shown is right; plain or async.
Authenticator = Callable[
    [Server, Session, Envelope, str, object], AuthResult | Awaitable[AuthResult]
]

_DEFAULT = ProtocolConfig()


class HandlerConnection(AnswersCommands):
    """Runs a handler for one client, without input or output; a hook sees it as ``server``.

    Give it what the client sends (`receive_data`, and `receive_eof` once), await `answers` at the
    beginning and after each, and send what that returns, until `closed`; then await `aclose`. The
    hooks run where the caller awaits: in trio, in a thread, or in a test without an event loop.

    What is the caller's: time limits, TLS, the PROXY header, and counting what a client may do
    only so often. A message is gathered in memory; ``handle_STREAM`` gets it when it is complete.

    Args:
        handler: The object with the hooks.
        config: What the server takes and offers.
        hostname: What it calls itself.
        ident: What follows that in the greeting.
        peer: Who the client is.
        mechanisms: The built-in mechanisms that AUTH offers, by name.
        authenticator: Who decides about what they ask; without one every client is refused.
        tls: Whether the connection is inside TLS from its beginning.
        trusted: Whether XCLIENT and XFORWARD are taken from the peer.
        on_failure: Is called with what a hook or the authenticator raised, for a log.

    Attributes:
        session: The client's session.
        envelope: Its transaction.
        connection: The protocol engine. To end the session with a 421, send its ``send(reply)``.

    Raises:
        TypeError: The handler has a wrong hook.
        ValueError: A mechanism is not built in, or the configuration has no AUTH for it.
    """

    def __init__(
        self,
        handler: AnyHandler,
        config: ProtocolConfig = _DEFAULT,
        *,
        hostname: str = "localhost",
        ident: str = "SMTP",
        peer: Peer = None,
        mechanisms: Sequence[str] = (),
        authenticator: Authenticator | None = None,
        tls: bool = False,
        trusted: bool = False,
        on_failure: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        _check_mechanisms(mechanisms, config)
        self.hooks: Hooks = Hooks(handler)
        self.hostname: str = hostname
        self.ident: str = ident
        self.session: Session = Session(peer)
        self.envelope: Envelope = Envelope()
        self.connection: ServerConnection = ServerConnection(config, tls=tls, trusted=trusted)
        self._config = config
        self._mechanisms = mechanisms
        self._authenticator = authenticator
        self._tls = tls
        self._trusted = trusted
        self._on_failure = on_failure
        self._output: list[bytes] = []
        self._body: list[bytes] = []
        # What is being answered, and whether the handler is yet to be told of the session's end.
        self._event: Event = Connected()
        self._connected = False
        # The exchange of AUTH that is going on, and its name.
        self._mechanism: Mechanism | None = None
        self._mechanism_name = ""

    # What the caller does.

    def receive_data(self, octets: bytes) -> None:
        """Take what the client sent."""
        self.connection.receive_data(octets)

    def receive_eof(self) -> None:
        """Take that the client sends nothing more."""
        self.connection.receive_eof()

    async def answers(self) -> bytes:
        """Have everything answered that has come.

        Returns:
            The octets to send; ``b""`` when nothing is to be said.

        Raises:
            BaseException: A hook raised what is no `Exception`, such as a cancellation. Its client
                is still owed a reply, so close the connection.
        """
        while not isinstance(event := self.connection.next_event(), Signal | ConnectionClosed):
            if isinstance(event, BodyChunk):
                self._body.append(event.data)
            else:
                await self._answer(event)
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    @property
    def closed(self) -> bool:
        """Whether the session is over: send what there is to send, and close the connection."""
        return self.connection.state is State.CLOSED

    @property
    def needs_tls(self) -> bool:
        """Whether STARTTLS was accepted: do the handshake, and call `tls_started`."""
        return self.connection.state is State.TLS

    async def tls_started(self) -> None:
        """Go on inside TLS, after the handshake (RFC 3207 §4.2).

        Raises:
            RuntimeError: STARTTLS was not accepted before.
        """
        self.connection.tls_started()
        self._tls = True
        forget_clear_text(self.session)
        self.envelope = Envelope()
        try:
            accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
            good = decided(await accepted if inspect.isawaitable(accepted) else accepted)
        except Exception as error:
            self._on_failure(error)
            good = False
        if not good and not self.closed:
            self.connection.tls_refused()

    async def aclose(self) -> None:
        """Tell the handler that the connection is gone, if it was told that there is one."""
        self.connection.close()
        if self._connected:
            self._connected = False
            try:
                await self.hooks.handle_DISCONNECT(self, self.session)
            except Exception as error:
                self._on_failure(error)

    # From an event to its replies.

    async def _answer(self, event: Event) -> None:
        self._event = event
        self._connected |= isinstance(event, Connected)
        try:
            answers = await self._replies(event)
        except Exception as error:
            answers = [await self._answer_failure(error)] * self.replies_owed
        try:
            for reply in answers:
                if self.connection.reply_owed:
                    self._send(event, reply)
        except Exception as error:  # of what a hook has left in the envelope
            self._on_failure(error)
            self._output.append(self.connection.send(replies.CLOSING_FAILURE))

    async def _replies(self, event: Event) -> Sequence[Reply]:
        match event:
            case Refused(reply):
                return [reply] * self.replies_owed
            case AuthResponse(data):
                return [await self._next_step(lambda mechanism: mechanism.respond(data))]
        assert isinstance(event, Request)
        result = await call_hook(event, self)
        if isinstance(event, BodyEnd):
            envelope = self.envelope if self._config.lmtp else None
            return replies_from(result, self.replies_owed, envelope)
        return [reply_from(result)]

    async def _answer_failure(self, error: Exception) -> Reply:
        self._on_failure(error)
        try:
            return reply_from(await self.hooks.handle_exception(error))
        except Exception as second:
            self._on_failure(second)
            return replies.LOCAL_ERROR

    def _send(self, event: Event, reply: Reply) -> None:
        before = self.connection.state
        self._output.append(self.connection.send(reply))
        record(event, reply, self.session, self.envelope)
        ends = before in TRANSACTION or isinstance(event, commands.Mail)
        if ends and self.connection.state not in TRANSACTION:
            self.envelope = Envelope()
            self._body = []

    # What a hook sees, beyond the attributes.

    @property
    def data_size_limit(self) -> int | None:
        """The largest message in octets; ``None`` or 0 for no limit."""
        return self._config.data_size_limit

    @property
    def enable_SMTPUTF8(self) -> bool:
        """Whether SMTPUTF8 is offered."""
        return "SMTPUTF8" in self._config.extensions

    @property
    def syntaxes(self) -> Mapping[str, str]:
        """The form of each command that the server takes, by its verb."""
        return syntaxes(self._config)

    async def push(self, answer: Answer) -> None:
        """Answer now; what the hook returns is then not sent.

        Raises:
            ValueError: The text is no reply.
            RuntimeError: The command was answered already.
        """
        reply = reply_from(answer)
        if not self.closed:
            self._send(self._event, reply)

    def hang_up(self) -> None:
        """End the session without a word: `answers` returns what was answered before, and no more.

        The transaction is gone; what the hook returns is not sent.
        """
        self.connection.close()
        self.envelope = Envelope()
        self._body = []

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        """Not to be had here: nothing is read while a hook waits.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a mechanism of one's own needs a server that reads")

    # What the calls need of a server.

    @property
    def replies_owed(self) -> int:
        """How many replies the event that is being answered still needs."""
        return self.connection.replies_owed

    def ehlo_lines(self) -> Sequence[str]:
        """The lines of the reply to EHLO."""
        keywords = ehlo_keywords(
            self._config, tls=self._tls, trusted=self._trusted, mechanisms=self._mechanisms
        )
        return [self.hostname, *keywords]

    def body_result(self) -> Coroutine[object, None, object]:
        """Have the message handled."""
        stream = self.hooks.stream
        if stream is not None:
            chunks = _Chunks(self._body)
            return stream.handle_STREAM(self, self.session, self.envelope, chunks)
        self.envelope.content = b"".join(self._body)
        return self.hooks.handle_DATA(self, self.session, self.envelope)

    async def own_command(self, verb: str, arg: str | None) -> Answer:
        """There are no commands of one's own here."""
        return replies.UNKNOWN_COMMAND

    async def authenticate(self, event: commands.Auth) -> Reply:
        """Begin with a mechanism, which each response brings one step on."""
        from smtp_protocol.sasl import MECHANISMS  # noqa: PLC0415 with cryptography, so late

        if event.mechanism not in self._mechanisms:
            return replies.UNKNOWN_MECHANISM
        self._mechanism = MECHANISMS[event.mechanism]()
        self._mechanism_name = event.mechanism
        return await self._next_step(lambda mechanism: mechanism.start(event.initial_response))

    async def conclude(self, event: commands.Auth, reply: Reply) -> Reply:
        """Take the verdict of ``handle_AUTH``.

        Raises:
            ValueError: It is none, but a challenge.
        """
        if reply.code // 100 == 3:
            raise ValueError(f"{reply} is no verdict; `mechanisms` have challenges")
        return reply

    async def _next_step(self, take: Callable[[Mechanism], Step]) -> Reply:
        mechanism, shown = self._mechanism, None
        assert mechanism is not None, "AUTH has begun with one"
        try:
            step = take(mechanism)
            while isinstance(step, Ask):
                shown = step.auth_data
                step = mechanism.resolve(await self._decide(shown))
            if isinstance(step, Challenge):
                return Reply(334, (b64encode(step.data).decode(),))
            result = step.result
            reply = auth_reply(result)
        except ProtocolError as error:
            return error.reply
        except Exception as error:
            self._on_failure(error)
            return replies.TEMPORARY_AUTH_FAILURE
        if result.success:
            self.session.auth_data = shown if result.auth_data is None else result.auth_data
        return reply

    async def _decide(self, shown: object) -> AuthResult:
        if self._authenticator is None:
            return AuthResult(success=False)
        name = self._mechanism_name
        result = self._authenticator(self, self.session, self.envelope, name, shown)
        return await result if inspect.isawaitable(result) else result


class _Chunks(AsyncIterator[bytes]):
    """The ``chunks`` of a message that has come already."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = deque(parts)

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.popleft()


def _check_mechanisms(names: Sequence[str], config: ProtocolConfig) -> None:
    if names and not config.auth:
        raise ValueError("mechanisms need a configuration with auth=True")
    for name in names:
        if name not in BUILT_IN:
            raise ValueError(f"{name!r} is none of the mechanisms {', '.join(BUILT_IN)}")
