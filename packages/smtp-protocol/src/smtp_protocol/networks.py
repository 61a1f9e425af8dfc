"""Networks: which peers are one client, for limits that count by client."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

__all__ = ["client_network", "unmapped"]

# RFC 6052 §2.1: what a translator puts in front of an IPv4 address. All of them share one /64.
_TRANSLATED = IPv6Network("64:ff9b::/96")


def client_network(host: str, ipv6_prefix: int = 64) -> str:
    """Name the network that one client has for itself.

    A host with IPv4 has one address, one with IPv6 usually 2^64 of them (RFC 6177 §2): a limit by
    address is none for it.

    Args:
        host: An address, such as `Session.peer_host`.
        ipv6_prefix: How many bits of an IPv6 address tell clients apart; 1 to 128.

    Returns:
        An IPv4 address as it is, also where it came inside an IPv6 address (RFC 4291 §2.5.5.2,
        RFC 6052 §2.1); of another IPv6 address the network, such as ``2001:db8::/64``; anything
        else, such as a path, as it is.

    Raises:
        ValueError: There is no such prefix.
    """
    if not 1 <= ipv6_prefix <= 128:
        raise ValueError(f"the prefix of an IPv6 network has 1 to 128 bits, not {ipv6_prefix}")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    embedded = _embedded(address)
    return str(embedded or IPv6Network((int(address), ipv6_prefix), strict=False))


def unmapped(host: str) -> str:
    """The IPv4 address of a client that a dual-stack socket tells of as ``::ffff:192.0.2.1``.

    Args:
        host: An address; anything else, and any other address, comes back as it is.
    """
    if not host.startswith("::"):
        return host
    try:
        address = IPv6Address(host.partition("%")[0]).ipv4_mapped
    except ValueError:
        return host
    return host if address is None else str(address)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
