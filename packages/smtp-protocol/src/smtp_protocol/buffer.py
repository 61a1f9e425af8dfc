"""Buffer: octets received and not used yet, each of them copied a bounded number of times."""

__all__: list[str] = []


class ReceiveBuffer:
    """A segment that is being read, and what has arrived behind it in the meantime.

    ``data[position:]`` is there to be read; who reads moves ``position``. When it was all read,
    `refill` puts what is ``behind`` into reach.
    """

    __slots__ = ("behind", "data", "position")

    def __init__(self) -> None:
        self.data: bytes = b""
        self.position: int = 0
        self.behind: bytearray = bytearray()

    def feed(self, octets: bytes) -> None:
        """Add ``octets``; without a copy when all before them was read."""
        if self.position == len(self.data) and not self.behind:
            self.data = octets
            self.position = 0
        else:
            self.behind += octets

    def refill(self) -> None:
        """Put what came behind into reach."""
        self.data = bytes(self.behind)
        self.position = 0
        self.behind.clear()

    def clear(self) -> None:
        """Drop everything."""
        self.data = b""
        self.position = 0
        self.behind.clear()

    def __len__(self) -> int:
        return len(self.data) - self.position + len(self.behind)
