"""Worker: ``python -m smtp_server.worker`` serves for a supervisor, on sockets that it is given."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from functools import partial

from smtp_server.command.channel import Answering, Value, answer_all
from smtp_server.command.handed import Handed, adopt
from smtp_server.command.keeper import RELOAD, STOP
from smtp_server.command.notify import Notifier
from smtp_server.command.operation import Charge, operate
from smtp_server.command.orders import Orders
from smtp_server.command.program import work
from smtp_server.command.sources import Outside

__all__: list[str] = []


async def serve(channel: Answering, charge: Charge) -> None:
    """Operate services as the supervisor says, and finish when that has gone.

    SIGTERM and SIGINT never end it at once: more than one may send them, and only the supervisor
    knows which is the second.
    """
    orders = Orders()

    async def reload(_: Value) -> Value:
        await charge.reload()
        return None

    async def stop(_: Value) -> Value:
        orders.end_now()
        return None

    def started() -> str:
        channel.ready(writer)
        return ""

    with orders.from_signals(end=orders.drain.set):
        reader, writer = await channel.open()
        answering = asyncio.create_task(answer_all(reader, writer, {RELOAD: reload, STOP: stop}))
        answering.add_done_callback(lambda _: orders.drain.set())
        try:
            await operate(charge, orders, Notifier(), started)
        finally:
            answering.cancel()
            await asyncio.wait({answering})
            writer.close()


def main() -> None:
    """Read what there is to do, and do it."""
    channel = Answering(socket.socket(fileno=int(sys.argv[1])))
    task = channel.task
    sys.path[:] = task["path"]
    outside = Outside(task["file"], [Handed(*each) for each in task["handed"]])
    sockets = [list(map(adopt, numbers)) for numbers in task["sockets"]]
    work(sys.argv[2:], outside, sockets, partial(serve, channel))


if __name__ == "__main__":
    with contextlib.suppress(EOFError):
        main()
