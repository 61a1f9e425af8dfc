"""State: the table is the whole of it, and only a reply moves it."""

from collections.abc import Mapping
from itertools import product
from typing import get_args

import pytest

from smtp_protocol import (
    Command,
    Connected,
    Data,
    Ehlo,
    Event,
    Expn,
    Helo,
    Help,
    Mail,
    MailOptions,
    Noop,
    ProtocolError,
    Quit,
    Rcpt,
    RcptOptions,
    Refused,
    Reply,
    Rset,
    State,
    Vrfy,
    replies,
)
from smtp_protocol.state import (
    INTERMEDIATE_TRANSITIONS,
    REFUSED_TRANSITIONS,
    TRANSITIONS,
    Request,
    SessionState,
)

COMMANDS = set(get_args(Command))
IN_SESSION = [State.GREETED, State.READY, State.MAIL, State.RCPT]
# Each table, and the codes that move by it.
TABLES = [
    (TRANSITIONS, [220, 250]),
    (INTERMEDIATE_TRANSITIONS, [334, 354]),
    (REFUSED_TRANSITIONS, [450, 550]),
]


def at(state: State, *, extended: bool = True, smtputf8: bool = False) -> SessionState:
    session = SessionState()
    session.current = state
    session.extended = extended
    session.options = MailOptions()
    session.options.smtputf8 = smtputf8
    return session


def test_the_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_can_be_reached() -> None:
    tables = [table for table, _ in TABLES]
    reached = {state for table in tables for row in table.values() for state in row.values()}
    # To the one state leads the beginning, to the other what came of TLS.
    assert reached == set(State) - {State.CONNECTED, State.UNTRUSTED}


def test_each_command_is_for_some_state() -> None:
    rows = [*TRANSITIONS.values(), *INTERMEDIATE_TRANSITIONS.values()]
    assert {request for row in rows for request in row} >= COMMANDS


@pytest.mark.parametrize("state", IN_SESSION)
def test_what_is_always_possible(state: State) -> None:
    # RFC 5321 §4.1.4: NOOP, HELP, EXPN, VRFY, RSET and QUIT at any time; EHLO and HELO too.
    assert set(TRANSITIONS[state]) >= {Ehlo, Helo, Rset, Noop, Help, Expn, Vrfy, Quit}
    assert TRANSITIONS[state][Quit] is State.CLOSED
    assert TRANSITIONS[state][Noop] is state
    assert TRANSITIONS[state][Ehlo] is TRANSITIONS[state][Helo] is State.READY


@pytest.mark.parametrize(
    ("state", "request_", "allowed"),
    [
        (State.GREETED, Mail, False),
        (State.GREETED, Rcpt, False),
        (State.GREETED, Data, False),
        (State.READY, Mail, True),
        (State.READY, Rcpt, False),
        (State.READY, Data, False),
        (State.MAIL, Mail, False),
        (State.MAIL, Rcpt, True),
        (State.MAIL, Data, False),
        (State.RCPT, Mail, False),
        (State.RCPT, Rcpt, True),
        (State.RCPT, Data, True),
    ],
)
def test_sequence(state: State, request_: type[Event], allowed: bool) -> None:
    session = at(state)
    if allowed:
        session.check(Noop(""), request_)
        return
    with pytest.raises(ProtocolError) as caught:
        session.check(Noop(""), request_)
    assert caught.value.reply is replies.BAD_SEQUENCE


MOVES = [
    (table, state, request, code)
    for table, codes in TABLES
    for state, row in table.items()
    for request in row
    for code in codes
]
ASKED = sorted({(state, request) for _, state, request, _ in MOVES}, key=str)


@pytest.mark.parametrize(("table", "state", "request_", "code"), MOVES)
def test_a_reply_moves(
    table: Mapping[State, Mapping[Request, State]], state: State, request_: Request, code: int
) -> None:
    session = at(state)
    session.replied(None, request_, Reply(code, ("text",)))
    assert session.current is table[state][request_]


@pytest.mark.parametrize(("state", "request_"), ASKED)
@pytest.mark.parametrize(("table", "codes"), TABLES, ids=["2yz", "3yz", "4yz and 5yz"])
def test_other_replies_do_not(
    table: Mapping[State, Mapping[Request, State]],
    codes: list[int],
    state: State,
    request_: Request,
) -> None:
    for code in codes:
        session = at(state)
        session.replied(None, request_, Reply(code, ("text",)))
        assert session.current is table.get(state, {}).get(request_, state)


@pytest.mark.parametrize("state", IN_SESSION)
def test_a_refusal_does_not_move(state: State) -> None:
    session = at(state)
    session.replied(Refused(replies.BAD_COMMAND), Refused, replies.BAD_COMMAND)
    assert session.current is state


@pytest.mark.parametrize(("state", "request_"), list(product(State, [Noop, Refused, Connected])))
def test_421_closes(state: State, request_: type[Event]) -> None:
    session = at(state)
    session.replied(None, request_, replies.CLOSING_SHUTDOWN)
    assert session.current is State.CLOSED


def test_close() -> None:
    session = at(State.DATA)
    session.close()
    assert session.current is State.CLOSED


def test_extended_is_the_last_greeting_that_was_accepted() -> None:
    session = at(State.GREETED, extended=False)
    extended = [session.extended]
    steps: list[tuple[Ehlo | Helo, Reply]] = [
        (Ehlo("c"), replies.OK),
        (Helo("c"), Reply(550, ("no",))),
        (Helo("c"), replies.OK),
        (Ehlo("c"), Reply(550, ("no",))),
    ]
    for event, reply in steps:
        session.replied(event, type(event), reply)
        extended.append(session.extended)
    assert extended == [False, True, True, False, False]


@pytest.mark.parametrize(
    "event", [Mail("a@b", MailOptions(["X"])), Rcpt("a@b", RcptOptions(["X"]))]
)
def test_parameters_need_ehlo(event: Mail | Rcpt) -> None:
    state = State.READY if isinstance(event, Mail) else State.MAIL
    at(state).check(event, type(event))
    with pytest.raises(ProtocolError) as caught:
        at(state, extended=False).check(event, type(event))
    assert caught.value.reply is replies.NO_PARAMETERS


def test_a_recipient_needs_smtputf8() -> None:
    event = Rcpt("ü@b", RcptOptions())
    at(State.MAIL, smtputf8=True).check(event, Rcpt)
    with pytest.raises(ProtocolError) as caught:
        at(State.MAIL).check(event, Rcpt)
    assert caught.value.reply is replies.NEEDS_SMTPUTF8


def test_smtputf8_is_of_one_transaction() -> None:
    options = MailOptions(["SMTPUTF8"])
    options.smtputf8 = True
    session = at(State.READY)
    session.replied(Mail("a@b", options), Mail, replies.OK)
    begun = session.options.smtputf8
    session.replied(Rset(), Rset, replies.OK)
    session.replied(Mail("a@b", MailOptions()), Mail, replies.OK)
    assert (begun, session.options.smtputf8) == (True, False)


def test_nothing_but_354_begins_the_message() -> None:
    session = at(State.RCPT)
    session.replied(Data(), Data, replies.OK)
    assert session.current is State.RCPT
