"""Stuffing: the octets of a message in, what a client sends after DATA out (RFC 5321 §4.5.2)."""

import re

__all__ = ["DotStuffer"]

_ANY_NEWLINE = re.compile(rb"\r\n?|\n")


class DotStuffer:
    """Makes what a client sends after DATA: a second period where a line begins with one.

    It is the inverse of what a server does with a message, for whoever writes a client. Every line
    ends with CR LF then, for what one server takes for a line's end and another does not is how
    messages are smuggled.
    """

    __slots__ = ("_at_line_start", "_cr")

    def __init__(self) -> None:
        self._at_line_start = True
        self._cr = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next octets of the message, and return what can be sent of them.

        A CR at their end waits for what follows.
        """
        data = self._cr + chunk
        self._cr = b""
        if data.endswith(b"\r"):
            data, self._cr = data[:-1], b"\r"
        return self._stuff(data)

    def finish(self) -> bytes:
        """End the message: return the rest of it and the period that stands alone on its line."""
        rest = self._stuff(self._cr)
        return rest + (b".\r\n" if self._at_line_start else b"\r\n.\r\n")

    def _stuff(self, data: bytes) -> bytes:
        if not data:
            return data
        newlines = data.count(b"\r\n")
        if data.count(b"\n") != newlines or data.count(b"\r") != newlines:
            data = _ANY_NEWLINE.sub(b"\r\n", data)
        if self._at_line_start and data.startswith(b"."):
            data = b"." + data
        self._at_line_start = data.endswith(b"\r\n")
        return data.replace(b"\r\n.", b"\r\n..")
