"""PROXY header: what a proxy in front of the server says of the client, octets in, value out.

The rules are those of HAProxy's "The PROXY protocol, versions 1 and 2", §2.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from smtp_protocol.replies import printable

__all__ = ["ProxyData", "ProxyHeaderError", "ProxyHeaderReader"]

ProxyAddress = IPv4Address | IPv6Address | str

# §2.1: a version 1 header is at most 107 characters, its CR LF included.
_MAX_V1 = 107
_V1_SIGNATURE = b"PROXY"
_V1_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")

# §2.2: what SMTP, HTTP and others cannot begin with.
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_PREFIX = 16
_TLV_CRC32C = 0x03
_LOCAL, _PROXY = 0, 1
# Family in the high four bits, transport in the low ones: 0 unspecified, 1 stream, 2 datagram.
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_UNIX_PATH = 108


class ProxyHeaderError(ValueError):
    """The connection does not begin with a PROXY header. Close it without a word (§2)."""


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
        tlvs: The type-length-value fields of version 2, by type; of a repeated one the last.
        peer: The address and port of the proxy itself, when the server has told it.
    """

    version: int
    local: bool = False
    src_addr: ProxyAddress | None = None
    dst_addr: ProxyAddress | None = None
    src_port: int | None = None
    dst_port: int | None = None
    tlvs: Mapping[int, bytes] = field(default_factory=dict)
    peer: tuple[str, int] | str | None = None


class ProxyHeaderReader:
    """Reads the header with which a connection begins.

    Attributes:
        rest: What came behind the header, once it is complete.
    """

    def __init__(self) -> None:
        self._received = b""
        self.rest: bytes = b""

    @property
    def wanted(self) -> int:
        """How many octets can be read next that surely belong to the header."""
        received = len(self._received)
        if received < len(_V2_SIGNATURE):
            return len(_V2_SIGNATURE) - received
        if not self._received.startswith(_V2_SIGNATURE):
            return 1
        if received < _V2_PREFIX:
            return _V2_PREFIX - received
        return max(1, _V2_PREFIX + self._length() - received)

    def receive_data(self, octets: bytes) -> ProxyData | None:
        """Take what came.

        Returns:
            The header; ``None`` while it is incomplete.

        Raises:
            ProxyHeaderError: It is no PROXY header.
        """
        self._received += octets
        start = self._received[: len(_V2_SIGNATURE)]
        if start == _V2_SIGNATURE:
            return self._read_v2()
        if start.startswith(_V1_SIGNATURE):
            return self._read_v1()
        if _V2_SIGNATURE.startswith(start) or _V1_SIGNATURE.startswith(start):
            return None
        raise ProxyHeaderError("no PROXY signature")

    def _read_v1(self) -> ProxyData | None:
        line, end, _ = self._received[:_MAX_V1].partition(b"\r\n")
        if b"\n" in line or not (end or len(self._received) < _MAX_V1):
            raise ProxyHeaderError("the version 1 header does not end")
        if not end:
            return None
        self.rest = self._received[len(line) + 2 :]
        try:
            return _parse_v1(line.decode("ascii"))
        except ValueError as error:
            raise ProxyHeaderError(f"malformed version 1 header: {error}") from None

    def _read_v2(self) -> ProxyData | None:
        if len(self._received) < _V2_PREFIX:
            return None
        end = _V2_PREFIX + self._length()
        if len(self._received) < end:
            return None
        header, self.rest = self._received[:end], self._received[end:]
        try:
            return _parse_v2(header)
        except (ValueError, struct.error) as error:
            raise ProxyHeaderError(f"malformed version 2 header: {error}") from None

    def _length(self) -> int:
        """How many octets follow the first 16 of a version 2 header."""
        return int.from_bytes(self._received[14:_V2_PREFIX])


def _parse_v1(line: str) -> ProxyData:
    match line.split(" "):
        case ["PROXY", "UNKNOWN", *_]:
            return ProxyData(version=1)
        case ["PROXY", "TCP4" | "TCP6" as family, src, dst, src_port, dst_port]:
            address = IPv4Address if family == "TCP4" else IPv6Address
            if "%" in line:
                raise ValueError("a scope is no part of an address here")
            return ProxyData(
                version=1,
                src_addr=address(src),
                dst_addr=address(dst),
                src_port=_port(src_port),
                dst_port=_port(dst_port),
            )
    raise ValueError("not of the form PROXY TCP4|TCP6|UNKNOWN ...")


def _port(text: str) -> int:
    if not _V1_NUMBER.fullmatch(text) or int(text) > 65535:
        raise ValueError("not a port")
    return int(text)


def _parse_v2(header: bytes) -> ProxyData:
    version, command = divmod(header[12], 16)
    family, transport = divmod(header[13], 16)
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise ValueError("unknown version or command")
    if family > _UNIX or transport > 2:
        raise ValueError("unknown family or transport")
    if command == _LOCAL:
        # §2.2: the receiver must discard the rest, addresses included.
        return ProxyData(version=2, local=True)
    if family == _UNSPEC:
        return ProxyData(version=2)
    addresses = _ADDRESSES[family]
    fields = addresses.unpack_from(header, _V2_PREFIX)
    tlvs = _parse_tlvs(header, _V2_PREFIX + addresses.size)
    if family == _UNIX:
        src, dst = map(_path, fields)
        return ProxyData(version=2, src_addr=src, dst_addr=dst, tlvs=tlvs)
    address = IPv4Address if family == _INET else IPv6Address
    return ProxyData(
        version=2,
        src_addr=address(fields[0]),
        dst_addr=address(fields[1]),
        src_port=fields[2],
        dst_port=fields[3],
        tlvs=tlvs,
    )


def _path(field: bytes) -> str:
    # A path is any octets, and an abstract one begins with NUL. It goes into logs: what cannot be
    # decoded or shown is escaped.
    return printable(field.rstrip(b"\0").decode("utf-8", "backslashreplace"), utf8=True)


_ADDRESSES: Final = {
    _INET: struct.Struct("!4s4sHH"),
    _INET6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct(f"!{_UNIX_PATH}s{_UNIX_PATH}s"),
}


def _parse_tlvs(header: bytes, position: int) -> dict[int, bytes]:
    tlvs = {}
    while position < len(header):
        kind, length = struct.unpack_from("!BH", header, position)
        position += 3
        tlvs[kind] = header[position : position + length]
        if len(tlvs[kind]) < length:
            raise ValueError("a field is longer than the header")
        if kind == _TLV_CRC32C:
            # §2.2.4: the checksum is made over the header with zeros in its own place.
            blank = header[:position] + bytes(length) + header[position + length :]
            if crc32c(blank).to_bytes(4) != tlvs[kind]:
                raise ValueError("the checksum is wrong")
        position += length
    return tlvs


def crc32c(octets: bytes) -> int:
    """The CRC-32C of RFC 3309, which `zlib` does not have. Headers are short."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
