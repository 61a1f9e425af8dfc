"""Handlers: a name becomes a handler; what goes wrong on the way is told with its file and line."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol, cast, runtime_checkable

from smtp_protocol import AnyHandler
from smtp_server.command.errors import USAGE, CannotStartError, in_one_line
from smtp_server.command.table import CLASS

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

__all__: list[str] = []

_GROUP = "smtp_server.handlers"

# Where the default handler is, so that it need not be looked for in all that is installed.
_DEFAULT = "smtp_handlers.debugging:Debugging"


@runtime_checkable
class _FromCLI(Protocol):
    """A class that makes its handler of the arguments of the command."""

    def from_cli(self, parser: ArgumentParser, *args: str, **named: object) -> AnyHandler: ...


class Found(NamedTuple):
    """What a name has led to: a class, a function that makes a handler, or a handler."""

    name: str
    value: object

    @property
    def prefix(self) -> str:
        """What the names of its own options begin with."""
        last = re.split("[.:]", self.name)[-1]
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", last).lower()


def installed() -> list[str]:
    """The names of the handlers that are installed."""
    return sorted(_entry_points().names)


def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points  # noqa: PLC0415 it takes long, and few need it

    return entry_points(group=_GROUP)


def find_handler(name: str) -> Found:
    """Import what a name leads to.

    Args:
        name: That of an installed handler; or ``package.module.Class``, or ``package.module:name``.

    Raises:
        CannotStartError: There is none, or it cannot be imported.
    """
    if name == CLASS.default:
        return Found(name, load(_DEFAULT, "the handler"))
    if re.search("[.:]", name):
        return Found(name, load(name, "the handler"))
    for entry_point in _entry_points().select(name=name):
        return Found(name, _load_entry_point(entry_point))
    known = ", ".join(installed())
    raise CannotStartError(
        f"there is no handler {name!r}; there are {known}, and package.module.Class", USAGE
    )


def _load_entry_point(entry_point: EntryPoint) -> object:
    try:
        return entry_point.load()
    except ModuleNotFoundError as error:
        if not entry_point.extras or entry_point.dist is None:
            _cannot_load("the handler", entry_point.name, error)
        extra = f"{entry_point.dist.name}[{','.join(entry_point.extras)}]"
        raise CannotStartError(
            f"the handler {entry_point.name} needs {error.name}: pip install '{extra}'"
        ) from None
    except (Exception, SystemExit) as error:
        _cannot_load("the handler", entry_point.name, error)


def load(name: str, what: str) -> object:
    """Import ``package.module:name`` or ``package.module.name``, also beside the user.

    Args:
        name: The name.
        what: What it is to be, for errors.

    Raises:
        CannotStartError: It is not there, or cannot be imported.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    colon = ":" in name
    module, _, path = name.rpartition(":" if colon else ".")
    try:
        return reduce(getattr, path.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        _cannot_load(what, name, error)


def _cannot_load(what: str, name: str, error: BaseException) -> NoReturn:
    text = f"cannot load {what} {name}: {in_one_line(error)}{_place_of(error)}"
    raise CannotStartError(text, USAGE) from None


def _place_of(error: BaseException) -> str:
    """File and line where an error has come up, if that is in somebody's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its text has them
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__
        and not frame.filename.startswith("<frozen importlib")
        and f"{os.sep}importlib{os.sep}" not in frame.filename
    ]
    return f" ({os.path.relpath(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""


def make_handler(
    found: Found, parser: ArgumentParser, arguments: Sequence[str], named: Mapping[str, object]
) -> AnyHandler:
    """Make the handler.

    Args:
        found: Where its name has led to.
        parser: What a ``from_cli`` gets, for its errors.
        arguments: What it is told, in order.
        named: What it is told by name.

    Raises:
        CannotStartError: It cannot be made of that.
    """
    try:
        handler = _make(found, parser, arguments, named)
    except CannotStartError:
        raise
    except Exception as error:
        place = "" if isinstance(error, TypeError | ValueError | OSError) else _place_of(error)
        text = f"cannot make the handler {found.name}: {in_one_line(error)}{place}"
        raise CannotStartError(text, USAGE) from None
    if not is_handler(handler):
        text = f"the handler {found.name} is a {type(handler).__name__}, which has no hooks"
        raise CannotStartError(f"{text}, such as handle_DATA", USAGE)
    return cast(AnyHandler, handler)


def _make(
    found: Found, parser: ArgumentParser, arguments: Sequence[str], named: Mapping[str, object]
) -> object:
    value = found.value
    if not isinstance(value, type) and is_handler(value):
        if not arguments:
            return value
    elif isinstance(value, _FromCLI):
        return value.from_cli(parser, *arguments, **named)
    elif callable(value):
        if not arguments or not isinstance(value, type):
            return value(*arguments, **named)
    else:
        return value
    raise CannotStartError(f"the handler {found.name} takes no arguments", USAGE)


def is_handler(value: object) -> bool:
    """Whether something has a hook, right or wrong."""
    return any(name.startswith(("handle_", "auth_")) for name in dir(value))
