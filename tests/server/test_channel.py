"""Channel: both ends on a real pair of sockets, and ends that misbehave."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Mapping

import pytest
from tests.server.support import DEADLINE

from smtp_server.command.channel import Answer, Answering, Asking, Value, answer_all

TASK: Mapping[str, Value] = {"sockets": [[3, 4], [5]], "path": ["/a", "/b"]}


@contextlib.asynccontextmanager
async def channel(answers: Mapping[str, Answer]) -> AsyncIterator[Asking]:
    """A channel whose worker has been given its task and is ready."""
    ours, theirs = socket.socketpair()
    asking = await Asking.open(ours)
    begun = asyncio.create_task(asking.ask("serve", TASK))
    answering = await asyncio.to_thread(Answering, theirs)
    assert answering.task == TASK
    reader, writer = await answering.open()
    worker = asyncio.create_task(answer_all(reader, writer, answers))
    assert not begun.done()
    answering.ready(writer)
    try:
        async with asyncio.timeout(DEADLINE):
            assert await begun is None
            yield asking
    finally:
        await asking.close()
        async with asyncio.timeout(DEADLINE):
            await worker  # it sees that nobody asks any more
        writer.close()


async def double(value: Value) -> Value:
    assert isinstance(value, int)
    return value * 2


async def test_questions_and_answers() -> None:
    async with channel({"double": double}) as asking:
        answers = await asyncio.gather(*(asking.ask("double", n) for n in range(100)))
        assert answers == [2 * n for n in range(100)]


async def test_a_long_value() -> None:
    async def echo(value: Value) -> Value:
        return value

    text = "é" * 300_000
    async with channel({"echo": echo}) as asking:
        assert await asking.ask("echo", [text, {"a": None}]) == [text, {"a": None}]


async def test_who_stops_waiting_does_not_disturb_the_others() -> None:
    gate = asyncio.Event()

    async def slow(value: Value) -> Value:
        await gate.wait()
        return value

    async with channel({"slow": slow}) as asking:
        impatient = asyncio.create_task(asking.ask("slow", 1))
        patient = asyncio.create_task(asking.ask("slow", 2))
        await asyncio.sleep(0)
        impatient.cancel()
        gate.set()
        assert await patient == 2


async def test_the_supervisor_goes_before_the_first_question() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        thread = asyncio.create_task(asyncio.to_thread(Answering, theirs))
        ours.sendall(b"\0\0\0\x10half a ques")
        ours.close()
        with pytest.raises(EOFError, match="the supervisor has gone"):
            await thread


def frame(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


DEEP = b"[" * 100_000

MISDEEDS = {
    "nothing": b"",
    "half a length": b"\0\0",
    "half a message": b"\0\0\0\x08[0, nul",
    "too long": b"\xff\xff\xff\xff" + b"x" * 1000,
    "no JSON": frame(b"\xffhello"),
    "no answer": frame(json.dumps({"answer": 1}).encode()),
    "no number": frame(b'["0", null]'),
    "deep": frame(DEEP),
}


@pytest.mark.parametrize("octets", MISDEEDS.values(), ids=MISDEEDS.keys())
async def test_a_worker_that_misbehaves_is_as_one_that_has_gone(octets: bytes) -> None:
    ours, theirs = socket.socketpair()
    asking = await Asking.open(ours)
    with theirs:
        asked = asyncio.create_task(asking.ask("serve", TASK))
        await asyncio.sleep(0)
        # From a thread, for it may be more than there is room for.
        thread = threading.Thread(target=theirs.sendall, args=(octets,))
        thread.start()
        await asyncio.to_thread(thread.join)
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ConnectionError, match="the worker has gone"):
                await asked
            with pytest.raises(ConnectionError, match="the worker has gone"):
                await asking.ask("figures")
    await asking.close()


async def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    ours, theirs = socket.socketpair()
    asking = await Asking.open(ours)
    with theirs:
        asked = asyncio.create_task(asking.ask("figures"))
        await asyncio.sleep(0)
        theirs.sendall(frame(b"[17, 1]") + frame(b"[0, 2]"))
        async with asyncio.timeout(DEADLINE):
            assert await asked == 2
        await asking.close()
