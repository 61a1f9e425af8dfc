"""Bookkeeping: session and envelope follow what the client was answered, and nothing else."""

from collections.abc import Callable, Mapping

from smtp_protocol import commands
from smtp_protocol.events import AuthResponse, Event
from smtp_protocol.options import RcptOptions
from smtp_protocol.replies import Reply
from smtp_protocol.session import Envelope, Session

__all__ = ["forget_clear_text", "record"]


def record(event: Event, reply: Reply, session: Session, envelope: Envelope) -> None:
    """Note down what ``reply`` to ``event`` has changed.

    Args:
        event: What the client asked.
        reply: What it was answered.
        session: Its session.
        envelope: Its transaction.
    """
    note = _NOTES.get(type(event))
    if note is not None and (reply.code < 400 or note in _EVEN_REFUSED):
        note(event, reply, session, envelope)


def _mail(event: commands.Mail, reply: Reply, session: Session, envelope: Envelope) -> None:
    if envelope.mail_from is None:  # for a hook that forgot to
        envelope.mail_from = event.address
    if event.options and not envelope.mail_options:
        envelope.mail_options.extend(event.options)
    envelope.smtp_utf8 = event.options.smtputf8


def _rcpt(event: commands.Rcpt, reply: Reply, session: Session, envelope: Envelope) -> None:
    if reply.code < 400:
        envelope.accept(event.address, event.options)
    else:
        envelope.refuse()


def _ehlo(
    event: commands.Ehlo | commands.Lhlo, reply: Reply, session: Session, envelope: Envelope
) -> None:
    session.introduce(event.hostname)
    session.extended_smtp = True


def _helo(event: commands.Helo, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.introduce(event.hostname)
    session.extended_smtp = False


def _xforward(event: commands.Xforward, reply: Reply, session: Session, envelope: Envelope) -> None:
    session.forwarded = event.attributes


def _xclient(event: commands.Xclient, reply: Reply, session: Session, envelope: Envelope) -> None:
    client = event.attributes
    if client.addr is not None:
        session.peer = (client.addr, client.port or 0)
    session.extended_smtp = False
    session.host_name = client.helo
    session.authenticated = client.login is not None
    session.auth_data = client.login
    session.xclient = client


def _auth(
    event: commands.Auth | AuthResponse, reply: Reply, session: Session, envelope: Envelope
) -> None:
    session.authenticated = reply.code // 100 == 2


def _unknown(event: commands.Unknown, reply: Reply, session: Session, envelope: Envelope) -> None:
    """A verb that the server's author took over does what the built-in one would have done."""
    match event.verb:
        case "EHLO" | "LHLO" | "HELO" if reply.code < 400:
            session.introduce(event.arg or "")
            session.extended_smtp = event.verb != "HELO"
        case "RCPT" if reply.code < 400:
            envelope.accept("", RcptOptions())
        case "RCPT":
            envelope.refuse()


_EVEN_REFUSED = frozenset({_rcpt, _unknown})

# The events whose answer changes something.
_NOTES: Mapping[type[Event], Callable[..., None]] = {
    commands.Mail: _mail,
    commands.Rcpt: _rcpt,
    commands.Ehlo: _ehlo,
    commands.Lhlo: _ehlo,
    commands.Helo: _helo,
    commands.Auth: _auth,
    AuthResponse: _auth,
    commands.Xclient: _xclient,
    commands.Xforward: _xforward,
    commands.Unknown: _unknown,
}


def forget_clear_text(session: Session) -> None:
    """Forget what the client said before TLS (RFC 3207 §4.2)."""
    session.host_name = None
    session.extended_smtp = False
    session.authenticated = False
    session.auth_data = None
