"""Arguments: the table of options as a parser of the command line, with a help that people read."""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from typing import NoReturn

from smtp_server.command.errors import USAGE
from smtp_server.command.options import Option, Values
from smtp_server.command.table import ARGUMENTS
from smtp_server.command.values import FLAG, show
from smtp_server.version import __version__

__all__: list[str] = []

PROGRAM = "smtp-server"

_USAGE = f"""{PROGRAM} [-h] [-v] [OPTION]... [ARGUMENT]...
       {PROGRAM} check [OPTION]... [ARGUMENT]...
       {PROGRAM} hash-password NAME"""

_WIDTH = 80


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(_WIDTH, int(os.environ.get("COLUMNS") or _WIDTH)) - 2
        super().__init__(prog, max_help_position=26, width=width)


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong; the usage is what ``--help`` is for."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def make_parser(options: Iterable[Option[object]], *, installed: str = "") -> Parser:
    """Make the parser of a table.

    What is not on the command line is not in its namespace.

    Args:
        options: The table.
        installed: The names of the handlers that there are, for the help.
    """
    parser = Parser(
        prog=PROGRAM,
        usage=_USAGE,
        description="Receive mail over SMTP and hand it to a handler, which by default prints it. "
        "Each option may also be in a file, or in the environment: see --config.",
        formatter_class=_Formatter,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    general = parser.add_argument_group("help")
    general.add_argument("-h", "--help", action="store_true", help="show this, and exit")
    version = f"{PROGRAM} {__version__}"
    general.add_argument(
        "-v", "--version", action="version", version=version, help="show the version, and exit"
    )
    groups = {"help": general}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        if option.name != ARGUMENTS.name:
            _add(groups[option.group].add_argument, option, installed)
    parser.add_argument(
        "arguments", metavar="ARGUMENT", nargs="*", help="what the handler is told, if anything"
    )
    return parser


def _add(add: Callable[..., object], option: Option[object], installed: str) -> None:
    names = [f"-{option.short}"] if option.short else []
    names.append(f"--{option.name}")
    text = option.help.replace("%(installed)s", installed)
    text = f"{text} (default: {_default(option)})".lstrip()
    text = text.replace("%", "%%")  # which argparse replaces itself
    if option.adds:
        add(*names, action="count", help=text)
    elif option.kind is FLAG:
        add(*names, action=argparse.BooleanOptionalAction, help=text)
    else:
        add(
            *names,
            action="append" if option.repeat else "store",
            nargs=None if option.alone is None else "?",
            const=option.alone,
            metavar=option.kind.metavar,
            type=_reader(option),
            help=text,
        )


def _default(option: Option[object]) -> str:
    return option.shown or show(option.default)


def _reader(option: Option[object]) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return option.kind.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def values_of(namespace: Namespace, options: Iterable[Option[object]]) -> Values:
    """What was given on the command line."""
    given = vars(namespace)
    return Values(
        {
            option.name: tuple(given[option.attribute])
            if isinstance(given[option.attribute], list)
            else given[option.attribute]
            for option in options
            if option.attribute in given
        }
    )
