"""Command line: options in, a running server out; whatever is wrong is said in one line."""

import asyncio
import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import ssl
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from ipaddress import IPv6Address
from typing import NoReturn

from smtp_protocol import AnyHandler
from smtp_server.listeners import bind_tcp, format_address, port_number
from smtp_server.log import commands_logger, logger
from smtp_server.service import GRACE, Service, serve
from smtp_server.tls import TLSSource
from smtp_server.version import __version__

__all__ = ["main", "parseargs"]

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8025
DEFAULT_SIZE = 33554432
DEFAULT_HANDLER = "debugging"
_GROUP = "smtp_server.handlers"
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
# Windows has the last one, and no SIGHUP, which asks for the certificates to be read again.
_ENDING = ("SIGINT", "SIGTERM", "SIGBREAK")
_RELOADING = ("SIGHUP",)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong; the usage is what ``--help`` is for."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _make_parser() -> ArgumentParser:
    parser = _Parser(
        prog="smtp-server",
        description="Receive mail over SMTP and hand it to a handler, which by default prints it.",
    )
    add = parser.add_argument
    add("-v", "--version", action="version", version=f"smtp-server {__version__}")
    add(
        "-n",
        "--nosetuid",
        action="store_true",
        help="stay the user who started the program. Without this option it binds its ports and "
        "then becomes the user 'nobody', which only root can do",
    )
    add(
        "-c",
        "--class",
        dest="handler",
        metavar="CLASSPATH",
        default=DEFAULT_HANDLER,
        help="the handler: the name of an installed one (%(default)s is the default, "
        f"there are: {', '.join(sorted(entry_points(group=_GROUP).names))}), or the dotted "
        "path of a class",
    )
    add(
        "-s",
        "--size",
        metavar="SIZE",
        type=_parse_int,
        default=DEFAULT_SIZE,
        help="the largest message in octets, told to clients by the SIZE extension (RFC 1870); "
        "0 for no limit (default: %(default)s)",
    )
    add(
        "-u",
        "--smtputf8",
        action="store_true",
        help="offer SMTPUTF8 (RFC 6531): addresses and headers in UTF-8",
    )
    add(
        "-d",
        "--debug",
        action="count",
        default=0,
        help="log more: once who comes, each message, and what is refused; twice each command "
        "too; three times what asyncio says as well",
    )
    add(
        "-l",
        "--listen",
        metavar="HOST:PORT",
        nargs="?",
        action="append",
        const="",
        type=_parse_address,
        help="where to listen, as HOST:PORT, HOST, :PORT or [IPV6]:PORT "
        f"(default: {DEFAULT_HOST}:{DEFAULT_PORT}); may be given several times",
    )
    for option, use in (("tls", "STARTTLS"), ("smtps", "TLS from the first octet")):
        add(f"--{option}cert", metavar="FILE", help=f"the certificate for {use}, in PEM")
        add(f"--{option}key", metavar="FILE", help="its key; in the certificate's file by default")
    add(
        "--no-requiretls",
        dest="requiretls",
        action="store_false",
        help="with --tlscert, take mail before STARTTLS too",
    )
    add("arguments", metavar="ARGUMENT", nargs="*", help="arguments for the handler")
    return parser


def _parse_int(text: str) -> int:
    if not re.fullmatch("[+-]?[0-9]{1,20}", text):  # int() takes the digits of any script
        raise ValueError(text)
    return int(text)


def _parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, ""
    elif text.endswith("]") or _is_ipv6(text):
        host, port = text, ""  # all of it is an IPv6 address
    host = host.removeprefix("[").removesuffix("]")
    return host or DEFAULT_HOST, port_number(port) if port else DEFAULT_PORT


# argparse says "invalid address value: ..."
_parse_int.__name__ = "int"
_parse_address.__name__ = "address"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def parseargs(args: Sequence[str] | None = None) -> tuple[ArgumentParser, Namespace]:
    """Read the command line.

    Args:
        args: The arguments; those of the process by default.

    Returns:
        The parser, and what was given: ``nosetuid``, ``handler_class``, ``arguments``, ``size``,
        ``smtputf8``, ``debug``, and ``listen``, a list of hosts and ports.

    Raises:
        SystemExit: An argument is wrong (2), or help or version was asked for (0).
    """
    parser = _make_parser()
    namespace = parser.parse_args(args)
    if namespace.size < 0:
        parser.error(f"the size is a number of octets, not {namespace.size}")
    namespace.handler_class = _find_handler(parser, namespace.handler)
    if not hasattr(namespace.handler_class, "from_cli") and namespace.arguments:
        parser.error(f"the handler {namespace.handler} takes no arguments")
    namespace.listen = namespace.listen or [(DEFAULT_HOST, DEFAULT_PORT)]
    return parser, namespace


def _find_handler(parser: ArgumentParser, name: str) -> type:
    found = entry_points(group=_GROUP, name=name)
    module, dot, attribute = name.rpartition(".")
    if not found and not dot:
        known = ", ".join(sorted(entry_points(group=_GROUP).names))
        parser.error(f"no handler {name!r}: give one of {known}, or a class's dotted path")
    try:
        if found:
            handler = next(iter(found)).load()
        else:
            sys.path.insert(0, os.getcwd())  # the user's own module, beside which they are
            handler = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        parser.error(f"cannot load the handler {name}: {error!r}")
    if not isinstance(handler, type):
        parser.error(f"the handler {name} is not a class")
    return handler


def _make_handler(parser: ArgumentParser, namespace: Namespace) -> AnyHandler:
    handler_class = namespace.handler_class
    try:
        handler: AnyHandler
        if hasattr(handler_class, "from_cli"):
            handler = handler_class.from_cli(parser, *namespace.arguments)
        else:
            handler = handler_class()
    except (TypeError, ValueError, OSError) as error:
        parser.error(f"cannot make the handler {namespace.handler}: {error}")
    except Exception as error:  # whose text alone need not say what it is, such as a KeyError
        parser.error(f"cannot make the handler {namespace.handler}: {error!r}")
    return handler


def _become_nobody(parser: ArgumentParser) -> None:
    try:
        import pwd  # noqa: PLC0415 not on every system

        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    except (ImportError, KeyError, OSError):
        parser.exit(
            1, f"{parser.prog}: cannot become the user 'nobody'; use -n to stay who you are\n"
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the server until a signal ends it.

    Args:
        args: The arguments; those of the process by default.

    Raises:
        SystemExit: With 1 or 2, after one line on stderr, when it cannot run.
    """
    parser, namespace = parseargs(args)
    _set_up_log(namespace.debug)
    with contextlib.ExitStack() as cleaning:
        sockets: list[socket.socket] = []
        try:
            for host, port in namespace.listen:
                for sock in bind_tcp(host, port):
                    sockets.append(cleaning.enter_context(sock))
            service = _make_service(parser, namespace, sockets)
        except (OSError, TypeError, ValueError) as error:
            _cannot_run(parser, error)
        try:
            with asyncio.Runner(debug=namespace.debug > len(_LEVELS) - 1) as runner:
                runner.run(_run(service))
        except OSError as error:
            _cannot_run(parser, error)


def _set_up_log(debug: int) -> None:
    """Log to stderr: with one ``-d`` what happens to messages, with two each command as well."""
    logging.basicConfig(
        level=_LEVELS[min(debug, len(_LEVELS) - 1)],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if debug == 1:
        logger.setLevel(logging.DEBUG)
        commands_logger.setLevel(logging.INFO)


def _cannot_run(parser: ArgumentParser, error: Exception) -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    parser.exit(1, f"{parser.prog}: {reason}\n")


def _make_service(
    parser: ArgumentParser, namespace: Namespace, sockets: list[socket.socket]
) -> Service:
    # Ports and keys may be for root alone; the handler is made by who it will run as.
    tls = _tls_source(namespace.tlscert, namespace.tlskey)
    smtps = _tls_source(namespace.smtpscert, namespace.smtpskey)
    if not namespace.nosetuid:
        _become_nobody(parser)
    return serve(
        _make_handler(parser, namespace),
        sockets=sockets,
        data_size_limit=namespace.size,
        enable_SMTPUTF8=namespace.smtputf8,
        tls_context=tls,
        require_starttls=tls is not None and namespace.requiretls,
        ssl_context=smtps,
    )


def _tls_source(certificate: str | None, key: str | None) -> TLSSource | None:
    """Make a function that reads the files each time; the first time is now."""
    if certificate is None:
        if key is not None:
            raise ValueError(f"the key {key} needs its certificate")
        return None

    def read() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot use the certificate {certificate}: {error}"
            ) from None
        return context

    first = [read()]
    return lambda: first.pop() if first else read()


async def _run(service: Service) -> None:
    signals: asyncio.Queue[None] = asyncio.Queue()
    with contextlib.ExitStack() as cleaning:
        _at_signals(_ENDING, partial(signals.put_nowait, None), cleaning)
        _at_signals(_RELOADING, partial(_reload, service), cleaning)
        await service.start()
        addresses = ", ".join(map(format_address, service.addresses))
        text = f"smtp-server {__version__} listens on {addresses}"
        print(text, file=sys.stderr, flush=True)
        await signals.get()
        closing = asyncio.create_task(service.close(GRACE))
        second = asyncio.create_task(signals.get())
        await asyncio.wait({closing, second}, return_when=asyncio.FIRST_COMPLETED)
        if second.done():
            await service.close(grace=0)
            # A hook that blocks a thread would keep the interpreter from ending.
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
        await closing
        second.cancel()


def _at_signals(
    names: Sequence[str], call: Callable[[], object], cleaning: contextlib.ExitStack
) -> None:
    """Have a function called in the running loop at each of these signals that there is."""
    loop = asyncio.get_running_loop()
    for name in names:
        number: signal.Signals | None = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, call)
        except NotImplementedError:  # the loops of Windows
            before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
            cleaning.callback(signal.signal, number, before or signal.SIG_DFL)


def _reload(service: Service) -> None:
    try:
        service.reload_tls()
    except Exception as error:
        logger.error("The TLS certificates stay as they are: %s", error)
