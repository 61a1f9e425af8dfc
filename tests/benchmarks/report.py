"""Report: tables and JSON are made of the same samples, so that either tells what was measured."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.measure import Sample

__all__ = ["PAIRS", "Report", "Result", "machine", "today"]

#: Whose figure is divided by whose.
PAIRS = (
    ("ours", "aiosmtpd"),
    ("ours/uvloop", "aiosmtpd/uvloop"),
    ("ours/uvloop", "smtp-sink"),
    ("ours/uvloop", "node"),
)

_NOTHING = "-"


@dataclass(frozen=True)
class Result:
    """The samples of one row, of each server as many, the n-th of all taken in the same round.

    Args:
        key: Its letter.
        name: What was measured.
        unit: Of the figures.
        speed: The unit of the speed; empty if there is none.
        factor: A second in the unit of the figures.
        targets: The largest ratio to a peer; to ``""``, of the figure itself.
        samples: By server.
    """

    key: str
    name: str
    unit: str
    speed: str
    factor: float
    targets: Mapping[str, float]
    samples: Mapping[str, Sequence[Sample]]

    def figure(self, server: str) -> float | None:
        """The median of a server's own figures."""
        samples = self.samples.get(server)
        return statistics.median(sample.figure for sample in samples) if samples else None

    def pace(self, server: str) -> float | None:
        """How much a second, by the median of the time on the clock."""
        walls = [sample.wall for sample in self.samples.get(server, ()) if sample.wall]
        return self.factor / statistics.median(walls) if walls else None

    def ratio(self, ours: str, peer: str) -> float | None:
        """The median of the ratios of the rounds.

        What slows the machine down for a while slows both, so that one round's ratio suffers
        less from it than that of two medians.
        """
        rounds = zip(self.samples.get(ours, ()), self.samples.get(peer, ()), strict=False)
        ratios = [mine.figure / theirs.figure for mine, theirs in rounds if theirs.figure > 0]
        return statistics.median(ratios) if ratios else None

    def target(self, peer: str) -> float | None:
        """What the ratio to a peer is not to exceed."""
        return self.targets.get(peer.partition("/")[0])

    def summary(self) -> dict[str, Any]:
        """What the tables have of it."""
        return {
            "figures": {server: self.figure(server) for server in self.samples},
            "paces": {server: self.pace(server) for server in self.samples},
            "ratios": {f"{ours} : {peer}": self.ratio(ours, peer) for ours, peer in PAIRS},
        }


@dataclass(frozen=True)
class Report:
    """A run.

    Args:
        date: When.
        machine: On what.
        versions: Of what.
        rounds: How many.
        results: The rows.
        linearity: By what the engine's CPU time is multiplied when the input is doubled, by case.
    """

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    rounds: int
    results: Sequence[Result]
    linearity: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` has written."""
        content = json.loads(path.read_text("utf-8"))
        rows = content.pop("results")
        for row in rows:
            del row["summary"]
            row["samples"] = {
                server: [Sample(*sample) for sample in samples]
                for server, samples in row["samples"].items()
            }
        return cls(results=[Result(**row) for row in rows], **content)

    def write(self, path: Path) -> None:
        """Write everything, and the medians and ratios of it, as JSON."""
        content = asdict(self)
        for row, result in zip(content["results"], self.results, strict=True):
            row["summary"] = result.summary()
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def text(self) -> str:
        """The tables, in a form that is reStructuredText too."""
        parts = [
            "\n".join(f"* {name}: {value}" for name, value in self._about()),
            *self._captioned(
                "The server's own CPU time, memory or time to start: the median of "
                f"{self.rounds} rounds. Less is better.",
                self._table(self.results, "unit", _figure),
            ),
            *self._captioned(
                "How many messages, or how much data, were received in one second. More is better.",
                self._table([row for row in self.results if row.speed], "speed", _pace),
            ),
            *self._captioned(
                "The ratios of the first table: ours on asyncio to aiosmtpd on asyncio, and ours "
                "on uvloop to each of\nthe others. In brackets is the target: the ratio should not "
                "be greater.",
                self._ratios(),
            ),
        ]
        if self.linearity:
            worst = max(self.linearity, key=lambda case: self.linearity[case])
            parts.append(
                f"Doubling the input multiplies the engine's CPU time by "
                f"{statistics.median(self.linearity.values()):.2f}, in the median of "
                f"{len(self.linearity)} kinds of\ninput, and by {self.linearity[worst]:.2f} with "
                f"the worst of them ({worst})."
            )
        return "\n\n".join(parts)

    def _about(self) -> list[tuple[str, str]]:
        return [("date", self.date), *self.machine.items(), *self.versions.items()]

    @staticmethod
    def _captioned(caption: str, table: str) -> list[str]:
        return [caption, table] if table else []

    def _table(
        self, results: Sequence[Result], unit: str, cell: Callable[[Result, str], str]
    ) -> str:
        servers = [name for name in self.versions if any(name in row.samples for row in results)]
        rows = [
            [
                f"{result.key} {result.name}",
                getattr(result, unit),
                *(cell(result, name) for name in servers),
            ]
            for result in results
        ]
        return _simple(["row", "unit", *servers], rows)

    def _ratios(self) -> str:
        # What is judged by its own figure is near zero where it is good: no ratio tells anything.
        results = [result for result in self.results if "" not in result.targets]
        pairs = [
            (ours, peer)
            for ours, peer in PAIRS
            if any(result.ratio(ours, peer) is not None for result in results)
        ]
        rows = [
            [f"{result.key} {result.name}", *(_ratio(result, *pair) for pair in pairs)]
            for result in results
        ]
        return _simple(["row", *(peer for _, peer in pairs)], rows) if pairs else ""


def _number(value: float | None) -> str:
    if value is None:
        return _NOTHING
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def _against(value: float | None, target: float | None) -> str:
    if value is None or target is None:
        return _number(value)
    judgement = "met" if value <= target else "missed"
    return f"{_number(value)} ({target:g} {judgement})"


def _figure(result: Result, server: str) -> str:
    target = result.targets.get("") if server.startswith("ours") else None
    return _against(result.figure(server), target)


def _pace(result: Result, server: str) -> str:
    return _number(result.pace(server))


def _ratio(result: Result, ours: str, peer: str) -> str:
    return _against(result.ratio(ours, peer), result.target(peer))


def _simple(head: list[str], rows: list[list[str]]) -> str:
    """A simple table of reStructuredText."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = "  ".join("=" * max(width, 1) for width in widths)

    def line(cells: list[str]) -> str:
        return "  ".join(map(str.ljust, cells, widths)).rstrip()

    return "\n".join([rule, line(head), rule, *map(line, rows), rule])


def machine() -> dict[str, str]:
    """What of this machine the figures depend on, and nothing that tells which one it is."""
    info = Path("/proc/cpuinfo").read_text("utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    cpus = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    kernel = ".".join(platform.release().split(".")[:2])
    return {
        "CPU": f"{models[0] if models else platform.machine()}, {cpus}",
        "kernel": f"{platform.system()} {kernel}",
        "Python": platform.python_version(),
    }


def today() -> str:
    """The date."""
    return date.today().isoformat()
