"""Accepting: a listening socket gives what it accepts to the service, whatever accepting does."""

import asyncio
import errno
import logging
import socket
from collections import deque
from typing import cast

import pytest
from tests.server.fakes import FakeLoop

from smtp_server.accepting import TLSListener

ADDRESS = ("192.0.2.1", 1025)


class FakeSocket:
    """A socket that was accepted, or that listens: then it has a queue of those that come."""

    def __init__(self, *queue: "FakeSocket | BaseException") -> None:
        self.queue = deque(queue)
        self.blocking = True
        self.closed = False

    def setblocking(self, blocking: bool) -> None:
        """Take that it is not to wait."""
        self.blocking = blocking

    def accept(self) -> tuple["FakeSocket", object]:
        """Give the next that has come."""
        assert (self.closed, self.blocking) == (False, False)
        if not self.queue:
            raise BlockingIOError
        next_one = self.queue.popleft()
        if isinstance(next_one, BaseException):
            raise next_one
        return next_one, ADDRESS

    def close(self) -> None:
        """Close it."""
        self.closed = True


class Listening:
    """A listener on a fake socket."""

    def __init__(self, loop: FakeLoop, *queue: FakeSocket | BaseException) -> None:
        self.loop = loop
        self.socket = FakeSocket(*queue)
        self.accepted: list[FakeSocket] = []
        self.listener = TLSListener(cast(socket.socket, self.socket), loop, self.take)
        loop.complete(self.listener.start_serving())

    def take(self, sock: socket.socket, address: object) -> None:
        assert address == ADDRESS
        self.accepted.append(cast(FakeSocket, sock))

    def ready(self) -> None:
        """Somebody has come."""
        self.loop.call(self.loop.readers[self.socket])

    @property
    def watched(self) -> bool:
        return self.socket in self.loop.readers


def test_whoever_comes_is_accepted(loop: FakeLoop) -> None:
    first, second = FakeSocket(), FakeSocket()
    listening = Listening(loop, first, second)
    listening.ready()
    assert listening.accepted == [first, second]
    assert not first.blocking
    assert listening.watched


def test_others_get_their_turn_while_many_come(loop: FakeLoop) -> None:
    crowd = [FakeSocket() for _ in range(1000)]
    listening = Listening(loop, *crowd)
    listening.ready()
    assert 10 < len(listening.accepted) < 500
    while listening.socket.queue:
        listening.ready()
    assert listening.accepted == crowd


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(),
        InterruptedError(),
        ConnectionAbortedError(),
        OSError(errno.EPROTO, "Protocol error"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
    ],
    ids=repr,
)
def test_somebody_who_has_gone_again(
    loop: FakeLoop, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    other = FakeSocket()
    listening = Listening(loop, error, other)
    listening.ready()
    listening.ready()
    assert listening.accepted == [other]
    assert caplog.records == []


def test_too_many_open_files(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again later, and not a thousand times in a second."""
    late = FakeSocket()
    listening = Listening(loop, OSError(24, "Too many open files"), late)
    listening.ready()
    assert not listening.watched
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    loop.advance(10)
    listening.ready()
    assert listening.accepted == [late]


def test_too_many_open_files_for_a_long_time(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told when it begins, and when it is over, and again when it comes again."""
    late, later, last = FakeSocket(), FakeSocket(), FakeSocket()
    full = OSError(errno.EMFILE, "Too many open files")
    # In between one may close, for which somebody gets in: that is no end of it.
    listening = Listening(loop, *[full] * 20, late, *[full] * 20, later)
    for _ in range(42):
        listening.ready()
        loop.advance(1.1)
    assert listening.accepted == [late, later]
    told = [logging.ERROR, logging.WARNING]
    assert [record.levelno for record in caplog.records] == told
    listening.socket.queue += [full, last]
    for _ in range(3):
        listening.ready()
        loop.advance(1.1)
    assert listening.accepted == [late, later, last]
    assert [record.levelno for record in caplog.records] == told * 2
    assert {record.name for record in caplog.records} == {"smtp_server"}


def test_it_is_closed_before_it_is_tried_again(loop: FakeLoop) -> None:
    listening = Listening(loop, OSError(24, "Too many open files"))
    listening.ready()
    listening.listener.close()
    loop.advance(10)
    assert not listening.watched


def test_a_service_that_fails_leaves_no_socket_open(loop: FakeLoop) -> None:
    accepted = FakeSocket()

    def fail(sock: object, address: object) -> None:
        raise ValueError("no")

    listening = FakeSocket(accepted)
    listener = TLSListener(cast(socket.socket, listening), loop, fail)
    loop.complete(listener.start_serving())
    with pytest.raises(ValueError, match="no"):
        loop.call(loop.readers[listening])
    assert accepted.closed


def test_the_service_closes_it_while_it_accepts(loop: FakeLoop) -> None:
    last, unheard = FakeSocket(), FakeSocket()
    listening = FakeSocket(last, unheard)
    accepted: list[object] = []

    def take(sock: object, address: object) -> None:
        accepted.append(sock)
        listener.close()

    listener = TLSListener(cast(socket.socket, listening), loop, take)
    loop.complete(listener.start_serving())
    loop.call(loop.readers[listening])
    assert accepted == [last]


def test_nothing_is_accepted_before_it_is_told_to_serve(loop: FakeLoop) -> None:
    listening = FakeSocket(FakeSocket())
    listener = TLSListener(cast(socket.socket, listening), loop, lambda sock, address: None)
    assert not listener.is_serving()
    assert listening not in loop.readers
    listener.close()


def test_it_is_a_server_as_those_of_asyncio(loop: FakeLoop) -> None:
    listening = Listening(loop)
    listener = listening.listener
    assert listener.get_loop() is loop
    before: list[object] = [listener.is_serving(), *listener.sockets]
    assert before == [True, listening.socket]
    waiting = [
        loop.create_task(listener.wait_closed()),
        loop.create_task(listener.serve_forever()),
    ]
    loop.turn()
    assert not any(task.done() for task in waiting)
    loop.call(listener.close)
    listener.close()
    assert all(task.done() for task in waiting)
    after: list[object] = [listener.is_serving(), *listener.sockets]
    assert after == [False]
    assert listening.socket.closed
    assert isinstance(listener, asyncio.AbstractServer)
