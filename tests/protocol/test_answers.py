"""Answers: what is made of whatever a hook returned."""

from typing import Any

import pytest

from smtp_protocol import AuthResult, EnhancedStatus, Envelope, RcptOptions, Reply, replies
from smtp_protocol.answers import (
    auth_reply,
    ehlo_reply,
    replies_from,
    reply_from,
    worst_reply,
)
from smtp_protocol.auth import decided


def kind(value: object) -> str:
    return type(value).__name__


# What is no answer to anything.
RUBBISH: list[Any] = [
    None,
    250,
    2.5,
    True,
    b"250 OK",
    object(),
    {"250 OK"},
    {250: "OK"},
    Exception(),
]
BAD_TEXTS = [
    *("", "OK", "25 OK", "2500 OK", "99 little", "600 much", "٢٥٠ OK", "250-unfinished"),
    *(
        "250 two\r\nlines",
        "250 OK\r\n250 OK",
        "250-a\r\n251 b",
        "250 OK\r\n",
        "250 injected\n221 Bye",
    ),
    *("250 bare\rreturn", "250 nul\0", "250-1\r\n\r\n250 2"),
]


async def never_awaited() -> bool:
    return False


@pytest.mark.parametrize("value", [True, False, None, 1, 0, object(), [], ["x"]], ids=kind)
def test_a_decision(value: Any) -> None:
    assert decided(value) is bool(value)
    assert AuthResult(success=value).success is value


@pytest.mark.parametrize("value", ["no", "", b"no", AuthResult(success=False)], ids=kind)
def test_what_may_say_no_is_no_yes(value: Any) -> None:
    with pytest.raises(TypeError, match="True or False is the answer, not"):
        decided(value)
    with pytest.raises(TypeError, match="True or False is the answer, not"):
        AuthResult(success=value)


def test_a_coroutine_and_a_reply_are_no_yes() -> None:
    coroutine: Any = never_awaited()
    with pytest.raises(TypeError, match="not coroutine"):
        decided(coroutine)
    with pytest.raises(TypeError, match="not coroutine"):
        AuthResult(success=coroutine)
    coroutine.close()
    with pytest.raises(TypeError, match="not Reply"):
        decided(replies.OK)


def test_a_reply_from_a_text() -> None:
    assert reply_from("250 OK") == Reply(250, ("OK",))
    assert reply_from("550-5.7.1 No\r\n550 5.7.1 way") == Reply(
        550, ("No", "way"), EnhancedStatus(5, 7, 1)
    )
    reply = Reply(250, ("OK",))
    assert reply_from(reply) is reply


@pytest.mark.parametrize("rubbish", [*RUBBISH, [], ["250 OK"], ("250 OK",)], ids=kind)
def test_what_is_no_answer_is_no_reply(rubbish: Any) -> None:
    with pytest.raises(TypeError, match=f"not with {type(rubbish).__name__}"):
        reply_from(rubbish)


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_text_that_is_not_one_reply(text: str) -> None:
    for make in (reply_from, ehlo_reply, lambda text: replies_from(text, 1)):
        with pytest.raises(ValueError, match="repl"):
            make(text)
    with pytest.raises(ValueError, match="repl"):
        replies_from(["250 OK", text], 1)


# EHLO.


def test_a_reply_to_ehlo() -> None:
    assert ehlo_reply(["250-mx", "250-HELP", "250 LAST"]) == Reply(250, ("mx", "HELP", "LAST"))
    # Wherever the hook has put its own lines.
    assert ehlo_reply(["250 mx", "250 HELP", "250-LAST"]) == Reply(250, ("mx", "HELP", "LAST"))
    assert ehlo_reply(["250 2.0.0 mx", "250 2.0.0"]).lines == ("2.0.0 mx", "2.0.0 ")
    assert ehlo_reply("550 Not you") == Reply(550, ("Not you",))
    assert ehlo_reply(Reply(550, ("Not you",))) == Reply(550, ("Not you",))


@pytest.mark.parametrize(
    "lines",
    [[], ["250-mx", "251 HELP"], ["mx"], [""], ["250-mx\r\n250 HELP"], ["250-mx\n"], ["250 a\r"]],
)
def test_lines_that_make_no_reply_to_ehlo(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="repl"):
        ehlo_reply(lines)


@pytest.mark.parametrize("rubbish", [*RUBBISH, ("250 HELP",), [250], [None]], ids=kind)
def test_what_is_no_answer_to_ehlo(rubbish: Any) -> None:
    with pytest.raises(TypeError):
        ehlo_reply(rubbish)


# AUTH.


@pytest.mark.parametrize(
    ("success", "message", "reply"),
    [
        (True, None, str(replies.AUTH_OK)),
        (False, None, str(replies.AUTH_FAILED)),
        (True, "235 Welcome", "235 Welcome"),
        (False, "535 Go away", "535 Go away"),
        (False, "454 4.7.0 Later", "454 4.7.0 Later"),
        # The message does not decide.
        (True, "535 Go away", str(replies.AUTH_OK)),
        (True, "334 ", str(replies.AUTH_OK)),
        (False, "235 Welcome", str(replies.AUTH_FAILED)),
        (False, "334 ", str(replies.AUTH_FAILED)),
    ],
)
def test_a_reply_to_auth(success: bool, message: str | None, reply: str) -> None:
    assert str(auth_reply(AuthResult(success=success, message=message))) == reply


def test_a_message_of_auth_that_is_no_reply() -> None:
    with pytest.raises(ValueError, match="reply"):
        auth_reply(AuthResult(success=True, message="Welcome"))


# The end of a message.


def test_the_worst_of_several_replies() -> None:
    assert worst_reply(["250 one", "452 two", "550 three", "250 four"]).code == 550
    assert worst_reply(("250 one", Reply(250, ("two",)))) == Reply(250, ("one",))
    assert worst_reply(["451 one", "452 two", "250 three"]) == Reply(451, ("one",))
    with pytest.raises(ValueError):  # noqa: PT011 whatever `max` says of nothing
        worst_reply([])


def envelope_of(*added: list[str]) -> Envelope:
    """An envelope to which each accepted RCPT has added some addresses."""
    envelope = Envelope()
    for addresses in added:
        envelope.rcpt_tos += addresses
        envelope.accept(addresses[0] if addresses else "nobody@x", RcptOptions())
    return envelope


OK, FULL, GONE = "250 OK", "452 full", "550 gone"


@pytest.mark.parametrize(
    ("result", "reply"),
    [(OK, OK), (Reply(250, ("OK",)), OK), ([OK], OK), ((OK, FULL), FULL), ([FULL, GONE, OK], GONE)],
)
def test_smtp_has_one_reply(result: object, reply: str) -> None:
    assert replies_from(result, 1) == [reply_from(reply)]


@pytest.mark.parametrize(
    ("added", "result", "expected"),
    [
        ([["a"]], OK, [OK]),
        ([["a"], ["b"]], FULL, [FULL, FULL]),
        ([["a"], ["b"]], [OK, FULL], [OK, FULL]),
        ([["a"], ["b"], ["a"]], (OK, FULL, GONE), [OK, FULL, GONE]),
        # One RCPT, two addresses: the worst of theirs.
        ([["a", "b"], ["c"]], [OK, FULL, OK], [FULL, OK]),
        ([["a", "b"], ["c"]], [OK, OK, GONE], [OK, GONE]),
        # A RCPT that nobody has said anything about: the worst of all.
        ([["a"], []], [OK], [OK, OK]),
        ([["a"], [], ["b"]], [OK, FULL], [OK, FULL, FULL]),
    ],
)
def test_lmtp_has_a_reply_for_each_rcpt(
    added: list[list[str]], result: object, expected: list[str]
) -> None:
    envelope = envelope_of(*added)
    assert [str(reply) for reply in replies_from(result, len(added), envelope)] == expected
    # Those that were pushed have been sent.
    rest = replies_from(result, len(added) - 1, envelope)
    assert [str(reply) for reply in rest] == expected[1:]
    # There are never too few, be the envelope what it may.
    assert len(replies_from(result, len(added) + 3, envelope)) == len(added) + 3


@pytest.mark.parametrize("number", [1, 3])
def test_lmtp_needs_an_answer_for_each_address(number: int) -> None:
    with pytest.raises(TypeError, match="once, or for each of 2 recipients"):
        replies_from([OK] * number, 2, envelope_of(["a"], ["b"]))


@pytest.mark.parametrize("rubbish", [*RUBBISH, [], (), [None], [[OK]], iter([OK])], ids=kind)
def test_what_is_no_answer_to_a_message(rubbish: Any) -> None:
    for envelope in (None, envelope_of(["a"])):
        with pytest.raises(TypeError, match="answers with"):
            replies_from(rubbish, 1, envelope)
