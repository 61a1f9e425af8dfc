"""Store mail for every address at example.com, with one Maildir for each recipient.

Run as ``python catch_all.py FOLDER``. The Maildirs are in this folder, named after the recipients.
Ctrl-C stops it.
"""

import asyncio
import contextlib
import sys

from smtp_handlers import Mailbox, RateLimit, RestrictRecipients
from smtp_server import serve

DOMAINS = ["example.com", ".example.com"]  # the second one means all domains below


async def main(folder: str, port: int = 0) -> None:
    """File mail until somebody presses Ctrl-C."""
    mailbox = Mailbox(folder, per_recipient=True)
    handler = RateLimit(RestrictRecipients(mailbox, DOMAINS), messages=600, per=60)
    async with serve(handler, "localhost", port) as service:
        print(f"Listening on port {service.port}", flush=True)
        await service.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "mail"))
