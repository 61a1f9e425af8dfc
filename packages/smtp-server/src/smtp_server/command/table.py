"""Table: everything that can be said to the command, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from smtp_server.command import values
from smtp_server.command.options import (
    AUTH,
    HANDLER,
    KEYWORDS,
    LOG,
    TLS,
    WHERE,
    WHO,
    Option,
)
from smtp_server.command.places import Place, read_fd, read_place, read_unix
from smtp_server.command.values import Kind, maybe, one_of

if TYPE_CHECKING:
    from smtp_server.chaos import Rule

__all__: list[str] = []


def _read_rule(value: object) -> Rule:
    from smtp_server.chaos import read_rule  # noqa: PLC0415 for tests alone

    return read_rule(value)


LISTEN: Option[tuple[Place, ...]] = Option(
    name="listen",
    short="l",
    kind=Kind("PLACE", lambda value: read_place(value, _read_own)),
    group=WHERE,
    repeat=True,
    alone="",
    shown="localhost:8025",
    help="HOST:PORT, HOST, :PORT or [IPV6]:PORT; smtp://, smtps:// (TLS from the first octet) or "
    "lmtp:// may stand in front. Or unix:PATH, or fd:NUMBER. May be given several times",
)
UNIX: Option[tuple[Place, ...]] = Option(
    name="unix",
    kind=Kind("PATH[:MODE]", read_unix),
    group=WHERE,
    repeat=True,
    help="listen on a Unix socket; MODE is that of its file, such as 660",
)
FD: Option[tuple[Place, ...]] = Option(
    name="fd",
    kind=Kind("NUMBER", read_fd),
    group=WHERE,
    repeat=True,
    help="listen on a socket that the process was started with",
)
LMTP: Option[bool] = Option(
    name="lmtp",
    kind=values.FLAG,
    group=WHERE,
    default=False,
    each=True,
    help="speak LMTP (RFC 2033), for delivery behind a mail server",
)
NOSETUID: Option[bool] = Option(
    name="nosetuid",
    short="n",
    kind=values.FLAG,
    group=WHO,
    default=False,
    help="stay the user who started the program",
)
USER: Option[str] = Option(
    name="user",
    kind=values.NAME,
    group=WHO,
    default="nobody",
    help="become this user after the ports are bound, which only root can do",
)
LOOP: Option[str] = Option(
    name="loop",
    kind=one_of("asyncio", "uvloop"),
    group=WHO,
    default="asyncio",
    help="the event loop; uvloop is the extra smtp-server[uvloop]",
)
GRACE: Option[float] = Option(
    name="grace",
    kind=values.SECONDS,
    group=WHO,
    default=5.0,
    help="how long a stop waits for what is going on",
)
WORKERS: Option[int] = Option(
    name="workers",
    kind=values.AT_LEAST_1,
    group=WHO,
    default=1,
    help="serve with so many processes behind the same ports; one that dies is followed by another",
)
CONFIG: Option[str | None] = Option(
    name="config",
    kind=values.FILE,
    group=WHO,
    help="a file in TOML with these options, without --; a [[listener]] for each place to listen. "
    "The environment goes before it (SMTP_SERVER_MAX_ERRORS is --max-errors), and the command "
    "line before that",
)
CLASS: Option[str] = Option(
    name="class",
    short="c",
    kind=Kind("CLASSPATH", values.NAME.read),
    group=HANDLER,
    default="debugging",
    help="the name of an installed one (%(installed)s); or package.module.Class, or "
    "package.module:name, which may be a class, a function that makes a handler, or a handler",
)
ARGUMENTS: Option[tuple[str, ...]] = Option(
    name="arguments",
    kind=values.LIST,
    group=HANDLER,
    default=(),
    help="what the handler is told",
)
TLSCERT: Option[str | None] = Option(
    name="tlscert",
    kind=values.FILE,
    group=TLS,
    each=True,
    help="the certificate for STARTTLS, in PEM, and for smtps://",
)
TLSKEY: Option[str | None] = Option(
    name="tlskey",
    kind=values.FILE,
    group=TLS,
    each=True,
    shown="the certificate's file",
    help="its key",
)
SMTPSCERT: Option[str | None] = Option(
    name="smtpscert",
    kind=values.FILE,
    group=TLS,
    each=True,
    help="the certificate for TLS from the first octet, where -l does not say smtp://",
)
SMTPSKEY: Option[str | None] = Option(
    name="smtpskey",
    kind=values.FILE,
    group=TLS,
    each=True,
    shown="the certificate's file",
    help="its key",
)
AUTH_FILE: Option[str | None] = Option(
    name="auth-file",
    kind=values.FILE,
    group=AUTH,
    each=True,
    help="the users: name:hash on each line, as smtp-server hash-password makes them; read again "
    "at SIGHUP",
)
CHAOS: Option[tuple[Rule, ...]] = Option(
    name="chaos",
    kind=Kind("STEP:SHARE%:WHAT", _read_rule),
    group=HANDLER,
    repeat=True,
    default=(),
    help="for tests of clients: a share of the steps (CONNECT, EHLO, MAIL, RCPT, DATA_COMMAND, "
    "DATA, STARTTLS, AUTH, ... or * for all) fails. WHAT is a reply, cut, stall, or delay SECONDS",
)
CHAOS_SEED: Option[int | None] = Option(
    name="chaos-seed",
    kind=maybe(values.COUNT),
    group=HANDLER,
    shown="another one each time",
    help="with the same one, the same steps of the same sessions fail",
)
DEBUG: Option[int] = Option(
    name="debug",
    short="d",
    kind=values.COUNT,
    group=LOG,
    default=0,
    adds=True,
    help="log more: once who comes, each message, and what is refused; twice each command too; "
    "three times what asyncio says as well",
)

#: All of them. What is new gets a line here, or in `KEYWORDS`.
OPTIONS: tuple[Option[object], ...] = (
    CONFIG,
    NOSETUID,
    USER,
    LOOP,
    GRACE,
    WORKERS,
    LISTEN,
    UNIX,
    FD,
    LMTP,
    CLASS,
    ARGUMENTS,
    CHAOS,
    CHAOS_SEED,
    TLSCERT,
    TLSKEY,
    SMTPSCERT,
    SMTPSKEY,
    AUTH_FILE,
    *KEYWORDS,
    DEBUG,
)

BY_NAME = {option.name: option for option in OPTIONS}


def find(
    name: str, options: Iterable[Option[object]], shown: Callable[[str], str] = str
) -> Option[object]:
    """The option of a name, which may have ``_`` for ``-``.

    Args:
        name: The name.
        options: Those that there may be.
        shown: Writes a name as it is where it was found.

    Raises:
        ValueError: There is none; the text has the nearest name.
    """
    names = {option.name: option for option in options}
    wanted = name.replace("_", "-").lower()
    if wanted in names:
        return names[wanted]
    import difflib  # noqa: PLC0415 what is right needs no nearest name

    near = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean {shown(near[0])}?" if near else ""
    raise ValueError(f"there is no {shown(name)}{hint}")


def _read_own(name: str, value: str) -> tuple[str, object]:
    """Read what a place says of its own, behind a question mark."""
    option = find(name, (option for option in OPTIONS if option.each))
    try:
        return option.name, option.kind.read(value or option.alone or "yes")
    except ValueError as error:
        raise ValueError(f"{option.name}: {error}") from None
