"""Hooks: a handler's methods, looked up by name once, checked, and made whole from `Handler`."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, cast

from smtp_protocol.handler import AnyHandler, Handler, HandlesSTREAM
from smtp_protocol.life import HasLife, life_of

__all__ = ["Hooks"]

_PREFIX = "handle_"

# How many arguments each hook gets; handle_STREAM has no default that could tell.
_ARGUMENTS = {
    name: len(inspect.signature(getattr(Handler, name)).parameters) - 1
    for name in dir(Handler)
    if name.startswith(_PREFIX)
} | {"handle_STREAM": 4}


class Hooks(Handler):
    """The hooks of one handler; those that it does not have are `Handler`'s own.

    Args:
        handler: The object with the hooks. Its class may list in ``own_hooks`` the names of
            ``handle_…`` methods that are its own affair.
        own_verbs: Verbs that the server adds, upper-cased: their hooks are known, too.

    Attributes:
        own: The names of the hooks that the handler itself has.
        stream: These hooks, if the handler has ``handle_STREAM``.
        life: The handler, if it is to be entered before its first session.

    Raises:
        TypeError: A ``handle_…`` attribute is no hook, or cannot take a hook's arguments, or
            the handler is a class, or has half a life.
    """

    def __init__(self, handler: AnyHandler, own_verbs: Collection[str] = ()) -> None:
        if isinstance(handler, type):
            raise TypeError(
                f"the handler is the class {handler.__name__}; pass an instance, "
                f"{handler.__name__}(...)"
            )
        self.life: HasLife | None = life_of(handler)
        names = {name for name in dir(handler) if name.startswith(_PREFIX)}
        if not names and not any(name.startswith("auth_") for name in dir(handler)):
            owner = type(handler).__name__
            raise TypeError(f"{owner} has no hook; write one, such as handle_DATA")
        # Asked of the class, as it says: a mock has an attribute of any name.
        names -= set(getattr(type(handler), "own_hooks", ()))
        names -= {_PREFIX + verb for verb in own_verbs} - set(_ARGUMENTS)
        for name in sorted(names):
            _check(handler, name)
            setattr(self, name, _as_coroutine_function(getattr(handler, name)))
        self.own: frozenset[str] = frozenset(
            name for name in names if not _is_inherited(handler, name)
        )
        self.stream: HandlesSTREAM | None = (
            cast(HandlesSTREAM, self) if "handle_STREAM" in names else None
        )


def _check(handler: object, name: str) -> None:
    owner = type(handler).__name__
    if name not in _ARGUMENTS:
        import difflib  # noqa: PLC0415 only what is wrong needs it

        nearest = difflib.get_close_matches(name.upper(), map(str.upper, _ARGUMENTS), 1, 0.0)
        right = next(known for known in _ARGUMENTS if known.upper() in nearest)
        raise TypeError(f"{owner}.{name} is not a hook; did you mean {right}?")
    if not _takes(getattr(handler, name), _ARGUMENTS[name]):
        model = HandlesSTREAM if name == "handle_STREAM" else Handler
        right = ", ".join(inspect.signature(getattr(model, name)).parameters)
        raise TypeError(f"{owner}.{name} cannot be called as {name}({right})")


def _takes(hook: object, number: int) -> bool:
    """Whether so many arguments can be given to a hook, as far as it tells."""
    if not callable(hook):
        return False
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # as for an AsyncMock of Python 3.11.2
        return True
    try:
        signature.bind(*[None] * number)
    except TypeError:
        return False
    return True


def _is_inherited(handler: object, name: str) -> bool:
    function = getattr(getattr(handler, name), "__func__", None)
    return function is not None and function is getattr(Handler, name, None)


def _as_coroutine_function(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Make the value of a plain function as good as that of a coroutine."""
    if inspect.iscoroutinefunction(hook):
        return hook

    async def call(*args: object) -> object:
        result = hook(*args)
        return await result if inspect.isawaitable(result) else result

    return call
