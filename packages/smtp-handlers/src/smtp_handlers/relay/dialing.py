"""Dialing: from the next server's name to a connection, by whichever address and TLS there is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from smtp_handlers.relay.client import (
    AWAY,
    HandshakeError,
    LoginError,
    SlowHandshakeError,
    Upstream,
    UpstreamError,
    translated,
)
from smtp_handlers.relay.target import Target
from smtp_handlers.relay.wire import Wire

__all__: list[str] = []

# Seconds after which the next address is tried beside the one before (RFC 8305 §5).
_NEXT_ADDRESS = 0.25

# Seconds for which TLS is not tried again where it has made us wait for nothing.
_WITHOUT_TLS = 300.0

# Family, type, protocol and address of a socket.
Place = tuple[int, int, int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class Dialer:
    """Makes connections to the next server, in one event loop.

    Args:
        target: Where it is.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._without_tls_until = 0.0
        self._lookup: asyncio.Task[list[Place]] | None = None

    async def connect(self, name: str) -> Upstream:
        """Connect, say hello, and log in, all of it within the target's ``connect_timeout``.

        Args:
            name: What we call ourselves.

        Raises:
            UpstreamError: The next server is away, or not what it should be.
        """
        until = asyncio.get_running_loop().time() + self._target.connect_timeout
        with translated(AWAY):
            async with asyncio.timeout_at(until):
                address = self._target.address
                if isinstance(address, str):
                    return await self._begin(address, None, name, until)
                return await self._connect(*address, name, until)

    async def _connect(self, host: str, port: int, name: str, until: float) -> Upstream:
        """Try one address after the other, until one has a server that takes mail."""
        loop = asyncio.get_running_loop()
        places = await self._places(host, port)
        failure: UpstreamError | None = None
        while True:
            try:
                place, connected, places = await first_connected(places)
            except OSError as error:
                raise failure or error from None
            # One that connects and then says nothing must not take the time of the others.
            half = loop.time() + (until - loop.time()) / 2 if places else until
            try:
                with translated(AWAY):
                    async with asyncio.timeout_at(half):
                        return await self._begin(place, connected, name, half)
            except LoginError:
                raise  # a password that is wrong here is wrong there
            except UpstreamError as error:
                failure = failure or error  # of the best address

    async def _begin(
        self, place: Place | str, connected: socket.socket | None, name: str, until: float
    ) -> Upstream:
        """Make a connection of a socket, without TLS where that cannot be had (RFC 7435)."""
        loop = asyncio.get_running_loop()
        opportunistic = self._target.tls == "opportunistic"
        starttls = self._target.tls == "required" or (
            opportunistic and loop.time() >= self._without_tls_until
        )
        try:
            return await self._open(place, connected, name, until, starttls=starttls)
        except HandshakeError as error:
            if not opportunistic:
                raise
            if isinstance(error, SlowHandshakeError):
                self._without_tls_until = loop.time() + _WITHOUT_TLS
            why = str(error)
        upstream = await self._open(place, None, name, until, starttls=False)
        upstream.tls_failure = why
        return upstream

    async def _open(
        self,
        place: Place | str,
        connected: socket.socket | None,
        name: str,
        until: float,
        *,
        starttls: bool,
    ) -> Upstream:
        wire = await self._wire(place, connected)
        upstream = Upstream(self._target, wire, asyncio.get_running_loop().time())
        context = self._target.tls_context
        if self._target.tls == "implicit" and context is not None:
            upstream.tls_began(context)
        try:
            await upstream.begin(name, starttls=starttls, until=until)
        except BaseException:
            wire.abort()
            raise
        return upstream

    async def _wire(self, place: Place | str, connected: socket.socket | None) -> Wire:
        loop = asyncio.get_running_loop()
        if isinstance(place, str):
            return (await loop.create_unix_connection(Wire, place))[1]
        context = self._target.tls_context if self._target.tls == "implicit" else None
        host = self._target.host if context is not None else None
        _, wire = await loop.create_connection(
            Wire, sock=connected or await _connect(place), ssl=context, server_hostname=host
        )
        return wire

    async def _places(self, host: str, port: int) -> list[Place]:
        """Look the name up. Who comes meanwhile waits for the same answer: threads are few."""
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.create_task(_look_up(host, port))
        return await asyncio.shield(self._lookup)


async def _look_up(host: str, port: int) -> list[Place]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return interleaved(dict.fromkeys((each[0], each[1], each[2], each[4]) for each in found))


def interleaved(places: Iterable[Place]) -> list[Place]:
    """Change places so that families take turns: one may be broken as a whole (RFC 8305 §4)."""
    families: dict[int, list[Place]] = {}
    for place in places:
        families.setdefault(place[0], []).append(place)
    rows = zip_longest(*families.values())
    return [place for row in rows for place in row if place is not None]


async def first_connected(
    places: Sequence[Place],
) -> tuple[Place, socket.socket, list[Place]]:
    """Connect to one of several addresses, each of which is tried a little after the one before.

    Args:
        places: The addresses, the best one first.

    Returns:
        The first that takes a connection, the connected socket, and the addresses about which
        nothing is known yet.

    Raises:
        OSError: None of them does.
    """
    left = list(places)
    trying: dict[asyncio.Task[socket.socket], Place] = {}
    failures: list[str] = []
    try:
        while left or trying:
            if left:
                place = left.pop(0)
                trying[asyncio.create_task(_connect(place))] = place
            done, _ = await asyncio.wait(
                trying,
                timeout=_NEXT_ADDRESS if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                place = trying.pop(task)
                error = task.exception()
                if error is None:
                    return place, task.result(), [*trying.values(), *left]
                failures.append(str(error))
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)
    raise OSError("; ".join(failures) or "the name has no address")


async def _connect(place: Place) -> socket.socket:
    family, kind, protocol, address = place
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close what was connected too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
