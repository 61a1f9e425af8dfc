"""Errors: why the command does not start, in one line for people, with its exit status."""

__all__: list[str] = []

#: What was asked for is wrong: an option, a key of the file, an argument of the handler.
USAGE = 2

#: What was asked for cannot be had: a port, a file, a right.
FAILURE = 1


class CannotStartError(Exception):
    """One line that says what is wrong and what to do.

    Args:
        message: The line, without the program's name; empty if somebody else has said it.
        status: `USAGE` or `FAILURE`.
    """

    def __init__(self, message: str, status: int = FAILURE) -> None:
        super().__init__(message)
        self.status = status


def in_one_line(error: BaseException) -> str:
    """What an error says, without a line end in it; its type where that says more."""
    reason = getattr(error, "strerror", None) or str(error)
    own = isinstance(error, OSError | ValueError | TypeError | CannotStartError) and reason
    text = reason if own else f"{type(error).__name__}: {reason}" if reason else repr(error)
    return " ".join(str(text).split())
