"""Sink: takes every message, and forgets it."""

from argparse import ArgumentParser
from typing import Self

from smtp_protocol import Handler

__all__ = ["Sink"]


class Sink(Handler):
    """Answers 250 to everything and keeps nothing."""

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one for the command line, without arguments."""
        if args:
            parser.error("the handler sink takes no arguments")
        return cls()
