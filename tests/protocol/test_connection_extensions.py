"""Connection: LMTP, STARTTLS, AUTH and limits, as states of the engine."""

import base64
from typing import Any

import pytest

from smtp_protocol import (
    NEED_DATA,
    PAUSED,
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    Event,
    Lhlo,
    Noop,
    ProtocolConfig,
    Quit,
    Rcpt,
    Refused,
    Reply,
    ServerConnection,
    StartTls,
    State,
    Unknown,
    replies,
)

GREETING = Reply(220, ("mx",))
CHALLENGE = Reply(334, ("",))


def greeted(*, tls: bool = False, **settings: Any) -> ServerConnection:
    connection = ServerConnection(ProtocolConfig(**settings), tls=tls)
    assert connection.next_event() == Connected()
    connection.send(GREETING)
    return connection


def say(connection: ServerConnection, *lines: str | bytes) -> list[Event]:
    """Say the lines, accept what can be, and give the events."""
    for line in lines:
        text = line.encode() if isinstance(line, str) else line
        connection.receive_data(text + b"\r\n")
    events: list[Event] = []
    while (event := connection.next_event()) not in (NEED_DATA, PAUSED, ConnectionClosed()):
        assert not isinstance(event, type(NEED_DATA))
        events.append(event)
        match event:
            case Refused(reply):
                connection.send(reply)
            case Data():
                connection.send(replies.START_MAIL_INPUT)
            case BodyEnd():
                break
            case BodyChunk():
                pass
            case _:
                connection.send(replies.OK)
    return events


def state_of(connection: ServerConnection) -> State:
    """The state, which mypy would otherwise take to stay what it was."""
    return connection.state


def refusals(connection: ServerConnection, *lines: str | bytes) -> list[str]:
    """The codes of the refusals of the lines; ``""`` for what was accepted."""
    return [
        str(event.reply.code) if isinstance(event, Refused) else ""
        for event in say(connection, *lines)
    ]


# LMTP


@pytest.mark.parametrize("recipients", [["d@e"], ["d@e", "f@g", "d@e"]])
def test_lmtp_owes_a_reply_for_each_recipient(recipients: list[str]) -> None:
    connection = greeted(lmtp=True)
    paths = [f"RCPT TO:<{recipient}>" for recipient in recipients]
    events = say(connection, "LHLO c", "MAIL FROM:<a@b>", *paths, "DATA", "x", ".")
    assert events[0] == Lhlo("c")
    assert events[-1] == BodyEnd()
    assert connection.extended
    connection.receive_data(b"NOOP\r\n")
    for left in range(len(recipients), 0, -1):
        assert (connection.replies_owed, connection.reply_owed) == (left, True)
        assert (connection.state, connection.next_event()) == (State.DATA, PAUSED)
        assert connection.send(replies.OK) == b"250 2.0.0 OK\r\n"
    assert connection.state is State.READY
    assert connection.next_event() == Noop("")


def test_lmtp_counts_those_that_were_accepted() -> None:
    connection = greeted(lmtp=True)
    say(connection, "LHLO c", "MAIL FROM:<a@b>", "RCPT TO:<d@e>", "RCPT TO:<>")
    for code in (550, 354, 450):
        connection.receive_data(b"RCPT TO:<f@g>\r\n")
        assert isinstance(connection.next_event(), Rcpt)
        connection.send(Reply(code, ("no",)))
    say(connection, "RCPT TO:<f@g>", "DATA", ".")
    assert connection.replies_owed == 2
    # The next transaction has recipients of its own.
    connection.send(replies.OK)
    connection.send(replies.OK)
    say(connection, "MAIL FROM:<a@b>", "RCPT TO:<d@e>", "DATA", ".")
    assert connection.replies_owed == 1


def test_lmtp_refuses_for_each_recipient() -> None:
    connection = greeted(lmtp=True, data_size_limit=3, extensions=frozenset({"CHUNKING"}))
    for body in (["DATA", "1234", "."], ["BDAT 6 LAST", "1234"]):
        *_, last = say(
            connection, "LHLO c", "MAIL FROM:<a@b>", "RCPT TO:<d@e>", "RCPT TO:<f@g>", *body[:1]
        ) + say(connection, *body[1:])
        assert last == Refused(replies.TOO_MUCH_DATA)
        assert connection.state is State.READY or connection.replies_owed == 1
        while connection.reply_owed:
            connection.send(replies.TOO_MUCH_DATA)
        assert connection.state is State.READY


def test_lmtp_with_a_421_in_between() -> None:
    connection = greeted(lmtp=True)
    say(connection, "LHLO c", "MAIL FROM:<a@b>", "RCPT TO:<d@e>", "RCPT TO:<f@g>", "DATA", ".")
    connection.send(replies.OK)
    connection.send(replies.CLOSING_SHUTDOWN)
    assert (connection.replies_owed, connection.next_event()) == (0, ConnectionClosed())


def test_lmtp_with_recipients_of_an_own_verb() -> None:
    connection = greeted(lmtp=True, own_verbs=frozenset({"MAIL", "RCPT"}))
    say(connection, "LHLO c", "MAIL one", "RCPT one", "RCPT two", "DATA", ".")
    assert connection.replies_owed == 2
    connection.send(replies.OK)
    connection.send(replies.OK)
    say(connection, "MAIL two", "RCPT one", "DATA", ".")
    assert connection.replies_owed == 1


def test_helo_and_ehlo_are_not_of_lmtp() -> None:
    connection = greeted(lmtp=True)
    assert say(connection, "EHLO c", "HELO c") == [Unknown("EHLO", "c"), Unknown("HELO", "c")]
    assert say(greeted(), "LHLO c") == [Unknown("LHLO", "c")]


# STARTTLS


def test_starttls() -> None:
    connection = greeted(starttls=True, auth=True, auth_require_tls=False)
    say(connection, "EHLO c", "AUTH PLAIN")
    assert connection.authenticated
    connection.receive_data(b"STARTTLS\r\nRSET\r\nNOOP\r\n")
    assert connection.next_event() == StartTls()
    assert connection.send(replies.READY_FOR_TLS) == b"220 2.0.0 Ready to start TLS\r\n"
    assert (connection.state, connection.buffered) == (State.TLS, 0)
    assert connection.next_event() is PAUSED
    # Nor is what a careless caller gives it before the handshake.
    connection.receive_data(b"RSET\r\n")
    assert connection.next_event() is PAUSED
    connection.tls_started()
    assert connection.next_event() is NEED_DATA
    assert (connection.state, connection.extended, connection.authenticated) == (
        State.GREETED,
        False,
        False,
    )
    assert refusals(connection, "MAIL FROM:<a@b>", "AUTH PLAIN", "EHLO c") == ["503", "503", ""]
    assert refusals(connection, "STARTTLS", "AUTH PLAIN") == ["503", ""]


def test_half_a_line_before_tls_is_not_finished_inside() -> None:
    connection = greeted(starttls=True)
    say(connection, "EHLO c")
    connection.receive_data(b"STARTTLS\r\nMAIL FROM:<a")
    connection.next_event()
    connection.send(replies.READY_FOR_TLS)
    connection.tls_started()
    connection.receive_data(b"NOOP\r\n")
    assert connection.next_event() == Noop("")


@pytest.mark.parametrize(
    ("settings", "lines", "code"),
    [
        ({}, ["EHLO c"], "502"),
        ({"starttls": True}, [], "503"),
        ({"starttls": True}, ["EHLO c", "MAIL FROM:<a@b>"], "503"),
        ({"starttls": True, "tls": True}, ["EHLO c"], "503"),
        ({"starttls": True}, ["HELO c"], ""),
    ],
)
def test_when_tls_can_be_started(settings: dict[str, Any], lines: list[str], code: str) -> None:
    connection = greeted(**settings)
    say(connection, *lines)
    assert refusals(connection, "STARTTLS") == [code]


def test_starttls_has_no_argument() -> None:
    assert refusals(greeted(starttls=True), "EHLO c", "STARTTLS x") == ["", "501"]


def test_starttls_refused() -> None:
    connection = greeted(starttls=True)
    connection.receive_data(b"EHLO c\r\nSTARTTLS\r\nNOOP\r\n")
    connection.next_event()
    connection.send(replies.OK)
    assert connection.next_event() == StartTls()
    connection.send(Reply(454, ("not now",)))
    assert connection.state is State.READY
    assert connection.next_event() == Noop("")
    connection.send(replies.OK)
    with pytest.raises(RuntimeError, match="after a positive reply to STARTTLS"):
        connection.tls_started()


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("required", [True, False])
def test_tls_that_is_not_good_enough(started: bool, required: bool) -> None:
    connection = greeted(starttls=True, require_starttls=required)
    say(connection, "EHLO c", "STARTTLS")
    if started:
        connection.tls_started()
    connection.tls_refused()
    assert state_of(connection) is State.UNTRUSTED
    lines = ["EHLO c", "MAIL FROM:<a@b>", "NOOP", "STARTTLS", "FOO"]
    assert refusals(connection, *lines) == ["554"] * 5
    assert say(connection, "QUIT") == [Quit()]
    assert connection.state is State.CLOSED


def test_what_is_left_before_a_required_tls() -> None:
    connection = greeted(starttls=True, require_starttls=True, auth=True, auth_require_tls=False)
    refused = ["HELO c", "MAIL FROM:<a@b>", "AUTH PLAIN", "RSET", "VRFY a", "EXPN a", "HELP", "X"]
    assert refusals(connection, "EHLO c", *refused) == ["", *["530"] * len(refused)]
    assert refusals(connection, "NOOP", "EHLO c", "STARTTLS") == ["", "", ""]
    connection.tls_started()
    assert refusals(connection, "HELO c", "MAIL FROM:<a@b>") == ["", ""]
    assert refusals(greeted(starttls=True, require_starttls=True), "QUIT") == [""]
    lmtp = greeted(starttls=True, require_starttls=True, lmtp=True)
    assert refusals(lmtp, "LHLO c", "MAIL FROM:<a@b>") == ["", "530"]


# Commands that are wrong in some way of their own, and what they are answered elsewhere.
WRONG: list[tuple[str | bytes, str]] = [
    ("AUTH", "501"),
    ("AUTH PLAIN !", "501"),
    ("AUTH PLA.IN", "504"),
    ("MAIL FROM:<a@b", "553"),
    ("MAIL", "501"),
    (b"MAIL FROM:<\xff@b>", "501"),
    ("MAIL FROM:<a@b> X=1", "501"),
    ("RCPT TO:<>", "501"),
    ("DATA x", "501"),
    ("RSET x", "501"),
    ("VRFY", "501"),
    ("EXPN", "501"),
    (b"HELP \xff", "501"),
    (b"FOO \xff", "501"),
    ("HELO", "501"),
    ("XCLIENT", "501"),
    ("XFORWARD", "501"),
]


@pytest.mark.parametrize(("line", "code"), WRONG)
@pytest.mark.parametrize("extensions", [{"CHUNKING", "SMTPUTF8"}, set[str]()])
@pytest.mark.parametrize("auth", [True, False])
def test_what_needs_starttls_is_not_judged_before(
    line: str | bytes, code: str, extensions: set[str], auth: bool
) -> None:
    # RFC 3207 §4: 530 to every other command, also to what is not implemented at all.
    config: Any = {"extensions": frozenset(extensions), "auth": auth, "starttls": True}
    assert refusals(greeted(**config, require_starttls=True), line) == ["530"]
    assert refusals(greeted(**config, require_starttls=True), "EHLO c", line) == ["", "530"]
    inside = greeted(**config, require_starttls=True, tls=True)
    expected = "502" if line[:4] == "AUTH" and not auth else code
    assert refusals(inside, line) == [expected]


def test_what_needs_no_starttls_is_judged() -> None:
    connection = greeted(starttls=True, require_starttls=True)
    lines: list[str | bytes] = [
        "EHLO",
        "STARTTLS x",
        "QUIT x",
        b"NOOP \xff",
        "",
        b"\x80",
        b"x" * 5000,
    ]
    assert refusals(connection, *lines) == ["501", "501", "501", "501", "500", "500", "500"]
    assert refusals(connection, "GET / HTTP/1.1") == ["421"]


@pytest.mark.parametrize("line", ["BDAT 2", "BDAT 2 LAST"])
@pytest.mark.parametrize("extensions", [{"CHUNKING"}, set[str]()])
def test_a_chunk_before_starttls_is_passed_over(line: str, extensions: set[str]) -> None:
    connection = greeted(starttls=True, require_starttls=True, extensions=frozenset(extensions))
    assert refusals(connection, "EHLO c", line, "", "NOOP") == ["", "530", ""]


def test_a_chunk_of_unknown_size_before_starttls_ends_the_session() -> None:
    connection = greeted(starttls=True, require_starttls=True)
    connection.receive_data(b"BDAT x\r\nNOOP\r\n")
    assert connection.next_event() == Refused(replies.NEEDS_STARTTLS, closing=True)
    connection.send(replies.NEEDS_STARTTLS)
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize("line", ["MAIL FROM:<a@b", "RCPT", "DATA x", "VRFY", "MAIL FROM:<a@b> X"])
def test_what_needs_auth_is_not_judged_before(line: str) -> None:
    settings: Any = {"auth": True, "auth_required": True, "auth_require_tls": False}
    assert refusals(greeted(**settings), "EHLO c", line) == ["", "530"]
    assert refusals(greeted(**settings), "EHLO c", "AUTH", "RSET x") == ["", "501", "501"]


def test_eof_in_the_handshake() -> None:
    connection = greeted(starttls=True)
    say(connection, "EHLO c", "STARTTLS")
    connection.receive_eof()
    assert connection.next_event() is PAUSED
    connection.close()
    assert connection.next_event() == ConnectionClosed()


# AUTH

AUTH = {"auth": True, "auth_require_tls": False}


@pytest.mark.parametrize(
    ("line", "auth"),
    [
        ("AUTH PLAIN", Auth("PLAIN", None, ("PLAIN",))),
        ("auth plain AHRpbQB0", Auth("PLAIN", b"\0tim\0t", ("plain", "AHRpbQB0"))),
        ("AUTH x-foo =", Auth("X-FOO", b"", ("x-foo", "="))),
    ],
)
def test_auth(line: str, auth: Auth) -> None:
    connection = greeted(**AUTH)
    say(connection, "EHLO c")
    connection.receive_data(line.encode() + b"\r\n")
    assert connection.next_event() == auth
    assert connection.send(replies.AUTH_OK).startswith(b"235 2.7.0 ")
    assert (connection.authenticated, connection.state) == (True, State.READY)
    connection.receive_data(line.encode() + b"\r\n")
    assert connection.next_event() == Refused(replies.ALREADY_AUTHENTICATED)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("AUTH", "501"),
        ("AUTH PLAIN a b", "501"),
        ("AUTH PLAIN dGl", "501"),
        ("AUTH PLAIN ü", "501"),
    ],
)
def test_malformed_auth(line: str, code: str) -> None:
    assert refusals(greeted(**AUTH), "EHLO c", line) == ["", code]


@pytest.mark.parametrize(
    ("settings", "lines", "code"),
    [
        ({}, ["EHLO c"], "502"),
        (AUTH, [], "503"),
        (AUTH, ["HELO c"], "503"),
        (AUTH, ["EHLO c", "MAIL FROM:<a@b>"], "503"),
        ({"auth": True}, ["EHLO c"], "538"),
        ({"auth": True, "tls": True}, ["EHLO c"], ""),
    ],
)
def test_when_auth_can_come(settings: dict[str, Any], lines: list[str], code: str) -> None:
    connection = greeted(**settings)
    say(connection, *lines)
    assert refusals(connection, "AUTH PLAIN") == [code]


def in_auth() -> ServerConnection:
    connection = greeted(**AUTH)
    say(connection, "EHLO c")
    connection.receive_data(b"AUTH LOGIN\r\n")
    assert isinstance(connection.next_event(), Auth)
    assert connection.send(CHALLENGE) == b"334 \r\n"
    assert connection.state is State.AUTH
    return connection


def test_challenge_and_response() -> None:
    connection = in_auth()
    connection.receive_data(b"dGlt\r\n\r\nNOOP\r\n")
    assert connection.next_event() == AuthResponse(b"tim")
    assert "tim" not in repr(AuthResponse(b"tim"))
    assert connection.next_event() is PAUSED
    connection.send(CHALLENGE)
    assert connection.next_event() == AuthResponse(b"")
    connection.send(replies.AUTH_OK)
    assert connection.authenticated
    assert connection.next_event() == Noop("")


def test_a_long_response() -> None:
    connection = in_auth()
    response = base64.b64encode(b"x" * 9000)
    connection.receive_data(response + b"\r")
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"\n")
    assert connection.next_event() == AuthResponse(b"x" * 9000)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"*", replies.AUTH_CANCELLED),
        (b"=", replies.BAD_BASE64),
        (b"dGl", replies.BAD_BASE64),
        (b"\xff", replies.BAD_BASE64),
        (b"NOOP ", replies.BAD_BASE64),
        (b"A" * 12292, replies.COMMAND_TOO_LONG),
    ],
)
def test_the_end_of_an_exchange(line: bytes, reply: Reply) -> None:
    connection = in_auth()
    connection.receive_data(line + b"\r\nNOOP\r\n")
    assert connection.next_event() == Refused(reply)
    connection.send(reply)
    assert (connection.state, connection.authenticated) == (State.READY, False)
    assert connection.next_event() == Noop("")


def test_a_response_that_never_ends() -> None:
    connection = in_auth()
    connection.receive_data(b"A" * (2 * 1024 * 1024))
    assert connection.next_event() == Refused(replies.CLOSING_LINE)
    connection.send(replies.CLOSING_LINE)
    assert connection.next_event() == ConnectionClosed()


def test_a_wrong_password() -> None:
    connection = in_auth()
    connection.receive_data(b"dGlt\r\n")
    connection.next_event()
    connection.send(replies.AUTH_FAILED)
    assert (connection.state, connection.authenticated) == (State.READY, False)
    assert refusals(connection, "AUTH PLAIN") == [""]


@pytest.mark.parametrize(
    "line",
    [
        "MAIL FROM:bad",
        "MAIL",
        "MAIL FROM:<a@b> X=1",
        "RCPT TO:<a@b@c>",
        "DATA now",
        "VRFY",
        "EXPN",
        "MAIL FROM:<" + 3000 * "x" + "@b>",
    ],
)
def test_auth_is_required_before_anybody_looks_at_arguments(line: str) -> None:
    """RFC 4954 §6: who has to log in first is told so, and not what else is wrong."""
    connection = greeted(auth_required=True, **AUTH)
    assert refusals(connection, "EHLO c", line, "AUTH PLAIN") == ["", "530", ""]
    assert refusals(connection, line) != ["530"]


def test_auth_required() -> None:
    connection = greeted(auth_required=True, extensions=frozenset({"CHUNKING"}), **AUTH)
    refused = ["MAIL FROM:<a@b>", "VRFY a", "EXPN a", "HELP"]
    assert refusals(connection, *refused) == ["503", "530", "530", "530"]
    assert refusals(connection, "EHLO c", *refused) == ["", *["530"] * len(refused)]
    assert refusals(connection, "RCPT TO:<a@b>", "DATA", "BDAT 0") == ["530"] * 3
    assert refusals(connection, "NOOP", "RSET", "EHLO c", "AUTH PLAIN") == [""] * 4
    assert refusals(connection, *refused) == [""] * len(refused)


# Limits


def test_recipients() -> None:
    connection = greeted(rcpt_max=2)
    lines = [f"RCPT TO:<{number}@e>" for number in range(4)]
    say(connection, "EHLO c", "MAIL FROM:<a@b>")
    assert refusals(connection, *lines) == ["", "", "452", "452"]
    assert refusals(connection, "RSET", "MAIL FROM:<a@b>", *lines[:2]) == [""] * 4


def test_domains() -> None:
    connection = greeted(rcpt_domain_max=2)
    paths = ["a@b", "c@B", "<Postmaster>", "e@f", "g@b"]
    lines = [f"RCPT TO:{path}" for path in paths]
    say(connection, "EHLO c", "MAIL FROM:<a@b>")
    assert refusals(connection, *lines) == ["", "", "", "452", ""]
    assert refusals(connection, "RSET", "MAIL FROM:<a@b>", lines[3]) == [""] * 3


def test_messages() -> None:
    connection = greeted(mail_max=2)
    lines = ["MAIL FROM:<a@b>", "RSET"] * 3
    say(connection, "EHLO c")
    assert refusals(connection, *lines) == ["", "", "", "", "452", ""]
    # A sender that was not accepted is no message.
    connection = greeted(mail_max=1)
    say(connection, "EHLO c")
    connection.receive_data(b"MAIL FROM:<a@b>\r\n")
    connection.next_event()
    connection.send(Reply(550, ("no",)))
    assert refusals(connection, "MAIL FROM:<a@b>") == [""]


def test_limits_of_verbs_that_were_taken_over() -> None:
    connection = greeted(own_verbs=frozenset({"MAIL", "RCPT"}), mail_max=1, rcpt_max=2)
    assert refusals(connection, "EHLO c", "MAIL", "RCPT", "RCPT a", "RCPT") == [""] * 4 + ["452"]
    assert refusals(connection, "RSET", "MAIL") == ["", "452"]


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("mail from:x", "MAIL"),
        ("EHLO", "EHLO"),
        ("DATA", "DATA"),
        ("BDAT 1\r\nx", "BDAT"),
        ("BDAT 9 LAST\r\n123456789", "BDAT"),
        ("BDAT x", "BDAT"),
        (b"XYZZY \xff", "XYZZY"),
        ("", ""),
        ("\x01 x", ""),
        ("x" * 5000, ""),
    ],
)
def test_a_refusal_tells_the_verb(line: str | bytes, verb: str) -> None:
    connection = greeted(extensions=frozenset({"CHUNKING"}))
    first, *_ = say(connection, line)
    assert isinstance(first, Refused)
    assert first.verb == verb


@pytest.mark.parametrize(("begin", "verb"), [("DATA", ""), ("BDAT 0", "BDAT")])
def test_a_refused_message_tells_whether_it_came_by_a_command(begin: str, verb: str) -> None:
    connection = greeted(extensions=frozenset({"CHUNKING"}), data_size_limit=1)
    end = "xxx\r\n." if begin == "DATA" else "BDAT 9 LAST\r\n123456789"
    say(connection, "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<a@b>", begin)
    refused = next(event for event in say(connection, end) if isinstance(event, Refused))
    assert (refused.reply.code, refused.verb) == (552, verb)


@pytest.mark.parametrize(("tls", "code"), [(True, ""), (False, "530")])
def test_requiretls(tls: bool, code: str) -> None:
    connection = greeted(tls=tls, extensions=frozenset({"REQUIRETLS"}))
    assert refusals(connection, "EHLO c", "MAIL FROM:<a@b> REQUIRETLS") == ["", code]


# Replies of a kind that the event cannot have


def test_3yz_is_no_greeting() -> None:
    connection = ServerConnection()
    connection.next_event()
    connection.send(replies.START_MAIL_INPUT)
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize("body", ["DATA", "BDAT"])
def test_3yz_brings_no_second_body(body: str) -> None:
    connection = greeted(extensions=frozenset({"CHUNKING"}))
    say(connection, "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<d@e>")
    say(connection, *({"DATA": ["DATA", "."], "BDAT": ["BDAT 0 LAST"]}[body]))
    connection.send(replies.START_MAIL_INPUT)
    assert connection.state is State.READY
    assert refusals(connection, "MAIL FROM:<a@b>") == [""]


def test_3yz_accepts_nothing() -> None:
    connection = greeted()
    connection.receive_data(b"EHLO c\r\n")
    assert connection.next_event() == Ehlo("c")
    connection.send(replies.START_MAIL_INPUT)
    assert (connection.state, connection.extended) == (State.GREETED, False)
