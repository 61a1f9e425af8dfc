"""Proxy: the header that comes before everything else is read, and not one octet more."""

import asyncio

import pytest
from tests.server.fakes import FakeLoop, FakeTransport

from smtp_protocol import ProxyHeaderError
from smtp_server.proxy import HeaderReader


def test_not_one_octet_behind_the_header_is_taken(loop: FakeLoop) -> None:
    transport = FakeTransport()
    transport.set_protocol(before := asyncio.Protocol())
    reader = HeaderReader(transport, loop)
    assert transport.get_protocol() is reader
    for octet in b"PROXY UNKNOWN\r\n":
        assert transport.is_reading()
        assert len(reader.get_buffer(-1)) > 0
        reader.get_buffer(-1)[:1] = bytes([octet])
        reader.buffer_updated(1)
    assert not transport.is_reading()
    reader.buffer_updated(1)
    assert loop.complete(reader.read(1)).version == 1
    assert transport.get_protocol() is before


def test_no_header_in_time(loop: FakeLoop) -> None:
    reader = HeaderReader(FakeTransport(), loop)
    with pytest.raises(ProxyHeaderError, match=r"within 2\.5 seconds"):
        loop.complete(reader.read(2.5))
    assert loop.time() == 2.5


@pytest.mark.parametrize("way", ["end", "loss", "rubbish"])
def test_what_is_no_header(loop: FakeLoop, way: str) -> None:
    reader = HeaderReader(FakeTransport(), loop)
    match way:
        case "end":
            reader.eof_received()
            reader.connection_lost(None)
        case "loss":
            reader.connection_lost(ConnectionResetError())
        case "rubbish":
            reader.get_buffer(-1)[:4] = b"EHLO"
            reader.buffer_updated(4)
            reader.eof_received()
    with pytest.raises(ProxyHeaderError):
        loop.complete(reader.read(1))
    assert loop.time() == 0
