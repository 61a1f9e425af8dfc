"""PROXY header: the value that a handler gets."""

from ipaddress import IPv4Address

from smtp_protocol import ProxyData


def test_defaults() -> None:
    data = ProxyData(version=1)
    assert not data.local
    assert (data.src_addr, data.dst_addr, data.src_port, data.dst_port) == (None,) * 4
    assert (data.tlvs, data.peer) == ({}, None)


def test_values_share_nothing() -> None:
    first = ProxyData(version=2, src_addr=IPv4Address("192.0.2.1"), src_port=0)
    assert first.tlvs is not ProxyData(version=2).tlvs
    assert first == ProxyData(version=2, src_addr=IPv4Address("192.0.2.1"), src_port=0)
