"""TLS: contexts that can be made anew while the server runs, and what a handshake agreed upon."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

from smtp_protocol import TLSInfo

__all__: list[str] = []

#: A context, or a function that makes one each time the certificates are to be read again.
TLSSource = ssl.SSLContext | Callable[[], ssl.SSLContext]

_Callback = Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]

# What each client asked for; a server's ssl object does not tell.
_asked: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()


class Certificates:
    """The context that the next handshake uses.

    Args:
        source: A context, or a function that makes one.

    Raises:
        TypeError: It is neither, or the function makes something else.
    """

    def __init__(self, source: TLSSource) -> None:
        self._source = source
        self.context = self._make()

    def reload(self) -> None:
        """Have the function make another context; a context that was given stays.

        Raises:
            Exception: What the function raises. The context is then the one before.
        """
        self.context = self._make()

    def _make(self) -> ssl.SSLContext:
        source = self._source
        context = source if isinstance(source, ssl.SSLContext) else source()
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(
                f"a TLS context is an ssl.SSLContext or a function that makes one, "
                f"not {type(context).__name__}"
            )
        if not isinstance(context.sni_callback, _Noting):
            before = cast("_Callback | None", context.sni_callback)
            context.sni_callback = _Noting(self, before)
        return context


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


class _Noting:
    """A callback that keeps the server's name, and brings the newest context into use."""

    def __init__(self, certificates: Certificates, before: _Callback | None) -> None:
        self._certificates = certificates
        self._before = before

    def __call__(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        if name is not None:
            _asked[tls] = name
        if self._certificates.context is not context:
            tls.context = self._certificates.context
        return None if self._before is None else self._before(tls, name, context)


def tls_info(tls: ssl.SSLObject) -> TLSInfo:
    """What was agreed upon."""
    cipher = tls.cipher()
    return TLSInfo(
        version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        peer_certificate=tls.getpeercert(binary_form=True),
        sni=_asked.get(tls),
    )
