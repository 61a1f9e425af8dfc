"""Offers: what the next server says it can do, out of its reply to EHLO; nonsense is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

__all__: list[str] = []

# RFC 5321 §4.1.1.1: ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-"); some have "_" as well.
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# RFC 1870 §4: size-value is of 1 to 20 digits.
_SIZE = re.compile(r"[0-9]{1,20}")
# RFC 9422 §4: the values of the limits begin with no 0 and have six digits at most.
_LIMIT = re.compile(r"([A-Za-z]+)=([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Offers:
    """The extensions of the next server, and the limits that it tells.

    Attributes:
        keywords: What stands behind each keyword; the keywords are in capital letters.
        size: The largest message that it takes, in octets; ``None`` when it tells of no limit.
        most_mails: How many MAIL commands it takes in one session (RFC 9422), if it tells.
        most_recipients: How many RCPT commands it takes in one transaction, if it tells.
    """

    keywords: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    most_mails: int | None = None
    most_recipients: int | None = None

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Self:
        """Read the lines of the reply to EHLO that follow the server's name."""
        keywords = {}
        for line in lines:
            keyword, _, rest = line.partition(" ")
            if _KEYWORD.fullmatch(keyword):
                keywords[keyword.upper()] = rest.strip()
        limits = dict[str, int]()
        for word in keywords.get("LIMITS", "").split():
            match = _LIMIT.fullmatch(word)
            if match is not None:
                limits[match[1].upper()] = int(match[2])
        size = keywords.get("SIZE", "")
        return cls(
            keywords,
            # RFC 1870 §4: 0 is no limit, as if nothing were said.
            size=(int(size) if _SIZE.fullmatch(size) else 0) or None,
            most_mails=limits.get("MAILMAX"),
            most_recipients=limits.get("RCPTMAX"),
        )

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def mechanisms(self) -> Sequence[str]:
        """The mechanisms of AUTH, in capital letters."""
        words = self.keywords.get("AUTH", "").split()
        return [word.upper() for word in words if word.isascii()]
