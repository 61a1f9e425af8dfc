"""Proxy: passes each message on step by step, and tells the client what the next server says."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Self, get_args
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from smtp_handlers.onward import Inspected, Refusal, mail_command, rcpt_command
from smtp_handlers.pool import Pool
from smtp_handlers.trace import new_identifier, received
from smtp_handlers.upstream import LOST, Target, TLSMode, Upstream, UpstreamError, connect
from smtp_protocol import (
    Answer,
    Envelope,
    Handler,
    LoginPassword,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
    replies,
)

__all__ = ["Proxy"]

_log = logging.getLogger("smtp_handlers")

# Seconds that a connection is kept for the next message.
_KEPT = 60.0

# Where the command line takes the password from: what is on it every user of the system can read.
_PASSWORD = "SMTP_PROXY_PASSWORD"

_MODES: Mapping[str, TLSMode] = {mode: mode for mode in get_args(TLSMode)}

# URL schemes: the default port, when TLS begins by default, and whether it is LMTP.
_SCHEMES: Mapping[str, tuple[int, TLSMode | None, bool]] = {
    "smtp": (25, None, False),
    "smtps": (465, "implicit", False),
    "lmtp": (24, None, True),
}


class Proxy(Handler):
    """Relays each message to another server while the client waits.

    Each MAIL, RCPT and message of a client becomes one of ours to the next server, and its answer
    there is the client's answer here, with its code and its text; only 421, which would end the
    client's session, becomes 451. When the next server is away, silent or suddenly gone, the
    answer is ``451 4.4.1``. So 250 always means that the next server has said 250. Nothing is
    stored, and memory does not grow with the message.

    Parameters go with the message when the next server offers what they belong to, and messages
    that need what it does not offer are refused; the documentation has the table. Every line of a
    message ends with CR LF when it is passed on (but binary ones are not touched), and a
    ``Received`` field is put in front of it.

    Args:
        remote_hostname: The next server's name or address; ``None`` with ``unix_socket``.
        remote_port: Its port.
        unix_socket: The path of a Unix socket to connect to instead.
        tls: ``"required"``: STARTTLS, and the certificate must be in order. ``"opportunistic"``:
            STARTTLS if it is to be had, whatever the certificate (RFC 7435); the default.
            ``"off"``: never; the default with ``unix_socket``. ``"implicit"``: from the beginning,
            and the certificate must be in order (RFC 8314 §3).
        tls_context: Which certificates are accepted, and with which one we come; by default, where
            one is checked, the system's authorities are trusted.
        username: Who we are to the next server (AUTH PLAIN or LOGIN); nobody by default.
        password: Its password.
        lmtp: Whether it speaks LMTP (RFC 2033); each recipient then has an answer of its own.
        local_hostname: What we call ourselves; by default what our own server does.
        timeout: Seconds for each of its answers, twice as many for that to a message.
        connect_timeout: Seconds until it is ready, TLS and AUTH included.
        pool_size: How many idle connections are kept, each for a minute at most.
        max_connections: How many connections there are at most; above, ``451 4.4.5``.
        max_hops: How many ``Received`` fields a message may have; above, ``554 5.4.6``
            (RFC 5321 §6.3).

    Raises:
        ValueError: An argument cannot be meant.
    """

    def __init__(
        self,
        remote_hostname: str | None = None,
        remote_port: int = 25,
        *,
        unix_socket: str | os.PathLike[str] | None = None,
        tls: TLSMode | None = None,
        tls_context: ssl.SSLContext | None = None,
        username: str | None = None,
        password: str | None = None,
        lmtp: bool = False,
        local_hostname: str | None = None,
        timeout: float = 300.0,
        connect_timeout: float = 30.0,
        pool_size: int = 5,
        max_connections: int = 100,
        max_hops: int = 100,
    ) -> None:
        address = _address(remote_hostname, remote_port, unix_socket)
        if unix_socket is not None and tls not in (None, "off"):
            raise ValueError("there is no TLS on a Unix socket")
        if tls is None:
            tls = "off" if unix_socket is not None else "opportunistic"
        if tls not in _MODES:
            raise ValueError(f"tls is one of {', '.join(_MODES)}, not {tls!r}")
        if min(timeout, connect_timeout) <= 0 or min(max_connections, max_hops) < 1:
            raise ValueError("times and numbers are above 0")
        self._target = Target(
            address=address,
            tls=tls,
            tls_context=tls_context or _default_context(tls),
            login=_login(username, password, tls),
            lmtp=lmtp,
            timeout=timeout,
            connect_timeout=connect_timeout,
        )
        self._local_hostname = local_hostname
        self._pool_size = pool_size
        self._max_connections = max_connections
        self._max_hops = max_hops
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._leases: WeakKeyDictionary[Session, Upstream] = WeakKeyDictionary()

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one for the command line: a URL, or a host with or without a port.

        The URL is ``smtp://user@host:port?tls=required``, or with ``smtps`` for implicit TLS, or
        with ``lmtp``; ``lmtp:///path`` is a Unix socket. The password, if there is a user, is in
        the environment's ``SMTP_PROXY_PASSWORD``.
        """
        match args:
            case (address,):
                return cls._from_url(address if "://" in address else f"smtp://{address}")
            case (host, port) if port.isascii() and port.isdigit():
                return cls(host, int(port))
            case _:
                parser.error(
                    "the handler proxy takes a URL such as smtp://mail.example.com:25, "
                    "or a host and a port"
                )

    @classmethod
    def _from_url(cls, url: str) -> Self:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"a URL of the next server begins with {', '.join(_SCHEMES)}: {url}")
        if parts.password is not None:
            raise ValueError(f"the password is taken from the environment, as {_PASSWORD}")
        port, tls, lmtp = _SCHEMES[parts.scheme]
        query = parts.query.removeprefix("tls=")
        if parts.query and query not in _MODES:
            raise ValueError(f"behind ? stands tls={'|'.join(_MODES)}: {url}")
        return cls(
            parts.hostname,
            parts.port or port,
            unix_socket=None if parts.hostname else unquote(parts.path) or None,
            tls=_MODES[query] if query else tls,
            username=unquote(parts.username) if parts.username else None,
            password=os.environ.get(_PASSWORD) if parts.username else None,
            lmtp=lmtp,
        )

    async def close(self) -> None:
        """Close the idle connections. They end with the event loop, too, and after a minute."""
        await self._pool().close()

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """Begin a transaction with the next server."""
        await self._give_up(session)
        make_line = partial(
            mail_command, address, mail_options, authenticated=session.authenticated
        )
        try:
            upstream, reply = await self._begin(self._local_hostname or server.hostname, make_line)
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            return _away(session, error)
        if not reply.positive:
            self._pool().give_back(upstream)
            return reply
        self._leases[session] = upstream
        await super().handle_MAIL(server, session, envelope, address, mail_options)
        return reply

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Ask the next server about the recipient."""
        upstream = self._leases.get(session)
        if upstream is None:
            return LOST
        try:
            reply = _told(await upstream.ask(rcpt_command(address, rcpt_options, upstream)))
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            self._release(session)
            return _away(session, error)
        if reply.positive:
            await super().handle_RCPT(server, session, envelope, address, rcpt_options)
        return reply

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        """Hand the next server the message."""
        upstream = self._leases.pop(session, None)
        if upstream is None:
            return LOST
        options = envelope.mail_options
        field = received(server, session, envelope, new_identifier(session))
        message = Inspected(field, chunks, options, upstream.extensions, self._max_hops)
        send = upstream.bdat if options.body == "BINARYMIME" else upstream.data
        try:
            answers = [_told(reply) for reply in await send(message, len(envelope.rcpt_tos))]
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            return _away(session, error)
        finally:
            self._pool().give_back(upstream)
        return answers if len(answers) > 1 else answers[0]

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Give up the transaction."""
        await self._give_up(session)
        return replies.OK

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Give up the transaction."""
        self._release(session)
        return replies.BYE

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Give up the transaction."""
        self._release(session)

    async def _begin(self, name: str, make_line: _MakeLine) -> tuple[Upstream, Reply]:
        """Get a connection, and say MAIL.

        One that was kept may have been closed meanwhile; nothing is lost then with trying another.
        """
        pool = self._pool()
        while True:
            upstream = await pool.take(name)
            try:
                reply = await upstream.ask(make_line(upstream))
                if reply.code != 421 or not upstream.reused:
                    return upstream, _told(reply)
            except BaseException as error:
                pool.give_back(upstream)
                if not (upstream.reused and isinstance(error, UpstreamError)):
                    raise
            else:
                pool.drop(upstream)

    async def _give_up(self, session: Session) -> None:
        """End the transaction, if there is one."""
        upstream = self._leases.pop(session, None)
        if upstream is None:
            return
        try:
            await upstream.reset()
        except UpstreamError as error:
            _away(session, error)
        finally:
            self._pool().give_back(upstream)

    def _release(self, session: Session) -> None:
        """The same, but nobody waits for it."""
        upstream = self._leases.pop(session, None)
        if upstream is not None:
            self._pool().give_back(upstream)

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            self._pools = {old: pool for old, pool in self._pools.items() if not old.is_closed()}
            pool = self._pools[loop] = Pool(
                partial(connect, self._target),
                size=self._pool_size,
                most=self._max_connections,
                seconds=_KEPT,
            )
        return pool


_MakeLine = Callable[[Upstream], str]


def _address(
    host: str | None, port: int, path: str | os.PathLike[str] | None
) -> tuple[str, int] | str:
    if (host is None) == (path is None):
        raise ValueError("the next server is a host or a Unix socket: give one of the two")
    if path is not None:
        return os.fspath(path)
    if not 0 < port < 65536:
        raise ValueError(f"a port is 1 to 65535, not {port}")
    return host or "", port


def _told(reply: Reply) -> Reply:
    """Make what the client is told of what the next server said."""
    # RFC 5321 §3.8: our own session goes on.
    return replace(reply, code=451) if reply.code == 421 else reply


def _away(session: Session, error: UpstreamError) -> Reply:
    _log.warning("[%s] The next server failed: %r", session.id, str(error))
    return error.reply


def _default_context(tls: TLSMode) -> ssl.SSLContext | None:
    if tls == "off":
        return None
    if tls != "opportunistic":
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _login(username: str | None, password: str | None, tls: TLSMode) -> LoginPassword | None:
    if username is None and password is None:
        return None
    if username is None or password is None:
        raise ValueError("a username needs a password, and the reverse")
    if tls == "opportunistic":
        raise ValueError(
            "a password needs tls='required' or 'implicit', or 'off' to send it in the clear"
        )
    return LoginPassword(username.encode(), password.encode())
