"""SMTP: one connection's life: opened, greeted, conversing, closing, gone."""

import asyncio
import inspect
import logging
import socket
from time import monotonic
from typing import Unpack

from smtp_protocol import (
    AnyHandler,
    Connected,
    Envelope,
    Event,
    Peer,
    Reply,
    ServerConnection,
    State,
    replies,
)
from smtp_protocol.bookkeeping import forget_clear_text
from smtp_protocol.commands import StartTls
from smtp_server.conversation import Conversation
from smtp_server.dispatch import failure_of, timed
from smtp_server.log import log, refused
from smtp_server.opening import (
    NoSession,
    handshake,
    is_gone,
    peer_of,
    take_header,
    take_socket,
    takes_steps,
)
from smtp_server.proxy import HeaderReader
from smtp_server.sessions import Sessions
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
        ValueError: A keyword's value is invalid.
    """

    __slots__ = (
        "__weakref__",
        "_early",
        "_greeted",
        "_header",
        "_opening",
        "_over",
        "implicit_tls",
        "sessions",
    )

    def __init__(
        self,
        handler: AnyHandler,
        *,
        setup: Setup | None = None,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        if setup is None:
            setup = prepare(type(self), handler, keywords)
        elif keywords or handler is not setup.handler:
            raise TypeError("a setup has its handler and its keywords already")
        super().__init__(setup)
        #: The service's count of its sessions, if there is a service.
        self.sessions: Sessions | None = None
        #: With it, TLS begins before the greeting.
        self.implicit_tls: Certificates | None = None
        # What reads the PROXY header.
        self._header: HeaderReader | None = None
        # What came inside TLS before the engine knew of that.
        self._early = b""
        self._opening = True
        self._greeted = False
        self._over = False

    @property
    def peer(self) -> Peer:
        """The client, as far as it is known."""
        return self.session.peer

    # Opened.

    def accepted(self, sock: socket.socket, address: object, certificates: Certificates) -> None:
        """Take a socket whose TLS begins before the greeting.

        Args:
            sock: The socket.
            address: Who is at its other end.
            certificates: The context.
        """
        self.implicit_tls = certificates
        self._loop = self.setup.settings.loop or asyncio.get_running_loop()
        refusal = self._enter(address)
        if refusal is None:
            self._start(self._open(sock))
        else:
            refused(self.session, None, refusal)  # to tell the client would cost a handshake
            sock.close()
            self._see_whether_over()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, after what has to come before that."""
        settings = self.setup.settings
        self._attach(transport, settings.loop)
        if settings.proxy_protocol_timeout is not None:
            # What comes first is not for the engine, and may come before the errand is begun.
            self._header = HeaderReader(self._transport, self._loop)
            self._connection = ServerConnection(self.setup.config)
        elif self._busy:
            self._make_engine(tls=True)
        if self._busy:
            return  # it was accepted before, and `_open` goes on
        address = transport.get_extra_info("peername")
        if address is None and is_gone(transport):
            self._connection = ServerConnection(self.setup.config)
            self._give_up(NoSession("the client went before anybody saw who it was"))
            return
        refusal = self._enter(address)
        if refusal is not None and self._header is not None:
            refused(self.session, None, refusal)
            self._drop()
            return
        if self._header is None:
            self._make_engine(tls=self.implicit_tls is not None)
        if refusal is not None or not (self.implicit_tls or takes_steps(settings)):
            self._greet(refusal)
        else:
            if self.implicit_tls is not None and self._header is None:
                self._transport.pause_reading()  # what comes is for the handshake
            self._start(self._open())

    def _enter(self, address: object) -> Reply | None:
        """Count the connection; the reply refuses one that is too many."""
        settings = self.setup.settings
        self.session.peer = peer_of(address)
        self.session.loop = self._loop
        if self._telling:
            log(logging.DEBUG, self.session, "Connection from %r", self.session.peer)
        if self.sessions is None:
            return None
        refusal = self.sessions.enter(self, settings)
        if refusal is None and settings.proxy_protocol_timeout is None:
            refusal = self.sessions.identify(self, settings)
        return refusal

    async def _open(self, sock: socket.socket | None = None) -> None:
        """Do what comes before the greeting."""
        settings, tls = self.setup.settings, self.implicit_tls
        proxied = settings.proxy_protocol_timeout
        refusal: Reply | None = None
        try:
            if sock is not None:
                at_once = tls if proxied is None else None
                await take_socket(self, sock, at_once, settings.tls_handshake_timeout)
            elif tls is not None and proxied is None:
                await self._secure(tls)
            if self._header is not None and proxied is not None:
                await take_header(self, self._header, proxied)
                self._make_engine(tls=tls is not None)
                if self.sessions is not None:
                    refusal = self.sessions.identify(self, settings)
                if refusal is not None and tls is not None:
                    raise NoSession(str(refusal))  # to tell the client would cost a handshake
                self._transport.resume_reading()
                if tls is not None:
                    await self._secure(tls)
            if settings.greeting_delay and refusal is None:
                await asyncio.sleep(settings.greeting_delay)
        except NoSession as error:
            self._give_up(error)
        except BaseException as error:
            self._fail(Connected(), error)
        finally:
            self._errand_done()
        if self._connected:
            if settings.greeting_delay and self._connection.buffered:
                refusal = refusal or replies.CLOSING_EARLY
            self._greet(refusal)

    def _make_engine(self, *, tls: bool) -> None:
        """Begin the protocol, for the client that is known by now."""
        self.trusted = self.session.peer in self.setup.relays
        self._connection = ServerConnection(self.setup.config, tls=tls, trusted=self.trusted)

    async def _secure(self, certificates: Certificates) -> None:
        """Do the TLS handshake of a connection that is there in the clear."""
        with handshake():
            await self._encrypt(certificates, self.setup.settings.tls_handshake_timeout)

    def _give_up(self, reason: NoSession) -> None:
        """Close the connection without a word."""
        if not self._ending:
            log(logging.INFO, self.session, "No session: %s", reason)
        self._drop()

    def _fail(self, event: Event, error: BaseException) -> None:
        """Close the connection, for the hook on ``event`` failed.

        Raises:
            BaseException: ``error`` itself, where it is not the hook's.
        """
        try:
            failure = failure_of(error, ending=self._ending)
        finally:
            self._drop()
        self.log_failure(event, failure)

    # Greeted.

    def _greet(self, refusal: Reply | None = None) -> None:
        """Greet, unless there is a reason not to."""
        self._opening = False
        self._note_tls()
        settings = self.setup.settings
        streaming = settings.handler_timeout if self.hooks.stream is not None else None
        limits = (settings.timeout, settings.data_timeout, streaming)
        if any(limits):
            self._watch_time(min(limit for limit in limits if limit is not None))
        if refusal is not None:
            refused(self.session, None, refusal)
            self.end_session(refusal, linger=True)
            return
        self._greeted = True
        self._advance()

    def _note_tls(self) -> None:
        self.session.ssl = self._transport.get_extra_info("ssl_object")
        if self.session.ssl is not None:
            self.session.tls = tls_info(self.session.ssl)
            log(logging.DEBUG, self.session, "TLS began: %r", self.session.tls)

    # Conversing.

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._active = monotonic()
        if self._connection.state is State.TLS:
            self._early += data
            return
        busy = self._task is not None
        self._connection.receive_data(data)
        self._advance()
        if busy:
            self._regulate_reading()

    def eof_received(self) -> bool:
        """Take that the peer sends no more; it still gets its answers."""
        self._eof = True
        self._connection.receive_eof()
        if self._opening and not self._connection.buffered:
            return False  # it says nothing, so there is nothing to greet it for
        if self._connection.state is State.TLS:
            return False  # it is the end of TLS, of which the errand has yet to be told
        self._advance()
        # Inside TLS nothing can be sent behind the peer's end: asyncio closes it in any case.
        return not self._hung_up and self._transport.can_write_eof()

    def _start_tls(self) -> None:
        if self.setup.certificates is not None:
            self._transport.pause_reading()
            self._start(self._switch_to_tls(self.setup.certificates))

    async def _switch_to_tls(self, certificates: Certificates) -> None:
        """Go on inside TLS, after the reply to STARTTLS (RFC 3207 §4)."""
        try:
            try:
                await self._secure(certificates)
            except NoSession as error:
                self._give_up(error)
            else:
                await self._begin_inside_tls()
        except BaseException as error:
            self._fail(StartTls(), error)
        finally:
            self._errand_done()
        if self._connection.state is not State.CLOSED:
            self._go_on_inside_tls()

    async def _begin_inside_tls(self) -> None:
        if self._connected:
            self._transport.pause_reading()
        forget_clear_text(self.session)
        self.envelope = Envelope()
        self._note_tls()
        accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
        good = await timed(accepted, self) if inspect.isawaitable(accepted) else accepted
        if self._connection.state is State.TLS:
            self._connection.tls_started()
            if not good:
                self._connection.tls_refused()

    def _go_on_inside_tls(self) -> None:
        self._heard()
        early, self._early = self._early, b""
        self._connection.receive_data(early)
        if self._connected:
            self._transport.resume_reading()
        if self._stopping:
            self._stop_if_idle()
        self._advance()

    def _idle_limit(self) -> float | None:
        """How many seconds the client may be idle now; ``None`` for any number."""
        settings = self.setup.settings
        at_work = self._busy and self._response is None
        if at_work or (self._writing and not self._reading):
            # It is the client that waits: for a hook, whose time is limited elsewhere, or for a
            # handle_STREAM that does not read on.
            return None if at_work else settings.handler_timeout
        if self._connection.reading_body and settings.data_timeout is not None:
            return settings.data_timeout
        return settings.timeout

    def _timed_out(self, seconds: float) -> None:
        if self._writing and not self._reading:
            log(logging.ERROR, self.session, "handle_STREAM read nothing for %g seconds", seconds)
            reply = replies.CLOSING_FAILURE
        else:
            log(logging.INFO, self.session, "Idle for %g seconds", seconds)
            reply = replies.CLOSING_IDLE
        self._cancel_streams()
        self.end_session(reply)

    # Closing.

    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""
        self._stopping = True
        if self._opening:
            self._cancel_errand()
            self._drop()
        elif not self._advancing and not self._busy:
            self._stop_if_idle()
            self._advance()

    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""
        self._cancel_errand()
        self._cancel_streams()
        self.end_session(replies.CLOSING_SHUTDOWN)
        if not self._connected and not self._opening:
            self._connection.close()  # what the client sent before its end is left undone
            self._see_whether_over()

    def end_session(self, reply: Reply, *, linger: bool = False) -> None:
        """End the session with a 421, whatever is going on.

        Args:
            reply: The 421.
            linger: Whether the client may be sending, as one that has just come.
        """
        if not self._connected:
            return
        if self._opening or self._connection.state is State.TLS:
            self._drop()  # in the middle of a handshake there is no way to say it
            return
        if self._connection.state is not State.CLOSED:
            self._send(reply)
        self._hang_up(linger=linger)

    # Gone.

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session, after the hook that may still be at work.

        What the client sent before its end is worked through all the same, though nobody can be
        told: inside TLS there is no other way for a client that sends all and closes.
        """
        if not self._connected:
            return
        # uvloop may tell in this way, without an end of file, that a client has closed its TLS.
        ended = self._eof or (error is None and not self._hung_up)
        if ended and not self._opening and self._connection.state is not State.TLS:
            self._connection.receive_eof()
        else:
            self._connection.close()
            self._forget_body()
        if self._response is not None and not self._response.done():
            self._response.set_result(None)
        if self._opening:
            # Not at once: a handshake has failed by itself, and is about to say why.
            self._loop.call_soon(self._cancel_errand)
        self._detach()
        if not self._over and not self._busy:
            self._advance()

    def _see_whether_over(self) -> None:
        """End the session when the connection is gone and nothing is left to do: the one way out.

        Whoever was greeted has its goodbye, and the place is free.
        """
        left = self._busy or self._streams
        if left or self._over or not (self._opening or self._connection.state is State.CLOSED):
            return
        self._over = True
        if self._greeted and "handle_DISCONNECT" in self.hooks.own:
            self._start(self._say_goodbye())
        else:
            self._leave()

    async def _say_goodbye(self) -> None:
        try:
            await timed(self.hooks.handle_DISCONNECT(self, self.session), self)
        except BaseException as error:
            failure = failure_of(error, ending=self._ending)
            log(logging.ERROR, self.session, "handle_DISCONNECT failed", error=failure)
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._telling:
            log(logging.DEBUG, self.session, "Gone")
        if self.sessions is not None:
            self.sessions.remove(self)
