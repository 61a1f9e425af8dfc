"""Run a server in the event loop of a program, and put each message into an `asyncio.Queue`.

Ctrl-C stops it.
"""

import asyncio
import contextlib
from email.message import EmailMessage

from smtp_handlers import AsyncMessage
from smtp_server import serve


class IntoQueue(AsyncMessage):
    """Puts each mail into a queue, and makes senders wait while it is full."""

    def __init__(self, queue: asyncio.Queue[EmailMessage]) -> None:
        super().__init__()
        self.queue = queue

    async def handle_message(self, message: EmailMessage) -> None:
        """Take one mail; the client gets its 250 when this returns."""
        await self.queue.put(message)


async def main(port: int = 0) -> None:
    """Tell of each mail that comes."""
    queue: asyncio.Queue[EmailMessage] = asyncio.Queue(maxsize=10)
    async with serve(IntoQueue(queue), "localhost", port) as service:
        print(f"Listening on port {service.port}", flush=True)
        while True:
            message = await queue.get()
            print(f"{message['X-MailFrom']} writes about {message['Subject']}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
