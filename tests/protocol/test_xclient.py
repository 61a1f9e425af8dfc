"""XCLIENT and XFORWARD: who they may come from, what they may say, and where they lead."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import (
    ClientAttributes,
    Connected,
    Mail,
    ProtocolError,
    Refused,
    Reply,
    ServerConnection,
    State,
    Xclient,
    Xforward,
    parse_command,
    replies,
)
from smtp_protocol.encodings import encode_xtext
from smtp_protocol.xclient import XCLIENT_NAMES, XFORWARD_NAMES, parse_attributes


@pytest.mark.parametrize(
    ("line", "attributes"),
    [
        ("NAME=c.example ADDR=192.0.2.1", {"name": "c.example", "addr": "192.0.2.1"}),
        ("name=c.example addr=192.0.2.1", {"name": "c.example", "addr": "192.0.2.1"}),
        ("ADDR=IPV6:2001:db8::1", {"addr": "2001:db8::1"}),
        ("ADDR=ipv6:2001:0DB8:0::1", {"addr": "2001:db8::1"}),
        ("ADDR=2001:db8::1", {"addr": "2001:db8::1"}),
        ("PORT=0", {"port": 0}),
        ("PORT=65535 PROTO=ESMTP", {"port": 65535, "proto": "ESMTP"}),
        ("HELO=c+20d", {"helo": "c d"}),
        ("LOGIN=tim DESTADDR=192.0.2.2 DESTPORT=25", None),
        ("NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[unavailable]", {}),
        ("NAME=[TEMPUNAVAIL]", {}),
        ("NAME=a NAME=b", {"name": "b"}),
    ],
)
def test_xclient(line: str, attributes: dict[str, Any] | None) -> None:
    if attributes is None:
        attributes = {"login": "tim", "destaddr": "192.0.2.2", "destport": 25}
    command = parse_command(f"XCLIENT {line}".encode())
    assert command == Xclient(ClientAttributes(**attributes))


def test_xforward() -> None:
    command = parse_command(b"xforward NAME=c IDENT=4F7C SOURCE=REMOTE PROTO=SMTP")
    assert command == Xforward(
        ClientAttributes(name="c", ident="4F7C", source="REMOTE", proto="SMTP")
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "NAME",
        "NAME=",
        "FOO=x",
        "NAME=a FOO=x",
        "NAME=a+",
        "NAME=a+0Ab",
        "NAME=+FF",
        f"NAME={'x' * 256}",
        "ADDR=300.0.0.1",
        "ADDR=IPV6:192.0.2.x",
        "ADDR=c.example",
        "PORT=65536",
        "PORT=-1",
        "PORT=x",
        "PORT=+31+32x",
        "PORT=+D9+A3",  # a digit, but not of ASCII
        "PORT=²",
        "PROTO=HTTP",
        "PROTO=E\u017fMTP",
        "ADDR=fe80::1%eth0",
        "ADDR=IPV6:fe80::1%a+20b",
        "ADDR=+EF+BC+911.2.3.4",
        "PORT=1_0",
        "PORT=+2B1",
        "NAME=a+00",
        "NAME=a+C2+85",
        "HELO=a+0D+0Ab",
        "HELO=a+E2+80+A8",
        "NAME=a\u00a0ADDR=1.2.3.4",
        "NAME=a\tHELO=b",
        "SOURCE=ELSEWHERE",
    ],
)
@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_malformed(verb: str, line: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_command(f"{verb} {line}".encode())
    assert caught.value.reply.code == 501
    assert f"Syntax: {verb} attribute=value" in caught.value.reply.text


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        *(("XFORWARD", f"{name}=1") for name in ("LOGIN", "DESTADDR", "DESTPORT")),
        *(("XCLIENT", f"{name}=1") for name in ("IDENT", "SOURCE")),
    ],
)
def test_each_has_its_own_names(verb: str, line: str) -> None:
    with pytest.raises(ProtocolError):
        parse_command(f"{verb} {line}".encode())


NAMES = st.text(min_size=1, max_size=40).filter(str.isprintable)


@given(name=NAMES, helo=NAMES, port=st.integers(0, 65535), addr=st.ip_addresses())
def test_reads_what_was_written(name: str, helo: str, port: int, addr: object) -> None:
    text = f"NAME={encode_xtext(name)} HELO={encode_xtext(helo)} PORT={port} ADDR={addr}"
    for names in (XCLIENT_NAMES, XFORWARD_NAMES):
        assert parse_attributes(text, names) == ClientAttributes(
            name=name if name.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else None,
            helo=helo if helo.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else None,
            port=port,
            addr=str(addr),
        )


@given(st.text(), st.sampled_from([XCLIENT_NAMES, XFORWARD_NAMES]))
def test_any_text_is_taken_or_refused(text: str, names: tuple[str, ...]) -> None:
    with suppress(ValueError):
        parse_attributes(text, names)


def session(*, trusted: bool) -> ServerConnection:
    connection = ServerConnection(trusted=trusted)
    assert connection.next_event() == Connected()
    connection.send(Reply(220, ("mx",)))
    connection.receive_data(b"EHLO c\r\n")
    connection.next_event()
    connection.send(replies.OK)
    return connection


@pytest.mark.parametrize("line", [b"XCLIENT NAME=a", b"XFORWARD NAME=a"])
def test_only_from_trusted_peers(line: bytes) -> None:
    connection = session(trusted=False)
    connection.receive_data(line + b"\r\n")
    assert connection.next_event() == Refused(replies.NOT_TRUSTED)


def test_after_xclient_the_session_begins_anew() -> None:
    connection = session(trusted=True)
    connection.receive_data(b"XCLIENT NAME=a\r\nMAIL FROM:<a@b>\r\nEHLO a\r\n")
    assert connection.next_event() == Xclient(ClientAttributes(name="a"))
    assert connection.send(Reply(220, ("mx",))) == b"220 mx\r\n"
    assert (connection.state, connection.extended) == (State.GREETED, False)
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)


def test_a_refused_xclient_changes_nothing() -> None:
    connection = session(trusted=True)
    connection.receive_data(b"XCLIENT NAME=a\r\n")
    connection.next_event()
    connection.send(Reply(550, ("no",)))
    assert (connection.state, connection.extended) == (State.READY, True)


def test_xforward_changes_nothing() -> None:
    connection = session(trusted=True)
    connection.receive_data(b"XFORWARD NAME=a\r\nMAIL FROM:<a@b>\r\nXFORWARD NAME=b\r\n")
    assert connection.next_event() == Xforward(ClientAttributes(name="a"))
    connection.send(replies.OK)
    assert (connection.state, connection.extended) == (State.READY, True)
    assert isinstance(connection.next_event(), Mail)
    connection.send(replies.OK)
    assert connection.next_event() == Refused(replies.BAD_SEQUENCE)
