"""Log: records that carry the session's id and its peer, as those of a server do."""

import logging

from smtp_protocol import Session
from smtp_protocol.records import write_record

__all__: list[str] = []

logger = logging.getLogger("smtp_handlers")


def log(
    level: int, session: Session, message: str, *args: object, error: BaseException | None = None
) -> None:
    """Write one record; the arguments are those of `smtp_protocol.records.write_record`."""
    write_record(logger, level, session, message, *args, error=error)
