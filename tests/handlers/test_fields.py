"""Fields: they are read as the email package reads them, but never fail and never cost much."""

import copy
import email
import pickle
import sys
from contextlib import suppress
from email.errors import MessageError
from email.headerregistry import BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy, default
from email.utils import _has_surrogates  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_handlers.fields import Fields, Unread, envelope_field
from smtp_handlers.parsing import parse

NAMES = [*HeaderRegistry().registry, "X-Other"]
PIECES = [
    *(
        "=?utf-8?q?",
        "=?utf-8?b?",
        "?=",
        "=?utf-8?q?a=0D=0Ab?=",
        " =?latin-1?q?=e9?= ",
        "=?idna?q?a",
    ),
    *(
        "a@b.example",
        "group:",
        "; ",
        "(",
        ")",
        "<",
        ">",
        '"',
        "\\",
        ",",
        "@",
        ".",
        "[",
        "]",
        "*0*=",
    ),
    *("name=", "utf-8''%e9", "\t", " ", "\r\n ", "é", "\udce9", "\x00", "\x0b", "\x85", "a", "1.0"),
    *("text/plain", "Wed, 25 Nov 2026 08:00:00 +0000", "unlisted-recipients:; (no To-header)"),
]
# Debian's Python 3.11.2 parts a field that came where no line ends, and then refuses to write what
# it has made of it.
REFUSED = (MessageError,) if sys.version_info < (3, 11, 4) else ()

values = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def parsed(name: str, value: str, policy: Policy = default) -> EmailMessage:
    """A message with one field."""
    header = f"{name}: {value}\r\n\r\n".encode("utf-8", "surrogateescape")
    return parse(header, EmailMessage, policy)


def narrow(message: EmailMessage) -> Policy:
    """The message's policy, but for the lines, which are all written anew."""
    assert isinstance(message.policy, EmailPolicy)
    return message.policy.clone(max_line_length=20, refold_source="all", linesep="\r\n")


@given(st.sampled_from(NAMES), values)
def test_any_field_is_read_and_written(name: str, value: str) -> None:
    message = parsed(name, value)
    for text in map(str, message.values()):
        assert not _has_surrogates(text)
        assert "\r" not in text
        assert "\n" not in text
    with suppress(*REFUSED):
        message.as_bytes()
        message.as_string().encode()
    message.as_bytes(policy=narrow(message))


@given(st.sampled_from(NAMES), values)
def test_what_the_email_package_reads_is_read_the_same(name: str, value: str) -> None:
    header = f"{name}: {value}\n\n".encode("utf-8", "surrogateescape").replace(b"\r\n", b"\n")
    theirs = email.message_from_bytes(header, policy=default)
    for ours, raw in zip(parsed(name, value).values(), theirs.raw_items(), strict=True):
        try:
            field = default.header_fetch_parse(*raw)
        except Exception:
            assert isinstance(ours, Unread)
            continue
        if "\n" not in field and "\r" not in field:
            assert ours == field
            assert [type(defect) for defect in ours.defects] == [
                type(defect) for defect in field.defects
            ]


@given(st.sampled_from(NAMES), values)
def test_what_is_written_is_read_the_same(name: str, value: str) -> None:
    message = parsed(name, value)
    octets = message.as_bytes(policy=narrow(message))
    again = parse(octets, EmailMessage, default)
    if value.isascii() and value.isprintable():
        assert [text.split() for text in again.values()] == [
            text.split() for text in message.values()
        ]


#: What an empty field of each kind says.
EMPTY: dict[str, dict[str, object]] = {
    "to": {"addresses": (), "groups": ()},
    "date": {"datetime": None},
    "content-type": {"content_type": "text/plain", "params": {}},
    "content-disposition": {"content_disposition": None, "params": {}},
    "content-transfer-encoding": {"cte": "7bit"},
    "mime-version": {"version": None, "major": None},
    "subject": {"max_count": 1},
    "x-other": {"max_count": None},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_too_complex_is_as_an_empty_one(name: str) -> None:
    value = "(a)" * 30_000 + "=?"
    field = Fields(HeaderRegistry())(name, value)
    assert (field, field.name) == (value, name)
    assert isinstance(field, Unread)
    assert "too complex" in str(field.defects)
    for attribute, expected in EMPTY.get(name.lower(), {}).items():
        assert getattr(field, attribute) == expected


def test_a_list_of_900_recipients_is_no_field_too_complex() -> None:
    people = [f"Person {number:03} <person{number:03}@mail.example.com>" for number in range(900)]
    [to] = parsed("To", ",\r\n ".join(people)).values()
    assert len(to.addresses) == 900
    assert to.addresses[0].display_name == "Person 000"


def test_all_fields_together_are_bounded() -> None:
    hard = "(a)" * 1500
    header = "".join(f"To: {number}{hard}\r\n" for number in range(20))
    message = parse(header.encode(), EmailMessage, default)
    unread = [isinstance(field, Unread) for field in message.values()]
    assert (unread[0], unread[-1]) == (False, True)


def test_a_line_end_inside_a_field_is_a_space() -> None:
    [subject] = parsed("Subject", "=?utf-8?q?a=0D=0AX-Evil:_b?=").values()
    assert subject == "a X-Evil: b"
    answer = EmailMessage()
    answer["Subject"] = f"Re: {subject}"


def test_a_field_is_read_once() -> None:
    message = parsed("To", "a@b.example")
    assert message["To"] is message["To"]


def test_fields_of_the_application_are_the_email_packages_own() -> None:
    message = parsed("To", "a@b.example")
    del message["To"]
    message["To"] = "Änne <anne@example.com>"
    message["Subject"] = "Grüße"
    with pytest.raises(ValueError, match="at most 1 Subject"):
        message["Subject"] = "Another"
    for number in range(5_000):  # however many there are: each is read
        message.replace_header("To", f"a@b.example, {number}@d.example")
    assert len(message["To"].addresses) == 2
    assert b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=" in message.as_bytes()


def test_a_factory_of_ones_own_is_used() -> None:
    class Loud(HeaderRegistry):
        def __call__(self, name: str, value: Any) -> BaseHeader:
            return super().__call__(name, value.upper())

    policy = default.clone(header_factory=Loud())
    assert parsed("To", "a@b.example", policy)["To"] == "A@B.EXAMPLE"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["a@b.example", "=?utf-8?q?a=0D=0Ab?= <x@y.example>"])
def test_a_message_can_be_pickled_and_copied(name: str, value: str) -> None:
    message = parsed(name, value)
    message["X-Mine"] = envelope_field("X-Mine", "=?utf-8?q?a?=@b.example")
    for other in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
        assert other.values() == message.values()
        assert other.as_bytes() == message.as_bytes()
