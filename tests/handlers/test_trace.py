"""Trace: the fields say who sent what to whom, and nothing that a client could forge with."""

import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import SMTP as SMTP_POLICY
from email.policy import EmailPolicy, default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_handlers import Sink
from smtp_handlers.trace import (
    HeaderWatch,
    delivered_to,
    guard,
    received,
    return_path,
    speaks_lmtp,
)
from smtp_protocol import Envelope, Peer, Session, TLSInfo, canonical_mailbox, parse_forward_path
from smtp_server import LMTP, SMTP

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


def test_lmtp() -> None:
    assert speaks_lmtp(LMTP(Sink()))
    assert not speaks_lmtp(SERVER)
    assert " with LMTP id " in received(LMTP(Sink()), Session(), Envelope(), "X1").decode()


@pytest.mark.parametrize("letter", ["a", "=", "é", "😀"])
@pytest.mark.parametrize("utf8", [False, True])
def test_lines_are_short_whatever_a_peer_says(letter: str, utf8: bool) -> None:
    session = session_of(("2001:db8:1111:2222:3333:4444:5555:6666", 25), letter * 4000)
    server = SMTP(Sink(), hostname="m" * 1000)
    envelope = Envelope()
    envelope.smtp_utf8 = utf8
    envelope.mail_from = letter * 4000
    envelope.rcpt_tos = [f"{letter * 4000}@x.example"]
    octets = received(server, session, envelope, "i" * 1000) + return_path(envelope)
    octets += delivered_to(envelope.rcpt_tos)
    lines = octets.split(b"\r\n")
    assert max(map(len, lines)) < 998
    name = lines[0].removeprefix(b"Received: from ").partition(b" ")[0]
    assert 250 < len(name) <= 255
    assert octets.decode().count("\n") == 6


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("müller-pc", "m?ller-pc"), ("a b;c(d)\r\nX: y", "a?b?c?d???X:?y"), ("", "unknown")],
)
def test_our_own_name_is_cleaned_too(hostname: str, name: str) -> None:
    text = received(named(hostname), session_of(None), Envelope(), "X1\r\n").decode()
    assert f"\r\n\tby {name} with ESMTP id X1??;" in text


def named(hostname: str) -> SMTP:
    """A server with a name that ours would not have let through."""

    class Named(SMTP):
        @property
        def hostname(self) -> str:
            return hostname

    return Named(Sink())


@pytest.mark.parametrize(
    ("first", "between"),
    [
        (b" ", b"\r\n"),
        (b"\tby x", b"\r\n"),
        (b" \r\n", b"\r\n"),
        (b"", b""),
        (b"\r\n x", b""),
        (b"Subject: x", b""),
        (b"no field", b""),
        (b"From anne Mon Jan  1", b""),
        (b":", b""),
    ],
)
def test_guard(first: bytes, between: bytes) -> None:
    assert guard(first) == between


ENCODED_WORDS = ["=?utf-8?q?a=0AX=3A_y?=", "=?us-ascii?b?YUBi?=", "=?", "?=", "=?x?q?"]
LOCALS = st.lists(
    st.sampled_from([*ENCODED_WORDS, "a", ".", "b", "(", ")", ";", "<", ">", ",", " ", "é", "孫"]),
    min_size=1,
).map("".join)
ADDRESSES = st.builds("{}@{}".format, LOCALS, st.sampled_from(["x.example", "é.example"])) | (
    st.builds('"{}"@{}'.format, LOCALS, st.sampled_from(["x.example", "é.example"]))
)


def acceptable(address: str) -> bool:
    try:
        return parse_forward_path(f"<{address}>") == (address, "")
    except ValueError:
        return False


@given(ADDRESSES.filter(acceptable), st.sampled_from([default, SMTP_POLICY]))
def test_email_reads_the_address_that_was_sent(address: str, policy: EmailPolicy) -> None:
    envelope = Envelope()
    envelope.mail_from = address
    envelope.rcpt_tos = [address]
    fields = return_path(envelope) + delivered_to([address])
    fields += received(SERVER, Session(), envelope, "X1") + b"Subject: x\r\n\r\n"
    message = message_from_bytes(fields, policy=policy)
    assert message.keys() == ["Return-Path", "Delivered-To", "Received", "Subject"]
    path, to, trace = map(str, message.values()[:3])
    clause = trace.rpartition(";")[0].partition("\tfor ")[2]
    same = canonical_mailbox(address)
    assert canonical_mailbox(path.removeprefix("<").removesuffix(">")) == same
    assert canonical_mailbox(to) == same
    assert canonical_mailbox(clause.removeprefix("<").removesuffix(">")) == same
    # Who decodes encoded words wherever they stand finds none.
    if address.isascii():
        assert [str(make_header(decode_header(text))) for text in (path, to)] == [path, to]


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
