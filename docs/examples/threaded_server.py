"""A server with a thread for each client: any handler, run by `HandlerConnection`.

This one prints all mail. With a certificate and its key as arguments it offers STARTTLS:

    python threaded_server.py fullchain.pem privkey.pem

Ctrl-C stops it.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
import traceback

import smtp_protocol as smtp

IDLE = 300  # seconds
TOO_SLOW = smtp.Reply.parse("421 4.4.2 Too slow")


class PrintsMail:
    """A handler like any other. It has its thread for itself, and may block."""

    async def handle_DATA(
        self, server: smtp.Server, session: smtp.Session, envelope: smtp.Envelope
    ) -> str:
        """Print the message."""
        print(envelope.content.decode(errors="replace"), flush=True)
        return "250 OK"


def serve_client(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve one client until it goes."""
    client = smtp.HandlerConnection(
        PrintsMail(),
        smtp.ProtocolConfig(starttls=context is not None),
        ident="a thread for each",
        on_failure=traceback.print_exception,
    )
    # Hooks are coroutines. This one's do not wait, but another handler's may.
    with asyncio.Runner() as runner:
        try:
            sock.settimeout(IDLE)
            sock.sendall(runner.run(client.answers()))
            while not client.closed:
                if client.needs_tls and context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                    runner.run(client.tls_started())
                receive(sock, client)
                sock.sendall(runner.run(client.answers()))
        except OSError:
            pass  # it broke off, or its TLS did not work
        finally:
            sock.close()
            runner.run(client.aclose())


def receive(sock: socket.socket, client: smtp.HandlerConnection) -> None:
    """Wait for the next octets."""
    try:
        octets = sock.recv(65536)
    except TimeoutError:
        sock.sendall(client.connection.send(TOO_SLOW))
        return
    if octets:
        client.receive_data(octets)
    else:
        client.receive_eof()


def main(arguments: list[str], port: int = 0) -> None:
    """Serve everybody."""
    context = None
    if arguments:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*arguments)
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"Listening on port {listener.getsockname()[1]}", flush=True)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve_client, args=(sock, context), daemon=True).start()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
