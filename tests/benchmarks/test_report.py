"""What the report computes from samples; no figure of a real run."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks.measure import Sample
from tests.benchmarks.report import Report, Result


def row(**samples: list[Sample]) -> Result:
    """A row with a target for a ratio, in µs."""
    return Result(
        "A",
        "kept",
        "µs/message",
        "messages/s",
        1e6,
        {"aiosmtpd": 0.5},
        {name.replace("_", "/"): taken for name, taken in samples.items()},
    )


def report(*rows: Result) -> Report:
    """A report of these rows."""
    servers = ("ours", "ours/uvloop", "aiosmtpd", "aiosmtpd/uvloop", "smtp-sink", "node")
    return Report(
        "2026-11-22",
        {"CPU": "one"},
        dict.fromkeys(servers, "1.0"),
        3,
        rows,
        {"long lines": 2.0, "dots": 2.25, "commands": 1.5},
    )


KEPT = row(
    ours=[Sample(50, 100), Sample(80, 250), Sample(60, 200)],
    aiosmtpd=[Sample(200, 400), Sample(160, 500), Sample(100, 600)],
)


def test_medians() -> None:
    assert (KEPT.figure("ours"), KEPT.figure("aiosmtpd")) == (60, 160)
    assert (KEPT.pace("ours"), KEPT.pace("aiosmtpd")) == (5000, 2000)


def test_ratio_is_the_median_of_those_of_the_rounds() -> None:
    # 50/200, 80/160, 60/100; and not 60/160.
    assert KEPT.ratio("ours", "aiosmtpd") == 0.5


def test_what_is_not_there_has_no_figure() -> None:
    assert KEPT.figure("node") is None
    assert KEPT.pace("node") is None
    assert KEPT.ratio("ours/uvloop", "node") is None
    assert row(ours=[Sample(1)]).pace("ours") is None


def test_nothing_is_divided_by_zero() -> None:
    assert row(ours=[Sample(1)], aiosmtpd=[Sample(0)]).ratio("ours", "aiosmtpd") is None


def test_target_is_for_both_loops() -> None:
    targets = [KEPT.target(peer) for peer in ("aiosmtpd", "aiosmtpd/uvloop", "node")]
    assert targets == [0.5, 0.5, None]


def test_tables() -> None:
    assert report(KEPT).text() == (
        """\
* date: 2026-11-22
* CPU: one
* ours: 1.0
* ours/uvloop: 1.0
* aiosmtpd: 1.0
* aiosmtpd/uvloop: 1.0
* smtp-sink: 1.0
* node: 1.0

The server's own CPU time, memory or time to start: the median of 3 rounds. Less is better.

======  ==========  ====  ========
row     unit        ours  aiosmtpd
======  ==========  ====  ========
A kept  µs/message  60.0  160
======  ==========  ====  ========

How many messages, or how much data, were received in one second. More is better.

======  ==========  =====  ========
row     unit        ours   aiosmtpd
======  ==========  =====  ========
A kept  messages/s  5,000  2,000
======  ==========  =====  ========

The ratios of the first table: ours on asyncio to aiosmtpd on asyncio, and ours on uvloop to each of
the others. In brackets is the target: the ratio should not be greater.

======  ===============
row     aiosmtpd
======  ===============
A kept  0.500 (0.5 met)
======  ===============

Doubling the input multiplies the engine's CPU time by 2.00, in the median of 3 kinds of
input, and by 2.25 with the worst of them (dots)."""
    )


def test_a_target_that_is_missed_is_said_to_be() -> None:
    slow = row(ours_uvloop=[Sample(7.1)], aiosmtpd_uvloop=[Sample(10)])
    assert "0.710 (0.5 missed)" in report(slow).text()


def test_a_target_of_the_figure_itself_takes_the_place_of_ratios() -> None:
    peak = replace(KEPT, speed="", targets={"": 50.0})
    text = report(peak).text()
    assert "A kept  µs/message  60.0 (50 missed)  160\n" in text
    assert "The ratios" not in text


@pytest.mark.parametrize("rows", [[], [KEPT], [KEPT, row()]], ids=len)
def test_json_gives_the_report_back(rows: list[Result], tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    written = report(*rows)
    written.write(file)
    assert Report.read(file).text() == written.text()


def test_json_has_the_medians_and_ratios(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.json"
    report(KEPT).write(file)
    text = file.read_text("utf-8")
    assert '"ours : aiosmtpd": 0.5' in text
    assert '"aiosmtpd": 2000.0' in text
