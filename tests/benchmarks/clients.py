"""Clients: what Postfix's smtp-source cannot do, as one dialogue that checks every reply.

    python clients.py pipelining PORT COUNT
    python clients.py starttls PORT COUNT CERTIFICATE

Prints the seconds that the dialogue took, without the start of this process.
"""

import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Self

__all__ = ["Client"]

_MAIL = b"MAIL FROM:<a@b.example>\r\n"
_RCPT = b"RCPT TO:<c@d.example>\r\n"
_DATA = b"DATA\r\n"
_BODY = (b"X" * 62 + b"\r\n") * 16 + b".\r\n"
_SECONDS = 60.0


class Client:
    """One connection, after its greeting.

    Args:
        port: Of the server.
        segment: The largest segment that the server is to send, in octets.
    """

    def __init__(self, port: int, segment: int | None = None) -> None:
        sock = socket.socket()
        sock.settimeout(_SECONDS)
        if segment is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.connect(("127.0.0.1", port))
        self._use(sock)
        self.expect(220)

    def _use(self, sock: socket.socket) -> None:
        self._socket = sock
        self._replies = sock.makefile("rb")

    def say(self, octets: bytes, *codes: int) -> None:
        """Send this, in one segment if it fits, and see that the replies have these codes."""
        self._socket.sendall(octets)
        for code in codes:
            self.expect(code)

    def expect(self, code: int) -> None:
        """Read one reply.

        Raises:
            ValueError: It is another one.
        """
        while (line := self._replies.readline())[3:4] == b"-":
            pass
        if line[:4] != b"%d " % code:
            raise ValueError(f"{line!r} instead of {code}")

    def starttls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self.say(b"STARTTLS\r\n", 220)
        self._replies.close()
        self._use(context.wrap_socket(self._socket, server_hostname="localhost"))

    def close(self) -> None:
        """Hang up."""
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pipelining(port: int, count: int) -> None:
    """Send messages on one connection, each with its commands in one segment."""
    with Client(port) as client:
        client.say(b"EHLO client.example\r\n", 250)
        for _ in range(count):
            client.say(_MAIL + _RCPT + _DATA + _BODY, 250, 250, 354, 250)
        client.say(b"QUIT\r\n", 221)


def starttls(port: int, count: int, certificate: str) -> None:
    """Send each message on a connection of its own, with a whole handshake."""
    context = ssl.create_default_context(cafile=certificate)
    for _ in range(count):
        with Client(port) as client:
            client.say(b"EHLO client.example\r\n", 250)
            client.starttls(context)
            client.say(b"EHLO client.example\r\n", 250)
            client.say(_MAIL, 250)
            client.say(_RCPT, 250)
            client.say(_DATA, 354)
            client.say(_BODY, 250)
            client.say(b"QUIT\r\n", 221)


_DIALOGUES: dict[str, Callable[..., None]] = {"pipelining": pipelining, "starttls": starttls}


if __name__ == "__main__":
    dialogue, port, count, *files = sys.argv[1:]
    start = time.perf_counter()
    _DIALOGUES[dialogue](int(port), int(count), *files)
    print(time.perf_counter() - start)
