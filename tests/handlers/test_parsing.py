"""Parsing: the bounds of a message, and that within them it is what the email package makes."""

import email
from email.message import EmailMessage
from email.policy import Policy, compat32, default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_handlers import parsing
from smtp_handlers.parsing import Unparsable, parse


def nested(depth: int, body: str = "") -> str:
    """A message with so many levels."""
    levels = (
        f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n"
        for number in range(depth - 1)
    )
    return "".join(levels) + body


def forwarded(depth: int) -> str:
    """The same with messages in messages."""
    return "Content-Type: message/rfc822\r\n\r\n" * (depth - 1) + "Subject: x\r\n\r\n"


MIXED = "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
REPORT = "Content-Type: message/delivery-status\r\n\r\n"

#: What is within the bounds, and what just is not.
BOUNDS = {
    "depth": (nested(50), nested(51), "levels"),
    "depth of messages": (forwarded(50), forwarded(51), "levels"),
    "parts": (MIXED + "--b\r\n\r\n" * 4_999, MIXED + "--b\r\n\r\n" * 5_000, "parts"),
    "parts of a report": (
        REPORT + "a: b\r\n\r\n" * 4_998,
        REPORT + "a: b\r\n\r\n" * 5_000,
        "parts",
    ),
    "fields": ("X: y\r\n" * 10_000, "X: y\r\n" * 10_001, "header fields"),
    "one field": (f"X: {'y' * 102_396}\r\n", f"X: {'y' * 102_397}\r\n", "octets in a header field"),
    "a Content field": (
        f"Content-Type: {'y' * 8_177}\r\n",
        f"Content-Type: {'y' * 8_178}\r\n",
        "octets in a header field",
    ),
    "a folded field": (
        "X: y\r\n" + " y\r\n" * 34_000,
        "X: y\r\n" + " y\r\n" * 34_132,
        "header field",
    ),
    "all headers": (
        f"X: {'y' * 52_424}\r\n" * 10,
        f"X: {'y' * 52_425}\r\n" * 10,
        "octets in headers",
    ),
    "lines": ("\r\n" * 4_500_000, "\r\n" * 4_600_000, "lines"),
    "lines in levels": (
        nested(50, "\r\n" * 79_000),
        nested(50, "\r\n" * 81_500),
        "lines, times levels",
    ),
    "lines that begin with a colon": (":\r\n" * 100_000, ":\r\n" * 100_002, "odd lines"),
    "lines with From": ("From x\r\n" * 100_000, "From x\r\n" * 100_002, "odd lines"),
}


@pytest.mark.parametrize("policy", [default, compat32])
@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str, policy: Policy) -> None:
    within, beyond, reason = BOUNDS[name]
    parse(within.encode(), EmailMessage, policy)
    with pytest.raises(Unparsable, match=reason):
        parse(beyond.encode(), EmailMessage, policy)


def test_an_attachment_of_usual_lines_may_be_as_large_as_it_likes() -> None:
    lines = (b"x" * 76 + b"\r\n") * 500_000
    content = nested(5).encode() + b"\r\n" + lines
    message = parse(content, EmailMessage, default)
    [*_, leaf] = message.walk()
    assert len(leaf.get_payload()) == 500_000 * 77 - 1


@pytest.mark.parametrize("depth", [30, 49])
def test_a_message_at_the_bounds_can_be_written(depth: int) -> None:
    content = nested(depth, "\r\nHi\r\n") + "".join(
        f"--b{n}--\r\n" for n in reversed(range(depth - 1))
    )
    message = parse(content.encode(), EmailMessage, default)
    assert parse(message.as_bytes(), EmailMessage, default).as_bytes() == message.as_bytes()


LINES = [
    *(
        "",
        "Hi",
        ":",
        "From x",
        " folded",
        "Subject: a",
        "To: <a:b@c;>",
        "--b",
        "--b--",
        "--c",
        "\udce9",
    ),
    *("Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/digest; boundary=c"),
    *("Content-Type: message/rfc822", "Content-Type: message/delivery-status"),
    *("Content-Type: multipart/mixed", "Content-Transfer-Encoding: base64", "MIME-Version: 1.0"),
    "Content-Type: multipart/mixed; boundary*=idna''b",
    "Content-Type: text/plain; charset*=undefined'x'%ff",
]


@given(
    st.lists(st.sampled_from(LINES), max_size=20),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.sampled_from([default, compat32]),
)
def test_any_message_is_what_the_email_package_makes(
    lines: list[str], line_end: str, policy: Policy
) -> None:
    content = line_end.join(lines).encode("utf-8", "surrogateescape")
    try:
        message = parse(content, EmailMessage, policy)
    except Unparsable:
        return
    try:
        theirs = email.message_from_bytes(content.replace(b"\r\n", b"\n"), policy=policy)
    except Exception:
        return
    assert _shape(message) == _shape(theirs)


def _payload(part: email.message.Message) -> object:
    """The text of a part, or what the email package raises in the place of it."""
    try:
        return part.get_payload()
    except Exception as error:
        return type(error)


def _shape(message: email.message.Message) -> list[object]:
    return [
        (
            part.get_content_type(),
            part.preamble,
            part.epilogue,
            None if part.is_multipart() else _payload(part),
            [name for name, _ in part.raw_items()],
            [type(defect) for defect in part.defects],
        )
        for part in message.walk()
    ]


def test_parts_are_counted_whatever_is_in_them() -> None:
    part = "Content-Type: text/plain; charset*=undefined'x'%ff\n\n\udce9\n"
    content = f"{MIXED}--b\n{part}--b\n{part}".encode("utf-8", "surrogateescape")
    assert len(list(parse(content, EmailMessage, default).walk())) == 3


def test_line_ends_are_those_of_python_but_for_binary_mail() -> None:
    content = b"Content-Type: text/plain\r\n\r\na\r\nb\rc\n"
    assert parse(content, EmailMessage, default).get_payload() == "a\nb\rc\n"
    assert parse(content, EmailMessage, default, binary=True).get_payload() == "a\r\nb\rc\n"


def test_what_a_class_raises_that_is_no_word_about_the_message_is_raised() -> None:
    class Fails(EmailMessage):
        def set_raw(self, name: str, value: str) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        parse(b"Subject: x\r\n\r\n", Fails, default)


def test_the_parts_have_one_policy() -> None:
    message = parse(nested(3).encode(), EmailMessage, default)
    assert len({id(part.policy) for part in message.walk()}) == 1
    assert parsing.MAX_DEPTH == 50
