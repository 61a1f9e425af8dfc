"""Bodies: a message is gathered, or handed on to a hook that runs meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from tests.server.fakes import FakeLoop

from smtp_protocol import BodyAborted
from smtp_server.bodies import MemoryBody, StreamedBody

# More than a stream holds before the socket is left unread.
MUCH = b"x" * 65 * 1024

Read = Callable[[AsyncIterator[bytes]], Awaitable[object]]


def test_a_message_is_gathered() -> None:
    body = MemoryBody()
    body.write(b"one ")
    body.write(b"two")
    assert body.octets == 7
    assert not body.full
    body.abort()
    assert body.content() == b"one two"


def _body(read: Read, told: list[object]) -> StreamedBody:
    async def hook(chunks: AsyncIterator[bytes]) -> object:
        return await read(chunks)

    return StreamedBody(hook, lambda: told.append("resume"), told.append, told.append)


class Stream:
    """A stream whose hook runs beside it, and what was told of it."""

    def __init__(self, loop: FakeLoop, read: Read) -> None:
        self.loop = loop
        self.told: list[object] = []
        self.body = _body(read, self.told)
        self.body.start(loop)
        loop.turn()

    def write(self, chunk: bytes) -> None:
        self.loop.call(self.body.write, chunk)

    def end(self) -> object:
        assert self.loop.call(self.body.content) == b""
        return self.result()

    def result(self) -> object:
        return self.loop.complete(self.body.result())


async def read_all(chunks: AsyncIterator[bytes]) -> object:
    return [chunk async for chunk in chunks]


async def read_none(chunks: AsyncIterator[bytes]) -> object:
    return "250 That is enough"


async def read_one(chunks: AsyncIterator[bytes]) -> object:
    return await anext(chunks)


async def wait(chunks: AsyncIterator[bytes]) -> object:
    await asyncio.Event().wait()
    raise AssertionError


async def fail(chunks: AsyncIterator[bytes]) -> object:
    raise ValueError("full disk")


async def exit_program(chunks: AsyncIterator[bytes]) -> object:
    raise SystemExit(3)


async def fail_when_it_is_cut(chunks: AsyncIterator[bytes]) -> object:
    with suppress(BodyAborted):
        return await read_all(chunks)
    raise ValueError("full disk")


async def fail_for_the_cut(chunks: AsyncIterator[bytes]) -> object:
    try:
        return await read_all(chunks)
    except BodyAborted:
        raise ValueError("no message")  # noqa: B904 as people write it


async def fail_in_a_group(chunks: AsyncIterator[bytes]) -> object:
    async with asyncio.TaskGroup() as group:
        group.create_task(read_in_a_task(chunks))
    return None


async def read_in_a_task(chunks: AsyncIterator[bytes]) -> None:
    await read_all(chunks)


def test_chunks_come_as_they_are_written(loop: FakeLoop) -> None:
    stream = Stream(loop, read_all)
    stream.write(b"one")
    stream.write(b"two")
    assert stream.end() == [b"one", b"two"]
    assert stream.body.octets == 6
    assert stream.told == ["resume", stream.body]


def test_chunks_that_come_before_the_hook_reads(loop: FakeLoop) -> None:
    stream = Stream(loop, read_all)
    stream.body.write(b"one")
    stream.body.write(b"two")
    assert stream.end() == [b"one", b"two"]


def test_a_message_without_a_chunk(loop: FakeLoop) -> None:
    assert Stream(loop, read_all).end() == []


def test_a_stream_that_is_not_read_is_full(loop: FakeLoop) -> None:
    opened = asyncio.Event()

    async def read_later(chunks: AsyncIterator[bytes]) -> object:
        await opened.wait()
        return await read_all(chunks)

    stream = Stream(loop, read_later)
    for chunk in (MUCH, b"little", b"more"):
        stream.write(chunk)
    assert [stream.body.full, stream.told] == [True, []]
    loop.call(opened.set)
    assert [stream.body.full, stream.told] == [False, ["resume"]], "once, when there is room"
    assert stream.end() == [MUCH, b"little", b"more"]


@pytest.mark.parametrize("read", [read_none, read_one])
def test_the_rest_is_dropped_behind_a_hook_that_returns_early(loop: FakeLoop, read: Read) -> None:
    stream = Stream(loop, read)
    for _ in range(3):
        stream.write(MUCH)
        assert not stream.body.full
    assert stream.end() == ("250 That is enough" if read is read_none else MUCH)
    assert stream.body.octets == 3 * len(MUCH)
    assert stream.told[-2:] == ["resume", stream.body]


def test_what_waits_is_dropped_when_the_hook_returns(loop: FakeLoop) -> None:
    opened = asyncio.Event()

    async def read_nothing_later(chunks: AsyncIterator[bytes]) -> object:
        return await opened.wait()

    stream = Stream(loop, read_nothing_later)
    stream.write(MUCH)
    assert stream.body.full
    loop.call(opened.set)
    assert [stream.body.full, stream.told] == [False, ["resume", stream.body]]


def test_a_failure_is_the_result(loop: FakeLoop) -> None:
    stream = Stream(loop, fail)
    with pytest.raises(ValueError, match="full disk"):
        stream.end()
    assert stream.told == ["resume", stream.body], "who awaits the result tells it"


def test_a_hook_does_not_end_the_program(loop: FakeLoop) -> None:
    stream = Stream(loop, exit_program)
    with pytest.raises(Exception, match="SystemExit: 3"):
        stream.end()


@pytest.mark.parametrize("read", [read_all, fail_for_the_cut, fail_in_a_group])
def test_a_cut_is_an_exception_in_the_hook(loop: FakeLoop, read: Read) -> None:
    stream = Stream(loop, read)
    stream.write(b"half")
    loop.call(stream.body.abort)
    with pytest.raises((BodyAborted, ValueError, ExceptionGroup)):
        stream.result()
    assert stream.told == ["resume", stream.body], "which is no failure"


def test_what_came_before_the_cut_is_read_first(loop: FakeLoop) -> None:
    opened = asyncio.Event()
    read: list[bytes] = []

    async def read_later(chunks: AsyncIterator[bytes]) -> object:
        await opened.wait()
        read.append(await anext(chunks))
        return await anext(chunks)

    stream = Stream(loop, read_later)
    stream.write(b"half")
    stream.body.abort()
    loop.call(opened.set)
    assert read == [b"half"]
    with pytest.raises(BodyAborted):
        stream.result()


def test_a_hook_that_fails_behind_a_cut(loop: FakeLoop) -> None:
    """Nobody awaits its result."""
    stream = Stream(loop, fail_when_it_is_cut)
    loop.call(stream.body.abort)
    resumed, error, body = [stream.told[place] for place in (1, 0, 2)]
    assert (resumed, str(error), body) == ("resume", "full disk", stream.body)


def test_a_hook_that_had_failed_before_the_cut(loop: FakeLoop) -> None:
    stream = Stream(loop, fail)
    stream.body.abort()
    stream.body.abort()
    assert [str(told) for told in stream.told[2:]] == ["full disk"]


def test_a_hook_that_had_returned_before_the_cut(loop: FakeLoop) -> None:
    stream = Stream(loop, read_none)
    stream.body.abort()
    assert stream.told == ["resume", stream.body]


def test_there_is_no_cut_behind_the_end(loop: FakeLoop) -> None:
    stream = Stream(loop, read_all)
    stream.write(b"whole")
    stream.body.content()
    stream.body.abort()
    stream.body.cancel()
    assert stream.result() == [b"whole"]


def test_a_hook_that_reads_is_told_and_not_cancelled(loop: FakeLoop) -> None:
    stream = Stream(loop, fail_when_it_is_cut)
    loop.call(stream.body.cancel)
    assert [str(told) for told in stream.told[:1]] == ["full disk"]


def test_a_hook_that_waits_for_something_else_is_cancelled(loop: FakeLoop) -> None:
    stream = Stream(loop, wait)
    loop.call(stream.body.cancel)
    assert stream.told == ["resume", stream.body]
    with pytest.raises(asyncio.CancelledError):
        stream.result()


def test_a_hook_is_due_when_a_part_of_the_message_is_there() -> None:
    body = _body(read_all, [])
    due = [body.due]
    body.write(b"x")
    due += [body.due]
    body.content()
    assert [*due, body.due] == [False, True, False]


@pytest.mark.parametrize("chunks", [[], [b"one"], [MUCH, b"two"]])
def test_a_message_that_came_in_one_piece_needs_no_task(
    loop: FakeLoop, chunks: list[bytes]
) -> None:
    told: list[object] = []
    body = _body(read_all, told)
    for chunk in chunks:
        body.write(chunk)
    body.content()
    assert loop.complete(body.result()) == chunks
    assert told == ["resume"] * (MUCH in chunks)


def test_a_failure_of_a_hook_without_a_task(loop: FakeLoop) -> None:
    body = _body(fail, [])
    body.content()
    with pytest.raises(ValueError, match="full disk"):
        loop.complete(body.result())


def test_a_stream_that_no_hook_reads() -> None:
    """It can be cut, and given up, as one that is read."""
    body = _body(read_all, [])
    body.write(b"x")
    body.abort()
    body.cancel()
    assert body.octets == 1
