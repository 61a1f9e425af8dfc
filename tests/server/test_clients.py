"""Clients: real ones deliver, and what arrives is what they sent."""

import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiosmtplib
import pytest
from tests.server.support import DEADLINE, Keeper

from smtp_server import Controller

HEADERS = b"From: anne@example.com\r\nTo: bart@example.com\r\nSubject: Hello\r\n"
SENDER = "anne@example.com"
ONE = ["bart@example.com"]
TWO = ["bart@example.com", "chris@example.net"]
LINE = b"0123456789abcdefghijklmnopqrstuvwxyz .,;:-_#+*'?=)(/&%$!<>|^~@\r\n"

PLAIN = HEADERS + b"\r\nHi Bart\r\n"
EIGHT_BIT = HEADERS + b"\r\n" + "grüße €\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n"
DOTS = HEADERS + b"\r\n.\r\n..\r\n.dot\r\n..dots\r\n...\r\n.\r\nend.\r\n"
LARGE = HEADERS + b"\r\n" + LINE * (20 * 1024 * 1024 // len(LINE))


@dataclass
class Target:
    """Where the clients deliver to."""

    controller: Controller
    keeper: Keeper
    folder: Path
    #: What the client has added of its own.
    added: bytes = b""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.controller.hostname, self.controller.port

    def arrived(self, sender: str, recipients: list[str]) -> bytes:
        """The content of the one message that came, which went where it should."""
        (envelope,) = self.keeper.envelopes
        assert envelope.mail_from == sender
        assert envelope.rcpt_tos == recipients
        assert envelope.content.endswith(self.added)
        return envelope.content.removesuffix(self.added)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    keeper = Keeper()
    with Controller(keeper, "127.0.0.1", 0, timeout=DEADLINE) as controller:
        yield Target(controller, keeper, tmp_path)
    assert {session.id for session in keeper.gone} == {session.id for session in keeper.sessions}
    assert len(keeper.gone) == len(keeper.sessions)


Deliver = Callable[[Target, str, list[str], bytes], None]


def run(program: str, *args: str | Path, folder: Path) -> None:
    """Run a client, which must be satisfied."""
    path = shutil.which(program, path=None) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run(
        [path, *args], cwd=folder, capture_output=True, timeout=4 * DEADLINE, check=False
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])


def by_smtplib(target: Target, sender: str, recipients: list[str], content: bytes) -> None:
    """The client of the standard library."""
    with smtplib.SMTP(*target.address, "client.test", timeout=DEADLINE) as client:
        international = not "".join([sender, *recipients]).isascii()
        options = ["SMTPUTF8", "BODY=8BITMIME"] if international else ["BODY=8BITMIME"]
        assert client.sendmail(sender, recipients, content, options) == {}


async def deliver_by_aiosmtplib(
    target: Target, sender: str, recipients: list[str], content: bytes
) -> None:
    """The one for asyncio."""
    host, port = target.address
    client = aiosmtplib.SMTP(hostname=host, port=port, timeout=DEADLINE, start_tls=False)
    async with client:
        international = not "".join([sender, *recipients]).isascii()
        options = ["SMTPUTF8", "BODY=8BITMIME"] if international else ["BODY=8BITMIME"]
        refused, _ = await client.sendmail(sender, recipients, content, mail_options=options)
        assert refused == {}


def by_swaks(target: Target, sender: str, recipients: list[str], content: bytes) -> None:
    """The Swiss army knife; it sends line ends as CR LF, and one more at the end."""
    data = target.folder / "data"
    data.write_bytes(content.removesuffix(b"\r\n").replace(b"\r\n", b"\n") or b"\n")
    host, port = target.address
    run(
        "swaks",
        *("--server", host, "--port", str(port), "--helo", "client.test", "--suppress-data"),
        *("--from", sender, "--to", ",".join(recipients), "--data", f"@{data}"),
        folder=target.folder,
    )


def by_curl(target: Target, sender: str, recipients: list[str], content: bytes) -> None:
    """curl, which sends the file as it is, dots doubled."""
    data = target.folder / "data"
    data.write_bytes(content)
    host, port = target.address
    to = [word for recipient in recipients for word in ("--mail-rcpt", recipient)]
    url = f"smtp://{host}:{port}/client.test"
    run(
        "curl",
        *("--silent", "--show-error", url, "--mail-from", sender, *to, "--upload-file", str(data)),
        folder=target.folder,
    )


def by_smtp_source(target: Target, sender: str, recipients: list[str], content: bytes) -> None:
    """Postfix's source of test messages; it adds an empty line at the end."""
    (recipient,) = recipients
    target.added = b"\r\n"
    data = target.folder / "data"
    data.write_bytes(content.replace(b"\r\n", b"\n"))
    host, port = target.address
    run(
        "smtp-source",
        *("-M", "client.test", "-f", sender, "-t", recipient, "-F", str(data), f"{host}:{port}"),
        folder=target.folder,
    )


CLIENTS = pytest.mark.parametrize("deliver", [by_smtplib, by_swaks, by_curl, by_smtp_source])


@CLIENTS
@pytest.mark.parametrize("content", [PLAIN, EIGHT_BIT, DOTS], ids=["plain", "8-bit", "dots"])
def test_a_message(target: Target, deliver: Deliver, content: bytes) -> None:
    deliver(target, SENDER, ONE, content)
    assert target.arrived(SENDER, ONE) == content


@pytest.mark.parametrize("content", [PLAIN, EIGHT_BIT, DOTS], ids=["plain", "8-bit", "dots"])
async def test_a_message_by_aiosmtplib(target: Target, content: bytes) -> None:
    await deliver_by_aiosmtplib(target, SENDER, ONE, content)
    assert target.arrived(SENDER, ONE) == content


@CLIENTS
def test_a_large_message(target: Target, deliver: Deliver) -> None:
    deliver(target, SENDER, ONE, LARGE)
    # Compared by hand: the difference of two such messages is not to be printed.
    same = target.arrived(SENDER, ONE) == LARGE
    assert same


async def test_a_large_message_by_aiosmtplib(target: Target) -> None:
    await deliver_by_aiosmtplib(target, SENDER, ONE, LARGE)
    same = target.arrived(SENDER, ONE) == LARGE
    assert same


@pytest.mark.parametrize("deliver", [by_smtplib, by_swaks, by_curl])
def test_two_recipients(target: Target, deliver: Deliver) -> None:
    deliver(target, SENDER, TWO, PLAIN)
    assert target.arrived(SENDER, TWO) == PLAIN


async def test_two_recipients_by_aiosmtplib(target: Target) -> None:
    await deliver_by_aiosmtplib(target, SENDER, TWO, PLAIN)
    assert target.arrived(SENDER, TWO) == PLAIN


def test_two_recipients_by_smtp_source(target: Target) -> None:
    host, port = target.address
    run(
        "smtp-source",
        *("-f", SENDER, "-t", "bart@example.com", "-r", "2", "-N", f"{host}:{port}"),
        folder=target.folder,
    )
    (envelope,) = target.keeper.envelopes
    assert len(envelope.rcpt_tos) == 2
    assert len(envelope.recipients) == 2


# An empty message: some of them send a line end all the same.


@pytest.mark.parametrize(
    ("deliver", "arrived"), [(by_smtplib, {b"\r\n"}), (by_curl, {b"", b"\r\n"})]
)
def test_an_empty_message(target: Target, deliver: Deliver, arrived: set[bytes]) -> None:
    deliver(target, SENDER, ONE, b"")
    assert target.arrived(SENDER, ONE) in arrived


async def test_an_empty_message_by_aiosmtplib(target: Target) -> None:
    await deliver_by_aiosmtplib(target, SENDER, ONE, b"")
    assert target.arrived(SENDER, ONE) in {b"", b"\r\n"}


@pytest.mark.parametrize("deliver", [by_swaks, by_smtp_source])
def test_a_message_of_one_empty_line(target: Target, deliver: Deliver) -> None:
    deliver(target, SENDER, ONE, b"\r\n")
    assert target.arrived(SENDER, ONE) in {b"\r\n", b"\r\n\r\n"}


# Addresses beyond ASCII.


@pytest.mark.parametrize("deliver", [by_smtplib, by_curl])
def test_an_address_in_utf8(target: Target, deliver: Deliver) -> None:
    sender, recipients = "änne@example.com", ["bärt@example.com"]
    deliver(target, sender, recipients, PLAIN)
    assert target.arrived(sender, recipients) == PLAIN
    assert target.keeper.envelopes[0].smtp_utf8


async def test_an_address_in_utf8_by_aiosmtplib(target: Target) -> None:
    sender, recipients = "änne@example.com", ["bärt@example.com"]
    await deliver_by_aiosmtplib(target, sender, recipients, PLAIN)
    assert target.arrived(sender, recipients) == PLAIN
    assert target.keeper.envelopes[0].smtp_utf8


# Many of them.


def test_many_messages_over_many_connections(target: Target) -> None:
    host, port = target.address
    run(
        "smtp-source",
        *("-c", "-s", "10", "-m", "200", "-l", "5000", "-f", SENDER, "-t", ONE[0]),
        f"{host}:{port}",
        folder=target.folder,
    )
    envelopes = target.keeper.envelopes
    assert len(envelopes) == 200
    assert all(len(envelope.content) >= 5000 for envelope in envelopes)


def test_many_messages_over_one_connection(target: Target) -> None:
    with smtplib.SMTP(*target.address, "client.test", timeout=DEADLINE) as client:
        for number in range(100):
            client.sendmail(f"{number}@example.com", ONE, PLAIN)
    assert [envelope.mail_from for envelope in target.keeper.envelopes] == [
        f"{number}@example.com" for number in range(100)
    ]
