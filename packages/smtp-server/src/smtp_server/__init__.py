"""An SMTP server on asyncio: `Controller` for threads, `serve` for an event loop, and a command."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from smtp_server.version import __version__

if TYPE_CHECKING:
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


# What a program has no use for, it should not wait for.
_HOMES = {
    "smtp_protocol": ("auth_mechanism",),
    "smtp_protocol.extensions": ("ALL_EXTENSIONS",),
    "smtp_server.controller": (
        "Controller",
        "UnixSocketController",
        "UnixSocketUnthreadedController",
        "UnthreadedController",
    ),
    "smtp_server.lmtp": ("LMTP",),
    "smtp_server.observers": ("Observer",),
    "smtp_server.service": ("Service", "serve"),
    "smtp_server.settings": ("AuthCallback", "Authenticator", "SMTPKeywords", "SharedKeywords"),
    "smtp_server.smtp": ("SMTP",),
    "smtp_server.tls": ("TLSSource",),
    "smtp_server.verbs": ("syntax",),
}

if not TYPE_CHECKING:  # to which every name would then seem to be here

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(home), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; see `smtp_server.cli.main`."""
    from smtp_server.cli import main as run  # noqa: PLC0415 the command is for itself

    run(args)
