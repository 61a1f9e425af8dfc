"""State: where a session is, and whatever moves it from one state to another, as tables."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from smtp_protocol import commands, replies
from smtp_protocol.addresses import domain_of
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.events import AuthResponse, BodyEnd, Connected, Event
from smtp_protocol.options import MailOptions
from smtp_protocol.replies import ProtocolError, Reply

__all__ = ["State"]


class State(StrEnum):  # its hash is a str's: the tables below are looked into at every command
    """Where a session is."""

    #: The greeting is owed.
    CONNECTED = "connected"
    #: Greeted, but no HELO, EHLO or LHLO yet.
    GREETED = "greeted"
    #: No mail transaction.
    READY = "ready"
    #: A transaction without a recipient.
    MAIL = "mail"
    #: A transaction with at least one recipient.
    RCPT = "rcpt"
    #: The octets that come are the message.
    DATA = "data"
    #: A message has come in part, by BDAT.
    CHUNKS = "chunks"
    #: A challenge of AUTH waits for its response.
    AUTH = "auth"
    #: The octets that come are TLS, which is not ours.
    TLS = "tls"
    #: TLS was not to the server's liking: QUIT is left.
    UNTRUSTED = "untrusted"
    #: Nothing more is read or sent.
    CLOSED = "closed"


#: Where a transaction is going on, with the parameters of its MAIL.
TRANSACTION: Final = frozenset({State.MAIL, State.RCPT, State.DATA, State.CHUNKS})

#: What asks for a reply: a command, the connection itself, a response, the end of a message.
Request = type[Event]


def _staying(state: State) -> Mapping[Request, State]:
    """What can be asked at any time and moves nothing (RFC 5321 §4.1.4)."""
    return dict.fromkeys(
        (commands.Noop, commands.Vrfy, commands.Expn, commands.Help, commands.Unknown), state
    )


_GREETINGS: Mapping[Request, State] = {
    commands.Ehlo: State.READY,
    commands.Helo: State.READY,
    commands.Lhlo: State.READY,
}

#: State and what asks for a reply: the state after one of 2yz. What stands neither here nor in
#: the next table is answered 503.
TRANSITIONS: Mapping[State, Mapping[Request, State]] = {
    State.CONNECTED: {
        Connected: State.GREETED,
    },
    State.GREETED: {
        **_staying(State.GREETED),
        **_GREETINGS,
        commands.Rset: State.GREETED,
        commands.Xclient: State.GREETED,
        commands.Quit: State.CLOSED,
    },
    State.READY: {
        **_staying(State.READY),
        **_GREETINGS,
        commands.Rset: State.READY,
        commands.Mail: State.MAIL,
        commands.StartTls: State.TLS,
        commands.Auth: State.READY,
        # XCLIENT_README: the session is as after the greeting.
        commands.Xclient: State.GREETED,
        commands.Xforward: State.READY,
        commands.Quit: State.CLOSED,
    },
    State.MAIL: {
        **_staying(State.MAIL),
        **_GREETINGS,
        commands.Rset: State.READY,
        commands.Rcpt: State.RCPT,
        commands.Quit: State.CLOSED,
    },
    State.RCPT: {
        **_staying(State.RCPT),
        **_GREETINGS,
        commands.Rset: State.READY,
        commands.Rcpt: State.RCPT,
        commands.Bdat: State.CHUNKS,
        BodyEnd: State.READY,
        commands.Quit: State.CLOSED,
    },
    State.DATA: {
        BodyEnd: State.READY,
    },
    State.CHUNKS: {
        **_staying(State.CHUNKS),
        **_GREETINGS,
        commands.Rset: State.READY,
        commands.Bdat: State.CHUNKS,
        BodyEnd: State.READY,
        commands.Quit: State.CLOSED,
    },
    State.AUTH: {
        AuthResponse: State.READY,
    },
    State.TLS: {},
    State.UNTRUSTED: {
        commands.Quit: State.CLOSED,
    },
    State.CLOSED: {},
}

#: The same for 3yz, which asks the client to go on. It is no greeting, and to the end of a message
#: no answer: a second body must not follow.
INTERMEDIATE_TRANSITIONS: Mapping[State, Mapping[Request, State]] = {
    State.CONNECTED: {Connected: State.CLOSED},
    State.READY: {commands.Auth: State.AUTH},
    State.RCPT: {commands.Data: State.DATA, BodyEnd: State.READY},
    State.DATA: {BodyEnd: State.READY},
    State.CHUNKS: {BodyEnd: State.READY},
    State.AUTH: {AuthResponse: State.AUTH},
}

#: The same for 4yz and 5yz, which otherwise move nothing.
REFUSED_TRANSITIONS: Mapping[State, Mapping[Request, State]] = {
    # RFC 5321 §3.1: after a greeting of 554, or of 4yz, there is no session.
    State.CONNECTED: {Connected: State.CLOSED},
    # RFC 5321 §4.1.1.4: the end of the data ends the transaction, whatever the answer.
    State.DATA: {BodyEnd: State.READY},
    # RFC 3030 §2: what follows a chunk that was refused makes no whole message.
    State.RCPT: {commands.Bdat: State.READY, BodyEnd: State.READY},
    State.CHUNKS: {commands.Bdat: State.READY, BodyEnd: State.READY},
    State.AUTH: {AuthResponse: State.READY},
}

_DEFAULT = ProtocolConfig()

# RFC 3207 §4: what a server that requires TLS answers without it.
_BEFORE_TLS: frozenset[Request] = frozenset(
    {commands.Ehlo, commands.Lhlo, commands.Noop, commands.Quit, commands.StartTls}
)

# What a server that requires authentication does not do without it (RFC 4954 §6).
_AFTER_AUTH: frozenset[Request] = frozenset(
    {
        commands.Mail,
        commands.Rcpt,
        commands.Data,
        commands.Bdat,
        commands.Vrfy,
        commands.Expn,
        commands.Help,
    }
)


class SessionState:
    """The state of one session.

    Attributes:
        current: Where it is.
        extended: Whether it was begun with EHLO or LHLO, so that extensions can be used.
        tls: Whether it is inside TLS.
        authenticated: Whether AUTH succeeded.
        trusted: Whether the peer may speak for somebody else (XCLIENT, XFORWARD).
        options: The parameters of the transaction's MAIL.
        recipients: How many recipients the transaction has.
    """

    __slots__ = (
        "_config",
        "_domains",
        "_messages",
        "_restricted",
        "authenticated",
        "current",
        "extended",
        "options",
        "recipients",
        "tls",
        "trusted",
    )

    def __init__(
        self, config: ProtocolConfig = _DEFAULT, *, tls: bool = False, trusted: bool = False
    ) -> None:
        self._config = config
        self.current: State = State.CONNECTED
        self.extended: bool = False
        self.tls: bool = tls
        self.authenticated: bool = False
        self.trusted: bool = trusted
        self.options: MailOptions = _NO_OPTIONS
        self.recipients: int = 0
        self._domains = _NO_DOMAINS
        self._messages = 0
        self._restricted = config.require_starttls or config.auth_required

    def check(self, event: Event, request: Request) -> None:
        """See whether ``event``, which moves as ``request`` does, may come now.

        Raises:
            ProtocolError: It may not: 503, or what its own rule says.
        """
        if self._restricted:
            self.check_permission(request)
        if request not in _KNOWN[self.current]:
            untrusted = self.current is State.UNTRUSTED
            raise ProtocolError(replies.TLS_NOT_ACCEPTED if untrusted else replies.BAD_SEQUENCE)
        check = _CHECKS.get(type(event))
        if check is not None:
            check(self, event)
        elif request is commands.Mail or request is commands.Rcpt:
            # The server's author took the verb over, and with it what it says, but no limit.
            self._check_number(request)

    def check_permission(self, request: Request) -> None:
        """Check that STARTTLS or AUTH need not come first, whatever the arguments of ``request``.

        Raises:
            ProtocolError: One of them must: 530.
        """
        config = self._config
        if self.current is State.UNTRUSTED:
            return  # all but QUIT gets another answer
        if config.require_starttls and not self.tls and request not in _BEFORE_TLS:
            raise ProtocolError(replies.NEEDS_STARTTLS)
        if config.auth_required and not self.authenticated and request in _AFTER_AUTH:
            # Before EHLO, without which there is no AUTH, it may be the order that is wrong.
            wrong_order = self.current is State.GREETED and request not in _KNOWN[State.GREETED]
            raise ProtocolError(replies.BAD_SEQUENCE if wrong_order else replies.NEEDS_AUTH)

    def _check_mail(self, mail: commands.Mail) -> None:
        if mail.options and not self.extended:
            raise ProtocolError(replies.NO_PARAMETERS)
        if mail.options.requiretls and not self.tls:
            # RFC 8689 §4.2: without TLS on the way here it is too late to require it.
            raise ProtocolError(replies.NEEDS_TLS)
        self._check_number(commands.Mail)

    def _check_number(self, request: Request) -> None:
        config = self._config
        if request is commands.Mail:
            if config.mail_max is not None and self._messages >= config.mail_max:
                raise ProtocolError(replies.TOO_MANY_MESSAGES)
        elif config.rcpt_max is not None and self.recipients >= config.rcpt_max:
            raise ProtocolError(replies.TOO_MANY_RECIPIENTS)

    def _check_rcpt(self, rcpt: commands.Rcpt) -> None:
        if rcpt.options and not self.extended:
            raise ProtocolError(replies.NO_PARAMETERS)
        if not (rcpt.address.isascii() or self.options.smtputf8):
            raise ProtocolError(replies.NEEDS_SMTPUTF8)
        self._check_number(commands.Rcpt)
        if self._config.rcpt_domain_max is not None:
            domains = self._domains | {_domain(rcpt.address)}
            if len(domains) > self._config.rcpt_domain_max:
                raise ProtocolError(replies.TOO_MANY_DOMAINS)

    def _check_data(self, data: commands.Data) -> None:
        if self.options.body == "BINARYMIME":
            # RFC 3030 §3: DATA cannot carry it.
            raise ProtocolError(replies.BAD_SEQUENCE)

    def _check_starttls(self, starttls: commands.StartTls) -> None:
        if self.tls:
            raise ProtocolError(replies.BAD_SEQUENCE)

    def _check_trust(self, event: commands.Xclient | commands.Xforward) -> None:
        if not self.trusted:
            raise ProtocolError(replies.NOT_TRUSTED)

    def _check_auth(self, auth: commands.Auth) -> None:
        # RFC 4954 §4: only with EHLO, and not again after a success.
        if self.authenticated:
            raise ProtocolError(replies.ALREADY_AUTHENTICATED)
        if not self.extended:
            raise ProtocolError(replies.BAD_SEQUENCE)
        if self._config.auth_require_tls and not self.tls:
            raise ProtocolError(replies.AUTH_NEEDS_TLS)

    def replied(self, event: Event | None, request: Request, reply: Reply) -> None:
        """Move as ``reply`` to ``event`` says."""
        if reply.code == 421:
            # RFC 5321 §3.8: the server closes the connection after it.
            self.current = State.CLOSED
            return
        moves = _TABLES[reply.code // 100].get(self.current)
        if moves is not None:
            self.current = moves.get(request, self.current)
        effect = _EFFECTS.get(request)
        if effect is not None and reply.code < 300:
            effect(self, event)

    def _mail_accepted(self, event: Event | None) -> None:
        # A verb that the server's author took over has no parameters known here.
        self.options = event.options if isinstance(event, commands.Mail) else _NO_OPTIONS
        self.recipients = 0
        self._domains = _NO_DOMAINS
        self._messages += 1

    def _rcpt_accepted(self, event: Event | None) -> None:
        self.recipients += 1
        if self._config.rcpt_domain_max is not None and isinstance(event, commands.Rcpt):
            self._domains |= {_domain(event.address)}

    def _helo_accepted(self, event: Event | None) -> None:
        self.extended = False

    def _ehlo_accepted(self, event: Event | None) -> None:
        self.extended = True

    def _auth_succeeded(self, event: Event | None) -> None:
        self.authenticated = True

    def _client_told(self, event: Event | None) -> None:
        self.extended = False
        self.authenticated = (
            isinstance(event, commands.Xclient) and event.attributes.login is not None
        )

    def tls_started(self) -> None:
        """Forget what was said in the clear (RFC 3207 §4.2)."""
        self.current = State.GREETED
        self.tls = True
        self.extended = False
        self.authenticated = False

    def tls_refused(self) -> None:
        """Leave nothing but QUIT (RFC 3207 §4.1)."""
        self.current = State.UNTRUSTED

    def close(self) -> None:
        """Nothing more is read or sent."""
        self.current = State.CLOSED


# The rules of single commands, beyond the tables.
_CHECKS: Mapping[type[Event], Callable[..., None]] = {
    commands.Mail: SessionState._check_mail,
    commands.Rcpt: SessionState._check_rcpt,
    commands.Data: SessionState._check_data,
    commands.StartTls: SessionState._check_starttls,
    commands.Auth: SessionState._check_auth,
    commands.Xclient: SessionState._check_trust,
    commands.Xforward: SessionState._check_trust,
}

# What a request that was accepted changes beside the state.
_EFFECTS: Mapping[Request, Callable[[SessionState, Event | None], None]] = {
    commands.Mail: SessionState._mail_accepted,
    commands.Rcpt: SessionState._rcpt_accepted,
    commands.Helo: SessionState._helo_accepted,
    commands.Ehlo: SessionState._ehlo_accepted,
    commands.Lhlo: SessionState._ehlo_accepted,
    commands.Auth: SessionState._auth_succeeded,
    AuthResponse: SessionState._auth_succeeded,
    commands.Xclient: SessionState._client_told,
}

# What can be asked in a state.
_KNOWN: Mapping[State, frozenset[Request]] = {
    state: frozenset({*moves, *INTERMEDIATE_TRANSITIONS.get(state, ())})
    for state, moves in TRANSITIONS.items()
}

_TABLES: Mapping[int, Mapping[State, Mapping[Request, State]]] = {
    2: TRANSITIONS,
    3: INTERMEDIATE_TRANSITIONS,
    4: REFUSED_TRANSITIONS,
    5: REFUSED_TRANSITIONS,
}

_NO_OPTIONS = MailOptions()
_NO_DOMAINS: frozenset[str] = frozenset()


def _domain(address: str) -> str:
    # IDNA folds case beyond ASCII too (RFC 5895 §2).
    return domain_of(address).lower()
