"""Sources: what the file and the environment say, read by the same table as the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from smtp_server.command.errors import USAGE, CannotStartError
from smtp_server.command.handed import Handed
from smtp_server.command.options import Option, Values
from smtp_server.command.places import SCHEMES, Place
from smtp_server.command.table import BY_NAME, CONFIG, FD, LISTEN, UNIX, find

if TYPE_CHECKING:
    from smtp_server.command.channel import Value

__all__: list[str] = []

#: What a source says that was not read yet, by name.
Raw = Mapping[str, object]

_PREFIX = "SMTP_SERVER_"

# The tables of a file that are one listener each.
_LISTENER = "listener"

# Variables that are not options: that of the controllers, and those that Kubernetes makes for a
# service whose name is smtp-server.
_OTHERS = re.compile(r"CONTROLLER_TIMEOUT|SERVICE_(?:HOST|PORT)(?:_\w+)?|PORT(?:_\d+_\w+)?")


class Source(NamedTuple):
    """What one source says of all listeners; and which there are, each with what it says itself."""

    values: Values
    places: Sequence[tuple[Place, Mapping[str, object]]] = ()


class Outside(NamedTuple):
    """What is read once, and not by each worker again: others may have changed it since.

    Args:
        file: What the file says.
        handed: The sockets that the process was started with.
    """

    file: Raw
    handed: Sequence[Handed] = ()

    def as_told(self) -> dict[str, Value]:
        """The same, for a worker."""
        return {"file": cast("Value", self.file), "handed": self.handed}


def handed_over(handed: Sequence[Handed]) -> Source:
    """The places that are known by sockets; what they are called may say what is spoken there."""
    places = [Place(fd=number, scheme=name if name in SCHEMES else "") for number, name in handed]
    return Source(Values(), [(place, {}) for place in places])


def sort_out(values: Values) -> Source:
    """Make a source of values, among which places are."""
    places = [(place, place.own) for place in _take_places(values)]
    return Source(values, places)


def _take_places(values: Values) -> list[Place]:
    places: list[Place] = []
    for option in (LISTEN, UNIX, FD):
        places += cast(tuple[Place, ...], values.get(option.name, ()))
        values.pop(option.name, None)
    return places


def unknown(names: Iterable[str]) -> bool:
    """Whether there are names that the table does not have: the handler may know them."""
    known = BY_NAME.keys() | {_LISTENER}
    return any(name.replace("_", "-").lower() not in known for name in names)


# The environment.


def environment_of(environ: Mapping[str, str]) -> Raw:
    """The variables that are options, without what they begin with."""
    names = {
        name.removeprefix(_PREFIX): text
        for name, text in environ.items()
        if name.startswith(_PREFIX)
    }
    return {name: text for name, text in names.items() if not _OTHERS.fullmatch(name)}


def read_environment(raw: Raw, options: Sequence[Option[object]]) -> Source:
    """Read the variables.

    Raises:
        CannotStartError: One is no option, or has no value of its kind.
    """
    values = Values()
    for name, text in raw.items():
        try:
            option = find(name, options, _variable)
            parts = str(text).split() if option.repeat else text
            values[option.name] = _read(option, parts)
        except ValueError as error:
            raise CannotStartError(f"the environment's {_PREFIX}{name}: {error}", USAGE) from None
    return sort_out(values)


def _variable(name: str) -> str:
    return _PREFIX + name.replace("-", "_").upper()


# The file.


def load_file(path: str) -> Raw:
    """Read the file, without looking at what it says.

    Raises:
        CannotStartError: It is not there, or no TOML.
    """
    import tomllib  # noqa: PLC0415 most start without a file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CannotStartError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotStartError(f"{path} is no TOML: {error}", USAGE) from None


def read_file(path: str, raw: Raw, options: Sequence[Option[object]]) -> Source:
    """Read what the file says.

    Raises:
        CannotStartError: A key is no option, or has no value of its kind.
    """
    top = {name: value for name, value in raw.items() if name != _LISTENER}
    source = sort_out(_read_table(top, options, path))
    places = list(source.places)
    tables = raw.get(_LISTENER, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise CannotStartError(f"{path}: write [[{_LISTENER}]], for there may be several", USAGE)
    of_each = [option for option in options if option.each] + [LISTEN, UNIX, FD]
    for number, table in enumerate(tables, 1):
        where = f"{path}: {_LISTENER} {number}"
        own = _read_table(table, of_each, where)
        of_table = _take_places(own)
        if not of_table:
            raise CannotStartError(f"{where}: say where, with listen, unix or fd", USAGE)
        places += [(place, {**own, **place.own}) for place in of_table]
    return Source(source.values, places)


def _read_table(table: Raw, options: Sequence[Option[object]], where: str) -> Values:
    values = Values()
    for name, value in table.items():
        try:
            option = find(name, options, repr)
            if option.name == CONFIG.name:
                raise ValueError("a file cannot name another one")
            values[option.name] = _read(option, value)
        except ValueError as error:
            raise CannotStartError(f"{where}: {name}: {error}", USAGE) from None
    return values


def _read(option: Option[object], value: object) -> object:
    if not option.repeat:
        return option.kind.read(value)
    return tuple(option.kind.read(each) for each in (value if isinstance(value, list) else [value]))
