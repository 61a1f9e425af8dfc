"""Every option, key of the file and variable: what a real process does differently with it."""

import base64
import contextlib
import os
import re
import signal
import smtplib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from tests.server.support import DEADLINE, SHORT
from tests.server.test_cli import CERTIFICATE, HERE, KEY, Running, Starter, needs_root, one_line

from smtp_server.command.arguments import make_parser
from smtp_server.command.options import KEYWORDS
from smtp_server.command.table import OPTIONS
from smtp_server.settings import Settings

PROBE = '''
import asyncio, os, threading
from smtp_protocol import AuthResult
from smtp_server import Observer

class Probe:
    """Tells what it was given.

    Args:
        word: A word to say.
    """

    def __init__(self, words):
        self.words = words

    @classmethod
    def from_cli(cls, parser, *args, word: str = "nothing", loud: bool = False):
        return cls([*args, word.upper() if loud else word])

    async def handle_NOOP(self, server, session, envelope, arg):
        match arg:
            case "loop":
                return f"250 {type(asyncio.get_running_loop()).__module__}"
            case "slow":
                await asyncio.Event().wait()
            case "auth":
                return f"250 {session.auth_data}"
            case "words":
                return f"250 {self.words}"
            case "uid":
                return f"250 {os.getuid()}"
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        return f"250 {type(envelope.text).__name__}"

def decide(server, session, envelope, mechanism, auth_data):
    right = auth_data.password == b"secret"
    where = threading.current_thread() is threading.main_thread()
    return AuthResult(success=right, auth_data=f"in the main thread: {where}")

def right(mechanism, login, password):
    return password == b"secret"

def factory(*words):
    return Probe([*words, "of a factory"])

instance = Probe(["of an instance"])

class Printing(Observer):
    def replied(self, session, event, reply):
        print("observed:", event, flush=True)

observer = Printing()
'''


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)
    yield starter
    for running in starter.running:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


class Talk:
    """One session, line by line."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(address)
        self.file = self.sock.makefile("rwb", buffering=0)

    def reply(self) -> str:
        """The next reply, its lines joined; empty at the end."""
        lines = []
        with contextlib.suppress(ConnectionResetError):
            while line := self.file.readline().decode().rstrip("\r\n"):
                lines.append(line)
                if line[3:4] != "-":
                    break
        return "\n".join(lines)

    def ask(self, line: str) -> str:
        self.file.write(line.encode() + b"\r\n")
        return self.reply()

    def tell(self, *lines: str) -> str:
        """Say several lines; the last reply."""
        return [self.ask(line) for line in lines][-1]

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@contextlib.contextmanager
def talk(running: Running, *lines: str, greeted: bool = True) -> Iterator[Talk]:
    session = Talk(running.addresses[0])
    try:
        if greeted:
            session.reply()
        for line in lines:
            session.ask(line)
        yield session
    finally:
        session.close()


def answer(*lines: str) -> Callable[[Running], str]:
    """Observe the reply to the last of some lines, and one more if the last of them is empty."""

    def observe(running: Running) -> str:
        with talk(running) as session:
            if lines[-1]:
                return session.tell(*lines)
            session.tell(*lines[:-1])
            return session.reply()

    return observe


def greeting(running: Running) -> str:
    with talk(running, greeted=False) as session:
        return session.reply()


def third_connection(running: Running) -> str:
    with talk(running), talk(running), talk(running, greeted=False) as session:
        return session.reply()


def no_answer(line: str, *before: str) -> Callable[[Running], str]:
    def observe(running: Running) -> str:
        with talk(running, *before) as session:
            session.sock.settimeout(SHORT)
            try:
                return session.ask(line)
            except TimeoutError:
                return "silence"

    return observe


def early_talker(running: Running) -> str:
    with talk(running, greeted=False) as session:
        return session.ask("EHLO early")


def by_proxy(*addresses: str) -> Callable[[Running], str]:
    """The greetings of some clients behind a proxy, at the same time."""

    def observe(running: Running) -> str:
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(talk(running, greeted=False)) for _ in addresses]
            return " ".join(
                session.ask(f"PROXY TCP6 {address} ::1 1000 25")[:3]
                for session, address in zip(sessions, addresses, strict=True)
            )

    return observe


def silent_handshake(running: Running) -> str:
    with talk(running, greeted=False) as session:
        return session.reply() or "closed"


def printed(text: str) -> Callable[[Running], str]:
    def observe(running: Running) -> str:
        with talk(running, "NOOP"):
            running.wait_for(lambda: text in running.out.read_text())
        return text

    return observe


def logged(text: str) -> Callable[[Running], str]:
    def observe(running: Running) -> str:
        with talk(running, "NOOP"):
            running.wait_for(lambda: text in running.err.read_text())
        return text

    return observe


PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0anne\0secret").decode()
WRONG = "AUTH PLAIN " + base64.b64encode(b"\0anne\0wrong").decode()
MAIL = "MAIL FROM:<a@x.example>"
RCPT = "RCPT TO:<b@x.example>"
HELLO = "EHLO client.test"


@dataclass(frozen=True)
class Effect:
    """What one option does: it is given a value, and then something can be seen.

    Args:
        option: Its name.
        value: Its value in TOML; on the command line it is written as text.
        observe: Looks.
        expected: A pattern that is found in what is seen.
    """

    option: str
    value: object
    observe: Callable[[Running], str] = lambda _: ""
    expected: str = ""


E = Effect

#: What can be seen in one process. Those that only make others possible have nothing to observe.
PROCESSES: dict[str, list[Effect]] = {
    "words": [
        E("class", "probe.Probe"),
        E("arguments", ["one", "two"], answer("NOOP words"), r"\['one', 'two', 'nothing'\]"),
        E("size", 12345, answer(HELLO), "SIZE 12345\n"),
        E("smtputf8", True, answer(HELLO), "SMTPUTF8"),
        E("decode-data", True, answer(HELLO, MAIL, RCPT, "DATA", "."), "250 str"),
        E("hostname", "mx.example", greeting, "220 mx.example "),
        E("ident", "Hello there", greeting, " Hello there$"),
        E("extensions", ["PIPELINING", "DSN"], answer(HELLO), "PIPELINING(.|\n)*DSN"),
        E("address-syntax", "local", answer(HELLO, MAIL, "RCPT TO:<root>"), "^250"),
        E("bare-newline", "reject", answer(HELLO, MAIL, RCPT, "DATA", "a\nb\r\n."), "^5"),
        E(
            "line-length-limit",
            50,
            answer(HELLO, MAIL, RCPT, "DATA", f"{'x' * 60}\r\n."),
            "500 .*[Ll]ine too long",
        ),
        E("max-recipients", 2, answer(HELLO, MAIL, RCPT, RCPT, RCPT), "^452 "),
        E("max-recipient-domains", 1, answer(HELLO, MAIL, RCPT, "RCPT TO:<b@y.example>"), "^452 "),
        E("max-messages", 1, answer(HELLO, MAIL, RCPT, "DATA", ".", MAIL), "^452 "),
        E("max-errors", 3, answer(HELLO, "A", "B", "C", ""), "421 .*Too many errors"),
        E("command-call-limit", {"RSET": 2, "*": 100}, answer(*["RSET"] * 3), "421 .*too often"),
        E("handler-timeout", SHORT, answer(HELLO, "NOOP slow"), "^451 "),
        E("trusted-relays", ["127.0.0.1"], answer(HELLO), "XCLIENT"),
        E("loop", "uvloop", answer("NOOP loop"), "250 uvloop"),
        E("observer", "probe:observer", printed("observed: Noop"), "Noop"),
        E("debug", 2, logged("smtp_server.commands"), "commands"),
    ],
    "who": [
        E("class", "probe:Probe"),
        E("authenticator", "probe.decide", answer(HELLO, WRONG), "421|535"),
        E("auth-in-thread", True, answer(HELLO, PLAIN, "NOOP auth"), "main thread: False"),
        E("auth-require-tls", False, answer(HELLO), "AUTH"),
        E("auth-required", True, answer(HELLO, MAIL), "^530 5.7.0 Authentication"),
        E("auth-mechanisms", ["PLAIN", "LOGIN", "XOAUTH2"], answer(HELLO), "XOAUTH2"),
        E("auth-exclude", ["LOGIN"], answer(HELLO), "AUTH PLAIN XOAUTH2\n"),
        E("max-auth-failures", 1, answer(HELLO, WRONG), "^421"),
        E("auth-failure-delay", 0),
    ],
    "times": [
        E("timeout", SHORT, lambda running: answer("NOOP")(running) and idle(running), "421 4.4.2"),
        E("max-connections", 2, third_connection, "421 .*Too many connections"),
        E("tlscert", CERTIFICATE, answer(HELLO), "STARTTLS"),
        E("tlskey", KEY),
        E("requiretls", False, answer(HELLO, MAIL), "^250"),
    ],
    "times in a message": [
        E("data-timeout", SHORT, answer(HELLO, MAIL, RCPT, "DATA", "no end"), "421 4.4.2"),
        E("greeting-delay", SHORT, early_talker, "421 .*Wait for the greeting"),
        E("auth-callback", "probe:right", answer(HELLO), "AUTH"),
        E("auth-require-tls", False),
        E("auth-failure-delay", 600, no_answer(WRONG, HELLO), "silence"),
    ],
    "behind a proxy": [
        E("proxy-protocol", 30, by_proxy("2001:db8::1"), "220"),
        E("trusted-proxies", ["127.0.0.1"], by_proxy("2001:db8::1"), "220"),
        E("max-connections-per-host", 1, by_proxy("2001:db8::1", "3001:db8::1"), "220 220"),
        E("ipv6-prefix", 32, by_proxy("2001:db8:1::1", "2001:db8:2::1"), "220 421"),
    ],
    "no proxy is trusted": [
        E("proxy-protocol", 30),
        E("trusted-proxies", ["192.0.2.1"], by_proxy("2001:db8::1"), "^$"),
    ],
    "TLS from the beginning": [
        E("smtpscert", CERTIFICATE),
        E("smtpskey", KEY),
        E("tls-handshake-timeout", SHORT, silent_handshake, "closed"),
    ],
    "LMTP": [E("lmtp", True, answer("LHLO client.test"), "^250")],
    "chaos": [
        E("chaos", ["NOOP:100%:450 4.0.0 Chaos", "VRFY:100%:cut"], answer("NOOP"), "450 4.0.0 Cha"),
        E("chaos-seed", 7, answer("VRFY anne"), "^$"),
    ],
}


def idle(running: Running) -> str:
    with talk(running) as session:
        return session.reply()


#: Those that have a test of their own below, or in test_cli.py.
ELSEWHERE = {"config", "nosetuid", "user", "grace", "listen", "unix", "fd", "auth-file", "workers"}


def as_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(value)
        case dict():
            return ",".join(f"{verb}={number}" for verb, number in value.items())
    return str(value)


def as_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"'{value}'"
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{as_toml(k)} = {as_toml(v)}' for k, v in value.items())}}}"
    return str(value)


def on_the_command_line(cli: Starter, effects: list[Effect]) -> Running:
    args: list[str] = []
    arguments: list[str] = []
    for effect in effects:
        match effect.option, effect.value:
            case "arguments", list() as value:
                arguments = value
            case "chaos", list() as value:
                args += [f"--chaos={each}" for each in value]
            case "debug", int() as value:
                args += ["-d"] * value
            case name, bool() as value:
                args += [f"--{'' if value else 'no-'}{name}"]
            case name, value:
                args += [f"--{name}", as_text(value)]
    return cli.start("-n", *HERE, *args, *arguments)


def in_the_environment(cli: Starter, effects: list[Effect]) -> Running:
    for effect in effects:
        variable = f"SMTP_SERVER_{effect.option.upper().replace('-', '_')}"
        text = as_text(effect.value)
        if effect.option == "chaos":
            text = text.replace(" ", "_").replace(",", " ")
        cli.environ[variable] = text
    cli.environ |= {"SMTP_SERVER_LISTEN": "127.0.0.1:0", "SMTP_SERVER_NOSETUID": "yes"}
    return cli.start()


def in_the_file(cli: Starter, effects: list[Effect]) -> Running:
    lines = [f"{effect.option} = {as_toml(effect.value)}" for effect in effects]
    listen = "listen = '127.0.0.1:0'\nnosetuid = true"
    (cli.folder / "mail.toml").write_text("\n".join([*lines, listen, ""]))
    return cli.start("--config", "mail.toml")


SOURCES = [on_the_command_line, in_the_environment, in_the_file]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("process", PROCESSES)
def test_each_option_in_each_source(
    cli: Starter, process: str, source: Callable[[Starter, list[Effect]], Running]
) -> None:
    effects = PROCESSES[process]
    if any(effect.value == "uvloop" for effect in effects):
        pytest.importorskip("uvloop")
    if process == "chaos" and source is in_the_environment:
        effects = [E("chaos", ["NOOP:100%:delay=0", "VRFY:100%:cut"]), effects[1]]
    running = source(cli, effects)
    for effect in effects:
        seen = effect.observe(running)
        assert re.search(effect.expected, seen), f"{effect.option}: {seen!r}"
    assert running.stop() == 0


# The table.


def test_every_keyword_of_the_server_is_an_option() -> None:
    keywords = {field.name for field in fields(Settings)}
    # The first is --tlscert, the second --loop.
    assert {option.keyword for option in KEYWORDS} == keywords - {"tls_context", "loop"}


def test_every_option_is_tested() -> None:
    tested = {
        effect.option for effects in PROCESSES.values() for effect in effects if effect.expected
    }
    helpers = {"class", "auth-failure-delay", "tlskey", "smtpscert", "smtpskey"}
    assert {option.name for option in OPTIONS} - tested - helpers == ELSEWHERE


def test_names_are_unique() -> None:
    for names in ([option.name for option in OPTIONS], [o.short for o in OPTIONS if o.short]):
        assert len(names) == len(set(names))


def test_the_help_fits_a_terminal_and_shows_each_default() -> None:
    text = make_parser(OPTIONS, installed="debugging, mailbox, proxy, sink").format_help()
    assert max(map(len, text.splitlines())) <= 80
    for option in OPTIONS:
        if option.name != "arguments":
            assert f"--{option.name}" in text
    shown = len(re.findall(r"\(default:", " ".join(text.split())))
    assert shown == len(OPTIONS) - 1


# Who goes before whom.


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    cli: Starter,
) -> None:
    (cli.folder / "mail.toml").write_text(
        "hostname = 'file'\nident = 'file'\nsize = 1\nnosetuid = true\n"
        "[[listener]]\nlisten = '127.0.0.1:0'\nmax-errors = 2\nident = 'listener'\n"
        "[[listener]]\nlisten = ['127.0.0.2:0', 'lmtp://127.0.0.1:0']\nident = 'second'\nsize = 9\n"
    )
    cli.environ |= {"SMTP_SERVER_CONFIG": "mail.toml", "SMTP_SERVER_HOSTNAME": "environment"}
    cli.environ["SMTP_SERVER_SIZE"] = "2"
    running = cli.start("--size", "3")
    assert [host for host, _ in running.addresses] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    assert greeting(running) == "220 environment listener"
    assert "SIZE 3\n" in answer(HELLO)(running)
    assert answer("A", "B", "")(running).startswith("421")
    running.addresses.pop(0)
    assert greeting(running) == "220 environment second"
    assert answer("A", "B")(running).startswith("500")
    assert "SIZE 3\n" in answer(HELLO)(running)
    running.addresses.pop(0)
    assert answer("LHLO x")(running).startswith("250")
    assert running.stop() == 0
    again = cli.start("-l", "127.0.0.1:0", "-l", "smtp://127.0.0.1:0?size=7&ident=own")
    assert len(again.addresses) == 2
    assert greeting(again) == "220 environment file"
    again.addresses.pop(0)
    assert greeting(again) == "220 environment own"
    assert "SIZE 7\n" in answer(HELLO)(again)
    assert again.stop() == 0


@pytest.mark.parametrize(
    ("environ", "file", "args", "said"),
    [
        ({"AUTH_REQIRED": "1"}, "", [], "did you mean SMTP_SERVER_AUTH_REQUIRED?"),
        ({"SIZE": "big"}, "", [], "SMTP_SERVER_SIZE: expected a whole number, not 'big'"),
        ({}, "max-eror = 1", [], "mail.toml: max-eror: there is no 'max-eror'; did you mean 'max-"),
        ({}, "size = 'big'", [], "mail.toml: size: expected a whole number"),
        ({}, "smtputf8 = 1", [], "mail.toml: smtputf8: expected yes or no, not 1"),
        ({}, "size = ", [], "mail.toml is no TOML: "),
        ({}, "config = 'x'", [], "a file cannot name another one"),
        ({}, "listener = 1", [], "write [[listener]]"),
        ({}, "[[listener]]\nsize = 1", [], "listener 1: say where, with listen, unix or fd"),
        ({}, "[[listener]]\nlisten=':1'\nuser = 'x'", [], "listener 1: user: there is no 'user'"),
        ({}, "", ["-l", "smtp://:0?sise=1"], "there is no sise; did you mean size?"),
        ({}, "", ["--max-errors", "0"], "--max-errors is at least 1, or none to switch it off"),
        ({}, "", ["--extensions", "PIPELINE"], "PIPELINE"),
        ({}, "", ["--requiretls"], "--requiretls needs --tlscert"),
        ({}, "", ["-l", "smtps://:0"], "smtps:// at localhost:0 needs --smtpscert or --tlscert"),
        ({}, "", ["--loop", "trio"], "expected asyncio or uvloop, not 'trio'"),
        ({}, "", ["--chaos", "MAIL:200%:cut"], "expected a share up to 100%, not 200%"),
        ({}, "", ["--chaos", "POST:1%:cut"], "expected one of CONNECT, "),
        ({}, "", ["--chaos", "MAIL:1%:250 OK"], "or a reply from 400 on, not '250 OK'"),
        ({}, "", ["--fd", "x"], "expected the number of a descriptor, not 'x'"),
        ({}, "", ["-c", "broken"], "there is no handler 'broken'"),
        ({}, "", ["--no-such"], "unrecognized arguments: --no-such"),
        ({}, "", ["-c", "syntax.Handler"], "syntax.py, line 1"),
        ({}, "", ["-c", "probe:instance", "word"], "probe:instance takes no arguments"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Starter, environ: Mapping[str, str], file: str, args: list[str], said: str
) -> None:
    (cli.folder / "syntax.py").write_text("class Handler(:\n")
    (cli.folder / "mail.toml").write_text(file)
    cli.environ |= {f"SMTP_SERVER_{name}": value for name, value in environ.items()}
    config = ["--config", "mail.toml"] if file else []
    listen = [] if "-l" in args or "listener" in file else HERE
    status, out, err = cli.run("-n", *listen, *config, *args)
    assert (status, out) == (2, "")
    assert said in one_line(err)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config", "none.toml"], "cannot read the configuration none.toml: No such file"),
        (["--auth-file", "none"], "cannot read the users in none: No such file"),
        (["--auth-file", "users"], "users: line 2 is not name:hash; smtp-server hash-password"),
        (["--tlscert", "text"], "cannot use the certificate text: expected PEM"),
        (["--tlscert", CERTIFICATE, "--tlskey", "other.pem"], "is that of another certificate"),
        (["--fd", "99"], "cannot listen on descriptor 99: it is no socket"),
        (["--fd", "0"], "cannot listen on descriptor 0: it is no socket"),
        (["-c", "fails.Handler"], "the handler Handler cannot begin: LookupError: no database"),
        (["--auth-required"], "--auth-required needs an authenticator"),
    ],
)
def test_what_cannot_be_had_is_one_line(cli: Starter, args: list[str], said: str) -> None:
    trustme = pytest.importorskip("trustme")
    other = trustme.CA().issue_cert("other.example").private_key_pem
    other.write_to_path(cli.folder / "other.pem")
    (cli.folder / "users").write_text("# names\nanne:secret\n")
    (cli.folder / "text").write_text("hello")
    (cli.folder / "fails.py").write_text(
        "class Handler:\n"
        "    async def __aenter__(self): raise LookupError('no database')\n"
        "    async def __aexit__(self, *error): ...\n"
        "    async def handle_DATA(self, server, session, envelope): return '250 OK'\n"
    )
    status, out, err = cli.run("-n", *HERE, *args)
    assert (status, out) == (1, "")
    assert said in one_line(err)
    assert "secret" not in err


# Places.


def test_one_process_at_25_465_and_587_with_their_rules(cli: Starter) -> None:
    places = ["smtp://127.0.0.1:0", "smtps://127.0.0.1:0?auth-required", "lmtp://127.0.0.1:0"]
    options = [option for place in places for option in ("-l", place)]
    users = cli.folder / "users"
    users.write_text(entry(cli, "anne", "secret", "--scram"))
    tls = ("--tlscert", CERTIFICATE, "--tlskey", KEY, "--no-requiretls")
    running = cli.start("-n", *options, *tls, "--auth-file", str(users), "-c", "sink")
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    assert "STARTTLS" in answer(HELLO)(running)
    assert answer(HELLO, MAIL)(running).startswith("250")
    host, port = running.addresses[1]
    with smtplib.SMTP_SSL(host, port, "client.test", timeout=DEADLINE, context=trust) as client:
        client.ehlo()
        assert "starttls" not in client.esmtp_features
        assert client.docmd("MAIL", "FROM:<a@b.example>")[0] == 530
        assert client.login("anne", "secret")[0] == 235
        assert client.docmd("MAIL", "FROM:<a@b.example>")[0] == 250
    running.addresses[:2] = []
    assert answer("LHLO x")(running).startswith("250")
    assert running.stop() == 0


@pytest.mark.parametrize("form", ["--unix={}:620", "-lunix:{}:620"])
def test_a_unix_socket_and_its_mode(cli: Starter, form: str) -> None:
    path = cli.folder / "smtp.sock"
    running = Running(
        (sys.executable, "-m", "smtp_server", "-n", form.format(path)), cli.folder, cli.environ
    )
    cli.running.append(running)
    running.wait_for(lambda: f" listens on {path}" in running.err.read_text())
    assert path.stat().st_mode & 0o777 == 0o620
    session = Talk(str(path))
    assert session.reply().startswith("220 ")
    session.close()
    assert running.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("form", ["--fd={}", "-lfd:{}"])
def test_a_socket_that_was_handed_over(cli: Starter, form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        os.set_inheritable(sock.fileno(), True)
        # A shell hands on what it has.
        command = (sys.executable, "-c", FD, str(sock.fileno()), "-n", form.format(sock.fileno()))
        process = Inheriting(command, cli.folder, cli.environ, sock.fileno())
        cli.running.append(process)
        process.wait_ready()
        assert process.addresses == [sock.getsockname()]
        assert greeting(process).startswith("220 ")
        assert process.stop() == 0


FD = "import sys; from smtp_server import main; main(sys.argv[2:])"


class Inheriting(Running):
    """A process that gets a descriptor."""

    def __init__(
        self, command: tuple[str, ...], folder: Path, environ: dict[str, str], fd: int
    ) -> None:
        import subprocess

        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=out, stderr=err, pass_fds=[fd]
            )
        self.addresses = []


@needs_root
def test_it_becomes_another_user(cli: Starter) -> None:
    import pwd

    user = next((each for each in pwd.getpwall() if each.pw_name in ("daemon", "mail")), None)
    if user is None:
        pytest.skip("there is no user to become")
    # What that user may not read has to be imported before.
    for name in [name for name in cli.environ if name.startswith("COVERAGE_")]:
        del cli.environ[name]
    running = cli.start(*HERE, "--user", user.pw_name, "-c", "probe.Probe")
    assert answer("NOOP uid")(running) == f"250 {user.pw_uid}"
    assert running.stop() == 0
    status, _, err = cli.run(*HERE, "--user", "nobody-of-this-name")
    assert status == 1
    assert "there is no user 'nobody-of-this-name'; give another one" in one_line(err)


def test_how_long_a_stop_waits(cli: Starter) -> None:
    running = cli.start("-n", *HERE, "--grace", str(SHORT), "-c", "probe.Probe")
    with talk(running, HELLO, MAIL) as session:
        session.file.write(b"NOOP slow\r\n")
        running.process.send_signal(signal.SIGTERM)
        assert session.reply().startswith("421")
    assert running.process.wait(DEADLINE) == 0


# Handlers.


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-c", "probe.Probe", "one"], ["one", "nothing"]),
        (["-c", "probe:Probe", "one", "--probe-word", "two"], ["one", "two"]),
        (["-c", "probe.Probe", "--probe-word=two", "--probe-loud"], ["TWO"]),
        (["-c", "probe:factory", "one"], ["one", "of a factory"]),
        (["-c", "probe:instance"], ["of an instance"]),
    ],
)
def test_what_a_handler_may_be(cli: Starter, args: list[str], words: list[str]) -> None:
    running = cli.start("-n", *HERE, *args)
    assert answer("NOOP words")(running) == f"250 {words}"
    assert running.stop() == 0


def test_options_of_the_handler_in_environment_and_file(cli: Starter) -> None:
    (cli.folder / "mail.toml").write_text("class = 'probe.Probe'\nprobe-loud = true\n")
    cli.environ["SMTP_SERVER_PROBE_WORD"] = "hello"
    running = cli.start("-n", *HERE, "--config", "mail.toml")
    assert answer("NOOP words")(running) == "250 ['HELLO']"
    assert running.stop() == 0


def test_the_help_tells_of_the_handlers_own_options(cli: Starter) -> None:
    status, out, _ = cli.run("-c", "probe.Probe", "--help")
    assert status == 0
    assert re.search(r"the handler probe\.Probe:\n  --probe-word TEXT\s+a word to say", out)
    status, out, _ = cli.run("-c", "proxy", "--help")
    assert status == 0
    for name in ("tls {required,opportunistic,off,implicit}", "timeout NUMBER", "lmtp"):
        assert f"--proxy-{name}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_life_in_the_command(cli: Starter) -> None:
    (cli.folder / "alive.py").write_text(
        "class Handler:\n"
        "    async def __aenter__(self): print('entered', flush=True)\n"
        "    async def __aexit__(self, *error): print('left', flush=True)\n"
        "    async def handle_DATA(self, server, session, envelope): return '250 OK'\n"
    )
    running = cli.start("-n", *HERE, "-l", "lmtp://127.0.0.1:0", "-c", "alive.Handler")
    assert running.out.read_text() == "entered\n"
    assert running.stop() == 0
    assert running.out.read_text() == "entered\nleft\n"


# Users.


def entry(cli: Starter, name: str, password: str, *options: str) -> str:
    """A line of --auth-file, made by the command."""
    import subprocess

    command = (sys.executable, "-m", "smtp_server", "hash-password", *options, name)
    done = subprocess.run(
        command, cwd=cli.folder, input=f"{password}\n", capture_output=True, text=True, check=True
    )
    assert (done.stderr, password in done.stdout) == ("", False)
    assert one_line(done.stdout).startswith(f"{name}:")
    return done.stdout


def test_users_are_read_again(cli: Starter) -> None:
    users = cli.folder / "users"
    users.write_text("# users\n\n" + entry(cli, "anne", "secret"))
    running = cli.start("-n", *HERE, "--auth-file", "users", "--no-auth-require-tls", "-d")
    assert "AUTH LOGIN PLAIN\n" in answer(HELLO)(running)
    with running.client() as client:
        assert client.login("anne", "secret")[0] == 235
    with running.client() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("anne", "wrong")
    with running.client() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("bart", "secret")
    users.write_text("rubbish")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(lambda: "stay as they are" in running.err.read_text())
    with running.client() as client:
        assert client.login("anne", "secret")[0] == 235
    users.write_text(entry(cli, "bart", "hidden"))
    running.process.send_signal(signal.SIGHUP)

    def bart() -> bool:
        with running.client() as client:
            try:
                return client.login("bart", "hidden")[0] == 235
            except smtplib.SMTPAuthenticationError:
                return False

    running.wait_for(bart)
    with running.client() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("anne", "secret")
    assert running.stop() == 0
    for password in ("secret", "hidden", "wrong"):
        assert password not in running.err.read_text()


# Check.


def test_check_says_whether_it_would_start(cli: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        status, out, err = cli.run("check", "-n", "-l", f"127.0.0.1:{port}", "-c", "sink")
    assert (status, err) == (0, "")
    assert one_line(out) == f"smtp-server: this would start, and listen on 127.0.0.1:{port}"
    for args, expected in (
        (["--max-errors", "0"], 2),
        (["--tlscert", "none"], 1),
        (["-c", "mine.Misspelt"], 1),
        (["-c", "mine.Lacks"], 2),
    ):
        status, out, err = cli.run("check", "-n", *HERE, *args)
        assert (status, out) == (expected, "")
        one_line(err)


# Chaos.


def draws(running: Running) -> list[str]:
    """What happens to the commands of three sessions."""
    seen = []
    for _ in range(3):
        with talk(running, HELLO) as session:
            seen += [session.ask("NOOP")[:3] for _ in range(20)]
    return seen


def test_chaos_is_the_same_with_the_same_seed(cli: Starter) -> None:
    options = ("-n", *HERE, "-c", "sink", "--chaos", "NOOP:50%:450 No", "--max-errors", "none")
    seen = []
    for seed in ("1", "1", "2"):
        running = cli.start(*options, "--chaos-seed", seed)
        seen.append(draws(running))
        assert running.stop() == 0
    assert set(seen[0]) == {"250", "450"}
    assert seen[0] == seen[1] != seen[2]
    running = cli.start(*options)
    assert re.search(r"the same again with --chaos-seed \d+\n", running.err.read_text())
    assert running.stop() == 0


def test_each_kind_of_chaos_at_steps_with_and_without_a_hook(cli: Starter) -> None:
    tls = ("--tlscert", CERTIFICATE, "--tlskey", KEY, "--no-requiretls")
    rules = (
        "STARTTLS:100%:454 No TLS now",
        "DATA_COMMAND:100%:451 Not now",
        "RSET:100%:stall",
        f"NOOP:100%:delay {SHORT}",
        "HELP:100%:cut",
    )
    options = [option for rule in rules for option in ("--chaos", rule)]
    running = cli.start("-n", *HERE, *tls, *options, "--chaos-seed", "1")
    assert answer(HELLO, "STARTTLS")(running) == "454 No TLS now"
    assert answer(HELLO, MAIL, RCPT, "DATA")(running) == "451 Not now"
    assert answer("NOOP")(running) == "250 OK"
    assert answer("HELP")(running) == ""
    assert no_answer("RSET")(running) == "silence"
    # The one that stalled is gone when its client is, and the end waits for nobody.
    assert running.stop() == 0
