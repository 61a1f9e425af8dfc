"""Parameters: every ESMTP parameter, its right values and its wrong ones, by its extension."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import (
    ALL_EXTENSIONS,
    DeliverBy,
    Mail,
    MailOptions,
    OriginalRecipient,
    Parameter,
    ProtocolConfig,
    ProtocolError,
    Rcpt,
    RcptOptions,
    RequireRecipientValidSince,
    parse_command,
    replies,
)
from smtp_protocol.encodings import encode_xtext
from smtp_protocol.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, parse_options

ALL = frozenset({*ALL_EXTENSIONS, "SMTPUTF8"})
EVERYTHING = ProtocolConfig(extensions=ALL)
NOTHING = ProtocolConfig()
# The extension that each parameter belongs to; those without one are understood always.
EXTENSION = {
    "SMTPUTF8": "SMTPUTF8",
    "REQUIRETLS": "REQUIRETLS",
    "BY": "DELIVERBY",
    "MT-PRIORITY": "MT-PRIORITY",
    "HOLDFOR": "FUTURERELEASE",
    "HOLDUNTIL": "FUTURERELEASE",
    "RRVS": "RRVS",
}
SINCE = datetime(2014, 4, 3, 23, 1, tzinfo=UTC)

MAIL: list[tuple[str, str, object]] = [
    ("SIZE=1000", "size", 1000),
    ("BODY=7BIT", "body", "7BIT"),
    ("BODY=8bitmime", "body", "8BITMIME"),
    ("BODY=BINARYMIME", "body", "BINARYMIME"),
    ("SMTPUTF8", "smtputf8", True),
    ("AUTH=<>", "auth", ""),
    ("AUTH=e+3Dmc2@d", "auth", "e=mc2@d"),
    ("AUTH=a@b.example", "auth", "a@b.example"),
    ("AUTH=+3C+3E", "auth", ""),
    ("AUTH=+C3+BC@b", "auth", "ü@b"),
    ('AUTH="a+20b"@c', "auth", '"a b"@c'),
    ("AUTH=a@[192.0.2.1]", "auth", "a@[192.0.2.1]"),
    ("RET=FULL", "ret", "FULL"),
    ("RET=hdrs", "ret", "HDRS"),
    ("ENVID=hi+20there", "envid", "hi there"),
    (f"ENVID={'x' * 100}", "envid", "x" * 100),
    ("REQUIRETLS", "requiretls", True),
    ("BY=120;R", "by", DeliverBy(120, "R")),
    ("BY=+120;r", "by", DeliverBy(120, "R")),
    ("BY=-10;N", "by", DeliverBy(-10, "N")),
    ("BY=0;N", "by", DeliverBy(0, "N")),
    ("BY=1;RT", "by", DeliverBy(1, "R", trace=True)),
    ("BY=999999999;nt", "by", DeliverBy(999999999, "N", trace=True)),
    *((f"MT-PRIORITY={number}", "mt_priority", number) for number in range(-9, 10)),
    ("HOLDFOR=3600", "holdfor", 3600),
    ("HOLDFOR=2592000", "holdfor", 2592000),
    ("HOLDUNTIL=2014-04-03T23:01:00Z", "holduntil", SINCE),
    ("HOLDUNTIL=2014-04-04T00:01:00+01:00", "holduntil", SINCE),
    ("HOLDUNTIL=2014-04-03t23:01:00.0z", "holduntil", SINCE),
]
RCPT: list[tuple[str, str, object]] = [
    ("NOTIFY=NEVER", "notify", frozenset({"NEVER"})),
    ("NOTIFY=SUCCESS,FAILURE,DELAY", "notify", frozenset({"SUCCESS", "FAILURE", "DELAY"})),
    ("NOTIFY=delay", "notify", frozenset({"DELAY"})),
    ("ORCPT=rfc822;a@b", "orcpt", OriginalRecipient("rfc822", "a@b")),
    ("ORCPT=RFC822;a+2Bc@b", "orcpt", OriginalRecipient("RFC822", "a+c@b")),
    ("ORCPT=x400;/C=us/", "orcpt", None),  # "=" is to be written "+3D"
    ("ORCPT=x400;/C+3Dus/", "orcpt", OriginalRecipient("x400", "/C=us/")),
    ("ORCPT=utf-8;\\x{FC}@b", "orcpt", OriginalRecipient("utf-8", "ü@b")),
    ("ORCPT=UTF-8;ü@b", "orcpt", OriginalRecipient("UTF-8", "ü@b")),
    ("ORCPT=utf-8;a\\x{5C}\\x{1F600}@b", "orcpt", OriginalRecipient("utf-8", "a\\\U0001f600@b")),
    ("RRVS=2014-04-03T23:01:00Z", "rrvs", RequireRecipientValidSince(SINCE)),
    ("RRVS=2014-04-03T23:01:00Z;C", "rrvs", RequireRecipientValidSince(SINCE, "C")),
    ("RRVS=2014-04-03T23:01:00Z;r", "rrvs", RequireRecipientValidSince(SINCE, "R")),
]
MAIL_WRONG = [
    *("SIZE", "SIZE=", "SIZE=-1", "SIZE=x", f"SIZE={'9' * 21}"),
    *("BODY", "BODY=", "BODY=9BIT", "BODY=7BITS"),
    *("SMTPUTF8=", "SMTPUTF8=YES", "REQUIRETLS=", "REQUIRETLS=1"),
    *("AUTH=x+0D+0ARCPT@d", "AUTH=+00", "AUTH=a@b+0D+0A", "AUTH=a+C2+85@b", "AUTH=+E2+80+AE@b"),
    *("AUTH=tim", "AUTH=<a@b>", "AUTH=@c:a@b", "AUTH=a@b+20", f"AUTH=a@{'x' * 64}", "AUTH=a@[1]"),
    *("ENVID=+C3+BC", "ENVID=a+00", "ENVID=a+7F", "ENVID=+E2+80+A8"),
    *("AUTH", "AUTH=", "AUTH=<he+YYa>", "AUTH=a+", "AUTH=a+3d", "AUTH=+FF", "AUTH=ü@b"),
    *("RET", "RET=", "RET=X", "RET=FULLY"),
    *("ENVID", "ENVID=", "ENVID=a+0Db", "ENVID=a+4", "ENVID=ü", f"ENVID={'x' * 101}"),
    *("BY", "BY=", "BY=0;R", "BY=-1;R", "BY=;R", "BY=123;RT;", "BY=1", "BY=1;X", "BY=1;T"),
    *("BY=1234567890;N", "BY=1.5;N", "BY=٣;N"),
    *("MT-PRIORITY", "MT-PRIORITY=", "MT-PRIORITY=10", "MT-PRIORITY=-10", "MT-PRIORITY=x"),
    *("MT-PRIORITY=+1", "MT-PRIORITY=-0", "MT-PRIORITY=01"),
    *("HOLDFOR", "HOLDFOR=", "HOLDFOR=x", "HOLDFOR=0", "HOLDFOR=-1", "HOLDFOR=1234567890"),
    *("HOLDUNTIL", "HOLDUNTIL=", "HOLDUNTIL=2014-04-03", "HOLDUNTIL=2014-04-03T23:01:00"),
    *("HOLDUNTIL=2014-04-03T24:00:00Z", "HOLDUNTIL=2014-04-03T23:60:00Z"),
    *("HOLDUNTIL=2014-04-03T23:01:60Z", "HOLDUNTIL=0000-04-03T23:01:00Z"),
    *("HOLDUNTIL=2014-04-03T23:01:00+24:00", "HOLDUNTIL=2014-04-03T23:01:00+01:60"),
    # No time zone's beginning and end of time: nobody could compute with it.
    *("HOLDUNTIL=0001-01-01T00:00:00+00:01", "HOLDUNTIL=9999-12-31T23:59:59-00:01"),
    *("HOLDUNTIL=2014-02-30T23:01:00Z", "HOLDUNTIL=2014-04-03T23:01:00+99:00"),
]
RCPT_WRONG = [
    *("NOTIFY", "NOTIFY=", "NOTIFY=NEVER,FAILURE", "NOTIFY=X", "NOTIFY=,", "NOTIFY=DELAY,"),
    *("ORCPT", "ORCPT=", "ORCPT=;a@b", "ORCPT=rfc822;", "ORCPT=rfc822", "ORCPT=rfc 822;a@b"),
    *("ORCPT=rfc822;+C3+BC@b", "ORCPT=rfc822;a+0D+0A", "ORCPT=x;+7F", "ORCPT=utf-8;\\x{85}"),
    *("ORCPT=utf-8;\\x{202E}", "ORCPT=utf-8;\\x{0D}", "ORCPT=utf-8;\u2028"),
    *("ORCPT=(x);a@b", "ORCPT=rfc822;a+GG", "ORCPT=rfc822;ü@b", "ORCPT=rfc822;a+00b"),
    *("ORCPT=utf-8;", "ORCPT=utf-8;a\\b", "ORCPT=utf-8;\\x{D800}", "ORCPT=utf-8;\\x{110000}"),
    *("ORCPT=utf-8;\\x{0A}", "ORCPT=utf-8;\\x{fc}", "ORCPT=utf-8;\\x{1}"),
    f"ORCPT=rfc822;{'x' * 500}",
    *("RRVS", "RRVS=", "RRVS=2014-04-03T23:01:00", "RRVS=2014-04-03", "RRVS=;C"),
    *("RRVS=2014-04-03T23:01:00Z;", "RRVS=2014-04-03T23:01:00Z;X", "RRVS=2014-13-03T23:01:00Z"),
]


def parse(parameter: str, config: ProtocolConfig, verb: str) -> MailOptions | RcptOptions:
    path = {"MAIL": "FROM:<a@b>", "RCPT": "TO:<a@b>"}[verb]
    command = parse_command(f"{verb} {path} {parameter}".encode(), config)
    assert isinstance(command, Mail | Rcpt)
    return command.options


def refusal(parameter: str, config: ProtocolConfig, verb: str) -> str:
    """The code and the enhanced status of the refusal."""
    with pytest.raises(ProtocolError) as caught:
        parse(parameter, config, verb)
    return f"{caught.value.reply.code} {caught.value.reply.enhanced}"


RIGHT = [("MAIL", *row) for row in MAIL] + [("RCPT", *row) for row in RCPT if row[2] is not None]
WRONG = [("MAIL", text) for text in MAIL_WRONG] + [("RCPT", text) for text in RCPT_WRONG]
WRONG += [("RCPT", text) for text, _, value in RCPT if value is None]


@pytest.mark.parametrize(("verb", "parameter", "attribute", "value"), RIGHT)
def test_understood(verb: str, parameter: str, attribute: str, value: object) -> None:
    options = parse(parameter, EVERYTHING, verb)
    keyword, equals, text = parameter.partition("=")
    assert options == [f"{keyword}{equals}{text}"]
    assert vars(options) == {attribute: value}
    # The keyword in any case; it is upper-cased, and the value stays as it was sent.
    assert parse(f"{keyword.lower()}{equals}{text}", EVERYTHING, verb) == options


@pytest.mark.parametrize(("verb", "parameter"), WRONG)
def test_malformed(verb: str, parameter: str) -> None:
    assert refusal(parameter, EVERYTHING, verb) == "501 5.5.4"


@pytest.mark.parametrize(("verb", "parameter"), [row[:2] for row in RIGHT])
def test_needs_its_extension(verb: str, parameter: str) -> None:
    keyword = parameter.partition("=")[0]
    if parameter == "BODY=BINARYMIME":
        # The parameter is that of 8BITMIME; the value is not.
        assert refusal(parameter, NOTHING, verb) == "501 5.5.4"
    elif keyword in EXTENSION:
        assert refusal(parameter, NOTHING, verb) == "555 5.5.4"
        without = ProtocolConfig(extensions=ALL - {EXTENSION[keyword]})
        assert refusal(parameter, without, verb) == "555 5.5.4"
        alone = ProtocolConfig(extensions=frozenset({EXTENSION[keyword]}))
        assert parse(parameter, alone, verb) == [parameter]
    else:
        assert parse(parameter, NOTHING, verb) == [parameter]


@pytest.mark.parametrize(("verb", "parameter"), [row[:2] for row in RIGHT])
def test_twice(verb: str, parameter: str) -> None:
    assert refusal(f"{parameter} {parameter.lower()}", EVERYTHING, verb) == "501 5.5.4"


@pytest.mark.parametrize(("verb", "parameter"), [row[:2] for row in RIGHT])
def test_is_of_one_command_alone(verb: str, parameter: str) -> None:
    other = "RCPT" if verb == "MAIL" else "MAIL"
    assert refusal(parameter, EVERYTHING, other) == "555 5.5.4"


def test_the_tables_are_tested_whole() -> None:
    for table, right, wrong in (
        (MAIL_PARAMETERS, MAIL, MAIL_WRONG),
        (RCPT_PARAMETERS, RCPT, RCPT_WRONG),
    ):
        assert {row[0].partition("=")[0] for row in right} == set(table)
        assert {text.partition("=")[0] for text in wrong} == set(table)
        extensions = {name: row.extension for name, row in table.items() if row.extension}
        assert extensions.items() <= EXTENSION.items()


def test_several_at_once() -> None:
    options = parse("RET=HDRS ENVID=x BY=60;NT SIZE=5 BODY=8BITMIME", EVERYTHING, "MAIL")
    assert vars(options) == {
        "ret": "HDRS",
        "envid": "x",
        "by": DeliverBy(60, "N", trace=True),
        "size": 5,
        "body": "8BITMIME",
    }


@pytest.mark.parametrize(
    ("text", "config", "answer"),
    [
        # RFC 4865 §4.1: one of the two, and no longer than EHLO said.
        ("HOLDFOR=60 HOLDUNTIL=2014-04-03T23:01:00Z", EVERYTHING, "501 5.5.4"),
        ("HOLDFOR=2592001", EVERYTHING, "501 5.5.4"),
        ("HOLDFOR=61", ProtocolConfig(extensions=ALL, hold_max=60), "501 5.5.4"),
        ("SIZE=1001", ProtocolConfig(data_size_limit=1000), "552 5.3.4"),
    ],
)
def test_what_goes_too_far(text: str, config: ProtocolConfig, answer: str) -> None:
    assert refusal(text, config, "MAIL") == answer


def colour(value: str | None) -> str:
    if value not in ("red", "green"):
        raise ValueError("no colour")
    return value


USERS = ProtocolConfig(
    extensions=frozenset({"X-PAINT"}),
    mail_parameters={
        **MAIL_PARAMETERS,
        "X-COLOUR": Parameter(colour, extension="X-PAINT"),
        "X-OFF": Parameter(colour, extension="X-NOTHING"),
        "X-FLAG": Parameter(lambda value: value is None),
    },
    rcpt_parameters={"X-COLOUR": Parameter(colour)},
)


def test_parameters_of_the_user() -> None:
    options = parse("x-colour=red SIZE=3 X-FLAG", USERS, "MAIL")
    assert options == ["X-COLOUR=red", "SIZE=3", "X-FLAG"]
    assert options.extra == {"X-COLOUR": "red", "X-FLAG": True}
    assert parse("X-COLOUR=green", USERS, "RCPT").extra == {"X-COLOUR": "green"}
    assert MailOptions.extra == RcptOptions.extra == {}
    assert refusal("X-COLOUR=blue", USERS, "MAIL") == "501 5.5.4"
    assert refusal("X-OFF=red", USERS, "MAIL") == "555 5.5.4"
    assert refusal("X-COLOUR=red", EVERYTHING, "MAIL") == "555 5.5.4"
    # The table is the whole of what is understood.
    assert refusal("NOTIFY=NEVER", USERS, "RCPT") == "555 5.5.4"


@pytest.mark.parametrize("character", ["\x80", "\x85", "\u2028", "\u202e", "\ufeff"])
def test_no_value_has_a_character_that_does_not_show(character: str) -> None:
    config = ProtocolConfig(mail_parameters={"X": Parameter(str)})
    assert parse("X=ü", config, "MAIL").extra == {"X": "ü"}
    assert refusal(f"X=ü{character}", config, "MAIL") == "501 5.5.4"


def test_a_mistake_in_a_users_parser_is_not_hidden() -> None:
    def parser(value: str | None) -> object:
        raise KeyError(value)

    with pytest.raises(KeyError):
        parse_options(" X", {"X": Parameter(parser)}, MailOptions(), frozenset())


# Round trips: what a client writes is what the options tell.

DATES = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
).map(lambda when: when.replace(microsecond=0))
ASCII_TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
TEXTS = st.text(min_size=1, max_size=20).filter(str.isprintable)
MAILBOXES = st.builds("{}@{}".format, st.text("aZ9!+=ü孫", min_size=1), st.text("aé9", min_size=1))
BY = st.builds(
    DeliverBy, st.integers(1, 999999999), st.sampled_from(["N", "R"]), st.booleans()
) | st.builds(DeliverBy, st.integers(-999999999, 0), st.just("N"), st.booleans())
WRITTEN = st.one_of(
    st.tuples(st.just("size"), st.integers(0, 10**7)).map(lambda x: (f"SIZE={x[1]}", *x)),
    st.tuples(st.just("auth"), MAILBOXES).map(lambda x: (f"AUTH={encode_xtext(x[1])}", *x)),
    st.tuples(st.just("envid"), ASCII_TEXTS).map(lambda x: (f"ENVID={encode_xtext(x[1])}", *x)),
    st.tuples(st.just("by"), BY).map(
        lambda x: (f"BY={x[1].seconds};{x[1].mode}{'T' * x[1].trace}", *x)
    ),
    st.tuples(st.just("mt_priority"), st.integers(-9, 9)).map(
        lambda x: (f"MT-PRIORITY={x[1]}", *x)
    ),
    st.tuples(st.just("holduntil"), DATES).map(lambda x: (f"HOLDUNTIL={x[1].isoformat()}", *x)),
)
WRITTEN_RCPT = st.one_of(
    st.tuples(
        st.just("notify"),
        st.frozensets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"]), min_size=1),
    ).map(lambda x: (f"NOTIFY={','.join(x[1])}", *x)),
    st.tuples(st.just("orcpt"), st.builds(OriginalRecipient, st.just("rfc822"), ASCII_TEXTS)).map(
        lambda x: (f"ORCPT=rfc822;{encode_xtext(x[1].address)}", *x)
    ),
    st.tuples(st.just("orcpt"), st.builds(OriginalRecipient, st.just("utf-8"), TEXTS)).map(
        lambda x: ("ORCPT=utf-8;" + "".join(f"\\x{{{ord(c):02X}}}" for c in x[1].address), *x)
    ),
    st.tuples(
        st.just("rrvs"),
        st.builds(RequireRecipientValidSince, DATES, st.sampled_from([None, "C", "R"])),
    ).map(
        lambda x: (
            f"RRVS={x[1].since.isoformat()}" + (f";{x[1].action}" if x[1].action else ""),
            *x,
        )
    ),
)


@given(WRITTEN)
def test_mail_reads_what_was_written(written: tuple[str, str, object]) -> None:
    text, attribute, value = written
    options = parse(text, EVERYTHING, "MAIL")
    assert (getattr(options, attribute), options) == (value, [text])


@given(WRITTEN_RCPT)
def test_rcpt_reads_what_was_written(written: tuple[str, str, object]) -> None:
    text, attribute, value = written
    options = parse(text, EVERYTHING, "RCPT")
    assert (getattr(options, attribute), options) == (value, [text])


@given(st.lists(st.sampled_from([row[0] for row in MAIL]), unique_by=lambda p: p.split("=")[0]))
def test_options_read_what_they_say(parameters: list[str]) -> None:
    options = parse_options(" ".join(parameters), MAIL_PARAMETERS, MailOptions(), ALL)
    again = parse_options(" ".join(options), MAIL_PARAMETERS, MailOptions(), ALL)
    assert (again, vars(again)) == (options, vars(options))


VERB_AND_KEYWORD = [("MAIL", keyword) for keyword in MAIL_PARAMETERS]
VERB_AND_KEYWORD += [("RCPT", keyword) for keyword in RCPT_PARAMETERS]


@given(st.sampled_from(VERB_AND_KEYWORD), st.text(max_size=60))
def test_any_value_is_taken_or_refused(which: tuple[str, str], value: str) -> None:
    verb, keyword = which
    answer = replies.OK
    try:
        parse(f"{keyword}={value}", EVERYTHING, verb)
    except ProtocolError as error:
        answer = error.reply
    assert answer in (
        replies.OK,
        replies.BAD_PARAMETER,
        replies.REPEATED_PARAMETER,
        replies.UNKNOWN_PARAMETER,
        replies.TOO_MUCH_DATA,
    )
