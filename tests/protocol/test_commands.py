"""Commands and events: a closed union of values that cannot change."""

import dataclasses
from typing import Any, get_args

import pytest

from smtp_protocol import Command, Event, commands, events
from smtp_protocol.events import Signal


def test_the_union_has_every_command() -> None:
    exported = {getattr(commands, name) for name in commands.__all__} - {Command}
    assert set(get_args(Command)) == exported


def test_the_union_has_every_event() -> None:
    exported = {getattr(events, name) for name in events.__all__}
    exported -= {Event, Signal, *Signal}
    assert set(get_args(Event)) == exported | set(get_args(Command))


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_events_are_frozen_and_slotted(kind: Any) -> None:
    event = kind(*[None for _ in dataclasses.fields(kind)])
    assert not hasattr(event, "__dict__")
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, "other")
    assert event == kind(*[None for _ in dataclasses.fields(kind)])
