"""Faults: what goes wrong at a step of a session is done here, whoever decides it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Literal, Protocol

from smtp_protocol import (
    Answer,
    AnyHandler,
    Bdat,
    Data,
    Hooks,
    Reply,
    Server,
    StartTls,
)
from smtp_server.smtp import SMTP
from smtp_server.tls import has_ended
from smtp_server.verbs import own_mechanisms

__all__: list[str] = []

#: Where a session can be made to fail. DATA is the answer to the whole message, DATA_COMMAND the
#: one to the command, and BDAT the one to each chunk but the last.
Step = Literal[
    "CONNECT",
    "HELO",
    "EHLO",
    "STARTTLS",
    "AUTH",
    "MAIL",
    "RCPT",
    "DATA_COMMAND",
    "BDAT",
    "DATA",
    "RSET",
    "NOOP",
    "QUIT",
    "VRFY",
    "EXPN",
    "HELP",
]

#: The answer that nobody gets, for the connection is cut.
CUT = Reply(421, ("Connection cut",))

# The hooks that are steps, and the steps that have no hook.
_HOOKS: Mapping[str, Step] = {
    "handle_CONNECT": "CONNECT",
    "handle_HELO": "HELO",
    "handle_EHLO": "EHLO",
    "handle_MAIL": "MAIL",
    "handle_RCPT": "RCPT",
    "handle_DATA": "DATA",
    "handle_RSET": "RSET",
    "handle_NOOP": "NOOP",
    "handle_QUIT": "QUIT",
    "handle_VRFY": "VRFY",
    "handle_EXPN": "EXPN",
    "handle_HELP": "HELP",
}
_COMMANDS: Mapping[type[Data | Bdat | StartTls], Step] = {
    Data: "DATA_COMMAND",
    Bdat: "BDAT",
    StartTls: "STARTTLS",
}


class Faults(Protocol):
    """Who decides what goes wrong."""

    async def fault(self, step: Step, server: Server, recipient: str | None = None) -> Reply | None:
        """Do what is to happen at a step this time; the reply is that of a failure."""


class Faulty(Hooks):
    """The hooks of a handler, each of which may fail before it is called.

    Args:
        handler: The handler.
        faults: Who decides.
        auth: Whether AUTH is a step, too. A hook for it alone would make a server offer AUTH.
    """

    def __init__(self, handler: AnyHandler, faults: Faults, *, auth: bool) -> None:
        super().__init__(handler)
        self.faults = faults
        steps = dict(_HOOKS)
        if self.stream is not None:
            steps["handle_STREAM"] = steps.pop("handle_DATA")
        if auth:
            steps["handle_AUTH"] = "AUTH"
        for name, step in steps.items():
            setattr(self, name, self._faulty(step, getattr(self, name)))
        for name in own_mechanisms(handler).values():
            setattr(self, name, getattr(handler, name))

    def _faulty(
        self, step: Step, hook: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        async def call(server: Server, *arguments: object) -> object:
            recipient = str(arguments[2]) if step == "RCPT" else None
            failure = await self.faults.fault(step, server, recipient)
            return failure or await hook(server, *arguments)

        return call


class FaultyConnection(SMTP):
    """A connection whose steps without a hook fail as the others do."""

    @property
    def left(self) -> bool:
        """Whether the client has gone, or sends nothing more."""
        return self._transport.is_closing() or has_ended(self._transport)

    async def answer_command(self, command: Data | Bdat | StartTls) -> Answer:
        """Let the step fail, or answer it."""
        handler = self.setup.handler
        failure = None
        if isinstance(handler, Faulty):
            failure = await handler.faults.fault(_COMMANDS[type(command)], self)
        return failure or await super().answer_command(command)


class FaultyLMTP(FaultyConnection):
    """The same in LMTP."""

    lmtp: ClassVar[bool] = True
