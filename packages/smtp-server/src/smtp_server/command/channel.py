"""Channel: questions of a supervisor to one worker and its answers, as JSON of bounded length.

It is JSON because a supervisor may be root, and takes nothing from a worker but figures and texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypedDict

__all__: list[str] = []

#: What can be asked and answered.
Value = Mapping[str, "Value"] | Sequence["Value"] | str | int | float | None

#: Answers a question of one name, given what came with the question.
Answer = Callable[[Value], Awaitable[Value]]

# In octets. Figures are some thousands, a configuration is less.
_LONGEST = 2**22

_LENGTH = struct.Struct("!I")


class Task(TypedDict):
    """What comes with the first question.

    Attributes:
        sockets: The descriptors to listen on, for each kind of listener.
        path: What ``sys.path`` is to be.
        file: What the file of ``--config`` says.
        handed: The numbers and names of sockets that systemd has handed over.
    """

    sockets: list[list[int]]
    path: list[str]
    file: dict[str, object]
    handed: list[tuple[int, str]]


class Asking:
    """The supervisor's end, in its event loop: questions out, answers in.

    The first question is what the worker is to do; its answer means that the worker does it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Value]] = {}
        self._asked = 0
        self._reading: asyncio.Task[None] = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Use one socket of a pair; it is closed with this."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    async def ask(self, question: str, value: Value = None) -> Value:
        """Ask, and wait for the answer, however long a busy worker takes.

        Raises:
            ConnectionError: The worker has gone.
        """
        if self._reading.done():
            raise ConnectionResetError("the worker has gone")
        number, self._asked = self._asked, self._asked + 1
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(_pack([number, question, value]))
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Ask nothing more. To a worker that is there, it means that its supervisor has gone."""
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            # The last two come of what only a worker that somebody has taken over would send.
            with contextlib.suppress(OSError, EOFError, ValueError, RecursionError):
                while True:
                    self._take(await _receive(reader))
        finally:
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the worker has gone"))

    def _take(self, message: Value) -> None:
        match message:
            case [int(number), value]:
                answer = self._waiting.get(number)  # who asked may have stopped waiting
                if answer is not None and not answer.done():
                    answer.set_result(value)
            case _:
                raise ValueError("that is no answer")


class Answering:
    """The worker's end. Making it waits for the first question, before there is an event loop.

    Args:
        sock: The other socket of the pair.

    Attributes:
        task: What came with the first question.

    Raises:
        EOFError: The supervisor has gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.set_inheritable(False)
        (length,) = _LENGTH.unpack(_receive_exactly(sock, _LENGTH.size))
        self.task: Task
        self._first, _, self.task = _question(_receive_exactly(sock, length))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Go on in the running event loop."""
        return await asyncio.open_unix_connection(sock=self._sock)

    def ready(self, writer: asyncio.StreamWriter) -> None:
        """Answer the first question: it is being done."""
        writer.write(_pack([self._first, None]))


async def answer_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Mapping[str, Answer]
) -> None:
    """Answer the questions that follow, until the supervisor has gone.

    Args:
        reader: Where questions come from.
        writer: Where answers go.
        answers: By the name of the question.
    """
    with contextlib.suppress(OSError, EOFError):
        while True:
            number, name, value = _question(await reader.readexactly(await _length(reader)))
            writer.write(_pack([number, await answers[name](value)]))


def _pack(message: Value) -> bytes:
    text = json.dumps(message).encode()
    return _LENGTH.pack(len(text)) + text


def _question(text: bytes) -> tuple[int, str, Any]:
    number, name, value = json.loads(text)
    return number, name, value


async def _length(reader: asyncio.StreamReader) -> int:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _LONGEST:
        raise ValueError(f"a message of {length} octets is too long")
    return int(length)


async def _receive(reader: asyncio.StreamReader) -> Value:
    message: Value = json.loads(await reader.readexactly(await _length(reader)))
    return message


def _receive_exactly(sock: socket.socket, length: int) -> bytes:
    octets = b""
    while len(octets) < length:
        more = sock.recv(length - len(octets))
        if not more:
            raise EOFError("the supervisor has gone")
        octets += more
    return octets
