"""Answers: each recipient's is that of its own mail, and none is more than a client can read."""

from itertools import product

import pytest

from smtp_handlers.relay.answers import for_recipients, told
from smtp_protocol import Reply

YES = Reply.parse("250 2.1.5 yes")
LATER = Reply.parse("452 4.2.2 full")
NEVER = Reply.parse("550 5.1.1 nobody")


@pytest.mark.parametrize(
    "text",
    ["x" * 5000, "é" * 5000, "\U0001f600" * 5000, "\x07" * 5000, "\u202e" * 5000, "e" * 480 + "é"],
)
def test_a_line_is_no_longer_than_a_line_may_be(text: str) -> None:
    for line in told(Reply(550, (text, "short"))).encode(enhanced=True).splitlines(keepends=True):
        assert len(line) <= 512


def test_lines_are_few() -> None:
    assert len(told(Reply(550, ("x",) * 1024)).lines) == 50


def test_an_ordinary_reply_is_told_as_it_is() -> None:
    reply = Reply.parse("550-5.7.1 This is why:\r\n550 5.7.1 https://example.com/" + "x" * 400)
    assert told(reply) == reply
    assert told(Reply(250, ("Grüße",))) == Reply(250, ("Grüße",))


def test_421_would_end_our_own_session() -> None:
    assert str(told(Reply.parse("421 4.3.2 down"))) == "451 4.3.2 down"


ASKED = ["a", "b", "b", "c"]


@pytest.mark.parametrize("replies", list(product([YES, LATER, NEVER], repeat=4)))
def test_as_many_answers_as_recipients(replies: tuple[Reply, ...]) -> None:
    assert for_recipients(ASKED, ASKED, replies) == list(replies)
    # In another order, or fewer of them.
    assert for_recipients(["c", "b"], ASKED, replies) == [replies[3], replies[1]]
    # One of which the next server knows nothing: 250 only if nobody says no.
    for unknown in (["a", "b", "x"], ["b", "b", "b"], ["x", "y", "z", "w"]):
        answer = for_recipients(unknown, ASKED, replies)
        assert isinstance(answer, Reply)
        assert answer.positive == all(reply.positive for reply in replies)


def test_one_answer_is_for_all() -> None:
    assert for_recipients(ASKED, ASKED, [LATER]) == LATER
    assert for_recipients(["a"], ["a"], [YES]) == YES
