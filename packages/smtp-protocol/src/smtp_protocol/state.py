"""State: rule 1, whatever moves the state of a session is here, and most of it in one table."""

from collections.abc import Mapping
from enum import Enum

from smtp_protocol import replies
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
from smtp_protocol.events import BodyEnd, Connected, Event
from smtp_protocol.replies import ProtocolError, Reply

__all__ = ["State"]


class State(Enum):
    """Where a session is."""

    #: The greeting is owed.
    CONNECTED = "connected"
    #: Greeted, but no HELO or EHLO yet.
    GREETED = "greeted"
    #: No mail transaction.
    READY = "ready"
    #: A transaction without a recipient.
    MAIL = "mail"
    #: A transaction with at least one recipient.
    RCPT = "rcpt"
    #: The octets that come are the message.
    DATA = "data"
    #: Nothing more is read or sent.
    CLOSED = "closed"


#: What asks for a reply: a command, the connection itself, or the end of a message.
Request = type[Event]

#: State and what asks for a reply → the state after a positive one. An absent entry is the 503.
TRANSITIONS: Mapping[State, Mapping[Request, State]] = {
    State.CONNECTED: {
        Connected: State.GREETED,
    },
    State.GREETED: {
        Ehlo: State.READY,
        Helo: State.READY,
        # RFC 5321 §4.1.4: these can be used without a session having been initialized.
        Rset: State.GREETED,
        Noop: State.GREETED,
        Vrfy: State.GREETED,
        Expn: State.GREETED,
        Help: State.GREETED,
        Unknown: State.GREETED,
        Quit: State.CLOSED,
    },
    State.READY: {
        Ehlo: State.READY,
        Helo: State.READY,
        Mail: State.MAIL,
        Rset: State.READY,
        Noop: State.READY,
        Vrfy: State.READY,
        Expn: State.READY,
        Help: State.READY,
        Unknown: State.READY,
        Quit: State.CLOSED,
    },
    State.MAIL: {
        Ehlo: State.READY,
        Helo: State.READY,
        Rcpt: State.RCPT,
        Rset: State.READY,
        Noop: State.MAIL,
        Vrfy: State.MAIL,
        Expn: State.MAIL,
        Help: State.MAIL,
        Unknown: State.MAIL,
        Quit: State.CLOSED,
    },
    State.RCPT: {
        Ehlo: State.READY,
        Helo: State.READY,
        Rcpt: State.RCPT,
        Data: State.DATA,
        Rset: State.READY,
        Noop: State.RCPT,
        Vrfy: State.RCPT,
        Expn: State.RCPT,
        Help: State.RCPT,
        Unknown: State.RCPT,
        Quit: State.CLOSED,
    },
    State.DATA: {
        BodyEnd: State.READY,
    },
    State.CLOSED: {},
}

#: The few that move the state when the reply is negative, too.
REFUSED_TRANSITIONS: Mapping[State, Mapping[Request, State]] = {
    # RFC 5321 §3.1: after a greeting of 554, or of 4yz, there is no session.
    State.CONNECTED: {Connected: State.CLOSED},
    # RFC 5321 §4.1.1.4: the end of the data ends the transaction, whatever the answer.
    State.DATA: {BodyEnd: State.READY},
}


class SessionState:
    """The state of one session.

    Attributes:
        current: Where it is.
        extended: Whether it was begun with EHLO, so that parameters can be used.
        smtputf8: Whether the transaction was begun with SMTPUTF8.
    """

    __slots__ = ("current", "extended", "smtputf8")

    def __init__(self) -> None:
        self.current = State.CONNECTED
        self.extended = False
        self.smtputf8 = False

    def check(self, event: Event, request: Request) -> None:
        """See whether ``event``, which moves as ``request`` does, may come now.

        Raises:
            ProtocolError: It may not: 503, or what its own rule says.
        """
        if request not in TRANSITIONS[self.current]:
            raise ProtocolError(replies.BAD_SEQUENCE)
        if isinstance(event, Mail | Rcpt):
            if event.options and not self.extended:
                raise ProtocolError(replies.NO_PARAMETERS)
            if isinstance(event, Rcpt) and not (event.address.isascii() or self.smtputf8):
                raise ProtocolError(replies.NEEDS_SMTPUTF8)

    def replied(self, event: Event | None, request: Request, reply: Reply) -> None:
        """Move as ``reply`` to ``event`` says."""
        if reply.code == 421:
            # RFC 5321 §3.8: the server closes the connection after it.
            self.current = State.CLOSED
            return
        if not reply.positive:
            row = REFUSED_TRANSITIONS.get(self.current, {})
            self.current = row.get(request, self.current)
            return
        if request is Data and reply.code != 354:
            return  # RFC 5321 §4.1.1.4: nothing else makes the client send the message
        self.current = TRANSITIONS[self.current][request]
        if request is Ehlo or request is Helo:
            self.extended = request is Ehlo
        elif isinstance(event, Mail):
            self.smtputf8 = event.options.smtputf8

    def close(self) -> None:
        """Nothing more is read or sent."""
        self.current = State.CLOSED
