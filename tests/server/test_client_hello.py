"""Client hello: any octets have a printable name or none, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.hellos import extension, message, name_extension, records, vector

from smtp_server.client_hello import ClientHello, is_host_name, server_name


def name_in(*octets: bytes) -> str | None:
    hello = ClientHello()
    for piece in octets:
        hello.receive_data(piece)
    return hello.name


NAMES: dict[bytes, str] = {
    b"localhost": "localhost",
    b"": "",
    "café".encode(): r"caf\xc3\xa9",
    "café".encode("latin-1"): r"caf\xe9",
    b"a\r\nEHLO x": r"a\r\nEHLO x",
    b"nul\0": r"nul\x00",
    b"\x1b[31m\x7f": r"\x1b[31m\x7f",
    b"a" * 300: "a" * 300,
    b"\xff" * 65000: r"\xff" * 65000,
}


@pytest.mark.parametrize("octets", NAMES, ids=lambda name: repr(name[:20]))
def test_a_server_name_may_hold_anything(octets: bytes) -> None:
    """b22: printable ASCII comes of it, however it was cut."""
    if len(octets) > 60000:
        hello = records(message(name_extension(octets)))
    else:
        hello = records(message(extension(99, b"x"), name_extension(octets), extension(7, b"")))
        for size in (1, 2, 7):
            whole = message(extension(99, b"x"), name_extension(octets), extension(7, b""))
            assert name_in(records(whole, size)) == NAMES[octets]
        assert name_in(*(bytes([octet]) for octet in hello)) == NAMES[octets]
    assert name_in(hello) == NAMES[octets]
    assert (name_in(hello) or "").isascii()
    assert (name_in(hello) or "").isprintable()


def test_a_hello_that_is_cut() -> None:
    hello = records(message(extension(99, b"x"), name_extension(b"localhost")), 20)
    for end in range(len(hello)):
        assert name_in(hello[:end]) is None
    body = message(name_extension(b"localhost"), extension(7, b""))[4:]
    found = [server_name(body[:end]) for end in range(len(body) + 1)]
    assert set(found) == {None, "localhost"}
    assert found[-1] == "localhost"


def test_hellos_without_a_name() -> None:
    for hello in (
        b"",
        records(message()),
        records(message(extension(0, b""))),
        records(message(extension(0, vector(b"")))),
        records(message(extension(0, vector(b"\x01" + vector(b"x"))))),  # no host's name
        records(b"\x02" + message(name_extension(b"x"))[1:]),  # no hello
        records(message(name_extension(b"x")), kind=23),
        b"EHLO client.test\r\n" * 10,
        bytes(1000),
    ):
        assert name_in(hello) is None
        assert name_in(hello, hello) is None


def test_the_second_hello_says_it() -> None:
    """RFC 8446 §4.1.4: the server may ask for another hello; a dummy record may stand between."""
    first, second = (records(message(name_extension(name))) for name in (b"first", b"second"))
    spec = records(b"\x01", kind=20)
    assert name_in(first, second) == "second"
    assert name_in(first, spec, second) == "second"
    assert name_in(first, records(b"x", kind=23), second) == "first"


def test_what_is_heard_is_bounded() -> None:
    """A hello that says it is longer than any is not waited for."""
    hello = ClientHello()
    hello.receive_data(records(b"\x01\xff\xff\xff" + bytes(1000)))
    assert hello.done


@given(st.lists(st.binary()))
def test_any_octets_are_a_hello_of_no_harm(pieces: list[bytes]) -> None:
    for name in (
        name_in(*pieces),
        name_in(records(b"".join(pieces))),
        server_name(b"".join(pieces)),
    ):
        assert name is None or (name.isascii() and name.isprintable())


@given(st.binary(), st.binary(max_size=40), st.integers(0, 200), st.integers(1, 50))
def test_any_name_anywhere(before: bytes, name: bytes, place: int, size: int) -> None:
    whole = message(extension(99, before), name_extension(name))
    found = name_in(records(whole, size))
    assert found is not None
    assert found.isascii()
    assert found.isprintable()
    broken = bytearray(whole)
    broken[place % len(whole)] ^= 0xFF
    other = name_in(records(bytes(broken), size))
    assert other is None or other.isprintable()


def test_names_that_a_callback_can_be_told() -> None:
    good = ["", "localhost", "mx.example.com.", "_x.example", "192.0.2.1"]
    bad = ["a..b", ".", "a" * 64 + ".example", r"caf\xe9", r"a\r\nb"]
    assert [name for name in good + bad if is_host_name(name)] == good
