"""PROXY header: versions 1 and 2, wherever the segments were cut, and what is none."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import ProxyData, ProxyHeaderError, ProxyHeaderReader
from smtp_protocol.proxy_header import crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.25")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
LONGEST = "PROXY TCP6 {0} {0} 65535 65535".format(":".join(["ffff"] * 8))


def v1(line: str) -> bytes:
    return f"{line}\r\n".encode()


def v2(command: int, family: int, payload: bytes, *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(header: bytes) -> bytes:
    """The header with the right checksum in its last four octets."""
    return header[:-4] + crc32c(header).to_bytes(4)


def read(*segments: bytes) -> tuple[ProxyData | None, bytes]:
    """What the segments say, and what is behind it."""
    reader = ProxyHeaderReader()
    segments_ = list(segments)
    while segments_:
        data = reader.receive_data(segments_.pop(0))
        if data is not None:
            return data, reader.rest + b"".join(segments_)
    return None, b""


INET = A4.packed + B4.packed + struct.pack("!HH", 40000, 25)
INET6 = A6.packed + B6.packed + struct.pack("!HH", 40000, 25)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b\xff".ljust(108, b"\0")
TCP4 = ProxyData(version=2, src_addr=A4, dst_addr=B4, src_port=40000, dst_port=25)
TCP6 = ProxyData(version=2, src_addr=A6, dst_addr=B6, src_port=40000, dst_port=25)
PATHS = ProxyData(version=2, src_addr="/run/a", dst_addr="/run/b\\xff")

RIGHT: list[tuple[bytes, ProxyData]] = [
    (
        v1("PROXY TCP4 192.0.2.1 198.51.100.25 40000 25"),
        ProxyData(version=1, src_addr=A4, dst_addr=B4, src_port=40000, dst_port=25),
    ),
    (
        v1("PROXY TCP6 2001:db8::1 2001:db8::2 40000 25"),
        ProxyData(version=1, src_addr=A6, dst_addr=B6, src_port=40000, dst_port=25),
    ),
    (
        v1("PROXY TCP4 192.0.2.1 198.51.100.25 0 65535"),
        ProxyData(version=1, src_addr=A4, dst_addr=B4, src_port=0, dst_port=65535),
    ),
    (
        v1(LONGEST),
        ProxyData(
            version=1,
            src_addr=IPv6Address(2**128 - 1),
            dst_addr=IPv6Address(2**128 - 1),
            src_port=65535,
            dst_port=65535,
        ),
    ),
    (v1("PROXY UNKNOWN"), ProxyData(version=1)),
    (v1("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535"), ProxyData(version=1)),
    (v1("PROXY UNKNOWN " + "x" * (105 - 14)), ProxyData(version=1)),
    (v2(0x21, 0x11, INET), TCP4),
    (v2(0x21, 0x12, INET), TCP4),
    (v2(0x21, 0x21, INET6), TCP6),
    (v2(0x21, 0x22, INET6), TCP6),
    (v2(0x21, 0x31, UNIX), PATHS),
    (v2(0x21, 0x32, UNIX), PATHS),
    (v2(0x20, 0x00, b""), ProxyData(version=2, local=True)),
    # What stands behind LOCAL is not looked at.
    (v2(0x20, 0x11, INET), ProxyData(version=2, local=True)),
    (v2(0x20, 0x00, b"\1\xff\xff"), ProxyData(version=2, local=True)),
    (v2(0x21, 0x00, b""), ProxyData(version=2)),
    (v2(0x21, 0x00, b"whatever"), ProxyData(version=2)),
]


@pytest.mark.parametrize(("header", "expected"), RIGHT)
@pytest.mark.parametrize("behind", [b"", b"EHLO c\r\n", SIGNATURE, b"PROXY UNKNOWN\r\n"])
def test_headers(header: bytes, expected: ProxyData, behind: bytes) -> None:
    whole = header + behind
    assert read(whole) == (expected, behind)
    assert read(*(bytes([octet]) for octet in whole)) == (expected, behind)
    for cut in (1, 5, 12, 16, len(header) - 1, len(header)):
        assert read(whole[:cut], whole[cut:]) == (expected, behind)


@pytest.mark.parametrize("header", [header for header, _ in RIGHT])
def test_incomplete(header: bytes) -> None:
    assert read(*(bytes([octet]) for octet in header[:-1])) == (None, b"")
    assert read(b"") == (None, b"")


@pytest.mark.parametrize("header", [header for header, _ in RIGHT])
def test_what_is_wanted_is_of_the_header(header: bytes) -> None:
    # Who reads only so much takes nothing from the protocol behind the header.
    reader, left, steps = ProxyHeaderReader(), header + b"EHLO c\r\n", 0
    while True:
        wanted = reader.wanted
        assert wanted > 0
        data, left, steps = reader.receive_data(left[:wanted]), left[wanted:], steps + 1
        if data is not None:
            break
    assert (left, reader.rest) == (b"EHLO c\r\n", b"")
    assert steps < 4 or header.startswith(b"PROXY")


def test_tlvs() -> None:
    fields = tlv(0x01, b"h2") + tlv(0x02, b"mx.example") + tlv(0x04, b"") + tlv(0x02, b"other")
    for family, address in ((0x11, INET), (0x21, INET6), (0x31, UNIX)):
        data, _ = read(v2(0x21, family, address + fields))
        assert data is not None
        assert data.tlvs == {0x01: b"h2", 0x02: b"other", 0x04: b""}


def test_checksum() -> None:
    header = v2(0x21, 0x11, INET + tlv(0x02, b"mx") + tlv(0x03, bytes(4)))
    data, _ = read(checked(header))
    assert data is not None
    assert set(data.tlvs) == {0x02, 0x03}
    with pytest.raises(ProxyHeaderError, match="checksum"):
        read(header)
    broken = bytearray(checked(header))
    broken[20] ^= 1
    with pytest.raises(ProxyHeaderError, match="checksum"):
        read(bytes(broken))


@pytest.mark.parametrize("value", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_a_checksum_has_four_octets(value: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="checksum"):
        read(v2(0x21, 0x11, INET + tlv(0x03, value)))


@pytest.mark.parametrize(
    ("octets", "checksum"),
    [
        # RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c(octets: bytes, checksum: int) -> None:
    assert crc32c(octets) == checksum


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO c\r\n",
        b"\0",
        b"\x16\x03\x01",
        b" PROXY UNKNOWN\r\n",
        b"proxy UNKNOWN\r\n",
        b"PROXX UNKNOWN\r\n",
        b"PROXYUNKNOWN\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY  UNKNOWN\r\n",
        b"PROXY unknown\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 ٣\r\n".encode(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nEHLO c\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN\nEHLO c\r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        v1("PROXY UNKNOWN " + "x" * (106 - 14)),
        b"PROXY UNKNOWN " + b"x" * 1000,
        SIGNATURE[:11] + b"\r",
        v2(0x31, 0x11, INET),
        v2(0x11, 0x11, INET),
        v2(0x22, 0x11, INET),
        v2(0x2F, 0x11, INET),
        v2(0x21, 0x41, INET),
        v2(0x21, 0x13, INET),
        v2(0x21, 0x11, INET[:-1]),
        v2(0x21, 0x11, b""),
        v2(0x21, 0x21, INET),
        v2(0x21, 0x31, INET),
        v2(0x21, 0x11, INET + b"\1"),
        v2(0x21, 0x11, INET + b"\1\0"),
        v2(0x21, 0x11, INET + b"\1\0\2x"),
        v2(0x21, 0x11, INET + tlv(1, b"x") + b"\1\xff\xff"),
    ],
)
def test_no_header(header: bytes) -> None:
    for segments in ([header], [bytes([octet]) for octet in header]):
        with pytest.raises(ProxyHeaderError):
            read(*segments)


def test_a_length_beyond_the_data() -> None:
    assert read(v2(0x21, 0x11, INET, length=len(INET) + 1)) == (None, b"")


def test_defaults() -> None:
    data = ProxyData(version=1)
    assert not data.local
    assert (data.src_addr, data.dst_addr, data.src_port, data.dst_port) == (None,) * 4
    assert (data.tlvs, data.peer) == ({}, None)


def test_values_share_nothing() -> None:
    first = ProxyData(version=2, src_addr=IPv4Address("192.0.2.1"), src_port=0)
    assert first.tlvs is not ProxyData(version=2).tlvs
    assert first == ProxyData(version=2, src_addr=IPv4Address("192.0.2.1"), src_port=0)


# Round trips: a header written from a value reads as that value.


def write(data: ProxyData) -> bytes:
    """The header that says so, of any version."""
    ports = struct.pack("!HH", data.src_port or 0, data.dst_port or 0)
    match data.src_addr, data.dst_addr:
        case None, None if data.version == 1:
            return v1("PROXY UNKNOWN")
        case None, None:
            return v2(0x20 if data.local else 0x21, 0, b"")
        case (IPv4Address() | IPv6Address()) as src, (IPv4Address() | IPv6Address()) as dst:
            if data.version == 1:
                return v1(f"PROXY TCP{src.version} {src} {dst} {data.src_port} {data.dst_port}")
            family, payload = 0x11 if src.version == 4 else 0x21, src.packed + dst.packed + ports
        case str(src), str(dst):
            family = 0x31
            payload = src.encode().ljust(108, b"\0") + dst.encode().ljust(108, b"\0")
        case _:
            raise AssertionError(data)
    return v2(0x21, family, payload + b"".join(tlv(*field) for field in data.tlvs.items()))


PORTS = st.integers(0, 65535)
TLVS = st.dictionaries(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=20))
PATH = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=25)


def proxied(version: int) -> st.SearchStrategy[ProxyData]:
    def of(family: Literal[4, 6]) -> st.SearchStrategy[ProxyData]:
        return st.builds(
            ProxyData,
            version=st.just(version),
            src_addr=st.ip_addresses(v=family),
            dst_addr=st.ip_addresses(v=family),
            src_port=PORTS,
            dst_port=PORTS,
            tlvs=TLVS if version == 2 else st.just({}),
        )

    return of(4) | of(6)


DATA = st.one_of(
    proxied(1),
    proxied(2),
    st.builds(ProxyData, version=st.just(2), src_addr=PATH, dst_addr=PATH, tlvs=TLVS),
    st.builds(ProxyData, version=st.sampled_from([1, 2])),
    st.builds(ProxyData, version=st.just(2), local=st.just(True)),
)


@given(DATA, st.binary(max_size=20), st.lists(st.integers(0, 300), max_size=3))
def test_reads_what_was_written(data: ProxyData, behind: bytes, cuts: list[int]) -> None:
    wire = write(data) + behind
    cuts = sorted(min(cut, len(wire)) for cut in cuts)
    segments = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(*segments) == (data, behind)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/run/x", "/run/x"),
        ("/run/ü".encode(), "/run/ü"),
        (b"/run/\xff", "/run/\\xff"),
        (b"\0abstract", "\\x00abstract"),
        (b"/a\r\nb\x1b\x7f", "/a\\x0d\\x0ab\\x1b\\x7f"),
        ("/a\x85\u2028\u202e".encode(), "/a\\x85\\u2028\\u202e"),
    ],
)
def test_a_path_has_no_control_characters(path: bytes, shown: str) -> None:
    data, _ = read(v2(0x21, 0x31, path.ljust(108, b"\0") * 2))
    assert data is not None
    assert (data.src_addr, data.dst_addr) == (shown, shown)


START = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x10"])
REST = st.lists(st.sampled_from([b"\r", b"\n", b" ", b"1", b"\0", b"TCP4"]) | st.binary(max_size=9))


@given(START, REST.map(b"".join), st.integers(1, 40))
def test_any_octets_are_a_header_or_an_error(start: bytes, rest: bytes, size: int) -> None:
    wire = start + rest
    outcomes = []
    for segments in ([wire], [wire[at : at + size] for at in range(0, len(wire), size)]):
        try:
            outcomes.append(read(*segments))
        except ProxyHeaderError:
            outcomes.append((None, b"refused"))
    assert outcomes[0] == outcomes[1]


def test_addresses_are_read_as_they_are() -> None:
    for text in ("::ffff:192.0.2.1", "::", "2001:DB8::A"):
        data, _ = read(v1(f"PROXY TCP6 {text} ::1 1 2"))
        assert data is not None
        assert data.src_addr == ip_address(text)
