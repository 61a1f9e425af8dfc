"""Command line: the way in; all else is imported when it is known to be needed."""

from __future__ import annotations

import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

__all__ = ["main", "parseargs"]


def parseargs(args: Sequence[str] | None = None) -> tuple[ArgumentParser, Namespace]:
    """Read the command line, and with it the environment and the file of ``--config``.

    Args:
        args: The arguments; those of the process by default.

    Returns:
        The parser, and what all of them say: each option by its name, ``handler_class``, the class
        (or what else ``-c`` has named), ``listen``, the places, and ``plan``, all of it.

    Raises:
        SystemExit: Something is wrong (2, or 1 for a file), or help or version was asked for (0).
    """
    from smtp_server.command.program import parse  # noqa: PLC0415 see above

    return parse(args)


def main(args: Sequence[str] | None = None) -> None:
    """Run the server until a signal ends it; or ``check`` what it is told; or ``hash-password``.

    Args:
        args: The arguments; those of the process by default.

    Raises:
        SystemExit: With 1 or 2, after one line on stderr, when it cannot run.
    """
    # What is imported stays: to look for garbage among it meanwhile is a tenth of the start.
    gc.disable()
    try:
        from smtp_server.command.program import run  # noqa: PLC0415 see above
    finally:
        gc.enable()
    run(args)
