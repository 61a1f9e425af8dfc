"""SMTP: one connection, from its opening to its end: PROXY header, TLS, greeting, farewell."""

import asyncio
import inspect
import logging
from time import monotonic
from typing import Unpack

from smtp_protocol import (
    AnyHandler,
    Connected,
    Envelope,
    ProxyHeaderError,
    Reply,
    ServerConnection,
    StartTls,
    State,
    replies,
)
from smtp_server.bookkeeping import forget_clear_text
from smtp_server.conversation import Conversation
from smtp_server.limits import Connections
from smtp_server.log import log, logger
from smtp_server.proxy import ProxyHeaderProtocol, meet_client
from smtp_server.settings import SMTPKeywords
from smtp_server.setup import Setup, prepare
from smtp_server.tls import Certificates, tls_info

__all__ = ["SMTP"]


class SMTP(Conversation):
    """One connection of an SMTP server, and what a hook sees as ``server``.

    A subclass adds a command, or takes over a built-in one, with a method
    ``async def smtp_VERB(self, arg: str | None)`` that returns the answer or pushes it.

    Args:
        handler: The object with the hooks.
        setup: What the connections of one server share, as another one's ``setup``; it saves
            looking at handler and keywords again.
        **keywords: See `Settings`.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value cannot be meant.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_early",
        "_greeted",
        "connections",
        "implicit_tls",
    )

    def __init__(
        self,
        handler: AnyHandler,
        *,
        setup: Setup | None = None,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        self.setup = prepare(self, handler, keywords) if setup is None else setup
        super().__init__()
        #: The service's count of its sessions, if there is a service.
        self.connections: Connections | None = None
        #: With it, TLS begins behind the PROXY header.
        self.implicit_tls: Certificates | None = None
        # What came inside TLS before the engine knew of that.
        self._early = b""
        self._begun = False
        self._greeted = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, after what has to come before that."""
        self.session.peer = self._attach(transport, self.setup.settings.loop)
        self.session.loop = self._loop
        self._connection = ServerConnection(self.setup.config)
        self._verbose = logger.isEnabledFor(logging.DEBUG)
        if self._verbose:
            log(logging.DEBUG, self.session, "Connection from %r", self.session.peer)
        settings = self.setup.settings
        room = self.connections is None or self.connections.enter(self, settings)
        if not room and settings.proxy_protocol_timeout:
            self._drop()  # it cannot be told before the header, and that can take its time
        elif settings.proxy_protocol_timeout or settings.greeting_delay:
            # What comes first is not for the engine, and may come before the task is begun.
            proxied = settings.proxy_protocol_timeout is not None
            header = ProxyHeaderProtocol(self._transport, self._loop) if proxied else None
            if header is None:
                self._meet()
            self._task = self._loop.create_task(self._prepare(header))
        else:
            self._meet()
            self._note_tls()
            self._begin()

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._last_sign = monotonic()
        if self._connection.state is State.TLS:
            self._early += data
            return
        self._connection.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Take that the peer sends no more; it still gets its answers."""
        self._linger = False
        self._connection.receive_eof()
        self._advance()
        # Inside TLS nothing can be sent behind the peer's end: asyncio closes it in any case.
        return not self._hung_up and self.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session, after the hook that may still be at work."""
        if self._lost:
            return
        if self._verbose:
            log(logging.DEBUG, self.session, "Connection closed (%r)", error)
        self._connection.close()
        self._forget_body()
        if self._response is not None and not self._response.done():
            self._response.set_result(None)
        if self._task is not None and not self._begun:
            # Later, for a task that is cancelled before its first step never gets to its end.
            self._loop.call_soon(self._task.cancel)
        self._detach()

    # Before the greeting, and TLS.

    async def _prepare(self, header: ProxyHeaderProtocol | None) -> None:
        """Do what comes before the greeting: PROXY header, TLS handshake, delay."""
        settings = self.setup.settings
        try:
            if header is not None:
                await meet_client(self, header, self._transport)
                self._meet()
            if self.implicit_tls is not None:
                await self._encrypt(self.implicit_tls, settings.tls_handshake_timeout)
            self._note_tls()
            if settings.greeting_delay:
                await asyncio.sleep(settings.greeting_delay)
        except (OSError, ProxyHeaderError) as error:
            log(logging.INFO, self.session, "No session: %s", error or "time is over")
            self._drop()
        except Exception as error:
            self.log_failure(Connected(), error)
            self._drop()
        finally:
            self._errand_done()
        if not self._lost:
            early = settings.greeting_delay and self._connection.buffered
            self._begin(replies.CLOSING_EARLY if early else None)

    def _meet(self) -> None:
        """Find out what the engine has to know of the client, before the first octet comes."""
        tls = self.implicit_tls or self._transport.get_extra_info("ssl_object")
        self.trusted = self.session.peer in self.setup.relays
        if tls or self.trusted:
            self._connection = ServerConnection(
                self.setup.config, tls=tls is not None, trusted=self.trusted
            )

    def _note_tls(self) -> None:
        self.session.ssl = self._transport.get_extra_info("ssl_object")
        if self.session.ssl is not None:
            self.session.tls = tls_info(self.session.ssl)

    def _begin(self, refusal: Reply | None = None) -> None:
        """Greet, unless there is a reason not to."""
        self._begun = True
        settings = self.setup.settings
        streaming = settings.handler_timeout if self.hooks.stream is not None else None
        limits = (settings.timeout, settings.data_timeout, streaming)
        if any(limits):
            self._watch_time(min(limit for limit in limits if limit is not None))
        if self.connections is not None:
            refusal = self.connections.admit(self, settings) or refusal
        if refusal is not None:
            log(logging.WARNING, self.session, "Refused: %s", refusal)
            self._finish(refusal)
            return
        self._greeted = True
        self._advance()

    def _start_tls(self) -> None:
        if self.setup.certificates is not None:
            self._transport.pause_reading()
            self._start(self._switch_to_tls(self.setup.certificates))

    async def _switch_to_tls(self, certificates: Certificates) -> None:
        """Go on inside TLS, after the reply to STARTTLS (RFC 3207 §4)."""
        try:
            try:
                await self._encrypt(certificates, self.setup.settings.tls_handshake_timeout)
            except OSError as error:
                log(logging.INFO, self.session, "The TLS handshake failed: %s", error)
                self._drop()
            else:
                await self._begin_inside_tls()
        except Exception as error:
            self.log_failure(StartTls(), error)
            self._drop()
        finally:
            self._errand_done()
        if not self._lost:
            self._go_on_inside_tls()

    async def _begin_inside_tls(self) -> None:
        self._transport.pause_reading()
        forget_clear_text(self.session)
        self.envelope = Envelope()
        self._note_tls()
        async with asyncio.timeout(self.setup.settings.handler_timeout):
            accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
            good = await accepted if inspect.isawaitable(accepted) else accepted
        if not self._lost:
            self._connection.tls_started()
            if not good:
                self._connection.tls_refused()

    def _go_on_inside_tls(self) -> None:
        self._last_sign = monotonic()
        early, self._early = self._early, b""
        self._connection.receive_data(early)
        self._transport.resume_reading()
        self._stop_if_idle()
        self._advance()

    # The connection's life.

    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""
        self._stopping = True
        if not self._begun:
            self._drop()
        elif not self._advancing and self._task is None:
            self._stop_if_idle()
            self._advance()

    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""
        if self._task is not None:
            # Later, for a task that is cancelled before its first step never gets to its end.
            self._loop.call_soon(self._task.cancel)
        self._cancel_streams()
        self._finish(replies.CLOSING_SHUTDOWN)

    def _finish(self, reply: Reply) -> None:
        """End the session with a 421."""
        if self._connection.state is State.TLS or not self._begun:
            self._drop()  # in the middle of a handshake there is no way to say it
            return
        if self._connection.state is not State.CLOSED:
            self._output.append(self._connection.send(reply))
        self._linger = False
        self._hang_up()

    def _drop(self) -> None:
        """Close the connection at once, and forget it.

        In the middle of a handshake or a PROXY header asyncio would tell somebody else.
        """
        self._transport.abort()
        self.connection_lost(None)

    def _leave(self) -> None:
        if self._streams:
            return  # the last of them comes here again
        if self._greeted and "handle_DISCONNECT" in self.hooks.own:
            self._start(self._say_goodbye())
        elif self.connections is not None:
            self.connections.remove(self)

    async def _say_goodbye(self) -> None:
        try:
            await self.hooks.handle_DISCONNECT(self, self.session)
        except Exception as error:
            log(logging.ERROR, self.session, "handle_DISCONNECT failed", error=error)
        finally:
            if self.connections is not None:
                self.connections.remove(self)

    # Time.

    def _patience(self) -> float | None:
        """How many seconds of silence the client may keep now; ``None`` for any number."""
        settings = self.setup.settings
        at_work = self._task is not None and self._response is None
        if at_work or (self._writing and not self._reading):
            # It is the client that waits: for a hook, whose time is limited elsewhere, or for a
            # handle_STREAM that does not read on.
            return None if at_work else settings.handler_timeout
        if self._connection.reading_body and settings.data_timeout is not None:
            return settings.data_timeout
        return settings.timeout

    def _silent(self, seconds: float) -> None:
        log(logging.INFO, self.session, "Silent for %g seconds", seconds)
        self._cancel_streams()
        self._finish(replies.CLOSING_IDLE)
