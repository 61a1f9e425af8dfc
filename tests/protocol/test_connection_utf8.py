"""Connection, UTF-8: replies beyond ASCII, for clients that said that they read them (RFC 6531)."""

import pytest

from smtp_protocol import (
    NEED_DATA,
    BodyChunk,
    BodyEnd,
    Connected,
    Data,
    ProtocolConfig,
    Refused,
    Reply,
    ServerConnection,
    replies,
)

UTF8 = ProtocolConfig(extensions=frozenset({"SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"}))
HELLO = Reply(250, ("grüß dich", "\x1b[1m 孫\u2028\x85\u202e"))
SHOWN = "250-2.0.0 grüß dich\r\n250 2.0.0 \\x1b[1m 孫\\u2028\\x85\\u202e\r\n".encode()
ESCAPED = b"250-2.0.0 gr\\xfc\\xdf dich\r\n250 2.0.0 \\x1b[1m \\u5b6b\\u2028\\x85\\u202e\r\n"
MAIL = "MAIL FROM:<ü@b> SMTPUTF8"


def greeted(config: ProtocolConfig = UTF8) -> ServerConnection:
    connection = ServerConnection(config)
    assert connection.next_event() == Connected()
    connection.send(Reply(220, ("mx",)))
    return connection


def answers(connection: ServerConnection, *lines: str, reply: Reply = HELLO) -> list[bytes]:
    """What is sent for each line when all are answered with ``reply``, refusals apart."""
    connection.receive_data("".join(f"{line}\r\n" for line in lines).encode())
    sent = []
    while (event := connection.next_event()) is not NEED_DATA:
        match event:
            case BodyChunk():
                continue
            case Data():
                sent.append(connection.send(replies.START_MAIL_INPUT))
            case Refused():
                sent.append(connection.send(event.reply))
            case _:
                sent.append(connection.send(reply))
    return sent


def test_within_a_transaction_with_smtputf8() -> None:
    connection = greeted()
    (greeting,) = answers(connection, "EHLO c")
    assert b"gr\\xfc" in greeting
    assert answers(connection, MAIL, "RCPT TO:<ü@b>", "NOOP", "VRFY x") == [SHOWN] * 4
    _, end = answers(connection, "DATA", "text", ".")
    assert end == SHOWN
    # It is over, and what comes next is another one.
    assert answers(connection, "NOOP", "MAIL FROM:<a@b>", "RCPT TO:<a@b>") == [ESCAPED] * 3


@pytest.mark.parametrize("last", ["RSET", "EHLO c", "BDAT 0 LAST"])
def test_the_reply_that_ends_a_transaction_is_a_part_of_it(last: str) -> None:
    connection = greeted()
    answers(connection, "EHLO c", MAIL, "RCPT TO:<ü@b>")
    (end,) = answers(connection, last)
    assert "grüß".encode() in end
    assert answers(connection, "NOOP") == [ESCAPED]


def test_the_reply_to_mail_itself() -> None:
    connection = greeted()
    answers(connection, "EHLO c")
    no = Reply(550, ("kein grüner ü@b",))
    assert answers(connection, MAIL, reply=no) == ["550 5.0.0 kein grüner ü@b\r\n".encode()]
    # That MAIL was refused: there is no transaction.
    assert answers(connection, "NOOP") == [ESCAPED]
    assert answers(connection, "MAIL FROM:<a@b>", reply=no) == [
        b"550 5.0.0 kein gr\\xfcner \\xfc@b\r\n"
    ]


def test_vrfy_and_expn_with_the_parameter() -> None:
    connection = greeted()
    answers(connection, "EHLO c")
    assert answers(connection, "VRFY x SMTPUTF8", "EXPN x smtputf8") == [SHOWN] * 2
    assert answers(connection, "VRFY x", "EXPN x", "NOOP SMTPUTF8") == [ESCAPED] * 3


def test_a_refusal_within_a_transaction() -> None:
    connection = greeted()
    answers(connection, "EHLO c", MAIL)
    assert answers(connection, "RCPT TO:<x") == [b"553 5.1.3 Malformed recipient address\r\n"]


def test_each_reply_of_lmtp() -> None:
    config = ProtocolConfig(lmtp=True, extensions=frozenset({"SMTPUTF8"}))
    connection = greeted(config)
    answers(connection, "LHLO c", MAIL, "RCPT TO:<a@b>", "RCPT TO:<a@c>", "DATA")
    connection.receive_data(b".\r\n")
    assert connection.next_event() == BodyEnd()
    for _ in range(2):
        assert connection.send(Reply(250, ("ü",))) == "250 2.0.0 ü\r\n".encode()
    assert answers(connection, "NOOP", reply=Reply(250, ("ü",))) == [b"250 2.0.0 \\xfc\r\n"]


def test_without_the_extension() -> None:
    connection = greeted(ProtocolConfig(extensions=frozenset({"ENHANCEDSTATUSCODES"})))
    answers(connection, "EHLO c", "MAIL FROM:<a@b>")
    assert answers(connection, "NOOP", "VRFY x SMTPUTF8") == [ESCAPED] * 2


def test_a_reply_that_nobody_asked_for() -> None:
    connection = greeted()
    answers(connection, "EHLO c", MAIL)
    assert connection.send(Reply(421, ("tschüß",))) == "421 4.0.0 tschüß\r\n".encode()


def test_both_forms_are_kept_apart() -> None:
    reply = Reply(250, ("ü\t\x7f", "a"))
    for _ in range(2):
        assert reply.encode() == b"250-\\xfc\t\\x7f\r\n250 a\r\n"
        assert reply.encode(utf8=True) == "250-ü\t\\x7f\r\n250 a\r\n".encode()
        assert reply.encode(utf8=True, enhanced=True).startswith("250-2.0.0 ü".encode())
    assert Reply(250, ("\ud800",)).encode(utf8=True) == b"250 \\ud800\r\n"
