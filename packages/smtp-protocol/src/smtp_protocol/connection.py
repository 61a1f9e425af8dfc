"""Connection: octets in, events out, replies in, octets out, and never an event while one is owed.

receive_data(octets)  receive_eof()     what came from the peer
next_event()                            what it means
send(reply)                             what to put on the wire; this moves the state
"""

from collections.abc import Callable, Mapping
from typing import Final

from smtp_protocol.body import BodyPolicy, DataReceiver
from smtp_protocol.buffer import ReceiveBuffer
from smtp_protocol.commands import (
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Unknown,
    Vrfy,
)
from smtp_protocol.config import MAX_COMMAND_LINE, ProtocolConfig
from smtp_protocol.events import (
    NEED_DATA,
    PAUSED,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Event,
    Refused,
    Signal,
)
from smtp_protocol.lines import LineReader
from smtp_protocol.parser import parse_command
from smtp_protocol.replies import ProtocolError, Reply
from smtp_protocol.state import Request, SessionState, State

__all__ = ["ServerConnection"]

_DEFAULT = ProtocolConfig()

# A verb that the server's author took over moves the state as the built-in one does.
_REQUESTS: Final[Mapping[str, Request]] = {
    command.__name__.upper(): command
    for command in (Data, Ehlo, Expn, Helo, Help, Mail, Noop, Quit, Rcpt, Rset, Vrfy)
}

# RFC 2034 §4 asks for an enhanced status in all replies but these.
_PLAIN_REPLIES: Final = frozenset({Connected, Ehlo, Helo})


class ServerConnection:
    """The server's side of one SMTP session, without I/O.

    You must give it whatever the peer sends (`receive_data`, then `receive_eof` once), ask
    `next_event` until it says NEED_DATA or PAUSED, and put on the wire whatever `send` returns.
    Each event but `BodyChunk` and `ConnectionClosed` is owed exactly one reply; until it is sent,
    `next_event` says PAUSED, which is what keeps pipelined commands in order (RFC 2920 §3.2).
    The first event is `Connected`, and the reply to it is the greeting.

    Args:
        config: What the server takes and offers.
    """

    def __init__(self, config: ProtocolConfig = _DEFAULT) -> None:
        self._config = config
        self._buffer = ReceiveBuffer()
        self._lines = LineReader(config.bare_newline)
        self._body = DataReceiver()
        self._policy = BodyPolicy(config)
        self._session = SessionState()
        self._eof = False
        # What is to be replied to, and the request that it moves the state as.
        self._owed: Event | None = None
        self._request: Request = Connected

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._session.current

    @property
    def extended(self) -> bool:
        """Whether the session was begun with EHLO."""
        return self._session.extended

    @property
    def reply_owed(self) -> bool:
        """Whether `send` is due before there is another event."""
        return self._owed is not None

    @property
    def buffered(self) -> int:
        """How many octets were received and not used yet. Stop reading when they grow."""
        return len(self._buffer)

    def receive_data(self, octets: bytes) -> None:
        """Take what the peer sent. After the session's end it is dropped."""
        if self._session.current is not State.CLOSED:
            self._buffer.feed(octets)

    def receive_eof(self) -> None:
        """Take that the peer sends nothing more. What came before is still worked through."""
        self._eof = True

    def next_event(self) -> Event | Signal:
        """Tell what the peer wants.

        Returns:
            The next event; NEED_DATA when there is none yet; PAUSED while a reply is owed;
            `ConnectionClosed`, again and again, when nothing more will come.
        """
        if self._owed is not None:
            return PAUSED
        read = _READERS[self._session.current]
        while (event := read(self)) is None:
            if not self._buffer.refill():
                if not self._eof:
                    return NEED_DATA
                self.close()
                return ConnectionClosed()
        return event

    def close(self) -> None:
        """End the session without a word, as when the connection is lost."""
        self._session.close()
        self._buffer.clear()
        self._owed = None

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
        event, request = self._owed, self._request
        if event is None and reply.code != 421:
            raise RuntimeError(f"no reply is owed, so {reply} cannot be sent")
        self._owed = None
        self._session.replied(event, request, reply)
        if request is Data and self._session.current is State.DATA:
            self._body = DataReceiver()
            self._policy = BodyPolicy(self._config)
        enhanced = "ENHANCEDSTATUSCODES" in self._config.extensions
        return reply.encode(enhanced=enhanced and request not in _PLAIN_REPLIES)

    def _ask(self, event: Event, request: Request) -> Event:
        self._owed = event
        self._request = request
        return event

    # The readers: each takes what it can from the buffer, and is asked again when it gives nothing
    # and more octets have come.

    def _read_nothing(self) -> Event:
        return self._ask(Connected(), Connected)

    def _read_command(self) -> Event | None:
        try:
            line = self._lines.read(self._buffer, MAX_COMMAND_LINE)
            if line is None:
                return None
            command = parse_command(line, self._config)
            request: Request = type(command)
            if isinstance(command, Unknown):
                request = _REQUESTS.get(command.verb, Unknown)
            self._session.check(command, request)
        except ProtocolError as error:
            return self._ask(Refused(error.reply), Refused)
        return self._ask(command, request)

    def _read_body(self) -> Event | None:
        body, policy, buffer = self._body, self._policy, self._buffer
        if not body.done:
            payload, buffer.position = body.receive(buffer.data, buffer.position)
            payload = policy.admit(payload)
            if payload:
                return BodyChunk(payload)
            if not body.done:
                return None
        if policy.refusal is not None:
            return self._ask(Refused(policy.refusal), BodyEnd)
        return self._ask(BodyEnd(), BodyEnd)

    def _read_no_more(self) -> Event:
        return ConnectionClosed()


_READERS: Final[Mapping[State, Callable[[ServerConnection], Event | None]]] = {
    State.CONNECTED: ServerConnection._read_nothing,
    State.GREETED: ServerConnection._read_command,
    State.READY: ServerConnection._read_command,
    State.MAIL: ServerConnection._read_command,
    State.RCPT: ServerConnection._read_command,
    State.DATA: ServerConnection._read_body,
    State.CLOSED: ServerConnection._read_no_more,
}
