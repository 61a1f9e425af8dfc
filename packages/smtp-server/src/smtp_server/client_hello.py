"""Client hello: the name of the server that a TLS client asks for, read from its first octets.

The standard library tells it to a callback alone, and prints a traceback where it is not ASCII.
"""

__all__: list[str] = []

# RFC 8446 §5.1: a record has a type, a version and a length; §4: a handshake message likewise.
_HANDSHAKE_RECORD = 22
_RECORD_HEADER = 5
_CLIENT_HELLO = 1
_MESSAGE_HEADER = 4
_VERSION_AND_RANDOM = 34
_SERVER_NAME = 0
_HOST_NAME = 0

# More than this no client says before the handshake goes on.
MAX_HELLO = 16 * 1024 + _RECORD_HEADER


def server_name(octets: bytes) -> str | None:
    """Find the server's name (RFC 6066 §3) in what a client sent first.

    Args:
        octets: The records with the client's hello. One that is cut, or no hello, has no name.

    Returns:
        The name, in printable ASCII: whatever else is in it is escaped.
    """
    hello = _Octets(_handshake_message(octets))
    try:
        hello.skip(_VERSION_AND_RANDOM)
        hello.vector(1)  # session id
        hello.vector(2)  # cipher suites
        hello.vector(1)  # compression methods
        extensions = _Octets(hello.vector(2))
        while not extensions.empty:
            kind = extensions.number(2)
            data = _Octets(extensions.vector(2))
            if kind == _SERVER_NAME:
                names = _Octets(data.vector(2))
                if names.number(1) == _HOST_NAME:
                    return _printable(names.vector(2))
    except EOFError:
        pass
    return None


def _handshake_message(octets: bytes) -> bytes:
    """The first handshake message, which may come in several records; ``b""`` if it is no hello."""
    message = b""
    while octets[:1] == bytes([_HANDSHAKE_RECORD]) and len(octets) > _RECORD_HEADER:
        end = _RECORD_HEADER + int.from_bytes(octets[3:_RECORD_HEADER])
        message += octets[_RECORD_HEADER:end]
        octets = octets[end:]
    end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER])
    if message[:1] != bytes([_CLIENT_HELLO]) or len(message) < end:
        return b""
    return message[_MESSAGE_HEADER:end]


def _printable(name: bytes) -> str:
    text = name.decode("ascii", "backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]


class _Octets:
    """Reads numbers and vectors (RFC 8446 §3.4), and raises EOFError where there are no more."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._position = 0

    @property
    def empty(self) -> bool:
        return self._position >= len(self._octets)

    def skip(self, number: int) -> bytes:
        octets = self._octets[self._position : self._position + number]
        self._position += number
        if len(octets) < number:
            raise EOFError
        return octets

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size))

    def vector(self, size: int) -> bytes:
        return self.skip(self.number(size))
