"""Body: message octets in, payload out, in slices as large as they came (RFC 5321 §4.5.2)."""

import re
from io import IncrementalNewlineDecoder

from smtp_protocol import replies
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.replies import Reply

__all__: list[str] = []

# Data ends at exactly this, never at a form of it with bare newlines: what one server takes for
# the end and another does not is how messages are smuggled (RFC 5321 §2.3.8, §4.1.1.4).
_END = b"\r\n.\r\n"
_DOT = b"\r\n."
_BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_ANY_NEWLINE = re.compile(rb"\r\n?|\n")


class BodyPolicy:
    """Holds the payload of one message to the limits, whichever command it came with.

    Once it breaks one nothing more is let through: the rest is only counted off, and ``refusal``
    is the one answer at the end. A ``binary`` body, one that BDAT brings, is held to its size alone
    (RFC 3030 §3). What it tells of several broken ones does not depend on how the
    segments were cut.
    """

    __slots__ = ("_bare", "_binary", "_column", "_config", "_left", "_long")

    def __init__(self, config: ProtocolConfig, *, binary: bool = False) -> None:
        self._config = config
        self._binary = binary
        self._left = config.data_size_limit or None
        self._column = 0
        self._bare = False
        self._long = False

    @property
    def refusal(self) -> Reply | None:
        """The answer to what came so far, if it is none that the handler could give."""
        if self._left is not None and self._left < 0:
            return replies.TOO_MUCH_DATA
        if self._bare:
            return replies.BARE_NEWLINE
        return replies.BODY_LINE_TOO_LONG if self._long else None

    def admit(self, payload: bytes) -> bytes:
        """Return what the handler gets of ``payload``: all of it or, once refused, nothing."""
        if not self._binary:
            payload = self._newlines(payload)
            if self._config.line_length_limit is not None and not self._long:
                self._measure_lines(payload, self._config.line_length_limit)
        if self._left is not None:
            self._left -= len(payload)
        return payload if self.refusal is None else b""

    def _newlines(self, payload: bytes) -> bytes:
        policy = self._config.bare_newline
        if policy == "keep":
            return payload
        # The quickest way there is to see which newlines octets have: four times that of counting.
        decoder = IncrementalNewlineDecoder(None, translate=False)
        decoder.decode(payload.decode("latin-1"), final=True)
        if decoder.newlines in (None, "\r\n"):
            return payload
        if policy == "reject":
            self._bare = True
            return payload
        return _ANY_NEWLINE.sub(b"\r\n", payload)

    def _measure_lines(self, payload: bytes, limit: int) -> None:
        # Steps from line end to line end, each step as wide as the limit lets it be: two steps
        # cover more than `limit` octets, so short lines cost no more than long ones.
        start = -self._column
        while len(payload) - start > limit:
            end = payload.rfind(b"\n", max(start, 0), start + limit)
            if end < 0:
                self._long = True
                return
            start = end + 1
        end = payload.rfind(b"\n", max(start, 0))
        self._column = len(payload) - (end + 1 if end >= 0 else start)


class DataReceiver:
    """Reads the body that follows DATA, up to CR LF . CR LF (RFC 5321 §4.1.1.4, §4.5.2).

    Between two segments it keeps at most the four octets that may be the beginning of the end.
    """

    __slots__ = ("_held", "_virtual", "done")

    def __init__(self) -> None:
        # A body is at the beginning of a line: as if CR LF stood before it.
        self._held = b"\r\n"
        self._virtual = 2
        self.done: bool = False

    def receive(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take what belongs to the body from ``data[start:]``.

        Returns:
            The payload, dot-stuffing removed, in which no CR LF is cut in two; and where in
            ``data`` the rest begins. ``done`` tells whether the end was reached.
        """
        held = self._held
        if data[start : start + 1] not in _DOT:
            if self._virtual and held == b"\r\n":
                held, self._virtual = b"", 0  # the text begins, and with no period
        elif held:
            # The end may have begun in the octets kept; it is then complete within four more.
            junction = held + data[start : start + 4]
            end = junction.find(_END)
            if end >= 0:
                self.done = True
                return self._payload(junction[: end + 2]), start + end + 5 - len(held)
        # Few segments have a line that begins with a period. Searched from behind that is seen
        # four times as fast, and only they are looked at more closely.
        if data.rfind(_DOT, start) >= 0:
            end = data.find(_END, start)
            if end >= 0:
                self.done = True
                return self._payload(held + data[start : end + 2]), end + 5
        raw = held + data[start:] if held else data[start:]
        self._held = next(filter(raw.endswith, _BEGINNINGS), b"")
        if self._held:
            raw = raw[: -len(self._held)]
        return self._payload(raw), len(data)

    def _payload(self, raw: bytes) -> bytes:
        # RFC 5321 §4.5.2: a period at the beginning of a line is followed by the line's own text.
        payload = raw if raw.rfind(_DOT) < 0 else raw.replace(_DOT, b"\r\n")
        if self._virtual and payload:
            payload = payload[self._virtual :]
            self._virtual = 0
        return payload


class ChunkReceiver:
    """Reads the octets of one BDAT, which are counted and never looked at (RFC 3030 §2)."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def done(self) -> bool:
        """Whether all octets have come."""
        return self._left == 0

    def receive(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Take what belongs to the chunk from ``data[start:]``; see `DataReceiver.receive`."""
        payload = data[start : start + self._left]
        self._left -= len(payload)
        return payload, start + len(payload)
