"""Limits: what is counted, for one session and over all of them, and the reply at the end of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from smtp_protocol import Reply, replies

if TYPE_CHECKING:
    from smtp_server.settings import Settings
    from smtp_server.smtp import SMTP

__all__: list[str] = []


class Budget:
    """What one session has used up."""

    __slots__ = ("_auth_failures", "_calls", "_errors", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._errors = 0
        self._auth_failures = 0
        self._calls: Counter[str] | None = None
        if settings.command_call_limit is not None:
            self._calls = Counter()

    def command(self, verb: str) -> Reply | None:
        """Count a command; the reply is the end of a session that sent it too often."""
        limit = self._settings.command_call_limit
        if isinstance(limit, Mapping):
            limit = limit.get(verb, limit.get("*"))
        if limit is None or self._calls is None:
            return None
        self._calls[verb] += 1
        return replies.CLOSING_COMMANDS if self._calls[verb] > limit else None

    def auth_failure(self) -> Reply | None:
        """Count a failed authentication; the reply is the end of a session with too many."""
        self._auth_failures += 1
        limit = self._settings.max_auth_failures
        return replies.CLOSING_AUTH if limit is not None and self._auth_failures >= limit else None

    def error(self) -> Reply | None:
        """Count an error; the reply is the end of a session that made too many."""
        self._errors += 1
        limit = self._settings.max_errors
        return replies.CLOSING_ERRORS if limit is not None and self._errors >= limit else None


class Connections:
    """The sessions of one service, counted in all and by host."""

    def __init__(self) -> None:
        self._sessions: dict[SMTP, str | None] = {}
        self._hosts: Counter[str] = Counter()
        #: Whether no more sessions are taken.
        self.closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[SMTP]:
        return iter(tuple(self._sessions))

    def enter(self, smtp: SMTP, settings: Settings) -> bool:
        """Know of a connection, whose client may still have to be found out.

        Returns:
            Whether there is room for it.
        """
        self._sessions[smtp] = None
        return settings.max_connections is None or len(self._sessions) <= settings.max_connections

    def admit(self, smtp: SMTP, settings: Settings) -> Reply | None:
        """Count a session in; the reply is for one that is too many."""
        host = smtp.session.peer_host
        self._sessions[smtp] = host
        self._hosts[host] += 1
        if self.closed:
            # Accepted in the very turn of the loop in which the service was closed.
            return replies.CLOSING_SHUTDOWN
        total, per_host = settings.max_connections, settings.max_connections_per_host
        if (total is not None and len(self._sessions) > total) or (
            per_host is not None and self._hosts[host] > per_host
        ):
            return replies.CLOSING_BUSY
        return None

    def remove(self, smtp: SMTP) -> None:
        """Count a session out."""
        host = self._sessions.pop(smtp, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
        if not self._sessions:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    async def wait_empty(self) -> None:
        """Wait until no session is left."""
        if self._sessions:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]
