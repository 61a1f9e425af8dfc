"""Observers: who wants to know is told every reply and what it answers, without secrets."""

import logging
from dataclasses import replace

from smtp_protocol import Auth, AuthResponse, Event, Reply, Session, Unknown, replies
from smtp_server.log import command_answered, log

__all__ = ["Observer"]


class Observer:
    """Sees what is said in the sessions of a server, and changes nothing. Subclass it.

    Methods are called in the event loop and must not wait. What they raise is logged, and the
    session goes on. More of them may come: each does nothing until it is overridden.
    """

    def replied(self, session: Session, event: Event | None, reply: Reply) -> None:
        """See a reply, just before it is written.

        Args:
            session: Whose it is.
            event: What it answers, a command such as ``Mail`` for one; ``None`` when the server
                ends the session by itself. It has no credentials: ``Auth`` has its mechanism
                alone, ``AuthResponse`` no data, and ``Unknown`` of what is no command no text.
            reply: The reply.
        """


def tell(observer: Observer | None, session: Session, event: Event | None, reply: Reply) -> None:
    """Tell the log and the observer of a reply.

    Args:
        observer: What the user gave.
        session: Whose it is.
        event: What it answers.
        reply: The reply.
    """
    command_answered(session, event, reply)
    if observer is None:
        return
    try:
        observer.replied(session, _without_secrets(event, reply), reply)
    except Exception as error:
        log(logging.ERROR, session, "%s failed", type(observer).__name__, error=error)


def _without_secrets(event: Event | None, reply: Reply) -> Event | None:
    match event:
        case Auth():
            return replace(event, initial_response=None, args=())
        case AuthResponse():
            return AuthResponse(b"")
        case Unknown() if reply is replies.UNKNOWN_COMMAND:
            return Unknown("", None)  # it may be a password, of a client that has not waited
        case _:
            return event
