"""A server with a thread for each client: `ServerConnection` and plain blocking sockets.

It prints all mail. With a certificate and its key as arguments it offers STARTTLS:

    python threaded_server.py fullchain.pem privkey.pem

Ctrl-C stops it.
"""

import contextlib
import socket
import ssl
import sys
import threading

import smtp_protocol as smtp

IDLE = 300  # seconds

ANSWERS: dict[type[smtp.Event], str] = {
    smtp.Connected: "220 localhost, a thread for each",
    smtp.Data: "354 Go ahead",
    smtp.StartTls: "220 Ready to start TLS",
    smtp.Quit: "221 Bye",
    smtp.Vrfy: "252 Perhaps",
    **dict.fromkeys((smtp.Expn, smtp.Help, smtp.Unknown), "502 Command not implemented"),
}


class Client(threading.Thread):
    """One client, in a thread of its own."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self.socket = sock
        self.context = context
        self.config = smtp.ProtocolConfig(starttls=context is not None)
        self.connection = smtp.ServerConnection(self.config)
        self.tls = False
        self.message = b""

    def run(self) -> None:
        """Serve it until it goes."""
        self.socket.settimeout(IDLE)
        try:
            self.converse()
        except OSError:
            pass  # it broke off, or its TLS did not work
        finally:
            self.socket.close()

    def converse(self) -> None:
        """Take what it says, and answer."""
        while not isinstance(event := self.connection.next_event(), smtp.ConnectionClosed):
            if event is smtp.NEED_DATA:
                self.receive()
            elif event is smtp.PAUSED:
                # Every event is answered at once, so that it waits for one thing only.
                assert self.context is not None
                self.socket = self.context.wrap_socket(self.socket, server_side=True)
                self.connection.tls_started()
                self.tls = True
            elif isinstance(event, smtp.BodyChunk):
                self.message += event.data
            else:
                self.socket.sendall(self.connection.send(self.answer(event)))

    def receive(self) -> None:
        """Wait for the next octets."""
        try:
            octets = self.socket.recv(65536)
        except TimeoutError:
            self.socket.sendall(self.connection.send(smtp.Reply.parse("421 Too slow")))
            return
        if octets:
            self.connection.receive_data(octets)
        else:
            self.connection.receive_eof()

    def answer(self, event: smtp.Event) -> smtp.Reply:
        """Give the reply to an event that is owed one."""
        match event:
            case smtp.Refused(reply):
                return reply  # the engine knows what was wrong
            case smtp.Ehlo():
                keywords = smtp.ehlo_keywords(self.config, tls=self.tls)
                return smtp.Reply(250, ("localhost", *keywords))
            case smtp.Data():
                self.message = b""
            case smtp.BodyEnd():
                print(self.message.decode(errors="replace"), flush=True)
        return smtp.Reply.parse(ANSWERS.get(type(event), "250 OK"))


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
            Client(sock, context).start()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
