"""Run a server in a thread that prints mail for one domain and refuses all other mail.

Enter stops it.
"""

from smtp_protocol import Envelope, RcptOptions, Server, Session
from smtp_server import Controller


class ExampleHandler:
    """Takes mail for example.com."""

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> str:
        """Refuse other domains."""
        if not address.lower().endswith("@example.com"):
            return "550 not relaying to that domain"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """Print the message."""
        print(f"Message from {envelope.mail_from}")
        print(f"Message for {envelope.rcpt_tos}")
        print("Message data:\n")
        print(envelope.content.decode(errors="replace"))
        print("End of message", flush=True)
        return "250 Message accepted for delivery"


def main(port: int = 0) -> None:
    """Print mail until somebody presses Enter."""
    with Controller(ExampleHandler(), port=port) as controller:
        print(f"Listening on port {controller.port}", flush=True)
        input()


if __name__ == "__main__":
    main()
