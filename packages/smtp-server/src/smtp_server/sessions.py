"""Sessions: those of one service, each counted from the moment it is accepted to its end."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from smtp_protocol import Peer, Reply, client_network, replies
from smtp_server.settings import Settings

__all__: list[str] = []


class Counted(Protocol):
    """A session, as far as the service has to do with it."""

    @property
    def peer(self) -> Peer:
        """The client, as far as it is known."""

    def shut_down(self) -> None:
        """End when no transaction is going on."""

    def abort(self) -> None:
        """End now."""


class Sessions:
    """The sessions of one service, counted in all and by network."""

    def __init__(self) -> None:
        # Those that are taken, each with the network that it counts for, once that is known.
        self._taken: dict[Counted, str | None] = {}
        # Those that are being refused with 421. They do not count towards the maximum.
        self._refused: set[Counted] = set()
        self._numbers: Counter[str] = Counter()
        #: Whether no more sessions are taken.
        self.closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._taken) + len(self._refused)

    def __iter__(self) -> Iterator[Counted]:
        return iter((*self._taken, *self._refused))

    def enter(self, session: Counted, settings: Settings) -> Reply | None:
        """Count a session that was accepted.

        Returns:
            The refusal of one that is too many.
        """
        most = settings.max_connections
        if self.closed:
            # Accepted in the very turn of the loop in which the service was closed.
            return self._refuse(session, replies.CLOSING_SHUTDOWN)
        if most is not None and len(self._taken) >= most:
            return self._refuse(session, replies.CLOSING_BUSY)
        self._taken[session] = None
        return None

    def identify(self, session: Counted, settings: Settings) -> Reply | None:
        """Count a session for its client's network, which is known now.

        Returns:
            The refusal of one that is too many of there.
        """
        most = settings.max_connections_per_host
        if most is None or not isinstance(session.peer, tuple):
            return None  # who comes over a Unix socket has no host
        network = client_network(session.peer[0], settings.ipv6_prefix)
        if self._numbers[network] >= most:
            return self._refuse(session, replies.CLOSING_BUSY)
        self._taken[session] = network
        self._numbers[network] += 1
        return None

    def _refuse(self, session: Counted, reply: Reply) -> Reply:
        self._taken.pop(session, None)
        self._refused.add(session)
        return reply

    def remove(self, session: Counted) -> None:
        """Count a session out."""
        self._refused.discard(session)
        network = self._taken.pop(session, None)
        if network is not None:
            self._numbers[network] -= 1
            if not self._numbers[network]:
                del self._numbers[network]
        if not len(self):
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    async def wait_empty(self) -> None:
        """Wait until no session is left."""
        if len(self):
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
