"""A server on trio: any handler, run by `HandlerConnection`, and a task for each client.

This one takes mail for example.com, by DATA or BDAT, and prints it. Ctrl-C stops it.
"""

import traceback
from contextlib import aclosing, suppress

import trio

import smtp_protocol as smtp

CONFIG = smtp.ProtocolConfig(
    data_size_limit=10_000_000,
    rcpt_max=100,
    extensions=frozenset({"PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS"}),
)
IDLE = 300  # seconds
TOO_SLOW = smtp.Reply.parse("421 4.4.2 Too slow")


class PrintsMail(smtp.Handler):
    """A handler like any other; it may wait for what trio has."""

    async def handle_RCPT(
        self,
        server: smtp.Server,
        session: smtp.Session,
        envelope: smtp.Envelope,
        address: str,
        rcpt_options: smtp.RcptOptions,
    ) -> str:
        """Refuse other domains."""
        if not address.lower().endswith("@example.com"):
            return "550 5.7.1 No relaying"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(
        self, server: smtp.Server, session: smtp.Session, envelope: smtp.Envelope
    ) -> str:
        """Print the message."""
        print(f"From {envelope.mail_from} to {', '.join(envelope.rcpt_tos)}", flush=True)
        print(envelope.content.decode(errors="replace"), flush=True)
        return "250 2.0.0 OK"


async def serve_client(stream: trio.SocketStream) -> None:
    """Serve one client; the others do not care how it ends."""
    client = smtp.HandlerConnection(
        PrintsMail(), CONFIG, ident="on trio", on_failure=traceback.print_exception
    )
    async with stream, aclosing(client):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(await client.answers())
            while not client.closed:
                with trio.move_on_after(IDLE) as patience:
                    if octets := await stream.receive_some():
                        client.receive_data(octets)
                    else:
                        client.receive_eof()
                if patience.cancelled_caught:
                    await stream.send_all(client.connection.send(TOO_SLOW))
                else:
                    await stream.send_all(await client.answers())


async def main(port: int = 0) -> None:
    """Serve everybody."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    print(f"Listening on port {listeners[0].socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(serve_client, listeners)


if __name__ == "__main__":
    try:
        trio.run(main)
    except* KeyboardInterrupt:
        pass
