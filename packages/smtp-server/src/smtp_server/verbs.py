"""Verbs: what methods add by their names: ``smtp_VERB`` a command, ``auth_MECH`` a mechanism."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from smtp_protocol.auth import MECHANISM_NAME

__all__ = ["syntax"]

_PREFIX = "smtp_"
_AUTH_PREFIX = "auth_"

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def syntax(text: str) -> Callable[[FunctionT], FunctionT]:
    """Tell the form of a command, for HELP to show.

    Args:
        text: Such as ``"PING [text]"``.
    """

    def decorate(function: FunctionT) -> FunctionT:
        function.__dict__["smtp_syntax"] = text
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
