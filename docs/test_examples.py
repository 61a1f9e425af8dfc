"""Each program in docs/examples, run as its reader would run it, with smtplib as its client."""

import ast
import mailbox
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer

import pytest
from tests.handlers.upstreams import make_certificate

from smtp_handlers import Mailbox
from smtp_server import Controller, testing

EXAMPLES = Path(__file__).parent / "examples"
MAIL = "Subject: Hello\r\n\r\nHi Bart!\r\n..two dots\r\n"


@contextmanager
def running(
    name: str, *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The example's process, and the port that it printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )
    deadline = Timer(30, process.kill)  # then whatever is being waited for ends with an error
    deadline.start()
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"Listening on port (\d+)\n", line)
            assert match, line or process.communicate()[1]
            yield process, int(match[1])
        finally:
            deadline.cancel()
            process.kill()


@pytest.mark.parametrize("program", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_first_line_is_a_sentence_about_what_it_shows(program: Path) -> None:
    docstring = ast.get_docstring(ast.parse(program.read_text("utf-8"))) or ""
    first, *rest = docstring.splitlines()
    assert re.fullmatch(r"[A-Z].*\.", first), first
    assert rest[:1] in ([], [""])
    if not program.name.startswith("test_"):
        assert re.search(r"\b(Ctrl-C|Enter) stops it\.", docstring), "it says how to end it"


@contextmanager
def client(port: int) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("localhost", port, timeout=10) as smtp:
        yield smtp


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    """What the process prints, up to the line ``last``."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == last:
            return lines
    raise AssertionError(f"ended after {lines}")


def press_enter(process: subprocess.Popen[str]) -> None:
    """End the example as its user would, and see that it ends well."""
    output, errors = process.communicate("\n")
    assert (process.returncode, output, errors) == (0, "", "")


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'running\(\s*"(\w+\.py)"', Path(__file__).read_text("utf-8")))
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    # Those that are tests are run as such.
    assert {name for name in programs if not name.startswith("test_")} == tested


def test_blocking_server() -> None:
    with running("blocking_server.py") as (process, port):
        for _ in range(2):  # one client after the other
            with client(port) as smtp:
                smtp.sendmail("anne@example.com", ["bart@example.com", "c@example.com"], MAIL)
                assert smtp.esmtp_features["size"] == "33554432"
                # The transaction is over, and what is out of order is refused.
                assert smtp.docmd("DATA")[0] == 503
                assert smtp.docmd("NONSENSE")[0] == 502
            assert lines_until(process, "")[0] == "Subject: Hello"
            assert lines_until(process, "") == ["Hi Bart!", "..two dots", ""]


def test_blocking_server_outlives_a_client_that_is_gone() -> None:
    with running("blocking_server.py") as (_, port):
        client_ = smtplib.SMTP("localhost", port, timeout=10)
        client_.close()
        with client(port) as smtp:
            assert smtp.noop()[0] == 250


def test_print_mail() -> None:
    with running("print_mail.py") as (process, port):
        with client(port) as smtp:
            smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                smtp.sendmail("anne@example.com", ["c@example.net"], MAIL)
        assert caught.value.recipients == {
            "c@example.net": (550, b"not relaying to that domain"),
        }
        assert lines_until(process, "End of message") == [
            "Message from anne@example.com",
            "Message for ['bart@example.com']",
            "Message data:",
            "",
            *MAIL.split("\r\n"),
            "End of message",
        ]
        press_enter(process)


def test_custom_verb() -> None:
    with running("custom_verb.py") as (process, port):
        with client(port) as smtp:
            assert smtp.docmd("PING") == (250, b"PONG")
            assert smtp.docmd("ping", "me") == (250, b"PONG me")
            assert smtp.docmd("WHOAMI")[1].startswith(b"nobody at ")
            smtp.ehlo("me.example")
            assert smtp.docmd("WHOAMI")[1].startswith(b"me.example at ")
            assert smtp.docmd("HELP", "ping") == (214, b"Syntax: PING [text]")
            assert smtp.docmd("PONG")[0] == 500
        press_enter(process)


def test_inside_asyncio() -> None:
    with running("inside_asyncio.py") as (process, port):
        with client(port) as smtp:
            smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
        expected = "anne@example.com writes about Hello"
        assert lines_until(process, expected) == [expected]


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """End the example as its user would, and see that it ends well."""
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, "", "")


def test_catch_all(tmp_path: Path) -> None:
    with running("catch_all.py", str(tmp_path)) as (process, port):
        with client(port) as smtp:
            to = ["bart@example.com", "Lisa@sub.example.com"]
            smtp.sendmail("anne@example.com", to, MAIL)
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("anne@example.com", ["c@example.net"], MAIL)
        press_ctrl_c(process)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bart@example.com",
        "lisa@sub.example.com",
    ]
    [message] = mailbox.Maildir(tmp_path / "lisa@sub.example.com", create=False)
    assert message["Delivered-To"] == "Lisa@sub.example.com"
    assert message["Subject"] == "Hello"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_authenticated_relay(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with (
        Controller(Mailbox(tmp_path / "mail"), port=0) as behind,
        running(
            "authenticated_relay.py",
            str(certificate),
            f"smtp://localhost:{behind.port}?tls=off",
            RELAY_PASSWORD="secret",
        ) as (process, port),
    ):
        with client(port) as smtp:
            smtp.starttls(context=ssl.create_default_context(cafile=certificate))
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                smtp.sendmail("anne@example.com", ["bart@example.net"], MAIL)
            smtp.login("anne", "secret")
            smtp.sendmail("anne@example.com", ["bart@example.net"], MAIL)
        press_ctrl_c(process)
    [message] = mailbox.Maildir(tmp_path / "mail", create=False)
    hops = message.get_all("Received", [])
    assert ["with ESMTPSA" in hop for hop in hops] == [False, True]


def test_inbound_hook() -> None:
    with running("inbound_hook.py") as (process, port):
        with client(port) as smtp:
            smtp.sendmail("anne@example.com", ["Support@example.com"], MAIL)
            line = "anne@example.com asks about Hello: Hi Bart!"
            assert lines_until(process, "..two dots") == [line, "..two dots"]
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("anne@example.com", ["nobody@example.com"], MAIL)
            smtp.sendmail("", ["tickets@example.com"], MAIL)
            odd = "Subject: Odd\r\nContent-Type: text/plain; charset=no-such\r\n\r\nHi!\r\n"
            smtp.sendmail("anne@example.com", ["tickets@example.com"], odd)
            line = "anne@example.com asks about Odd: Hi!"
            assert lines_until(process, line) == [line]
            deep = "".join(
                f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n"
                for number in range(1000)
            )
            with pytest.raises(smtplib.SMTPDataError, match="554"):
                smtp.sendmail("anne@example.com", ["tickets@example.com"], deep)
            with pytest.raises(smtplib.SMTPDataError, match="451"):
                smtp.sendmail("anne@example.com", ["tickets@example.com"], "\r\n\r\nexplode\r\n")
            line = "failed: RuntimeError('the database is away')"
            assert lines_until(process, line) == [line]
        press_ctrl_c(process)


@pytest.mark.parametrize("name", ["trio_server.py", "threaded_server.py"])
def test_several_clients_at_once(name: str) -> None:
    with running(name) as (process, port), ExitStack() as stack:
        clients = [stack.enter_context(client(port)) for _ in range(3)]
        for smtp in clients:
            smtp.ehlo_or_helo_if_needed()
            assert smtp.mail("anne@example.com")[0] == 250
        for smtp in reversed(clients):
            assert smtp.rcpt("bart@example.com")[0] == 250
        for number, smtp in enumerate(clients):
            assert smtp.data(f"Subject: {number}\r\n\r\nHi\r\n")[0] == 250
            assert f"Subject: {number}" in lines_until(process, "Hi")
            assert smtp.docmd("DATA")[0] == 503
            assert smtp.docmd("VRFY bart")[0] == 252
            assert smtp.docmd("NONSENSE")[0] == 500
            assert smtp.rset()[0] == smtp.noop()[0] == 250


@pytest.mark.parametrize("name", ["trio_server.py", "threaded_server.py"])
def test_a_client_that_is_gone_is_none_of_the_others_business(name: str) -> None:
    with running(name) as (_, port), client(port) as other:
        for text in (b"EHLO c\r\nMAIL FROM:<a@b>\r\n", b"\x16\x03\x01"):
            with socket.create_connection(("localhost", port), timeout=10) as broken:
                broken.sendall(text)
                linger = struct.pack("ii", 1, 0)  # a reset, not an orderly end
                broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        assert other.noop()[0] == 250


def test_trio_server_takes_chunks_and_its_own_mail_alone() -> None:
    with running("trio_server.py") as (process, port), client(port) as smtp:
        smtp.ehlo("c")
        assert smtp.has_extn("chunking")
        assert smtp.esmtp_features["limits"] == "RCPTMAX=100"
        smtp.mail("anne@example.com")
        assert smtp.rcpt("c@example.net") == (550, b"5.7.1 No relaying")
        assert smtp.rcpt("bart@example.com")[0] == 250
        smtp.send(b"BDAT 4\r\nabcdBDAT 6 LAST\r\nef\r\n.\n")
        assert [smtp.getreply()[0] for _ in range(2)] == [250, 250]
        expected = ["From anne@example.com to bart@example.com", "abcdef", "."]
        assert lines_until(process, ".") == expected


def test_threaded_server_with_tls() -> None:
    kit = Path(testing.__file__).parent
    certificate, key = str(kit / "localhost.pem"), str(kit / "localhost-key.pem")
    with running("threaded_server.py", certificate, key) as (process, port), client(port) as smtp:
        smtp.ehlo("c")
        assert smtp.starttls(context=ssl.create_default_context(cafile=certificate))[0] == 220
        assert smtp.docmd("MAIL FROM:<a@b>")[0] == 503
        smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
        assert not smtp.has_extn("starttls")
        assert lines_until(process, "Hi Bart!") == ["Subject: Hello", "", "Hi Bart!"]
