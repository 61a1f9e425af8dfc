"""Each program in docs/examples, run as its reader would run it, with smtplib as its client."""

import ast
import base64
import json
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
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import ClassVar

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
    deadline = Timer(120, process.kill)  # then whatever is being waited for ends with an error
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
    with running("custom_verb.py", TOKEN="12345") as (process, port):
        with client(port) as smtp:
            assert smtp.docmd("PING") == (250, b"PONG")
            assert smtp.docmd("ping", "me") == (250, b"PONG me")
            assert smtp.docmd("WHOAMI")[1].startswith(b"nobody at ")
            smtp.ehlo("me.example")
            assert smtp.docmd("WHOAMI")[1].startswith(b"me.example at ")
            assert smtp.docmd("PONG")[0] == 500
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
            assert smtp.docmd("AUTH", "X-TOKEN *5")[0] == 501
            assert smtp.docmd("AUTH", f"X-TOKEN {base64.b64encode(b'54321').decode()}")[0] == 535
            assert smtp.docmd("AUTH", "X-TOKEN") == (334, base64.b64encode(b"Token:"))
            assert smtp.docmd(base64.b64encode(b"12345").decode())[0] == 235
            assert smtp.docmd("WHOAMI")[1].startswith(b"robot at ")
            assert smtp.docmd("HELP", "ping") == (214, b"Syntax: PING [text]")
            smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
        press_enter(process)


def test_custom_verb_without_a_token_lets_nobody_in() -> None:
    with running("custom_verb.py", TOKEN="") as (_, port), client(port) as smtp:
        smtp.ehlo("me.example")
        assert smtp.docmd("AUTH", "X-TOKEN =")[0] == 501
        assert smtp.docmd("AUTH", "X-TOKEN") == (334, base64.b64encode(b"Token:"))
        assert smtp.docmd("")[0] == 535


class Hooks(BaseHTTPRequestHandler):
    """A web server for the forwarder: the subject of a mail is the status that it answers."""

    bodies: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        self.send_response(int(body["subject"]))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_webhook_forwarder() -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Hooks) as web,
        running("webhook_forwarder.py", f"http://127.0.0.1:{web.server_port}/") as (process, port),
    ):
        serving = Thread(target=web.serve_forever)
        serving.start()
        try:
            with client(port) as smtp:
                codes = []
                for status in (200, 202, 400, 422, 401, 503):
                    smtp.ehlo_or_helo_if_needed()
                    smtp.mail("anne@example.com")
                    smtp.rcpt("bart@example.com")
                    odd = "Content-Type: text/plain; charset=no-such"
                    codes.append(smtp.data(f"Subject: {status}\r\n{odd}\r\n\r\nHi!\r\n")[0])
        finally:
            web.shutdown()
            serving.join()
        web.server_close()
        with client(port) as smtp, pytest.raises(smtplib.SMTPDataError, match="451"):
            smtp.sendmail("anne@example.com", ["bart@example.com"], MAIL)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        assert (process.returncode, errors.startswith("failed: ")) == (0, True), errors
    assert codes == [250, 250, 554, 554, 451, 451]
    assert Hooks.bodies[0] == {
        "from": "anne@example.com",
        "to": ["bart@example.com"],
        "subject": "200",
        "text": "Hi!\n",
    }


def with_attachments(*names: str) -> str:
    message = EmailMessage()
    message["Subject"] = "Files"
    message.set_content("Here they are.\n")
    for name in names:
        message.add_attachment(f"this is {name}".encode(), "x", "y", filename=name)
    return message.as_string()


def test_attachment_saver(tmp_path: Path) -> None:
    names = [
        "a.txt",
        "a.txt",
        "../../up.txt",
        "..",
        ".hidden",
        "C:\\x\\c.exe",
        "€ 1/ä b.pdf",
        "x" * 300,
    ]
    with running("attachment_saver.py", str(tmp_path)) as (process, port):
        with client(port) as smtp:
            smtp.sendmail("anne@example.com", ["b@example.com"], with_attachments(*names))
            expected = f"anne@example.com sends {'x' * 50}"
            assert len(lines_until(process, expected)) == len(names)
            smtp.sendmail("anne@example.com", ["b@example.com"], MAIL)
        press_ctrl_c(process)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {
        "a.txt": "this is a.txt",
        "a-1.txt": "this is a.txt",
        "up.txt": "this is ../../up.txt",
        "attachment": "this is ..",
        "hidden": "this is .hidden",
        "c.exe": "this is C:\\x\\c.exe",
        "ä_b.pdf": "this is € 1/ä b.pdf",
        "x" * 50: f"this is {'x' * 300}",
    }
    assert [path for path in tmp_path.parent.iterdir() if path.name == "up.txt"] == []


def test_attachment_saver_has_no_room(tmp_path: Path) -> None:
    with (
        running("attachment_saver.py", str(tmp_path / "no such folder")) as (_, port),
        client(port) as smtp,
        pytest.raises(smtplib.SMTPDataError, match="452"),
    ):
        smtp.sendmail("anne@example.com", ["b@example.com"], with_attachments("a.txt"))


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
