"""Bench: a first look at speed, ours and a peer's in turn, as ratios of the server's CPU time."""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_HERE = Path(__file__).parent


class Server:
    """One server in a process of its own."""

    def __init__(self, name: str, loop: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / "servers.py"), name, loop, "data"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def cpu(self) -> float:
        """Seconds of CPU time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def smtp_source(*options: str) -> Callable[[int], None]:
    """A load from Postfix's smtp-source."""

    def load(port: int) -> None:
        command = ["smtp-source", *options, "-f", "a@b.example", "-t", "c@d.example"]
        subprocess.run([*command, f"inet:127.0.0.1:{port}"], check=True)

    return load


def pipelined(messages: int) -> Callable[[int], None]:
    """A load of whole transactions, each in one segment."""
    body = b"X" * 60 + b"\r\n"
    transaction = (
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + body * 16 + b".\r\n"
    )

    def load(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as replies:
            replies.readline()
            sock.sendall(b"HELO bench\r\n")
            replies.readline()
            for _ in range(messages):
                sock.sendall(transaction)
                for expected in (b"250", b"250", b"354", b"250"):
                    assert replies.readline().startswith(expected)

    return load


ROWS: dict[str, tuple[int, Callable[[int], None]]] = {
    "A 1 KiB, 10 kept sessions": (
        2000,
        smtp_source("-d", "-s", "10", "-m", "2000", "-l", "1024"),
    ),
    "B 1 KiB, a connection each": (500, smtp_source("-s", "10", "-m", "500", "-l", "1024")),
    "C 10 MB bodies": (10, smtp_source("-d", "-s", "1", "-m", "10", "-l", "10000000")),
    "D one segment a transaction": (1000, pipelined(1000)),
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", default="asyncio", choices=["asyncio", "uvloop"])
    options = parser.parse_args()
    print(f"{'row':30} {'ours: wall':>11} {'CPU':>9} {'peer: wall':>11} {'CPU':>9} {'ratio':>6}")
    for row, (count, load) in ROWS.items():
        if row[0] in "ABC" and shutil.which("smtp-source") is None:
            print(f"{row:30} skipped: smtp-source is not installed")
            continue
        servers = {name: Server(name, options.loop) for name in ("ours", "aiosmtpd")}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                wall, cpu = time.perf_counter(), server.cpu()
                load(server.port)
                wall, cpu = time.perf_counter() - wall, server.cpu() - cpu
                figures[name].append((wall / count * 1e6, cpu / count * 1e6))
        for server in servers.values():
            server.stop()
        (wall, cpu), (peer_wall, peer_cpu) = (
            tuple(map(statistics.median, zip(*figures[name], strict=True))) for name in servers
        )
        print(
            f"{row:30} {wall:9.0f}us {cpu:7.0f}us {peer_wall:9.0f}us {peer_cpu:7.0f}us"
            f" {cpu / peer_cpu:6.3f}"
        )


if __name__ == "__main__":
    main()
