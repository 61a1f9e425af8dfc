"""Networks: the peers that a server trusts, by address."""

from collections.abc import Collection
from ipaddress import ip_address, ip_network

from smtp_protocol.session import Peer

__all__: list[str] = []

#: The name of every peer that comes over a Unix socket.
UNIX = "unix"


class Networks:
    """Some networks.

    Args:
        names: Networks or addresses (``"10.0.0.0/8"``, ``"::1"``), and ``"unix"`` for Unix sockets.

    Raises:
        ValueError: A name is none of these.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._unix = UNIX in names
        self._networks = []
        for name in names:
            if name == UNIX:
                continue
            try:
                self._networks.append(ip_network(name))
            except ValueError as error:
                raise ValueError(f"{name!r} is no network: {error}") from None

    def __contains__(self, peer: Peer) -> bool:
        if not isinstance(peer, tuple):
            return self._unix
        if not self._networks:
            return False
        address = ip_address(peer[0].partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
