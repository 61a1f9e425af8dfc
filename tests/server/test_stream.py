"""Streams: ``handle_STREAM`` on each way to the server, and what becomes of a message in parts."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.server.secure import Wire
from tests.server.support import (
    DEADLINE,
    SHORT,
    Dialogue,
    dialogue,
    eventually,
    talking,
)

from smtp_protocol import Answer, BodyAborted, Envelope, Handler, Server, Session
from smtp_server import LMTP, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HELLO = "EHLO client.test"
MEGABYTE = 1024 * 1024
LINE = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop\r\n"


class Reader(Handler):
    """Reads each message to its end, and keeps what came."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.aborted = 0
        self.begun = 0
        self.gone = 0

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> Answer | Sequence[Answer]:
        """Read on."""
        self.begun += 1
        parts: list[bytes] = []
        try:
            async for chunk in chunks:
                assert chunk
                parts.append(chunk)
        except BodyAborted:
            self.aborted += 1
            raise
        self.messages.append(b"".join(parts))
        return f"250 {len(self.messages[-1])} octets for {len(envelope.rcpt_tos)}"

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Count."""
        self.gone += 1


async def begin_chunks(client: Dialogue) -> None:
    await client.tell(HELLO, "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>")


# What works.


async def test_a_message_on_each_way(wire: Wire) -> None:
    handler = Reader()
    async with wire.talking(handler) as client:
        for content in (b"", b"Hi\r\n", LINE * 5000):
            reply = await client.deliver(content)
            assert reply == f"250 {len(content)} octets for 1"
    assert handler.messages == [b"", b"Hi\r\n", LINE * 5000]
    assert handler.aborted == 0


async def test_chunks_on_each_way(wire: Wire) -> None:
    handler = Reader()
    async with wire.talking(handler, extensions=("CHUNKING", "BINARYMIME")) as client:
        await client.ask(HELLO)
        for _ in range(2):
            await client.ask("MAIL FROM:<a@example.com> BODY=BINARYMIME")
            await client.ask("RCPT TO:<b@example.com>")
            await client.send(
                b"BDAT 4\r\n\0\r\n.BDAT 0\r\nBDAT 7\r\n\r\n.\r\n\n\rBDAT 3 LAST\r\nend"
            )
            answers = [await client.reply() for _ in range(4)]
            assert [answer[:3] for answer in answers] == ["250"] * 4
            assert answers[-1] == "250 14 octets for 1"
    assert handler.messages == [b"\0\r\n.\r\n.\r\n\n\rend"] * 2


async def test_no_chunk_but_an_empty_one() -> None:
    handler = Reader()
    async with dialogue(handler, extensions=("CHUNKING",)) as client:
        await begin_chunks(client)
        await client.send("BDAT 0 LAST\r\nNOOP\r\n")
        assert await client.reply() == "250 0 octets for 1"
        assert await client.reply() == "250 OK"


async def test_many_pipelined_messages() -> None:
    handler = Reader()
    message = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\n"
    async with dialogue(handler) as client:
        await client.send(f"{HELLO}\r\n" + message * 200 + "QUIT\r\n")
        answers = (await client.rest()).splitlines()
    assert answers.count("250 3 octets for 1") == 200
    assert handler.messages == [b"x\r\n"] * 200


async def test_lmtp() -> None:
    class Each(Reader):
        async def handle_STREAM(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            chunks: AsyncIterator[bytes],
        ) -> Answer | Sequence[Answer]:
            await super().handle_STREAM(server, session, envelope, chunks)
            return [f"250 {to}" for to in envelope.rcpt_tos]

    service = serve(Each(), "127.0.0.1", 0, smtp_class=LMTP)
    async with service, talking(service) as client:
        await client.tell("LHLO c", "MAIL FROM:<a@example.com>")
        await client.tell("RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>", "DATA")
        await client.send("x\r\n.\r\n")
        assert [await client.reply() for _ in range(2)] == [
            "250 2.0.0 b@example.com",
            "250 2.0.0 c@example.com",
        ]


# Back-pressure.


class Sluggish(Reader):
    """Begins to read when it is told to, or reads one chunk each time."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.size = 0
        self.largest = 0

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> Answer | Sequence[Answer]:
        """Wait, then read."""
        self.begun += 1
        await self.go_on.wait()
        async for chunk in chunks:
            self.size += len(chunk)
            self.largest = max(self.largest, len(chunk))
        return f"250 {self.size}"


async def test_a_stream_that_is_not_read_stops_the_socket(wire: Wire) -> None:
    handler = Sluggish()
    async with wire.talking(handler, data_size_limit=None, timeout=None) as client:
        await client.begin_data()
        sent = await client.flood(LINE.decode())
        # Buffers of the kernel and of TLS, and little beside them.
        assert sent * len(LINE) < 30 * MEGABYTE
        handler.go_on.set()
        assert await client.ask(".") == f"250 {sent * len(LINE)}"
        assert handler.largest <= MEGABYTE


async def test_one_large_message_passes_through_little_memory(wire: Wire) -> None:
    """What the server holds is bounded, however large the message is."""
    import tracemalloc

    handler = Sluggish()
    handler.go_on.set()
    block = LINE * 4096
    blocks = 32 * MEGABYTE // len(block)
    async with wire.talking(handler, data_size_limit=None) as client:
        await client.begin_data()
        tracemalloc.start()
        try:
            for _ in range(blocks):
                await client.send(block)
            assert await client.ask(".") == f"250 {blocks * len(block)}"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 12 * MEGABYTE


# The hook returns early, or fails.


class Early(Reader):
    """Answers after the first chunk."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> Answer | Sequence[Answer]:
        """Read no further."""
        self.begun += 1
        if session.host_name == "first.test":
            await anext(aiter(chunks))
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: str = self.answer
        return answer


@pytest.mark.parametrize("name", ["first.test", "none.test"])
@pytest.mark.parametrize("way", ["DATA", "BDAT"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("550 5.7.1 Spam", "550"),
        ("250 Enough", "250"),
        (LookupError("disk"), "451"),
        (17, "451"),
        ("250 a\r\n250 b", "451"),
    ],
)
async def test_an_early_answer(name: str, way: str, answer: object, code: str) -> None:
    handler = Early(answer)
    async with dialogue(handler, extensions=("CHUNKING",), data_size_limit=None) as client:
        for _ in range(2):
            await client.tell(f"EHLO {name}", "MAIL FROM:<a@example.com>")
            await client.ask("RCPT TO:<b@example.com>")
            if way == "DATA":
                await client.ask("DATA")
                await client.send(LINE * 20_000)
                reply = await client.ask(".")
            else:
                await client.send(b"BDAT 64000\r\n" + LINE * 1000 + b"BDAT 64000 LAST\r\n")
                await client.send(LINE * 1000)
                assert (await client.reply())[:3] == "250"
                reply = await client.reply()
            assert reply[:3] == code
            assert await client.ask("NOOP") == "250 OK"
    assert handler.begun == 2


@pytest.mark.parametrize("cut", ["close", "reset", "too large"])
async def test_a_hook_that_failed_before_the_message_was_cut(
    cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exception is logged with the session, and not as one that nobody retrieved."""
    handler = Early(LookupError("disk"))
    async with dialogue(handler, data_size_limit=10 * MEGABYTE) as client:
        await client.begin_data()
        await client.send(LINE * 100)
        await eventually(lambda: handler.begun)
        if cut == "too large":
            for _ in range(100):
                await client.send(LINE * 2000)
            assert (await client.ask("."))[:3] in ("552", "451")
            assert await client.ask("NOOP") == "250 OK"
        elif cut == "reset":
            client.reset()
        else:
            await client.close()
        if cut != "too large":
            await eventually(lambda: handler.gone)
    gc.collect()
    assert [r.name for r in caplog.records if r.levelno >= logging.ERROR] in (
        [],
        ["smtp_server"],
    )


# The message is cut.


@pytest.mark.parametrize("cut", ["close", "reset", "eof", "RSET", "QUIT", "EHLO c", "bad chunk"])
async def test_a_message_that_is_cut(cut: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = Reader()
    async with dialogue(handler, extensions=("CHUNKING",)) as client:
        await begin_chunks(client)
        if cut in ("RSET", "QUIT", "EHLO c", "bad chunk"):
            await client.send(b"BDAT 66\r\n" + LINE + b"\r\n")
            assert (await client.reply()).startswith("250")
            await client.send("BDAT x\r\n" if cut == "bad chunk" else f"{cut}\r\n")
            assert (await client.reply())[:3] in ("250", "221", "501")
        else:
            await client.ask("DATA")
            await client.send(LINE)
            await eventually(lambda: handler.begun)
            if cut == "reset":
                client.reset()
            elif cut == "eof":
                client.writer.write_eof()
                assert await client.rest() == ""
            else:
                await client.close()
        await eventually(lambda: handler.aborted)
    assert (handler.begun, handler.aborted, handler.messages) == (1, 1, [])
    gc.collect()
    assert caplog.text == ""


@pytest.mark.parametrize("way", ["DATA", "BDAT"])
async def test_a_message_that_is_too_large(way: str) -> None:
    handler = Reader()
    async with dialogue(handler, data_size_limit=1000, extensions=("CHUNKING",)) as client:
        await begin_chunks(client)
        if way == "DATA":
            await client.ask("DATA")
            await client.send(LINE * 20_000)
            assert (await client.ask("."))[:3] == "552"
        else:
            await client.send(b"BDAT 640\r\n" + LINE * 10 + b"BDAT 640 LAST\r\n" + LINE * 10)
            assert [(await client.reply())[:3] for _ in range(2)] == ["250", "552"]
        await eventually(lambda: handler.aborted == handler.begun)
        assert handler.messages == []
        assert await client.deliver("x\r\n") == "250 3 octets for 1"


async def test_an_abort_ends_a_hook_that_waits_for_something_else() -> None:
    """A hook that does not look at ``chunks`` is not left behind when its client is gone."""
    handler = Sluggish()
    service = serve(handler, "127.0.0.1", 0)
    async with service:
        before = len(asyncio.all_tasks())
        async with talking(service) as client:
            await client.begin_data()
            await client.send(LINE)
            await eventually(lambda: handler.begun)
        handler.go_on.set()
        await eventually(lambda: handler.gone)
        await eventually(lambda: len(asyncio.all_tasks()) <= before)


class Tidy(Reader):
    """Cleans up asynchronously at its end, and notes what came in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    async def handle_STREAM(
        self, server: Server, session: Session, envelope: Envelope, chunks: AsyncIterator[bytes]
    ) -> Answer | Sequence[Answer]:
        """Read, and clean up."""
        try:
            return await super().handle_STREAM(server, session, envelope, chunks)
        finally:
            await asyncio.sleep(SHORT)
            self.order.append("cleaned")

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        """Note it."""
        await super().handle_DISCONNECT(server, session)
        self.order.append("goodbye")


async def test_the_service_ends_in_the_middle() -> None:
    """A hook that cleans up asynchronously gets to its end before the service has."""
    handler = Tidy()
    service = serve(handler, "127.0.0.1", 0)
    await service.start()
    async with talking(service) as client:
        await client.begin_data()
        await client.send(LINE)
        await eventually(lambda: handler.begun)
        async with asyncio.timeout(DEADLINE):
            await service.close(grace=SHORT)
        assert handler.order == ["cleaned", "goodbye"]
        assert await client.rest() == "421 4.3.2 Service shutting down\r\n"
    assert (handler.aborted, handler.messages, handler.gone) == (1, [], 1)


async def test_goodbye_is_said_after_the_hook_has_ended() -> None:
    handler = Tidy()
    async with dialogue(handler) as client:
        await client.begin_data()
        await client.send(LINE)
        await eventually(lambda: handler.begun)
        await client.close()
        await eventually(lambda: len(handler.order) == 2)
    assert handler.order == ["cleaned", "goodbye"]


# Time.


async def test_a_hook_that_takes_too_long() -> None:
    handler = Sluggish()
    async with dialogue(handler, handler_timeout=SHORT) as client:
        await client.begin_data()
        assert (await client.ask("."))[:3] == "451"
        assert await client.ask("NOOP") == "250 OK"


async def test_a_hook_that_does_not_read_takes_too_long() -> None:
    handler = Sluggish()
    async with dialogue(
        handler, handler_timeout=4 * SHORT, data_size_limit=None, timeout=DEADLINE
    ) as client:
        await client.begin_data()
        sender = asyncio.create_task(client.send(LINE * 1_000_000))
        reply = await client.reply()
        assert reply[:3] in ("421", "451")
        sender.cancel()
        client.reset()
        await eventually(lambda: handler.gone)
