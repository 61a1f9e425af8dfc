"""Orders: what signals ask of a running service; the first ends it gently, a second at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

__all__: list[str] = []

# Windows has the last one, and no SIGHUP, which asks for files to be read again.
_ENDING = ("SIGINT", "SIGTERM", "SIGBREAK")
_RELOADING = ("SIGHUP",)


class Orders:
    """What was asked for so far.

    Attributes:
        drain: Set when the service is to finish what has begun, and to end.
        stop: Set when it is to end at once.
        reload: Set when files are to be read again; who does so clears it.
    """

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()

    def end(self) -> None:
        """End: at first gently, when asked again at once."""
        (self.stop if self.drain.is_set() else self.drain).set()

    def end_now(self) -> None:
        """End at once, whatever was asked before."""
        self.drain.set()
        self.stop.set()

    @contextlib.contextmanager
    def from_signals(self, end: Callable[[], None] | None = None) -> Iterator[None]:
        """Take the orders of signals, in the running event loop, while this is entered.

        Args:
            end: What SIGTERM and SIGINT call; `end` by default.
        """
        with contextlib.ExitStack() as leaving:
            for names, call in ((_ENDING, end or self.end), (_RELOADING, self.reload.set)):
                for name in names:
                    _at_signal(name, call, leaving)
            yield


def _at_signal(name: str, call: Callable[[], object], leaving: contextlib.ExitStack) -> None:
    """Have a function called in the running loop at a signal, if there is one of that name."""
    loop = asyncio.get_running_loop()
    number: signal.Signals | None = getattr(signal, name, None)
    if number is None:
        return
    try:
        loop.add_signal_handler(number, call)
    except NotImplementedError:  # the loops of Windows
        before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
        leaving.callback(signal.signal, number, before or signal.SIG_DFL)
