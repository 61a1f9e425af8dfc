"""Serve one client at a time with `ServerConnection` and blocking sockets, without asyncio.

It accepts all mail and prints it. Ctrl-C stops it.
"""

import contextlib
import socket

import smtp_protocol as smtp

ANSWERS: dict[type[smtp.Event], str] = {
    smtp.Connected: "220 localhost serves one client at a time",
    smtp.Ehlo: "250-localhost\n250-SIZE 33554432\n250 8BITMIME",
    smtp.Data: "354 Go ahead",
    smtp.Quit: "221 Bye",
    smtp.Vrfy: "252 Perhaps",
    **dict.fromkeys((smtp.Expn, smtp.Help, smtp.Unknown), "502 Command not implemented"),
}


def converse(client: socket.socket) -> None:
    """Serve one client until it goes."""
    connection = smtp.ServerConnection()
    message = b""
    while not isinstance(event := connection.next_event(), smtp.ConnectionClosed):
        assert event is not smtp.PAUSED, "every event is answered before the next is asked for"
        if event is smtp.NEED_DATA:
            if octets := client.recv(65536):
                connection.receive_data(octets)
            else:
                connection.receive_eof()
            continue
        if isinstance(event, smtp.BodyChunk):
            message += event.data
            continue
        if isinstance(event, smtp.BodyEnd):
            print(message.decode(errors="replace"), flush=True)
        if isinstance(event, smtp.Data):
            message = b""
        if isinstance(event, smtp.Refused):
            reply = event.reply  # the engine knows what was wrong
        else:
            reply = smtp.Reply.parse(ANSWERS.get(type(event), "250 OK"))
        client.sendall(connection.send(reply))


def main(port: int = 0) -> None:
    """Serve one client after the other."""
    with socket.create_server(("localhost", port)) as listener:
        print(f"Listening on port {listener.getsockname()[1]}", flush=True)
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):  # one that hangs or breaks off
                client.settimeout(300)
                converse(client)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
