"""Event loops: a fake one, and for the tests that are marked for it asyncio's and uvloop's."""

import asyncio
import importlib.util
from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.server.fakes import FakeLoop
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


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLoop]:
    """An event loop that a test turns by hand; idle time is measured by its clock."""
    loop = FakeLoop()
    for module in ("link", "conversation", "smtp"):
        monkeypatch.setattr(f"smtp_server.{module}.monotonic", loop.time, raising=False)
    yield loop
    loop.close()
