"""Mailboxes: all spellings of one mailbox have one form, and no other mailbox has it."""

import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_protocol import canonical_mailbox, parse_forward_path
from smtp_protocol.mailboxes import unquoted

# The form, and spellings of it.
SPELLINGS = {
    "": [""],
    "anne@d.example": ['"anne"@d.example', r'"\anne"@D.Example', r'"a\nn\e"@d.example'],
    "Anne@d.example": ['"Anne"@D.EXAMPLE'],
    "a.b.c@x": ['"a.b.c"@x', 'a."b".c@x', '"a"."b.c"@x'],
    '"a b"@x': [r'"a\ b"@x', r'"\a\ \b"@x'],
    r'"a\"\\@b"@x': [r'"\a\"\\\@\b"@x'],
    ".a@x": ['".a"@x'],
    "a.@x": ['"a."@x'],
    "a..b@x": ['"a..b"@x', 'a.."b"@x', '"a."."b"@x'],
    '""@x': ["@x"],
    "postmaster": ["Postmaster", "POSTMASTER", '"postmaster"'],
    "postmaster@x": ["PostMaster@X", r'"Post\master"@x'],
    "anne@xn--bcher-kva.example": [
        "anne@bücher.example",
        "anne@BÜCHER.Example",
        "anne@bu\u0308cher.example",
        "anne@bu\u0308cher\u3002example",
        "anne@\uff42ücher\uff0eexample",
        "anne@XN--BCHER-KVA.example",
    ],
    "anne@xn--nxasmq6b.gr": ["anne@βόλοσ.gr", "anne@ΒΌΛΟΣ.gr"],
    "anne@xn--strae-oqa.de": ["anne@straße.de", "anne@STRAẞE.de"],
    "anne@strasse.de": ["anne@STRASSE.de"],
    "K@k.example": ["K@\u212a.example", "\u212a@k.example"],  # the sign of the kelvin
    "andr\u00e9@x": ["andre\u0301@x", '"andre\u0301"@x'],
    "a@[192.0.2.1]": ["a@[192.0.02.001]"],
    "a@[IPv6:2001:db8::1]": ["a@[ipv6:2001:DB8:0:0::1]"],
}


@pytest.mark.parametrize("form", SPELLINGS)
def test_spellings_of_one_mailbox(form: str) -> None:
    assert {canonical_mailbox(spelling) for spelling in [form, *SPELLINGS[form]]} == {form}


@pytest.mark.parametrize(
    ("address", "form"),
    [
        # A Greek question mark is a semicolon in form NFC, which needs quotes.
        ("a\u037eb@x", '"a;b"@x'),
        # What normalization makes an "@", a "/" or a dot of is no label.
        ("a@ours.example\uff20evil.example", "a@ours.example\uff20evil.example"),
        ("a@℀.Example", "a@℀.example"),
        ("a@Ü\u2024example", "a@ü\u2024example"),
        (f"a@{'Ü' * 64}.example", f"a@{'ü' * 64}.example"),
        (f"a@{'é' * 62}.example", f"a@{'é' * 62}.example"),
        # What is no mailbox.
        ('"a@x', r'"\"a"@x'),
        ("a b", '"a b"'),
        ("a@[IPv6:X]", "a@[ipv6:x]"),
        ("a@[X]", "a@[x]"),
        ("a@[", "a@["),
    ],
)
def test_not_quite_mailboxes(address: str, form: str) -> None:
    assert canonical_mailbox(address) == canonical_mailbox(form) == form


@pytest.mark.parametrize(
    ("local_part", "content"),
    [("anne", "anne"), (r'"a\"b"', 'a"b'), (r"a\b", r"a\b"), ('"open', '"open'), ('"x\\', '"x\\')],
)
def test_unquoted(local_part: str, content: str) -> None:
    assert unquoted(local_part) == content


CONTENTS = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("üé孫"))
UNICODE_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
LABELS = st.from_regex(r"[a-z0-9ü](-?[a-z0-9é孫]){0,6}", fullmatch=True)
DOMAINS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)


def quoted(content: str, escaped: set[int]) -> str:
    """The content as a Quoted-string, with backslashes at will."""
    characters = [
        f"\\{each}" if each in '"\\' or (number in escaped and each.isascii()) else each
        for number, each in enumerate(content)
    ]
    return f'"{"".join(characters)}"'


@example(".", "x", set(), "NFC")
@example("..", "x", {0}, "NFC")
@given(CONTENTS, DOMAINS, st.sets(st.integers(0, 20)), st.sampled_from(UNICODE_FORMS))
def test_every_spelling_has_one_form_that_is_a_mailbox(
    content: str, domain: str, escaped: set[int], unicode_form: Literal["NFC", "NFD"]
) -> None:
    form = canonical_mailbox(f"{quoted(content, set())}@{domain}")
    local = unicodedata.normalize(unicode_form, quoted(content, escaped))
    spelled = unicodedata.normalize(unicode_form, domain.upper())
    assert canonical_mailbox(f"{local}@{spelled}") == form
    assert canonical_mailbox(form) == form
    assert parse_forward_path(f"<{form}>") == (form, "")


@given(CONTENTS, CONTENTS)
def test_two_mailboxes_have_two_forms(one: str, other: str) -> None:
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    forms = {canonical_mailbox(f"{quoted(each, set())}@x") for each in (one, other)}
    assert len(forms) == (1 if same or "postmaster" in one.lower() else 2)


@given(st.text())
def test_any_text_has_a_form(text: str) -> None:
    canonical_mailbox(text)
    canonical_mailbox(f"{text}@{text}")
