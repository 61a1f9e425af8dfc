"""Extensions: which there are, and what EHLO says of those that are on (RFC 5321 §2.2)."""

import difflib
from collections.abc import Iterable

from smtp_protocol.config import ProtocolConfig

__all__ = ["ALL_EXTENSIONS", "check_extensions", "ehlo_keywords"]

#: Every extension that a server can switch on by name, in the order in which EHLO shows them.
ALL_EXTENSIONS = ("PIPELINING", "ENHANCEDSTATUSCODES")


def check_extensions(names: Iterable[str]) -> None:
    """See that every name is one of `ALL_EXTENSIONS`.

    Raises:
        ValueError: One is not; the error names the nearest.
    """
    if isinstance(names, str):
        raise ValueError(f"extensions is a collection of names; write ({names!r},)")
    for name in names:
        if name not in ALL_EXTENSIONS:
            nearest = difflib.get_close_matches(name.upper(), ALL_EXTENSIONS, 1, 0.0)[0]
            raise ValueError(f"there is no extension {name!r}; did you mean {nearest!r}?")


def ehlo_keywords(config: ProtocolConfig) -> list[str]:
    """The lines of the reply to EHLO behind the greeting, HELP being the last.

    Args:
        config: What is on.
    """
    keywords = [f"SIZE {config.data_size_limit or 0}", "8BITMIME"]
    if "SMTPUTF8" in config.extensions:
        keywords.append("SMTPUTF8")
    keywords += [name for name in ALL_EXTENSIONS if name in config.extensions]
    return [*keywords, "HELP"]
