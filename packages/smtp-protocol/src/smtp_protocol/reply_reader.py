"""Reply reader: the octets of a server in, its replies out, wherever the segments were cut."""

from smtp_protocol.replies import Reply

__all__ = ["ReplyReader"]

# RFC 5321 §4.5.3.1.5 allows 512 octets; servers write longer lines, and EHLO many of them.
_MAX_LINE = 4096
_MAX_LINES = 1024


class ReplyReader:
    """Reads the replies of an SMTP server, for whoever writes a client.

    Feed it what the server sends, and ask `next_reply` until it says ``None``.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        self._lines: list[str] = []

    def receive_data(self, octets: bytes) -> None:
        """Take what the server sent."""
        self._buffer += octets

    def next_reply(self) -> Reply | None:
        """Take the next reply, when all of its lines have come.

        Raises:
            ValueError: What the server sent is no reply, or beyond all measure.
        """
        while (end := self._buffer.find(b"\n", self._seen)) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r").decode("utf-8", "backslashreplace")
            del self._buffer[: end + 1]
            self._seen = 0
            self._lines.append(line)
            if len(line) > _MAX_LINE or len(self._lines) > _MAX_LINES:
                raise ValueError("the server's reply does not end")
            if line[3:4] != "-":
                lines, self._lines = self._lines, []
                return Reply.parse("\n".join(lines))
        self._seen = len(self._buffer)
        if self._seen > _MAX_LINE:
            raise ValueError("the server's line does not end")
        return None
