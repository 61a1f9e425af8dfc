"""Recorder: what it keeps, and how a test waits for it."""

import asyncio
import smtplib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.headerregistry import UnstructuredHeader
from typing import Any

import pytest

from smtp_protocol import Envelope, Reply, Session
from smtp_server import SMTP, Controller, serve
from smtp_server.testing import Recorder

# Seconds after which a test gives up; nothing takes so long unless it is broken.
LIMIT = 30.0


def envelope(subject: str) -> Envelope:
    """A complete envelope."""
    made = Envelope()
    made.mail_from = "anne@example.com"
    made.rcpt_tos.append("bart@example.com")
    made.content = f"Subject: {subject}\r\n\r\nHi Bart!\r\n".encode()
    return made


async def deliver(recorder: Recorder, *subjects: str) -> None:
    """Hand messages over as a server does."""
    for subject in subjects:
        answer = await recorder.handle_DATA(SMTP(recorder), Session(), envelope(subject))
        assert isinstance(answer, Reply)
        assert answer.code == 250


def subjects(recorder: Recorder) -> list[str]:
    return [str(message["Subject"]) for message in recorder.messages]


def test_it_is_empty_at_first() -> None:
    recorder = Recorder()
    assert (recorder.messages, recorder.envelopes, recorder.sessions) == ([], [], [])
    assert recorder.wait_for(0, timeout=0) == []


async def test_it_keeps_messages_in_their_order() -> None:
    recorder = Recorder()
    await deliver(recorder, "one", "two")
    assert subjects(recorder) == ["one", "two"]
    assert [kept.rcpt_tos for kept in recorder.envelopes] == [["bart@example.com"]] * 2
    assert [kept.host_name for kept in recorder.sessions] == [None, None]


async def test_messages_are_parsed_once() -> None:
    recorder = Recorder()
    await deliver(recorder, "one")
    [message] = recorder.messages
    assert message.get_content() == "Hi Bart!\n"
    assert recorder.messages[0] is message


async def test_headers_in_utf8_are_read() -> None:
    recorder = Recorder()
    await deliver(recorder, "Grüße")
    assert subjects(recorder) == ["Grüße"]


async def test_what_is_handed_out_is_a_copy() -> None:
    recorder = Recorder()
    await deliver(recorder, "one")
    recorder.messages.clear()
    recorder.envelopes.clear()
    assert subjects(recorder) == ["one"]


async def test_clear() -> None:
    recorder = Recorder()
    await deliver(recorder, "one", "two")
    recorder.clear()
    assert recorder.messages == []
    await deliver(recorder, "three")
    assert subjects(recorder) == ["three"]


async def test_wait_for_returns_all_that_came() -> None:
    recorder = Recorder()
    await deliver(recorder, "one", "two")
    assert recorder.wait_for(1) == recorder.messages
    assert await recorder.wait_for_async(1) == recorder.messages


def test_wait_for_wakes_when_the_last_comes() -> None:
    recorder = Recorder()
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(recorder.wait_for, 2, timeout=LIMIT)
        asyncio.run(deliver(recorder, "one"))
        assert not waiter.done()
        asyncio.run(deliver(recorder, "two"))
        assert [message["Subject"] for message in waiter.result(LIMIT)] == ["one", "two"]


async def test_wait_for_async_wakes_when_the_last_comes() -> None:
    recorder = Recorder()
    waiter = asyncio.create_task(recorder.wait_for_async(2, timeout=LIMIT))
    await asyncio.sleep(0)
    await deliver(recorder, "one")
    await asyncio.sleep(0)
    assert not waiter.done()
    await deliver(recorder, "two")
    assert [message["Subject"] for message in await waiter] == ["one", "two"]


async def test_each_waiter_has_its_own_number() -> None:
    recorder = Recorder()
    waiters = [asyncio.create_task(recorder.wait_for_async(count)) for count in (3, 1, 2)]
    await asyncio.sleep(0)
    for number in (1, 2, 3):
        await deliver(recorder, f"number {number}")
        done, _ = await asyncio.wait(waiters, timeout=LIMIT, return_when="FIRST_COMPLETED")
        waiters = [waiter for waiter in waiters if waiter not in done]
        assert [len(await waiter) for waiter in done] == [number]


def test_wait_for_gives_up() -> None:
    recorder = Recorder()
    asyncio.run(deliver(recorder, "one"))
    with pytest.raises(TimeoutError, match=r"^1 of 2 messages within 0.01 seconds.*\['one'\]$"):
        recorder.wait_for(2, timeout=0.01)


async def test_wait_for_async_gives_up() -> None:
    with pytest.raises(TimeoutError, match=r"^0 of 2 messages within 0.01 seconds"):
        await Recorder().wait_for_async(2, timeout=0.01)


async def test_mail_after_a_wait_that_was_given_up() -> None:
    recorder = Recorder()
    with pytest.raises(TimeoutError):
        await recorder.wait_for_async(1, timeout=0)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(recorder.wait_for, 1, timeout=0)
    waiter = asyncio.create_task(recorder.wait_for_async(1))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await deliver(recorder, "late")
    assert subjects(recorder) == ["late"]


async def test_wait_for_does_not_stop_an_event_loop() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="await wait_for_async"):
        recorder.wait_for(1)
    await deliver(recorder, "one")
    assert len(recorder.wait_for(1)) == 1  # which need not wait


DEEP = "deep\r\n" + "".join(
    f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n"
    for number in range(1200)
)


@pytest.fixture
def usual_recursion_limit() -> Iterator[None]:
    """That of a program in which nothing has raised it, as other tests may have."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("usual_recursion_limit")
async def test_a_message_that_cannot_be_parsed_hides_no_other() -> None:
    recorder = Recorder()
    await deliver(recorder, "one", DEEP, "three")
    one, deep, three = recorder.messages
    assert (one["Subject"], deep["Subject"], three["Subject"]) == ("one", "deep", "three")
    assert "RecursionError" in str(deep.defects[-1])
    assert str(deep.get_payload()).endswith("\n\nHi Bart!\n")
    assert recorder.wait_for(3) == await recorder.wait_for_async(3) == [one, deep, three]
    with pytest.raises(TimeoutError, match=r"3 of 4 messages.*\['one', 'deep', 'three'\]"):
        await asyncio.to_thread(recorder.wait_for, 4, timeout=0.01)


async def test_a_subject_that_cannot_be_read_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse = UnstructuredHeader.parse

    def fails(value: str, kwds: dict[str, Any]) -> None:
        if value == "bad":
            raise IndexError
        parse(value, kwds)

    recorder = Recorder()
    await deliver(recorder, "bad", "two")
    monkeypatch.setattr(UnstructuredHeader, "parse", fails)
    with pytest.raises(TimeoutError, match=r"\['\(not to be read\)', 'two'\]"):
        await recorder.wait_for_async(3, timeout=0.01)


async def test_a_message_of_which_nothing_can_be_parsed_is_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*args: object, **keywords: object) -> None:
        raise RecursionError

    recorder = Recorder()
    await deliver(recorder, "one")
    monkeypatch.setattr("email.message_from_bytes", fails)
    monkeypatch.setattr("email.parser.BytesHeaderParser.parsebytes", fails)
    [message] = recorder.messages
    assert message.get_payload() == "Subject: one\n\nHi Bart!\n"
    assert len(message.defects) == 1


def test_in_a_controller() -> None:
    recorder = Recorder()
    with Controller(recorder, "127.0.0.1", port=0) as controller:
        with smtplib.SMTP("127.0.0.1", controller.port, timeout=LIMIT) as client:
            client.sendmail("anne@example.com", ["bart@example.com"], "Subject: Hello\n\nHi!\n")
        # No waiting: the message is there before its sender hears of it.
        assert subjects(recorder) == ["Hello"]
    [session] = recorder.sessions
    assert session.peer_host == "127.0.0.1"


async def test_in_an_event_loop() -> None:
    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=LIMIT) as client:
            client.sendmail("anne@example.com", ["bart@example.com"], "Subject: Hello\n\nHi!\n")

    recorder = Recorder()
    async with serve(recorder, "127.0.0.1", 0) as service:
        [(_, port)] = [address for address in service.addresses if isinstance(address, tuple)]
        sender = asyncio.create_task(asyncio.to_thread(send, port))
        [message] = await recorder.wait_for_async(1, timeout=LIMIT)
        await sender
    assert message["Subject"] == "Hello"
