"""Life: a handler that opens something is entered before its first session, left after the last."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

__all__ = ["HasLife", "life_of"]


class HasLife(Protocol):
    """A handler with something to open and to close: a pool, a client of a queue, a web server.

    It is an asynchronous context manager. A server enters it in its event loop before the first
    connection is accepted, and leaves it after the last session has ended. Both happen in one task,
    so that a task group may be open in between. What `__aenter__` raises keeps the server from
    starting.

    A handler that several servers have is entered once for each of them.
    """

    async def __aenter__(self) -> object:
        """Open what the hooks need. What it returns is not used."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Close it. No hook is called any more."""


def life_of(handler: object) -> HasLife | None:
    """The handler as what it is to be entered as, if it has a life.

    Args:
        handler: Any object.

    Raises:
        TypeError: It has one of the two methods and not the other.
    """
    if isinstance(handler, AbstractAsyncContextManager):
        return handler
    for name, missing in (("__aenter__", "__aexit__"), ("__aexit__", "__aenter__")):
        # Asked of the class, as `async with` does.
        if getattr(type(handler), name, None) is not None:
            raise TypeError(f"{type(handler).__name__} has {name}; write {missing}, too")
    return None
