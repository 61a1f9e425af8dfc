"""Log: no record of a handler is without its session and its peer."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.handlers.clients import connected, running

import smtp_handlers
from smtp_handlers import Proxy
from smtp_handlers.log import log
from smtp_protocol import Reply, Session

SOURCES = sorted(Path(smtp_handlers.__file__).parent.rglob("*.py"))
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR"}


def other_uses_of_logging(source: str) -> Iterator[int]:
    """The lines that use more of `logging` than its levels, or that print."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="logging" | "warnings" | "traceback"):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="logging"), attr=name) if name not in LEVELS:
                yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_log_writes_records(path: Path) -> None:
    assert path.name == "log.py" or list(other_uses_of_logging(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import logging\nlogging.getLogger('x')",
        "import logging\nlogging.warning('x')",
        "from logging import getLogger",
    ],
)
def test_other_uses_are_seen(source: str) -> None:
    assert list(other_uses_of_logging(source)) != []


def test_a_record(caplog: pytest.LogCaptureFixture) -> None:
    session = Session(("192.0.2.1", 25))
    log(logging.WARNING, session, "%r and %s", "a\r\nb", Reply.parse("250 x\x07"))
    [record] = caplog.records
    assert record.name == "smtp_handlers"
    assert record.getMessage() == f"[{session.id}] 'a\\r\\nb' and '250 x\\x07'"
    assert vars(record)["session"] == session.id
    assert vars(record)["peer"] == "192.0.2.1"


async def test_the_documented_format_has_all_records(caplog: pytest.LogCaptureFixture) -> None:
    # Nobody listens at port 1.
    async with running(Proxy("127.0.0.1", 1)) as port, connected(port) as client:
        assert (await client("MAIL FROM:<a@x.example>")).code == 451
    [record] = [record for record in caplog.records if record.name == "smtp_handlers"]
    assert record.levelno == logging.WARNING
    line = logging.Formatter("%(levelname)s %(session)s %(peer)s %(message)s").format(record)
    assert line.startswith("WARNING 0")
    assert " 127.0.0.1 [0" in line
