"""Session and envelope: what is in them before anything has happened."""

import pytest

from smtp_protocol import Envelope, MailOptions, Peer, RcptOptions, Recipient, Session, TLSInfo


def test_session() -> None:
    session = Session(("192.0.2.1", 25))
    assert session.peer == ("192.0.2.1", 25)
    assert (session.host_name, session.extended_smtp) == (None, False)
    assert (session.tls, session.ssl, session.proxy_data, session.loop) == (None,) * 4
    assert (session.authenticated, session.auth_data) == (False, None)


def test_identifiers_are_short_and_unique() -> None:
    identifiers = {Session().id for _ in range(100)}
    assert len(identifiers) == 100
    assert all(len(identifier) == 6 for identifier in identifiers)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        (("192.0.2.1", 25), "192.0.2.1"),
        (("2001:db8::1", 25), "2001:db8::1"),
        ("/run/client", "/run/client"),
        ("", "local"),
        (None, "local"),
    ],
)
def test_peer_host(peer: Peer, host: str) -> None:
    assert Session(peer).peer_host == host


def test_envelope() -> None:
    envelope = Envelope()
    assert (envelope.mail_from, envelope.smtp_utf8, envelope.text) == (None, False, None)
    assert type(envelope.mail_options) is MailOptions
    assert (envelope.rcpt_tos, envelope.rcpt_options, envelope.recipients) == ([], [], [])
    assert envelope.content.decode() == ""
    envelope.content = b"x"
    assert envelope.original_content == b"x"


def test_envelopes_share_nothing() -> None:
    first, second = Envelope(), Envelope()
    first.rcpt_tos.append("a@b")
    first.rcpt_options.append("X")
    first.mail_options.append("X")
    first.recipients.append(Recipient("a@b", RcptOptions()))
    assert (second.rcpt_tos, second.rcpt_options) == ([], [])
    assert (second.mail_options, second.recipients) == ([], [])


def test_attributes_of_the_handler() -> None:
    for thing in (Session(), Envelope()):
        setattr(thing, "my_own", 1)  # noqa: B010
        assert vars(thing)["my_own"] == 1


def test_certificates_are_not_shown() -> None:
    info = TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256", b"DER", "mx.example")
    assert "DER" not in repr(info)
    assert (info.peer_certificate, info.sni) == (b"DER", "mx.example")
