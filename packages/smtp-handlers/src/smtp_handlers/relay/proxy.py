"""Proxy: passes each message on step by step, and tells the client what the next server says."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from smtp_handlers.log import log
from smtp_handlers.relay.answers import for_recipients, told
from smtp_handlers.relay.client import LOST, Upstream, UpstreamError
from smtp_handlers.relay.dialing import Dialer
from smtp_handlers.relay.forwarding import (
    Inspected,
    Refusal,
    mail_command,
    rcpt_command,
    room_for_field,
)
from smtp_handlers.relay.pool import Pool
from smtp_handlers.relay.target import (
    Arguments,
    Target,
    TLSMode,
    make_address,
    make_login,
    make_tls,
    own_name,
    read_url,
)
from smtp_handlers.trace import new_identifier, received
from smtp_protocol import (
    Answer,
    Envelope,
    Handler,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
)

__all__ = ["Proxy"]

# Seconds that a connection is kept for the next message.
_KEPT = 60.0

# Where the command line takes the password from: what is on it every user of the system can read.
_PASSWORD = "SMTP_PROXY_PASSWORD"

# What is said of a server by its host and port.
_NOWHERE: Arguments = {
    "remote_hostname": None,
    "remote_port": 25,
    "unix_socket": None,
    "tls": None,
    "username": None,
    "password": None,
    "lmtp": False,
}

_RECIPIENTS = Reply.parse("452 4.5.3 Too many recipients for the next server")


@dataclass(slots=True)
class _Transaction:
    """A session's transaction with the next server.

    Attributes:
        upstream: The connection.
        pool: Where it belongs.
        identifier: The message's name in our Received field.
        least: The field, without a recipient in it.
        accepted: The recipients that the next server has accepted.
    """

    upstream: Upstream
    pool: Pool
    identifier: str
    least: bytes
    accepted: list[str] = field(default_factory=list)


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
        remote_hostname: The next server's name or address; ``None`` with ``unix_socket``. All
            addresses of the name are tried (RFC 8305).
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
        connect_timeout: Seconds until it is ready, all addresses, TLS and AUTH included.
        pool_size: How many idle connections are kept, each for a minute at most.
        max_connections: How many connections there are at most; above, ``451 4.4.5``.
        max_hops: How many ``Received`` fields a message may have; above, ``554 5.4.6``
            (RFC 5321 §6.3).

    Raises:
        ValueError: An argument is invalid.
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
        address = make_address(remote_hostname, remote_port, unix_socket)
        tls, tls_context = make_tls(tls, tls_context, unix=unix_socket is not None)
        if min(timeout, connect_timeout) <= 0 or min(max_connections, max_hops) < 1:
            raise ValueError("times and numbers are above 0")
        self._target = Target(
            address=address,
            tls=tls,
            tls_context=tls_context,
            login=make_login(username, password, tls),
            lmtp=lmtp,
            timeout=timeout,
            connect_timeout=connect_timeout,
        )
        self._local_hostname = None if local_hostname is None else own_name(local_hostname)
        self._pool_size = pool_size
        self._max_connections = max_connections
        self._max_hops = max_hops
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._transactions: WeakKeyDictionary[Session, _Transaction] = WeakKeyDictionary()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make one from a URL; what that does not say has the default.

        Args:
            url: ``smtp://user:password@host:port?tls=required``, with ``smtps`` for implicit TLS,
                with ``lmtp``, or ``lmtp:///path`` for a Unix socket. User, password and path may
                have ``%`` forms for what has another meaning in a URL (RFC 3986 §2.1).

        Raises:
            ValueError: It is none, or its parts do not go together. The error does not repeat it.
        """
        return cls(**read_url(url))

    @classmethod
    def from_cli(
        cls,
        parser: ArgumentParser,
        *args: str,
        tls: TLSMode | None = None,
        username: str | None = None,
        lmtp: bool = False,
        local_hostname: str | None = None,
        timeout: float = 300.0,
        connect_timeout: float = 30.0,
        pool_size: int = 5,
        max_connections: int = 100,
        max_hops: int = 100,
    ) -> Self:
        """Make one for the command line: a URL, or a host with or without a port.

        The URL is that of `from_url` without the password, which is in the environment's
        ``SMTP_PROXY_PASSWORD`` if there is a user. What is said by name goes before it.
        """
        match args:
            case (address,):
                arguments = read_url(address if "://" in address else f"smtp://{address}")
            case (host, port) if port.isascii() and port.isdigit():
                arguments = {**_NOWHERE, "remote_hostname": host, "remote_port": int(port)}
            case _:
                parser.error(
                    "the handler proxy takes a URL such as smtp://mail.example.com:25, "
                    "or a host and a port"
                )
        if arguments["password"] is not None:
            raise ValueError(f"the password is taken from the environment, as {_PASSWORD}")
        arguments["username"] = username or arguments["username"]
        if arguments["username"] is not None:
            arguments["password"] = os.environ.get(_PASSWORD)
        arguments["tls"] = tls or arguments["tls"]
        arguments["lmtp"] = lmtp or arguments["lmtp"]
        return cls(
            **arguments,
            local_hostname=local_hostname,
            timeout=timeout,
            connect_timeout=connect_timeout,
            pool_size=pool_size,
            max_connections=max_connections,
            max_hops=max_hops,
        )

    async def close(self) -> None:
        """Close the idle connections.

        A server that runs this handler does so at its end. They also end with the event loop, and
        after a minute.
        """
        await self._pool().close()

    async def __aenter__(self) -> Self:
        """Connections are made when they are needed."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the idle connections."""
        await self.close()

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
        identifier = new_identifier(session)
        nobody = Envelope()
        nobody.smtp_utf8 = mail_options.smtputf8
        least = received(server, session, nobody, identifier)
        make_line = partial(
            mail_command,
            address,
            mail_options,
            field=len(least),
            authenticated=session.authenticated,
        )
        name = self._local_hostname or own_name(server.hostname)
        pool = self._pool()
        try:
            upstream, reply = await _begin(pool, session, name, make_line)
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            return _away(session, error)
        if not reply.positive:
            return told(reply)
        self._transactions[session] = _Transaction(upstream, pool, identifier, least)
        await super().handle_MAIL(server, session, envelope, address, mail_options)
        return told(reply)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Ask the next server about the recipient."""
        transaction = self._transactions.get(session)
        if transaction is None:
            return LOST
        upstream, accepted = transaction.upstream, transaction.accepted
        most = upstream.offers.most_recipients
        if most is not None and len(accepted) >= most:
            return _RECIPIENTS
        try:
            reply = await upstream.rcpt(rcpt_command(address, rcpt_options, upstream))
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            return _away(session, error)
        finally:
            if not upstream.usable:
                self._release(session)
        if reply.positive:
            accepted.append(address)
            await super().handle_RCPT(server, session, envelope, address, rcpt_options)
        return told(reply)

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        """Hand the next server the message."""
        transaction = self._transactions.pop(session, None)
        if transaction is None:
            return LOST
        upstream, accepted = transaction.upstream, transaction.accepted
        try:
            field = _field(server, session, envelope, transaction)
            options = envelope.mail_options
            message = Inspected(field, chunks, options, upstream.offers, self._max_hops)
            send = upstream.bdat if options.body == "BINARYMIME" else upstream.data
            answers = await send(message, len(accepted))
        except Refusal as refusal:
            return refusal.reply
        except UpstreamError as error:
            return _away(session, error)
        finally:
            transaction.pool.give_back(upstream)
        if LOST in answers:
            log(logging.WARNING, session, "The next server did not answer for all recipients")
        return for_recipients(envelope.rcpt_tos, accepted, [told(answer) for answer in answers])

    async def handle_RSET(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Give up the transaction."""
        await self._give_up(session)
        return await super().handle_RSET(server, session, envelope)

    async def handle_QUIT(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Give up the transaction."""
        self._release(session)
        return await super().handle_QUIT(server, session, envelope)

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Give up the transaction."""
        self._release(session)

    async def _give_up(self, session: Session) -> None:
        """End the transaction, if there is one."""
        transaction = self._transactions.pop(session, None)
        if transaction is None:
            return
        try:
            await transaction.upstream.reset()
        except UpstreamError as error:
            _away(session, error)
        finally:
            transaction.pool.give_back(transaction.upstream)

    def _release(self, session: Session) -> None:
        """The same, but nobody waits for it."""
        transaction = self._transactions.pop(session, None)
        if transaction is not None:
            transaction.pool.give_back(transaction.upstream)

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for old in [old for old in self._pools if old.is_closed()]:
                self._pools.pop(old, None)
            pool = self._pools[loop] = Pool(
                Dialer(self._target).connect,
                size=self._pool_size,
                most=self._max_connections,
                seconds=_KEPT,
            )
        return pool


async def _begin(
    pool: Pool, session: Session, name: str, make_line: Callable[[Upstream], str]
) -> tuple[Upstream, Reply]:
    """Get a connection, and say MAIL.

    One that was used before may be dead, or have reached a limit of the next server for one
    session: nothing is lost then with asking again on a fresh one. When the reply is negative the
    connection has been given back.
    """
    fresh = False
    while True:
        upstream = await pool.take(name, fresh=fresh)
        try:
            reply = await upstream.mail(make_line(upstream))
        except UpstreamError:
            pool.drop(upstream)
            if not upstream.used:
                raise
            fresh = True
            continue
        except BaseException:
            pool.give_back(upstream)
            raise
        if upstream.tls_failure is not None and not upstream.used:
            log(logging.WARNING, session, "Went on without TLS: %r", upstream.tls_failure)
        if reply.positive:
            return upstream, reply
        if not _may_be_about_the_session(reply):
            pool.give_back(upstream)
            return upstream, reply
        pool.retire(upstream)
        if not upstream.used:
            return upstream, reply
        fresh = True


def _may_be_about_the_session(reply: Reply) -> bool:
    # 503 is "bad sequence of commands": not of ours on a connection that is new.
    return reply.code < 500 or reply.code == 503


def _field(
    server: Server, session: Session, envelope: Envelope, transaction: _Transaction
) -> bytes:
    """Make our Received field, without the recipient if that is more than was announced."""
    least = transaction.least
    field = received(server, session, envelope, transaction.identifier)
    room = room_for_field(envelope.mail_options, transaction.upstream.offers, len(least))
    return least if room is not None and len(field) > room else field


def _away(session: Session, error: UpstreamError) -> Reply:
    log(logging.WARNING, session, "The next server failed: %r", str(error))
    return error.reply
