"""Relay: one way in to all of it, and one Proxy for several servers."""

import ast
import asyncio
import threading
from pathlib import Path

from tests.handlers.relay.driver import Driver, connections
from tests.handlers.upstreams import Upstream

import smtp_handlers
from smtp_handlers import Proxy


def test_a_proxy_of_several_servers() -> None:
    upstream = Upstream()
    failures: list[BaseException] = []

    async def work(proxy: Proxy) -> None:
        for _ in range(5):
            driver = Driver(proxy)
            assert await driver.transaction() == [250] * 3
            await driver.disconnect()
        assert connections(proxy) == 1
        await proxy.close()

    def run(proxy: Proxy) -> None:
        try:
            asyncio.run(work(proxy))
        except BaseException as error:
            failures.append(error)

    async def main() -> None:
        async with upstream.listening() as port:
            proxy = Proxy("127.0.0.1", port)
            threads = [threading.Thread(target=run, args=(proxy,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert failures == []
    assert len(upstream.messages) == 40


def test_the_relay_is_entered_through_proxy_alone() -> None:
    package = Path(smtp_handlers.__file__).parent
    outside = [path for path in package.rglob("*.py") if path.parent.name != "relay"]
    entered = [
        (path.name, node.module, [alias.name for alias in node.names])
        for path in outside
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and "relay" in (node.module or "")
    ]
    assert entered == [("__init__.py", "smtp_handlers.relay", ["Proxy"])]
