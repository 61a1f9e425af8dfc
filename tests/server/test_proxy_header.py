"""PROXY: the header in front of plain and implicit TLS, from those who may send one."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.secure import server_context, shared_client_context, start_tls, upgrade
from tests.server.support import DEADLINE, SHORT, Dialogue, Keeper, eventually

from smtp_protocol import Envelope, ProxyData, Server, Session
from smtp_server import Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 25\r\n"
LOCAL = None


def v2(
    family: int = 0x11,
    addresses: bytes | None = None,
    tlvs: bytes = b"",
    *,
    command: int = 0x21,
    length: int | None = None,
) -> bytes:
    if addresses is None:
        addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.1")
        addresses += struct.pack("!HH", 4000, 25)
    body = addresses + tlvs
    size = len(body) if length is None else length
    return V2 + bytes([command, family]) + struct.pack("!H", size) + body


def crc32c(octets: bytes) -> int:
    """The checksum of the TLV of that name, bit by bit."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def with_crc(wrong: int = 0) -> bytes:
    header = v2(tlvs=b"\x03\x00\x04" + bytes(4))
    return header[:-4] + struct.pack("!I", crc32c(header) ^ wrong)


INET6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")

ACCEPTED: list[tuple[bytes, tuple[str, int] | str | None]] = [
    (V1, ("192.0.2.1", 4000)),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 0 65535\r\n", ("192.0.2.1", 0)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 25\r\n", ("2001:db8::1", 4000)),
    (b"PROXY UNKNOWN\r\n", LOCAL),
    (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n", LOCAL),
    (v2(), ("192.0.2.1", 4000)),
    (v2(0x12), ("192.0.2.1", 4000)),
    (v2(0x21, INET6 + struct.pack("!HH", 4000, 25)), ("2001:db8::1", 4000)),
    (v2(0x22, INET6 + struct.pack("!HH", 4000, 25)), ("2001:db8::1", 4000)),
    (v2(0x31, UNIX), "/run/client"),
    (v2(0x32, UNIX), "/run/client"),
    (v2(0x00, b"", command=0x20), LOCAL),
    (v2(0x11, command=0x20), LOCAL),
    (v2(0x00, b""), LOCAL),
    (v2(tlvs=b"\x01\x00\x02h2" + b"\x04\x00\x03pad"), ("192.0.2.1", 4000)),
    (with_crc(), ("192.0.2.1", 4000)),
]

REFUSED = [
    b"EHLO client.test\r\n",
    b"\r\nX",
    b"PROXY\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.1 4000 25\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.1 4000 25\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.1 4000 25\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 4000 25\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.1 4000 25\r\n",
    b"PROXY TCP4 192.0.2.1  198.51.100.1 4000 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 04000 25\r\n",
    b"PROXY TCP4 192.0.02.1 198.51.100.1 4000 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 -1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 4000\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 25 x\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 25\n",
    b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    V2.replace(b"QUIT", b"QUIX") + v2()[12:],
    v2(command=0x31),
    v2(command=0x22),
    v2(0x41),
    v2(0x11, b"\x7f\0\0\1"),
    v2(tlvs=b"\x01\x00\x09h2"),
    v2(tlvs=b"\x01"),
    with_crc(1),
]


@contextlib.asynccontextmanager
async def proxied(
    handler: Keeper, *, tls: bool = False, limit: float = DEADLINE
) -> AsyncIterator[tuple[Service, Dialogue]]:
    context = server_context()
    service = serve(
        handler,
        "127.0.0.1",
        0,
        proxy_protocol_timeout=limit,
        ssl_context=context if tls else None,
        tls_context=None if tls else context,
    )
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        yield service, client


async def greeting(client: Dialogue, tls: bool) -> None:
    if tls:
        await upgrade(client)
    assert (await client.reply()).startswith("220 ")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("number", range(len(ACCEPTED)))
async def test_a_header(number: int, tls: bool) -> None:
    header, peer = ACCEPTED[number]
    handler = Keeper()
    async with proxied(handler, tls=tls) as (_, client):
        here = client.writer.get_extra_info("sockname")
        await client.send(header)
        await greeting(client, tls)
        (session,) = handler.sessions
        assert session.peer == (here if peer is None else peer)
        assert session.proxy_data is not None
        assert session.proxy_data.peer == here
        assert (session.tls is not None) is tls
        assert await client.deliver() == "250 Kept"
    assert handler.gone == [session]


@pytest.mark.parametrize("header", [V1, v2(), with_crc()])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_header_octet_by_octet(header: bytes, tls: bool) -> None:
    async with proxied(Keeper(), tls=tls) as (_, client):
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in header:
            await client.send(bytes([octet]))
            await asyncio.sleep(0)
        await greeting(client, tls)


@pytest.mark.parametrize("header", [V1, v2(), v2(0x00, b"", command=0x20)])
async def test_commands_behind_the_header(header: bytes) -> None:
    handler = Keeper()
    async with proxied(handler) as (_, client):
        await client.send(
            header + b"EHLO c\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n"
            b"DATA\r\nPROXY TCP4\r\n.\r\nQUIT\r\n"
        )
        answers = (await client.rest()).splitlines()
        assert answers[-2:] == ["250 Kept", "221 Bye"]
    assert handler.envelopes[0].content == b"PROXY TCP4\r\n"


async def test_starttls_behind_the_header() -> None:
    handler = Keeper()
    async with proxied(handler) as (_, client):
        await client.send(V1)
        await greeting(client, tls=False)
        await start_tls(client)
        assert await client.deliver() == "250 Kept"
        assert handler.sessions[0].peer_host == "192.0.2.1"


async def test_a_client_hello_right_behind_the_header() -> None:
    """In one segment: the header's reader must not take it."""
    import ssl

    handler = Keeper()
    async with proxied(handler, tls=True) as (_, client):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = shared_client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        await client.send(v2() + outgoing.read())
        async with asyncio.timeout(DEADLINE):
            while True:
                incoming.write(await client.reader.read(65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            await client.send(outgoing.read())
            while True:
                try:
                    assert tls.read(4) == b"220 "
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await client.reader.read(65536))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("number", range(len(REFUSED)))
async def test_what_is_no_header(number: int, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handler = Keeper()
    async with proxied(handler, tls=tls) as (service, client):
        await client.send(REFUSED[number])
        assert await silence(client) == b""
        await closes_at_once(service)
    assert handler.sessions == []
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def silence(client: Dialogue) -> bytes:
    """What comes until the connection is closed or reset."""
    try:
        async with asyncio.timeout(DEADLINE):
            return await client.reader.read(-1)
    except OSError:
        return b""


async def closes_at_once(service: Service) -> None:
    """A session that nobody knows of any more does not hold the end up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await service.close(grace=DEADLINE)
    assert loop.time() - began < DEADLINE / 2


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("header", [b"", V1[:-1], V1[:3], v2()[:10], v2()[:-1]])
@pytest.mark.parametrize("way", ["silence", "eof", "reset"])
async def test_a_header_that_is_cut_short(header: bytes, tls: bool, way: str) -> None:
    handler = Keeper()
    limit = SHORT if way == "silence" else DEADLINE
    async with proxied(handler, tls=tls, limit=limit) as (service, client):
        await client.send(header)
        if way == "eof":
            client.writer.write_eof()
        elif way == "reset":
            client.reset()
        assert await silence(client) == b""
        await closes_at_once(service)
    assert handler.sessions == []


async def test_a_header_of_a_peer_that_is_not_trusted() -> None:
    handler = Keeper()
    service = serve(
        handler, "127.0.0.1", 0, proxy_protocol_timeout=DEADLINE, proxy_trusted=("192.0.2.0/24",)
    )
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        await client.send(V1)
        assert await silence(client) == b""
        await closes_at_once(service)
    assert handler.sessions == []


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_header_over_a_unix_socket(
    trusted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.mktemp("u") / "s"
    handler = Keeper()
    service = serve(
        handler,
        unix_socket=path,
        proxy_protocol_timeout=DEADLINE,
        proxy_trusted=("unix",) if trusted else ("127.0.0.1",),
    )
    async with service, await Dialogue.connect(service.addresses[0]) as client:
        with contextlib.nullcontext() if trusted else contextlib.suppress(ConnectionError):
            await client.send(V1)  # who is not trusted may be cut off before
        if trusted:
            await greeting(client, tls=False)
            assert handler.sessions[0].peer == ("192.0.2.1", 4000)
        else:
            assert await silence(client) == b""


async def test_a_client_that_goes_behind_its_header() -> None:
    handler = Keeper()
    async with proxied(handler, tls=True) as (service, client):
        await client.send(V1)
        client.reset()
        await closes_at_once(service)
    async with proxied(handler) as (service, client):
        await client.send(V1)
        client.reset()
        await eventually(lambda: handler.gone == handler.sessions)
        await closes_at_once(service)


async def test_clients_behind_a_proxy_are_counted_by_their_own_address() -> None:
    service = serve(
        Keeper(), "127.0.0.1", 0, proxy_protocol_timeout=DEADLINE, max_connections_per_host=1
    )
    async with service, contextlib.AsyncExitStack() as stack:
        for number, code in [(1, "220"), (2, "220"), (1, "421"), (3, "220")]:
            client = await stack.enter_async_context(await Dialogue.connect(service.addresses[0]))
            await client.send(f"PROXY TCP4 192.0.2.{number} 198.51.100.1 4000 25\r\n")
            assert (await client.reply())[:3] == code


# The hook.


class Choosy(Keeper):
    """Takes one client only."""

    async def handle_PROXY(
        self, server: Server, session: Session, envelope: Envelope, proxy_data: ProxyData
    ) -> bool:
        """Look at the address."""
        assert session.proxy_data is proxy_data
        if session.peer_host == "192.0.2.3":
            raise LookupError("three")
        return session.peer_host == "192.0.2.1"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("client_number", [1, 2, 3])
async def test_the_hook(client_number: int, tls: bool) -> None:
    handler = Choosy()
    async with proxied(handler, tls=tls) as (service, client):
        await client.send(f"PROXY TCP4 192.0.2.{client_number} 198.51.100.1 4000 25\r\n")
        if client_number == 1:
            await greeting(client, tls)
        else:
            assert await silence(client) == b""
            await closes_at_once(service)
    assert len(handler.sessions) == (client_number == 1)
