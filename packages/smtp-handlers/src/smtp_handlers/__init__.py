"""Handlers for any server that speaks the contract of `smtp_protocol.Handler`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smtp_handlers.add_received import AddReceived
    from smtp_handlers.debugging import Debugging
    from smtp_handlers.fan_out import FanOut
    from smtp_handlers.front import Front, Gate, Inner
    from smtp_handlers.mailbox import Mailbox
    from smtp_handlers.message import AsyncMessage, Message
    from smtp_handlers.policies import RateLimit, RequireAuth, RestrictRecipients
    from smtp_handlers.relay import Proxy
    from smtp_handlers.sink import Sink

__all__ = [
    "AddReceived",
    "AsyncMessage",
    "Debugging",
    "FanOut",
    "Front",
    "Gate",
    "Inner",
    "Mailbox",
    "Message",
    "Proxy",
    "RateLimit",
    "RequireAuth",
    "RestrictRecipients",
    "Sink",
]

# A program has use for one or two of them, and should not wait for the others.
_HOMES = {
    "AddReceived": "add_received",
    "AsyncMessage": "message",
    "Debugging": "debugging",
    "FanOut": "fan_out",
    "Front": "front",
    "Gate": "front",
    "Inner": "front",
    "Mailbox": "mailbox",
    "Message": "message",
    "Proxy": "relay",
    "RateLimit": "policies",
    "RequireAuth": "policies",
    "RestrictRecipients": "policies",
    "Sink": "sink",
}

if not TYPE_CHECKING:  # to which every name would then seem to be here

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
