"""The end: SIGTERM in the middle of many transactions; each is handled and told so, or not told."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

TRANSACTIONS = 100
DEADLINE = 60.0

#: A server whose hook takes its time, and keeps a journal.
SERVER = """
import asyncio, random, signal, sys
from smtp_server import serve

class Slow:
    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(random.uniform(0.0, {slowest}))
        with open({journal!r}, "a") as journal:
            journal.write(envelope.content.decode().strip() + "\\n")
        return "250 OK"

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(Slow(), "127.0.0.1", 0) as service:
        print(service.addresses[0][1], flush=True)
        await stop.wait()
        await service.close(grace={grace})

asyncio.run(main())
"""


async def transact(port: int, number: int, begun: asyncio.Event) -> bytes:
    """Send message ``number``, and give what came back for it: ``b""`` when nothing did."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.readline()
        writer.write(b"HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<d@e.example>\r\nDATA\r\n")
        for _ in range(4):
            await reader.readline()
        writer.write(b"%d\r\n.\r\n" % number)
        begun.set()
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(("slowest", "grace", "all_of_them"), [(0.5, 30, True), (20.0, 0.2, False)])
async def test_sigterm(slowest: float, grace: float, all_of_them: bool, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    script = SERVER.format(slowest=slowest, grace=grace, journal=str(journal))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        port = int(await process.stdout.readline())
        begun = [asyncio.Event() for _ in range(TRANSACTIONS)]
        talks = [
            asyncio.create_task(transact(port, number, event)) for number, event in enumerate(begun)
        ]
        for event in begun:
            await event.wait()
        process.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*talks)
        assert await process.wait() == 0
    handled = [int(line) for line in journal.read_text().split()]
    told = [number for number, reply in enumerate(replies) if reply.startswith(b"250")]
    assert len(handled) == len(set(handled))
    assert set(told) <= set(handled)
    assert all(reply[:3] in (b"250", b"421", b"") for reply in replies)
    assert (len(told) == TRANSACTIONS) is all_of_them
