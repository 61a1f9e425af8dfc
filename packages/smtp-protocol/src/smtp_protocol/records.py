"""Records: what a log is told carries the session's id and its peer, and replies are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtp_protocol.replies import Reply
from smtp_protocol.session import Session

if TYPE_CHECKING:
    import logging

__all__: list[str] = []


def write_record(
    logger: logging.Logger,
    level: int,
    session: Session,
    message: str,
    *args: object,
    error: BaseException | None = None,
) -> None:
    """Write one record.

    Args:
        logger: Where to.
        level: A level of `logging`.
        session: Whose id and peer the record carries, in its text and as ``session`` and
            ``peer``.
        message: The text, with a place for each of ``args``. What a peer sent goes in with
            ``%r`` alone, which escapes it; a reply may repeat what a peer sent, and is escaped
            however it goes in.
        error: An exception whose traceback is shown.
    """
    if logger.isEnabledFor(level):
        logger.log(
            level,
            "[%s] " + message,
            session.id,
            *(repr(str(arg)) if isinstance(arg, Reply) else arg for arg in args),
            exc_info=error,
            extra={"session": session.id, "peer": session.peer_host},
        )
