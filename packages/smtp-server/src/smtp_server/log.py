"""Log: one line for each thing that happens, at its level, with the session's number.

ERROR is a failure of the program's own. Nothing that a client does is above INFO, where refusals
are; DEBUG has who comes, brings a message, and goes, and `smtp_server.commands` every command.
"""

import logging
from collections.abc import Sequence

from smtp_protocol import Envelope, Event, Reply, Session, replies
from smtp_protocol.records import write_record

__all__: list[str] = []

logger = logging.getLogger("smtp_server")
commands_logger = logger.getChild("commands")

# Recipients that are named in the line of a message.
_MOST_NAMED = 5


def log(
    level: int, session: Session, message: str, *args: object, error: BaseException | None = None
) -> None:
    """Write one record; the arguments are those of `smtp_protocol.records.write_record`."""
    write_record(logger, level, session, message, *args, error=error)


def message_came(
    session: Session, envelope: Envelope, octets: int, answers: Sequence[Reply]
) -> None:
    """Tell of a message: who sent it to whom, its size, and what was answered."""
    recipients = envelope.rcpt_tos
    named = ", ".join(map(repr, recipients[:_MOST_NAMED]))
    if len(recipients) > _MOST_NAMED:
        named += f" and {len(recipients) - _MOST_NAMED} more"
    log(
        logging.DEBUG,
        session,
        "Message from %r to %s, %d octets: %s",
        envelope.mail_from or "",
        named or "nobody",
        octets,
        ", ".join(repr(str(answer)) for answer in dict.fromkeys(answers)),
    )


def refused(session: Session, event: Event | None, reply: Reply) -> None:
    """Tell what a client was refused."""
    what = "The session" if event is None else name_of(event)
    log(logging.INFO, session, "%s refused: %s", what, reply)


def command_answered(session: Session, event: Event | None, reply: Reply) -> None:
    """Tell of one command and its reply."""
    if not commands_logger.isEnabledFor(logging.DEBUG):
        return  # before anything is made of it
    # A client that does not wait may send its password where it is no known command.
    what = "Unknown()" if reply is replies.UNKNOWN_COMMAND else repr(event)
    write_record(commands_logger, logging.DEBUG, session, "%s: %s", what, reply)


def name_of(event: Event) -> str:
    """What people call an event."""
    kind = type(event).__name__
    return _NAMES.get(kind, kind.upper())


_NAMES = {
    "Connected": "The connection",
    "Refused": "What the client sent",
    "AuthResponse": "AUTH",
    "Unknown": "A command",
}
