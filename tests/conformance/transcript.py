"""Transcripts: dialogues between client and server as text files, read into steps.

A file has one dialogue, line by line:

    # a comment
    @config bare_newline=reject    a setting, by the name of the server's keyword
    @no-pipeline the reason        sending everything at once would mean something else
    @no-octets the reason          sending octet by octet would
    =start T                       the usual beginning: greeting, EHLO, MAIL, T (RCPT too) and TD
                                   (354); the same of LMTP is LHLO, LMAIL, LT, LTD
    C: NOOP                        the client sends a line (CR LF is added)
    C!: body\\n.\\r\\n             the client sends octets, with the escapes of Python
    C*: 5555 a                     the same, so many times
    S: 250 2.0.0 OK                the server sends exactly this line
    S~ 250 2.*                     a line that matches the regular expression
    S*: 250 2.1.0                  one reply, of any number of lines, that begins like this
    B: text\\r\\n                  the content of the message that was delivered, with escapes;
    B*: 5555 a                     consecutive B lines are one message
    =tls                           the TLS handshake is done; what was sent before it is lost
    =tls refused                   it is done, and not to the server's liking
    =eof                           the client closes its side
    =close                         the server closes, at the end

Every delivered message has its B. What a file does not say does not happen: there are no other
replies, no other messages, and the server does not close before the client.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

__all__ = [
    "Close",
    "Delivered",
    "Eof",
    "Expect",
    "Handshake",
    "Say",
    "Step",
    "Transcript",
    "parse",
    "read",
]

# The usual beginnings, after the notation of the tables that the transcripts come from.
_BEGINNINGS = {
    "greeting": ["S~ 220 .*"],
    "EHLO": ["=start greeting", "C: EHLO c", "S*: 250"],
    "MAIL": ["=start EHLO", "C: MAIL FROM:<a@b.example>", "S*: 250"],
    "T": ["=start MAIL", "C: RCPT TO:<d@e.example>", "S*: 250"],
    "TD": ["=start T", "C: DATA", "S*: 354"],
    "LHLO": ["=start greeting", "C: LHLO c", "S*: 250"],
    "LMAIL": ["=start LHLO", "C: MAIL FROM:<a@b.example>", "S*: 250"],
    "LT": ["=start LMAIL", "C: RCPT TO:<d@e.example>", "S*: 250"],
    "LTD": ["=start LT", "C: DATA", "S*: 354"],
}


@dataclass(frozen=True)
class Say:
    """The client sends octets."""

    octets: bytes


@dataclass(frozen=True)
class Expect:
    """The server sends a line that matches ``pattern``; or more, up to the last of a reply."""

    pattern: str
    whole_reply: bool = False


@dataclass(frozen=True)
class Delivered:
    """The next message that was delivered."""

    content: bytes


@dataclass(frozen=True)
class Handshake:
    """TLS begins. With ``refused`` the server does not take it."""

    refused: bool = False


@dataclass(frozen=True)
class Eof:
    """The client closes its side."""


@dataclass(frozen=True)
class Close:
    """The server closes the connection."""


Step = Say | Expect | Delivered | Handshake | Eof | Close


def _number(text: str) -> int | None:
    return None if text == "none" else int(text)


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


def _text(text: str) -> str:
    return text


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


# The settings of the protocol, which the engine has too; those of the server alone; and those for
# which a server would need TLS, which is tested elsewhere.
PROTOCOL_SETTINGS: Mapping[str, Callable[[str], object]] = {
    "hostname": _text,
    "ident": _text,
    "extensions": _names,
    "data_size_limit": _number,
    "address_syntax": _text,
    "bare_newline": _text,
    "line_length_limit": _number,
    "lmtp": _truth,
    "auth_mechanisms": _list,
    "auth_require_tls": _truth,
    "auth_required": _truth,
    "trusted": _truth,
    "max_recipients": _number,
    "max_messages": _number,
    "max_recipient_domains": _number,
}
SERVER_SETTINGS: Mapping[str, Callable[[str], object]] = {
    "decode_data": _truth,
    "max_errors": _number,
    "max_auth_failures": _number,
}
TLS_SETTINGS: Mapping[str, Callable[[str], object]] = {
    "tls": _truth,
    "starttls": _truth,
    "require_starttls": _truth,
}
_SETTINGS = {**PROTOCOL_SETTINGS, **SERVER_SETTINGS, **TLS_SETTINGS}


@dataclass(frozen=True)
class Transcript:
    """One dialogue.

    Args:
        name: The name of the file.
        steps: What happens.
        settings: The settings that it needs, by keyword.
        not_played: The ways in which it cannot be played, each with the reason.
    """

    name: str
    steps: tuple[Step, ...]
    settings: Mapping[str, object]
    not_played: Mapping[str, str]

    @property
    def needs_server(self) -> bool:
        """Whether it is about something that the engine does not know of."""
        return any(name in SERVER_SETTINGS for name in self.settings)

    @property
    def needs_tls(self) -> bool:
        """Whether a live server would need TLS for it."""
        return any(name in TLS_SETTINGS for name in self.settings)

    @property
    def messages(self) -> int:
        """How many messages are delivered."""
        return sum(isinstance(step, Delivered) for step in self.steps)

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection."""
        return Close() in self.steps


def read(path: Path) -> Transcript:
    """Read a file."""
    return parse(path.stem, path.read_text("utf-8"))


def parse(name: str, text: str) -> Transcript:
    """Read a dialogue.

    Raises:
        ValueError: A line is none of those above.
    """
    settings: dict[str, object] = {
        "hostname": "mx.example",
        "ident": "ESMTP",
        "extensions": frozenset({"ENHANCEDSTATUSCODES"}),
    }
    not_played = {}
    lines = []
    for line in text.split("\n"):
        if line.startswith("@config "):
            key, _, value = line.removeprefix("@config ").partition("=")
            if key not in _SETTINGS:
                raise ValueError(f"{name}: no setting {key!r}")
            settings[key] = _SETTINGS[key](value)
        elif line.startswith("@no-pipeline "):
            not_played["pipelined"] = line.removeprefix("@no-pipeline ")
        elif line.startswith("@no-octets "):
            not_played["octets"] = line.removeprefix("@no-octets ")
        elif line and not line.startswith("#"):
            lines.append(line)
    steps = list(_join([step for line in lines for step in _steps(name, line)]))
    if Eof() in steps and any(isinstance(step, Say) for step in steps[steps.index(Eof()) :]):
        raise ValueError(f"{name}: the client says something after =eof")
    if Close() in steps[:-1]:
        raise ValueError(f"{name}: =close is the end")
    return Transcript(name, tuple(steps), settings, not_played)


def _steps(name: str, line: str) -> Iterator[Step]:
    mark, _, rest = line.partition(" ")
    match mark:
        case "=start":
            for each in _BEGINNINGS[rest]:
                yield from _steps(name, each)
        case "C:":
            yield Say(rest.encode() + b"\r\n")
        case "C!:":
            yield Say(_unescape(rest))
        case "C*:":
            yield Say(_repeat(rest))
        case "S:":
            yield Expect(re.escape(rest))
        case "S~":
            yield Expect(rest)
        case "S*:":
            code, _, beginning = rest.partition(" ")
            text = rf"{re.escape(beginning)}(?: .*)?" if beginning else ".*"
            yield Expect(rf"{code}[ -]{text}", whole_reply=True)
        case "B:":
            yield Delivered(_unescape(rest))
        case "B*:":
            yield Delivered(_repeat(rest))
        case "=tls":
            yield Handshake(refused={"": False, "refused": True}[rest])
        case "=eof":
            yield Eof()
        case "=close":
            yield Close()
        case _:
            raise ValueError(f"{name}: {line!r} is no line of a transcript")


def _unescape(text: str) -> bytes:
    quoted = text.replace('"', '\\"')
    octets = ast.literal_eval(f'b"{quoted}"')
    assert isinstance(octets, bytes)
    return octets


def _repeat(text: str) -> bytes:
    count, _, escaped = text.partition(" ")
    return _unescape(escaped) * int(count)


def _join(steps: list[Step]) -> Iterator[Step]:
    """Make one step of consecutive ones that say something, or tell of one message."""
    for kind, group in groupby(steps, type):
        if kind is Say:
            yield Say(b"".join(step.octets for step in group if isinstance(step, Say)))
        elif kind is Delivered:
            yield Delivered(b"".join(step.content for step in group if isinstance(step, Delivered)))
        else:
            yield from group
