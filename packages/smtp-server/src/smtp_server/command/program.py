"""Program: arguments in, a running server out; whatever is wrong is said in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import NoReturn

from smtp_protocol import AnyHandler
from smtp_protocol.life import life_of
from smtp_server.command.arguments import PROGRAM, Parser, make_parser, values_of
from smtp_server.command.binding import Sockets, addresses, bind
from smtp_server.command.errors import USAGE, CannotStartError, in_one_line
from smtp_server.command.handed import from_environ
from smtp_server.command.handlers import Found, find_handler, installed, make_handler
from smtp_server.command.identity import become, may_become
from smtp_server.command.loops import loop_factory
from smtp_server.command.notify import Notifier
from smtp_server.command.operation import Charge, operate_command, run_loop
from smtp_server.command.options import Option, Values
from smtp_server.command.own_options import named_values, own_options
from smtp_server.command.plan import Plan, merge
from smtp_server.command.running import Services
from smtp_server.command.sources import (
    Outside,
    Raw,
    environment_of,
    handed_over,
    load_file,
    read_environment,
    read_file,
    sort_out,
    unknown,
)
from smtp_server.command.table import (
    ARGUMENTS,
    CLASS,
    CONFIG,
    GRACE,
    LOOP,
    NOSETUID,
    OPTIONS,
    USER,
    WORKERS,
)
from smtp_server.command.ways import Rules, in_options, rules_of, with_chaos
from smtp_server.log import commands_logger, logger
from smtp_server.service import make_service

__all__: list[str] = []

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def parse(args: Sequence[str] | None) -> tuple[Parser, Namespace]:
    """Read the arguments, or those of the process; see `smtp_server.cli.parseargs`."""
    parser = make_parser(OPTIONS)
    try:
        return _read(parser, sys.argv[1:] if args is None else args)
    except CannotStartError as error:
        _give_up(parser, error)


def _read(
    parser: Parser, args: Sequence[str], outside: Outside | None = None
) -> tuple[Parser, Namespace]:
    given, rest = parser.parse_known_args(args)
    environment = environment_of(os.environ)
    path = getattr(given, CONFIG.attribute, None) or environment.get("CONFIG")
    if outside is None:
        handed = from_environ(os.environ)
        outside = Outside(load_file(str(path)) if path else {}, handed)
    file = outside.file
    found = _find(getattr(given, CLASS.attribute, None), environment, file)
    options: tuple[Option[object], ...] = OPTIONS
    if rest or "help" in given or unknown(environment) or unknown(file):
        options += tuple(own_options(found).values())
        helped = "help" in given
        parser = make_parser(options, installed=", ".join(installed()) if helped else "")
        if helped:
            parser.print_help()
            parser.exit()
        given = parser.parse_args(args)
    plan = merge(
        handed_over(outside.handed),
        read_file(str(path), file, options),
        read_environment(environment, options),
        sort_out(values_of(given, options)),
    )
    values = {option.attribute: plan.values.of(option) for option in OPTIONS}
    values["listen"] = [way.place for way in plan.ways]
    return parser, Namespace(
        **values,
        handler_class=found.value,
        found=found,
        plan=plan,
        outside=outside,
        given=list(args),
    )


def _find(name: str | None, environment: Raw, file: Raw) -> Found:
    names = (name, environment.get("CLASS"), file.get(CLASS.name), CLASS.default)
    return find_handler(str(next(name for name in names if name is not None)))


def run(args: Sequence[str] | None) -> None:
    """Do what the arguments say, or those of the process; see `smtp_server.cli.main`."""
    first, *rest = args = list(sys.argv[1:] if args is None else args) or [""]
    if first == "hash-password":
        from smtp_server.command.passwords import hash_password  # noqa: PLC0415 cryptography

        return hash_password(rest)
    act = _check if first == "check" else _serve
    parser, namespace = parse(rest if first in ("", "check") else args)
    _set_up_log(namespace.debug)
    _act(parser, lambda: act(parser, namespace))


def _act(parser: ArgumentParser, act: Callable[[], int]) -> None:
    try:
        status = act()
    except CannotStartError as error:
        _give_up(parser, error)
    if status:
        raise SystemExit(status)


def _serve(parser: ArgumentParser, namespace: Namespace) -> int:
    plan: Plan = namespace.plan
    many, make_loop = plan.values.of(WORKERS), loop_factory(plan.values.of(LOOP))
    notifier = Notifier.from_environ(os.environ)
    # Ports and keys may be for root alone; the handler is made by who it will run as.
    rules = rules_of(plan)
    with contextlib.ExitStack() as cleaning:
        sockets = bind(rules, many, cleaning)
        command = partial(operate_command, notifier, addresses(sockets[0]))
        if many > 1:
            return run_loop(_supervisor(namespace, sockets), command, None, namespace.debug)
        services = _make_services(parser, namespace, rules, sockets[0])
        return run_loop(services, command, make_loop, namespace.debug)


def _supervisor(namespace: Namespace, sockets: Sequence[Sockets]) -> Charge:
    from smtp_server.command.supervisor import Supervisor  # noqa: PLC0415 most have one process

    if os.name != "posix":
        raise CannotStartError("--workers: there can be only one on this system", USAGE)
    return Supervisor(namespace.given, namespace.outside.as_told(), sockets)


def work(
    arguments: Sequence[str],
    outside: Outside,
    sockets: Sockets,
    serve: Callable[[Charge], Coroutine[None, None, None]],
) -> None:
    """Be one worker of several.

    Args:
        arguments: Those of the command.
        outside: What the supervisor has read.
        sockets: Those for each of the rules, which are bound.
        serve: What operates the services.

    Raises:
        SystemExit: With 1 or 2, after one line on stderr, when it cannot run.
    """
    parser = make_parser(OPTIONS)

    def act() -> int:
        read, namespace = _read(parser, arguments, outside)
        _set_up_log(namespace.debug)
        make_loop = loop_factory(namespace.loop)
        services = _make_services(read, namespace, rules_of(namespace.plan), sockets)
        return run_loop(services, serve, make_loop, namespace.debug)

    _act(parser, act)


def _check(parser: ArgumentParser, namespace: Namespace) -> int:
    """Do what a start does up to the ports: files, user, handler, and whether they fit together."""
    plan: Plan = namespace.plan
    loop_factory(plan.values.of(LOOP))
    rules = rules_of(plan)
    if not plan.values.of(NOSETUID):
        may_become(plan.values.of(USER))
    _combine(_handler(parser, namespace), rules, [[] for _ in rules], plan.values)
    places = ", ".join(str(place) for each in rules for place in each.places)
    print(f"{PROGRAM}: this would start, and listen on {places}")
    return 0


def _handler(parser: ArgumentParser, namespace: Namespace) -> AnyHandler:
    found, values = namespace.found, namespace.plan.values
    return make_handler(found, parser, values.of(ARGUMENTS), named_values(found, values))


def _make_services(
    parser: ArgumentParser, namespace: Namespace, rules: Sequence[Rules], sockets: Sockets
) -> Services:
    """Make handler and services, as the user that they run as."""
    values: Values = namespace.plan.values
    if not values.of(NOSETUID):
        become(values.of(USER))
    return _combine(_handler(parser, namespace), rules, sockets, values)


def _combine(
    handler: AnyHandler, rules: Sequence[Rules], sockets: Sockets, values: Values
) -> Services:
    try:
        life = life_of(handler)
        served, rules = with_chaos(handler, rules, values)
        services = [
            make_service(served, each.smtp_class, each.keywords, bound, each.ssl_context)
            for each, bound in zip(rules, sockets, strict=True)
        ]
    except (OSError, TypeError, ValueError) as error:
        raise CannotStartError(in_options(in_one_line(error))) from None
    files = [(f"users of {each.users.path}", each.users.reload) for each in rules if each.users]
    return Services(services, life, values.of(GRACE), files)


def _set_up_log(debug: int) -> None:
    """Log to stderr: with one ``-d`` what happens to messages, with two each command as well."""
    logging.basicConfig(
        level=_LEVELS[min(debug, len(_LEVELS) - 1)],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if debug == 1:
        logger.setLevel(logging.DEBUG)
        commands_logger.setLevel(logging.INFO)


def _give_up(parser: ArgumentParser, error: CannotStartError) -> NoReturn:
    if not str(error):
        parser.exit(error.status)
    if error.status == USAGE:
        parser.error(str(error))
    parser.exit(error.status, f"{PROGRAM}: {error}\n")
