"""Options: each parameter of MAIL and RCPT, and the lists that carry what they say."""

import pytest

from smtp_protocol import MailOptions, Parameter, ProtocolError, RcptOptions, replies
from smtp_protocol.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, parse_options

EXTENSIONS = frozenset({"SMTPUTF8"})


def parse(text: str, extensions: frozenset[str] = EXTENSIONS) -> MailOptions:
    return parse_options(text, MAIL_PARAMETERS, MailOptions(), extensions)


@pytest.mark.parametrize(
    ("text", "strings", "attributes"),
    [
        ("", [], {}),
        ("   ", [], {}),
        ("SIZE=0", ["SIZE=0"], {"size": 0}),
        ("size=1000", ["SIZE=1000"], {"size": 1000}),
        (f"SIZE={'9' * 20}", [f"SIZE={'9' * 20}"], {"size": int("9" * 20)}),
        ("SIZE=007", ["SIZE=007"], {"size": 7}),
        ("BODY=7BIT", ["BODY=7BIT"], {"body": "7BIT"}),
        ("Body=8bitMime", ["BODY=8bitMime"], {"body": "8BITMIME"}),
        ("BODY=BINARYMIME", ["BODY=BINARYMIME"], {"body": "BINARYMIME"}),
        ("SMTPUTF8", ["SMTPUTF8"], {"smtputf8": True}),
        ("smtputf8  SIZE=1 ", ["SMTPUTF8", "SIZE=1"], {"smtputf8": True, "size": 1}),
    ],
)
def test_understood(text: str, strings: list[str], attributes: dict[str, object]) -> None:
    options = parse(text)
    assert options == strings
    assert vars(options) == attributes


def test_defaults() -> None:
    options = MailOptions()
    assert (options.size, options.body, options.smtputf8, options.extra) == (None, None, False, {})


@pytest.mark.parametrize(
    "text",
    [
        "BODY=9BIT",
        "BODY",
        "BODY=",
        "BODY==7BIT",
        "SIZE",
        "SIZE=",
        "SIZE=-1",
        "SIZE=+1",
        "SIZE=x",
        "SIZE=1.0",
        "SIZE=٣",
        f"SIZE={'9' * 21}",
        "SMTPUTF8=YES",
        "SMTPUTF8=",
        "=1",
        "-SIZE=1",
        "SI_ZE=1",
        "SIZE=1\t",
        "SIZE=1\x85BODY=7BIT",
        "SIZE=1\x1cBODY=7BIT",
        "SIZE=1\0",
        "X=a=b",
        "X=\x7f",
        "ß",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert caught.value.reply is replies.BAD_PARAMETER


@pytest.mark.parametrize("text", ["X", "X=1", "SIZES=1", "SIZE=1 RET=", "9=9", "NOTIFY=NEVER"])
def test_unknown(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text.replace("RET=", "X"))
    assert caught.value.reply is replies.UNKNOWN_PARAMETER


def test_extension_is_off() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse("SMTPUTF8", frozenset())
    assert caught.value.reply is replies.UNKNOWN_PARAMETER


@pytest.mark.parametrize("text", ["SIZE=1 SIZE=1", "SIZE=1 BODY=7BIT size=2", "SMTPUTF8 smtputf8"])
def test_twice(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert caught.value.reply is replies.REPEATED_PARAMETER


def test_parameters_of_the_user() -> None:
    def number(value: str | None) -> int:
        return int(value or "1")

    table = {"X-A": Parameter[RcptOptions](number), "X-B": Parameter[RcptOptions](number)}
    options = parse_options("x-a=3 X-B", table, RcptOptions(), frozenset())
    assert options == ["X-A=3", "X-B"]
    assert options.extra == {"X-A": 3, "X-B": 1}
    assert RcptOptions().extra == {}
    with pytest.raises(ProtocolError) as caught:
        parse_options("X-A=three", table, RcptOptions(), frozenset())
    assert caught.value.reply is replies.BAD_PARAMETER


def test_extending_takes_the_values_too() -> None:
    options = MailOptions()
    options.extend(parse("SIZE=5 SMTPUTF8"))
    assert options == ["SIZE=5", "SMTPUTF8"]
    assert (options.size, options.smtputf8) == (5, True)


def test_extending_with_mere_strings() -> None:
    options = MailOptions()
    options.extend(["SIZE=5"])
    assert options == ["SIZE=5"]
    assert options.size is None


def test_each_entry_has_its_attribute() -> None:
    for table, options in ((MAIL_PARAMETERS, MailOptions()), (RCPT_PARAMETERS, RcptOptions())):
        for parameter in table.values():
            assert hasattr(options, str(parameter.attribute))
