"""Client: our side of SMTP or LMTP on one connection, one transaction at a time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator

from smtp_handlers.relay.offers import Offers
from smtp_handlers.relay.target import Target
from smtp_handlers.relay.wire import Wire, WireError
from smtp_protocol import DotStuffer, LoginPassword, Reply

__all__: list[str] = []

AWAY = Reply.parse("451 4.4.1 The next server does not answer, try again later")
LOST = Reply.parse("451 4.4.1 The connection to the next server was lost, try again later")
BUSY = Reply.parse("451 4.4.5 Too many connections to the next server, try again later")
NO_TLS = Reply.parse("451 4.7.4 The next server does not offer TLS, try again later")
NO_HANDSHAKE = Reply.parse("451 4.7.5 TLS with the next server failed, try again later")
NO_LOGIN = Reply.parse("451 4.7.0 The next server does not let us in, try again later")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Seconds for the farewells of connections that nobody waits for.
_BRIEFLY = 10.0

# A connection is used for so many messages and seconds, for servers count, and networks forget.
_MOST_MAILS = 100
_OLDEST = 300.0

# Characters of an error's text: what the next server says can be endless.
_LONGEST_WHY = 500


class UpstreamError(Exception):
    """The next server cannot take the message now.

    Attributes:
        reply: What to tell the client.
    """

    def __init__(self, reply: Reply, why: str) -> None:
        super().__init__(why[:_LONGEST_WHY])
        self.reply = reply


class SilenceError(UpstreamError):
    """It did not answer in time."""


class HandshakeError(UpstreamError):
    """TLS did not come about."""


class SlowHandshakeError(HandshakeError):
    """TLS did not come about in time."""


class LoginError(UpstreamError):
    """The next server does not let us in."""


class Upstream:
    """A connection to the next server that is ready for MAIL.

    Attributes:
        offers: What its EHLO offers.
        secure: Whether TLS is on.
        verified: Whether it has shown a certificate that was checked.
        tls_failure: Why TLS is not on, if it was tried and done without.
        in_transaction: Whether it must be told RSET before another MAIL.

    Args:
        target: What it is connected to.
        wire: The connection.
        now: The loop's time.
    """

    def __init__(self, target: Target, wire: Wire, now: float) -> None:
        self._target = target
        self._wire = wire
        self._old_at = now + _OLDEST
        self._closing = False
        # True while a reply, or the rest of a message, is due; for ever if that was broken off.
        self._midway = False
        self._mails = 0
        self.offers = Offers()
        self.secure = False
        self.verified = False
        self.tls_failure: str | None = None
        self.in_transaction = False

    @property
    def usable(self) -> bool:
        """Whether another command makes sense."""
        return self._wire.idle and not self._closing and not self._midway

    @property
    def used(self) -> bool:
        """Whether this is not its first transaction."""
        return self._mails > 1

    def seconds_left(self, now: float) -> float:
        """Tell for how long it may begin another transaction; 0 or less when it may not."""
        if self._mails >= min(_MOST_MAILS, self.offers.most_mails or _MOST_MAILS):
            return 0
        return self._old_at - now

    async def command(self, line: str, *, seconds: float | None = None) -> Reply:
        """Send one command and read its reply.

        Args:
            line: The command, without CR LF.
            seconds: How long to wait for the reply, if not as long as for others.

        Raises:
            UpstreamError: There is none.
            ValueError: The line has control characters, and was not sent.
        """
        if _CONTROL.search(line):
            raise ValueError(f"a command is one line without control characters: {line!r}")
        if not self.usable:
            # What is said unasked, too: it would be taken for our reply.
            raise UpstreamError(LOST, "the connection was lost or broken off before")
        self._midway = True
        await self._send(line.encode() + b"\r\n")
        reply = await self._reply(seconds)
        self._midway = False
        return reply

    async def mail(self, line: str) -> Reply:
        """Send MAIL, which begins a transaction if the reply is positive. Otherwise as `command`.

        A connection that was used before may be dead by now: it has less time to prove that it is
        not, for there is another one to be had.
        """
        self._mails += 1
        self.in_transaction = True
        timeout = self._target.timeout
        seconds = min(timeout, self._target.connect_timeout) if self.used else timeout
        reply = await self._ask(line, seconds)
        self.in_transaction = reply.positive
        return reply

    async def rcpt(self, line: str) -> Reply:
        """Send RCPT; otherwise as `command`."""
        return await self._ask(line)

    async def _ask(self, line: str, seconds: float | None = None) -> Reply:
        """Send a command whose reply is yes or no."""
        reply = await self.command(line, seconds=seconds)
        if 300 <= reply.code < 400:
            self._closing = True
            raise _out_of_step(reply)
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
            await self._send(stuffer.feed(chunk))
            if self._wire.unread:
                break
        if self._wire.unread:
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

    async def _send(self, octets: bytes) -> None:
        try:
            with translated():
                async with asyncio.timeout(self._target.timeout):
                    await self._wire.write(octets)
        except UpstreamError:
            # A server that is gone may have said why.
            if not self._wire.unread:
                raise

    async def _final_replies(self, answers: int) -> list[Reply]:
        replies: list[Reply] = []
        wanted = max(answers, 1) if self._target.lmtp else 1
        try:
            while len(replies) < wanted:
                # RFC 5321 §4.5.3.2.6 gives the end of data twice the time of a command.
                reply = await self._reply(2 * self._target.timeout)
                if 300 <= reply.code < 400:
                    self._closing = True
                    reply = LOST  # out of step, and no yes
                replies.append(reply)
        except UpstreamError:
            self._closing = True
            if not replies:
                raise
            # For some recipients it has the message, and for the others nobody knows.
            replies += [LOST] * (wanted - len(replies))
        self.in_transaction = False
        return replies

    async def _reply(self, seconds: float | None = None) -> Reply:
        with translated():
            async with asyncio.timeout(self._target.timeout if seconds is None else seconds):
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
            reply = await self.command("RSET", seconds=_BRIEFLY)
            if reply.code != 250:
                raise UpstreamError(LOST, f"RSET: {reply!s}")
            self.in_transaction = False

    async def quit(self) -> None:
        """Say goodbye, if that is possible, and close the connection."""
        try:
            if self.usable:
                await self.command("QUIT", seconds=_BRIEFLY)
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

    async def begin(self, name: str, *, starttls: bool, until: float) -> None:
        """Read the greeting, say hello, and log in.

        Args:
            name: What we call ourselves.
            starttls: Whether to begin TLS if that is offered.
            until: By when, in the loop's time, this is to be done: TLS that may be done without
                gets half of the time that is left for it.

        Raises:
            UpstreamError: It came to nothing.
        """
        with translated():
            greeting = await self._wire.reply()
        if greeting.code != 220:
            raise UpstreamError(AWAY, f"greeting: {greeting!s}")
        await self._hello(name)
        if starttls and "STARTTLS" in self.offers:
            await self._start_tls(name, until)
        if self._target.tls == "required" and not self.secure:
            raise UpstreamError(NO_TLS, "STARTTLS is not offered")
        if self._target.login is not None:
            await self._log_in(self._target.login)
        if not self.usable:
            raise UpstreamError(AWAY, "the server closed the connection")

    async def _hello(self, name: str) -> None:
        reply = await self.command(f"{'LHLO' if self._target.lmtp else 'EHLO'} {name}")
        if reply.code == 250:
            self.offers = Offers.parse(reply.lines[1:])
            return
        if reply.code >= 500 and not self._target.lmtp:
            # RFC 5321 §3.2: a server that does not know EHLO may know HELO.
            reply = await self.command(f"HELO {name}")
        if reply.code != 250:
            raise UpstreamError(AWAY, f"hello: {reply!s}")
        self.offers = Offers()

    async def _start_tls(self, name: str, until: float) -> None:
        """Do all that TLS takes. A server may take the handshake, and close only then."""
        context = self._target.tls_context
        assert context is not None
        if self._target.tls == "opportunistic":
            now = asyncio.get_running_loop().time()
            until = now + (until - now) / 2
        try:
            async with asyncio.timeout_at(until):
                reply = await self.command("STARTTLS")
                if reply.code == 421:
                    raise ConnectionResetError(str(reply))
                if reply.code == 220:
                    await self._wire.start_tls(context, self._target.host)
                    self.tls_began(context)
                    await self._hello(name)
        except (TimeoutError, SilenceError) as error:
            raise SlowHandshakeError(NO_HANDSHAKE, "TLS: not in time") from error
        except (OSError, UpstreamError) as error:
            raise HandshakeError(NO_HANDSHAKE, f"TLS: {error}") from error

    def tls_began(self, context: ssl.SSLContext) -> None:
        """Take down what TLS is worth."""
        self.secure = True
        self.verified = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname

    async def _log_in(self, login: LoginPassword) -> None:
        offered = self.offers.mechanisms
        if "PLAIN" in offered:
            step = "AUTH PLAIN " + _base64(b"\0".join((b"", login.login, login.password)))
        elif "LOGIN" in offered:
            for word in ("AUTH LOGIN", _base64(login.login)):
                _expect(334, await self.command(word))
            step = _base64(login.password)
        else:
            raise LoginError(NO_LOGIN, "neither AUTH PLAIN nor AUTH LOGIN is offered")
        _expect(235, await self.command(step))


@contextlib.contextmanager
def translated(reply: Reply = LOST) -> Iterator[None]:
    """Make one kind of error of all those that a connection has.

    Args:
        reply: What the client is told.

    Raises:
        UpstreamError: In the place of the other.
    """
    try:
        yield
    except ssl.SSLError as error:
        raise HandshakeError(NO_HANDSHAKE, f"TLS: {error}") from error
    except TimeoutError as error:
        raise SilenceError(reply, "no answer in time") from error
    except (WireError, OSError) as error:
        raise UpstreamError(reply, str(error)) from error


def _expect(code: int, reply: Reply) -> None:
    # Its text is not repeated: it may repeat what we have sent.
    if reply.code != code:
        raise LoginError(NO_LOGIN, f"AUTH was answered {reply.code}")


def _refusal(reply: Reply) -> Reply:
    """See that a reply that ends the message early says no."""
    if reply.code < 400:
        raise _out_of_step(reply)
    return reply


def _out_of_step(reply: Reply) -> UpstreamError:
    return UpstreamError(LOST, f"out of step: {reply!s}")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
