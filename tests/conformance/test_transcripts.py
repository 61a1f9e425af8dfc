"""Every transcript, played to the engine and to a live server: whole, by octets, pipelined."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.engine import EngineBackend
from tests.conformance.live import live_backend
from tests.conformance.player import MODES, Mode, play
from tests.conformance.transcript import Transcript, read

TRANSCRIPTS = [read(path) for path in sorted((Path(__file__).parent / "transcripts").glob("*.txt"))]


def cases(backend: str) -> Iterator[object]:
    for transcript in TRANSCRIPTS:
        if transcript.needs_server if backend == "engine" else transcript.needs_tls:
            continue
        for mode in MODES:
            if mode not in transcript.not_played:
                yield pytest.param(transcript, mode, id=f"{transcript.name}-{mode}")


@pytest.mark.parametrize(("transcript", "mode"), list(cases("engine")))
async def test_engine(transcript: Transcript, mode: Mode) -> None:
    await play(transcript, EngineBackend(transcript), mode)


@pytest.mark.parametrize(("transcript", "mode"), list(cases("live")))
async def test_live(transcript: Transcript, mode: Mode) -> None:
    async with live_backend(transcript) as backend:
        await play(transcript, backend, mode)
