"""A server on trio: `ServerConnection`, and a task for each client.

It takes mail for example.com, by DATA or BDAT, and prints it. Ctrl-C stops it.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import trio

import smtp_protocol as smtp

CONFIG = smtp.ProtocolConfig(
    data_size_limit=10_000_000,
    rcpt_max=100,
    extensions=frozenset({"PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS"}),
)
IDLE = 300  # seconds


@dataclass
class Conversation:
    """What one client has said so far, and what it is answered."""

    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    message: bytearray = field(default_factory=bytearray)

    def answer(self, event: smtp.Event) -> smtp.Reply:
        """Give the reply to an event that is owed one."""
        match event:
            case smtp.Refused(reply):
                return reply  # the engine knows what was wrong
            case smtp.Ehlo():
                self.reset()
                return smtp.Reply(250, ("localhost", *smtp.ehlo_keywords(CONFIG)))
        return smtp.Reply.parse(self.text_for(event))

    def text_for(self, event: smtp.Event) -> str:
        """Do what the event asks for, and tell what came of it."""
        match event:
            case smtp.Connected():
                return "220 localhost on trio"
            case smtp.Helo() | smtp.Rset():
                self.reset()
            case smtp.Mail(address):
                self.reset()
                self.sender = address
            case smtp.Rcpt(address):
                if not address.lower().endswith("@example.com"):
                    return "550 5.7.1 No relaying"
                self.recipients.append(address)
            case smtp.Data():
                return "354 Go ahead"
            case smtp.BodyEnd():
                print(f"From {self.sender} to {', '.join(self.recipients)}", flush=True)
                print(self.message.decode(errors="replace"), flush=True)
                self.reset()
            case smtp.Noop() | smtp.Bdat():
                pass
            case smtp.Vrfy():
                return "252 2.5.0 Perhaps"
            case smtp.Quit():
                return "221 2.0.0 Bye"
            case _:
                return "502 5.5.1 Command not implemented"
        return "250 2.0.0 OK"

    def reset(self) -> None:
        """Forget the transaction."""
        self.sender = ""
        self.recipients.clear()
        self.message.clear()


async def converse(stream: trio.SocketStream) -> None:
    """Serve one client until it goes."""
    connection, conversation = smtp.ServerConnection(CONFIG), Conversation()
    while not isinstance(event := connection.next_event(), smtp.ConnectionClosed):
        assert event is not smtp.PAUSED, "every event is answered before the next is asked for"
        if event is smtp.NEED_DATA:
            with trio.move_on_after(IDLE) as patience:
                if octets := await stream.receive_some():
                    connection.receive_data(octets)
                else:
                    connection.receive_eof()
            if patience.cancelled_caught:
                await stream.send_all(connection.send(smtp.Reply.parse("421 4.4.2 Too slow")))
        elif isinstance(event, smtp.BodyChunk):
            conversation.message += event.data
        else:
            await stream.send_all(connection.send(conversation.answer(event)))


async def serve_client(stream: trio.SocketStream) -> None:
    """Serve one client; the others do not care how it ends."""
    async with stream:
        with suppress(trio.BrokenResourceError):
            await converse(stream)


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
