"""Bookkeeping: session and envelope follow what the wire has said, and nothing else."""

from collections.abc import Callable, Mapping

from smtp_protocol import (
    Auth,
    AuthResponse,
    Ehlo,
    Envelope,
    Event,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Recipient,
    Reply,
    Session,
    Xclient,
    Xforward,
)

__all__: list[str] = []


def record(event: Event, reply: Reply, session: Session, envelope: Envelope) -> None:
    """Note down what ``reply`` to ``event`` has changed."""
    note = _NOTES.get(type(event))
    if note is not None and (reply.code < 400 or note is _rcpt):
        note(event, reply, session, envelope)


def _mail(event: Mail, reply: Reply, session: Session, envelope: Envelope) -> None:
    if envelope.mail_from is None:
        envelope.mail_from = event.address  # for a hook that forgot to
    envelope.smtp_utf8 = event.options.smtputf8


def _rcpt(event: Rcpt, reply: Reply, session: Session, envelope: Envelope) -> None:
    known = len(envelope.recipients)
    if reply.code >= 400:
        del envelope.rcpt_tos[known:]
        return
    for accepted in envelope.rcpt_tos[known:]:
        envelope.recipients.append(Recipient(accepted, event.options))


def _ehlo(event: Ehlo | Lhlo, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.extended_smtp = True


def _helo(event: Helo, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.extended_smtp = False


def _xforward(event: Xforward, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.forwarded = event.attributes


def _xclient(event: Xclient, reply: Reply, session: Session, envelope: Envelope) -> None:
    client = event.attributes
    if client.addr is not None:
        session.peer = (client.addr, client.port or 0)
    session.extended_smtp = False
    session.host_name = client.helo
    session.authenticated = client.login is not None
    session.auth_data = client.login
    session.xclient = client


def _auth(event: Auth | AuthResponse, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.authenticated = reply.code // 100 == 2


# The events whose answer changes something.
_NOTES: Mapping[type[Event], Callable[..., None]] = {
    Mail: _mail,
    Rcpt: _rcpt,
    Ehlo: _ehlo,
    Lhlo: _ehlo,
    Helo: _helo,
    Auth: _auth,
    AuthResponse: _auth,
    Xclient: _xclient,
    Xforward: _xforward,
}


def forget_clear_text(session: Session) -> None:
    """Forget what the client said before TLS (RFC 3207 §4.2)."""
    session.host_name = None
    session.extended_smtp = False
    session.authenticated = False
    session.auth_data = None
