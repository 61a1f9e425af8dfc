"""Records: session and peer in each, a reply escaped, and nothing written that nobody wants."""

import logging

import pytest

from smtp_protocol import Reply, Session
from smtp_protocol.records import write_record

LOGGER = logging.getLogger("tests.records")


def test_a_record(caplog: pytest.LogCaptureFixture) -> None:
    session, error = Session(("192.0.2.1", 1)), ValueError("no")
    caplog.set_level(logging.INFO, LOGGER.name)
    reply = Reply(550, ("\x1b[2J",))
    write_record(LOGGER, logging.INFO, session, "%s said %r", reply, "a\nb", error=error)
    [record] = caplog.records
    assert record.getMessage() == f"[{session.id}] {str(reply)!r} said 'a\\nb'"
    assert vars(record)["session"] == session.id
    assert vars(record)["peer"] == "192.0.2.1"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    write_record(LOGGER, logging.DEBUG, Session(), "unseen")
    assert caplog.records == []
