"""Clients that use TLS and AUTH, and a proxy: real ones, and what the server knows of them."""

import contextlib
import json
import os
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import aiosmtplib
import pytest
from tests.server.support import DEADLINE

from smtp_protocol import CramMD5Response, LoginPassword, OAuthToken, ScramLogin, Session
from smtp_server import LMTP, SMTP, Controller
from smtp_server.testing import Recorder, SMTPServer, TLSMode

SENDER = "anne@example.com"
RECIPIENTS = ["bart@example.com", "chris@example.net"]
CONTENT = (
    b"From: anne@example.com\r\nTo: bart@example.com\r\nSubject: Hello\r\n"
    b"\r\nHi Bart\r\n.\r\n..dots\r\n"
)
# With what a client has to take care of: a space, a colon, an equals sign.
USER = "anne+mail"
PASSWORD = "p:w d=1"
TOKEN = "ya29.a-token_0"

MODES: tuple[TLSMode, ...] = ("starttls", "implicit")
TLS = pytest.mark.parametrize("tls", MODES)


def find(program: str) -> str:
    """The path of a program, without which the test is skipped."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def run(
    program: str,
    *args: str | Path,
    stdin: str = "",
    status: int = 0,
) -> str:
    """Run a program, which must end with ``status``; give what it printed."""
    done = subprocess.run(
        [find(program), *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    assert done.returncode == status, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def server_for(tls: TLSMode | None, *mechanisms: str, password: str = PASSWORD) -> SMTPServer:
    """A server that requires TLS; and AUTH, if there are mechanisms for it."""
    if not mechanisms:
        return SMTPServer(tls=tls)
    return SMTPServer(tls=tls, auth={USER: password}, auth_mechanisms=mechanisms)


def arrived(server: SMTPServer, content: bytes = CONTENT) -> Session:
    """The session of the one message that came, which is as it was sent."""
    (envelope,) = server.envelopes
    assert envelope.mail_from == SENDER
    assert envelope.rcpt_tos == RECIPIENTS
    assert envelope.content == content
    (session,) = server.sessions
    return session


def check_tls(session: Session) -> None:
    """It came inside TLS."""
    assert session.tls is not None
    assert session.tls.version in {"TLSv1.2", "TLSv1.3"}


def check_user(session: Session, mechanism: str | None) -> None:
    """Who authenticated is the user, by this mechanism; the server offers no other."""
    if mechanism is None:
        assert not session.authenticated
        assert session.auth_data is None
        return
    assert session.authenticated
    user, password = USER.encode(), PASSWORD.encode()
    match mechanism:
        case "PLAIN" | "LOGIN":
            assert isinstance(session.auth_data, LoginPassword)
            assert session.auth_data.login == user
            assert session.auth_data.password == password
            assert session.auth_data.authzid in {b"", user}
        case "CRAM-MD5":
            assert isinstance(session.auth_data, CramMD5Response)
            assert session.auth_data.login == user
            assert session.auth_data.verify(password)
        case "SCRAM-SHA-1" | "SCRAM-SHA-256":
            assert isinstance(session.auth_data, ScramLogin)
            assert session.auth_data.login == user
        case _:
            assert session.auth_data == OAuthToken(user, TOKEN.encode())


# swaks.


def by_swaks(
    server: SMTPServer, folder: Path, *options: str, tls: TLSMode | None, status: int = 0
) -> None:
    """The Swiss army knife, which does not mind whether the server's name is right."""
    if tls is not None and "TLS supported" not in run("swaks", "--support"):
        pytest.skip("this swaks has no TLS: Net::SSLeay is missing")
    data = folder / "data"
    data.write_bytes(CONTENT.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))
    how = {None: [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[tls]
    if tls is not None:
        how += ["--tls-verify", "--tls-ca-path", server.ca_file]
    run(
        "swaks",
        *("--server", server.host, "--port", str(server.port), "--helo", "client.test"),
        *("--from", SENDER, "--to", ",".join(RECIPIENTS), "--data", f"@{data}"),
        *how,
        *options,
        status=status,
    )


@TLS
@pytest.mark.parametrize("mechanism", [None, "PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks(tmp_path: Path, tls: TLSMode, mechanism: str | None) -> None:
    options = []
    if mechanism is not None:
        options = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD]
    with server_for(tls, *([mechanism] if mechanism else [])) as server:
        by_swaks(server, tmp_path, *options, tls=tls)
        session = arrived(server)
    check_tls(session)
    check_user(session, mechanism)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks_with_another_password(tmp_path: Path, mechanism: str) -> None:
    options = ["--auth", mechanism, "--auth-user", USER, "--auth-password", "another"]
    with server_for("starttls", mechanism) as server:
        by_swaks(server, tmp_path, *options, tls="starttls", status=28)
        assert server.envelopes == []


def test_swaks_without_tls_where_it_is_required(tmp_path: Path) -> None:
    with server_for("starttls") as server:
        by_swaks(server, tmp_path, tls=None, status=23)
        assert server.envelopes == []


# curl.


def by_curl(
    server: SMTPServer, folder: Path, *options: str, tls: TLSMode | None, status: int = 0
) -> None:
    """curl, which insists on TLS."""
    data = folder / "data"
    data.write_bytes(CONTENT)
    scheme = "smtps" if tls == "implicit" else "smtp"
    to = [word for recipient in RECIPIENTS for word in ("--mail-rcpt", recipient)]
    run(
        "curl",
        *("--silent", "--show-error", "--ssl-reqd", "--noproxy", "*"),
        *("--max-time", str(DEADLINE), f"{scheme}://{server.host}:{server.port}/client.test"),
        *("--mail-from", SENDER, *to, "--upload-file", str(data)),
        *options,
        status=status,
    )


def curl_features() -> Sequence[str]:
    """What this build has."""
    lines = run("curl", "--version").splitlines()
    return [word for line in lines if line.startswith("Features:") for word in line.split()[1:]]


@TLS
def test_curl(tmp_path: Path, tls: TLSMode) -> None:
    with server_for(tls) as server:
        by_curl(server, tmp_path, "--cacert", server.ca_file, tls=tls)
        session = arrived(server)
    check_tls(session)
    check_user(session, None)


@TLS
@pytest.mark.parametrize(
    "mechanism",
    ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"],
)
@pytest.mark.parametrize("more", [[], ["--sasl-ir"]], ids=["asked", "initial response"])
def test_curl_with_auth(tmp_path: Path, tls: TLSMode, mechanism: str, more: list[str]) -> None:
    if mechanism.startswith("SCRAM") and "gsasl" not in curl_features():
        pytest.skip("this curl has no SCRAM: it is built without gsasl")
    token = mechanism in {"XOAUTH2", "OAUTHBEARER"}
    options = ["--login-options", f"AUTH={mechanism}", *more]
    if token:
        options += ["--user", USER, "--oauth2-bearer", TOKEN]
    else:
        options += ["--user", f"{USER}:{PASSWORD}"]
    with server_for(tls, mechanism, password=TOKEN if token else PASSWORD) as server:
        by_curl(server, tmp_path, *options, "--cacert", server.ca_file, tls=tls)
        session = arrived(server)
    check_tls(session)
    check_user(session, mechanism)


@TLS
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"])
def test_curl_with_another_password(tmp_path: Path, tls: TLSMode, mechanism: str) -> None:
    options = ["--login-options", f"AUTH={mechanism}", "--user", f"{USER}:another"]
    if mechanism in {"XOAUTH2", "OAUTHBEARER"}:
        options = [*options[:2], "--user", USER, "--oauth2-bearer", "another"]
    with server_for(tls, mechanism) as server:
        # 67 is that the server has denied the login.
        by_curl(server, tmp_path, *options, "--cacert", server.ca_file, tls=tls, status=67)
        assert server.envelopes == []


@TLS
def test_curl_does_not_trust_a_certificate(tmp_path: Path, tls: TLSMode) -> None:
    with server_for(tls) as server:
        by_curl(server, tmp_path, tls=tls, status=60)
        assert server.envelopes == []
        # The server is as good as before.
        by_curl(server, tmp_path, "--cacert", server.ca_file, tls=tls)
        check_tls(arrived(server))


def test_curl_that_requires_tls_where_there_is_none(tmp_path: Path) -> None:
    with server_for(None) as server:
        by_curl(server, tmp_path, tls=None, status=64)
        assert server.envelopes == []


# msmtp, whose SASL is that of GNU, SCRAM included.


def by_msmtp(server: SMTPServer, *options: str, tls: TLSMode, status: int = 0) -> None:
    """msmtp, without any file of the user's and with the message as it is."""
    run(
        "msmtp",
        *("--file", os.devnull, "--host", server.host, "--port", str(server.port)),
        *("--domain", "client.test", "--timeout", str(int(DEADLINE)), "--from", SENDER),
        *("--tls=on", f"--tls-starttls={'on' if tls == 'starttls' else 'off'}"),
        *("--tls-trust-file", server.ca_file),
        *("--set-date-header=off", "--set-from-header=off", "--set-msgid-header=off"),
        *options,
        *RECIPIENTS,
        stdin=CONTENT.decode().replace("\r\n", "\n"),
        status=status,
    )


def msmtp_login(mechanism: str, password: str = PASSWORD) -> list[str]:
    """The options for a mechanism; a token is a password to it."""
    return [
        f"--auth={mechanism.lower()}",
        f"--user={USER}",
        f"--passwordeval=printf %s '{password}'",
    ]


@TLS
@pytest.mark.parametrize(
    "mechanism",
    ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"],
)
def test_msmtp(tls: TLSMode, mechanism: str) -> None:
    if mechanism.lower() not in run("msmtp", "--version").split():
        pytest.skip(f"this msmtp has no {mechanism}")
    password = TOKEN if mechanism in {"XOAUTH2", "OAUTHBEARER"} else PASSWORD
    with server_for(tls, mechanism, password=password) as server:
        by_msmtp(server, *msmtp_login(mechanism, password), tls=tls)
        session = arrived(server)
    check_tls(session)
    check_user(session, mechanism)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_msmtp_with_another_password(mechanism: str) -> None:
    if mechanism.lower() not in run("msmtp", "--version").split():
        pytest.skip(f"this msmtp has no {mechanism}")
    with server_for("starttls", mechanism) as server:
        by_msmtp(server, *msmtp_login(mechanism, "another"), tls="starttls", status=77)
        assert server.envelopes == []


# aiosmtplib.


@TLS
@pytest.mark.parametrize("mechanism", [None, "PLAIN", "LOGIN", "CRAM-MD5"])
async def test_aiosmtplib(tls: TLSMode, mechanism: str | None) -> None:
    with server_for(tls, *([mechanism] if mechanism else [])) as server:
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=DEADLINE,
            use_tls=tls == "implicit",
            start_tls=tls == "starttls",
            tls_context=server.client_context,
        )
        async with client:
            if mechanism is not None:
                with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                    await client.login(USER, "another")
                await client.login(USER, PASSWORD)
            refused, _ = await client.sendmail(SENDER, RECIPIENTS, CONTENT)
            assert refused == {}
        session = arrived(server)
    check_tls(session)
    check_user(session, mechanism)


# nodemailer.

_NODEMAILER = """
const options = JSON.parse(require("fs").readFileSync(0, "utf8"));
options.transport.tls = { ca: require("fs").readFileSync(options.ca) };
const mailer = require(options.module).createTransport(options.transport);
mailer.sendMail({ envelope: options.envelope, raw: options.raw }).then(
  (info) => { mailer.close(); console.log(JSON.stringify(info.accepted)); },
  (error) => { console.error(error); process.exit(1); },
);
"""


def nodemailer() -> str:
    """Where it is."""
    wanted = os.environ.get("NODEMAILER_PATH", "nodemailer")
    done = subprocess.run(
        [find("node"), "-e", "console.log(require.resolve(process.argv[1]))", wanted],
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("node does not find nodemailer: set NODEMAILER_PATH to its folder")
    return done.stdout.strip()


@TLS
@pytest.mark.parametrize("mechanism", [None, "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
def test_nodemailer(tls: TLSMode, mechanism: str | None) -> None:
    module = nodemailer()
    token = mechanism == "XOAUTH2"
    mechanisms = [mechanism] if mechanism else []
    with server_for(tls, *mechanisms, password=TOKEN if token else PASSWORD) as server:
        transport: dict[str, object] = {
            "host": server.host,
            "port": server.port,
            "name": "client.test",
            "secure": tls == "implicit",
            "requireTLS": True,
        }
        if token:
            transport["auth"] = {"type": "OAuth2", "user": USER, "accessToken": TOKEN}
        elif mechanism is not None:
            transport["auth"] = {"user": USER, "pass": PASSWORD}
            transport["authMethod"] = mechanism
        wanted = {
            "module": module,
            "ca": server.ca_file,
            "transport": transport,
            "envelope": {"from": SENDER, "to": RECIPIENTS},
            "raw": CONTENT.decode(),
        }
        printed = run("node", "-e", _NODEMAILER, stdin=json.dumps(wanted))
        assert json.loads(printed) == RECIPIENTS
        session = arrived(server)
    check_tls(session)
    check_user(session, mechanism)


# LMTP, by Postfix's source of test messages.


class LMTPController(Controller):
    """A controller whose connections speak LMTP."""

    def factory(self) -> SMTP:
        """One of them."""
        return LMTP(self.handler, **self.SMTP_kwargs)


@contextlib.contextmanager
def lmtp_server() -> Iterator[tuple[Recorder, str]]:
    """A running server, and its address."""
    recorder = Recorder()
    with LMTPController(recorder, "127.0.0.1", 0, timeout=DEADLINE) as controller:
        yield recorder, f"{controller.hostname}:{controller.port}"


def test_lmtp_by_smtp_source(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(CONTENT.replace(b"\r\n", b"\n"))
    with lmtp_server() as (recorder, address):
        run(
            "smtp-source",
            *("-L", "-M", "client.test", "-f", SENDER, "-t", RECIPIENTS[0], "-F", data, address),
        )
        (envelope,) = recorder.envelopes
        (session,) = recorder.sessions
    assert envelope.mail_from == SENDER
    assert envelope.rcpt_tos == RECIPIENTS[:1]
    # It adds an empty line of its own.
    assert envelope.content == CONTENT + b"\r\n"
    assert session.host_name == "client.test"
    assert session.extended_smtp
    assert not session.authenticated


def test_many_by_lmtp_to_many_recipients_by_smtp_source() -> None:
    with lmtp_server() as (recorder, address):
        # -d keeps the connections: an answer too few or too many would be taken for the next.
        options = ["-L", "-d", "-s", "5", "-m", "50", "-r", "3", "-l", "2000"]
        run("smtp-source", *options, "-f", SENDER, "-t", RECIPIENTS[0], address)
        envelopes, sessions = recorder.envelopes, recorder.sessions
    assert len(envelopes) == 50
    assert all(envelope.mail_from == SENDER for envelope in envelopes)
    assert all(len(set(envelope.rcpt_tos)) == 3 for envelope in envelopes)
    assert all(len(envelope.content) >= 2000 for envelope in envelopes)
    assert len({session.id for session in sessions}) == 5


def test_smtp_source_is_refused_where_smtp_is_not_spoken() -> None:
    with lmtp_server() as (recorder, address):
        run("smtp-source", "-f", SENDER, "-t", RECIPIENTS[0], address, status=1)
        assert recorder.envelopes == []


# HAProxy in front, which tells the client's address in version 2 of the PROXY protocol.

#: Where it comes from, which is not where the clients come from.
PROXY_HOST = "127.0.0.2"

_HAPROXY = """
global
    maxconn 16
defaults
    mode tcp
    timeout connect {seconds}s
    timeout client {seconds}s
    timeout server {seconds}s
listen smtp
    bind fd@{listener}
    server mx {host}:{port} send-proxy-v2 source {source}
"""


@contextlib.contextmanager
def haproxy(server: SMTPServer, folder: Path) -> Iterator[tuple[str, int]]:
    """HAProxy in front of a server, and its address. It inherits the socket that it listens on."""
    program = find("haproxy")
    with socket.socket() as probe:
        try:
            probe.bind((PROXY_HOST, 0))
        except OSError:
            pytest.skip(f"this machine has no {PROXY_HOST}")
    config = folder / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        text = _HAPROXY.format(
            seconds=int(DEADLINE),
            listener=listener.fileno(),
            host=server.host,
            port=server.port,
            source=PROXY_HOST,
        )
        config.write_text(text)
        process = subprocess.Popen(
            [program, "-db", "-f", config],
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    # If it cannot run, nobody has the socket any more, and clients do not wait.
    try:
        yield host, port
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            raise


def send(client: smtplib.SMTP, *, authenticate: bool) -> tuple[str, int]:
    """Send the message, and tell which address the client has."""
    assert client.sock is not None
    host, port = client.sock.getsockname()
    if authenticate:
        client.login(USER, PASSWORD)
    assert client.sendmail(SENDER, RECIPIENTS, CONTENT) == {}
    return host, port


@pytest.mark.parametrize("mechanism", [None, "PLAIN"])
@pytest.mark.parametrize("tls", [None, *MODES])
def test_haproxy(tmp_path: Path, tls: TLSMode | None, mechanism: str | None) -> None:
    server = SMTPServer(
        tls=tls,
        auth={USER: PASSWORD} if mechanism else None,
        proxy_protocol_timeout=5,
        proxy_trusted=[PROXY_HOST],
    )
    with server, haproxy(server, tmp_path) as address:
        if tls == "implicit":
            encrypted = smtplib.SMTP_SSL(*address, context=server.client_context, timeout=DEADLINE)
            with encrypted:
                peer = send(encrypted, authenticate=mechanism is not None)
        else:
            with smtplib.SMTP(*address, timeout=DEADLINE) as client:
                if tls == "starttls":
                    client.starttls(context=server.client_context)
                peer = send(client, authenticate=mechanism is not None)
        session = arrived(server)
    assert session.peer == peer
    assert session.peer_host == "127.0.0.1"
    data = session.proxy_data
    assert data is not None
    assert data.version == 2
    assert not data.local
    assert (data.src_addr, data.src_port) == (IPv4Address(peer[0]), peer[1])
    assert (data.dst_addr, data.dst_port) == (IPv4Address(address[0]), address[1])
    assert isinstance(data.peer, tuple)
    assert data.peer[0] == PROXY_HOST
    assert data.peer != peer
    if tls is None:
        assert session.tls is None
    else:
        check_tls(session)
    check_user(session, mechanism)


def test_a_client_that_goes_around_the_proxy(tmp_path: Path) -> None:
    server = SMTPServer(proxy_protocol_timeout=5, proxy_trusted=[PROXY_HOST])
    with server, haproxy(server, tmp_path) as address:
        with (
            pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)),
            smtplib.SMTP(server.host, server.port, timeout=DEADLINE) as direct,
        ):
            send(direct, authenticate=False)
        assert server.envelopes == []
        with smtplib.SMTP(*address, timeout=DEADLINE) as client:
            peer = send(client, authenticate=False)
        assert arrived(server).peer == peer
