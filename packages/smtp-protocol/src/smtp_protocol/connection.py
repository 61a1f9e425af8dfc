"""Connection: the engine of one session. Octets go in and events come out, replies in, octets out.

receive_data(octets)  receive_eof()     what came from the peer
next_event()                            what it means
send(reply)                             what to put on the wire; this moves the state
tls_started()                           after STARTTLS and the handshake
"""

from collections.abc import Callable, Mapping
from typing import Final

from smtp_protocol import commands, replies
from smtp_protocol.body import BodyPolicy, ChunkReceiver, DataReceiver
from smtp_protocol.buffer import ReceiveBuffer
from smtp_protocol.commands import Bdat, Expn, Mail, Quit, StartTls, Unknown, Vrfy
from smtp_protocol.config import MAX_AUTH_LINE, MAX_COMMAND_LINE, ProtocolConfig
from smtp_protocol.encodings import decode_base64
from smtp_protocol.events import (
    NEED_DATA,
    PAUSED,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Event,
    Refused,
    Signal,
)
from smtp_protocol.lines import LineReader
from smtp_protocol.parser import parse_command, verb_of
from smtp_protocol.replies import ParameterError, ProtocolError, Reply
from smtp_protocol.state import TRANSACTION, Request, SessionState, State

__all__ = ["ServerConnection"]

_DEFAULT = ProtocolConfig()

# What stands for a body before there is one.
_NO_BDAT = Bdat(0)
_NO_CHUNK = ChunkReceiver(0)
_NO_POLICY = BodyPolicy(_DEFAULT)

# A verb that the server's author took over moves the state as the built-in one does. Not so those
# after which something else than command lines would come, or somebody else's session.
_TAKEN_OVER: Final[Mapping[str, Request]] = {
    verb: command
    for verb, command in commands.BY_VERB.items()
    if verb not in ("AUTH", "BDAT", "STARTTLS", "XCLIENT", "XFORWARD")
}

# RFC 2034 §4 asks for an enhanced status in all replies but these.
_PLAIN_REPLIES: Final = frozenset(
    {Connected, commands.Ehlo, commands.Helo, commands.Lhlo, commands.Xclient}
)

_BACKSLASH: Final = ord("\\")


class ServerConnection:
    """The server's side of one SMTP or LMTP session, without I/O.

    You must give it whatever the peer sends (`receive_data`, then `receive_eof` once), ask
    `next_event` until it says NEED_DATA or PAUSED, and put on the wire whatever `send` returns.
    Each event but `BodyChunk` and `ConnectionClosed` is owed one reply (in LMTP, `BodyEnd` one for
    each recipient); until it is sent, `next_event` says PAUSED, which is what keeps pipelined
    commands in order (RFC 2920 §3.2). The first event is `Connected`, and the reply to it is the
    greeting. After a positive reply to `StartTls` the octets that come are not for the engine,
    which is PAUSED until `tls_started` is called.

    Args:
        config: What the server takes and offers.
        tls: Whether the connection is inside TLS from its beginning.
        trusted: Whether the peer may use XCLIENT and XFORWARD.

    Attributes:
        state: Where the session is. It is for reading.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunk",
        "_chunk_error",
        "_config",
        "_enhanced",
        "_eof",
        "_event",
        "_lines",
        "_owed",
        "_policy",
        "_read",
        "_request",
        "_session",
        "_smtputf8",
        "state",
    )

    def __init__(
        self, config: ProtocolConfig = _DEFAULT, *, tls: bool = False, trusted: bool = False
    ) -> None:
        self._config = config
        self._buffer = ReceiveBuffer()
        self._lines = LineReader(config.bare_newline)
        self._body: DataReceiver | ChunkReceiver = _NO_CHUNK
        self._policy = _NO_POLICY
        self._session = SessionState(config, tls=tls, trusted=trusted)
        self._enhanced = "ENHANCEDSTATUSCODES" in config.offered
        self._smtputf8 = "SMTPUTF8" in config.extensions
        self._eof = False
        self.state: State = self._session.current
        self._read = _READERS[self.state]
        # What is to be replied to, how often, and the request that it moves the state as.
        self._event: Event | None = None
        self._owed = 0
        self._request: Request = Connected
        # The chunk that is being read, and why it is refused.
        self._chunk = _NO_BDAT
        self._chunk_error: ProtocolError | None = None

    @property
    def extended(self) -> bool:
        """Whether the session was begun with EHLO or LHLO."""
        return self._session.extended

    @property
    def reading_body(self) -> bool:
        """Whether the octets that come next are the message's."""
        return self._read in (ServerConnection._read_body, ServerConnection._read_chunk)

    @property
    def authenticated(self) -> bool:
        """Whether AUTH succeeded."""
        return self._session.authenticated

    @property
    def reply_owed(self) -> bool:
        """Whether `send` is due before there is another event."""
        return self._owed > 0

    @property
    def replies_owed(self) -> int:
        """How many times `send` is due before there is another event."""
        return self._owed

    @property
    def buffered(self) -> int:
        """How many octets were received and not used yet. Stop reading when they grow."""
        return len(self._buffer)

    def receive_data(self, octets: bytes) -> None:
        """Take what the peer sent. After the session's end it is dropped."""
        if self.state is not State.CLOSED:
            self._buffer.feed(octets)

    def receive_eof(self) -> None:
        """Take that the peer sends nothing more. What came before is still worked through."""
        self._eof = True

    def next_event(self) -> Event | Signal:
        """Tell what the peer wants.

        Returns:
            The next event; NEED_DATA when there is none yet; PAUSED while a reply is owed or a
            TLS handshake awaited; `ConnectionClosed`, again and again, when nothing more will
            come.
        """
        if self._owed or self.state is State.TLS:
            return PAUSED
        while (event := self._read(self)) is None:
            # All that was within reach is used up.
            if self._buffer.behind:
                self._buffer.refill()
            elif not self._eof:
                return NEED_DATA
            else:
                self.close()
        return event

    def send(self, reply: Reply) -> bytes:
        """Answer the event that is owed a reply.

        A 421 may be sent at any time, and ends the session (RFC 5321 §3.8).

        Args:
            reply: The answer.

        Returns:
            The octets to put on the wire.

        Raises:
            RuntimeError: No reply is owed.
        """
        event, request, state = self._event, self._request, self.state
        if self._owed > 1 and reply.code != 421:
            self._owed -= 1
        elif self._owed or reply.code == 421:
            self._owed = 0
            self._event = None
            self._session.replied(event, request, reply)
            if type(event) is Refused and event.closing:
                self._session.close()
            if self._session.current is not self.state:
                self._enter(request)
        else:
            raise RuntimeError(f"no reply is owed, so {reply} cannot be sent")
        enhanced = self._enhanced and request not in _PLAIN_REPLIES
        octets = reply.encode(enhanced=enhanced)
        # Only what is beyond ASCII differs in UTF-8, and is escaped with a backslash here.
        if self._smtputf8 and _BACKSLASH in octets and self._reads_utf8(event, state):
            return reply.encode(enhanced=enhanced, utf8=True)
        return octets

    def _reads_utf8(self, event: Event | None, state: State) -> bool:
        """Whether the client has said that it can read a reply in UTF-8 (RFC 6531 §3.7.4.2)."""
        if type(event) is Mail:
            return event.options.smtputf8
        if (type(event) is Vrfy or type(event) is Expn) and event.smtputf8:
            return True
        return state in TRANSACTION and self._session.options.smtputf8

    def tls_started(self) -> None:
        """Begin anew inside TLS: what was said in the clear is forgotten (RFC 3207 §4.2).

        Raises:
            RuntimeError: STARTTLS was not accepted before.
        """
        if self._session.current is not State.TLS:
            raise RuntimeError("TLS starts after a positive reply to STARTTLS")
        self._session.tls_started()
        self._buffer.clear()
        self._lines = LineReader(self._config.bare_newline)
        self._enter(StartTls)

    def tls_refused(self) -> None:
        """Answer 554 to all but QUIT from now on, for TLS is not good enough (RFC 3207 §4.1)."""
        self._session.tls_refused()
        self._enter(StartTls)

    def close(self) -> None:
        """End the session without a word, as when the connection is lost."""
        self._session.close()
        self._owed = 0
        self._enter(Quit)

    def _enter(self, request: Request) -> None:
        """Get ready for what the state, reached by ``request``, lets come."""
        self.state = state = self._session.current
        self._read = _READERS[state]
        if state is State.DATA:
            self._body = DataReceiver()
            self._policy = BodyPolicy(self._config)
        elif state is State.CLOSED or (state is State.TLS and request is StartTls):
            # RFC 3207 §4.2: what was pipelined behind STARTTLS is not to be trusted.
            self._buffer.clear()

    def _ask(self, event: Event, request: Request, times: int = 1) -> Event:
        self._event = event
        self._request = request
        self._owed = times
        return event

    # The readers: each takes what it can from the buffer, and is asked again when it gives nothing
    # and more octets have come.

    def _read_nothing(self) -> Event:
        return self._ask(Connected(), Connected)

    def _read_command(self) -> Event | None:
        buffer = self._buffer
        if buffer.position == len(buffer.data):
            return None
        line: bytes | None = b""
        try:
            line = self._lines.read(buffer, MAX_COMMAND_LINE)
            if line is None:
                return None
            command = parse_command(line, self._config)
            request: Request = type(command)
            if type(command) is Unknown and command.verb in self._config.own_verbs:
                request = _TAKEN_OVER.get(command.verb, Unknown)
            elif type(command) is Bdat:
                self._begin_chunk(command)
                return self._read_chunk()  # the chunk may be empty
            self._session.check(command, request)
        except ProtocolError as error:
            return self._ask(self._refusal(error, line or b""), Refused)
        return self._ask(command, request)

    def _refusal(self, error: ProtocolError, line: bytes) -> Refused:
        """Tell what is wrong with the command in ``line``."""
        verb = verb_of(line)
        if verb and error.reply.code != 421:
            # RFC 3207 §4: before STARTTLS 530 is the answer to malformed commands, too.
            try:
                self._session.check_permission(commands.BY_VERB.get(verb, Unknown))
            except ProtocolError as permission:
                return Refused(permission.reply, error.closing, verb)
        if isinstance(error, ParameterError) and not self._session.extended:
            # RFC 5321 §4.1.1.1: after HELO there are no parameters, and so no right ones.
            return Refused(replies.NO_PARAMETERS, verb=verb)
        return Refused(error.reply, error.closing, verb)

    def _read_response(self) -> Event | None:
        try:
            line = self._lines.read(self._buffer, MAX_AUTH_LINE)
            if line is None:
                return None
            if line == b"*":
                # RFC 4954 §4: the client gives up.
                raise ProtocolError(replies.AUTH_CANCELLED)
            return self._ask(AuthResponse(decode_base64(line)), AuthResponse)
        except ProtocolError as error:
            return self._ask(Refused(error.reply), AuthResponse)

    def _read_body(self) -> Event | None:
        body, policy, buffer = self._body, self._policy, self._buffer
        if not body.done:
            if buffer.position == len(buffer.data):
                return None
            payload, buffer.position = body.receive(buffer.data, buffer.position)
            payload = policy.admit(payload)
            if payload:
                return BodyChunk(payload)
            if not body.done:
                return None
        return self._end_body(policy.refusal)

    def _end_body(self, refusal: Reply | None, verb: str = "") -> Event:
        # RFC 2033 §4.2: in LMTP each recipient has an answer of its own.
        times = self._session.recipients if self._config.lmtp else 1
        return self._ask(Refused(refusal, verb=verb) if refusal else BodyEnd(), BodyEnd, times)

    def _begin_chunk(self, chunk: Bdat) -> None:
        """Read the chunk's octets, which come even when it cannot be taken (RFC 3030 §2)."""
        self._chunk = chunk
        self._chunk_error = None
        self._body = ChunkReceiver(chunk.size)
        self._read = ServerConnection._read_chunk
        try:
            if "CHUNKING" not in self._config.extensions:
                self._session.check_permission(Bdat)
                raise ProtocolError(replies.NOT_IMPLEMENTED)
            self._session.check(chunk, Bdat)
        except ProtocolError as error:
            self._chunk_error = error
            return
        if self._session.current is State.RCPT:
            self._policy = BodyPolicy(self._config, binary=True)

    def _read_chunk(self) -> Event | None:
        body, buffer = self._body, self._buffer
        if not body.done:
            payload, buffer.position = body.receive(buffer.data, buffer.position)
            payload = b"" if self._chunk_error else self._policy.admit(payload)
            if payload:
                return BodyChunk(payload)
            if not body.done:
                return None
        self._read = _READERS[self.state]
        if self._chunk_error:
            return self._ask(Refused(self._chunk_error.reply, verb="BDAT"), Refused)
        if self._chunk.last:
            return self._end_body(self._policy.refusal, "BDAT")
        if self._policy.refusal:
            return self._ask(Refused(self._policy.refusal, verb="BDAT"), Bdat)
        return self._ask(self._chunk, Bdat)

    def _read_no_more(self) -> Event:
        return ConnectionClosed()


_READERS: Final[Mapping[State, Callable[[ServerConnection], Event | None]]] = {
    State.CONNECTED: ServerConnection._read_nothing,
    State.GREETED: ServerConnection._read_command,
    State.READY: ServerConnection._read_command,
    State.MAIL: ServerConnection._read_command,
    State.RCPT: ServerConnection._read_command,
    State.DATA: ServerConnection._read_body,
    State.CHUNKS: ServerConnection._read_command,
    State.AUTH: ServerConnection._read_response,
    State.TLS: ServerConnection._read_no_more,
    State.UNTRUSTED: ServerConnection._read_command,
    State.CLOSED: ServerConnection._read_no_more,
}
