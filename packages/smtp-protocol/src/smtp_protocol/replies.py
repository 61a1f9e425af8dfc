"""Replies: what a server answers, as a value; its wire form is made and read here alone."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

__all__ = ["EnhancedStatus", "ProtocolError", "Reply"]

# RFC 3463 §2: status-code = class "." subject "." detail, the latter two of one to three digits
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?= |\Z)")
# RFC 5321 §4.2: Reply-code [ SP textstring ], with "-" after the code of all lines but the last
_LINE = re.compile(r"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_BREAKS_A_LINE = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """An enhanced mail system status code (RFC 3463 §2), such as 5.1.1.

    Args:
        class_: 2 (success), 4 (persistent transient failure) or 5 (permanent failure).
        subject: 0 to 999, what the status is about.
        detail: 0 to 999.

    Raises:
        ValueError: A number is out of its range.
    """

    class_: int
    subject: int
    detail: int

    def __post_init__(self) -> None:
        if self.class_ not in (2, 4, 5):
            raise ValueError(f"the class of an enhanced status is 2, 4 or 5, not {self.class_}")
        if not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError("subject and detail of an enhanced status are 0 to 999")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"5.1.1"``.

        Raises:
            ValueError: The text is no enhanced status code.
        """
        match = _ENHANCED.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no enhanced status code (RFC 3463 §2)")
        class_, subject, detail = match.groups()
        return cls(int(class_), int(subject), int(detail))

    def __str__(self) -> str:
        return f"{self.class_}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of an SMTP server (RFC 5321 §4.2).

    Args:
        code: The three-digit reply code, 200 to 599.
        lines: The texts of its lines, at least one, without code or line end.
        enhanced: The enhanced status code, of the same class as ``code``.
        always_enhanced: Whether ``enhanced`` is shown even when the server does not offer
            ENHANCEDSTATUSCODES.

    Raises:
        ValueError: An impossible code, no line, a CR, LF or NUL inside a line, or an enhanced
            status of another class.
    """

    code: int
    lines: tuple[str, ...]
    enhanced: EnhancedStatus | None = None
    always_enhanced: bool = field(default=False, compare=False)
    # Most replies are sent again and again.
    _encoded: dict[bool, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"a reply code is 200 to 599, not {self.code}")
        if type(self.lines) is not tuple or not self.lines:
            raise ValueError("the lines of a reply are a tuple of at least one str")
        if any(map(_BREAKS_A_LINE.search, self.lines)):
            raise ValueError("a line of a reply cannot contain CR, LF or NUL")
        if self.enhanced is not None and self.enhanced.class_ != self.code // 100:
            raise ValueError(f"enhanced status {self.enhanced} does not go with code {self.code}")

    @classmethod
    def parse(cls, text: str) -> "Reply":
        """Read the text form of a reply, as hooks return it.

        Args:
            text: ``"250 OK"``, ``"550 5.7.1 Not here"``, or several lines such as
                ``"250-one\\r\\n250 two"`` (CR LF or LF between the lines, none at the end).

        Raises:
            ValueError: The text is not exactly one well-formed reply.
        """
        return _parse(text)

    @property
    def positive(self) -> bool:
        """Whether the command was accepted: 2yz or 3yz (RFC 5321 §4.2.1)."""
        return self.code < 400

    @property
    def text(self) -> str:
        """The lines, joined with LF."""
        return "\n".join(self.lines)

    def __str__(self) -> str:
        status = f"{self.enhanced} " if self.enhanced else ""
        last = len(self.lines) - 1
        return "\r\n".join(
            f"{self.code}{' ' if number == last else '-'}{status}{line}"
            for number, line in enumerate(self.lines)
        )

    def encode(self, *, enhanced: bool = False, utf8: bool = False) -> bytes:
        """Make the octets that go onto the wire.

        Args:
            enhanced: Whether the peer was offered ENHANCEDSTATUSCODES. A reply without an
                enhanced status then gets the general one of its class (RFC 2034 §4).
            utf8: Whether the peer said that it can read UTF-8 (RFC 6531 §3.7.4.2).

        Returns:
            The lines with their CR LF, in ASCII or UTF-8. Whatever else a text contains, and every
            control character, is escaped with a backslash, for no octet of a peer is to be
            repeated raw.
        """
        if utf8:
            return self._encode(enhanced, utf8=True)
        octets = self._encoded.get(enhanced)
        if octets is None:
            octets = self._encoded[enhanced] = self._encode(enhanced, utf8=False)
        return octets

    def _encode(self, enhanced: bool, *, utf8: bool) -> bytes:
        status = ""
        if self.enhanced is not None and (enhanced or self.always_enhanced):
            status = f"{self.enhanced} "
        elif enhanced and self.code // 100 != 3:
            status = f"{self.code // 100}.0.0 "
        *first, last = [printable(line, utf8=utf8) for line in self.lines]
        text = "".join([f"{self.code}-{status}{line}\r\n" for line in first])
        return f"{text}{self.code} {status}{last}\r\n".encode()


def printable(text: str, *, utf8: bool) -> str:
    """Escape with a backslash what cannot be shown and, but for ``utf8``, what is not ASCII."""
    if text.isprintable() and (utf8 or text.isascii()):
        return text
    return "".join(
        character
        if character == "\t" or (character.isprintable() and (utf8 or character.isascii()))
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    if character.isascii():
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()


# Hooks answer with the same few texts again and again.
@lru_cache(maxsize=256)
def _parse(text: str) -> Reply:
    *first, last = (_split_line(line) for line in text.replace("\r\n", "\n").split("\n"))
    code, separator, _ = last
    if separator == "-" or any(line[:2] != (code, "-") for line in first):
        raise ValueError(f"{text!r} is not exactly one reply (RFC 5321 §4.2)")
    lines = [line[2] for line in (*first, last)]
    enhanced = None
    match = _ENHANCED.match(lines[0])
    if match and match[1] == code[0]:
        enhanced = EnhancedStatus.parse(match[0])
        # The other lines may repeat it; "2.0.0rc1" is no repetition.
        lines = ["" if line == match[0] else line.removeprefix(f"{match[0]} ") for line in lines]
    return Reply(int(code), tuple(lines), enhanced, always_enhanced=True)


def _split_line(line: str) -> tuple[str, str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{line!r} is no line of a reply (RFC 5321 §4.2)")
    code, separator, text = match.groups("")
    return code, separator, text


class ProtocolError(Exception):
    """The peer did what it must not do.

    Args:
        reply: The answer that it gets for it.
        closing: Whether the session ends with that answer.
    """

    def __init__(self, reply: Reply, *, closing: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.closing = closing


class ParameterError(ProtocolError):
    """A parameter of MAIL or RCPT was refused."""


def _canned(code: int, enhanced: str, *lines: str, always: bool = False) -> Reply:
    return Reply(code, lines, EnhancedStatus.parse(enhanced), always_enhanced=always)


OK = _canned(250, "2.0.0", "OK")
MAIL_OK = _canned(250, "2.1.0", "OK")
RCPT_OK = _canned(250, "2.1.5", "OK")
CHUNK_OK = _canned(250, "2.0.0", "Chunk received")
AUTH_OK = _canned(235, "2.7.0", "Authentication successful", always=True)
READY_FOR_TLS = _canned(220, "2.0.0", "Ready to start TLS", always=True)
BYE = _canned(221, "2.0.0", "Bye")
CANNOT_VRFY = _canned(252, "2.1.5", "Cannot VRFY user, but will accept message and try to deliver")
START_MAIL_INPUT = Reply(354, ("Start mail input; end with <CRLF>.<CRLF>",))

CLOSING_IDLE = _canned(421, "4.4.2", "Idle for too long, closing the connection", always=True)
CLOSING_SHUTDOWN = _canned(421, "4.3.2", "Service shutting down", always=True)
CLOSING_ERRORS = _canned(421, "4.7.0", "Too many errors, closing the connection", always=True)
CLOSING_COMMANDS = _canned(421, "4.7.0", "Command sent too often", always=True)
CLOSING_NOT_SMTP = _canned(421, "4.7.0", "This is an SMTP server", always=True)
CLOSING_EARLY = _canned(421, "4.7.0", "Wait for the greeting", always=True)
CLOSING_LINE = _canned(421, "4.7.0", "Endless line, closing the connection", always=True)
CLOSING_BUSY = _canned(421, "4.7.0", "Too many connections, try again later", always=True)
CLOSING_FAILURE = _canned(421, "4.3.0", "Local error, closing the connection", always=True)
CLOSING_AUTH = _canned(421, "4.7.0", "Too many failed authentications", always=True)

LOCAL_ERROR = _canned(451, "4.3.0", "Local error in processing")
TOO_MANY_MESSAGES = _canned(452, "4.5.3", "Too many messages in this session")
TOO_MANY_DOMAINS = _canned(452, "4.5.3", "Too many domains among the recipients")
TEMPORARY_AUTH_FAILURE = _canned(454, "4.7.0", "Temporary authentication failure", always=True)
TOO_MANY_RECIPIENTS = _canned(452, "4.5.3", "Too many recipients")

UNKNOWN_COMMAND = _canned(500, "5.5.1", "Command not recognized")
BAD_COMMAND = _canned(500, "5.5.2", "Syntax error")
COMMAND_TOO_LONG = _canned(500, "5.5.2", "Command line too long")
BARE_NEWLINE_COMMAND = _canned(500, "5.5.2", "A line ends with CR LF")
BODY_LINE_TOO_LONG = _canned(500, "5.5.2", "Line too long")
INVALID_UTF8 = _canned(501, "5.5.2", "Not valid UTF-8")
NO_PARAMETERS = _canned(501, "5.5.4", "Parameters need EHLO")
REPEATED_PARAMETER = _canned(501, "5.5.4", "Parameter given twice")
BAD_PARAMETER = _canned(501, "5.5.4", "Syntax error in parameter")
EMPTY_RECIPIENT = _canned(501, "5.1.3", "The recipient is empty")
BAD_BASE64 = _canned(501, "5.5.2", "Not base64", always=True)
AUTH_CANCELLED = _canned(501, "5.7.0", "Authentication cancelled", always=True)
BAD_AUTH_RESPONSE = _canned(501, "5.5.2", "Malformed response", always=True)
NOT_IMPLEMENTED = _canned(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE = _canned(503, "5.5.1", "Bad sequence of commands")
ALREADY_AUTHENTICATED = _canned(503, "5.5.1", "Already authenticated")
UNKNOWN_MECHANISM = _canned(504, "5.5.4", "Unknown authentication mechanism", always=True)
NO_SUCH_TOPIC = _canned(504, "5.5.4", "No help on that")
NEEDS_STARTTLS = _canned(530, "5.7.0", "Must issue a STARTTLS command first", always=True)
NEEDS_TLS = _canned(530, "5.7.0", "REQUIRETLS needs TLS", always=True)
NEEDS_AUTH = _canned(530, "5.7.0", "Authentication required", always=True)
AUTH_FAILED = _canned(535, "5.7.8", "Authentication credentials invalid", always=True)
AUTH_NEEDS_TLS = _canned(
    538, "5.7.11", "Encryption required for requested authentication mechanism", always=True
)
NOT_TRUSTED = _canned(550, "5.7.0", "Insufficient authorization")
TLS_NOT_ACCEPTED = _canned(554, "5.7.0", "TLS was not accepted; only QUIT is left", always=True)
BARE_NEWLINE = _canned(550, "5.5.2", "A line of the message ends with a bare CR or LF")
TOO_MUCH_DATA = _canned(552, "5.3.4", "Message exceeds the size limit")
BAD_REVERSE_PATH = _canned(553, "5.1.7", "Malformed sender address")
BAD_FORWARD_PATH = _canned(553, "5.1.3", "Malformed recipient address")
NEEDS_SMTPUTF8 = _canned(553, "5.6.7", "Address needs SMTPUTF8")
NOT_ASCII = _canned(554, "5.6.0", "The message is not ASCII")
UNKNOWN_PARAMETER = _canned(555, "5.5.4", "Parameter not recognized")


def syntax_error(syntax: str) -> ProtocolError:
    """The error of arguments that are not of the form ``syntax`` (RFC 5321 §4.3.2)."""
    return ProtocolError(_canned(501, "5.5.4", f"Syntax: {syntax}"))
