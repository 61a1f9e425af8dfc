"""Return paths: the fields of that name that others wrote are taken out of a message as it passes.

Final delivery writes the only one (RFC 5321 §4.4).
"""

import re

__all__: list[str] = []

# A bare CR or LF ends a line, too: some readers of header fields take it so.
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_FIELD = rb"return-path[ \t]*:"
# The end of a line before the end of the header, or before a field to take out.
_STOP = re.compile(_LINE_END + rb"(?=[\r\n]|" + _FIELD + rb")", re.IGNORECASE)
# The end of the last line of such a field, and of others right behind it.
_GO_ON = re.compile(_LINE_END + rb"(?!\Z|[ \t]|" + _FIELD + rb")", re.IGNORECASE)
# More than enough of a line to know it by, in octets.
_BEGINNING = 64


class ReturnPathFilter:
    """Takes a message part after part, and gives it back without ``Return-Path`` fields.

    It holds the beginning of one line at most. A message that begins with a blank has no header
    (see `smtp_handlers.trace.guard`).
    """

    def __init__(self) -> None:
        # With a line end in front, every field stands behind one.
        self._held = b"\n"
        self._first = True
        self._dropping = False
        self._over = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the next part, and give back what can be told of by now."""
        if self._over:
            return chunk
        data = self._held + chunk
        if self._first and data[1:2] in (b" ", b"\t"):
            self._over = True
            return data[1:]
        return self._filter(data, _known(data))

    def close(self) -> bytes:
        """Give back the rest."""
        if self._over:
            return b""
        return self._filter(self._held, len(self._held))

    def _filter(self, data: bytes, known: int) -> bytes:
        """Filter the first ``known`` octets of ``data``, and hold the others back."""
        kept: list[bytes] = []
        position = 0
        while position < known:
            match = (_GO_ON if self._dropping else _STOP).search(data, position)
            decided = match is not None and match.start() < known
            end = match.end() if match is not None and decided else known
            if not self._dropping:
                kept.append(data[position:end])
            position = end
            if decided and data[end : end + 1] in (b"\r", b"\n"):
                self._over = True
                kept.append(data[end:])
                break
            self._dropping ^= decided
        self._held = b"" if self._over else data[position:]
        return self._without_first(b"".join(kept))

    def _without_first(self, octets: bytes) -> bytes:
        if not (self._first and octets):
            return octets
        self._first = False
        return octets[1:]


def _known(data: bytes) -> int:
    """How far it is known what each line is: as far as the last line, unless that is long."""
    end = max(data.rfind(b"\n"), data.rfind(b"\r"))
    if end < 0 or len(data) - end > _BEGINNING:
        return len(data)
    return end - 1 if data[end - 1 : end + 1] == b"\r\n" else end
