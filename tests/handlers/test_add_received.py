"""AddReceived: the field is in front, and the message behind it is as it came."""

from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default

import pytest
from tests.handlers.clients import HELLO, session
from tests.handlers.test_front import Streaming, Whole

from smtp_handlers import AddReceived
from smtp_protocol import Answer, Envelope, Handler, Server, Session
from smtp_server import SMTP


@pytest.mark.parametrize("handler", [Whole(), Streaming()], ids=["whole", "streaming"])
async def test_add_received(handler: Whole | Streaming) -> None:
    handler.taken.clear()
    async with session(AddReceived(handler)) as client:
        assert (await client.send()).code == 250
        assert (await client.send(b"")).code == 250
    for taken, content in zip(handler.taken, [HELLO, b""], strict=True):
        assert taken.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example ")
        assert taken.endswith(b"\r\n" + content)


async def test_add_received_to_decoded_text() -> None:
    class Text(Handler):
        text: str | None = ""

        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
            self.text = envelope.text
            return "250 OK"

    handler = Text()
    async with session(AddReceived(handler), decode_data=True) as client:
        assert (await client.send()).code == 250
    assert handler.text is not None
    assert handler.text.startswith("Received: ")
    assert handler.text.endswith(HELLO.decode())


BLANKS = [b" by evil.example; x\r\n", b"\tx\r\n", b" \r\n"]


@pytest.mark.parametrize("handler", [Whole(), Streaming()], ids=["whole", "streaming"])
@pytest.mark.parametrize("first", BLANKS)
async def test_no_message_goes_on_with_the_field(handler: Whole | Streaming, first: bytes) -> None:
    handler.taken.clear()
    async with session(AddReceived(handler)) as client:
        assert (await client.send(first + HELLO)).code == 250
    [taken] = handler.taken
    message = message_from_bytes(taken, policy=default)
    assert message.keys() == ["Received"]
    assert "evil" not in str(message["Received"])
    assert taken.endswith(b"\r\n\r\n" + first + HELLO)


@pytest.mark.parametrize("message", [b"", b" x", b"Subject: x\r\n", HELLO])
@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_in_any_parts(message: bytes, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b""
        for start in range(0, len(message), size):
            yield message[start : start + size]

    handler = Streaming()
    front = AddReceived(handler)
    await front.handle_STREAM(SMTP(front), Session(), Envelope(), chunks())
    [taken] = handler.taken
    assert taken.startswith(b"Received: ")
    assert taken.endswith(b"\r\n" + (b"\r\n" if message[:1] == b" " else b"") + message)
