"""Buffer: octets received and not used yet, each of them copied a bounded number of times."""

__all__: list[str] = []


class ReceiveBuffer:
    """A segment that is being read, and what has arrived behind it in the meantime.

    ``data[position:]`` is there to be read; who reads moves ``position``.
    """

    __slots__ = ("_behind", "data", "position")

    def __init__(self) -> None:
        self.data: bytes = b""
        self.position: int = 0
        self._behind = bytearray()

    def feed(self, octets: bytes) -> None:
        """Add ``octets``; without a copy when all before them was read."""
        if self.position == len(self.data) and not self._behind:
            self.data = octets
            self.position = 0
        else:
            self._behind += octets

    def refill(self) -> bool:
        """Whether there is something to read, after putting what came behind into reach."""
        if self.position < len(self.data):
            return True
        self.data = bytes(self._behind)
        self.position = 0
        self._behind.clear()
        return bool(self.data)

    def clear(self) -> None:
        """Drop everything."""
        self.data = b""
        self.position = 0
        self._behind.clear()

    def __len__(self) -> int:
        return len(self.data) - self.position + len(self._behind)
