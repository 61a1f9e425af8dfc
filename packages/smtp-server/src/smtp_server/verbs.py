"""Verbs: what methods add by their names: ``smtp_VERB`` a command, ``auth_MECH`` a mechanism."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from smtp_protocol.auth import MECHANISM_NAME
from smtp_protocol.session import Session

__all__ = ["syntax"]

_PREFIX = "smtp_"
_AUTH_PREFIX = "auth_"

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


#: Whether a session may use a command.
Condition = Callable[[Session], bool]


def syntax(text: str, *, when: Condition | None = None) -> Callable[[FunctionT], FunctionT]:
    """Tell the form of a command, for HELP to show.

    Args:
        text: Such as ``"PING [text]"``.
        when: Who may use it. The session of anybody else is answered 502, and HELP does not show
            it the command.
    """

    def decorate(function: FunctionT) -> FunctionT:
        function.__dict__["smtp_syntax"] = text
        function.__dict__["smtp_when"] = when
        return function

    return decorate


def own_verbs(smtp_class: type) -> Mapping[str, str]:
    """The verbs that a class adds, each with its form; ``__`` in a method's name is ``-``."""
    verbs = {}
    for name in dir(smtp_class):
        verb = name.removeprefix(_PREFIX).replace("__", "-")
        if name.startswith(_PREFIX) and verb == verb.upper():
            verbs[verb] = getattr(getattr(smtp_class, name), "smtp_syntax", verb)
    return verbs


def conditions(smtp_class: type, verbs: Iterable[str]) -> Mapping[str, Condition]:
    """Of the verbs that a class adds, those that not every session may use."""
    methods = {verb: getattr(smtp_class, method_name(verb)) for verb in verbs}
    found = {verb: getattr(method, "smtp_when", None) for verb, method in methods.items()}
    return {verb: when for verb, when in found.items() if when is not None}


def method_name(verb: str) -> str:
    """The name of the method that answers ``verb``."""
    return _PREFIX + verb.replace("-", "__")


def own_mechanisms(owner: object) -> Mapping[str, str]:
    """The methods of a handler, or of a class, that are mechanisms: ``auth_X__NAME`` is X-NAME."""
    found = {}
    for name in dir(owner):
        method = getattr(owner, name, None) if name.startswith(_AUTH_PREFIX) else None
        mechanism = getattr(method, "auth_mechanism", name[len(_AUTH_PREFIX) :].replace("__", "-"))
        if callable(method) and MECHANISM_NAME.fullmatch(mechanism):
            found[mechanism] = name
    return found
