"""Replies: values that cannot be wrong, their text form both ways, and their wire form."""

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import EnhancedStatus, ProtocolError, Reply, replies

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=30)
LOOKS_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}( |\Z)")


@st.composite
def enhanced_statuses(draw: st.DrawFn, class_: int) -> EnhancedStatus:
    number = st.integers(0, 999)
    return EnhancedStatus(class_, draw(number), draw(number))


@st.composite
def some_replies(draw: st.DrawFn) -> Reply:
    code = draw(st.integers(200, 599))
    enhanced = None
    if code // 100 != 3:
        enhanced = draw(st.none() | enhanced_statuses(code // 100))
    lines = draw(st.lists(LINES, min_size=1, max_size=4))
    if enhanced is None and LOOKS_ENHANCED.match(lines[0]):
        # Such a text is an enhanced status, in text form; there is no other way to write it.
        lines[0] = f"x{lines[0]}"
    return Reply(code, tuple(lines), enhanced)


@given(some_replies())
def test_text_form_is_read_back(reply: Reply) -> None:
    assert Reply.parse(str(reply)) == reply


@given(some_replies())
def test_a_reply_is_read_off_the_wire(reply: Reply) -> None:
    wire = reply.encode(enhanced=True).decode("ascii")
    read = Reply.parse(wire.removesuffix("\r\n"))
    assert (read.code, len(read.lines)) == (reply.code, len(reply.lines))
    if reply.enhanced is not None:
        assert read.enhanced == reply.enhanced


@given(some_replies(), st.booleans())
def test_wire_form_is_lines_of_printable_ascii(reply: Reply, enhanced: bool) -> None:
    wire = reply.encode(enhanced=enhanced)
    assert wire.endswith(b"\r\n")
    lines = wire.removesuffix(b"\r\n").split(b"\r\n")
    assert len(lines) == len(reply.lines)
    for number, line in enumerate(lines, 1):
        separator = b" " if number == len(lines) else b"-"
        assert line[:4] == str(reply.code).encode() + separator
        assert re.fullmatch(rb"[\t -~]*", line)


@given(st.text() | st.from_regex(r"[2-5][0-9]{2}[ -]?.*"))
def test_any_text_is_a_reply_or_a_value_error(text: str) -> None:
    try:
        reply = Reply.parse(text)
    except ValueError:
        return
    assert Reply.parse(str(reply)) == reply


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("250 OK", Reply(250, ("OK",))),
        ("250", Reply(250, ("",))),
        ("250 ", Reply(250, ("",))),
        ("250  two spaces", Reply(250, (" two spaces",))),
        ("250-one\r\n250 two", Reply(250, ("one", "two"))),
        ("250-one\n250 two", Reply(250, ("one", "two"))),
        ("250-one\r\n250", Reply(250, ("one", ""))),
        ("334 VXNlcm5hbWU6", Reply(334, ("VXNlcm5hbWU6",))),
        ("550 5.7.1 Not here", Reply(550, ("Not here",), EnhancedStatus(5, 7, 1))),
        ("550 5.7.1", Reply(550, ("",), EnhancedStatus(5, 7, 1))),
        ("550-5.7.1 a\r\n550 5.7.1 b", Reply(550, ("a", "b"), EnhancedStatus(5, 7, 1))),
        ("550-5.7.1 a\r\n550 5.7.1", Reply(550, ("a", ""), EnhancedStatus(5, 7, 1))),
        ("550-5.7.1 a\r\n550 b", Reply(550, ("a", "b"), EnhancedStatus(5, 7, 1))),
        ("250-2.0.0 a\r\n250 2.0.0rc1", Reply(250, ("a", "2.0.0rc1"), EnhancedStatus(2, 0, 0))),
        # A status of another class than the code's is text.
        ("250 5.7.1 x", Reply(250, ("5.7.1 x",))),
        ("354 2.0.0 go", Reply(354, ("2.0.0 go",))),
        ("250 2.0.0rc1 is out", Reply(250, ("2.0.0rc1 is out",))),
        ("250 2.0.1000", Reply(250, ("2.0.1000",))),
        ("250 grüß", Reply(250, ("grüß",))),
    ],
)
def test_reading(text: str, reply: Reply) -> None:
    assert Reply.parse(text) == reply


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK",
        "25",
        "2500 OK",
        "250OK",
        "150 wait",
        "650 what",
        "99 x",
        " 250 OK",
        "+250 OK",
        "\uff12\uff15\uff10 OK",
        "250_OK",
        "250-OK",
        "250-OK\r\n",
        "250 OK\r\n",
        "250 OK\n",
        "250 one\r\n250 two",
        "250 one\n250 two",
        "250-one\r\n251 two",
        "250-one\r\n\r\n250 two",
        "250-one\r\ntwo",
        "250 OK\r250 OK",
        "250 \0",
        "250 OK\r\nMAIL FROM:<a@b>",
    ],
)
def test_reading_what_is_no_reply(text: str) -> None:
    with pytest.raises(ValueError, match=r"repl|CR, LF or NUL"):
        Reply.parse(text)


@pytest.mark.parametrize("code", [0, 99, 100, 199, 600, 1000, -250])
def test_impossible_codes(code: int) -> None:
    with pytest.raises(ValueError, match="reply code"):
        Reply(code, ("x",))


def test_a_reply_has_a_line() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Reply(250, ())


def test_the_lines_are_no_list() -> None:
    lines: Any = ["a"]
    with pytest.raises(ValueError, match="tuple"):
        Reply(250, lines)


@pytest.mark.parametrize(("octet", "before"), list(product("\r\n\0", ["", "a"])))
def test_a_line_has_no_line_end(octet: str, before: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Reply(250, ("first", f"{before}{octet}250 injected"))


def test_enhanced_status_is_of_the_class_of_the_code() -> None:
    with pytest.raises(ValueError, match=r"5\.0\.0 does not go with code 250"):
        Reply(250, ("x",), EnhancedStatus(5, 0, 0))


@pytest.mark.parametrize(
    ("reply", "enhanced", "wire"),
    [
        (Reply(250, ("OK",)), False, b"250 OK\r\n"),
        (Reply(250, ("OK",)), True, b"250 2.0.0 OK\r\n"),
        (Reply(450, ("no",)), True, b"450 4.0.0 no\r\n"),
        (Reply(550, ("no",)), True, b"550 5.0.0 no\r\n"),
        (Reply(354, ("go",)), True, b"354 go\r\n"),
        (Reply(550, ("no",), EnhancedStatus(5, 7, 1)), False, b"550 no\r\n"),
        (Reply(550, ("no",), EnhancedStatus(5, 7, 1)), True, b"550 5.7.1 no\r\n"),
        (Reply.parse("550 5.7.1 no"), False, b"550 5.7.1 no\r\n"),
        (Reply(250, ("a", "b")), False, b"250-a\r\n250 b\r\n"),
        (Reply(250, ("a", "b")), True, b"250-2.0.0 a\r\n250 2.0.0 b\r\n"),
        (Reply(250, ("a\tb",)), False, b"250 a\tb\r\n"),
        (Reply(250, ("\x1b[31m\x7f",)), False, b"250 \\x1b[31m\\x7f\r\n"),
        (Reply(250, ("\x01", "\x02")), False, b"250-\\x01\r\n250 \\x02\r\n"),
        (Reply(250, ("grüß\u2028",)), False, b"250 gr\\xfc\\xdf\\u2028\r\n"),
    ],
)
def test_wire_form(reply: Reply, enhanced: bool, wire: bytes) -> None:
    assert reply.encode(enhanced=enhanced) == wire


@pytest.mark.parametrize(
    ("code", "positive"), [(200, True), (250, True), (354, True), (400, False), (550, False)]
)
def test_positive(code: int, positive: bool) -> None:
    assert Reply(code, ("x",)).positive is positive


def test_text() -> None:
    assert Reply(250, ("a", "b"), EnhancedStatus(2, 0, 0)).text == "a\nb"


def test_how_it_is_shown_is_no_part_of_what_it_says() -> None:
    shown = Reply(250, ("a",), EnhancedStatus(2, 0, 0), always_enhanced=True)
    assert shown == Reply(250, ("a",), EnhancedStatus(2, 0, 0))


@pytest.mark.parametrize("text", ["2.0.0", "4.1.22", "5.999.999"])
def test_enhanced_status_both_ways(text: str) -> None:
    assert str(EnhancedStatus.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "3.0.0", "2.0", "2.0.0.0", "2.0.1000", "2.0.0 ", " 2.0.0", "2.0.x", "2..0"]
)
def test_no_enhanced_status(text: str) -> None:
    with pytest.raises(ValueError, match="no enhanced status"):
        EnhancedStatus.parse(text)


@pytest.mark.parametrize("numbers", [(3, 0, 0), (2, 1000, 0), (2, 0, 1000), (2, -1, 0), (2, 0, -1)])
def test_impossible_enhanced_status(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="enhanced status"):
        EnhancedStatus(*numbers)


def test_the_error_carries_its_reply() -> None:
    error = ProtocolError(replies.BAD_SEQUENCE)
    assert error.reply is replies.BAD_SEQUENCE
    assert str(error) == "503 5.5.1 Bad sequence of commands"


def test_syntax_error() -> None:
    assert str(replies.syntax_error("RSET")) == "501 5.5.4 Syntax: RSET"


CANNED = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", CANNED)
def test_canned_replies(name: str) -> None:
    reply = CANNED[name]
    # RFC 2034 §4: all but 3yz have an enhanced status; 421 shows it always (design).
    assert (reply.enhanced is None) == (reply.code // 100 == 3)
    assert reply.always_enhanced or reply.code != 421
    assert all(len(line) <= 500 for line in reply.encode(enhanced=True).splitlines())
