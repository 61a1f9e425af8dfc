"""Serving: one client and one handler, octets in and octets out, under any kind of I/O."""

from __future__ import annotations

import inspect
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from smtp_protocol import commands, replies
from smtp_protocol.answers import Answer, replies_from, reply_from
from smtp_protocol.auth import AuthResult, Missing
from smtp_protocol.bookkeeping import forget_clear_text, record
from smtp_protocol.calls import AnswersCommands, Request, call_hook
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.connection import ServerConnection
from smtp_protocol.events import (
    AuthResponse,
    BodyChunk,
    BodyEnd,
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
from smtp_protocol.state import State

if TYPE_CHECKING:
    from smtp_protocol.sasl import Mechanism, Step

__all__ = ["HandlerConnection"]

#: Decides whether what a client has shown is right; plain or async.
Authenticator = Callable[
    [Server, Session, Envelope, str, object], AuthResult | Awaitable[AuthResult]
]

_DEFAULT = ProtocolConfig()
_IN_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA, State.CHUNKS})


class HandlerConnection(AnswersCommands):
    """Runs a handler for one client. The octets come and go as the caller likes.

    Give it what the client sends (`receive_data`, and `receive_eof` once), await `answers` after
    each, and send what that returns; it is what a hook sees as ``server``. Hooks are awaited in
    whatever event loop the caller runs: trio's, a thread's, a test's that has none. A hook's
    exception goes to ``handle_exception``, and its client gets the answer of that.

    Messages are gathered in memory, for ``handle_DATA``; ``handle_STREAM`` is not called. Time
    limits, and the TLS handshake, are the caller's.

    Args:
        handler: The object with the hooks.
        config: What the server takes and offers.
        hostname: What it calls itself.
        ident: What follows that in the greeting.
        peer: Who the client is.
        mechanisms: The built-in mechanisms that AUTH offers.
        authenticator: Decides on them, as a server's keyword of that name.
        tls: Whether the connection is inside TLS from its beginning.
        trusted: Whether XCLIENT and XFORWARD are taken from the peer.

    Attributes:
        session: The client's session.
        envelope: Its transaction.
        connection: The protocol engine.
        closed: Whether the session is over: close the connection.

    Raises:
        TypeError: The handler has a wrong hook.
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
    ) -> None:
        self.hooks = Hooks(handler)
        self.hostname = hostname
        self.ident = ident
        self.session = Session(peer)
        self.envelope = Envelope()
        self.connection = ServerConnection(config, tls=tls, trusted=trusted)
        self.closed = False
        self._config = config
        self._mechanisms = mechanisms
        self._authenticator = authenticator
        self._tls = tls
        self._trusted = trusted
        self._output: list[bytes] = []
        self._event: Event = ConnectionClosed()
        self._body = BytesIO()

    # The exchange of AUTH that is going on.
    _mechanism: Mechanism
    _mechanism_name: str

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
        """
        while True:
            event = self.connection.next_event()
            if isinstance(event, Signal):
                break  # more octets are needed, or the handshake
            if isinstance(event, ConnectionClosed):
                self.closed = True
                break
            if isinstance(event, BodyChunk):
                self._body.write(event.data)
            else:
                await self._answer(event)
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    @property
    def needs_tls(self) -> bool:
        """Whether the client is about to begin the handshake, after STARTTLS."""
        return self.connection.state is State.TLS

    async def tls_started(self) -> None:
        """Go on inside TLS, after the handshake (RFC 3207 §4.2)."""
        forget_clear_text(self.session)
        self.envelope = Envelope()
        self._tls = True
        accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
        good = await accepted if inspect.isawaitable(accepted) else accepted
        self.connection.tls_started()
        if not good:
            self.connection.tls_refused()

    # From an event to its replies.

    async def _answer(self, event: Event) -> None:
        self._event = event
        try:
            answers = await self._replies(event)
        except Exception as error:
            answers = [await self._failed(error)] * self.connection.replies_owed
        for reply in answers:
            if self.connection.reply_owed:
                self._send(event, reply)

    async def _replies(self, event: Event) -> list[Reply]:
        owed = self.connection.replies_owed
        match event:
            case Refused(reply):
                return [reply] * owed
            case AuthResponse(data):
                return [await self._next_step(lambda: self._mechanism.respond(data))]
            case BodyEnd():
                places, number = self.envelope.places(), len(self.envelope.rcpt_tos)
                result = await call_hook(event, self)
                if not self._config.lmtp:
                    return replies_from(result, owed)
                return replies_from(result, owed, places=places, number=number)
        assert isinstance(event, Request)
        return [reply_from(await call_hook(event, self))]

    async def _failed(self, error: Exception) -> Reply:
        try:
            return reply_from(await self.hooks.handle_exception(error))
        except Exception:
            return replies.LOCAL_ERROR

    def _send(self, event: Event, reply: Reply) -> None:
        self._output.append(self.connection.send(reply))
        record(event, reply, self.session, self.envelope)
        if self.connection.state not in _IN_TRANSACTION:
            self.envelope = Envelope()
            self._body = BytesIO()

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
        self._send(self._event, reply_from(answer))

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
        self.envelope.content = self._body.getvalue()
        return self.hooks.handle_DATA(self, self.session, self.envelope)

    async def own_command(self, verb: str, arg: str | None) -> Answer:
        """There are no commands of one's own here."""
        return replies.UNKNOWN_COMMAND

    async def authenticate(self, event: commands.Auth) -> Reply:
        """Begin with a mechanism, which each response brings one step on."""
        from smtp_protocol import MECHANISMS  # noqa: PLC0415 with cryptography, so late

        if event.mechanism not in self._mechanisms:
            return replies.UNKNOWN_MECHANISM
        self._mechanism = MECHANISMS[event.mechanism]()
        self._mechanism_name = event.mechanism
        return await self._next_step(lambda: self._mechanism.start(event.initial_response))

    async def conclude(self, event: commands.Auth, reply: Reply) -> Reply:
        """Take the verdict of ``handle_AUTH``."""
        return reply

    async def _next_step(self, take: Callable[[], Step]) -> Reply:
        from smtp_protocol import Ask, Challenge  # noqa: PLC0415 as above

        try:
            step = take()
            while isinstance(step, Ask):
                step = self._mechanism.resolve(await self._ask(step.auth_data))
        except ProtocolError as error:
            return error.reply
        except Exception:
            return replies.TEMPORARY_AUTH_FAILURE
        if isinstance(step, Challenge):
            return Reply(334, (b64encode(step.data).decode(),))
        self.session.auth_data = step.result.auth_data if step.result.success else None
        return replies.AUTH_OK if step.result.success else replies.AUTH_FAILED

    async def _ask(self, auth_data: object) -> AuthResult:
        if self._authenticator is None:
            return AuthResult(success=False)
        result = self._authenticator(
            self, self.session, self.envelope, self._mechanism_name, auth_data
        )
        return await result if inspect.isawaitable(result) else result
