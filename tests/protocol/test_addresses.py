"""Addresses: which paths are taken, in which of the two syntaxes, and what is left of them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import AddressSyntax, parse_forward_path, parse_reverse_path
from smtp_protocol.addresses import is_null_path, parse_mailbox

# What is sent, and the mailbox that a handler gets.
BOTH = {
    "<a@b>": "a@b",
    "<a@b.example>": "a@b.example",
    "<@a,@b:user@d>": "user@d",
    "<@a.example:user@d>": "user@d",
    '<"@a,@b:<user>"@d>': '"@a,@b:<user>"@d',
    '<" hi there! "@d>': '" hi there! "@d',
    '<""@d>': '""@d',
    '<"anne..arthur"@d>': '"anne..arthur"@d',
    '<"a\\"b\\\\c"@d>': '"a\\"b\\\\c"@d',
    '<"a>b"@d>': '"a>b"@d',
    '<"a]"@d>': '"a]"@d',
    "<customer/department=x@d>": "customer/department=x@d",
    "<!def!xyz%abc@d>": "!def!xyz%abc@d",
    "<a+b@d>": "a+b@d",
    "<A@D.Example>": "A@D.Example",
    "<a@[127.0.0.1]>": "a@[127.0.0.1]",
    "<a@[255.255.255.255]>": "a@[255.255.255.255]",
    "<a@[IPv6:2001:db8::1]>": "a@[IPv6:2001:db8::1]",
    "<a@[ipv6:::1]>": "a@[ipv6:::1]",
    "<a@[IPv6:::ffff:192.0.2.1]>": "a@[IPv6:::ffff:192.0.2.1]",
    f"<{'x' * 65}@d>": f"{'x' * 65}@d",
    "<a@b--c>": "a@b--c",
    "<a@xn--bcher-kva.example>": "a@xn--bcher-kva.example",
    "<a@1.2.3.4>": "a@1.2.3.4",
    "<孫子@áéíóú.org>": "孫子@áéíóú.org",
    '<"ü ü"@d>': '"ü ü"@d',
    "<क\u200dष@d>": "क\u200dष@d",
}
LENIENT = {
    "a@b": "a@b",
    " <a@b>": "a@b",
    "  a@b": "a@b",
    "< a@b >": "a@b",
    "< @a: a@b >": "a@b",
    "<a..b@c>": "a..b@c",
    "<.a@b>": ".a@b",
    "<a.@b>": "a.@b",
    "<...a...@b>": "...a...@b",
    'much."more\\ unusual"@d': 'much."more\\ unusual"@d',
    '<"much".more."unusual"@d>': '"much".more."unusual"@d',
    '" hi there! "@d': '" hi there! "@d',
    "<a@under_score.example>": "a@under_score.example",
    "a@[127.0.0.1]": "a@[127.0.0.1]",
}
NEVER = [
    "",
    " ",
    "<",
    ">",
    "<a>",
    "a",
    "@",
    "<@>",
    "<a@b",
    "a@b>",
    "<a@b>>",
    "<<a@b>>",
    "<a@b>x",
    "<a@b>,<c@d>",
    "a@b,c@d",
    "Anne <a@b>",
    '"Anne" <a@b>',
    "a:b:c@d",
    "<@d>",
    "<a@>",
    "<a@@b>",
    "<a@b@c>",
    "<a@b..c>",
    "<a@.b>",
    "<a@b.>",
    "<a@.>",
    "<a@-b.c>",
    "<a@b-.c>",
    "<a@b-->",
    "<a@b c>",
    "<a b@c>",
    "<a@b/c>",
    "<a@b%c>",
    "<@a,user@d>",
    "<@a,:user@d>",
    "<a:user@d>",
    "<@a:>",
    '<"a@d>',
    '<a"b@d>',
    '<a"b"@d>',
    '<"a"b@d>',
    '<"a"b"@d>',
    '<"a\\"@d>',
    "<a\\@b@c>",
    "<(comment)a@b>",
    "<a@[999.1.1.1]>",
    "<a@[1.2.3]>",
    "<a@[1.2.3.4.5]>",
    "<a@[1.2.3.1234]>",
    "<a@[]>",
    "<a@[>",
    "<a@[1.2.3.4>",
    "<a@1.2.3.4]>",
    "<a@[1.2.3.4]x>",
    "<a@[1.2.3.4].b>",
    "<a@[IPv6:]>",
    "<a@[IPv6:1]>",
    "<a@[IPv6:2001:db8::1::2]>",
    "<a@[IPv6:g::1]>",
    "<a@[IPv6:fe80::1%eth0]>",
    "<a@[2001:db8::1]>",
    "<a@[x400:abc]>",
    "\t<a@b>",
    "<\ta@b>",
]
INVISIBLE = {
    "NUL": "\0",
    "ESC": "\x1b",
    "DEL": "\x7f",
    "CR": "\r",
    "LF": "\n",
    "NEL": "\x85",
    "no-break space": "\xa0",
    "soft hyphen": "\xad",
    "zero width space": "\u200b",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "byte order mark": "\ufeff",
}
PLACES = [
    "<@c{}:a@d>",
    "<@{}c,@b:a@d>",
    "<{}@d>",
    '<"{}"@d>',
    "<a{}b@d>",
    "<a@d{}>",
    "<a@{}d>",
    "{}<a@d>",
    "<a@d{}",
    '<"\\{}"@d>',
]
EITHER: list[AddressSyntax] = ["lenient", "strict"]
ALL: list[AddressSyntax] = [*EITHER, "local"]
# What only a machine's own mail has, and what it is no more than other mail.
LOCAL = {
    "<tester>": "tester",
    "tester": "tester",
    " < tester > ": "tester",
    "<a.b>": "a.b",
    "<a..b.>": "a..b.",
    '<"John Doe">': '"John Doe"',
    '<"a@b">': '"a@b"',
    '<"a"."b">': '"a"."b"',
    "<ü>": "ü",
    "<@c:tester>": "tester",
}
NEVER_LOCAL = [path for path in NEVER if path not in ("<a>", "a", "<(comment)a@b>", "<@a:>")] + [
    "<a b>",
    "<.>",
    "<...>",
    "<a,b>",
    '<"a>',
    '<"a"b>',
    "Anne < a@b>",
    "Anne <a>",
    '"Anne A" <a>',
]


@pytest.mark.parametrize("syntax", EITHER)
@pytest.mark.parametrize(("path", "mailbox"), BOTH.items())
def test_taken_by_both(path: str, mailbox: str, syntax: AddressSyntax) -> None:
    assert parse_reverse_path(path, syntax) == (mailbox, "")
    assert parse_forward_path(path, syntax) == (mailbox, "")
    assert parse_forward_path(f"{path} X=1  Y", syntax) == (mailbox, " X=1  Y")


@pytest.mark.parametrize(("path", "mailbox"), LENIENT.items())
def test_taken_by_lenient_alone(path: str, mailbox: str) -> None:
    assert parse_reverse_path(path) == (mailbox, "")
    assert parse_forward_path(path) == (mailbox, "")
    assert parse_reverse_path(f"{path} X=1  Y") == (mailbox, " X=1  Y")
    with pytest.raises(ValueError, match=r"."):
        parse_reverse_path(path, "strict")
    with pytest.raises(ValueError, match=r"."):
        parse_forward_path(path, "strict")


@pytest.mark.parametrize("syntax", EITHER)
@pytest.mark.parametrize("path", NEVER)
def test_never_taken(path: str, syntax: AddressSyntax) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_reverse_path(path, syntax)
    with pytest.raises(ValueError, match=r"."):
        parse_forward_path(path, syntax)


@pytest.mark.parametrize(("path", "mailbox"), LOCAL.items())
def test_taken_by_local_alone(path: str, mailbox: str) -> None:
    end = " " if path.endswith(" ") else ""
    assert parse_reverse_path(path, "local") == (mailbox, end)
    assert parse_forward_path(f"{path} X=1", "local") == (mailbox, f"{end} X=1")
    for syntax in EITHER:
        with pytest.raises(ValueError, match=r"."):
            parse_forward_path(path, syntax)


@pytest.mark.parametrize(("path", "mailbox"), [*BOTH.items(), *LENIENT.items()])
def test_local_takes_whatever_lenient_takes(path: str, mailbox: str) -> None:
    assert parse_forward_path(path, "local") == parse_forward_path(path) == (mailbox, "")


@pytest.mark.parametrize("rest", ["", " ", " X=1", " <", " <c@d>", "  <>"])
@pytest.mark.parametrize("path", ["<a@b>", " < a@b >", "a@b", "<@c:a@b>", "<>", "<postmaster>"])
def test_local_reads_what_lenient_reads(path: str, rest: str) -> None:
    for parse in (parse_reverse_path, parse_forward_path):
        try:
            lenient = parse(path + rest)
        except ValueError:
            # RCPT has no null path, and MAIL no Postmaster; that is a mailbox of this machine.
            assert path in ("<>", "<postmaster>")
        else:
            assert parse(path + rest, "local") == lenient
            assert lenient[1].lstrip(" ") == rest.lstrip(" ")


@pytest.mark.parametrize("path", NEVER_LOCAL)
def test_never_taken_by_local(path: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_reverse_path(path, "local")
    with pytest.raises(ValueError, match=r"."):
        parse_forward_path(path, "local")


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE.keys())
def test_invisible_characters(character: str, place: str, syntax: AddressSyntax) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_forward_path(place.format(character), syntax)


@pytest.mark.parametrize("syntax", EITHER)
def test_null_reverse_path(syntax: AddressSyntax) -> None:
    assert parse_reverse_path("<>", syntax) == ("", "")
    assert parse_reverse_path("<> BODY=7BIT", syntax) == ("", " BODY=7BIT")
    with pytest.raises(ValueError, match="no path"):
        parse_forward_path("<>", syntax)
    with pytest.raises(ValueError, match="behind"):
        parse_reverse_path("<>x", syntax)


def test_null_reverse_path_with_spaces() -> None:
    assert parse_reverse_path(" < >") == ("", "")
    with pytest.raises(ValueError, match="no path"):
        parse_reverse_path("< >", "strict")


@pytest.mark.parametrize(("path", "null"), [("<>", True), (" < > X", True), ("<a@b>", False)])
def test_is_null_path(path: str, null: bool) -> None:
    assert is_null_path(path) is null


@pytest.mark.parametrize("syntax", EITHER)
@pytest.mark.parametrize("name", ["Postmaster", "postmaster", "POSTMASTER"])
def test_postmaster(name: str, syntax: AddressSyntax) -> None:
    assert parse_forward_path(f"<{name}> X", syntax) == (name, " X")
    assert parse_forward_path(f"<{name}@d>", syntax) == (f"{name}@d", "")
    with pytest.raises(ValueError, match="no path"):
        parse_reverse_path(f"<{name}>", syntax)
    with pytest.raises(ValueError, match="behind"):
        parse_forward_path(f"<{name}>x", syntax)


@pytest.mark.parametrize("path", ["Postmaster", " < Postmaster >"])
def test_postmaster_without_brackets(path: str) -> None:
    assert parse_forward_path(path) == ("Postmaster", "")
    with pytest.raises(ValueError, match="no path"):
        parse_forward_path(path, "strict")


@pytest.mark.parametrize("path", ["Postmasters", "Postmaster>", "<Postmaster"])
def test_nearly_postmaster(path: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        parse_forward_path(path)


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize("letter", ["x", "ü", "孫"])
def test_length_of_a_path(letter: str, syntax: AddressSyntax) -> None:
    longest = f"<{letter * 252}@d>"
    assert parse_forward_path(longest, syntax) == (longest[1:-1], "")
    with pytest.raises(ValueError, match="too long"):
        parse_forward_path(f"<{letter * 253}@d>", syntax)


# A label, and whether a domain can have it. What is not ASCII is counted as DNS has it.
LABELS_BY_LENGTH = [
    ("x" * 63, True),
    ("x" * 64, False),
    ("a-" * 31 + "a", True),
    ("a-" * 32 + "a", False),
    ("ü" * 57, True),  # xn-- and 59 more
    ("ü" * 58, False),
    ("xn--" + "a" * 59, True),
    ("xn--" + "a" * 60, False),
    ("\U00020000" * 30, True),
    ("".join(map(chr, range(0x4E00, 0x4E00 + 600, 30))), True),
    ("".join(map(chr, range(0x4E00, 0x4E00 + 20000, 800))), False),
]


@pytest.mark.parametrize("syntax", ALL)
@pytest.mark.parametrize(("label", "good"), LABELS_BY_LENGTH)
def test_length_of_a_label(label: str, good: bool, syntax: AddressSyntax) -> None:
    if good:
        assert len(label.encode("idna")) <= 63
    for path in (f"<a@{label}>", f"<a@b.{label}.c>", f"<@{label}:a@b>", f"<@a,@b.{label}:a@b>"):
        try:
            mailbox, rest = parse_forward_path(path, syntax)
        except ValueError:
            assert not good
        else:
            assert good
            assert (mailbox, rest) == (path[1:-1].rpartition(":")[2], "")


@pytest.mark.parametrize("syntax", ALL)
def test_length_of_a_domain(syntax: AddressSyntax) -> None:
    # Of A-labels; with others a path is too long before.
    label = "ü" * 40
    assert len(label.encode("idna")) == 46
    assert parse_forward_path(f"<a@{'.'.join([label] * 5)}>", syntax)
    assert parse_forward_path(f"<a@{'.'.join([label] * 5)}.{'x' * 20}>", syntax)
    with pytest.raises(ValueError, match="domain is too long"):
        parse_forward_path(f"<a@{'.'.join([label] * 5)}.{'x' * 21}>", syntax)


@pytest.mark.parametrize("mailbox", ["a@b", '"a b"@c', "a..b@c", "a@[192.0.2.1]", "ü@é.example"])
def test_a_mailbox_alone(mailbox: str) -> None:
    assert parse_mailbox(mailbox) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@b",
        "a@",
        "<a@b>",
        " a@b",
        "a@b ",
        "a@b\r\n",
        "a\0@b",
        "a\x85@b",
        "@c:a@b",
        "a@[1]",
    ],
)
def test_no_mailbox_alone(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_mailbox(text)


@pytest.mark.parametrize("text", [f"a@{'x' * 64}", f"{'x' * 255}@b", "a@b>", "a@b c@d"])
def test_nor_this(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_mailbox(text)


def test_lenient_takes_whatever_strict_takes() -> None:
    for path in BOTH:
        assert parse_reverse_path(path) == parse_reverse_path(path, "strict")


PIECES = [
    "<",
    ">",
    "@",
    ".",
    "..",
    '"',
    "\\",
    " ",
    ",",
    ":",
    "a",
    "-",
    "[",
    "]",
    "1.2.3.4",
    "IPv6:",
]


@given(st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8")).map("".join))
def test_any_text_is_a_path_or_a_value_error(text: str) -> None:
    for parse in (parse_reverse_path, parse_forward_path):
        outcomes = {}
        for syntax in ALL:
            try:
                outcomes[syntax] = parse(text, syntax)
            except ValueError:
                continue
            mailbox, rest = outcomes[syntax]
            assert text.endswith(rest)
            assert mailbox in text
        if "strict" in outcomes:
            assert outcomes["lenient"] == outcomes["strict"]
        if "lenient" in outcomes:
            assert outcomes["local"] == outcomes["lenient"]


# Mailboxes as RFC 5321 §4.1.2 makes them.
ATOMS = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-üж孫", min_size=1, max_size=6)
QUOTED = st.lists(
    st.text("ab <>@,:;()[]ü", max_size=4) | st.sampled_from(['\\"', "\\\\", "\\ "]), max_size=4
).map(lambda parts: f'"{"".join(parts)}"')
LOCALS = st.lists(ATOMS, min_size=1, max_size=4).map(".".join) | QUOTED
LABELS = st.from_regex(r"[a-z0-9ü](-{0,2}[a-zA-Z0-9é]){0,4}", fullmatch=True)
DOMAINS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]"),
)
MAILBOXES = st.builds("{}@{}".format, LOCALS, DOMAINS)
RESTS = st.sampled_from(["", " ", " SIZE=1", "  X Y=Z"])


@given(MAILBOXES, RESTS, st.lists(LABELS, max_size=3), st.sampled_from(ALL))
def test_reads_what_was_written(
    mailbox: str, rest: str, route: list[str], syntax: AddressSyntax
) -> None:
    hops = ",".join(f"@{domain}" for domain in route)
    text = f"<{hops + ':' if hops else ''}{mailbox}>{rest}"
    for parse in (parse_reverse_path, parse_forward_path):
        assert parse(text, syntax) == (mailbox, rest)


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(ALL))
def test_what_was_read_is_read_again(text: str, syntax: AddressSyntax) -> None:
    for parse in (parse_reverse_path, parse_forward_path):
        with suppress(ValueError):
            mailbox, rest = parse(text, syntax)
            assert parse(f"<{mailbox}>{rest}", syntax) == (mailbox, rest)


@pytest.mark.parametrize(
    "text",
    [
        "<" + "a." * 100_000,
        "<" + '"' + '\\"' * 100_000,
        "<" + "@a," * 100_000,
        "<a@" + "b-" * 100_000,
        "<a@" + "b." * 100_000,
        " " * 200_000,
        "<" + " " * 200_000,
        '"".' * 70_000,
    ],
    ids=lambda text: text[:6],
)
def test_hostile_paths_come_to_an_end(text: str) -> None:
    # That the time is linear, test_patterns.py shows; a quadratic one would take minutes here.
    for syntax in ALL:
        with pytest.raises(ValueError, match=r"."):
            parse_forward_path(text, syntax)
