"""Limits: counts errors, failed logins and commands of one session, and says when it must end."""

from collections import Counter
from collections.abc import Mapping

from smtp_protocol import Reply, replies
from smtp_server.settings import Settings

__all__: list[str] = []

# Verbs of one session that are counted by themselves.
_MOST_VERBS = 64


class Budget:
    """What one session has used up.

    Args:
        settings: How much there is.
    """

    __slots__ = ("_auth_failures", "_calls", "_errors", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._errors = 0
        # Most sessions need neither.
        self._auth_failures: Counter[str] | None = None
        self._calls: Counter[str] | None = None

    def command(self, verb: str) -> Reply | None:
        """Count a command; the reply is the end of a session that sent it too often."""
        limit = self._settings.command_call_limit
        if isinstance(limit, Mapping):
            limit = limit.get(verb, limit.get("*"))
        if limit is None:
            return None
        if self._calls is None:
            self._calls = Counter()
        elif verb not in self._calls and len(self._calls) >= _MOST_VERBS:
            verb = ""  # what a client may think of is without end
        self._calls[verb] += 1
        return replies.CLOSING_COMMANDS if self._calls[verb] > limit else None

    def auth_failure(self, mechanism: str) -> Reply | None:
        """Count a failed authentication; the reply is the end of a session with too many.

        They are counted by mechanism: clients try a mistyped password with each of those that
        they know, and that is one failure.
        """
        if self._auth_failures is None:
            self._auth_failures = Counter()
        self._auth_failures[mechanism] += 1
        limit = self._settings.max_auth_failures
        most = self._auth_failures[mechanism]
        return replies.CLOSING_AUTH if limit is not None and most >= limit else None

    def error(self) -> Reply | None:
        """Count an error; the reply is the end of a session that made too many."""
        self._errors += 1
        limit = self._settings.max_errors
        return replies.CLOSING_ERRORS if limit is not None and self._errors >= limit else None
