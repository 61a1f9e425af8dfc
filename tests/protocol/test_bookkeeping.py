"""Bookkeeping: session and envelope say what the client was told, and nothing else."""

from copy import copy
from typing import get_args

import pytest

from smtp_protocol import (
    Auth,
    AuthResponse,
    ClientAttributes,
    Command,
    Ehlo,
    Envelope,
    Event,
    Helo,
    Lhlo,
    Mail,
    MailOptions,
    Noop,
    Rcpt,
    RcptOptions,
    Recipient,
    Reply,
    Session,
    Unknown,
    Xclient,
    Xforward,
    replies,
)
from smtp_protocol.bookkeeping import _NOTES, _NOTES_OF_REFUSED, forget_clear_text, record

REFUSALS = [replies.LOCAL_ERROR, replies.NOT_TRUSTED, replies.CLOSING_IDLE]
# One of 3yz asks the client to go on, and has accepted nothing.
NOT_ACCEPTED = [*REFUSALS, Reply(354, ("go on",)), Reply(334, ("",))]


def options(text: str = "") -> RcptOptions:
    return RcptOptions(text.split())


CLIENT = ClientAttributes(addr="192.0.2.1", port=25, helo="behind.example", login="anne")
EVENTS: list[Event] = [
    Mail("a@x", MailOptions(["SIZE=1"])),
    Rcpt("b@x", options("NOTIFY=NEVER")),
    Ehlo("c"),
    Lhlo("c"),
    Helo("c"),
    Auth("PLAIN"),
    AuthResponse(b""),
    Xclient(CLIENT),
    Xforward(CLIENT),
    *(Unknown(verb, "x") for verb in ("EHLO", "LHLO", "HELO", "RCPT", "PING")),
    Noop(""),
]


def state(session: Session, envelope: Envelope) -> list[object]:
    """Everything that there is in both."""
    lists = [copy(envelope.rcpt_tos), copy(envelope.rcpt_options), copy(envelope.mail_options)]
    names = ("mail_from", "smtp_utf8", "recipients")
    session_state = {name: value for name, value in vars(session).items() if name != "_named"}
    return [session_state, lists, *(getattr(envelope, name) for name in names)]


def test_every_event_that_changes_something_is_tried() -> None:
    assert {type(event) for event in EVENTS} == {*_NOTES, *_NOTES_OF_REFUSED, Noop}
    assert set(_NOTES) <= {*get_args(Command), AuthResponse}


@pytest.mark.parametrize("reply", NOT_ACCEPTED, ids=str)
@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_what_was_not_accepted_changes_nothing(event: Event, reply: Reply) -> None:
    session, envelope = Session(), Envelope()
    before = state(session, envelope)
    record(event, reply, session, envelope)
    assert state(session, envelope) == before


@pytest.mark.parametrize("event", [Noop(""), Unknown("PING", "x")], ids=repr)
def test_what_has_nothing_to_do_with_either_changes_neither(event: Event) -> None:
    session, envelope = Session(), Envelope()
    before = state(session, envelope)
    record(event, replies.OK, session, envelope)
    assert state(session, envelope) == before


@pytest.mark.parametrize("own", [None, "", "other@x"])
def test_mail(own: str | None) -> None:
    session, envelope = Session(), Envelope()
    envelope.mail_from = own  # which the hook has set, or forgot to
    said = MailOptions(["SMTPUTF8"])
    said.smtputf8 = True
    record(Mail("a@x", said), replies.MAIL_OK, session, envelope)
    assert envelope.mail_from == ("a@x" if own is None else own)
    assert (envelope.mail_options, envelope.mail_options.smtputf8) == (["SMTPUTF8"], True)
    assert envelope.mail_options is not said
    assert envelope.smtp_utf8


def test_options_of_mail_that_the_hook_wrote_down() -> None:
    envelope = Envelope()
    envelope.mail_options.append("X-MINE")
    record(Mail("a@x", MailOptions(["SIZE=1"])), replies.MAIL_OK, Session(), envelope)
    assert envelope.mail_options == ["X-MINE"]


@pytest.mark.parametrize("verb", [None, "RCPT"])
def test_rcpt(verb: str | None) -> None:
    """A verb that the server's author took over is as good as the built-in one."""
    session, envelope = Session(), Envelope()
    said = options("NOTIFY=NEVER") if verb is None else options()
    event = Unknown(verb, "TO:<a@x>") if verb else Rcpt("a@x", said)
    envelope.rcpt_tos.append("a@x")
    record(event, replies.RCPT_OK, session, envelope)
    envelope.rcpt_tos.append("b@x")
    record(event, replies.LOCAL_ERROR, session, envelope)
    assert envelope.recipients == [Recipient("a@x", said)]
    assert envelope.places() == [[0]]


@pytest.mark.parametrize(
    ("event", "extended"),
    [(Ehlo("c"), True), (Lhlo("c"), True), (Helo("c"), False)]
    + [(Unknown(verb, "c"), verb != "HELO") for verb in ("EHLO", "LHLO", "HELO")],
    ids=repr,
)
def test_greetings(event: Event, extended: bool) -> None:
    session = Session()
    session.extended_smtp = not extended
    record(event, replies.OK, session, Envelope())
    assert (session.host_name, session.extended_smtp) == ("c", extended)


def test_a_greeting_without_name_that_was_taken_over() -> None:
    session = Session()
    record(Unknown("EHLO", None), replies.OK, session, Envelope())
    assert (session.host_name, session.extended_smtp) == ("", True)


def greet(session: Session, name: str, by_hook: str | None = None) -> str | None:
    """Have a greeting accepted whose hook sets a name, or only looks."""
    if by_hook is not None:
        session.host_name = by_hook
    record(Ehlo(name), replies.OK, session, Envelope())
    return session.host_name


def test_the_hook_names_the_client_or_only_looks() -> None:
    session = Session()
    assert greet(session, "one") == "one"
    assert greet(session, "two") == "two"
    assert greet(session, "three", by_hook="mine") == "mine"
    assert greet(session, "four", by_hook="mine") == "mine"  # the same again
    assert greet(session, "five") == "five"
    assert greet(session, "six", by_hook="six") == "six"


def test_after_starttls_a_hook_that_only_looks_is_enough() -> None:
    session = Session()
    for by_hook in (None, "mine"):
        greet(session, "one", by_hook)
        forget_clear_text(session)
        assert session.host_name is None
        assert greet(session, "two") == "two"


def test_what_was_said_in_the_clear_is_forgotten() -> None:
    session = Session(("192.0.2.1", 25))
    greet(session, "one")
    record(Auth("PLAIN"), replies.AUTH_OK, session, Envelope())
    session.auth_data = "anne"
    forget_clear_text(session)
    forgotten = ("_host_name", "extended_smtp", "authenticated", "auth_data")
    assert [vars(session)[name] for name in forgotten] == [None, False, False, None]
    assert session.peer == ("192.0.2.1", 25)


@pytest.mark.parametrize("event", [Auth("PLAIN"), AuthResponse(b"")])
def test_auth(event: Event) -> None:
    session = Session()
    record(event, Reply(334, ("",)), session, Envelope())
    assert not session.authenticated
    record(event, replies.AUTH_OK, session, Envelope())
    assert session.authenticated


def test_xforward() -> None:
    session = Session("here")
    record(Xforward(CLIENT), replies.OK, session, Envelope())
    assert (session.forwarded, session.peer, session.authenticated) == (CLIENT, "here", False)


@pytest.mark.parametrize(
    ("client", "peer", "login"),
    [
        (CLIENT, ("192.0.2.1", 25), "anne"),
        (ClientAttributes(addr="2001:db8::1"), ("2001:db8::1", 0), None),
        (ClientAttributes(port=25), "proxy", None),
        (ClientAttributes(), "proxy", None),
    ],
)
def test_xclient(client: ClientAttributes, peer: object, login: str | None) -> None:
    session = Session("proxy")
    greet(session, "proxy.example", by_hook="the proxy")
    record(Auth("PLAIN"), replies.AUTH_OK, session, Envelope())
    record(Xclient(client), Reply(220, ("mx",)), session, Envelope())
    assert (session.peer, session.xclient) == (peer, client)
    assert (session.host_name, session.extended_smtp) == (client.helo, False)
    assert (session.authenticated, session.auth_data) == (login is not None, login)
    assert greet(session, "client.example") == "client.example"
