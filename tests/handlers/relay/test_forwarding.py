"""Forwarding: what the next server is asked, and what is refused because it cannot be."""

from collections.abc import AsyncIterator, Iterable, Sequence

import pytest

from smtp_handlers.relay.client import Upstream
from smtp_handlers.relay.forwarding import (
    Inspected,
    Refusal,
    mail_command,
    rcpt_command,
    room_for_field,
)
from smtp_handlers.relay.offers import Offers
from smtp_handlers.relay.target import Target
from smtp_handlers.relay.wire import Wire
from smtp_protocol import Mail, MailOptions, ProtocolConfig, Rcpt, RcptOptions, parse_command
from smtp_server import ALL_EXTENSIONS

TARGET = Target(
    address=("localhost", 25),
    tls="required",
    tls_context=None,
    login=None,
    lmtp=False,
    timeout=1.0,
    connect_timeout=1.0,
)
CONFIG = ProtocolConfig(
    data_size_limit=0, extensions=frozenset({*ALL_EXTENSIONS, "SMTPUTF8", "REQUIRETLS"})
)
EVERYTHING = (
    *("SIZE", "8BITMIME", "SMTPUTF8", "AUTH", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY"),
    *("FUTURERELEASE", "RRVS", "CHUNKING", "BINARYMIME"),
)


def upstream(extensions: Iterable[str], *, verified: bool = True) -> Upstream:
    made = Upstream(TARGET, Wire(), 0.0)
    made.offers = Offers.parse(list(extensions))
    made.verified = verified
    return made


def mail_options(parameters: str) -> MailOptions:
    command = parse_command(f"MAIL FROM:<a@b> {parameters}".encode(), CONFIG)
    assert isinstance(command, Mail)
    return command.options


def rcpt_options(parameters: str) -> RcptOptions:
    command = parse_command(f"RCPT TO:<a@b> {parameters}".encode(), CONFIG)
    assert isinstance(command, Rcpt)
    return command.options


MAIL = [
    ("SIZE=100", "SIZE", "SIZE=565", ""),  # 200 of our field, 2 before the message, 263 for "for"
    ("BODY=8BITMIME", "8BITMIME", "BODY=8BITMIME", ""),
    ("BODY=7BIT", "8BITMIME", "BODY=7BIT", ""),
    ("BODY=BINARYMIME", "8BITMIME BINARYMIME CHUNKING", "BODY=BINARYMIME", "554 5.6.3"),
    ("SMTPUTF8", "SMTPUTF8", "SMTPUTF8", ""),
    ("RET=HDRS ENVID=x", "DSN", "RET=HDRS ENVID=x", ""),
    ("REQUIRETLS", "REQUIRETLS", "REQUIRETLS", "550 5.7.30"),
    ("BY=120;N", "DELIVERBY", "BY=120;N", ""),
    ("BY=120;R", "DELIVERBY", "BY=120;R", "554 5.3.3"),
    ("MT-PRIORITY=3", "MT-PRIORITY", "MT-PRIORITY=3", ""),
    ("HOLDFOR=60", "FUTURERELEASE", "HOLDFOR=60", "554 5.3.3"),
    ("HOLDUNTIL=2030-01-01T00:00:00Z", "FUTURERELEASE", "HOLDUNTIL=2030-01-01T00:00:00Z", "554 5"),
]


@pytest.mark.parametrize(("sent", "extensions", "passed_on", "refusal"), MAIL)
def test_mail(sent: str, extensions: str, passed_on: str, refusal: str) -> None:
    options = mail_options(sent)
    for offered in (extensions.split(), EVERYTHING):
        line = mail_command("a@b", options, upstream(offered), field=200, authenticated=False)
        assert line == f"MAIL FROM:<a@b> {passed_on}"
    others = set(EVERYTHING) - set(extensions.split())
    if not refusal:
        line = mail_command("a@b", options, upstream(others), field=200, authenticated=False)
        assert line == "MAIL FROM:<a@b>"
        return
    with pytest.raises(Refusal, match=refusal):
        mail_command("a@b", options, upstream(others), field=200, authenticated=False)


@pytest.mark.parametrize(
    ("sent", "extension", "refusal"),
    [
        ("NOTIFY=SUCCESS,FAILURE", "DSN", ""),
        ("ORCPT=rfc822;c@d", "DSN", ""),
        ("RRVS=2014-04-03T23:01:00Z", "RRVS", ""),
        ("RRVS=2014-04-03T23:01:00Z;C", "RRVS", ""),
        ("RRVS=2014-04-03T23:01:00Z;R", "RRVS", "554 5.3.3"),
    ],
)
def test_rcpt(sent: str, extension: str, refusal: str) -> None:
    options = rcpt_options(sent)
    assert rcpt_command("c@d", options, upstream([extension])) == f"RCPT TO:<c@d> {sent}"
    others = upstream(set(EVERYTHING) - {extension})
    if not refusal:
        assert rcpt_command("c@d", options, others) == "RCPT TO:<c@d>"
        return
    with pytest.raises(Refusal, match=refusal):
        rcpt_command("c@d", options, others)


@pytest.mark.parametrize(
    ("sent", "authenticated", "passed_on"),
    [
        ("AUTH=<>", False, " AUTH=<>"),
        ("AUTH=e+3Dmc2@d", False, " AUTH=<>"),
        ("AUTH=e+3Dmc2@d", True, " AUTH=e+3Dmc2@d"),
    ],
)
def test_who_submitted_it(sent: str, authenticated: bool, passed_on: str) -> None:
    options = mail_options(sent)
    line = mail_command("a@b", options, upstream(["AUTH"]), field=200, authenticated=authenticated)
    assert line == f"MAIL FROM:<a@b>{passed_on}"
    line = mail_command("a@b", options, upstream([]), field=200, authenticated=authenticated)
    assert line == "MAIL FROM:<a@b>"


def test_requiretls_needs_a_certificate_that_was_checked() -> None:
    options = mail_options("REQUIRETLS")
    with pytest.raises(Refusal, match=r"550 5\.7\.30"):
        mail_command(
            "a@b", options, upstream(EVERYTHING, verified=False), field=200, authenticated=True
        )


def test_utf8() -> None:
    no, yes = upstream([]), upstream(["SMTPUTF8", "DSN"])
    dsn = upstream(["DSN"])
    with pytest.raises(Refusal, match=r"553 5\.6\.7"):
        mail_command("é@b", MailOptions(), no, field=200, authenticated=True)
    with pytest.raises(Refusal, match=r"553 5\.6\.7"):
        rcpt_command("é@b", RcptOptions(), no)
    assert rcpt_command("é@b", RcptOptions(), yes) == "RCPT TO:<é@b>"
    # A parameter may be in UTF-8 as well.
    options = RcptOptions(["ORCPT=utf-8;é@b", "NOTIFY=NEVER"])
    assert rcpt_command("a@b", options, yes) == "RCPT TO:<a@b> ORCPT=utf-8;é@b NOTIFY=NEVER"
    assert rcpt_command("a@b", options, dsn) == "RCPT TO:<a@b> NOTIFY=NEVER"


def test_parameters_of_the_users_own() -> None:
    options = MailOptions(["X-OWN=1"])
    assert mail_command(
        "a@b", options, upstream(["X-OWN"]), field=200, authenticated=True
    ).endswith(" X-OWN=1")
    assert (
        mail_command("a@b", options, upstream([]), field=200, authenticated=True)
        == "MAIL FROM:<a@b>"
    )


# What is sent is larger than what the client has announced, by our field.

FIELD = 200


@pytest.mark.parametrize(
    ("size", "offered", "room"),
    [
        # Nobody announces anything.
        ("", "SIZE 1000", None),
        ("SIZE=100", "DSN", None),
        # The next server tells of no limit; a line for a recipient has 263 octets at most.
        ("SIZE=100", "SIZE", 463),
        ("SIZE=100", "SIZE 0", 463),
        ("SIZE=100", "SIZE 1e3", 463),
        ("SIZE=100", "SIZE \u0661\u0660", 463),
        ("SIZE=100", "SIZE 10000", 463),
        # There is room for a part of that line, for none of it, or not for the message.
        ("SIZE=700", "SIZE 1000", 298),
        ("SIZE=798", "SIZE 1000", 200),
        ("SIZE=799", "SIZE 1000", -1),
        ("SIZE=99999999999999999999", "SIZE 1000", -1),
        ("SIZE=0", "SIZE 1", -1),
    ],
)
def test_what_is_announced_is_what_will_be_sent(size: str, offered: str, room: int | None) -> None:
    options, there = mail_options(size), upstream([offered])
    if room == -1:
        with pytest.raises(Refusal, match=r"552 5\.3\.4"):
            mail_command("a@b", options, there, field=FIELD, authenticated=True)
        return
    assert room_for_field(options, there.offers, FIELD) == room
    line = mail_command("a@b", options, there, field=FIELD, authenticated=True)
    announced = "" if room is None else f" SIZE={(options.size or 0) + 2 + room}"
    assert line == f"MAIL FROM:<a@b>{announced}"


# Our field stays ours.


async def chunks_of(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("message", "between"),
    [
        (b"Subject: a\r\n\r\n", b""),
        (b"", b""),
        (b"\r\n", b""),
        (b".", b""),
        (b" by mx.example; Mon\r\nFrom: a@b\r\n", b"\r\n"),
        (b"\tby mx.example\r\n", b"\r\n"),
        (b" ", b"\r\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
async def test_no_message_becomes_a_part_of_our_field(
    message: bytes, between: bytes, size: int
) -> None:
    field = b"Received: from a by b\r\n"
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    for given in (parts, [b"", *parts, b""]):
        offers = Offers.parse(["8BITMIME"])
        inspected = Inspected(field, chunks_of(given), MailOptions(), offers, 10)
        sent = b"".join([chunk async for chunk in inspected])
        assert sent == field + between + message
