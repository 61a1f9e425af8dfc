"""Debugging: prints each message, with nothing in it that could act on a terminal."""

import os
import re
import sys
from argparse import ArgumentParser
from typing import Self, TextIO

from smtp_protocol import Answer, Envelope, Handler, Server, Session, replies

__all__ = ["Debugging"]

_FIRST = "---------- MESSAGE FOLLOWS ----------"
_LAST = "------------ END MESSAGE ------------"
_FIELD_NAME = re.compile(r"\A[!-9;-~]+:")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Debugging(Handler):
    """Prints each message: its options, its headers, where it came from, and its body.

    On a terminal the names of headers are in colour, unless the environment has ``NO_COLOR``.

    Args:
        stream: Where to; the standard output of the moment by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one for the command line: ``stdout`` (the default) or ``stderr``."""
        match args:
            case () | ("stdout",):
                return cls()
            case ("stderr",):
                return cls(sys.stderr)
            case _:
                parser.error("the handler debugging takes one argument: stdout or stderr")

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Print the message."""
        stream = self.stream or sys.stdout
        lines = _lines(session, envelope)
        if stream.isatty() and not os.environ.get("NO_COLOR"):
            _colour_headers(lines)
        text = "\n".join([_FIRST, *_options(envelope), *lines, _LAST, ""])
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
        return replies.OK


def _options(envelope: Envelope) -> list[str]:
    lines = []
    if envelope.mail_options:
        lines.append(f"mail options: {list(envelope.mail_options)}")
    if envelope.rcpt_options:
        lines.append(f"rcpt options: {envelope.rcpt_options}")
    return [*lines, ""] if lines else []


def _lines(session: Session, envelope: Envelope) -> list[str]:
    """The lines of the message, with the peer behind the last header."""
    lines = [
        _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line)
        for line in envelope.content.decode("utf-8", "backslashreplace").split("\r\n")
    ]
    if lines[-1] == "":
        lines.pop()
    end_of_headers = lines.index("") if "" in lines else len(lines)
    lines.insert(end_of_headers, f"X-Peer: {session.peer!r}")
    return lines


def _colour_headers(lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if not line:
            break
        lines[number] = _FIELD_NAME.sub(lambda match: f"\x1b[36m{match[0]}\x1b[0m", line, count=1)
