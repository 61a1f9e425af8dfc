"""Debugging: prints each message, with nothing in it that could act on a terminal."""

import logging
import os
import re
import sys
import unicodedata
from argparse import ArgumentParser
from typing import Self, TextIO

from smtp_handlers.log import log
from smtp_protocol import Answer, Envelope, Handler, Reply, Server, Session, replies

__all__ = ["Debugging"]

_FIRST = "---------- MESSAGE FOLLOWS ----------"
_LAST = "------------ END MESSAGE ------------"
_FIELD_NAME = re.compile(r"\A[!-9;-~]+:")
_FAILED = Reply.parse("451 4.3.0 Cannot print the message, try again later")

# Letters and marks that cannot be seen: fillers and variation selectors. (What else is ignorable by
# default, as Unicode calls it, is not printable for Python.)
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Debugging(Handler):
    """Prints each message: its options, its headers, where it came from, and its body.

    On a terminal the names of headers are in colour, unless the environment has ``NO_COLOR``. While
    nothing can be printed, because the stream is closed, the client gets ``451 4.3.0``; the log
    has that once.

    Args:
        stream: Where to; the standard output of the moment by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self._broken = False

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
        try:
            _print(session, envelope, sys.stdout if self.stream is None else self.stream)
        except (OSError, ValueError) as error:
            if not self._broken:
                log(logging.ERROR, session, "Cannot print messages: %r", str(error))
            self._broken = True
            return _FAILED
        self._broken = False
        return replies.OK


def _print(session: Session, envelope: Envelope, stream: TextIO | None) -> None:
    if stream is None:
        raise ValueError("there is no standard output")
    lines = _lines(session, envelope)
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        _colour_headers(lines)
    text = "\n".join([_FIRST, *_options(envelope), *lines, _LAST, ""])
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def _options(envelope: Envelope) -> list[str]:
    lines = []
    if envelope.mail_options:
        lines.append(_visible(f"mail options: {list(envelope.mail_options)}"))
    if envelope.rcpt_options:
        lines.append(_visible(f"rcpt options: {envelope.rcpt_options}"))
    return [*lines, ""] if lines else []


def _lines(session: Session, envelope: Envelope) -> list[str]:
    """The lines of the message, with the peer behind the last header."""
    # What came by BDAT may have lines that end with LF alone.
    text = envelope.content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    lines = _visible(text).split("\n")
    if lines[-1] == "":
        lines.pop()
    end_of_headers = lines.index("") if "" in lines else len(lines)
    lines.insert(end_of_headers, _visible(f"X-Peer: {session.peer!r}"))
    return lines


def _visible(text: str) -> str:
    """Escape what moves the cursor, changes the order of what is beside it, or cannot be seen."""
    # As often as there are different characters, not as often as there are characters.
    hidden = {each for each in set(text) if _is_hidden(each)} | set(_UNSEEN.findall(text))
    return text.translate({ord(each): _escape(each) for each in hidden})


def _is_hidden(character: str) -> bool:
    if character.isprintable() or character in "\t\n":
        return False
    return unicodedata.category(character) != "Zs"  # spaces are what they look like


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _colour_headers(lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if not line:
            break
        lines[number] = _FIELD_NAME.sub(lambda match: f"\x1b[36m{match[0]}\x1b[0m", line, count=1)
