"""Link: octets in and out, one errand at a time, idle time, and an end that loses nothing."""

import asyncio

import pytest
from tests.server.fakes import FakeLoop, FakePeer, FakeTransport
from tests.server.secure import shared_server_context

from smtp_server.link import Errand, Link
from smtp_server.tls import Certificates

LIMIT = 60.0


class Echo(Link):
    """Says again what it hears, unless an errand is under way."""

    def __init__(self, loop: FakeLoop) -> None:
        super().__init__()
        self.loop = loop
        self.heard: list[bytes] = []
        self.limit: float | None = LIMIT
        self.timed_out: list[float] = []
        self.over = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._attach(transport, self.loop)

    def data_received(self, data: bytes) -> None:
        self._heard()
        self.heard.append(data)
        self._output.append(data)
        self._advance()

    def eof_received(self) -> bool:
        self._eof = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._detach()

    def _advance(self) -> None:
        if self._writing and not self._busy:
            self._flush()

    def _idle_limit(self) -> float | None:
        return self.limit

    def _timed_out(self, seconds: float) -> None:
        self.timed_out.append(seconds)

    def _see_whether_over(self) -> None:
        self.over += 1

    async def wait(self, event: asyncio.Event, notes: list[str] | None = None) -> None:
        """An errand: wait for something."""
        try:
            await event.wait()
        except asyncio.CancelledError:
            if notes is not None:
                notes.append("cancelled")
            raise
        finally:
            if notes is not None:
                notes.append("done")
            self._errand_done()
        self._advance()


@pytest.fixture
def echo(loop: FakeLoop) -> Echo:
    return Echo(loop)


@pytest.fixture
def peer(echo: Echo, loop: FakeLoop) -> FakePeer:
    return FakePeer(echo, loop)


def busy(link: Link) -> bool:
    return link._busy


# Octets.


def test_what_comes_is_heard_as_it_was_cut(echo: Echo, peer: FakePeer) -> None:
    assert peer.send("one") == "one"
    assert peer.send("two") == "two"
    assert echo.heard == [b"one", b"two"]


def test_what_was_heard_does_not_change_when_more_comes(echo: Echo, peer: FakePeer) -> None:
    """The room that a thread reads into is used again."""
    peer.send("first")
    (first,) = echo.heard
    peer.send("other")
    assert first == b"first"


def test_more_than_there_is_room_for_comes_in_parts(echo: Echo, peer: FakePeer) -> None:
    text = "x" * (2 * len(echo.get_buffer(-1)) + 1)
    peer.send(text)
    assert b"".join(echo.heard).decode() == text
    assert len(echo.heard) == 3


def test_room_for_as_much_as_asyncio_has(echo: Echo) -> None:
    """Inside TLS it asks once, when the peer has gone."""
    usual = len(echo.get_buffer(-1))
    much = 3 * usual
    assert len(echo.get_buffer(much)) == much
    assert len(echo.get_buffer(1)) >= usual


def test_what_is_said_goes_out_in_one_piece(echo: Echo, peer: FakePeer) -> None:
    echo._output += [b"one", b"two"]
    echo._flush()
    assert peer.transport.writes() == 1
    assert peer.transport.take() == "onetwo"
    echo._flush()
    assert peer.transport.writes() == 0


def test_a_peer_that_does_not_take_what_is_said(echo: Echo, peer: FakePeer) -> None:
    peer.stop_taking()
    assert peer.send("x") == ""
    assert peer.take_again() == "x"


def test_reading_stops_and_goes_on(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._read(False)
    assert not peer.transport.is_reading()
    loop.advance(LIMIT)
    echo._read(True)
    assert peer.transport.is_reading()
    assert echo._active == LIMIT, "the peer's turn begins"


def test_a_transport_is_told_once(echo: Echo, peer: FakePeer) -> None:
    echo._read(True)
    peer.transport.close()
    echo._read(False)
    assert peer.transport.is_reading(), "it is being closed"


# Errands.


def test_an_errand_holds_up_what_follows(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    event = asyncio.Event()
    loop.call(echo._start, echo.wait(event))
    assert busy(echo)
    assert peer.send("x") == ""
    loop.call(event.set)
    assert not busy(echo)
    assert peer.transport.take() == "x"


def test_an_errand_that_need_not_wait(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    event = asyncio.Event()
    event.set()
    with loop.running():
        echo._start(echo.wait(event))
        at_once = not busy(echo)
    assert [at_once] == [hasattr(asyncio, "eager_task_factory")]
    loop.turn()
    assert not busy(echo)


def test_an_errand_is_cancelled_from_its_first_wait_on(
    echo: Echo, peer: FakePeer, loop: FakeLoop
) -> None:
    """It always gets as far as to what it owes at its end."""
    notes: list[str] = []
    echo._start(echo.wait(asyncio.Event(), notes))
    echo._cancel_errand()
    assert echo._ending
    loop.turn()
    assert notes == ["cancelled", "done"]
    assert not busy(echo)


def test_an_errand_that_waits_is_cancelled_at_once(echo: Echo, loop: FakeLoop) -> None:
    errand = Errand(echo.wait(asyncio.Event()), loop=loop)
    loop.turn()
    assert errand.cancel()
    loop.turn()
    assert errand.cancelled()


def test_there_may_be_no_errand_to_cancel(echo: Echo) -> None:
    echo._cancel_errand()
    assert echo._ending


def test_the_end_waits_for_the_errand(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    event = asyncio.Event()
    loop.call(echo._start, echo.wait(event))
    peer.lose()
    assert echo.over == 1
    loop.call(event.set)
    assert echo.over == 2


# Idle time.


def test_a_peer_that_says_nothing(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._watch_time(LIMIT)
    loop.advance(LIMIT - 1)
    assert echo.timed_out == []
    loop.advance(1)
    assert echo.timed_out == [LIMIT]
    loop.advance(10 * LIMIT)
    assert echo.timed_out == [LIMIT]


def test_each_word_begins_its_time_anew(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._watch_time(LIMIT)
    for _ in range(10):
        loop.advance(LIMIT - 1)
        peer.send("x")
    assert echo.timed_out == []
    loop.advance(LIMIT)
    assert echo.timed_out == [LIMIT]


def test_one_timer_for_a_whole_session(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._watch_time(LIMIT)
    for _ in range(10):
        peer.send("x")
    assert loop.timers == 1


def test_the_limit_may_change(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._watch_time(LIMIT)
    echo.limit = None
    loop.advance(10 * LIMIT)
    assert echo.timed_out == []
    echo._heard()
    echo.limit = 3 * LIMIT
    loop.advance(3 * LIMIT - 1)
    assert echo.timed_out == []
    loop.advance(1)
    assert echo.timed_out == [3 * LIMIT]


# The end.


def test_hanging_up_says_what_was_to_be_said(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._output.append(b"bye")
    echo._hang_up(linger=False)
    assert peer.transport.take() == "bye"
    assert peer.transport.ends == ["close"]
    assert loop.timers == 0


def test_hanging_up_once_is_enough(echo: Echo, peer: FakePeer) -> None:
    echo._hang_up(linger=True)
    echo._hang_up(linger=False)
    assert peer.transport.ends == ["eof"]


def test_a_peer_that_may_be_sending_is_read_for_a_while(
    echo: Echo, peer: FakePeer, loop: FakeLoop
) -> None:
    echo._hang_up(linger=True)
    assert peer.transport.ends == ["eof"]
    loop.advance(LIMIT)
    assert peer.transport.ends == ["eof", "abort"]


def test_a_peer_that_has_ended_is_not_waited_for(echo: Echo, peer: FakePeer) -> None:
    peer.end()
    echo._hang_up(linger=True)
    assert peer.transport.ends == ["close"]


def test_a_peer_that_does_not_take_its_last_reply(
    echo: Echo, peer: FakePeer, loop: FakeLoop
) -> None:
    peer.transport.waiting = 10
    echo._hang_up(linger=False)
    assert peer.transport.ends == ["close"]
    loop.advance(LIMIT)
    assert peer.transport.ends == ["close", "abort"]


def test_tls_cannot_linger(echo: Echo, loop: FakeLoop) -> None:
    transport = FakeTransport(half_closes=False)
    FakePeer(echo, loop, transport)
    echo._hang_up(linger=True)
    assert transport.ends == ["close"]
    loop.advance(LIMIT)
    assert transport.ends == ["close", "abort"], "the peer has not closed it, too"


def test_tls_does_not_wait_for_the_peers_end(echo: Echo, loop: FakeLoop) -> None:
    """RFC 8446 §6.1: it says its own."""
    transport = FakeTransport(half_closes=False)
    FakePeer(echo, loop, transport)
    echo._hang_up(linger=False)
    assert transport.ends == ["close"]
    loop.advance(0)
    assert transport.ends == ["close", "abort"]


def test_a_transport_is_not_closed_twice(echo: Echo, loop: FakeLoop) -> None:
    """asyncio's TLS, which the peer has ended, could not be aborted any more."""
    transport = FakeTransport(half_closes=False)
    FakePeer(echo, loop, transport)
    transport.close()
    echo._hang_up(linger=False)
    loop.advance(0)
    assert transport.ends == ["close", "abort"]


def test_nothing_is_written_where_nobody_is_any_more(echo: Echo, peer: FakePeer) -> None:
    peer.transport.abort()
    echo._output.append(b"bye")
    echo._hang_up(linger=False)
    assert peer.transport.take() == ""


@pytest.mark.parametrize("ended", [True, False])
def test_inside_tls_the_peers_end_is_looked_for_while_it_is_not_read(
    echo: Echo, loop: FakeLoop, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the end of everything, and nobody tells it."""
    monkeypatch.setattr("smtp_server.link.has_ended", lambda transport: ended)
    transport = FakeTransport(half_closes=False)
    peer = FakePeer(echo, loop, transport)
    echo._read(False)
    echo._output.append(b"hello")
    echo._flush()
    assert peer.transport.take() == ("" if ended else "hello")


def test_nothing_is_waited_for_after_the_end(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    echo._watch_time(LIMIT)
    echo._hang_up(linger=True)
    assert loop.timers == 1, "that of idle time is off"
    peer.lose()
    assert loop.timers == 0
    assert echo.over == 1


def test_a_connection_that_is_lost_is_not_touched(
    echo: Echo, peer: FakePeer, loop: FakeLoop
) -> None:
    """The fake fails when it is used."""
    peer.stop_taking()
    peer.lose()
    assert echo._writing, "what is left to do is not held up"
    echo._output.append(b"nobody hears it")
    echo._flush()
    assert echo._output == []
    echo._read(False)
    echo._hang_up(linger=True)
    echo._drop()
    assert loop.timers == 0


def test_dropping_forgets_at_once(echo: Echo, peer: FakePeer) -> None:
    echo._drop()
    assert peer.transport.ends == ["abort"]
    assert not echo._connected
    assert echo.over == 1


# TLS.


def encrypt(echo: Echo, loop: FakeLoop) -> None:
    loop.complete(echo._encrypt(Certificates(shared_server_context()), limit=1))


def test_a_handshake_gives_another_transport(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    loop.encrypted = encrypted = FakeTransport(half_closes=False)
    echo._read(False)
    peer.stop_taking()
    encrypt(echo, loop)
    echo._output.append(b"secret")
    echo._flush()
    assert encrypted.take() == "secret"
    echo._read(False)
    assert not encrypted.is_reading()


def test_a_handshake_that_fails(echo: Echo, peer: FakePeer, loop: FakeLoop) -> None:
    loop.encrypted = ConnectionResetError("no")
    with pytest.raises(ConnectionResetError, match="no"):
        encrypt(echo, loop)
