"""Event loops: asyncio's, uvloop's, and one that skips the time in which nothing happens."""

import asyncio
import importlib.util
import shutil
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.handlers.relay.clock import SkippingLoop
from tests.handlers.upstreams import make_certificate

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The loops that a test runs on: ``pytestmark = pytest.mark.asyncio(loop_factories=...)``."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        factories["skipping"] = SkippingLoop
        # Where uvloop is not installed, the marker has the plugin skip the test.
        if importlib.util.find_spec("uvloop") is not None:
            factories["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return factories


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    """What a server with it needs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """What a client that trusts it needs."""
    return ssl.create_default_context(cafile=certificate)
