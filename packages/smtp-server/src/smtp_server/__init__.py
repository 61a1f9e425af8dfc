"""An SMTP server on asyncio: `Controller` for threads, `serve` for an event loop, and a command."""

from collections.abc import Sequence

from smtp_protocol import auth_mechanism
from smtp_protocol.extensions import ALL_EXTENSIONS
from smtp_server.controller import (
    Controller,
    UnixSocketController,
    UnixSocketUnthreadedController,
    UnthreadedController,
)
from smtp_server.lmtp import LMTP
from smtp_server.observers import Observer
from smtp_server.service import Service, serve
from smtp_server.settings import AuthCallback, Authenticator, SharedKeywords, SMTPKeywords
from smtp_server.smtp import SMTP
from smtp_server.tls import TLSSource
from smtp_server.verbs import syntax
from smtp_server.version import __version__

__all__ = [
    "ALL_EXTENSIONS",
    "LMTP",
    "SMTP",
    "AuthCallback",
    "Authenticator",
    "Controller",
    "Observer",
    "SMTPKeywords",
    "Service",
    "SharedKeywords",
    "TLSSource",
    "UnixSocketController",
    "UnixSocketUnthreadedController",
    "UnthreadedController",
    "__version__",
    "auth_mechanism",
    "main",
    "serve",
    "syntax",
]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; see `smtp_server.cli.main`."""
    from smtp_server.cli import main as run  # noqa: PLC0415 argparse is for the command alone

    run(args)
