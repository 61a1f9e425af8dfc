"""Bench: ours and the peers take turns, so that whatever else the machine does hits them alike.

    hatch run bench [--rows A,B] [--peers ours,aiosmtpd] [--quick]

Prints tables and writes all samples as JSON. docs/benchmarks.rst says what the rows are.
"""

import argparse
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks import linearity
from tests.benchmarks.loads import LoadFailed, Missing, program
from tests.benchmarks.measure import Sample, elsewhere
from tests.benchmarks.peers import PEERS, Peer, install_node
from tests.benchmarks.report import Report, Result, machine, today
from tests.benchmarks.rows import ROWS, Row, Scale, Trial

__all__ = ["main", "measure"]

_LINEARITY = "L"
# A quarter of the input of `hatch run linearity`, which takes a minute.
_LINEARITY_SCALE = 0.25
# Descriptors that are not connections.
_SPARE = 200


def main(arguments: list[str]) -> None:
    """Measure what the arguments say, and print it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.tables:
        print(Report.read(options.tables).text())
        return
    if options.install_node:
        try:
            install_node(options.install_node)
        except Missing as reason:
            parser.error(str(reason))
    rows = [row for row in ROWS if row.key in options.rows]
    peers = dict(_present(peer for peer in PEERS if _library(peer) in options.peers))
    start, before = time.monotonic(), elsewhere()
    results = list(_results(rows, list(peers), options.rounds, _scale(options.quick)))
    doubled = _linearity() if _LINEARITY in options.rows else {}
    others = max(0.0, (elsewhere() - before) / (time.monotonic() - start))
    report = Report(
        date=today(),
        machine={**machine(), "busy with other things": f"{others:.0%} of a core"},
        versions={peer.name: version for peer, version in peers.items()},
        rounds=options.rounds,
        results=results,
        linearity=doubled,
    )
    report.write(options.json)
    print(report.text())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure ours and the peers.")
    keys = [*dict.fromkeys(row.key for row in ROWS), _LINEARITY]
    names = list(dict.fromkeys(map(_library, PEERS)))
    parser.add_argument("--rounds", type=int, default=15, help="how many (15)")
    parser.add_argument("--rows", type=_some_of(keys), default=keys, help=",".join(keys))
    parser.add_argument("--peers", type=_some_of(names), default=names, help=",".join(names))
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="to write")
    parser.add_argument("--quick", action="store_true", help="shorter loads, for a first look")
    parser.add_argument("--tables", type=Path, metavar="JSON", help="only print an earlier run")
    parser.add_argument(
        "--install-node", type=Path, metavar="FOLDER", help="to install npm's smtp-server into"
    )
    return parser


def _library(peer: Peer) -> str:
    return peer.name.partition("/")[0]


def _some_of(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        given = text.split(",")
        if not set(given) <= set(known):
            raise argparse.ArgumentTypeError(f"{text} is not some of {','.join(known)}")
        return given

    return parse


def _scale(quick: bool) -> Scale:
    full = Scale(0.2, 200) if quick else Scale()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = full.connections if limit == resource.RLIM_INFINITY else limit - _SPARE
    return replace(full, connections=min(full.connections, most))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _present(peers: Iterable[Peer]) -> Iterator[tuple[Peer, str]]:
    """The peers that are installed, with their versions."""
    for peer in peers:
        try:
            yield peer, peer.version()
        except Missing as reason:
            _say(f"{peer.name} is left out: {reason}")


def _results(rows: Iterable[Row], peers: list[Peer], rounds: int, scale: Scale) -> Iterator[Result]:
    for row in rows:
        if not any(map(row.takes, peers)):
            continue
        start = time.monotonic()
        try:
            if row.needs:
                program(row.needs)
        except Missing as reason:
            _say(f"{row.key} {row.name} is left out: {reason}")
            continue
        samples = measure(row, peers, min(rounds, row.rounds or rounds), scale)
        _say(f"{row.key} {row.name}: {time.monotonic() - start:.0f} s")
        yield Result(row.key, row.name, row.unit, row.speed, row.factor, row.targets, samples)


def measure(row: Row, peers: Iterable[Peer], rounds: int, scale: Scale) -> dict[str, list[Sample]]:
    """Take the samples of one row; a server that fails is left out of it.

    In each round every server has one turn, and in each another one is the first.
    """
    with ExitStack() as stack:
        trials: dict[str, Trial] = {}
        samples: dict[str, list[Sample]] = {}
        for peer in peers:
            if row.takes(peer):
                with _leaving_out(row, peer.name, trials, samples):
                    trials[peer.name] = stack.enter_context(row.prepare(row, peer, scale))
                    samples[peer.name] = []
        for number in range(rounds):
            names = list(trials)
            first = number % max(len(names), 1)
            for name in names[first:] + names[:first]:
                with _leaving_out(row, name, trials, samples):
                    samples[name].append(trials[name]())
    return samples


@contextmanager
def _leaving_out(row: Row, name: str, *tables: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (LoadFailed, Missing) as reason:
        for table in tables:
            table.pop(name, None)
        _say(f"{row.key} {row.name}: {name} is left out: {reason}")


def _linearity() -> dict[str, float]:
    """What doubling the input does, by the median of three doublings of each kind of input."""
    start = time.monotonic()
    found = {
        case.name: statistics.median(linearity.ratios(case, _LINEARITY_SCALE)[1])
        for case in linearity.CASES
    }
    _say(f"{_LINEARITY} linearity: {time.monotonic() - start:.0f} s")
    return found


if __name__ == "__main__":
    # The servers inherit it, and have each a descriptor for every connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # So that the servers are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with TemporaryDirectory() as folder:
        # Whatever was installed how: each library starts from byte code.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        main(sys.argv[1:])
