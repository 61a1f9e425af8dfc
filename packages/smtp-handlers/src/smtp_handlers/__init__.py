"""Handlers for any server that speaks the contract of `smtp_protocol.Handler`."""

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
