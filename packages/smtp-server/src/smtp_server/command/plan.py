"""Plan: what command line, environment and file say together, each before those behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from smtp_server.command.options import Values
from smtp_server.command.places import Place
from smtp_server.command.sources import Source

__all__: list[str] = []


class Way(NamedTuple):
    """One way in: where it is, and all that holds there."""

    place: Place
    values: Values

    def same_rules(self, other: Way) -> bool:
        """Whether two ways differ in nothing but where they are."""
        return (self.place.scheme, self.values) == (other.place.scheme, other.values)


class Plan(NamedTuple):
    """What is to be run: what holds for the process, and the ways in."""

    values: Values
    ways: Sequence[Way]


def merge(*sources: Source) -> Plan:
    """Make a plan of sources; each goes before those that stand before it.

    The places to listen are those of the last source that has any. What one of them says of its
    own goes before what its source, or one that stands before that, says of all.
    """
    values = Values()
    for source in sources:
        values |= source.values
    number, places = 0, _nowhere()
    for index, source in enumerate(sources):
        if source.places:
            number, places = index, source.places
    ways = [Way(place, _values_at(own, sources, number)) for place, own in places]
    return Plan(values, ways)


def _nowhere() -> Sequence[tuple[Place, Mapping[str, object]]]:
    return [(Place(), {})]


def _values_at(own: Mapping[str, object], sources: Sequence[Source], number: int) -> Values:
    values = Values()
    for index, source in enumerate(sources):
        values |= source.values
        if index == number:
            values |= own
    return values
