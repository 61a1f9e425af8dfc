"""Parser: one line in, one command or one reply out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import (
    AddressSyntax,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    MailOptions,
    Noop,
    ProtocolConfig,
    ProtocolError,
    Quit,
    Rcpt,
    RcptOptions,
    Rset,
    Unknown,
    Vrfy,
    parse_command,
)
from smtp_protocol.parser import SYNTAX, syntaxes

UTF8 = ProtocolConfig(extensions=frozenset({"SMTPUTF8"}))
BINARY = ProtocolConfig(extensions=frozenset({"BINARYMIME"}))
ALL_VERBS = ProtocolConfig(starttls=True, auth=True, extensions=frozenset({"CHUNKING"}))
LMTP = ProtocolConfig(lmtp=True)
SMALL = ProtocolConfig(data_size_limit=1000)
EITHER: list[AddressSyntax] = ["lenient", "strict", "local"]


def status(line: bytes, config: ProtocolConfig) -> str:
    """The code and the enhanced status of the refusal of ``line``."""
    with pytest.raises(ProtocolError) as caught:
        parse_command(line, config)
    return f"{caught.value.reply.code} {caught.value.reply.enhanced}"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"HELO c.example", Helo("c.example")),
        (b"EHLO c.example", Ehlo("c.example")),
        (b"ehlo  [192.0.2.1]\t ", Ehlo("[192.0.2.1]")),
        (b"EHLO [IPv6:::1]", Ehlo("[IPv6:::1]")),
        (b"EHLO under_score", Ehlo("under_score")),
        (b"EHLO -", Ehlo("-")),
        (b"EHLO two words", Ehlo("two words")),
        ("EHLO bücher.example".encode(), Ehlo("bücher.example")),
        (b"MAIL FROM:<a@b>", Mail("a@b", MailOptions())),
        (b"mail from:<a@b>", Mail("a@b", MailOptions())),
        (b"MAIL  FROM:<>", Mail("", MailOptions())),
        (b"MAIL FROM:<a@b> SIZE=10", Mail("a@b", MailOptions(["SIZE=10"]))),
        (b"RCPT TO:<a@b>", Rcpt("a@b", RcptOptions())),
        (b"Rcpt To:<Postmaster>", Rcpt("Postmaster", RcptOptions())),
        (b"DATA", Data()),
        (b"data ", Data()),
        (b"RSET", Rset()),
        (b"QUIT", Quit()),
        (b"NOOP", Noop("")),
        (b"NOOP ", Noop("")),
        (b"noop x y", Noop("x y")),
        (b"VRFY a@b", Vrfy("a@b")),
        (b"VRFY <a@b>", Vrfy("a@b")),
        (b"VRFY Anne", Vrfy("Anne")),
        (b"VRFY <a@b> x", Vrfy("<a@b> x")),
        (b"VRFY a@b SMTPUTF8", Vrfy("a@b SMTPUTF8")),
        (b"EXPN staff", Expn("staff")),
        (b"HELP", Help("")),
        (b"HELP mail", Help("mail")),
        (b"FOO", Unknown("FOO", None)),
        (b"foo  bar ", Unknown("FOO", "bar")),
        (b"X-FOO_9 a", Unknown("X-FOO_9", "a")),
        (b"LHLO c", Unknown("LHLO", "c")),
        (b"GETS", Unknown("GETS", None)),
    ],
)
def test_commands(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"", "500 5.5.2"),
        (b" ", "500 5.5.2"),
        (b" NOOP", "500 5.5.2"),
        (b"\tNOOP", "500 5.5.2"),
        (b"\x80FAIL", "500 5.5.2"),
        (b"NOOP\x80", "500 5.5.2"),
        (b"NOOP\0", "500 5.5.2"),
        (b"NOOP\r", "500 5.5.2"),
        (b"MAIL\tFROM:<a@b>", "500 5.5.2"),
        (b"220 mx.example", "500 5.5.2"),
        (b"NOOP \xff", "501 5.5.2"),
        (b"HELP \xff", "501 5.5.2"),
        (b"QUIT \xff", "501 5.5.2"),
        (b"FOO \xff", "501 5.5.2"),
        (b"MAIL FROM:<\xff@b>", "501 5.5.2"),
        (b"RCPT TO:<a@\xc3>", "501 5.5.2"),
        (b"EHLO", "501 5.5.4"),
        (b"HELO ", "501 5.5.4"),
        (b"EHLO a\x1bb", "501 5.5.4"),
        (b"HELO \0", "501 5.5.4"),
        ("EHLO a\x85b".encode(), "501 5.5.4"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL FROM", "501 5.5.4"),
        (b"MAIL FROM:", "501 5.5.4"),
        (b"MAIL FROM: ", "501 5.5.4"),
        (b"MAIL FRM:<a>", "501 5.5.4"),
        (b"MAIL <a@b>", "501 5.5.4"),
        (b"MAIL TO:<a@b>", "501 5.5.4"),
        (b"RCPT", "501 5.5.4"),
        (b"RCPT TO:", "501 5.5.4"),
        (b"RCPT T:<a>", "501 5.5.4"),
        (b"RCPT <a@b>", "501 5.5.4"),
        (b"MAIL FROM:<a@b", "553 5.1.7"),
        (b"RCPT TO:<a@b", "553 5.1.3"),
        (b"RCPT TO:Anne <a@b>", "553 5.1.3"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:< >", "501 5.1.3"),
        (b"DATA x", "501 5.5.4"),
        (b"RSET x", "501 5.5.4"),
        (b"QUIT x", "501 5.5.4"),
        (b"VRFY", "501 5.5.4"),
        (b"VRFY ", "501 5.5.4"),
        (b"VRFY a\x07b", "501 5.5.4"),
        (b"EXPN", "501 5.5.4"),
        (b"HELP \x1b[2J", "501 5.5.4"),
        ("HELP \u2028".encode(), "501 5.5.4"),
        (b"GET / HTTP/1.1", "421 4.7.0"),
        (b"post /x HTTP/1.0", "421 4.7.0"),
        (b"CONNECT mx.example:25 HTTP/1.1", "421 4.7.0"),
    ],
)
def test_refused(line: bytes, refusal: str) -> None:
    for syntax in EITHER:
        assert status(line, ProtocolConfig(address_syntax=syntax)) == refusal


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"MAIL FROM: <a@b>", "553 5.1.7"),
        (b"MAIL FROM:a@b", "553 5.1.7"),
        (b"RCPT TO:< a@b >", "553 5.1.3"),
        (b"RCPT TO:<a..b@c>", "553 5.1.3"),
        (b"RCPT TO:Postmaster", "553 5.1.3"),
    ],
)
def test_refused_where_addresses_are_strict(line: bytes, refusal: str) -> None:
    assert status(line, ProtocolConfig(address_syntax="strict")) == refusal
    assert isinstance(parse_command(line), Mail | Rcpt)


@pytest.mark.parametrize(
    ("line", "config", "refusal"),
    [
        (b"MAIL FROM:<a@b> SIZE=1001", SMALL, "552 5.3.4"),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", UTF8, "501 5.5.4"),
        (b"MAIL FROM:<a@b> SMTPUTF8", BINARY, "555 5.5.4"),
        (b"MAIL FROM:<a@b> SMTPUTF8=YES", UTF8, "501 5.5.4"),
        (b"MAIL FROM:<a@b> X=1", UTF8, "555 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=1", UTF8, "501 5.5.4"),
        (b"RCPT TO:<a@b> X=1", UTF8, "555 5.5.4"),
        (b"RCPT TO:<a@b> SIZE=1", UTF8, "555 5.5.4"),
        ("MAIL FROM:<ü@b>".encode(), UTF8, "553 5.6.7"),
        ("MAIL FROM:<ü@b> SIZE=1".encode(), UTF8, "553 5.6.7"),
        ("MAIL FROM:<ü\u200b@b> SMTPUTF8".encode(), UTF8, "553 5.1.7"),
        ("RCPT TO:<ü\ufeff@b>".encode(), UTF8, "553 5.1.3"),
    ],
)
def test_parameters_refused(line: bytes, config: ProtocolConfig, refusal: str) -> None:
    assert status(line, config) == refusal


@pytest.mark.parametrize("limit", [1000, 0, None])
def test_declared_size(limit: int | None) -> None:
    config = ProtocolConfig(data_size_limit=limit)
    command = parse_command(b"MAIL FROM:<a@b> SIZE=1000", config)
    assert isinstance(command, Mail)
    assert command.options.size == 1000


def test_any_declared_size_without_a_limit() -> None:
    command = parse_command(b"MAIL FROM:<a@b> SIZE=999999999999", ProtocolConfig(data_size_limit=0))
    assert isinstance(command, Mail)


def test_binarymime_where_it_is_offered() -> None:
    command = parse_command(b"MAIL FROM:<a@b> BODY=binarymime", BINARY)
    assert isinstance(command, Mail)
    assert command.options.body == "BINARYMIME"


def test_internationalized_address() -> None:
    command = parse_command("MAIL FROM:<孫子@áéíóú.org> SMTPUTF8".encode(), UTF8)
    assert isinstance(command, Mail)
    assert (command.address, command.options.smtputf8) == ("孫子@áéíóú.org", True)
    # Whether RCPT may have one depends on MAIL, which is not the parser's to know.
    assert parse_command("RCPT TO:<ü@b>".encode(), UTF8) == Rcpt("ü@b", RcptOptions())


def test_smtputf8_of_vrfy_is_no_part_of_the_name() -> None:
    assert parse_command(b"VRFY <a@b> smtputf8", UTF8) == Vrfy("a@b", smtputf8=True)
    assert parse_command(b"EXPN staff SMTPUTF8", UTF8) == Expn("staff", smtputf8=True)
    assert parse_command(b"EXPN staff", UTF8) == Expn("staff")
    assert parse_command(b"VRFY SMTPUTF8", UTF8) == Vrfy("SMTPUTF8")


@pytest.mark.parametrize("verb", ["HELO", "EHLO", "LHLO"])
@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        (b"B\xfcrodrucker", "B\\xfcrodrucker"),
        (b"\xff", "\\xff"),
        (b"B\x85", "B\\x85"),
        ("bücher \N{SNOWMAN} ".encode() + b"\xe9", "bücher \N{SNOWMAN} \\xe9"),
    ],
)
def test_a_name_that_cannot_be_decoded_is_escaped(verb: str, name: bytes, hostname: str) -> None:
    lmtp = verb == "LHLO"
    command = parse_command(verb.encode() + b" " + name, ProtocolConfig(lmtp=lmtp))
    assert isinstance(command, Helo | Ehlo | Lhlo)
    assert command.hostname == hostname
    strict = ProtocolConfig(lmtp=lmtp, address_syntax="strict")
    assert status(verb.encode() + b" " + name, strict) == "501 5.5.2"


@pytest.mark.parametrize("character", [*range(32), 127])
def test_a_name_never_has_a_control_character(character: int) -> None:
    line = b"EHLO B\xfc%c." % character
    assert status(line, ProtocolConfig()) == "501 5.5.4"


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT",
        b"BDAT \xff",
        b"BDAT 5 \xff",
        b"BDAT \xd9\xa1",
        b"BDAT\t5",
        b"BDAT\xa05 LAST",
        b"bdat\x005",
        b"BDAT 5 LAST\0",
        b"BDAT 5LAST",
        b"BDAT +5",
        b"BDAT 0x5",
        b"BDAT 1_0",
    ],
)
def test_a_chunk_of_unknown_size_ends_the_session(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_command(line)
    assert (caught.value.reply.code, caught.value.closing) == (501, True)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"MAIL FROM:<tester>", Mail("tester", MailOptions())),
        (b"MAIL FROM:tester SIZE=1", Mail("tester", MailOptions(["SIZE=1"]))),
        (b"RCPT TO:<root>", Rcpt("root", RcptOptions())),
        (b"RCPT TO: < root > NOTIFY=NEVER", Rcpt("root", RcptOptions(["NOTIFY=NEVER"]))),
        (b"VRFY <root>", Vrfy("root")),
        (b"VRFY Anne Smith", Vrfy("Anne Smith")),
        (b"VRFY <root> x", Vrfy("<root> x")),
    ],
)
def test_addresses_without_a_domain(line: bytes, command: Command) -> None:
    assert parse_command(line, ProtocolConfig(address_syntax="local")) == command


def test_own_verbs() -> None:
    config = ProtocolConfig(own_verbs=frozenset({"MAIL", "GET", "PING"}))
    assert parse_command(b"mail anything", config) == Unknown("MAIL", "anything")
    assert parse_command(b"GET / HTTP/1.1", config) == Unknown("GET", "/ HTTP/1.1")
    assert parse_command(b"PING", config) == Unknown("PING", None)


def test_each_verb_has_a_syntax_that_it_follows() -> None:
    examples = {"VRFY": b"VRFY address", "EXPN": b"EXPN list"}
    examples |= {"MAIL": b"MAIL FROM:<a@b>", "RCPT": b"RCPT TO:<a@b>"}
    examples |= {"BDAT": b"BDAT 8", "AUTH": b"AUTH PLAIN"}
    for verb, syntax in SYNTAX.items():
        line = examples.get(verb, syntax.partition(" [")[0].encode())
        command = parse_command(line, ALL_VERBS if verb != "LHLO" else LMTP)
        assert type(command).__name__.upper() == verb == syntax.split()[0]


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({}, {"LHLO", "BDAT", "STARTTLS", "AUTH"}),
        ({"lmtp": True}, {"HELO", "EHLO", "BDAT", "STARTTLS", "AUTH"}),
        ({"extensions": frozenset({"CHUNKING"})}, {"LHLO", "STARTTLS", "AUTH"}),
        ({"starttls": True, "auth": True}, {"LHLO", "BDAT"}),
    ],
)
def test_syntaxes_are_of_what_is_on(settings: dict[str, Any], absent: set[str]) -> None:
    shown = syntaxes(ProtocolConfig(**settings))
    assert shown == {verb: form for verb, form in SYNTAX.items() if verb not in absent}


VERBS = [verb.encode() for verb in SYNTAX] + [b"FOO", b"GET", b""]
ARGUMENTS = [b"", b" ", b" FROM:", b" TO:", b"<a@b>", b"<>", b" SIZE=", b" SMTPUTF8", b" BODY=7BIT"]


@given(
    st.sampled_from(VERBS),
    st.lists(st.sampled_from(ARGUMENTS) | st.binary(max_size=5)),
    st.sampled_from([UTF8, BINARY, ProtocolConfig(address_syntax="strict")]),
)
def test_any_octets_are_a_command_or_a_reply(
    verb: bytes, pieces: list[bytes], config: ProtocolConfig
) -> None:
    line = verb + b"".join(pieces)
    try:
        command = parse_command(line, config)
    except ProtocolError as error:
        outcome = str(error.reply.code)
    else:
        outcome = type(command).__name__.upper()
    refusals = {"421", "500", "501", "502", "552", "553", "555"}
    assert outcome in refusals | {"UNKNOWN", line.split(b" ")[0].upper().decode("latin-1")}
