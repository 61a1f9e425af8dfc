"""Proxy in front of Postfix's smtp-sink: what the client is told is what smtp-sink did."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, Client, connected, running

from smtp_handlers import Proxy

SMTP_SINK = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(SMTP_SINK is None, reason="needs smtp-sink, of Postfix")

LINE = b"x" * 98 + b"\r\n"


@dataclass
class Sink:
    """A running smtp-sink, and the folder into which it writes each message."""

    address: str
    folder: Path

    def messages(self) -> list[bytes]:
        return [path.read_bytes() for path in self.folder.glob("m.*")]


@asynccontextmanager
async def smtp_sink(folder: Path, *switches: str, unix: bool = False) -> AsyncIterator[Sink]:
    """Run smtp-sink with these switches."""
    assert SMTP_SINK is not None
    os.chmod(folder, 0o777)
    if unix:
        address = f"unix:{folder}/socket"
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
    as_nobody = ["-u", "nobody", "-R", str(folder)] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        SMTP_SINK,
        *(*as_nobody, "-d", "m.", *switches, address, "100"),
        cwd=folder,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not await _listens(address):  # noqa: ASYNC110 it does not say when it does
                await asyncio.sleep(0.01)
        yield Sink(address, folder)
    finally:
        process.kill()
        await process.wait()


async def _listens(address: str) -> bool:
    kind, _, place = address.rpartition(":")
    try:
        if kind == "unix":
            _, writer = await asyncio.open_unix_connection(place)
        else:
            _, writer = await asyncio.open_connection(kind, int(place))
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def relay(sink: Sink, *, lmtp: bool = False, seconds: float = 20.0) -> AsyncIterator[Client]:
    """A server with a Proxy to smtp-sink, and a client of it."""
    kind, _, place = sink.address.rpartition(":")
    async with AsyncExitStack() as stack:
        if kind == "unix":
            proxy = Proxy(unix_socket=place, lmtp=lmtp, timeout=seconds)
        else:
            proxy = Proxy(kind, int(place), lmtp=lmtp, timeout=seconds)
        stack.push_async_callback(proxy.close)
        here = await stack.enter_async_context(running(proxy))
        yield await stack.enter_async_context(connected(here))


async def answers(client: Client) -> list[str]:
    """The answers to one transaction, up to the first that is negative."""
    found = []
    for line in ("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA", ""):
        reply = await client(line) if line else await client.body(HELLO + b"..\r\n.\r\n" + LINE)
        found.append(str(reply))
        if not reply.positive:
            break
    return found


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        # A hard error, a soft one, a close without a word, and 421 with a close.
        (["-f", "mail"], ["500 5.3.0 Error: command failed"]),
        (["-f", "rcpt"], ["250 ", "500 5.3.0 Error: command failed"]),
        (["-f", "data"], ["250 ", "250 ", "354 ", "500 5.3.0 Error: command failed"]),
        (["-f", "."], ["250 ", "250 ", "354 ", "500 5.3.0 Error: command failed"]),
        (["-f", "connect"], ["451 4.4.1 "]),
        (["-r", "mail"], ["450 4.3.0 Error: command failed"]),
        (["-r", "rcpt"], ["250 ", "450 4.3.0 Error: command failed"]),
        (["-r", "data"], ["250 ", "250 ", "354 ", "450 4.3.0 Error: command failed"]),
        (["-r", "."], ["250 ", "250 ", "354 ", "450 4.3.0 Error: command failed"]),
        (["-r", "connect"], ["451 4.4.1 "]),
        (["-q", "connect"], ["451 4.4.1 "]),
        (["-q", "ehlo"], ["451 4.4.1 "]),
        (["-q", "mail"], ["451 4.4.1 "]),
        (["-q", "rcpt"], ["250 ", "451 4.4.1 "]),
        (["-q", "data"], ["250 ", "250 ", "354 ", "451 4.4.1 "]),
        (["-q", "."], ["250 ", "250 ", "354 ", "451 4.4.1 "]),
        (["-Q", "mail"], ["451 4.0.0 Server closing connection"]),
        (["-Q", "rcpt"], ["250 ", "451 4.0.0 Server closing connection"]),
        (["-Q", "."], ["250 ", "250 ", "354 ", "451 4.0.0 Server closing connection"]),
    ],
    ids=lambda value: " ".join(value) if value[0][0] == "-" else "",
)
async def test_failures(switches: list[str], told: list[str], tmp_path: Path) -> None:
    async with smtp_sink(tmp_path, *switches) as sink, relay(sink) as client:
        for _ in range(2):
            found = await answers(client)
            assert len(found) == len(told)
            for answer, start in zip(found, told, strict=True):
                assert answer.startswith(start)
            assert (await client("NOOP")).code == 250
            await client("RSET")


@pytest.mark.parametrize(
    "switches",
    [[], ["-8"], ["-e"], ["-p"], ["-f", "ehlo"], ["-w", "1"]],
    ids=lambda value: " ".join(value) or "none",
)
async def test_accepted(switches: list[str], tmp_path: Path) -> None:
    async with smtp_sink(tmp_path, *switches) as sink, relay(sink) as client:
        assert [answer[:4] for answer in await answers(client)] == ["250 ", "250 ", "354 ", "250 "]
        [message] = sink.messages()
    # smtp-sink writes lines with LF, dots unstuffed.
    assert message.endswith((HELLO + b"..\r\n.\r\n" + LINE).replace(b"\r\n", b"\n") + b"\n")
    assert message.count(b"\n\tby mx.example with ESMTP ") == 1


async def test_eight_bit_is_refused_where_it_is_not_offered(tmp_path: Path) -> None:
    async with smtp_sink(tmp_path, "-8") as sink, relay(sink) as client:
        assert str(await client.send(b"\r\n\xe9\r\n")).startswith("554 5.6.3 ")
        assert (await client.send()).code == 250
        assert len(sink.messages()) == 1


async def test_stalls(tmp_path: Path) -> None:
    async with smtp_sink(tmp_path, "-w", "60") as sink, relay(sink, seconds=0.3) as client:
        assert str(await client.send()).startswith("451 4.4.1 ")
        assert not any(sink.messages())  # it opens the file with MAIL


@pytest.mark.parametrize("unix", [False, True])
async def test_lmtp(unix: bool, tmp_path: Path) -> None:
    async with (
        smtp_sink(tmp_path, "-L", unix=unix) as sink,
        relay(sink, lmtp=True) as client,
    ):
        assert (await client.send(to=[f"{number}@x.example" for number in range(5)])).code == 250
        assert (await client.send(LINE * 5000)).code == 250
        assert len(sink.messages()) == 2


async def test_many_at_once(tmp_path: Path) -> None:
    async def send(port: int) -> list[int]:
        async with connected(port) as client:
            return [(await client.send()).code for _ in range(10)]

    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(smtp_sink(tmp_path))
        host, _, port = sink.address.rpartition(":")
        proxy = Proxy(host, int(port))
        stack.push_async_callback(proxy.close)
        here = await stack.enter_async_context(running(proxy))
        codes = await asyncio.gather(*(send(here) for _ in range(10)))
        assert codes == [[250] * 10] * 10
        assert len(sink.messages()) == 100
