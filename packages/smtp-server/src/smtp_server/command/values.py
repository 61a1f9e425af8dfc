"""Values: what an option is given, as text or as TOML has it, becomes a value of its kind."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__: list[str] = []

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: What switches a limit off. TOML has no value for it.
NONE = "none"

_WORDS = {"yes": True, "true": True, "on": True, "1": True} | dict.fromkeys(
    ("no", "false", "off", "0"), False
)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What an option may be given.

    Args:
        metavar: What stands for a value in the help.
        read: Makes a value of a text, or of what TOML has.
    """

    metavar: str
    read: Callable[[object], T_co]


def _refuse(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, not {value!r}")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise _refuse("yes or no", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _refuse("a text", value)
    return value


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,20}", value):
        return int(value)  # which would take the digits of any script
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _refuse("a whole number", value)


def _at_least_1(value: object) -> int:
    number = _whole(value)
    if not number:
        raise _refuse("a whole number from 1 up", value)
    return number


def _number(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise _refuse("a number", value)


def _list(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _refuse("a list of texts", value)
    return tuple(part.strip() for part in parts if part.strip())


def _calls(value: object) -> int | Mapping[str, int]:
    """A number for each command, or ``NOOP=10,RSET=5,*=100``; in TOML a table."""
    if isinstance(value, str) and "=" in value:
        pairs = [part.strip().partition("=") for part in value.split(",")]
        value = {verb: number for verb, _, number in pairs}
    if isinstance(value, dict):
        return {str(verb): _whole(number) for verb, number in value.items()}
    return _whole(value)


FLAG = Kind("", _flag)
TEXT = Kind("TEXT", _text)
FILE = Kind("FILE", _text)
NAME = Kind("NAME", _text)
AT_LEAST_1 = Kind("NUMBER", _at_least_1)
COUNT = Kind("NUMBER", _whole)
OCTETS = Kind("OCTETS", _whole)
NUMBER = Kind("NUMBER", _number)
SECONDS = Kind("SECONDS", _number)
LIST = Kind("LIST", _list)
CALLS = Kind("NUMBER", _calls)


def maybe(kind: Kind[T]) -> Kind[T | None]:
    """The same, or ``none``."""

    def read(value: object) -> T | None:
        return None if value == NONE else kind.read(value)

    return Kind(kind.metavar, read)


def one_of(*names: str) -> Kind[str]:
    """One of some words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise _refuse(" or ".join(names), value)
        return value

    return Kind(f"{{{','.join(names)}}}", read)


def show(value: object) -> str:
    """A value as it would be given."""
    match value:
        case None:
            return NONE
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ",".join(map(str, value)) or NONE
        case _:
            return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
