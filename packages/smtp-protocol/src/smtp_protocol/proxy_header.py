"""PROXY header: what a proxy in front of the server says of the client (PROXY protocol §2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

__all__ = ["ProxyData"]

ProxyAddress = IPv4Address | IPv6Address | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyData:
    """One PROXY header.

    Args:
        version: 1 (text) or 2 (binary).
        local: Whether the proxy speaks for itself (a health check), and not for a client.
        src_addr: The client's address; a path for a Unix socket, ``None`` when not told.
        dst_addr: The address that the client connected to.
        src_port: The client's port, ``None`` for a Unix socket.
        dst_port: The port that the client connected to.
        tlvs: The type-length-value fields of version 2, by type.
        peer: The address and port of the proxy itself.
    """

    version: int
    local: bool = False
    src_addr: ProxyAddress | None = None
    dst_addr: ProxyAddress | None = None
    src_port: int | None = None
    dst_port: int | None = None
    tlvs: Mapping[int, bytes] = field(default_factory=dict)
    peer: tuple[str, int] | str | None = None
