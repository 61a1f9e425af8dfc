"""Parsing: a message becomes an object of the email package within bounds, or is refused."""

import email.message
from email.contentmanager import raw_data_manager
from email.errors import MessageDefect, MessageError
from email.message import EmailMessage
from email.parser import BytesFeedParser
from email.policy import Compat32, EmailPolicy, Policy

from smtp_handlers.charsets import Forgiving
from smtp_handlers.fields import Fields

__all__: list[str] = []

# Octets are no measure of work, so these are bounded as well. Real mail is far below: Postfix takes
# headers of 102,400 octets, nested 100 deep, and most servers less.
MAX_PARTS = 5_000
MAX_DEPTH = 50
MAX_FIELDS = 10_000
MAX_FIELD_OCTETS = 102_400
MAX_CONTENT_FIELD_OCTETS = 8_192
MAX_HEADER_OCTETS = 512 * 1024
# Lines that begin as no field does: for each the email package makes an object, in a header.
MAX_ODD_LINES = 100_000

# Each line is looked at for each multipart that it is in. A message of many short lines is bounded
# by the first number, a long one of usual lines by its octets through the second.
_MANY_CHECKS = 4_000_000
_OCTETS_PER_CHECK = 16

_CHUNK = 64 * 1024

# Octets (RFC 5322 §2.1.1).
_LONGEST_LINE = 998


class Unparsable(ValueError):
    """A message that cannot be parsed, not today and not tomorrow; the text says why."""


def parse(
    content: bytes, message_class: type[EmailMessage], policy: Policy, *, binary: bool = False
) -> EmailMessage:
    """Parse a message, and read all of its fields.

    It blocks for a second or two at most, for a message that was made to be slow.

    Args:
        content: Its octets, with CR LF at the end of each line.
        message_class: What each part becomes.
        policy: How to parse it. That of the message is the same, but for how fields and text that
            the email package cannot read are read.
        binary: Whether line ends are left as they are. Otherwise they are LF, as in a message that
            Python made.

    Raises:
        Unparsable: It is beyond the bounds, or the email package or the policy refuses it.
    """
    fields = None
    if isinstance(policy, EmailPolicy):
        fields = Fields(policy.header_factory)
        policy = policy.clone(header_factory=fields)
        if policy.content_manager is raw_data_manager:
            policy = policy.clone(content_manager=Forgiving())
    elif isinstance(policy, Compat32) and policy.max_line_length == Compat32.max_line_length:
        # It folds whatever is longer, between words that then have the fold for a part of them.
        policy = policy.clone(max_line_length=_LONGEST_LINE)
    try:
        message = _Parse(content, message_class, policy).message(binary)
        for part in message.walk():
            part.items()
    except Unparsable:
        raise
    except (ValueError, LookupError, MessageError) as error:
        raise Unparsable(f"{type(error).__name__}: {error}") from error
    if fields is not None:
        fields.finish()
    return message


class _Parse:
    """One message while it is parsed."""

    def __init__(self, content: bytes, message_class: type[EmailMessage], policy: Policy) -> None:
        self._content = content
        self._message_class = message_class
        self._policy = policy
        ends = map(content.count, (b"\n", b"\r"))
        self._lines = sum(ends) - content.count(b"\r\n")
        self._checks = _MANY_CHECKS + len(content) // _OCTETS_PER_CHECK
        self._fields = 0
        self._header_octets = 0
        self._parts: list[EmailMessage] = []
        # The latest part and those that it is in, from the whole message on.
        self._path: list[EmailMessage] = []

    def message(self, binary: bool) -> EmailMessage:
        """Parse it."""
        content = self._content
        odd = sum(map(content.count, (b"\n:", b"\r:", b"\nFrom ", b"\rFrom ")))
        _bound("odd lines", odd, MAX_ODD_LINES)
        _bound("lines", self._lines, self._checks)
        parser = BytesFeedParser(policy=_Watch(self._policy, self))
        start = 0
        while start < len(content):  # in parts, for each call keeps other threads waiting
            end = content.find(b"\n", start + _CHUNK) + 1 or len(content)
            chunk = content[start:end]
            parser.feed(chunk if binary else chunk.replace(b"\r\n", b"\n"))
            start = end
        parser.close()
        self._place_latest()
        return self._parts[0]

    def make_part(self, policy: Policy) -> EmailMessage:
        """Make the next part."""
        if self._parts:
            self._place_latest()
        self._parts.append(self._message_class(policy=self._policy))
        _bound("parts", len(self._parts), MAX_PARTS)
        return self._parts[-1]

    def count_field(self, lines: list[str]) -> None:
        """Count a field of the header of any part."""
        octets = sum(map(len, lines))
        of_content = lines[0][:8].lower() == "content-"
        longest = MAX_CONTENT_FIELD_OCTETS if of_content else MAX_FIELD_OCTETS
        self._fields += 1
        self._header_octets += octets
        _bound("octets in a header field", octets, longest)
        _bound("header fields", self._fields, MAX_FIELDS)
        _bound("octets in headers", self._header_octets, MAX_HEADER_OCTETS)

    def _place_latest(self) -> None:
        """Find out how deep the latest part is; it has been attached to another since."""
        latest, path = self._parts[-1], self._path
        while path and not _ends_with(path[-1], latest):
            path.pop()
        path.append(latest)
        _bound("levels", len(path), MAX_DEPTH)
        _bound("lines, times levels", self._lines * len(path), self._checks)


class _Watch(Compat32):
    """What the parser has in the place of the policy, which it asks for nothing but this.

    The parts of the message have the real one.
    """

    policy: Policy
    parse: _Parse

    def __init__(self, policy: Policy, parse: _Parse) -> None:
        super().__init__(message_factory=parse.make_part)
        vars(self).update(policy=policy, parse=parse)  # a policy is read-only, for others

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Take the lines of a field."""
        self.parse.count_field(sourcelines)
        return self.policy.header_source_parse(sourcelines)

    def handle_defect(self, obj: email.message.Message, defect: MessageDefect) -> None:
        """Take something that is wrong with the message."""
        self.policy.handle_defect(obj, defect)


def _ends_with(part: EmailMessage, child: EmailMessage) -> bool:
    parts = part.get_payload() if part.is_multipart() else None
    return isinstance(parts, list) and bool(parts) and parts[-1] is child


def _bound(what: str, number: int, most: int) -> None:
    if number > most:
        raise Unparsable(f"{number} {what}, and {most} is the most")
