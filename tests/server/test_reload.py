"""Certificates that are read again while the service runs: new sessions get the new ones."""

import hashlib
import ssl

import pytest
from tests.server.secure import authority, connect_tls, start_tls, upgrade
from tests.server.support import DEADLINE, Dialogue, Keeper, talking, tcp_address

from smtp_server import Controller, Service, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class Shop:
    """Makes contexts, each with a certificate of its own, and can be out of order."""

    def __init__(self) -> None:
        self.made = 0
        self.broken = False

    def __call__(self) -> ssl.SSLContext:
        """Make one."""
        if self.broken:
            raise FileNotFoundError("no certificate")
        self.made += 1
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert("localhost").configure_cert(context)
        return context


async def connect(service: Service, way: str) -> Dialogue:
    """A connection, greeted and inside TLS."""
    if way == "implicit":
        client = await connect_tls(tcp_address(service))
        await client.reply()
        return client
    client = await Dialogue.connect(service.addresses[0])
    if way == "proxied":
        await client.send("PROXY UNKNOWN\r\n")
        await upgrade(client)
        await client.reply()
    else:
        await client.reply()
        await start_tls(client)
    return client


def certificate(client: Dialogue) -> str:
    """What identifies the certificate of the server."""
    tls = client.writer.get_extra_info("ssl_object")
    return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


def service_with(shop: Shop, way: str) -> Service:
    return serve(
        Keeper(),
        "127.0.0.1",
        0,
        tls_context=shop if way == "starttls" else None,
        ssl_context=None if way == "starttls" else shop,
        proxy_protocol_timeout=DEADLINE if way == "proxied" else None,
    )


@pytest.mark.parametrize("way", ["starttls", "implicit", "proxied"])
async def test_reloading(way: str) -> None:
    shop = Shop()
    async with service_with(shop, way) as service:
        first = await connect(service, way)
        again = await connect(service, way)
        assert certificate(first) == certificate(again)
        service.reload_tls()
        second = await connect(service, way)
        assert certificate(second) != certificate(first)
        # Those that were there go on with what they have.
        for client in (first, again, second):
            assert await client.deliver() == "250 Kept"
        # What cannot be read leaves everything as it is.
        shop.broken = True
        with pytest.raises(FileNotFoundError):
            service.reload_tls()
        third = await connect(service, way)
        assert certificate(third) == certificate(second)
        assert await third.deliver() == "250 Kept"
        for client in (first, again, second, third):
            await client.close()
    assert shop.made == 2


@pytest.mark.parametrize("way", ["starttls", "implicit", "proxied"])
async def test_the_server_name_is_still_known(way: str) -> None:
    handler, shop = Keeper(), Shop()
    service = serve(
        handler,
        "127.0.0.1",
        0,
        tls_context=shop if way == "starttls" else None,
        ssl_context=None if way == "starttls" else shop,
        proxy_protocol_timeout=DEADLINE if way == "proxied" else None,
    )
    async with service:
        service.reload_tls()
        client = await connect(service, way)
        await client.ask("NOOP")
        assert handler.sessions[0].tls is not None
        assert handler.sessions[0].tls.sni == "localhost"
        await client.close()


async def test_a_session_that_has_not_come_to_starttls_gets_the_new_one() -> None:
    shop = Shop()
    async with service_with(shop, "starttls") as service, talking(service) as early:
        other = await connect(service, "starttls")
        service.reload_tls()
        await start_tls(early)
        assert certificate(early) != certificate(other)
        await other.close()


async def test_a_context_that_was_given_stays() -> None:
    context = Shop()()
    async with serve(Keeper(), "127.0.0.1", 0, tls_context=context) as service:
        first = await connect(service, "starttls")
        service.reload_tls()
        second = await connect(service, "starttls")
        assert certificate(first) == certificate(second)
        await first.close()
        await second.close()


async def test_without_tls_there_is_nothing_to_reload() -> None:
    async with serve(Keeper(), "127.0.0.1", 0) as service:
        service.reload_tls()


async def test_two_services_of_one_handler() -> None:
    """What one of them reloads, the other need not."""
    shop, handler = Shop(), Keeper()
    first = serve(handler, "127.0.0.1", 0, tls_context=shop)
    second = serve(handler, "127.0.0.1", 0, tls_context=shop)
    async with first, second:
        first.reload_tls()
        client = await connect(first, "starttls")
        assert await client.deliver() == "250 Kept"
        await client.close()


async def test_a_controller_that_is_started_again_reads_its_certificate_again() -> None:
    shop = Shop()
    controller = Controller(Keeper(), "127.0.0.1", 0, tls_context=shop)
    seen = []
    for _ in range(2):
        controller.start()
        try:
            async with await Dialogue.connect(("127.0.0.1", controller.port)) as client:
                await client.reply()
                await start_tls(client)
                seen.append(certificate(client))
        finally:
            controller.stop()
    assert seen[0] != seen[1]
