"""Lines: the octets of command lines, cut at their ends and bounded in length."""

from smtp_protocol import grammar, replies
from smtp_protocol.buffer import ReceiveBuffer
from smtp_protocol.config import BareNewline
from smtp_protocol.replies import ProtocolError, Reply

__all__: list[str] = []

# A line over its limit is skipped to its end. Who never ends it is not a client.
_MAX_LINE = 1024 * 1024

# How much is kept of a line that is too long: enough to see whether it is a BDAT.
_VERB = 4

# The type of the record that a TLS client's hello comes in (RFC 8446 §5.1). No command begins so,
# and an LF might never come.
_TLS_HANDSHAKE = b"\x16"


class LineReader:
    """Reads one line after the other, wherever the segments were cut.

    Args:
        bare_newline: With ``"reject"`` a line that ends with LF alone is an error; otherwise LF
            ends a line as CR LF does.
    """

    __slots__ = ("_bare_newline", "_partial", "_seen")

    def __init__(self, bare_newline: BareNewline) -> None:
        self._bare_newline = bare_newline
        # What earlier segments brought of the line, and how many octets that were.
        self._partial = b""
        self._seen = 0

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
                is refused (500). The session ends with it if the line was a BDAT: how many
                octets of a message follow is not known.
        """
        data, start = buffer.data, buffer.position
        if not self._seen and data.startswith(_TLS_HANDSHAKE, start):
            raise ProtocolError(replies.CLOSING_NOT_SMTP)
        end = data.find(b"\n", start)
        if end < 0:
            buffer.position = len(data)
            self._keep(data[start:], limit)
            return None
        buffer.position = end + 1
        line = data[start:end]
        if self._seen or len(line) >= limit:
            line = self._complete(line, limit)
        if line.endswith(b"\r"):
            return line[:-1]
        if self._bare_newline == "reject":
            raise _refusal(replies.BARE_NEWLINE_COMMAND, line)
        return line

    def _keep(self, octets: bytes, limit: int) -> None:
        """Remember a part of a line, or of one that is too long its verb and how long it is."""
        self._seen += len(octets)
        if self._seen > _MAX_LINE:
            raise ProtocolError(replies.CLOSING_LINE)
        if self._seen < limit:
            self._partial += octets
        else:
            self._partial = (self._partial + octets[:_VERB])[:_VERB]

    def _complete(self, octets: bytes, limit: int) -> bytes:
        self._keep(octets, limit)
        seen, line = self._seen, self._partial
        self._seen, self._partial = 0, b""
        if seen >= limit:
            raise _refusal(replies.COMMAND_TOO_LONG, line)
        return line


def _refusal(reply: Reply, line: bytes) -> ProtocolError:
    return ProtocolError(reply, closing=grammar.BDAT_LINE.match(line) is not None)
