"""Passwords: one from standard input becomes the line of a user, and is printed nowhere."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from smtp_server.command.arguments import PROGRAM, Parser
from smtp_server.users import make_entry

__all__: list[str] = []


def hash_password(args: Sequence[str]) -> None:
    """Print a line for ``--auth-file``.

    Args:
        args: The arguments.

    Raises:
        SystemExit: With 1 or 2, after one line on stderr.
    """
    parser = Parser(
        prog=f"{PROGRAM} hash-password",
        description="Print a line for the file of --auth-file. The password is the first line of "
        "standard input; on a terminal it is asked for.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the user's name")
    parser.add_argument(
        "--scram",
        action="store_true",
        help="keys for SCRAM-SHA-256, with which a password is never sent, instead of a hash that "
        "is slow to guess at",
    )
    given = parser.parse_args(args)
    try:
        print(make_entry(given.name, _read_password(), scram=given.scram))
    except (ValueError, EOFError) as error:
        parser.exit(1, f"{PROGRAM}: {error or 'there is no password'}\n")


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("these are two different passwords")
    return password
