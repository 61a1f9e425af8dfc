"""Call a function of an application with each message, and never cause a bounce.

An unknown recipient is refused at once, so that the sender's own server tells the sender. When the
function fails or takes too long, the client is told to try again later, and no mail is lost.
Bounces and other automatic messages have no sender; they are accepted and dropped, so that no mail
loop can begin. Ctrl-C stops it.
"""

import asyncio
import contextlib
from email.message import EmailMessage

from smtp_handlers import AsyncMessage, RestrictRecipients
from smtp_protocol import Answer, Envelope, Server, Session
from smtp_server import serve

TICKETS = {"tickets@example.com", "support@example.com"}


async def application(message: EmailMessage) -> None:
    """Do what the application does with a mail."""
    body = message.get_body(preferencelist=("plain", "html"))
    text = body.get_content().strip() if body is not None else ""
    if "explode" in text:
        raise RuntimeError("the database is away")
    print(f"{message['X-MailFrom']} asks about {message['Subject']}: {text}", flush=True)


class Hook(AsyncMessage):
    """Hands each mail to the application and waits for it."""

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Drop what has no sender."""
        if not envelope.mail_from:
            return "250 2.0.0 Thank you"
        return await super().handle_DATA(server, session, envelope)

    async def handle_message(self, message: EmailMessage) -> Answer:
        """Call the application."""
        try:
            async with asyncio.timeout(30):
                await application(message)
        except Exception as error:
            print(f"failed: {error!r}", flush=True)
            return "451 4.3.0 Cannot take it now, try again later"
        return "250 2.0.0 Taken"


def is_ours(address: str) -> bool:
    """Tell whether the application takes mail for this address."""
    return address.lower() in TICKETS


async def main(port: int = 0) -> None:
    """Take mail until somebody presses Ctrl-C."""
    async with serve(RestrictRecipients(Hook(), is_ours), "localhost", port) as service:
        print(f"Listening on port {service.port}", flush=True)
        await service.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
