"""Fields: to read or to write a header field never fails and costs little, whoever wrote it."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from email.errors import InvalidHeaderDefect, MessageDefect
from email.headerregistry import AddressHeader, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.policy import Policy
from itertools import groupby
from typing import Any, ClassVar, Protocol

__all__: list[str] = []

# What it may cost to take the fields of one message apart, in nanoseconds on a usual machine. It is
# enough for some 900 recipients with their names.
_MAX_COST = 1_500_000_000

# Octets in one encoded word: with its frame it is far shorter than 75 (RFC 2047 §2).
_ENCODED_AT_ONCE = 30

_WORD = re.compile(r"[ \t]*[^ \t]+|[ \t]+$")
# What parts a structured field.
_SPECIALS = ' \t,;:.@<>[]"\\'

_LINE_END = re.compile(r"[\r\n]+")
# What ends a line somewhere, and what cannot be written.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_NO_TREE = UnstructuredHeader.value_parser("")

#: Makes a field from its name and its value, as `email.headerregistry.HeaderRegistry` does.
Factory = Callable[[str, Any], BaseHeader]


class _Kind(Protocol):
    """What the email package asks of a kind of field."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None: ...


class Sent(BaseHeader):
    """A field that came with the message, and is written again with the words that it came with.

    The email package writes a long line anew from what it understood of it, which can fail, and can
    take very long.
    """

    #: The value that came, in one line.
    sent: str

    def init(self, name: str, *, parse_tree: Any, defects: Iterable[MessageDefect]) -> None:
        """Keep what the field needs: of a long list the parse tree would be megabytes."""
        # Those of MIME look into it later, and are short.
        needless = isinstance(self, UnstructuredHeader | AddressHeader)
        super().init(name, parse_tree=_NO_TREE if needless else parse_tree, defects=defects)

    def fold(self, *, policy: Policy) -> str:
        """Write the field."""
        return _folded(self.name, _sent_words(self.sent), policy)


class Unread:
    """Mixed into a kind of field: one that was not taken apart. Its value is what came.

    For the rest it is as an empty field: ``addresses`` is ``()`` and ``datetime`` is ``None``.
    """

    kind: ClassVar[type[_Kind]] = UnstructuredHeader
    reasons: ClassVar[tuple[MessageDefect, ...]] = ()

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        """Do for `BaseHeader` what every kind of field does."""
        cls.kind.parse("", kwds)
        kwds.update(decoded=value, defects=list(cls.reasons))


class Plain(Unread, UnstructuredHeader, Sent):
    """A field without structure, whose value is no other than the text that came."""


class Literal(Unread, UnstructuredHeader, BaseHeader):
    """A field whose value is this text; what looks like an encoded word is none."""

    def fold(self, *, policy: Policy) -> str:
        """Write the field in such a way that the same text is read."""
        text = str(self)
        plain = _is_plain(text) and text == text.strip()
        return _folded(self.name, _words(text) if plain else _encoded_words(text), policy)

    def __reduce__(self) -> tuple[Callable[[str, str], Literal], tuple[str, str]]:
        """Copy and pickle as a `Literal`, and not as something made of its bases."""
        return Literal, (self.name, str(self))


def envelope_field(name: str, text: str) -> Literal:
    """Make a field of what the server knows.

    Args:
        name: The name of the field.
        text: Its value. Control characters and line ends are escaped.
    """
    return Literal(name, _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text))


class Fields:
    """Makes the fields of one message, in the place of the policy's ``header_factory``.

    What the email package cannot read, or only at great cost, is `Unread`. A field that was read
    is kept: to read it again costs nothing.

    Args:
        factory: The policy's own. What it makes is used as it is, unless it is the usual one.
    """

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._usual = type(factory) is HeaderRegistry
        self._kinds = factory if isinstance(factory, HeaderRegistry) else HeaderRegistry()
        self._read: dict[tuple[str, str], BaseHeader] = {}
        self._reading = True
        self._cost = 0

    def __getitem__(self, name: str) -> type[BaseHeader]:
        """The class of the fields of this name."""
        return self._kinds[name]

    def __call__(self, name: str, value: object) -> BaseHeader:
        """Make a field, of what came or of what the application sets."""
        if not isinstance(value, str) or not _can_come(value):
            return self._factory(name, value)
        # To read a field, the email package drops fewer line ends than to write it.
        key = (name, "".join(value.splitlines()))
        field = self._read.get(key)
        if field is None:
            field = self._make(name, value)
            if self._reading:
                self._read[key] = field
        return field

    def __reduce__(self) -> tuple[Callable[[Factory], Fields], tuple[Factory]]:
        """Copy and pickle without what was read."""
        return _copied, (self._factory,)

    def finish(self) -> None:
        """All that came was read: fields are kept no longer, and each has a cost for itself."""
        self._reading = False

    def _make(self, name: str, value: str) -> BaseHeader:
        kind = self[name]
        if issubclass(kind, UnstructuredHeader) and _is_plain(value):
            return _made(Plain, name, value, value)
        self._cost = _cost(value) + (self._cost if self._reading else 0)
        if self._cost > _MAX_COST:
            return _unread(kind, name, value, value, "It is too complex")
        try:
            field = self._parse(kind, name, value)
            text = str(field)
        except Exception as error:
            return _unread(kind, name, value, value, f"It cannot be read: {error!r}")
        if _LINE_END.search(text):
            return _unread(kind, name, _LINE_END.sub(" ", text), value, "A line ends inside it")
        return field

    def _parse(self, kind: type[BaseHeader], name: str, value: str) -> BaseHeader:
        if not self._usual or kind.__bases__[-1] is not BaseHeader:
            return self._factory(name, value)
        return _made(type(kind.__name__, (*kind.__bases__[:-1], Sent), {}), name, value, value)


def _copied(factory: Factory) -> Fields:
    fields = Fields(factory)
    fields.finish()
    return fields


def _made(kind: type[Sent], name: str, value: str, sent: str) -> Sent:
    field = kind(name, value)
    field.sent = sent
    return field


def _unread(kind: type[BaseHeader], name: str, value: str, sent: str, reason: str) -> Sent:
    bases = (Unread, *(base for base in kind.__bases__ if base is not BaseHeader), Sent)
    reasons = (InvalidHeaderDefect(reason),)
    return _made(type("Unread", bases, {"kind": kind, "reasons": reasons}), name, value, sent)


def _cost(value: str) -> int:
    """How many nanoseconds the email package may need for ``value``, or somewhat more.

    It was measured: some things cost it time that grows with the square of their number.
    """
    specials = sum(map(value.count, _SPECIALS))
    words, comments = value.count("=?"), value.count("(")
    return 50_000 + len(value) * (8_000 + 3 * specials + 8 * words + 35 * comments)


def _can_come(value: str) -> bool:
    """Whether ``value`` can be what came: ASCII, and what the parser makes of other octets."""
    try:
        value.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(text: str) -> bool:
    """Whether the email package reads ``text`` as it is, wherever there is no structure."""
    return text.isascii() and text.replace("\t", " ").isprintable() and "=?" not in text


def _folded(name: str, words: Iterable[str], policy: Policy) -> str:
    """Write a field, in lines that are as short as the policy wants them if the words are."""
    lines = [f"{name}: "]
    longest = policy.max_line_length or sys.maxsize
    for number, word in enumerate(words):
        if number and len(lines[-1]) + len(word) > longest:
            lines.append(word)
        else:
            lines[-1] += word
    return policy.linesep.join([*lines, ""])


def _words(text: str) -> Iterator[str]:
    """The words of ``text``, each with the spaces before it."""
    return (match[0] for match in _WORD.finditer(text))


def _sent_words(value: str) -> Iterator[str]:
    """The words of what came; those with other octets than ASCII are encoded."""
    for is_ascii, words in groupby(_words("".join(value.splitlines())), str.isascii):
        if is_ascii:
            yield from words
            continue
        # Those that stand together are encoded together: a reader drops the spaces between.
        text = "".join(words)
        start = len(text) - len(text.lstrip(" \t"))
        octets = text[start:].encode("ascii", "surrogateescape")
        for number, word in enumerate(_encoded_words(octets.decode("utf-8", "replace"))):
            yield word if number else text[:start] + word


def _encoded_words(text: str) -> Iterator[str]:
    """Write ``text`` in encoded words, between which a reader drops the spaces."""
    octets = text.encode("utf-8", "replace")
    start = 0
    while start < len(octets):
        end = start + _ENCODED_AT_ONCE
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1  # not inside a character
        space = " " if start else ""
        yield f"{space}=?utf-8?b?{b64encode(octets[start:end]).decode()}?="
        start = end
