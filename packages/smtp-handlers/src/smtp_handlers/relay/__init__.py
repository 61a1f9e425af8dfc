"""Relay: the handler that passes mail on. `Proxy` is the only way in; the rest is its inside."""

from smtp_handlers.relay.proxy import Proxy

__all__ = ["Proxy"]
