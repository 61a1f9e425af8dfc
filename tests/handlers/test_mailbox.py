"""Mailbox: 250 means that the message is in the Maildir, whole; anything else, that it is not."""

import asyncio
import contextlib
import errno
import mailbox
import os
import re
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, connected, running, session

from smtp_handlers import Mailbox
from smtp_handlers.maildir import Delivery, folder_name, remove_abandoned

LINE = b"x" * 98 + b"\r\n"


def files(folder: Path) -> list[Path]:
    """The messages of a Maildir."""
    return sorted(path for name in ("new", "cur") for path in (folder / name).iterdir())


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "tmp").iterdir())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything(folder: Path) -> list[Path]:
    """All files below."""
    return [path for path in folder.rglob("*") if path.is_file()]


def only_message(folder: Path) -> Message:
    [message] = mailbox.Maildir(folder, create=False)
    return message


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 it may be a thread that brings it about
            await asyncio.sleep(0.005)


async def test_message_is_there_when_it_is_answered(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path)) as client:
        reply = await client.send(HELLO + b"..dots\r\n", to=["bart@example.com", "c@example.net"])
        assert reply.code == 250
        [path] = files(tmp_path)
        assert path.parent.name == "new"
        assert leftovers(tmp_path) == []
        assert path.read_bytes().endswith(b"\r\n" + HELLO + b"..dots\r\n")
    message = only_message(tmp_path)
    assert message["Return-Path"] == "<anne@example.com>"
    assert message.get_all("Delivered-To") == ["bart@example.com", "c@example.net"]
    assert message.keys()[:4] == ["Return-Path", "Delivered-To", "Delivered-To", "Received"]
    received = " ".join(message["Received"].split())
    assert re.fullmatch(
        r"from client\.example \(\[127\.0\.0\.1\]\) by mx\.example with ESMTP id \S+;"
        r" \w{3}, \d+ \w{3} \d{4} [\d:]{8} [+-]\d{4}",
        received,
    )


async def test_one_recipient_is_named(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path)) as client:
        assert (await client.send(sender="")).code == 250
    message = only_message(tmp_path)
    assert message["Return-Path"] == "<>"
    assert "for <bart@example.com>;" in message["Received"]


async def test_permissions_are_the_owners(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path / "a" / "b")) as client:
        await client.send()
    [path] = files(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_every_message_once(tmp_path: Path) -> None:
    async def send(port: int, number: int) -> None:
        async with connected(port) as client:
            for again in range(5):
                text = f"Message-ID: <{number}.{again}@x>\r\n\r\n".encode()
                assert (await client.send(text)).code == 250

    async with running(Mailbox(tmp_path)) as port:
        await asyncio.gather(*(send(port, number) for number in range(8)))
    ids = [message["Message-ID"] for message in mailbox.Maildir(tmp_path, create=False)]
    assert sorted(ids) == sorted(f"<{n}.{again}@x>" for n in range(8) for again in range(5))


async def test_long_message(tmp_path: Path) -> None:
    content = HELLO + LINE * 30_000
    async with session(Mailbox(tmp_path)) as client:
        assert (await client.send(content, to=["a@example.com", "b@example.com"])).code == 250
    [path] = files(tmp_path)
    assert path.read_bytes().endswith(b"\r\n" + content)


async def test_empty_message(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path)) as client:
        assert (await client.send(b"")).code == 250
    assert only_message(tmp_path)["Return-Path"] == "<anne@example.com>"


async def test_lost_connection_leaves_nothing(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path)) as client:
        for line in ("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"):
            await client(line)
        client.writer.write(LINE * 10_000)
        await until(lambda: leftovers(tmp_path) != [])
        await client.close()
        await until(lambda: leftovers(tmp_path) == [])
    assert files(tmp_path) == []


async def test_message_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    async with session(Mailbox(tmp_path), data_size_limit=1_000_000) as client:
        assert (await client.send(LINE * 12_000)).code == 552
        await until(lambda: leftovers(tmp_path) == [])
        assert files(tmp_path) == []
        assert (await client.send()).code == 250


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ENOSPC, "452 4.3.1 "),
        (errno.EDQUOT, "452 4.3.1 "),
        (errno.EROFS, "451 4.3.0 "),
        (errno.EIO, "451 4.3.0 "),
    ],
)
@pytest.mark.parametrize("step", ["smtp_handlers.maildir._create_file", "os.fsync", "os.link"])
async def test_errors_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, answer: str, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    async with session(Mailbox(tmp_path)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(step, fail)
            assert str(await client.send()).startswith(answer)
        assert files(tmp_path) == leftovers(tmp_path) == []
        assert (await client.send()).code == 250
    assert len(files(tmp_path)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "smtp_handlers.maildir._create_file", lambda path: os.open("/dev/full", os.O_RDWR)
    )
    async with session(Mailbox(tmp_path)) as client:
        assert str(await client.send(LINE * 20_000)).startswith("452 4.3.1 ")
    assert files(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_read_only_folder(tmp_path: Path) -> None:
    handler = Mailbox(tmp_path)
    (tmp_path / "tmp").chmod(0o500)
    async with session(handler) as client:
        assert str(await client.send()).startswith("451 4.3.0 ")


async def test_a_removed_folder_comes_back(tmp_path: Path) -> None:
    handler = Mailbox(tmp_path)
    for name in ("tmp", "new", "cur"):
        (tmp_path / name).rmdir()
    async with session(handler) as client:
        assert (await client.send()).code == 250
    assert len(files(tmp_path)) == 1


async def test_slow_disk_stalls_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    flush = os.fsync

    def slow(descriptor: int) -> None:
        assert go_on.wait(20)
        flush(descriptor)

    handler = Mailbox(tmp_path)
    monkeypatch.setattr(os, "fsync", slow)
    async with running(handler) as port, connected(port) as first, connected(port) as second:
        sending = asyncio.create_task(first.send())
        await until(lambda: leftovers(tmp_path) != [])
        assert (await second("NOOP")).code == 250
        assert not sending.done()
        assert files(tmp_path) == []
        go_on.set()
        assert (await sending).code == 250


async def test_cancelled_while_a_thread_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    handler = Mailbox(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: go_on.wait(20))
    async with running(handler) as port, connected(port) as client:
        sending = asyncio.create_task(client.send())
        await until(lambda: leftovers(tmp_path) != [])
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await client.close()
        go_on.set()
    # Its client is gone; what was whole by then is kept, and is whole.
    await until(lambda: leftovers(tmp_path) == [])
    assert [path.read_bytes().endswith(HELLO) for path in files(tmp_path)] == [True]


async def test_per_recipient(tmp_path: Path) -> None:
    handler = Mailbox(tmp_path, per_recipient=True)
    to = ["Bart@Example.com", "bart@example.com", "c/../../d@example.net"]
    async with session(handler) as client:
        assert (await client.send(LINE * 10_000, to=to)).code == 250
    folders = ["bart@example.com", "c%2F..%2F..%2Fd@example.net"]
    assert names(tmp_path) == folders
    for name, address in zip(folders, to[1:], strict=True):
        folder = tmp_path / name
        assert leftovers(folder) == []
        message = only_message(folder)
        assert message.get_all("Delivered-To") == [address]
        assert "for <" not in message["Received"]
        assert files(folder)[0].read_bytes().endswith(b"\r\n" + LINE * 10_000)
    handler.reset()
    assert everything(tmp_path) == []


async def test_per_recipient_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def fail_once(source: Path, target: Path) -> None:
        if "second" in str(target):
            raise OSError(errno.ENOSPC, "no room")
        link(source, target)

    monkeypatch.setattr(os, "link", fail_once)
    async with session(Mailbox(tmp_path, per_recipient=True)) as client:
        reply = await client.send(to=["first@example.com", "second@example.com"])
        assert reply.code == 452
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("bart@example.com", "bart@example.com"),
        ("Postmaster", "postmaster"),
        ("../../etc/passwd@x", "%2E.%2F..%2Fetc%2Fpasswd@x"),
        ("..", "%2E."),
        (".", "%2E"),
        ('"a b"@x', "%22a%20b%22@x"),
        ("a%2Fb@x", "a%252fb@x"),
        ("孫子@áéíóú.org", "%E5%AD%AB%E5%AD%90@xn--1caqmy9a.org"),
    ],
)
def test_folder_names(address: str, name: str) -> None:
    assert folder_name(address) == name


def test_folder_names_of_long_addresses() -> None:
    first, second = folder_name("é" * 100 + "a@x"), folder_name("é" * 100 + "b@x")
    assert len(first) == len(second) == 200
    assert first != second


def test_reset(tmp_path: Path) -> None:
    handler = Mailbox(tmp_path)
    for _ in range(2):
        Delivery(tmp_path, b"").commit([HELLO])
    os.rename(files(tmp_path)[0], tmp_path / "cur" / "seen:2,S")
    assert len(files(tmp_path)) == 2
    handler.reset()
    assert files(tmp_path) == []


def test_discard_after_commit_is_too_late(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, b"")
    delivery.commit([HELLO])
    delivery.discard()
    assert len(files(tmp_path)) == 1


def test_discard_twice_and_before_anything(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, b"")
    delivery.discard()
    delivery.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_behind_long_ago_is_removed(tmp_path: Path) -> None:
    Mailbox(tmp_path)
    old, new = tmp_path / "tmp" / "old", tmp_path / "tmp" / "new"
    old.touch()
    new.touch()
    long_ago = time.time() - 40 * 3600
    os.utime(old, (long_ago, long_ago))
    Mailbox(tmp_path)
    assert leftovers(tmp_path) == [new]
    remove_abandoned(tmp_path)
    assert leftovers(tmp_path) == [new]


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Mailbox(tmp_path / "file")


def test_from_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="smtp-server")
    assert Mailbox.from_cli(parser, str(tmp_path)).mail_dir == tmp_path
    assert Mailbox.from_cli(parser, str(tmp_path), "per-recipient").per_recipient
    for wrong in [(), (str(tmp_path), "x"), (str(tmp_path), "per-recipient", "x")]:
        with pytest.raises(SystemExit):
            Mailbox.from_cli(parser, *wrong)
        assert "the handler mailbox takes a folder" in capsys.readouterr().err
