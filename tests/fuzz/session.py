"""Session: any octets, to an engine with any settings, answered with any replies, and checked.

What is checked is what holds for any input (`Session.run` raises AssertionError otherwise), and
that the split of the input into segments changes nothing (`check`). Both the Hypothesis property
and the fuzz target use it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from random import Random

from smtp_protocol import (
    ALL_EXTENSIONS,
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    ConnectionClosed,
    Data,
    Ehlo,
    Event,
    Expn,
    Helo,
    Lhlo,
    Mail,
    ProtocolConfig,
    Rcpt,
    Refused,
    Reply,
    ServerConnection,
    StartTls,
    State,
    Vrfy,
    Xclient,
    Xforward,
)

__all__ = ["Session", "check", "check_values", "config_from", "segments_of"]

_REPLY = re.compile(r"(?:[2-5][0-9]{2}-[^\r\n]*\r\n)*[2-5][0-9]{2} [^\r\n]*\r\n")
_OTHERS = [
    *(Reply(code, ("",)) for code in (200, 235, 250, 299, 300, 334, 354, 399, 450, 503, 550)),
    Reply(250, ("one", "two\x1b", "三")),
    Reply(554, ("no", "")),
    Reply(421, ("bye",)),
]
_USUAL = {Data: Reply(354, ("go on",)), Auth: Reply(334, ("",)), AuthResponse: Reply(235, ("",))}
_OK = Reply(250, ("OK",))

# What is no part of a text: control characters, and the ends of lines and paragraphs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# Who reads on is asked again and again; more steps than these for one octet are a loop.
_MANY = 64


def config_from(number: int) -> ProtocolConfig:
    """One of all the settings there are, by number."""
    choose = Random(number).choice
    starttls = choose([True, False])
    names = [*ALL_EXTENSIONS, "SMTPUTF8"]
    return ProtocolConfig(
        data_size_limit=choose([None, 0, 1, 10, 1000]),
        extensions=frozenset(
            choose([[], names, names, [name for name in names if choose([True, False])]])
        ),
        address_syntax=choose(["lenient", "strict", "local"]),
        bare_newline=choose(["normalize", "reject", "keep"]),
        line_length_limit=choose([None, None, 2, 20]),
        lmtp=choose([True, False]),
        starttls=starttls,
        require_starttls=starttls and choose([True, False, False]),
        auth=choose([True, False]),
        auth_require_tls=choose([True, False, False]),
        auth_required=choose([True, False, False, False]),
        rcpt_max=choose([None, 1, 3]),
        mail_max=choose([None, None, 2]),
        rcpt_domain_max=choose([None, 1, 2]),
        hold_max=choose([60, 86400]),
        own_verbs=frozenset(choose([[], [], ["PING"], ["MAIL", "RCPT", "DATA", "EHLO", "BDAT"]])),
    )


def check_values(event: object) -> None:
    """See that what was parsed, and is handed on as a value, is nothing but text."""
    match event:
        case Ehlo(hostname) | Helo(hostname) | Lhlo(hostname):
            texts = [hostname]
        case Mail(address, options):
            texts = [address, options.auth or "", options.envid or ""]
            check_mailbox(address)
            check_mailbox(options.auth or "")
        case Rcpt(address, options):
            texts = [address, options.orcpt.address if options.orcpt else ""]
            check_mailbox(address)
        case Vrfy(address) | Expn(address):
            texts = [address]
        case Auth(mechanism, _, args):
            texts = [mechanism, *args]
            assert mechanism.isascii()
        case Xclient(attributes) | Xforward(attributes):
            texts = [getattr(attributes, field.name) for field in fields(attributes)]
            texts = [text for text in texts if isinstance(text, str)]
        case _:
            return
    for text in texts:
        assert not _CONTROL.search(text), text


def check_mailbox(mailbox: str) -> None:
    """See that no label is too long for DNS."""
    _, at, domain = mailbox.rpartition("@")
    if at and not domain.endswith(("]", '"')):
        for label in domain.split("."):
            assert 0 < len(label) <= 63, mailbox
        assert len(domain) <= 255, mailbox


def segments_of(text: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """The text in segments of these sizes, which may be 0."""
    start = 0
    while start < len(text):
        size = next(sizes, len(text))
        yield text[start : start + size]
        start += size


@dataclass
class Session:
    """One session.

    Args:
        config: The settings.
        choices: Where the replies, and what comes of TLS, are chosen from: the same ones for
            the same seed, however the input was cut.
        tls: Whether it is inside TLS from the beginning.
        trusted: Whether the peer may use XCLIENT.
    """

    config: ProtocolConfig
    choices: Random
    tls: bool = False
    trusted: bool = False
    events: list[Event] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    wire: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    bodies: list[bytes] = field(default_factory=list)
    owed: int = 0
    sent: int = 0

    def run(self, phases: Sequence[bytes], cut: Callable[[bytes], Iterator[bytes]]) -> None:
        """Say all phases. Where TLS begins, the rest of a phase is not said."""
        connection = ServerConnection(self.config, tls=self.tls, trusted=self.trusted)
        for phase in phases:
            for segment in cut(phase):
                connection.receive_data(segment)
                self._work(connection, len(segment))
                if connection.state in (State.TLS, State.CLOSED):
                    break
            if connection.state is State.TLS:
                self._handshake(connection)
            assert connection.buffered == 0
        connection.receive_eof()
        self._work(connection, 0)
        if connection.state is State.TLS:
            connection.close()
        assert connection.next_event() == ConnectionClosed()
        assert (connection.state, connection.buffered) == (State.CLOSED, 0)
        self._check(b"".join(phases))

    def _work(self, connection: ServerConnection, octets: int) -> None:
        for _ in range(_MANY * (octets + 1)):
            event = connection.next_event()
            if event is NEED_DATA:
                assert connection.buffered == 0
                return
            if event is PAUSED:
                assert connection.state is State.TLS
                return
            if isinstance(event, ConnectionClosed):
                assert connection.state is State.CLOSED
                return
            if isinstance(event, BodyChunk):
                assert event.data
                self.body += event.data
                continue
            self._answer(connection, event)
        raise AssertionError("it does not come to an end")

    def _answer(self, connection: ServerConnection, event: Event) -> None:
        self.events.append(event)
        check_values(event)
        if isinstance(event, BodyEnd):
            self.bodies.append(bytes(self.body))
        assert connection.replies_owed >= 1
        if not self.config.lmtp:
            assert connection.replies_owed == 1
        self.owed += connection.replies_owed
        while connection.reply_owed:
            assert connection.next_event() is PAUSED
            before = connection.replies_owed
            octets = connection.send(self._reply(event))
            self._check_wire(octets)
            assert connection.replies_owed == (
                0 if connection.state is State.CLOSED else before - 1
            )
            self.wire += octets
            self.sent += 1
        if isinstance(event, Refused) and event.closing:
            assert connection.state is State.CLOSED
        self.states.append(connection.state)
        if connection.state is not State.CHUNKS:
            # How much of a message came before it was refused depends on how it was cut.
            self.body.clear()

    def _reply(self, event: Event) -> Reply:
        if isinstance(event, Refused):
            return event.reply
        if self.choices.random() < 0.85:
            return _USUAL.get(type(event), _OK)
        return self.choices.choice(_OTHERS)

    def _check_wire(self, octets: bytes) -> None:
        text = octets.decode()
        assert _REPLY.fullmatch(text), text
        assert text.isascii() or "SMTPUTF8" in self.config.extensions
        assert text.replace("\r\n", "").replace("\t", "").isprintable(), text

    def _handshake(self, connection: ServerConnection) -> None:
        assert isinstance(self.events[-1], StartTls)
        match self.choices.choice(["started", "started", "refused", "both", "lost"]):
            case "started":
                connection.tls_started()
            case "refused":
                connection.tls_refused()
            case "both":
                connection.tls_started()
                connection.tls_refused()
            case "lost":
                connection.close()

    def _check(self, text: bytes) -> None:
        assert self.sent <= self.owed
        # The greeting; one for each line, or for each recipient, of which each had a line; and one
        # for the line that never ends.
        recipients = text.upper().count(b"RCPT") + 1 if self.config.lmtp else 1
        assert len(self.events) <= 2 + text.count(b"\n") + text.count(b"\x16")
        assert self.owed <= len(self.events) * recipients
        if self.config.data_size_limit:
            for body in self.bodies:
                assert len(body) <= self.config.data_size_limit

    @property
    def outcome(self) -> object:
        """What must not depend on how the input was cut."""
        return self.events, self.states, bytes(self.wire), self.bodies, self.sent


def check(
    phases: Sequence[bytes],
    config: ProtocolConfig,
    seed: int,
    sizes: Callable[[], Iterator[int]],
    *,
    tls: bool = False,
    trusted: bool = False,
) -> Session:
    """Say the same whole, and cut into segments of ``sizes``; see that it comes to the same."""
    whole = Session(config, Random(seed), tls, trusted)
    whole.run(phases, lambda text: iter([text]))
    cut = Session(config, Random(seed), tls, trusted)
    cut.run(phases, lambda text: segments_of(text, sizes()))
    assert whole.outcome == cut.outcome
    return whole
