"""Trace: the fields say who sent what to whom, and nothing that a client could forge with."""

import re

import pytest

from smtp_handlers import Sink
from smtp_handlers.trace import HeaderWatch, delivered_to, received, return_path
from smtp_protocol import Envelope, Peer, Session, TLSInfo
from smtp_server import SMTP

SERVER = SMTP(Sink(), hostname="mx.example")


def field(session: Session, envelope: Envelope | None = None) -> str:
    """The field without its foldings, its identifier and its date."""
    text = received(SERVER, session, envelope or Envelope(), "X1").decode()
    assert all(len(line) < 999 for line in text.split("\r\n"))
    assert re.search(r"\n(?![\t]|\Z)", text) is None
    return text.replace("\r\n\t", " ").rpartition(";")[0].removeprefix("Received: ")


def session_of(peer: Peer, name: str | None = "c.example", *, extended: bool = True) -> Session:
    session = Session(peer)
    session.host_name = name
    session.extended_smtp = extended
    return session


@pytest.mark.parametrize(
    ("peer", "name", "origin"),
    [
        (("192.0.2.1", 25), "c.example", "c.example ([192.0.2.1])"),
        (("2001:db8::1", 25), "c.example", "c.example ([IPv6:2001:db8::1])"),
        (("fe80::1%eth0", 25), "c.example", "c.example ([IPv6:fe80::1])"),
        (("::ffff:192.0.2.1", 25), "c.example", "c.example ([192.0.2.1])"),
        (("192.0.2.1", 25), "[192.0.2.1]", "[192.0.2.1] ([192.0.2.1])"),
        (("192.0.2.1", 25), None, "[192.0.2.1]"),
        (("not-an-address", 25), "c.example", "c.example"),
        ("/run/socket", "c.example", "c.example"),
        (None, None, "unknown"),
        (("192.0.2.1", 25), "a (b) by\tc; d", "a??b??by?c??d ([192.0.2.1])"),
        (("192.0.2.1", 25), "a\r\nX: y", "a??X:?y ([192.0.2.1])"),
        (("192.0.2.1", 25), "é.example", "?.example ([192.0.2.1])"),
    ],
)
def test_origin(peer: Peer, name: str | None, origin: str) -> None:
    assert field(session_of(peer, name)) == f"from {origin} by mx.example with ESMTP id X1"


@pytest.mark.parametrize(
    ("extended", "tls", "authenticated", "utf8", "protocol"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_protocol(
    extended: bool, tls: bool, authenticated: bool, utf8: bool, protocol: str
) -> None:
    session = session_of(None, extended=extended)
    session.tls = TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384") if tls else None
    session.authenticated = authenticated
    envelope = Envelope()
    envelope.smtp_utf8 = utf8
    assert f" with {protocol} id " in field(session, envelope)


def test_name_in_utf8() -> None:
    envelope = Envelope()
    envelope.smtp_utf8 = True
    assert field(session_of(None, "é.example"), envelope).startswith("from é.example by ")


@pytest.mark.parametrize(
    ("recipients", "clause"), [([], ""), (["a@b"], " for <a@b>"), (["a@b", "c@d"], "")]
)
def test_recipient(recipients: list[str], clause: str) -> None:
    envelope = Envelope()
    envelope.rcpt_tos = recipients
    assert field(session_of(None), envelope).endswith(f" id X1{clause}")


def test_other_fields() -> None:
    envelope = Envelope()
    assert return_path(envelope) == b"Return-Path: <>\r\n"
    envelope.mail_from = "é\r\nX: y@b"
    assert return_path(envelope) == "Return-Path: <é??X: y@b>\r\n".encode()
    assert delivered_to([]) == b""
    assert delivered_to(["a@b", "c@d\n"]) == b"Delivered-To: a@b\r\nDelivered-To: c@d?\r\n"


MESSAGES = [
    (b"", 0, True, True),
    (b"Received: x\r\n", 1, True, True),
    (b"Received: x\r\nRECEIVED : y\r\n\tReceived: folded\r\n\r\nReceived: body\r\n", 2, True, True),
    (b"Received: x\nreceived:y\n\nReceived: body\n", 2, True, True),
    (b"X-Received: x\r\nReceivedX: y\r\nA: b\r\n\r\n", 0, True, True),
    (b"\r\nReceived: body\r\n", 0, True, True),
    (b"A: " + b"x" * 300 + b"\r\nReceived: y\r\n\r\n", 1, True, True),
    (b"A: b\r\n\r\n\xe9\r\n", 0, True, False),
    (b"A: \xe9\r\n\r\nb\r\n", 0, False, False),
    (b"A: b\r\n\xe9", 0, False, False),
]


@pytest.mark.parametrize(("message", "fields", "ascii_header", "all_ascii"), MESSAGES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000])
def test_header_watch(
    message: bytes, fields: int, ascii_header: bool, all_ascii: bool, size: int
) -> None:
    watch = HeaderWatch()
    for start in range(0, len(message), size):
        watch.feed(message[start : start + size])
    assert (watch.received, watch.ascii_header, watch.ascii) == (fields, ascii_header, all_ascii)
