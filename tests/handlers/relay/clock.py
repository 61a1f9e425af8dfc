"""Clock: an event loop that skips the time in which nothing happens, so that none is spent."""

import asyncio
import selectors
import socket
from typing import Any

# Real seconds without an event in which something in this process might still be on its way.
_GRACE = 0.05


class SkippingLoop(asyncio.SelectorEventLoop):
    """The loop of asyncio, whose clock is put forward.

    Attributes:
        skipping: Whether the time until the next timer is skipped when nothing else happens.
        names: The addresses of names that a test has made up.
        holes: Addresses that never answer.
    """

    def __init__(self) -> None:
        self.skipping = False
        self.names: dict[str, list[str]] = {}
        self.holes: set[str] = set()
        self._ahead = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """The seconds that have passed, with those that were skipped."""
        return super().time() + self._ahead

    def skip(self, seconds: float) -> None:
        """Let so many seconds be over."""
        self._ahead += seconds

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look up without a thread, of which the selector would not know."""
        found = self.names.get(str(host), [str(host)])
        return [
            info
            for each in found
            for info in socket.getaddrinfo(each, port, family, type, proto, flags)
        ]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect, unless nothing there answers."""
        if address[0] in self.holes:
            await asyncio.Event().wait()
        await super().sock_connect(sock, address)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, or do not wait for the next timer."""
        if not self._loop.skipping or timeout is None or timeout <= _GRACE:
            return super().select(timeout)
        ready = super().select(_GRACE)
        if not ready:
            self._loop.skip(timeout)
        return ready


def loop() -> SkippingLoop:
    """The running loop."""
    running = asyncio.get_running_loop()
    assert isinstance(running, SkippingLoop)
    return running


def skip_from_now() -> None:
    """Skip what time there is nothing to do in."""
    loop().skipping = True
