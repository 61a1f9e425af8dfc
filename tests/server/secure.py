"""What the tests of TLS share: certificates of an authority of their own, and ways to a server."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Unpack

import trustme
from tests.server.support import DEADLINE, HOSTNAME, Dialogue, tcp_address

from smtp_protocol import AnyHandler
from smtp_server import SMTP, Service, serve
from smtp_server.settings import SharedKeywords

#: What the certificates are made for.
NAME = "localhost"


@cache
def authority() -> trustme.CA:
    """The authority that clients and servers of the tests trust."""
    return trustme.CA()


def server_context(name: str = NAME, *, ask: bool = False) -> ssl.SSLContext:
    """A context for a server with a new certificate; it may ask clients for theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(name).configure_cert(context)
    if ask:
        context.verify_mode = ssl.CERT_OPTIONAL
        authority().configure_trust(context)
    return context


@cache
def shared_server_context() -> ssl.SSLContext:
    """A context for servers that are all the same."""
    return server_context()


def client_context(identity: str | None = None) -> ssl.SSLContext:
    """A context for a client, which may have a certificate of its own."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if identity is not None:
        authority().issue_cert(identity).configure_cert(context)
    return context


@cache
def shared_client_context() -> ssl.SSLContext:
    """A context for clients that are all the same."""
    return client_context()


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = NAME
) -> ssl.SSLObject:
    """Do a handshake in memory; the server's side comes back."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(10):
        if all([step(there), step(here)]):
            return here
    raise AssertionError("they do not come to an end")


def step(side: ssl.SSLObject) -> bool:
    """Go on with a handshake; whether it is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


async def connect_tls(
    address: tuple[str, int], context: ssl.SSLContext | None = None, name: str = NAME
) -> Dialogue:
    """Connect to a server that speaks TLS from the beginning."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(
            *address,
            ssl=context or shared_client_context(),
            server_hostname=name,
            limit=2**20,
        )
    return Dialogue(reader, writer)


async def upgrade(
    client: Dialogue, context: ssl.SSLContext | None = None, name: str = NAME
) -> None:
    """Do the handshake after the reply to STARTTLS."""
    async with asyncio.timeout(DEADLINE):
        await client.writer.start_tls(context or shared_client_context(), server_hostname=name)


async def start_tls(
    client: Dialogue,
    context: ssl.SSLContext | None = None,
    name: str = NAME,
    hello: str = "EHLO",
) -> None:
    """Go from the greeting into TLS."""
    assert (await client.ask(f"{hello} client.test")).startswith("250")
    assert (await client.ask("STARTTLS")).startswith("220")
    await upgrade(client, context, name)


WireName = Literal["tcp", "unix", "starttls", "implicit"]
WIRES: tuple[WireName, ...] = ("tcp", "unix", "starttls", "implicit")


@dataclass(frozen=True)
class Wire:
    """A way on which a client reaches the server."""

    name: WireName

    @property
    def encrypted(self) -> bool:
        """Whether there is TLS on it."""
        return self.name in ("starttls", "implicit")

    @contextlib.asynccontextmanager
    async def serve(
        self,
        handler: AnyHandler,
        smtp_class: type[SMTP] = SMTP,
        server_hostname: str = HOSTNAME,
        **keywords: Unpack[SharedKeywords],
    ) -> AsyncIterator[Service]:
        """A running server."""
        if self.name == "starttls":
            keywords = {"tls_context": shared_server_context(), **keywords}
        with tempfile.TemporaryDirectory() as folder:
            service = serve(
                handler,
                "127.0.0.1",
                0,
                unix_socket=Path(folder) / "s" if self.name == "unix" else None,
                ssl_context=shared_server_context() if self.name == "implicit" else None,
                server_hostname=server_hostname,
                smtp_class=smtp_class,
                **keywords,
            )
            async with service:
                yield service

    async def connect(self, service: Service, hello: str = "EHLO") -> Dialogue:
        """A connection, greeted, and inside TLS where that is what the wire has."""
        if self.name == "implicit":
            client = await connect_tls(tcp_address(service))
        else:
            client = await Dialogue.connect(service.addresses[0])
        assert (await client.reply()).startswith("220 ")
        if self.name == "starttls":
            await start_tls(client, hello=hello)
        return client

    @contextlib.asynccontextmanager
    async def talking(
        self,
        handler: AnyHandler,
        smtp_class: type[SMTP] = SMTP,
        **keywords: Unpack[SharedKeywords],
    ) -> AsyncIterator[Dialogue]:
        """A running server and one connection to it."""
        async with (
            self.serve(handler, smtp_class, **keywords) as service,
            await self.connect(service) as client,
        ):
            yield client
