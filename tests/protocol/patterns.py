"""Patterns: every regular expression of a package, and what is looked at in each.

A pattern is deterministic if, at each place where it has a choice, the next character decides it.
Then a wrong choice fails at once, and matching takes time linear in the text, be it ever so
hostile: there is nothing to measure. `choices` finds the places where that is not so.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["choices", "compiled", "forbidden", "longest", "searched"]

# The parser of `re` itself, which has no public name. Its output is a list of (operator, argument).
_parser: Any = importlib.import_module("re._parser")
_MANY = int(_parser.MAXREPEAT)

# Characters that tell every set of characters in our patterns from every other; and the end.
_ALPHABET = frozenset({*range(256), 0x130, 0x131, 0x17F, 0x212A, 0x5B6B})
_END = frozenset({-1})
Characters = frozenset[int]

_BEYOND_ASCII = "ignores case beyond ASCII; write (?ai:...)"


def compiled(package: ModuleType) -> dict[str, re.Pattern[Any]]:
    """The patterns that the modules of a package have compiled, by module and name."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


def longest(pattern: re.Pattern[Any]) -> int:
    """The longest text that a pattern can match."""
    return int(_parser.parse(pattern.pattern, pattern.flags).getwidth()[1])


def choices(pattern: re.Pattern[Any]) -> list[str]:
    """What is not decided by one character in a pattern, and other things that it must not have."""
    found: list[str] = []
    parsed = _parser.parse(pattern.pattern, pattern.flags)
    unicode = isinstance(pattern.pattern, str)
    if unicode and pattern.flags & re.IGNORECASE:
        found.append(_BEYOND_ASCII)
    walk = _Walk(found, unicode)
    walk.first(parsed, _END, ignore_case=bool(pattern.flags & re.IGNORECASE))
    return found


class _Walk:
    """Goes through a parsed pattern from its end, with what may come next."""

    def __init__(self, found: list[str], unicode: bool) -> None:
        self._found = found
        self._unicode = unicode

    def first(self, items: Sequence[Any], then: Characters, *, ignore_case: bool) -> Characters:
        """The characters that ``items``, followed by one of ``then``, can begin with."""
        for operator, argument in reversed(list(items)):
            then = self._first(str(operator), argument, then, ignore_case)
        return then

    def _first(self, operator: str, argument: Any, then: Characters, fold: bool) -> Characters:
        match operator:
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY":
                return _set(operator, argument, fold)
            case "SUBPATTERN":
                _, added, _, inner = argument
                if self._unicode and added & re.IGNORECASE and not added & re.ASCII:
                    self._found.append(_BEYOND_ASCII)
                return self.first(inner, then, ignore_case=fold or bool(added & re.IGNORECASE))
            case "BRANCH":
                return self._branch(argument[1], then, fold)
            case "MAX_REPEAT":
                least, most, inner = argument
                return self._repeat(int(least), int(most), inner, then, fold)
            case "AT":
                return _END if "END" in str(argument) else then
            case "ASSERT" | "ASSERT_NOT":
                return then | self.first(argument[1], _END, ignore_case=fold)
        self._found.append(f"{operator} is not to be used")
        return then

    def _branch(self, branches: Sequence[Any], then: Characters, fold: bool) -> Characters:
        all_of_them: Characters = frozenset()
        for branch in branches:
            begins = self.first(branch, then, ignore_case=fold)
            self._disjoint(begins, all_of_them, "two alternatives")
            all_of_them |= begins
        return all_of_them

    def _repeat(
        self, least: int, most: int, inner: Any, then: Characters, fold: bool
    ) -> Characters:
        # What begins it, on its own; -1 in it would be a body that can be empty.
        begins = _Walk([], self._unicode).first(inner, _END, ignore_case=fold)
        if -1 in begins:
            self._found.append("what is repeated can be empty")
        if least != most:
            self._disjoint(begins, then, "a repetition and what follows it")
        self.first(inner, then | (begins if most > 1 else frozenset()), ignore_case=fold)
        return begins if least else begins | then

    def _disjoint(self, one: Characters, other: Characters, what: str) -> None:
        if one & other:
            common = "".join(map(chr, sorted((one & other) - _END)))
            self._found.append(f"{what} can both begin with one of {common!r}")


def _set(operator: str, argument: Any, fold: bool) -> Characters:
    match operator:
        case "ANY":
            return _ALPHABET
        case "LITERAL":
            found = {argument}
        case "NOT_LITERAL":
            found = set(_ALPHABET) - {argument}
        case _:
            found = {c for c in _ALPHABET if any(_in(c, *item) for item in argument)}
            if str(argument[0][0]) == "NEGATE":
                found = set(_ALPHABET) - {
                    c for c in _ALPHABET if any(_in(c, *item) for item in argument[1:])
                }
    if fold:
        found |= {ord(chr(c).swapcase()) for c in found if chr(c).isascii()}
    return frozenset(found)


def _in(character: int, kind: Any, argument: Any) -> bool:
    match str(kind):
        case "LITERAL":
            return bool(character == argument)
        case "RANGE":
            return bool(argument[0] <= character <= argument[1])
        case "NEGATE":
            return False
    raise AssertionError(f"{kind} depends on what Unicode knows; write the characters")


# Source code.

_FORBIDDEN = re.compile(r"[*+?}]\+|\(\?>")
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")


def forbidden(path: Path) -> list[str]:
    """The texts of a file with ``re`` that have possessive quantifiers or atomic groups."""
    tree = ast.parse(path.read_text("utf-8"))
    if not any(
        isinstance(node, ast.Import) and any(alias.name == "re" for alias in node.names)
        for node in ast.walk(tree)
    ):
        return []
    return [text for text in _texts(tree) if _FORBIDDEN.search(_simplified(text))]


def _simplified(text: str) -> str:
    """The text without escaped characters and without sets, in which all stands for itself."""
    return _CLASS.sub("x", re.sub(r"\\.", "x", text, flags=re.DOTALL))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values
            ]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def searched(path: Path) -> set[str]:
    """The names of what a file searches texts for, and does not match from a known place."""
    return {
        ast.unparse(node.value).rpartition(".")[2]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("search", "sub", "subn", "split", "finditer", "findall")
        and isinstance(node.value, ast.Name | ast.Attribute)
    }
