"""Handlers for any server that speaks the contract of `smtp_protocol.Handler`."""

from smtp_handlers.debugging import Debugging
from smtp_handlers.message import AsyncMessage, Message
from smtp_handlers.sink import Sink

__all__ = ["AsyncMessage", "Debugging", "Message", "Sink"]
