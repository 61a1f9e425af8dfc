"""Upstream: the client's side of SMTP or LMTP, one connection and one transaction at a time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from smtp_handlers.wire import DotStuffer, Wire, WireError
from smtp_protocol import LoginPassword, Reply

__all__: list[str] = []

TLSMode = Literal["required", "opportunistic", "off", "implicit"]

AWAY = Reply.parse("451 4.4.1 The next server does not answer, try again later")
LOST = Reply.parse("451 4.4.1 The connection to the next server was lost, try again later")
BUSY = Reply.parse("451 4.4.5 Too many connections to the next server, try again later")
NO_TLS = Reply.parse("451 4.7.4 The next server does not offer TLS, try again later")
NO_HANDSHAKE = Reply.parse("451 4.7.5 TLS with the next server failed, try again later")
NO_LOGIN = Reply.parse("451 4.7.0 The next server does not let us in, try again later")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Seconds for the farewells of connections that nobody waits for.
_BRIEFLY = 10.0


class UpstreamError(Exception):
    """The next server cannot take the message now.

    Attributes:
        reply: What to tell the client.
    """

    def __init__(self, reply: Reply, why: str) -> None:
        super().__init__(why)
        self.reply = reply


class HandshakeError(UpstreamError):
    """TLS did not come about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the next server is and how to talk to it.

    Args:
        address: Its host and port, or the path of a Unix socket.
        tls: When TLS begins, and whether it must.
        tls_context: What it accepts.
        login: Who we are to it.
        lmtp: Whether it speaks LMTP (RFC 2033).
        timeout: Seconds for each of its replies, and for it to take each block of a message.
        connect_timeout: Seconds until it is ready for MAIL.
    """

    address: tuple[str, int] | str
    tls: TLSMode
    tls_context: ssl.SSLContext | None
    login: LoginPassword | None = field(repr=False)
    lmtp: bool
    timeout: float
    connect_timeout: float

    @property
    def host(self) -> str | None:
        """The name that its certificate is for."""
        return self.address[0] if isinstance(self.address, tuple) else None


class Upstream:
    """A connection to the next server that is ready for MAIL.

    Attributes:
        extensions: What its EHLO offers: the parameters of each keyword.
        secure: Whether TLS is on.
        verified: Whether it has shown a certificate that was checked.
        in_transaction: Whether it must be told RSET before another MAIL.
        reused: Whether it has carried a message before.
    """

    def __init__(self, target: Target, wire: Wire) -> None:
        self._target = target
        self._wire = wire
        self._closing = False
        # True while a reply, or the rest of a message, is due; for ever if that was broken off.
        self._midway = False
        self.extensions: Mapping[str, str] = {}
        self.secure = False
        self.verified = False
        self.in_transaction = False
        self.reused = False

    @property
    def usable(self) -> bool:
        """Whether another command makes sense."""
        return self._wire.idle and not self._closing and not self._midway

    async def command(self, line: str) -> Reply:
        """Send one command and read its reply.

        Raises:
            UpstreamError: There is none.
            ValueError: The line has control characters, and was not sent.
        """
        if _CONTROL.search(line):
            raise ValueError(f"a command is one line without control characters: {line!r}")
        self._midway = True
        await self._send(line.encode() + b"\r\n")
        reply = await self._reply()
        self._midway = False
        return reply

    async def ask(self, line: str) -> Reply:
        """Send MAIL or RCPT, whose reply is yes or no. Otherwise as `command`."""
        begins = not self.in_transaction
        self.in_transaction = True
        reply = await self.command(line)
        if 300 <= reply.code < 400:
            self._closing = True
            raise _out_of_step(reply)
        if begins:
            self.in_transaction = reply.positive
        return reply

    async def data(self, chunks: AsyncIterator[bytes], answers: int) -> list[Reply]:
        """Send a message with DATA. When this raises, the connection is of no further use.

        Args:
            chunks: The message, as it comes.
            answers: How many recipients the server has accepted.

        Returns:
            One reply; with LMTP one for each recipient, unless the message was refused at once.

        Raises:
            UpstreamError: There is no reply.
        """
        go_ahead = await self.command("DATA")
        if go_ahead.code != 354:
            return [_refusal(go_ahead)]
        self._midway = True
        stuffer = DotStuffer()
        async for chunk in chunks:
            if await self._send(stuffer.feed(chunk)):
                # It said no before the end, and may not read on: the connection goes with it.
                return [_refusal(await self._reply())]
        await self._send(stuffer.finish())
        replies = await self._final_replies(answers)
        self._midway = False
        return replies

    async def bdat(self, chunks: AsyncIterator[bytes], answers: int) -> list[Reply]:
        """Send a message with BDAT, octet by octet as it is (RFC 3030 §2). Otherwise as `data`."""
        self._midway = True
        async for chunk in chunks:
            await self._send(b"BDAT %d\r\n" % len(chunk) + chunk)
            reply = await self._reply()
            if reply.code != 250:
                return [_refusal(reply)]
        await self._send(b"BDAT 0 LAST\r\n")
        replies = await self._final_replies(answers)
        self._midway = False
        return replies

    async def _send(self, octets: bytes) -> bool:
        """Send a part of a message, and tell whether there is a reply by now."""
        try:
            with _translated():
                async with asyncio.timeout(self._target.timeout):
                    await self._wire.write(octets)
        except UpstreamError:
            if not self._wire.unread:
                raise
        return self._wire.unread

    async def _final_replies(self, answers: int) -> list[Reply]:
        # RFC 5321 §4.5.3.2.6 gives the end of data twice the time of a command.
        replies = [await self._reply(times=2)]
        if self._target.lmtp:
            try:
                while len(replies) < answers:
                    replies.append(await self._reply(times=2))
            except UpstreamError:
                self._closing = True
                replies += [LOST] * (answers - len(replies))
        for reply in replies:
            if 300 <= reply.code < 400:
                raise _out_of_step(reply)
        self.in_transaction = False
        return replies

    async def _reply(self, *, times: int = 1) -> Reply:
        with _translated():
            async with asyncio.timeout(times * self._target.timeout):
                reply = await self._wire.reply()
        if reply.code == 421:
            self._closing = True
        return reply

    async def reset(self) -> None:
        """End the transaction, if there is one.

        Raises:
            UpstreamError: The server does not confirm that.
        """
        if self.in_transaction:
            async with _briefly():
                reply = await self.command("RSET")
                if reply.code != 250:
                    raise UpstreamError(LOST, f"RSET: {reply!s}")
            self.in_transaction = False

    async def quit(self) -> None:
        """Say goodbye, if that is possible, and close the connection."""
        try:
            if self.usable:
                async with _briefly():
                    await self.command("QUIT")
        except UpstreamError:
            pass
        finally:
            self.abort()

    async def stir(self) -> None:
        """Wait until the server says something unasked, or is gone, or `wake` is called."""
        await self._wire.stir()

    def wake(self) -> None:
        """End a `stir`."""
        self._wire.wake()

    def abort(self) -> None:
        """Close the connection at once. What was not ended with its dot is no message."""
        self._wire.abort()

    # How a connection begins.

    async def begin(self, name: str, *, starttls: bool) -> None:
        """Read the greeting, say hello, and log in."""
        greeting = await self._wire.reply()
        if greeting.code != 220:
            raise UpstreamError(AWAY, f"greeting: {greeting!s}")
        await self._hello(name)
        if starttls and "STARTTLS" in self.extensions:
            reply = await self.command("STARTTLS")
            if reply.code == 220:
                await self._start_tls()
                await self._hello(name)
        if self._target.tls == "required" and not self.secure:
            raise UpstreamError(NO_TLS, "STARTTLS is not offered")
        if self._target.login is not None:
            await self._log_in(self._target.login)

    async def _hello(self, name: str) -> None:
        reply = await self.command(f"{'LHLO' if self._target.lmtp else 'EHLO'} {name}")
        if reply.code == 250:
            words = (line.partition(" ") for line in reply.lines[1:])
            self.extensions = {keyword.upper(): rest for keyword, _, rest in words}
            return
        if reply.code >= 500 and not self._target.lmtp:
            # RFC 5321 §3.2: a server that does not know EHLO may know HELO.
            reply = await self.command(f"HELO {name}")
        if reply.code != 250:
            raise UpstreamError(AWAY, f"hello: {reply!s}")
        self.extensions = {}

    async def _start_tls(self) -> None:
        context = self._target.tls_context
        assert context is not None
        try:
            await self._wire.start_tls(context, self._target.host)
        except OSError as error:
            raise HandshakeError(NO_HANDSHAKE, f"TLS: {error}") from error
        self.tls_began(context)

    def tls_began(self, context: ssl.SSLContext) -> None:
        """Take down what TLS is worth."""
        self.secure = True
        self.verified = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname

    async def _log_in(self, login: LoginPassword) -> None:
        offered = self.extensions.get("AUTH", "").upper().split()
        if "PLAIN" in offered:
            step = "AUTH PLAIN " + _base64(b"\0".join((b"", login.login, login.password)))
        elif "LOGIN" in offered:
            for word in ("AUTH LOGIN", _base64(login.login)):
                reply = await self.command(word)
                if reply.code != 334:
                    raise UpstreamError(NO_LOGIN, f"AUTH: {reply!s}")
            step = _base64(login.password)
        else:
            raise UpstreamError(NO_LOGIN, "neither AUTH PLAIN nor AUTH LOGIN is offered")
        reply = await self.command(step)
        if reply.code != 235:
            raise UpstreamError(NO_LOGIN, f"AUTH: {reply!s}")


async def connect(target: Target, name: str) -> Upstream:
    """Connect to the next server.

    Args:
        target: Where it is.
        name: What we call ourselves.

    Raises:
        UpstreamError: It is away, or not what it should be.
    """
    try:
        return await _connect(target, name, starttls=target.tls in ("required", "opportunistic"))
    except HandshakeError:
        if target.tls != "opportunistic":
            raise
    # RFC 7435: TLS that cannot be had is done without.
    return await _connect(target, name, starttls=False)


async def _connect(target: Target, name: str, *, starttls: bool) -> Upstream:
    with _translated(AWAY):
        async with asyncio.timeout(target.connect_timeout):
            wire = await _open(target)
            upstream = Upstream(target, wire)
            if target.tls == "implicit" and target.tls_context is not None:
                upstream.tls_began(target.tls_context)
            try:
                await upstream.begin(name, starttls=starttls)
            except BaseException:
                wire.abort()
                raise
            return upstream


async def _open(target: Target) -> Wire:
    loop = asyncio.get_running_loop()
    context = target.tls_context if target.tls == "implicit" else None
    if isinstance(target.address, str):
        _, wire = await loop.create_unix_connection(Wire, target.address)
    else:
        host, port = target.address
        _, wire = await loop.create_connection(
            Wire, host, port, ssl=context, server_hostname=host if context is not None else None
        )
    return wire


@contextlib.contextmanager
def _translated(reply: Reply = LOST) -> Iterator[None]:
    """Make one kind of error of all those that a connection has."""
    try:
        yield
    except ssl.SSLError as error:
        raise HandshakeError(NO_HANDSHAKE, f"TLS: {error}") from error
    except TimeoutError as error:
        raise UpstreamError(reply, "no answer in time") from error
    except (WireError, OSError) as error:
        raise UpstreamError(reply, str(error)) from error


@contextlib.asynccontextmanager
async def _briefly() -> AsyncIterator[None]:
    with _translated():
        async with asyncio.timeout(_BRIEFLY):
            yield


def _refusal(reply: Reply) -> Reply:
    """See that a reply that ends the message early says no."""
    if reply.code < 400:
        raise _out_of_step(reply)
    return reply


def _out_of_step(reply: Reply) -> UpstreamError:
    return UpstreamError(LOST, f"out of step: {reply!s}")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
