"""The command runs, each server is started and each load is taken; the figures are for the eye."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks import bench
from tests.benchmarks.clients import Client
from tests.benchmarks.loads import LoadFailed, Missing, pipelining, program
from tests.benchmarks.measure import Sample, cpu_time, memory
from tests.benchmarks.peers import PEERS, Peer, running
from tests.benchmarks.rows import ROWS, Row, Scale, Trial

TINY = Scale(load=0.01, connections=2)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def present(peer: Peer) -> Peer:
    """The peer, if it is here."""
    try:
        peer.version()
    except Missing as reason:
        pytest.skip(str(reason))
    return peer


def named(name: str) -> Peer:
    """The peer of that name, if it is here."""
    return present(next(peer for peer in PEERS if peer.name == name))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--quick", "--rounds", "1", "--rows", "D", "--peers", "ours"]
    bench.main([*arguments, "--json", str(file)])
    printed = capsys.readouterr().out
    assert "\nD one segment each  µs/message  " in printed
    [result] = json.loads(file.read_text("utf-8"))["results"]
    assert {name: len(samples) for name, samples in result["samples"].items()}["ours"] == 1
    bench.main(["--tables", str(file)])
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("arguments", [["--rows", "A,Z"], ["--peers", "exim"]], ids=["row", "peer"])
def test_what_is_not_known(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert "is not some of" in capsys.readouterr().err


def test_a_peer_that_is_missing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_PATH", str(tmp_path))
    bench.main(["--rows", "D", "--peers", "node", "--json", str(tmp_path / "figures.json")])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("node is left out: node ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.key}-{row.name}")
def test_each_row(row: Row) -> None:
    if row.needs:
        try:
            program(row.needs)
        except Missing as reason:
            pytest.skip(str(reason))
    samples = bench.measure(row, [named("ours")], 1, TINY)
    [[sample]] = samples.values()
    assert (sample.wall is not None) == bool(row.speed)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_server(peer: Peer) -> None:
    with running(present(peer), "data") as server:
        before = cpu_time(server.pid)
        with Client(server.port) as client:
            client.say(b"EHLO client.example\r\n", 250)
        assert pipelining(server.port, 3) > 0
        assert cpu_time(server.pid) > before
        assert memory(server.pid, "VmHWM") >= memory(server.pid, "VmRSS") > 0


def test_each_server_is_the_first_in_its_turn() -> None:
    turns: list[str] = []

    @contextmanager
    def prepare(_: Row, peer: Peer, __: Scale) -> Iterator[Trial]:
        def trial() -> Sample:
            turns.append(peer.name)
            return Sample(1)

        yield trial

    row = replace(ROWS[0], prepare=prepare)
    bench.measure(row, PEERS[:3], 3, TINY)
    a, b, c = (peer.name for peer in PEERS[:3])
    assert turns == [a, b, c, b, c, a, c, a, b]


def test_a_server_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def prepare(_: Row, peer: Peer, __: Scale) -> Iterator[Trial]:
        def trial() -> Sample:
            if peer is PEERS[0]:
                raise LoadFailed("no reply")
            return Sample(1)

        yield trial

    samples = bench.measure(replace(ROWS[0], prepare=prepare), PEERS[:2], 2, TINY)
    assert samples == {PEERS[1].name: [Sample(1), Sample(1)]}
    name = f"{ROWS[0].key} {ROWS[0].name}"
    assert capsys.readouterr().err == f"{name}: {PEERS[0].name} is left out: no reply\n"


def test_a_client_wants_the_reply_that_it_expects() -> None:
    with (
        running(named("ours"), "data") as server,
        Client(server.port) as client,
        pytest.raises(ValueError, match="instead of 354"),
    ):
        client.say(b"DATA\r\n", 354)


def test_a_load_that_fails_says_why() -> None:
    with running(named("ours"), "lmtp") as server, pytest.raises(LoadFailed, match="500"):
        pipelining(server.port, 1)
