"""Exchange: the type of a connection, as dispatch, authentication and opening use it."""

import asyncio
from typing import Protocol

from smtp_protocol.calls import Answering
from smtp_protocol.events import Event
from smtp_protocol.replies import Reply
from smtp_server.limits import Budget
from smtp_server.setup import Setup

__all__: list[str] = []


class Exchange(Answering, Protocol):
    """A connection of this server, of which an event is to be answered."""

    #: What limits the hook that is at work; see `smtp_server.dispatch.timed`.
    clock: asyncio.Timeout | None

    @property
    def setup(self) -> Setup:
        """What all connections of the server share."""

    @property
    def budget(self) -> Budget:
        """What the session has used up."""

    @property
    def ending(self) -> bool:
        """Whether the session is being ended, so that nobody waits for an answer any more."""

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the client waits no more."""

    def end_session(self, reply: Reply) -> None:
        """End the session with a 421, whatever is going on."""

    def log_failure(self, event: Event, error: BaseException) -> None:
        """Log that a hook failed on ``event``."""
