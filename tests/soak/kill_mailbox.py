"""Kill Mailbox: a server with a Mailbox is killed again and again, and must not lose a message.

    python tests/soak/kill_mailbox.py [--kills 25] [--clients 8] [--folder DIR]

A server is started, clients send messages of all sizes as fast as they can, and at a random moment
the server is killed with SIGKILL; then the next one starts on the same Maildir. At the end each
message that was answered 250 must be in new/, whole, exactly once, and whatever else is there must
be whole too. (SIGKILL does not take away what the system has in its cache. That fsync comes before
the answer, the tests of Mailbox show.)
"""

import argparse
import asyncio
import hashlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from pathlib import Path

SIZES = (0, 100, 5_000, 60_000, 700_000, 3_000_000)
WEIGHTS = (1, 4, 8, 4, 2, 1)


@dataclass
class Record:
    """What the clients know, and what was found."""

    sent: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    found: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    left_in_tmp: int = 0
    kills: int = 0

    def problems(self) -> list[str]:
        """What must not be; empty when all is well."""
        lost = self.answered - self.found.keys()
        twice = [name for name, times in self.found.items() if times > 1]
        strange = self.found.keys() - self.sent
        return [
            *(f"lost: {name}" for name in sorted(lost)),
            *(f"twice: {name}" for name in twice),
            *(f"never sent: {name}" for name in sorted(strange)),
            *(f"damaged: {name}" for name in self.damaged),
        ]

    def __str__(self) -> str:
        doubtful = len(self.found.keys() - self.answered)
        return (
            f"{self.kills} kills; {len(self.sent)} messages begun, {len(self.answered)} answered "
            f"250, {len(self.found)} in new/ ({doubtful} of them killed before the answer), "
            f"{self.left_in_tmp} files left in tmp/; {len(self.problems())} problems"
        )


def make_message(name: str) -> bytes:
    """A message that can be told from all others, and whether it is whole."""
    [size] = random.choices(SIZES, WEIGHTS)
    line = random.randbytes(36).hex().encode() + b"\r\n"
    body = line * (size // len(line))
    digest = hashlib.sha256(body).hexdigest()
    return f"X-Name: {name}\r\nX-Digest: {digest}\r\n\r\n".encode() + body


async def client(port: int, names: Iterator[int], record: Record) -> None:
    """Send one message after the other until the server is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def say(octets: bytes) -> None:
        writer.write(octets)
        await writer.drain()
        reply = await reader.readline()
        if reply[:1] not in (b"2", b"3"):
            raise ConnectionError(reply)

    try:
        await say(b"")
        await say(b"HELO client.example\r\n")
        while True:
            name = str(next(names))
            record.sent.add(name)
            await say(b"MAIL FROM:<a@x.example>\r\n")
            await say(b"RCPT TO:<b@x.example>\r\n")
            await say(b"DATA\r\n")
            await say(make_message(name) + b".\r\n")
            record.answered.add(name)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def one_life(folder: Path, clients: int, names: Iterator[int], record: Record) -> None:
    """Start a server, load it, and kill it."""
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "smtp_server", "-n", "-l", "127.0.0.1:0"),
        *("-c", "smtp_handlers.Mailbox", str(folder)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert server.stderr is not None
        line = (await server.stderr.readline()).decode()
        port = int(line.rpartition(":")[2])
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client(port, names, record))
            await asyncio.sleep(random.uniform(0.05, 0.6))
            server.kill()
            record.kills += 1
    except BaseException:
        server.kill()
        raise
    finally:
        await server.wait()


def examine(folder: Path, record: Record) -> None:
    """See what is in the Maildir."""
    for path in (folder / "new").iterdir():
        message = message_from_bytes(path.read_bytes())
        body = path.read_bytes().partition(b"\r\n\r\n")[2]
        name = message["X-Name"]
        if name is None or hashlib.sha256(body).hexdigest() != message["X-Digest"]:
            record.damaged.append(path.name)
        else:
            record.found[name] += 1
    record.left_in_tmp = sum(1 for _ in (folder / "tmp").iterdir())


async def run(folder: Path, kills: int, clients: int) -> Record:
    """Kill so many servers, and tell what became of the messages."""
    record = Record()
    names = count(1)
    for _ in range(kills):
        await one_life(folder, clients, names, record)
    examine(folder, record)
    return record


def main() -> None:
    """Run it, and exit with 1 if there is a problem."""
    parser = argparse.ArgumentParser(description="Kill a server with a Mailbox, again and again.")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the Maildir is made; removed otherwise")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        record = asyncio.run(run(folder, arguments.kills, arguments.clients))
    print(record)
    for problem in record.problems():
        print(problem)
    sys.exit(1 if record.problems() else 0)


if __name__ == "__main__":
    main()
