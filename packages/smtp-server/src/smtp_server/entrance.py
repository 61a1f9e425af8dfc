"""Entrance: what happens to a connection from its first moment to its greeting."""

import asyncio
import logging
import socket
from abc import abstractmethod

from smtp_protocol import Connected, Event, Peer, Reply, ServerConnection, replies
from smtp_server.conversation import Conversation
from smtp_server.dispatch import failure_of
from smtp_server.log import log, refused
from smtp_server.opening import (
    NoSession,
    handshake_errors,
    is_gone,
    peer_of,
    take_header,
    take_socket,
    takes_steps,
)
from smtp_server.proxy import HeaderReader
from smtp_server.sessions import Sessions
from smtp_server.setup import Setup
from smtp_server.tls import Certificates, tls_info

__all__: list[str] = []


class Entrance(Conversation):
    """A connection that is counted, and goes through what comes before the greeting."""

    __slots__ = ("_header", "_opening", "implicit_tls", "sessions")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        #: The service's count of its sessions, if there is a service.
        self.sessions: Sessions | None = None
        #: With it, TLS begins before the greeting.
        self.implicit_tls: Certificates | None = None
        # What reads the PROXY header.
        self._header: HeaderReader | None = None
        self._opening = True

    @abstractmethod
    def _greet(self, refusal: Reply | None = None) -> None:
        """Greet, unless there is a reason not to."""

    @abstractmethod
    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""

    @abstractmethod
    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""

    @property
    def peer(self) -> Peer:
        """The client, as far as it is known."""
        return self.session.peer

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
        with handshake_errors():
            await self._encrypt(certificates, self.setup.settings.tls_handshake_timeout)

    def _give_up(self, reason: NoSession) -> None:
        """Close the connection without a word."""
        if not self._ending:
            cause = reason.__cause__
            level = logging.INFO if cause is None else logging.ERROR
            log(level, self.session, "No session: %s", reason, error=cause)
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

    def _note_tls(self) -> None:
        self.session.ssl = self._transport.get_extra_info("ssl_object")
        if self.session.ssl is not None:
            self.session.tls = tls_info(self.session.ssl)
            log(logging.DEBUG, self.session, "TLS began: %r", self.session.tls)
