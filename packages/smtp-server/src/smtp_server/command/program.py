"""Program: arguments in, a running server out; whatever is wrong is said in one line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import NoReturn

from smtp_protocol import AnyHandler
from smtp_protocol.life import life_of
from smtp_server.command.arguments import PROGRAM, Parser, make_parser, values_of
from smtp_server.command.errors import USAGE, CannotStartError, in_one_line
from smtp_server.command.handlers import Found, find_handler, installed, make_handler
from smtp_server.command.identity import become, may_become
from smtp_server.command.loops import loop_factory
from smtp_server.command.options import Option, Values
from smtp_server.command.own_options import named_values, own_options
from smtp_server.command.plan import Plan, merge
from smtp_server.command.running import Services, serve_until_told
from smtp_server.command.sources import (
    Raw,
    environment_of,
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


def _read(parser: Parser, args: Sequence[str]) -> tuple[Parser, Namespace]:
    given, rest = parser.parse_known_args(args)
    environment = environment_of(os.environ)
    path = getattr(given, CONFIG.attribute, None) or environment.get("CONFIG")
    file = load_file(str(path)) if path else {}
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
        read_file(str(path), file, options),
        read_environment(environment, options),
        sort_out(values_of(given, options)),
    )
    values = {option.attribute: plan.values.of(option) for option in OPTIONS}
    values["listen"] = [way.place for way in plan.ways]
    return parser, Namespace(**values, handler_class=found.value, found=found, plan=plan)


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
    try:
        status = act(parser, namespace)
    except CannotStartError as error:
        _give_up(parser, error)
    if status:
        raise SystemExit(status)


def _serve(parser: ArgumentParser, namespace: Namespace) -> int:
    plan: Plan = namespace.plan
    make_loop = loop_factory(plan.values.of(LOOP))
    # Ports and keys may be for root alone; the handler is made by who it will run as.
    rules = rules_of(plan)
    with contextlib.ExitStack() as cleaning:
        sockets = [_bind(each, cleaning) for each in rules]
        if not plan.values.of(NOSETUID):
            become(plan.values.of(USER))
        services = _make_services(_handler(parser, namespace), rules, sockets, plan.values)
        debug = namespace.debug >= len(_LEVELS)
        with asyncio.Runner(debug=debug, loop_factory=make_loop) as runner:
            return runner.run(serve_until_told(services, plan.values.of(GRACE)))


def _check(parser: ArgumentParser, namespace: Namespace) -> int:
    """Do what a start does up to the ports: files, user, handler, and whether they fit together."""
    plan: Plan = namespace.plan
    loop_factory(plan.values.of(LOOP))
    rules = rules_of(plan)
    if not plan.values.of(NOSETUID):
        may_become(plan.values.of(USER))
    _make_services(_handler(parser, namespace), rules, [[] for _ in rules], plan.values)
    places = ", ".join(str(place) for each in rules for place in each.places)
    print(f"{PROGRAM}: this would start, and listen on {places}")
    return 0


def _handler(parser: ArgumentParser, namespace: Namespace) -> AnyHandler:
    found, values = namespace.found, namespace.plan.values
    return make_handler(found, parser, values.of(ARGUMENTS), named_values(found, values))


def _bind(rules: Rules, cleaning: contextlib.ExitStack) -> list[socket.socket]:
    try:
        return [cleaning.enter_context(sock) for place in rules.places for sock in place.bind()]
    except (OSError, ValueError) as error:
        raise CannotStartError(in_one_line(error)) from None


def _make_services(
    handler: AnyHandler,
    rules: Sequence[Rules],
    sockets: Sequence[list[socket.socket]],
    values: Values,
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
    return Services(services, life, files)


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
    if error.status == USAGE:
        parser.error(str(error))
    parser.exit(error.status, f"{PROGRAM}: {error}\n")
