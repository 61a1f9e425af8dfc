"""Event loops: tests that are marked for it run on asyncio's and on uvloop's."""

import asyncio
import importlib.util
from collections.abc import Callable, Mapping

import pytest
from tests.server.secure import WIRES, Wire

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The loops that a test runs on: ``pytestmark = pytest.mark.asyncio(loop_factories=...)``."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    marker = item.get_closest_marker("asyncio")
    wanted = marker is not None and "loop_factories" in marker.kwargs
    # Where uvloop is not installed, the marker has the plugin skip the test.
    if wanted and importlib.util.find_spec("uvloop") is not None:
        factories["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return factories


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each way to a server."""
    return Wire(request.param)
