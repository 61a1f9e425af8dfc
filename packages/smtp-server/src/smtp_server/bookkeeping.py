"""Bookkeeping: session and envelope follow what the wire has said, and nothing else."""

from smtp_protocol import (
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
from smtp_protocol.options import RcptOptions

__all__: list[str] = []


def record(event: Event, reply: Reply, session: Session, envelope: Envelope) -> None:
    """Note down what ``reply`` to ``event`` has changed."""
    match event:
        case Mail(address, options) if reply.positive:
            if envelope.mail_from is None:
                envelope.mail_from = address  # for a hook that forgot to
            envelope.smtp_utf8 = options.smtputf8
        case Rcpt(_, options):
            _record_recipient(reply, options, envelope)
        case Ehlo() | Lhlo() if reply.positive:
            session.extended_smtp = True
        case Helo() if reply.positive:
            session.extended_smtp = False
        case Xclient() if reply.positive:
            _take_over(event, session)
        case Xforward(attributes) if reply.positive:
            session.forwarded = attributes


def _record_recipient(reply: Reply, options: RcptOptions, envelope: Envelope) -> None:
    known = len(envelope.recipients)
    if not reply.positive:
        del envelope.rcpt_tos[known:]
    for accepted in envelope.rcpt_tos[known:]:
        envelope.recipients.append(Recipient(accepted, options))


def _take_over(event: Xclient, session: Session) -> None:
    client = event.attributes
    if client.addr is not None:
        session.peer = (client.addr, client.port or 0)
    session.extended_smtp = False
    session.host_name = client.helo
    if client.login is not None:
        session.authenticated = True
        session.auth_data = client.login
    session.xclient = client


def forget_clear_text(session: Session) -> None:
    """Forget what the client said before TLS (RFC 3207 §4.2)."""
    session.host_name = None
    session.extended_smtp = False
    session.authenticated = False
    session.auth_data = None
