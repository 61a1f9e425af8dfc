# ruff: noqa: RUF001 ambiguous characters are what this is about
"""ASCII: what only looks like or folds into a letter or a digit of a keyword is another character.

RFC 5321 §2.4: commands, keywords and their values are ASCII. Every word that a client can say is
tried here with each character of Unicode that some function of `str` makes an ASCII one of.
"""

import ast
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.engine import Defaults, finish

import smtp_protocol
from smtp_protocol import (
    ALL_EXTENSIONS,
    Auth,
    HandlerConnection,
    Mail,
    ProtocolConfig,
    ProtocolError,
    ProxyHeaderError,
    ProxyHeaderReader,
    Rcpt,
    Reply,
    Unknown,
    Vrfy,
    grammar,
    parse_command,
    replies,
)
from smtp_protocol.addresses import domain_of
from smtp_protocol.commands import BY_VERB
from smtp_protocol.encodings import encode_xtext
from smtp_protocol.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, parse_flag
from smtp_protocol.xclient import XCLIENT_NAMES, XFORWARD_NAMES


def folding(character: str) -> set[str]:
    """What the functions that change the form of a text make of a character."""
    forms = {
        character.upper(),
        character.lower(),
        character.casefold(),
        unicodedata.normalize("NFKC", character).casefold(),
    }
    return {form.lower() for form in forms if form.isascii() and form.isprintable()}


#: ASCII texts, lower-cased, and what becomes one of them.
FOLDS: dict[str, list[str]] = defaultdict(list)
#: ASCII digits, and the digits of other scripts that `int` takes for them.
DIGITS: dict[str, list[str]] = defaultdict(list)
for character in map(chr, range(128, sys.maxunicode + 1)):
    for text in folding(character):
        FOLDS[text].append(character)
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        DIGITS[str(digit)].append(character)


def lookalikes(text: str) -> Iterator[str]:
    """The text with one part of it replaced by each character that becomes that part."""
    for part, characters in FOLDS.items():
        start = text.lower().find(part)
        while start >= 0:
            for character in characters:
                yield text[:start] + character + text[start + len(part) :]
            start = text.lower().find(part, start + 1)


def with_other_digits(text: str) -> Iterator[str]:
    """The text with one digit replaced by each of another script."""
    for place, character in enumerate(text):
        for other in DIGITS.get(character, ()):
            yield text[:place] + other + text[place + 1 :]


CONFIG = ProtocolConfig(
    extensions=frozenset({*ALL_EXTENSIONS, "SMTPUTF8"}),
    auth=True,
    starttls=True,
    mail_parameters={**MAIL_PARAMETERS, "X-KEPT": smtp_protocol.Parameter(parse_flag)},
)


def code(line: str, config: ProtocolConfig = CONFIG) -> int:
    """The code of the refusal of a line; 0 if it is taken."""
    try:
        parse_command(line.encode(), config)
    except ProtocolError as error:
        return error.reply.code
    return 0


def test_the_characters_are_found() -> None:
    assert {"ı", "İ"} & {*FOLDS["i"]}
    assert "ſ" in FOLDS["s"]
    assert "\N{KELVIN SIGN}" in FOLDS["k"]
    assert "ß" in FOLDS["ss"]
    assert {"١", "１", "𝟙"} <= {*DIGITS["1"]}
    assert "8BıTMIME" in {*lookalikes("8BITMIME")}


#: A line around a word, the word, and the code of the answer when it is another.
WORDS: list[tuple[str, str, int]] = [
    *(("{} x", verb, 500) for verb in BY_VERB),
    ("MAIL {}:<a@b>", "FROM", 501),
    ("MAIL {}:<>", "FROM", 501),
    ("MAIL {}: a@b", "FROM", 501),
    ("RCPT {}:<a@b>", "TO", 501),
    ("RCPT {}:<@c:a@b>", "TO", 501),
    ("RCPT TO:<{}>", "postmaster", 553),
    ("RCPT TO:{} X=1", "postmaster", 553),
    ("RCPT TO:<a@[{}:::1]>", "IPv6", 553),
    ("BDAT 5 {}", "LAST", 501),
    ("AUTH {}", "PLAIN", 504),
    ("AUTH {} =", "SCRAM-SHA-256", 504),
    ("MAIL FROM:<a@b> {}", "X-KEPT", 501),
    *((f"MAIL FROM:<a@b> {{}}{value}", word, 501) for word, value in {
        "SIZE": "=1",
        "BODY": "=7BIT",
        "AUTH": "=<>",
        "RET": "=FULL",
        "ENVID": "=x",
        "SMTPUTF8": "",
        "REQUIRETLS": "",
        "BY": "=1;R",
        "MT-PRIORITY": "=1",
        "HOLDFOR": "=1",
        "HOLDUNTIL": "=2014-04-03T23:01:00Z",
    }.items()),
    *((f"RCPT TO:<a@b> {{}}{value}", word, 501) for word, value in {
        "NOTIFY": "=NEVER",
        "ORCPT": "=rfc822;a@b",
        "RRVS": "=2014-04-03T23:01:00Z",
    }.items()),
    *(("MAIL FROM:<a@b> BODY={}", word, 501) for word in ("7BIT", "8BITMIME", "BINARYMIME")),
    *(("MAIL FROM:<a@b> RET={}", word, 501) for word in ("FULL", "HDRS")),
    ("MAIL FROM:<a@b> BY=120;{}", "RT", 501),
    ("MAIL FROM:<a@b> BY=120;{}", "NT", 501),
    ("MAIL FROM:<a@b> HOLDUNTIL=2014-04-03{}23:01:00Z", "T", 501),
    ("MAIL FROM:<a@b> HOLDUNTIL=2014-04-03T23:01:00{}", "Z", 501),
    *(("RCPT TO:<a@b> NOTIFY={}", word, 501) for word in ("NEVER", "SUCCESS", "FAILURE", "DELAY")),
    ("RCPT TO:<a@b> NOTIFY=SUCCESS,{}", "FAILURE", 501),
    ("RCPT TO:<a@b> ORCPT={};a@b", "rfc822", 501),
    ("RCPT TO:<a@b> ORCPT={};ü@b", "utf-8", 501),
    ("RCPT TO:<a@b> RRVS=2014-04-03T23:01:00Z;{}", "C", 501),
    ("RCPT TO:<a@b> RRVS=2014-04-03T23:01:00Z;{}", "R", 501),
    *(("XCLIENT {}=[UNAVAILABLE]", word, 501) for word in XCLIENT_NAMES),
    *(("XFORWARD {}=[UNAVAILABLE]", word, 501) for word in XFORWARD_NAMES),
    ("XCLIENT ADDR={}:::1", "IPV6", 501),
    ("XCLIENT PROTO={}", "ESMTP", 501),
    ("XFORWARD SOURCE={}", "REMOTE", 501),
]  # fmt: skip


@pytest.mark.parametrize(("line", "word", "refusal"), WORDS, ids=lambda value: f"{value}")
def test_a_word_with_another_letter(line: str, word: str, refusal: int) -> None:
    others = {*lookalikes(word)}
    assert others
    codes = {code(line.format(other)) for other in others}
    # A keyword that is none is malformed; one that is well formed and unknown cannot come of it.
    assert codes == {refusal}, codes


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("XCLIENT PROTO={}", "ESMTP"),
        ("XFORWARD SOURCE={}", "REMOTE"),
        ("XCLIENT ADDR={}:::1", "IPV6"),
    ],
)
def test_a_word_that_was_encoded(line: str, word: str) -> None:
    assert {code(line.format(encode_xtext(other))) for other in lookalikes(word)} == {501}


def test_every_keyword_is_tried() -> None:
    tried = {word for _, word, _ in WORDS}
    assert tried >= {*MAIL_PARAMETERS, *RCPT_PARAMETERS, *BY_VERB, *XCLIENT_NAMES, *XFORWARD_NAMES}


NUMBERS = [
    "MAIL FROM:<a@b> SIZE=1234567890",
    "MAIL FROM:<a@b> BY=120;R",
    "MAIL FROM:<a@b> MT-PRIORITY=4",
    "MAIL FROM:<a@b> HOLDFOR=3600",
    "MAIL FROM:<a@b> HOLDUNTIL=2014-04-03T23:01:00.5+01:30",
    "RCPT TO:<a@b> RRVS=2014-04-03T23:01:00-01:30",
    "XCLIENT PORT=65535",
    "XCLIENT ADDR=192.0.2.1",
    "XCLIENT ADDR=IPV6:2001:db8::1",
]


@pytest.mark.parametrize("line", NUMBERS)
def test_a_number_with_digits_of_another_script(line: str) -> None:
    assert code(line.replace("1234567890", "12345")) == 0
    verb, space, rest = line.rpartition(" ")
    keyword, _, value = rest.partition("=")
    others = [f"{verb}{space}{keyword}={other}" for other in with_other_digits(value)]
    assert len(others) > 30
    assert {code(other) for other in others} == {501}


def test_the_size_of_a_chunk_with_digits_of_another_script() -> None:
    others = [f"BDAT {other} LAST" for other in with_other_digits("1234567890")]
    for other in others:
        with pytest.raises(ProtocolError) as caught:
            parse_command(other.encode(), CONFIG)
        assert (caught.value.reply.code, caught.value.closing) == (501, True)


def test_the_literal_of_an_address_with_digits_of_another_script() -> None:
    for literal in ("[192.0.2.1]", "[IPv6:2001:db8::1]"):
        assert {code(f"RCPT TO:<a@{other}>") for other in with_other_digits(literal)} == {553}


def test_numbers_of_other_places() -> None:
    for other in with_other_digits("550 5.7.1 no"):
        if not other.startswith("550"):
            continue
        assert Reply.parse(other).enhanced is None
    for other in with_other_digits("550"):
        with pytest.raises(ValueError, match="no line"):
            Reply.parse(f"{other} no")
    for other in with_other_digits("PROXY TCP4 192.0.2.1 192.0.2.2 1 25"):
        with pytest.raises(ProxyHeaderError):
            ProxyHeaderReader().receive_data(other.encode() + b"\r\n")


def test_the_parameter_of_vrfy() -> None:
    assert parse_command(b"VRFY a@b smtputf8", CONFIG) == Vrfy("a@b", smtputf8=True)
    for other in lookalikes("SMTPUTF8"):
        assert parse_command(f"VRFY a@b {other}".encode(), CONFIG) == Vrfy(f"a@b {other}")


def test_other_protocols() -> None:
    assert code("GET /") == 421
    assert {code(f"{other} /") for other in lookalikes("CONNECT")} == {500}


def test_help() -> None:
    server = HandlerConnection(Defaults(), CONFIG)
    ask = Defaults().handle_HELP
    answer = finish(ask(server, server.session, server.envelope, "mail"))
    assert isinstance(answer, Reply)
    assert answer.code == 214
    for other in lookalikes("MAIL"):
        answer = finish(ask(server, server.session, server.envelope, other))
        assert answer is replies.NO_SUCH_TOPIC


@pytest.mark.parametrize("text", ["mail", "MAIL", "MAıL", "ſ", "İ", "ß", "\N{KELVIN SIGN}"])
def test_upper_and_lower(text: str) -> None:
    ascii_only = text.isascii()
    assert grammar.upper(text) == (text.upper() if ascii_only else text)
    assert grammar.lower(text) == (text.lower() if ascii_only else text)


def test_what_is_ascii_is_taken_in_any_case() -> None:
    assert isinstance(parse_command(b"mAiL fRoM:<a@b> bOdY=8bItMiMe", CONFIG), Mail)
    assert isinstance(parse_command(b"rCpT tO:<pOsTmAsTeR> nOtIfY=nEvEr", CONFIG), Rcpt)
    auth = parse_command(b"aUtH pLaIn", CONFIG)
    assert isinstance(auth, Auth)
    assert auth.mechanism == "PLAIN"
    assert parse_command(b"fOo x", CONFIG) == Unknown("FOO", "x")


def test_domains_are_compared_as_idna_does() -> None:
    assert [domain_of(text) for text in ("a@b", '"a@b"', "root", '"a@b"@c', "a@[::1]")] == [
        "b",
        "",
        "",
        "c",
        "[::1]",
    ]


# The walk over the code.

FOLDING = {"upper", "lower", "casefold", "title", "capitalize", "swapcase"}
GUESSING = {"isdigit", "isdecimal", "isnumeric", "isalpha", "isalnum", "isidentifier"}
# What was looked at: most is octets, whose methods know nothing beyond ASCII, or was ours before.
ALLOWED = {
    ("commands.py", "command.__name__.upper()"),
    # Domains and the numbers of addresses, in the one form that they are compared in.
    ("mailboxes.py", "content.lower()"),
    ("mailboxes.py", "domain.lower()"),
    ("mailboxes.py", "int(number)"),
    ("mailboxes.py", "label.lower()"),
    ("mailboxes.py", "literal.lower()"),
    ("mailboxes.py", "tag.lower()"),
    ("networks.py", "int(address)"),
    # The line above says by a pattern that it is ASCII.
    ("addresses.py", "int(octet)"),
    ("encodings.py", "int(match[1], 16)"),
    ("parameters.py", "int(match[1])"),
    ("parameters.py", "int(text)"),
    ("parameters.py", "keyword.upper()"),
    ("parser.py", "int(match['size'])"),
    ("proxy_header.py", "int(text)"),
    ("replies.py", "int(class_)"),
    ("replies.py", "int(code)"),
    ("replies.py", "int(detail)"),
    ("replies.py", "int(subject)"),
    ("xclient.py", "int(text)"),
    ("hooks.py", "known.upper()"),
    ("hooks.py", "name.upper()"),
    ("oauth.py", "pair[:5].lower()"),
    ("oauth.py", "user[:5].lower()"),
    ("parser.py", "line.partition(b' ')[0].upper()"),
    ("parser.py", "word.upper()"),
    ("simple.py", "self.digest.lower()"),
    # A domain is no keyword, and IDNA folds it.
    ("state.py", "domain_of(address).lower()"),
    # It is one of a table.
    ("xclient.py", "name.lower()"),
}


def careless(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(ast.Attribute(ast.Name("grammar"))):
                pass
            case ast.Call(ast.Attribute(_, name)) if name in FOLDING | GUESSING:
                yield ast.unparse(node)
            case ast.Call(ast.Attribute(_, "split" | "strip" | "lstrip" | "rstrip"), [], []):
                yield ast.unparse(node)  # it goes by all white space of Unicode
            case ast.Call(ast.Name("int" | "float")) | ast.Attribute(_, "IGNORECASE" | "I"):
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "path", sorted(Path(smtp_protocol.__path__[0]).rglob("*.py")), ids=lambda path: path.stem
)
def test_nobody_folds_text_of_a_peer(path: Path) -> None:
    if path.name != "grammar.py":
        assert [each for each in careless(path) if (path.name, each) not in ALLOWED] == []


def test_what_is_careless(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("a.upper(); b.isdigit(); int(c); d.split(); re.compile(e, re.IGNORECASE)")
    assert len([*careless(path)]) == 5
