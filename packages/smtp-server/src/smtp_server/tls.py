"""TLS: contexts that can be made anew while the server runs, and what a handshake agreed upon."""

import asyncio
import logging
import select
import ssl
import sys
from collections.abc import Callable
from typing import Self

from smtp_protocol import TLSInfo
from smtp_server.client_hello import ClientHello, is_host_name

__all__: list[str] = []

#: A context, or a function that makes one each time the certificates are to be read again.
TLSSource = ssl.SSLContext | Callable[[], ssl.SSLContext]


_ServerNameCallback = Callable[[ssl.SSLObject, str, ssl.SSLContext], int | None]

# RFC 8446 §6: an alert is one octet.
_MAX_ALERT = 255

logger = logging.getLogger("smtp_server")


class Certificates:
    """The context that the next handshake uses.

    Args:
        source: A context, or a function that makes one.

    Attributes:
        context: What a transport is given. It is never used itself: each connection's TLS is made
            by the newest context of ``source``, whole.

    Raises:
        TypeError: It is neither, or the function makes something else.
    """

    def __init__(self, source: TLSSource) -> None:
        self._source = source
        self.context: ssl.SSLContext = _Listening(self._make())

    def reload(self) -> None:
        """Have the function make another context; a context that was given stays.

        Raises:
            Exception: What the function raises. The context is then the one before.
        """
        self.context = _Listening(self._make())

    def _make(self) -> ssl.SSLContext:
        source = self._source
        context = source if isinstance(source, ssl.SSLContext) else source()
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(
                f"a TLS context is an ssl.SSLContext or a function that makes one, "
                f"not {type(context).__name__}"
            )
        return context


class _Heard(ssl.SSLObject):
    """The TLS of one connection, which keeps the name that the client asked for."""

    incoming: ssl.MemoryBIO | None = None
    hello: ClientHello | None = None
    sni: str | None = None
    failure: BaseException | None = None

    def do_handshake(self) -> None:
        """Look at what has come, before the handshake takes it."""
        if self.incoming is not None and self.hello is not None:
            octets = self.incoming.read()
            self.incoming.write(octets)
            self.hello.receive_data(octets)
            self.sni = self.hello.name
            if self.hello.done:
                self.hello = None
            if self.context.sni_callback is not None and not is_host_name(self.sni or ""):
                # The callback cannot be told it, and a traceback would be printed past all logs.
                raise ssl.SSLError("the client asks for a server name that is none")
        try:
            super().do_handshake()
        finally:
            if self.failure is not None:
                raise CallbackError(1, "the sni_callback failed") from self.failure


class CallbackError(ssl.SSLError):
    """The handshake failed for a callback of the user's, whose failure is the cause of this."""


class _Watched:
    """A user's ``sni_callback`` whose failure is told to the handshake that it fails.

    The standard library would print it past all logs, and tell nobody.
    """

    def __init__(self, callback: _ServerNameCallback) -> None:
        self._callback = callback

    def __call__(self, tls: ssl.SSLObject, name: str, context: ssl.SSLContext) -> int | None:
        try:
            alert: object = self._callback(tls, name, context)
            if alert is None or (isinstance(alert, int) and 0 <= alert <= _MAX_ALERT):
                return alert
            raise TypeError(
                f"an sni_callback returns None or the number of an alert, not {alert!r}"
            )
        except BaseException as error:
            if isinstance(tls, _Heard):
                tls.failure = error
            else:  # of a class of the user's own
                logger.error("The sni_callback failed", exc_info=error)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR


class _Listening(ssl.SSLContext):
    """Has the TLS of each connection made by another context, and hears what comes first."""

    _context: ssl.SSLContext

    def __new__(cls, context: ssl.SSLContext) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._context = context
        if context.sslobject_class is ssl.SSLObject:
            context.sslobject_class = _Heard
        return self

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Make the TLS of a connection."""
        callback = self._context.sni_callback
        if callback is not None and not isinstance(callback, _Watched):
            self._context.sni_callback = _Watched(callback)
        tls = self._context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(tls, _Heard):
            tls.incoming, tls.hello = incoming, ClientHello()
        return tls


async def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    certificates: Certificates,
    limit: float,
) -> asyncio.Transport:
    """Do the handshake of a server.

    Args:
        loop: The event loop.
        transport: The connection.
        protocol: Its protocol, which goes on with the transport that is returned.
        certificates: The context.
        limit: How long the handshake may take, in seconds.

    Raises:
        OSError: It failed, or took too long.
    """
    if transport.is_closing():
        raise ConnectionResetError("the connection was lost before the handshake")
    encrypted = await loop.start_tls(
        transport,
        protocol,
        certificates.context,
        server_side=True,
        ssl_handshake_timeout=limit,
    )
    if encrypted is None:
        raise ConnectionResetError("the connection was lost in the handshake")
    return encrypted


def has_ended(transport: asyncio.Transport) -> bool:
    """Whether the peer sends nothing more, as far as the system tells what was not read yet."""
    if sys.platform == "win32":  # it does not tell
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def tls_info(tls: ssl.SSLObject) -> TLSInfo:
    """What was agreed upon."""
    cipher = tls.cipher()
    try:
        certificate = tls.getpeercert(binary_form=True)
    except ValueError:  # rubbish came right behind the handshake: the connection is lost
        certificate = None
    return TLSInfo(
        version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        peer_certificate=certificate,
        sni=tls.sni if isinstance(tls, _Heard) else None,
    )
