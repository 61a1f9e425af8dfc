"""Answers: what our client is told of what the next server has said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smtp_protocol import Reply

__all__: list[str] = []

# What of a reply is passed on: an octet of a line may be escaped with ten, and a line of a reply
# has 512 octets (RFC 5321 §4.5.3.1.5).
_LONGEST_LINE = 480
_LONGEST_ESCAPE = 10
_MOST_LINES = 50


def told(reply: Reply) -> Reply:
    """Make the answer to our client of a reply of the next server.

    Its code and text are kept, as much of them as a client can be expected to read; but 421, which
    would end our own session, becomes 451 (RFC 5321 §3.8).
    """
    code = 451 if reply.code == 421 else reply.code
    return replace(reply, code=code, lines=tuple(map(_cut, reply.lines[:_MOST_LINES])))


def _cut(line: str) -> str:
    plain = line.isascii() and line.isprintable()
    return line[: _LONGEST_LINE if plain else _LONGEST_LINE // _LONGEST_ESCAPE]


def for_recipients(
    recipients: Sequence[str], asked: Sequence[str], answers: Sequence[Reply]
) -> Reply | list[Reply]:
    """Make the answers to a message: one for all, or one for each recipient.

    Args:
        recipients: Those of the envelope, which what stands in front of us may have changed.
        asked: Those that the next server has accepted.
        answers: Its answers, one for all or one for each of ``asked``.

    Returns:
        One answer for each of ``recipients``, in their order. Where it has not got one for each
        of them, the worst is for all: a recipient whose mail nobody has is never told 250.
    """
    if len(answers) != len(asked) or len(answers) == 1:
        return max(answers, key=_class)
    left = list(zip(asked, answers, strict=True))
    found = []
    for recipient in recipients:
        match = next((pair for pair in left if pair[0] == recipient), None)
        if match is None:
            return max(answers, key=_class)
        left.remove(match)
        found.append(match[1])
    return found


def _class(reply: Reply) -> int:
    return reply.code // 100
