"""Stuffing: what stands on the wire after DATA, however the message came in pieces."""

import pytest

from smtp_protocol import NEED_DATA, BodyChunk, BodyEnd, DotStuffer, Reply, ServerConnection

MESSAGES = [
    (b"", b".\r\n"),
    (b"a\r\n", b"a\r\n.\r\n"),
    (b"a", b"a\r\n.\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n", b"..\r\n.\r\n"),
    (b"a\r\n.\r\nb\r\n..c\r\n", b"a\r\n..\r\nb\r\n...c\r\n.\r\n"),
    (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r", b"a\r\n.\r\n"),
    (b"\r", b"\r\n.\r\n"),
    (b"\r\r\n\n.\r\n.", b"\r\n\r\n\r\n..\r\n..\r\n.\r\n"),
    (b"a\r\n.\r.\r\n", b"a\r\n..\r\n..\r\n.\r\n"),
    (b"a\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
]


@pytest.mark.parametrize(("message", "wire"), MESSAGES)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_stuffing(message: bytes, wire: bytes, size: int) -> None:
    stuffer = DotStuffer()
    pieces = [stuffer.feed(message[at : at + size]) for at in range(0, len(message), size)]
    assert b"".join([*pieces, stuffer.finish()]) == wire


@pytest.mark.parametrize(("message", "wire"), MESSAGES)
def test_a_server_takes_it_for_one_message(message: bytes, wire: bytes) -> None:
    connection = ServerConnection()
    connection.next_event()
    connection.send(Reply.parse("220 mx.example"))
    connection.receive_data(
        b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + wire + b"NOOP\r\n"
    )
    for reply in ("250 mx.example", "250 OK", "250 OK", "354 go on"):
        connection.next_event()
        connection.send(Reply.parse(reply))
    content = b""
    while isinstance(event := connection.next_event(), BodyChunk):
        content += event.data
    assert isinstance(event, BodyEnd)
    expected = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert content == expected + (b"" if not expected or expected.endswith(b"\n") else b"\r\n")
    connection.send(Reply.parse("250 OK"))
    assert type(connection.next_event()).__name__ == "Noop"
    connection.send(Reply.parse("250 OK"))
    assert connection.next_event() is NEED_DATA
