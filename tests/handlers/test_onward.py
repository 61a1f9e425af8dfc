"""Onward: what the next server is asked, and what is refused because it cannot be."""

from collections.abc import Iterable

import pytest

from smtp_handlers.onward import Refusal, mail_command, rcpt_command
from smtp_handlers.upstream import Target, Upstream
from smtp_handlers.wire import Wire
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
CONFIG = ProtocolConfig(extensions=frozenset({*ALL_EXTENSIONS, "SMTPUTF8", "REQUIRETLS"}))
EVERYTHING = (
    *("SIZE", "8BITMIME", "SMTPUTF8", "AUTH", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY"),
    *("FUTURERELEASE", "RRVS", "CHUNKING", "BINARYMIME"),
)


def upstream(extensions: Iterable[str], *, verified: bool = True) -> Upstream:
    made = Upstream(TARGET, Wire())
    made.extensions = dict.fromkeys(extensions, "")
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
    ("SIZE=100", "SIZE", "SIZE=100", ""),
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
        line = mail_command("a@b", options, upstream(offered), authenticated=False)
        assert line == f"MAIL FROM:<a@b> {passed_on}"
    others = set(EVERYTHING) - set(extensions.split())
    if not refusal:
        line = mail_command("a@b", options, upstream(others), authenticated=False)
        assert line == "MAIL FROM:<a@b>"
        return
    with pytest.raises(Refusal, match=refusal):
        mail_command("a@b", options, upstream(others), authenticated=False)


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
    line = mail_command("a@b", options, upstream(["AUTH"]), authenticated=authenticated)
    assert line == f"MAIL FROM:<a@b>{passed_on}"
    line = mail_command("a@b", options, upstream([]), authenticated=authenticated)
    assert line == "MAIL FROM:<a@b>"


def test_requiretls_needs_a_certificate_that_was_checked() -> None:
    options = mail_options("REQUIRETLS")
    with pytest.raises(Refusal, match=r"550 5\.7\.30"):
        mail_command("a@b", options, upstream(EVERYTHING, verified=False), authenticated=True)


def test_utf8() -> None:
    no, yes = upstream([]), upstream(["SMTPUTF8", "DSN"])
    dsn = upstream(["DSN"])
    with pytest.raises(Refusal, match=r"553 5\.6\.7"):
        mail_command("é@b", MailOptions(), no, authenticated=True)
    with pytest.raises(Refusal, match=r"553 5\.6\.7"):
        rcpt_command("é@b", RcptOptions(), no)
    assert rcpt_command("é@b", RcptOptions(), yes) == "RCPT TO:<é@b>"
    # A parameter may be in UTF-8 as well.
    options = RcptOptions(["ORCPT=utf-8;é@b", "NOTIFY=NEVER"])
    assert rcpt_command("a@b", options, yes) == "RCPT TO:<a@b> ORCPT=utf-8;é@b NOTIFY=NEVER"
    assert rcpt_command("a@b", options, dsn) == "RCPT TO:<a@b> NOTIFY=NEVER"


def test_parameters_of_the_users_own() -> None:
    options = MailOptions(["X-OWN=1"])
    assert mail_command("a@b", options, upstream(["X-OWN"]), authenticated=True).endswith(
        " X-OWN=1"
    )
    assert mail_command("a@b", options, upstream([]), authenticated=True) == "MAIL FROM:<a@b>"
