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
    note = (_NOTES if reply.code < 300 else _NOTES_OF_REFUSED).get(type(event))
    if note is not None:
        note(event, session, envelope)


def _mail(event: commands.Mail, session: Session, envelope: Envelope) -> None:
    if envelope.mail_from is None:  # for a hook that forgot to
        envelope.mail_from = event.address
    if event.options and not envelope.mail_options:
        envelope.mail_options.extend(event.options)
    envelope.smtp_utf8 = event.options.smtputf8


def _rcpt(event: commands.Rcpt, session: Session, envelope: Envelope) -> None:
    envelope.accept(event.address, event.options)


def _rcpt_refused(event: commands.Rcpt, session: Session, envelope: Envelope) -> None:
    envelope.refuse()


def _ehlo(event: commands.Ehlo | commands.Lhlo, session: Session, envelope: Envelope) -> None:
    session.introduce(event.hostname)
    session.extended_smtp = True


def _helo(event: commands.Helo, session: Session, envelope: Envelope) -> None:
    session.introduce(event.hostname)
    session.extended_smtp = False


def _xforward(event: commands.Xforward, session: Session, envelope: Envelope) -> None:
    session.forwarded = event.attributes


def _xclient(event: commands.Xclient, session: Session, envelope: Envelope) -> None:
    client = event.attributes
    if client.addr is not None:
        session.peer = (client.addr, client.port or 0)
    session.extended_smtp = False
    session.rename(client.helo)
    session.authenticated = client.login is not None
    session.auth_data = client.login
    session.xclient = client


def _auth(event: commands.Auth | AuthResponse, session: Session, envelope: Envelope) -> None:
    session.authenticated = True


# A verb that the server's author took over does what the built-in one would have done.


def _unknown(event: commands.Unknown, session: Session, envelope: Envelope) -> None:
    match event.verb:
        case "EHLO" | "LHLO" | "HELO":
            session.introduce(event.arg or "")
            session.extended_smtp = event.verb != "HELO"
        case "RCPT":
            envelope.accept("", RcptOptions())


def _unknown_refused(event: commands.Unknown, session: Session, envelope: Envelope) -> None:
    if event.verb == "RCPT":
        envelope.refuse()


_Note = Callable[..., None]

# The events whose acceptance changes something.
_NOTES: Mapping[type[Event], _Note] = {
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

# Those whose refusal does.
_NOTES_OF_REFUSED: Mapping[type[Event], _Note] = {
    commands.Rcpt: _rcpt_refused,
    commands.Unknown: _unknown_refused,
}


def forget_clear_text(session: Session) -> None:
    """Forget what the client said before TLS (RFC 3207 §4.2)."""
    session.rename(None)
    session.extended_smtp = False
    session.authenticated = False
    session.auth_data = None
