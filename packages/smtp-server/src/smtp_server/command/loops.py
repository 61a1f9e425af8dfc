"""Loops: which event loop the command runs, by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from smtp_server.command.errors import CannotStartError

__all__: list[str] = []


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; ``None`` for that of asyncio.

    Raises:
        CannotStartError: It is not installed.
    """
    if name == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 an extra
    except ModuleNotFoundError:
        text = "uvloop is not installed: pip install 'smtp-server[uvloop]'"
        raise CannotStartError(text) from None
    return uvloop.new_event_loop
