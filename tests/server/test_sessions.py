"""Sessions: those of a service are counted from the moment they are accepted to their end."""

from functools import partial

import pytest
from tests.server.fakes import FakeLoop

from smtp_protocol import Peer, replies
from smtp_server.sessions import Counted, Sessions
from smtp_server.settings import Settings


class Client:
    """A session that is where its test says."""

    def __init__(self, host: str | None = "192.0.2.1") -> None:
        self.peer: Peer = host and (host, 1025)

    def shut_down(self) -> None:
        """It is not asked to."""

    def abort(self) -> None:
        """It is not asked to."""


NO_LIMITS = Settings()


def come(sessions: Sessions, session: Counted, settings: Settings = NO_LIMITS) -> object:
    """Accept a session, and learn whose it is."""
    return sessions.enter(session, settings) or sessions.identify(session, settings)


def test_any_number_where_there_is_no_limit() -> None:
    sessions = Sessions()
    clients = [Client() for _ in range(1000)]
    assert {come(sessions, client) for client in clients} == {None}
    assert list(sessions) == clients
    assert len(sessions) == 1000


def test_one_too_many() -> None:
    settings = Settings(max_connections=2)
    sessions = Sessions()
    first, second, third = Client(), Client(), Client()
    assert come(sessions, first, settings) is None
    assert come(sessions, second, settings) is None
    assert come(sessions, third, settings) is replies.CLOSING_BUSY
    assert list(sessions) == [first, second, third], "it is there until it has gone"


def test_a_refused_one_takes_nobodys_place() -> None:
    settings = Settings(max_connections=1)
    sessions = Sessions()
    first, refused = Client(), Client()
    come(sessions, first, settings)
    come(sessions, refused, settings)
    sessions.remove(first)
    assert come(sessions, Client(), settings) is None, "though the refused one is still there"


def test_places_are_free_again() -> None:
    settings = Settings(max_connections=1, max_connections_per_host=1)
    sessions = Sessions()
    for _ in range(5):
        client = Client()
        assert come(sessions, client, settings) is None
        sessions.remove(client)
    assert len(sessions) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::2"),
        ("2001:db8::", "2001:0DB8::ffff"),
    ],
)
def test_too_many_of_one_network(one: str, other: str) -> None:
    settings = Settings(max_connections_per_host=1)
    sessions = Sessions()
    first, second = Client(one), Client(other)
    assert come(sessions, first, settings) is None
    assert come(sessions, second, settings) is replies.CLOSING_BUSY
    sessions.remove(second)
    assert come(sessions, Client("198.51.100.1"), settings) is None, "another one has room"
    sessions.remove(first)
    assert come(sessions, Client(other), settings) is None


def test_who_comes_over_a_unix_socket_has_no_network() -> None:
    settings = Settings(max_connections_per_host=1)
    sessions = Sessions()
    assert [come(sessions, Client(None), settings) for _ in range(3)] == [None] * 3


def test_one_of_several_goes() -> None:
    settings = Settings(max_connections_per_host=2)
    sessions = Sessions()
    first = Client()
    assert [come(sessions, client, settings) for client in (first, Client())] == [None, None]
    sessions.remove(first)
    assert come(sessions, Client(), settings) is None
    assert come(sessions, Client(), settings) is replies.CLOSING_BUSY


def test_how_much_of_an_address_is_a_network() -> None:
    settings = Settings(max_connections_per_host=1, ipv6_prefix=128)
    sessions = Sessions()
    assert come(sessions, Client("2001:db8::1"), settings) is None
    assert come(sessions, Client("2001:db8::2"), settings) is None
    assert come(sessions, Client("2001:db8::1"), settings) is replies.CLOSING_BUSY


def test_a_client_is_counted_where_it_was_when_it_came() -> None:
    """A hook, or XCLIENT, may say later that it is somebody else."""
    settings = Settings(max_connections_per_host=1)
    sessions = Sessions()
    client = Client("192.0.2.1")
    come(sessions, client, settings)
    client.peer = "192.0.2.2", 1
    assert client.peer[0] == "192.0.2.2"
    sessions.remove(client)
    assert come(sessions, Client("192.0.2.1"), settings) is None


def test_a_service_that_is_closed_takes_none() -> None:
    sessions = Sessions()
    sessions.closed = True
    late = Client()
    assert come(sessions, late) is replies.CLOSING_SHUTDOWN
    assert len(sessions) == 1
    sessions.remove(late)
    assert len(sessions) == 0


def test_counting_out_twice() -> None:
    sessions = Sessions()
    client = Client()
    come(sessions, client, Settings(max_connections_per_host=1))
    sessions.remove(client)
    sessions.remove(client)
    assert len(sessions) == 0


def test_sessions_may_go_while_they_are_gone_through() -> None:
    sessions = Sessions()
    for _ in range(3):
        come(sessions, Client())
    for session in sessions:
        sessions.remove(session)
    assert len(sessions) == 0


def test_waiting_for_the_last(loop: FakeLoop) -> None:
    sessions = Sessions()
    first, second = Client(), Client()
    come(sessions, first)
    come(sessions, second)
    waiting = [loop.create_task(sessions.wait_empty()) for _ in range(3)]
    loop.turn()
    waiting[0].cancel()
    loop.call(partial(sessions.remove, first))
    assert [task.done() for task in waiting] == [True, False, False]
    loop.call(partial(sessions.remove, second))
    assert [task.done() for task in waiting] == [True, True, True]


def test_waiting_where_there_is_nobody(loop: FakeLoop) -> None:
    loop.complete(Sessions().wait_empty())
