"""Binding: the sockets of all rules, for each of the processes that serve by them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence

from smtp_server.command.errors import CannotStartError, in_one_line
from smtp_server.command.ways import Rules
from smtp_server.listeners import divide, format_address

__all__: list[str] = []

#: The sockets of one process: for each of the rules those that it has.
Sockets = list[list[socket.socket]]


def bind(rules: Sequence[Rules], many: int, closing: contextlib.ExitStack) -> list[Sockets]:
    """Bind to all places.

    Args:
        rules: What holds at which places.
        many: How many processes there are.
        closing: What closes the sockets.

    Returns:
        The sockets of each process; some are those of all of them.

    Raises:
        CannotStartError: A place cannot be had.
    """
    try:
        divided = [_bind(each, many, closing) for each in rules]
    except (OSError, ValueError) as error:
        raise CannotStartError(in_one_line(error)) from None
    return [[[each[i] for each in sockets] for sockets in divided] for i in range(many)]


def _bind(rules: Rules, many: int, closing: contextlib.ExitStack) -> Sockets:
    """The sockets at some places, each for all processes."""
    divided = []
    for place in rules.places:
        for sock in [closing.enter_context(sock) for sock in place.bind()]:
            divided.append([sock] * many if place.shared else divide(sock, many, closing))
    return divided


def addresses(sockets: Sockets) -> str:
    """Where they listen, for people."""
    names = [sock.getsockname() for each in sockets for sock in each]
    return ", ".join(
        format_address(name[:2] if isinstance(name, tuple) else os.fsdecode(name)) for name in names
    )
