"""Lines: the octets of command lines, cut at their ends and bounded in length."""

from smtp_protocol import replies
from smtp_protocol.buffer import ReceiveBuffer
from smtp_protocol.config import BareNewline
from smtp_protocol.replies import ProtocolError

__all__: list[str] = []

# A line over its limit is skipped to its end. Who never ends it is not a client.
_MAX_SKIPPED = 1024 * 1024

# The type of the record that a TLS client's hello comes in (RFC 8446 §5.1). No command begins so,
# and an LF might never come.
_TLS_HANDSHAKE = b"\x16"


class LineReader:
    """Reads one line after the other, wherever the segments were cut.

    Args:
        bare_newline: With ``"reject"`` a line that ends with LF alone is an error; otherwise LF
            ends a line as CR LF does.
    """

    __slots__ = ("_bare_newline", "_partial", "_skipped")

    def __init__(self, bare_newline: BareNewline) -> None:
        self._bare_newline = bare_newline
        self._partial = b""
        self._skipped = 0

    def read(self, buffer: ReceiveBuffer, limit: int) -> bytes | None:
        """Take the next line.

        Args:
            buffer: Where it is taken from.
            limit: The longest line in octets, line end included.

        Returns:
            The line without its end, or ``None`` while it is incomplete.

        Raises:
            ProtocolError: The line was longer than ``limit`` (500, after its end), does not
                seem to end ever (421), is the hello of TLS (421), or ends with LF where that
                is refused.
        """
        data, start = buffer.data, buffer.position
        if start == len(data):
            return None
        if not (self._partial or self._skipped) and data.startswith(_TLS_HANDSHAKE, start):
            raise ProtocolError(replies.CLOSING_NOT_SMTP)
        end = data.find(b"\n", start)
        if end < 0:
            buffer.position = len(data)
            self._keep(data[start:], limit)
            return None
        buffer.position = end + 1
        line = data[start:end]
        if self._skipped or len(self._partial) + len(line) >= limit:
            self._skip(line)
            self._skipped = 0
            raise ProtocolError(replies.COMMAND_TOO_LONG)
        if self._partial:
            line = self._partial + line
            self._partial = b""
        if line.endswith(b"\r"):
            return line[:-1]
        if self._bare_newline == "reject":
            raise ProtocolError(replies.BARE_NEWLINE_COMMAND)
        return line

    def _keep(self, octets: bytes, limit: int) -> None:
        if not self._skipped and len(self._partial) + len(octets) < limit:
            self._partial += octets
        else:
            self._skip(octets)

    def _skip(self, octets: bytes) -> None:
        self._skipped += len(self._partial) + len(octets)
        self._partial = b""
        if self._skipped > _MAX_SKIPPED:
            raise ProtocolError(replies.CLOSING_LINE)
