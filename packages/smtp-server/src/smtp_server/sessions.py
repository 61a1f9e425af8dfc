"""Sessions: those of one service, each counted from the moment it is accepted to its end."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from smtp_protocol import Reply, client_network, replies
from smtp_server.settings import Settings

__all__: list[str] = []


class Counted(Protocol):
    """A session, as far as the service has to do with it."""

    @property
    def peer_host(self) -> str:
        """The client's address, as far as it is known."""

    def shut_down(self) -> None:
        """End when no transaction is going on."""

    def abort(self) -> None:
        """End now."""


class Sessions:
    """The sessions of one service, counted in all and by network."""

    def __init__(self) -> None:
        # Each with the network that it counts for, once that is known.
        self._networks: dict[Counted, str | None] = {}
        self._numbers: Counter[str] = Counter()
        #: Whether no more sessions are taken.
        self.closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[Counted]:
        return iter(tuple(self._networks))

    def enter(self, session: Counted, settings: Settings) -> Reply | None:
        """Count a session that was accepted.

        Returns:
            The refusal of one that is too many.
        """
        self._networks[session] = None
        if self.closed:
            # Accepted in the very turn of the loop in which the service was closed.
            return replies.CLOSING_SHUTDOWN
        most = settings.max_connections
        return replies.CLOSING_BUSY if most is not None and len(self) > most else None

    def identify(self, session: Counted, settings: Settings) -> Reply | None:
        """Count a session for its client's network, which is known now.

        Returns:
            The refusal of one that is too many of there.
        """
        most = settings.max_connections_per_host
        if most is None:
            return None
        network = client_network(session.peer_host, settings.ipv6_prefix)
        self._leave_network(session)
        self._networks[session] = network
        self._numbers[network] += 1
        return replies.CLOSING_BUSY if self._numbers[network] > most else None

    def remove(self, session: Counted) -> None:
        """Count a session out."""
        self._leave_network(session)
        self._networks.pop(session, None)
        if not self._networks:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    def _leave_network(self, session: Counted) -> None:
        network = self._networks.get(session)
        if network is not None:
            self._numbers[network] -= 1
            if not self._numbers[network]:
                del self._numbers[network]

    async def wait_empty(self) -> None:
        """Wait until no session is left."""
        if self._networks:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
