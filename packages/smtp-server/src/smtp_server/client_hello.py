"""Client hello: the name of the server that a TLS client asks for, read from its first octets.

The standard library tells it to a callback alone, and prints a traceback where it is not ASCII.
"""

__all__: list[str] = []

# RFC 8446 §5.1: a record has a type, a version and a length; §4: a handshake message likewise.
_HANDSHAKE_RECORD = 22
_CHANGE_CIPHER_SPEC_RECORD = 20
_RECORD_HEADER = 5
_CLIENT_HELLO = 1
_MESSAGE_HEADER = 4
_VERSION_AND_RANDOM = 34
_SERVER_NAME = 0
_HOST_NAME = 0

# A longer hello OpenSSL does not take either.
_MAX_HELLO = 131396


class ClientHello:
    """Reads what a client says first, in however small pieces it comes.

    There may be a second hello, where the server asks for one (RFC 8446 §4.1.4).

    Attributes:
        name: The server's name in the last hello, in printable ASCII: whatever else is in it is
            escaped. ``None`` as long as there is none.
        done: Whether no hello can follow.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.done = False
        self._records = bytearray()
        self._messages = bytearray()

    def receive_data(self, octets: bytes) -> None:
        """Take what the client sent."""
        self._records += octets
        while not self.done and len(self._records) >= _RECORD_HEADER:
            end = _RECORD_HEADER + int.from_bytes(self._records[3:_RECORD_HEADER])
            if len(self._records) < end:
                break
            if self._records[0] == _HANDSHAKE_RECORD:
                self._messages += self._records[_RECORD_HEADER:end]
                self._read_messages()
            elif self._records[0] != _CHANGE_CIPHER_SPEC_RECORD:
                self.done = True
            del self._records[:end]

    def _read_messages(self) -> None:
        while not self.done and len(self._messages) >= _MESSAGE_HEADER:
            size = int.from_bytes(self._messages[1:_MESSAGE_HEADER])
            end = _MESSAGE_HEADER + size
            if self._messages[0] != _CLIENT_HELLO or size > _MAX_HELLO:
                self.done = True
            elif len(self._messages) < end:
                break
            else:
                self.name = server_name(bytes(self._messages[_MESSAGE_HEADER:end]))
                del self._messages[:end]


def server_name(message: bytes) -> str | None:
    """Find the server's name (RFC 6066 §3) in a client's hello.

    Args:
        message: The hello, without its header (RFC 8446 §4.1.2). What is cut has no name.

    Returns:
        The name, in printable ASCII: whatever else is in it is escaped.
    """
    hello = _Octets(message)
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


def is_host_name(name: str) -> bool:
    """Whether a `server_name` is one that the standard library can tell to a callback."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return "\\" not in name


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
