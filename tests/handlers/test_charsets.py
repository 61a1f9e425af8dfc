"""Charsets: text of any charset is read; what the email package reads is read the same."""

import email
from email.message import EmailMessage
from email.policy import default

import pytest

from smtp_handlers.parsing import parse

TEXT = "Grüße"


def message(charset: str, octets: bytes) -> tuple[EmailMessage, EmailMessage]:
    """The same message, read by us and by the email package."""
    content = f"Content-Type: text/plain; charset={charset}\n\n".encode() + octets
    theirs = email.message_from_bytes(content, policy=default)
    assert isinstance(theirs, EmailMessage)
    return parse(content, EmailMessage, default), theirs


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "ISO-8859-15", "utf-7", "windows-1252"])
def test_a_charset_that_is_known(charset: str) -> None:
    ours, theirs = message(charset, TEXT.encode(charset))
    assert ours.get_content() == theirs.get_content() == TEXT


@pytest.mark.parametrize("octets", [b"\xff", b"a\x80"])
@pytest.mark.parametrize("charset", ["us-ascii", "utf-8"])
def test_octets_that_are_not_of_the_charset(charset: str, octets: bytes) -> None:
    ours, theirs = message(charset, octets)
    assert ours.get_content() == theirs.get_content()
    with pytest.raises(UnicodeDecodeError):
        ours.get_content(errors="strict")


@pytest.mark.parametrize(
    "charset",
    [
        *("no-such", "base64", "hex", "rot13", "zlib", "undefined", "idna", "punycode", '""'),
        *("unicode_escape", "raw-unicode-escape", '"a\0b"', "=?", "*", "x" * 5000),
    ],
)
def test_a_charset_that_nobody_knows_or_uses_in_mail(charset: str) -> None:
    ours, _ = message(charset, TEXT.encode())
    assert ours.get_content() in {TEXT, "Gr\ufffd\ufffd\ufffd\ufffde"}


@pytest.mark.parametrize("value", ["utf-8''latin-1", "no-such''utf-8", "''%ff", "idna''a"])
def test_a_charset_that_is_encoded_itself(value: str) -> None:
    content = f"Content-Type: text/plain; charset*={value}\n\nHi\n".encode()
    assert parse(content, EmailMessage, default).get_content() == "Hi\n"


def test_other_content_is_as_ever() -> None:
    content = b"Content-Type: image/x\nContent-Transfer-Encoding: base64\n\nAAE=\n"
    assert parse(content, EmailMessage, default).get_content() == b"\0\1"
    whole = parse(
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nHi\n", EmailMessage, default
    )
    with pytest.raises(KeyError):
        whole.get_content()
    [part] = whole.iter_parts()
    assert isinstance(part, EmailMessage)
    part.set_content("Hö")
    assert part.get_content() == "Hö\n"
