"""Factory: as many servers as a test asks for, and an end for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, Unpack

from smtp_server.settings import SharedKeywords
from smtp_server.testing.server import SMTPServer, TLSMode

__all__ = ["SMTPServerFactory", "SMTPServerKeywords"]


class SMTPServerKeywords(SharedKeywords, total=False):
    """The keywords of `SMTPServer`."""

    tls: TLSMode | None
    auth: Mapping[str, str] | Iterable[str] | None
    host: str
    port: int


class SMTPServerFactory:
    """Starts servers, and stops them all in the end; use it as a context manager.

    Args:
        **defaults: Keywords of `SMTPServer` for each server that is not told otherwise.
    """

    def __init__(self, **defaults: Unpack[SMTPServerKeywords]) -> None:
        self._defaults = defaults
        self._running = contextlib.ExitStack()

    def __call__(self, **keywords: Unpack[SMTPServerKeywords]) -> SMTPServer:
        """Start a server, on a port of its own.

        Args:
            **keywords: Those of `SMTPServer`; they go before the defaults.

        Raises:
            OSError: The address is not to be had.
            TypeError: A keyword is unknown.
            ValueError: A keyword's value cannot be meant.
        """
        together: SMTPServerKeywords = {**self._defaults, **keywords}
        return self._running.enter_context(SMTPServer(**together))

    def stop(self) -> None:
        """Stop every server that it has started."""
        self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
