"""Mailbox: 250 means that the message is in the Maildir, whole; anything else, that it is not."""

import asyncio
import contextlib
import errno
import itertools
import logging
import mailbox
import os
import re
import threading
import time
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Sequence
from email.message import Message
from pathlib import Path

import pytest
from tests.handlers.clients import HELLO, Client, connected, running, session

from smtp_handlers import Mailbox
from smtp_handlers.maildir import Delivery, folder_name, remove_abandoned
from smtp_protocol import AnyHandler, Envelope, Session
from smtp_server import LMTP, SMTP, serve

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
    reached, go_on = threading.Event(), threading.Event()
    flush = os.fsync

    def slow(descriptor: int) -> None:
        reached.set()
        assert go_on.wait(20)
        flush(descriptor)

    handler = Mailbox(tmp_path)
    monkeypatch.setattr(os, "fsync", slow)
    async with running(handler) as port, connected(port) as first, connected(port) as second:
        sending = asyncio.create_task(first.send())
        await until(reached.is_set)
        assert (await second("NOOP")).code == 250
        assert not sending.done()
        assert files(tmp_path) == []
        go_on.set()
        assert (await sending).code == 250


async def test_cancelled_while_a_thread_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        reached.set()
        assert go_on.wait(20)

    handler = Mailbox(tmp_path)
    monkeypatch.setattr(os, "fsync", slow)
    async with running(handler) as port, connected(port) as client:
        sending = asyncio.create_task(client.send())
        await until(reached.is_set)  # before that, the message may not even have been sent
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
        ("..", "%22..%22"),
        (".", "%22.%22"),
        (".a", "%2Ea"),
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


@contextlib.asynccontextmanager
async def lmtp(handler: AnyHandler) -> AsyncIterator[Client]:
    """An LMTP server around the handler and a client that has said LHLO."""
    async with serve(handler, "127.0.0.1", 0, smtp_class=LMTP) as service:
        [(_, port)] = [pair for pair in service.addresses if isinstance(pair, tuple)]
        async with connected(port, "LHLO client.example") as client:
            yield client


async def deliver(client: Client, content: bytes, to: Sequence[str], answers: int) -> list[str]:
    """Send a message, and read so many answers to it; of a 250 its code, of others more."""
    for line in ("MAIL FROM:<a@x.example>", *(f"RCPT TO:<{each}>" for each in to)):
        assert (await client(line)).code == 250
    assert (await client("DATA")).code == 354
    client.writer.write(content + b".\r\n")
    replies = [await client.reply() for _ in range(answers)]
    return ["250" if reply.code == 250 else str(reply)[:9] for reply in replies]


def path_of(descriptor: int) -> str:
    """The path of an open file."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")

RECIPIENTS = ["one@x.example", "two@x.example", "three@x.example"]
PATTERNS = list(itertools.product([True, False], repeat=len(RECIPIENTS)))


def break_with_a_file(folder: Path, broken: set[str], patch: pytest.MonkeyPatch) -> str:
    """Something else is in the place of the folder."""
    for name in broken:
        (folder / name).touch()
    return "451 4.3.0"


def break_new(folder: Path, broken: set[str], patch: pytest.MonkeyPatch) -> str:
    """The file gets as far as ``tmp/``."""
    for name in broken:
        (folder / name / "tmp").mkdir(parents=True)
    return "451 4.3.0"


def break_with_a_full_disk(folder: Path, broken: set[str], patch: pytest.MonkeyPatch) -> str:
    """There is no room for the message."""
    flush = os.fsync

    def full(descriptor: int) -> None:
        if any(name in path_of(descriptor) for name in broken):
            raise OSError(errno.ENOSPC, "no room")
        flush(descriptor)

    patch.setattr(os, "fsync", full)
    return "452 4.3.1"


Break = Callable[[Path, set[str], pytest.MonkeyPatch], str]

each_way_to_break = pytest.mark.parametrize(
    "breaking",
    [break_with_a_file, break_new, pytest.param(break_with_a_full_disk, marks=needs_proc)],
)
each_size = pytest.mark.parametrize("content", [HELLO, LINE * 30_000], ids=["short", "long"])


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@each_way_to_break
@each_size
async def test_lmtp_a_broken_folder_holds_up_nobody_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: tuple[bool, ...],
    breaking: Break,
    content: bytes,
) -> None:
    broken = {name for name, works in zip(RECIPIENTS, pattern, strict=True) if not works}
    refusal = breaking(tmp_path, broken, monkeypatch)
    async with lmtp(Mailbox(tmp_path, per_recipient=True)) as client:
        answers = await deliver(client, content, RECIPIENTS, 3)
    assert answers == ["250" if works else refusal for works in pattern]
    for name in RECIPIENTS:
        found = everything(tmp_path / name)
        assert [path.parent.name for path in found] == ([] if name in broken else ["new"])
        assert all(path.read_bytes().endswith(b"\r\n" + content) for path in found)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@each_way_to_break
@each_size
async def test_smtp_all_folders_or_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: tuple[bool, ...],
    breaking: Break,
    content: bytes,
) -> None:
    broken = {name for name, works in zip(RECIPIENTS, pattern, strict=True) if not works}
    refusal = breaking(tmp_path, broken, monkeypatch)
    async with session(Mailbox(tmp_path, per_recipient=True)) as client:
        answers = await deliver(client, content, RECIPIENTS, 1)
    assert answers == [refusal if broken else "250"]
    found = [path for name in RECIPIENTS for path in everything(tmp_path / name)]
    assert [path.parent.name for path in found] == ([] if broken else ["new"] * 3)
    assert all(path.read_bytes().endswith(b"\r\n" + content) for path in found)


async def test_lmtp_answers_in_the_order_of_the_recipients(tmp_path: Path) -> None:
    (tmp_path / "broken@x.example").touch()
    to = ["b@x.example", "broken@x.example", '"b"@x.example', "a@x.example", "Broken@x.example"]
    async with lmtp(Mailbox(tmp_path, per_recipient=True)) as client:
        answers = await deliver(client, HELLO, to, 5)
    assert [answer[:3] for answer in answers] == ["250", "451", "250", "250", "451"]
    assert len(everything(tmp_path / "b@x.example")) == 1


async def test_lmtp_one_folder_for_all(tmp_path: Path) -> None:
    async with lmtp(Mailbox(tmp_path)) as client:
        assert await deliver(client, HELLO, RECIPIENTS, 3) == ["250"] * 3
    assert len(files(tmp_path)) == 1


@each_size
async def test_lost_connection_leaves_nothing_for_several(tmp_path: Path, content: bytes) -> None:
    async with session(Mailbox(tmp_path, per_recipient=True)) as client:
        for line in ("MAIL FROM:<a@x.example>", *(f"RCPT TO:<{each}>" for each in RECIPIENTS)):
            await client(line)
        await client("DATA")
        client.writer.write(content)
        await client.close()
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    "spellings",
    [
        ["anne@d.example", '"anne"@D.Example', r'"\anne"@d.example', r'"a\nn\e"@d.example'],
        ["anne@bücher.example", "anne@BU\u0308CHER.example", "Anne@XN--Bcher-kva.example"],
        ["andré@d.example", "andre\u0301@d.example", '"andré"@d.example'],
        ["Postmaster", "postmaster", "POSTMASTER"],
    ],
)
async def test_spellings_of_a_mailbox_have_one_folder(tmp_path: Path, spellings: list[str]) -> None:
    async with session(Mailbox(tmp_path, per_recipient=True), enable_SMTPUTF8=True) as client:
        for spelling in spellings:
            assert (await client("MAIL FROM:<a@x.example> SMTPUTF8")).code == 250
            assert (await client(f"RCPT TO:<{spelling}>")).code == 250
            await client("DATA")
            assert (await client.body(HELLO)).code == 250
    [name] = names(tmp_path)
    assert name.isascii()
    assert len(files(tmp_path / name)) == len(spellings)


async def test_the_only_return_path_is_ours(tmp_path: Path) -> None:
    forged = (
        b"Return-Path: <boss@d.example>\r\nreturn-path:\r\n x\r\nDelivered-To: boss@d.example\r\n"
    )
    async with session(Mailbox(tmp_path)) as client:
        await client.send(forged + HELLO + b"Return-Path: body\r\n")
    message = only_message(tmp_path)
    assert message.get_all("Return-Path") == ["<anne@example.com>"]
    # Others' fields of this name tell a loop (RFC 9228), and are left; ours is the first.
    assert message.get_all("Delivered-To") == ["bart@example.com", "boss@d.example"]
    assert "Return-Path: body" in message.as_string()


@pytest.mark.parametrize("first", [b" by evil.example; x\r\n", b"\tx", b" \r\n", b" \r\n\r\n"])
async def test_no_message_goes_on_with_our_fields(tmp_path: Path, first: bytes) -> None:
    async with session(Mailbox(tmp_path)) as client:
        await client.send(first + HELLO)
    [path] = files(tmp_path)
    assert path.read_bytes().endswith(b"\r\n\r\n" + first + HELLO)
    message = only_message(tmp_path)
    assert message.keys() == ["Return-Path", "Delivered-To", "Received"]
    assert "evil" not in message["Received"]


ERRORS_WITHOUT_LINKS = ["EPERM", "EACCES", "ENOTSUP", "EOPNOTSUPP", "EMLINK", "ENOSYS", "EINVAL"]


@pytest.mark.parametrize("name", [*ERRORS_WITHOUT_LINKS, ""])
@pytest.mark.parametrize("to", [["a@x.example"], ["a@x.example", "b@x.example"]])
async def test_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: list[str]
) -> None:
    def fail(*_: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number))

    if name:
        monkeypatch.setattr(os, "link", fail)
    else:
        monkeypatch.delattr(os, "link")
    async with session(Mailbox(tmp_path, per_recipient=True)) as client:
        assert (await client.send(to=to)).code == 250
        (tmp_path / "broken@x.example").touch()
        assert (await client.send(to=[*to, "broken@x.example"])).code == 451
    assert [path.parent.name for path in everything(tmp_path)[1:]] == ["new"] * len(to)


@pytest.mark.parametrize("links", [True, False])
def test_never_in_the_place_of_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.delattr(os, "link")
    monkeypatch.setattr("smtp_handlers.maildir._unique_name", lambda: "name")
    Delivery(tmp_path, b"first").commit([])
    second = Delivery(tmp_path, b"second")
    with pytest.raises(FileExistsError):
        second.commit([])
    second.discard()
    assert [path.read_bytes() for path in everything(tmp_path)] == [b"first"]


def test_link_that_was_made_though_the_answer_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    Delivery(tmp_path, b"").commit([HELLO])
    assert [path.read_bytes() for path in everything(tmp_path)] == [HELLO]


@needs_proc
@pytest.mark.parametrize(
    ("name", "answer"),
    [("EINVAL", "250"), ("ENOTSUP", "250"), ("EBADF", "250"), ("EIO", "451"), ("ENOSPC", "452")],
)
async def test_folders_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str
) -> None:
    flush = os.fsync

    def no_folders(descriptor: int) -> None:
        if Path(path_of(descriptor)).is_dir():
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    handler = Mailbox(tmp_path)
    monkeypatch.setattr(os, "fsync", no_folders)
    async with session(handler) as client:
        assert str(await client.send()).startswith(answer)
    assert len(files(tmp_path)) == (answer == "250")


@needs_proc
async def test_slow_folder_stalls_no_other_folder_and_no_other_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    flush = os.fsync

    def slow(descriptor: int) -> None:
        if "slow@x.example/tmp/" in path_of(descriptor):
            assert go_on.wait(20)
        flush(descriptor)

    async def send(port: int, *to: str) -> None:
        async with connected(port) as client:
            assert (await client.send(to=to)).code == 250

    monkeypatch.setattr(os, "fsync", slow)
    try:
        async with running(Mailbox(tmp_path, per_recipient=True)) as port:
            tasks = [
                asyncio.create_task(send(port, "slow@x.example", *others))
                for others in [["with@x.example"], *[[]] * 39]
            ]
            await until(lambda: "slow@x.example" in names(tmp_path))
            await until(lambda: len(leftovers(tmp_path / "slow@x.example")) == 8)
            for _ in range(10):
                await send(port, "fast@x.example", "with@x.example")
            await asyncio.to_thread(lambda: None)
            assert not any(task.done() for task in tasks)
            go_on.set()
            await asyncio.gather(*tasks)
    finally:
        go_on.set()
    assert len(files(tmp_path / "slow@x.example")) == 40


@pytest.mark.parametrize("to", [RECIPIENTS, RECIPIENTS[:1]])
async def test_cancelled_at_any_step_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: list[str]
) -> None:
    """Cancelled when a file or folder is flushed: the first, the second..."""
    flush = os.fsync
    loop = asyncio.get_running_loop()
    for step in range(len(to) * 2):
        folder = tmp_path / str(step)
        handler = Mailbox(folder, per_recipient=True)
        for name in to:
            Delivery(folder / name, b"").commit([HELLO])
        handler.reset()
        envelope = Envelope()
        envelope.rcpt_tos.extend(to)
        task = asyncio.create_task(
            handler.handle_STREAM(SMTP(handler), Session(), envelope, chunks(HELLO))
        )
        steps = itertools.count()

        def flush_and_cancel(
            descriptor: int,
            steps: "itertools.count[int]" = steps,
            step: int = step,
            task: "asyncio.Task[object]" = task,
        ) -> None:
            if next(steps) == step:
                loop.call_soon_threadsafe(task.cancel)
                done = threading.Event()
                loop.call_soon_threadsafe(done.set)
                assert done.wait(20)
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", flush_and_cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        # One folder alone gets it if it was whole by then.
        assert len(everything(folder)) in ({0} if len(to) > 1 else {0, 1})


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_in_any_parts(tmp_path: Path) -> None:
    content = b" x\r\nReturn-Path: body\r\n"
    handler = Mailbox(tmp_path)
    parts = [b"", *(content[at : at + 1] for at in range(len(content)))]
    reply = await handler.handle_STREAM(SMTP(handler), Session(), Envelope(), chunks(*parts))
    assert str(reply) == "250 2.0.0 OK"
    [path] = files(tmp_path)
    assert path.read_bytes().endswith(b"\r\n\r\n" + content)


async def test_without_recipients_nothing_is_answered_250(tmp_path: Path) -> None:
    handler = Mailbox(tmp_path, per_recipient=True)
    reply = await handler.handle_STREAM(SMTP(handler), Session(), Envelope(), chunks(HELLO))
    assert str(reply).startswith("451 4.3.0 ")


async def test_records_tell_session_and_peer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bart@example.com").touch()
    async with session(Mailbox(tmp_path, per_recipient=True)) as client:
        assert (await client.send()).code == 451
    [record] = [each for each in caplog.records if each.name == "smtp_handlers"]
    assert (record.levelno, vars(record)["peer"]) == (logging.ERROR, "127.0.0.1")
    assert record.getMessage().startswith(f"[{vars(record)['session']}] Cannot store a message in")


@pytest.mark.parametrize("host", ["müller-pc", "a/b:c", "x" * 300, "a\udcff"])
def test_file_names_are_plain_whatever_the_machine_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    Delivery(tmp_path, b"").commit([HELLO])
    [path] = files(tmp_path)
    assert re.fullmatch(r"[A-Za-z0-9.\\-]{1,255}", path.name)
