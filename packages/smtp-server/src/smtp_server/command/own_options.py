"""Own options: what a handler can be told by name becomes options, from its signature and words."""

from __future__ import annotations

import inspect
import os
import re
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Union, get_args, get_origin, get_type_hints

from smtp_server.command import values
from smtp_server.command.handlers import Found
from smtp_server.command.options import Option, Values
from smtp_server.command.table import BY_NAME
from smtp_server.command.values import Kind, maybe, one_of

__all__: list[str] = []

_KINDS: dict[object, Kind[object]] = {
    bool: values.FLAG,
    int: values.COUNT,
    float: values.NUMBER,
    str: values.TEXT,
    os.PathLike: values.FILE,
}


def own_options(found: Found) -> dict[str, Option[object]]:
    """The options of a handler, by the keywords that they are.

    They are the keywords of its class, or those that stand behind ``*args`` in its ``from_cli``,
    as far as a text can say their values. Their names begin with the handler's.
    """
    function, words = _signature(found.value)
    if function is None:
        return {}
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):
        return {}
    options: dict[str, Option[object]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = _kind_of(hints.get(parameter.name))
        name = f"{found.prefix}-{parameter.name.replace('_', '-')}"
        if kind is None or name in BY_NAME or not _is_keyword(parameter, found.value):
            continue
        required = parameter.default is parameter.empty
        option: Option[object] = Option(
            name=name,
            kind=kind,
            help=words.get(parameter.name, ""),
            group=f"the handler {found.name}",
            default=None if required else parameter.default,
            shown="it is needed" if required else None,
        )
        options[parameter.name] = option
    return options


def named_values(found: Found, given: Values) -> dict[str, object]:
    """What was said by name, by the keywords of the handler."""
    options = own_options(found) if any(name not in BY_NAME for name in given) else {}
    return {
        keyword: given[option.name] for keyword, option in options.items() if option.name in given
    }


def _signature(
    value: object,
) -> tuple[types.FunctionType | types.MethodType | None, dict[str, str]]:
    """What is called with the keywords, and what is said of each."""
    if not isinstance(value, type):
        return (value, _words(value)) if isinstance(value, types.FunctionType) else (None, {})
    called = getattr(value, "from_cli", None) or inspect.getattr_static(value, "__init__")
    words = _words(value) | _words(called)
    is_python = isinstance(called, types.FunctionType | types.MethodType)
    return (called if is_python else None), words


def _is_keyword(parameter: inspect.Parameter, value: object) -> bool:
    if getattr(value, "from_cli", None) is not None:
        return parameter.kind is parameter.KEYWORD_ONLY
    return parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _kind_of(hint: object) -> Kind[object] | None:
    """What a text can say of a value of this type, if it can."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Literal:
        return one_of(*map(str, arguments))
    if origin in (Union, types.UnionType):
        kinds = [_kind_of(argument) for argument in arguments if argument is not type(None)]
        kind = kinds[0] if kinds and None not in kinds else None
        return maybe(kind) if kind is not None and type(None) in arguments else kind
    if origin in (Collection, Iterable, Sequence, tuple):
        return values.LIST if arguments[:1] == (str,) else None
    return _KINDS.get(origin)


def _words(documented: object) -> dict[str, str]:
    """What a docstring says of each argument, in one line."""
    text = inspect.getdoc(documented) or ""
    _, _, section = text.partition("Args:\n")
    section = re.split(r"\n\S", section)[0]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {
        name: _lower(" ".join(words.replace("``", "").replace("`", "").split()))
        for name, words in found
    }


def _lower(text: str) -> str:
    """A sentence as the middle of another."""
    return (
        text[:1].lower() + text[1:].rstrip(".")
        if text[1:2] in " " or text[1:2].islower()
        else text.rstrip(".")
    )
