"""Encodings: any text as xtext, any octets as base64, and back."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import ProtocolError, replies
from smtp_protocol.encodings import decode_base64, decode_utf8_xtext, decode_xtext, encode_xtext


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("", ""),
        ("a@b", "a@b"),
        ("e+3Dmc2", "e=mc2"),
        ("+2B+3D", "+="),
        ("a+20b", "a b"),
        ("+C3+BC", "ü"),
        ("+00", "\0"),
        ("!*,-<>-~", "!*,-<>-~"),
    ],
)
def test_decoding(text: str, decoded: str) -> None:
    assert decode_xtext(text) == decoded


@pytest.mark.parametrize(
    "text", ["=", "+", "+2", "+2b", "+GG", "a b", "ü", "\x7f", "\0", "a\n", "+C3", "+FF", "a+"]
)
def test_what_is_no_xtext(text: str) -> None:
    with pytest.raises(ValueError, match=r"xtext|codec"):
        decode_xtext(text)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("a@b", "a@b"), ("a+b=c d", "a+2Bb+3Dc+20d"), ("ü", "+C3+BC"), ("\n", "+0A")],
)
def test_encoding(text: str, encoded: str) -> None:
    assert encode_xtext(text) == encoded


@given(st.text())
def test_there_and_back(text: str) -> None:
    encoded = encode_xtext(text)
    assert encoded.isascii()
    assert "=" not in encoded
    assert decode_xtext(encoded) == text


@pytest.mark.parametrize(
    ("text", "decoded"),
    [("a@b", "a@b"), ("\\x{FC}@b", "ü@b"), ("ü@b", "ü@b"), ("\\x{5C}x{FC}", "\\x{FC}")],
)
def test_decoding_utf8(text: str, decoded: str) -> None:
    assert decode_utf8_xtext(text) == decoded


@pytest.mark.parametrize(
    "text", ["\\", "\\x", "\\x{}", "\\x{F}", "\\x{fc}", "\\x{1234567}", "\\x{D800}", "\\x{110000}"]
)
def test_what_is_no_utf8_xtext(text: str) -> None:
    with pytest.raises(ValueError, match=r"utf-8-addr-xtext|chr\(\)|surrogates"):
        decode_utf8_xtext(text)


@given(st.text())
def test_each_character_embedded(text: str) -> None:
    assert decode_utf8_xtext("".join(f"\\x{{{ord(c):02X}}}" for c in text)) == text


@pytest.mark.parametrize("text", [b"", b"dGlt", "dGlt", b"AA==", b"AAA=", b"+/+/"])
def test_base64(text: str | bytes) -> None:
    assert decode_base64(text) == base64.b64decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "dGl",
        "dGlt=",
        "dGlt====",
        "dGlt\n",
        "AA==AA==",
        "dG lt",
        "ü",
        "dGl-",
        b"\xff",
        b"====",
        b"A",
        b"*",
    ],
)
def test_no_base64(text: str | bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_base64(text)
    assert caught.value.reply is replies.BAD_BASE64


@given(st.binary())
def test_any_octets_as_base64(octets: bytes) -> None:
    assert decode_base64(base64.b64encode(octets)) == octets


@given(st.text("AQ/+=", max_size=12))
def test_base64_is_what_is_written_so(text: str) -> None:
    try:
        octets = decode_base64(text)
    except ProtocolError:
        return
    # All but the bits that stand for nothing.
    again = base64.b64encode(octets).decode()
    assert (len(again), again.count("="), again[:-3]) == (len(text), text.count("="), text[:-3])
