"""Rows: each says what it does to a server, what is counted of it, and what we want to reach."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.clients import Client
from tests.benchmarks.loads import Load, LoadFailed, pipelining, smtp_source, starttls
from tests.benchmarks.measure import Sample, cpu_time, memory
from tests.benchmarks.peers import Job, Peer, running

__all__ = ["ROWS", "Row", "Scale", "Trial"]

#: Takes one sample more.
Trial = Callable[[], Sample]

# As on an Ethernet. smtp-sink has buffers of several segments, and loopback's are of 64 KiB.
_SEGMENT = 1460
_LARGE_MESSAGE = 50_000_000
# Until a server has done what is left to do when the client has its last reply.
_SETTLE = 0.02


@dataclass(frozen=True)
class Scale:
    """How much is done for one sample.

    Args:
        load: The part of a row's messages that are sent.
        connections: How many connections are idle at a time.
    """

    load: float = 1.0
    connections: int = 2000


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Args:
        key: Its letter; some rows share one.
        name: What is measured.
        unit: Of the figure.
        job: What the servers are started for.
        prepare: Makes a server ready, and gives the trial.
        speed: The unit of the speed, for a load.
        factor: A second in the unit's own one.
        needs: The program that makes the load.
        peers: The names of those it is for, if not for all.
        targets: The largest ratio of ours to a peer; to ``""``, of the figure itself.
        rounds: How many are enough, for a figure that hardly varies.
    """

    key: str
    name: str
    unit: str
    job: Job
    prepare: Callable[["Row", Peer, Scale], AbstractContextManager[Trial]]
    speed: str = ""
    factor: float = 1.0
    needs: str = "smtp-source"
    peers: tuple[str, ...] = ()
    targets: Mapping[str, float] = field(default_factory=dict)
    rounds: int | None = None

    def takes(self, peer: Peer) -> bool:
        """Whether the peer can do it."""
        meant = not self.peers or peer.name in self.peers
        return meant and peer.command(self.job, 0) is not None


def _load(
    load: Load, messages: int, amount: float = 1.0
) -> Callable[[Row, Peer, Scale], AbstractContextManager[Trial]]:
    """Send so many messages to each server, and each of an ``amount`` of what the unit names.

    Not as many as take some time: a server that is slow would then have more of the cost of new
    connections in each message.
    """

    @contextmanager
    def prepare(row: Row, peer: Peer, scale: Scale) -> Iterator[Trial]:
        count = max(1, round(messages * scale.load))
        with running(peer, row.job) as server:
            # The first are slower, with a compiler that looks on (node) above all.
            load(server.port, count)

            def trial() -> Sample:
                time.sleep(_SETTLE)
                cpu = cpu_time(server.pid)
                wall = load(server.port, count)
                time.sleep(_SETTLE)
                cpu = cpu_time(server.pid) - cpu
                unit = row.factor / (count * amount)
                return Sample(cpu * unit, wall * unit)

            yield trial

    return prepare


@contextmanager
def _idle(row: Row, peer: Peer, scale: Scale) -> Iterator[Trial]:
    """Memory for each of many connections that have said EHLO and wait, in a fresh server."""

    def trial() -> Sample:
        with running(peer, row.job) as server, ExitStack() as clients:
            _small(server.port, 1)
            before = memory(server.pid, "VmRSS")
            try:
                for _ in range(scale.connections):
                    client = clients.enter_context(Client(server.port, _SEGMENT))
                    client.say(b"EHLO client.example\r\n", 250)
            except (OSError, ValueError) as error:
                raise LoadFailed(str(error)) from error
            time.sleep(_SETTLE)
            grown = memory(server.pid, "VmRSS") - before
        return Sample(grown / scale.connections / 1024)

    yield trial


@contextmanager
def _peak(row: Row, peer: Peer, _: Scale) -> Iterator[Trial]:
    """The peak of a fresh server's memory with one large message, above that with a small one."""

    def trial() -> Sample:
        with running(peer, row.job) as server:
            _small(server.port, 1)
            before = memory(server.pid, "VmRSS")
            _large(server.port, 1)
            return Sample((memory(server.pid, "VmHWM") - before) / _LARGE_MESSAGE)

    yield trial


@contextmanager
def _start(row: Row, peer: Peer, _: Scale) -> Iterator[Trial]:
    """From the start of a process to its port."""

    def trial() -> Sample:
        start = time.perf_counter()
        with running(peer, row.job):
            return Sample((time.perf_counter() - start) * row.factor)

    with running(peer, row.job):  # Its files are in memory now.
        pass
    yield trial


@contextmanager
def _import(row: Row, peer: Peer, _: Scale) -> Iterator[Trial]:
    """The import alone, in a fresh interpreter."""
    script = f"import time; t = time.perf_counter(); import {peer.module}"
    command = [sys.executable, "-c", f"{script}; print(time.perf_counter() - t)"]

    def trial() -> Sample:
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        return Sample(float(output.stdout) * row.factor)

    trial()
    yield trial


_small = smtp_source("-l", "1024")
_large = smtp_source("-l", str(_LARGE_MESSAGE))
_kept = smtp_source("-d", "-s", "10", "-l", "1024")
_each = smtp_source("-s", "10", "-l", "1024")
_bodies = smtp_source("-d", "-l", "10000000")
_lmtp = smtp_source("-L", "-d", "-s", "10", "-l", "1024")

ROWS = (
    Row(
        key="A",
        name="1 KiB, 10 kept sessions",
        unit="µs/message",
        speed="messages/s",
        factor=1e6,
        job="data",
        prepare=_load(_kept, 1000),
        targets={"aiosmtpd": 0.20, "smtp-sink": 2.0},
    ),
    Row(
        key="B",
        name="1 KiB, a connection each",
        unit="µs/message",
        speed="messages/s",
        factor=1e6,
        job="data",
        prepare=_load(_each, 500),
        targets={"aiosmtpd": 0.28, "smtp-sink": 2.5},
    ),
    Row(
        key="C",
        name="10 MB bodies",
        unit="ms/MB",
        speed="MB/s",
        factor=1e3,
        job="data",
        prepare=_load(_bodies, 2, amount=10),
        targets={"aiosmtpd": 0.11, "smtp-sink": 0.7},
    ),
    Row(
        key="D",
        name="one segment each",
        unit="µs/message",
        speed="messages/s",
        factor=1e6,
        job="data",
        prepare=_load(pipelining, 1000),
        needs="",
        targets={"aiosmtpd": 0.18, "smtp-sink": 4.0},
    ),
    Row(
        key="E",
        name="idle connection",
        unit="KiB",
        job="data",
        prepare=_idle,
        targets={"aiosmtpd": 0.33, "smtp-sink": 1.0},
        rounds=3,
    ),
    Row(
        key="F",
        name="50 MB, peak of memory",
        unit="its size",
        job="large",
        prepare=_peak,
        targets={"": 1.25},
        rounds=3,
    ),
    Row(
        key="F",
        name="50 MB streamed, peak",
        unit="its size",
        job="large-stream",
        prepare=_peak,
        peers=("ours", "ours/uvloop", "smtp-sink", "node"),
        targets={"": 0.1},
        rounds=3,
    ),
    Row(
        key="G",
        name="start to listening",
        unit="ms",
        factor=1e3,
        job="data",
        prepare=_start,
        needs="",
        targets={"aiosmtpd": 1.0},
    ),
    Row(
        key="G",
        name="import",
        unit="ms",
        factor=1e3,
        job="data",
        prepare=_import,
        needs="",
        peers=("ours", "aiosmtpd"),
        targets={"aiosmtpd": 1.0},
    ),
    Row(
        key="H",
        name="STARTTLS, connection each",
        unit="µs/message",
        speed="messages/s",
        factor=1e6,
        job="tls",
        prepare=_load(starttls, 80),
        needs="",
    ),
    Row(
        key="I",
        name="LMTP, 10 kept sessions",
        unit="µs/message",
        speed="messages/s",
        factor=1e6,
        job="lmtp",
        prepare=_load(_lmtp, 1000),
    ),
    Row(
        key="J",
        name="10 MB bodies, streamed",
        unit="ms/MB",
        speed="MB/s",
        factor=1e3,
        job="stream",
        prepare=_load(_bodies, 2, amount=10),
    ),
)
