"""SMTPServer: what a test sees of it, and what it can make go wrong."""

import asyncio
import base64
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any, cast, get_args

import aiosmtplib
import pytest

from smtp_protocol import CramMD5Response, LoginPassword, Reply, ScramKeys, ScramLogin
from smtp_server import SMTP
from smtp_server.testing import Recorder, SMTPServer, Step, TLSMode
from smtp_server.testing.accounts import Accounts

# Seconds after which a test gives up; nothing takes so long unless it is broken.
LIMIT = 30.0

SENDER = "anne@example.com"
RECIPIENT = "bart@example.com"
ACCOUNTS = {"anne": "secret", "bärt": "pässword"}
MAIL = "Subject: Hello\r\n\r\nHi Bart!\r\n"

#: For each step what a client says before it, and for the step itself.
DIALOGUES: dict[Step, tuple[list[str], str]] = {
    "HELO": ([], "HELO client.test"),
    "EHLO": ([], "EHLO client.test"),
    "MAIL": (["EHLO client.test"], f"MAIL FROM:<{SENDER}>"),
    "RCPT": (["EHLO client.test", f"MAIL FROM:<{SENDER}>"], f"RCPT TO:<{RECIPIENT}>"),
    "DATA": (
        ["EHLO client.test", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA"],
        f"{MAIL}.",
    ),
    "RSET": ([], "RSET"),
    "NOOP": ([], "NOOP"),
    "QUIT": ([], "QUIT"),
    "VRFY": (["EHLO client.test"], f"VRFY {RECIPIENT}"),
    "EXPN": (["EHLO client.test"], "EXPN list"),
    "HELP": ([], "HELP"),
}

#: The same for what a server does not always offer.
MORE_DIALOGUES: dict[Step, tuple[list[str], str]] = {
    "STARTTLS": (["EHLO client.test"], "STARTTLS"),
    "DATA_COMMAND": (DIALOGUES["DATA"][0][:-1], "DATA"),
    "BDAT": (DIALOGUES["DATA"][0][:-1], "BDAT 2\r\nHi"),
}

each_step = pytest.mark.parametrize("step", sorted(DIALOGUES))
each_other_step = pytest.mark.parametrize("step", sorted(MORE_DIALOGUES))
with_everything = pytest.mark.smtp(tls="starttls", require_starttls=False, extensions=["CHUNKING"])


def connect(server: SMTPServer, *, starttls: bool = True) -> smtplib.SMTP:
    """A client of the server, greeted."""
    if server.tls == "implicit":
        context = server.client_context
        return smtplib.SMTP_SSL(server.host, server.port, context=context, timeout=LIMIT)
    client = smtplib.SMTP(server.host, server.port, timeout=LIMIT)
    if server.tls == "starttls" and starttls:
        client.starttls(context=server.client_context)
    return client


def send(client: smtplib.SMTP, *recipients: str) -> dict[str, tuple[int, bytes]]:
    """Send a message; the recipients that were refused are returned."""
    return client.sendmail(SENDER, recipients or (RECIPIENT,), MAIL)


@pytest.fixture
def client(smtpd: SMTPServer) -> Iterator[smtplib.SMTP]:
    """A client of `smtpd`, which is closed without QUIT."""
    made = connect(smtpd)
    yield made
    made.close()


def play(client: smtplib.SMTP, step: Step) -> int:
    """Go as far as the step; the code of the answer to it is returned."""
    before, command = DIALOGUES.get(step) or MORE_DIALOGUES[step]
    for line in before:
        assert client.docmd(line)[0] < 400
    client.send(command if step == "BDAT" else f"{command}\r\n")
    return client.getreply()[0]


def test_a_message(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    send(client)
    [message], [envelope], [session] = smtpd.messages, smtpd.envelopes, smtpd.sessions
    assert isinstance(message, EmailMessage)
    assert message["Subject"] == "Hello"
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [RECIPIENT])
    assert envelope.content == MAIL.encode()
    assert session.extended_smtp


def test_messages_of_several_sessions(smtpd: SMTPServer) -> None:
    for number in range(3):
        with connect(smtpd) as client:
            client.sendmail(SENDER, RECIPIENT, f"Subject: {number}\n\n")
    assert [message["Subject"] for message in smtpd.wait_for(3)] == ["0", "1", "2"]


async def test_waiting_in_an_event_loop(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    send(client)
    [message] = await smtpd.wait_for_async(1)
    assert message["Subject"] == "Hello"


@pytest.mark.smtp(extensions=["CHUNKING", "BINARYMIME"])
def test_binary_mail_is_left_as_it_is(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    content = b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\r\n\xff\n\r"
    for line in ("EHLO me", f"MAIL FROM:<{SENDER}> BODY=BINARYMIME", f"RCPT TO:<{RECIPIENT}>"):
        assert client.docmd(line)[0] == 250
    client.putcmd(f"BDAT {len(content)} LAST")
    client.send(content)
    assert client.getreply()[0] == 250
    assert smtpd.envelopes[0].content == content
    assert smtpd.messages[0].get_content() == b"\r\n\xff\n\r"


def test_clear_makes_it_as_new(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    send(client)
    smtpd.fail_next("MAIL", "450 Try later")
    smtpd.delay_next("MAIL", 60.0)
    smtpd.clear()
    assert smtpd.messages == []
    send(client)
    assert len(smtpd.messages) == 1


def test_what_it_is_called(smtpd: SMTPServer) -> None:
    assert repr(smtpd) == f"<SMTPServer 127.0.0.1:{smtpd.port} tls=None: 0 messages>"
    with connect(smtpd) as client:
        assert client.ehlo()[1].split(b"\n")[0] == b"localhost"


def test_keywords_go_to_the_server() -> None:
    with (
        SMTPServer(data_size_limit=10, ident="Test", host="localhost") as server,
        connect(server) as client,
        pytest.raises(smtplib.SMTPSenderRefused) as caught,
    ):
        send(client)
    assert caught.value.smtp_code == 552


def test_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        SMTPServer(timeuot=1).start()  # type: ignore[call-arg]


def test_two_servers_have_two_ports() -> None:
    with SMTPServer() as first, SMTPServer() as second:
        assert first.port != second.port
        with connect(second) as client:
            send(client)
        assert (len(first.messages), len(second.messages)) == (0, 1)


# Its life.


def test_an_outage(smtpd: SMTPServer) -> None:
    port = smtpd.port
    with connect(smtpd) as client:
        send(client)
    smtpd.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(smtpd)
    smtpd.stop()  # which has nothing to do
    smtpd.start()
    assert smtpd.port == port
    with connect(smtpd) as client:
        send(client)
    assert len(smtpd.messages) == 2


def test_it_cannot_be_started_twice(smtpd: SMTPServer) -> None:
    with pytest.raises(RuntimeError, match="already"):
        smtpd.start()


def test_a_port_that_is_taken(smtpd: SMTPServer) -> None:
    second = SMTPServer(port=smtpd.port)
    with pytest.raises(OSError, match=str(smtpd.port)):
        second.start()
    smtpd.stop()
    with second:
        assert second.port == smtpd.port


@pytest.mark.parametrize("tls", [None, "starttls", "implicit"])
def test_stopping_does_not_wait_for_anybody(tls: TLSMode | None) -> None:
    server = SMTPServer(tls=tls)
    server.delay_next("NOOP", 600)
    with server:
        clients = [connect(server) for _ in range(3)]
        in_data, in_hook, _ = clients
        for line in DIALOGUES["DATA"][0]:
            assert in_data.docmd(line)[0] < 400
        in_hook.putcmd("NOOP")
        begin = time.monotonic()
    assert time.monotonic() - begin < LIMIT
    for client in clients:
        with pytest.raises((smtplib.SMTPServerDisconnected, ssl.SSLError)):
            client.getreply()
        client.close()


# Failures.


@each_step
def test_a_step_that_fails(smtpd: SMTPServer, client: smtplib.SMTP, step: Step) -> None:
    smtpd.fail_next(step, "450 4.2.0 try later")
    assert play(client, step) == 450
    assert smtpd.messages == []
    # Other steps are as ever, and so is this one the next time.
    client.rset()
    assert play(client, step) < 400 or step == "EXPN"


def test_a_greeting_that_fails(smtpd: SMTPServer) -> None:
    smtpd.fail_next("CONNECT", "554 5.3.2 Not today")
    with pytest.raises(smtplib.SMTPConnectError) as caught:
        connect(smtpd)
    assert (caught.value.smtp_code, caught.value.smtp_error) == (554, b"5.3.2 Not today")
    connect(smtpd).close()


def test_every_step_is_tested() -> None:
    assert {*DIALOGUES, *MORE_DIALOGUES, "CONNECT", "AUTH"} == set(get_args(Step))


@with_everything
@each_other_step
def test_a_command_without_hook_that_fails(smtpd: SMTPServer, step: Step) -> None:
    smtpd.fail_next(step, "454 4.7.0 not now")
    client = connect(smtpd, starttls=False)
    assert play(client, step) == 454
    assert client.noop()[0] == 250  # it goes on in the clear, and nothing is read as a message
    client.rset()
    assert play(client, step) < 400
    client.close()
    assert smtpd.messages == []


@with_everything
@each_other_step
def test_a_command_without_hook_that_cuts(smtpd: SMTPServer, step: Step) -> None:
    smtpd.cut_next(step)
    client = connect(smtpd, starttls=False)
    with pytest.raises(smtplib.SMTPServerDisconnected, match=r"unexpectedly closed|reset by peer"):
        play(client, step)
    with connect(smtpd) as client:
        send(client)


@with_everything
@each_other_step
def test_a_command_without_hook_that_takes_its_time(smtpd: SMTPServer, step: Step) -> None:
    smtpd.delay_next(step, 0.05)
    client = connect(smtpd, starttls=False)
    begin = time.monotonic()
    assert play(client, step) < 400
    assert time.monotonic() - begin >= 0.05
    client.close()


@with_everything
def test_the_answers_to_data_are_two_steps(smtpd: SMTPServer) -> None:
    smtpd.fail_next("DATA", "451 4.3.0 the message")
    smtpd.fail_next("DATA_COMMAND", "452 4.3.1 the command", skip=1)
    client = connect(smtpd, starttls=False)
    assert play(client, "DATA") == 451
    assert play(client, "DATA_COMMAND") == 452
    assert client.rset()[0] == 250
    assert play(client, "DATA") == 250
    client.close()


@with_everything
def test_the_last_chunk_is_answered_as_the_message(smtpd: SMTPServer) -> None:
    smtpd.fail_next("BDAT", 452, skip=1)
    smtpd.fail_next("DATA", 451)
    client = connect(smtpd, starttls=False)
    assert play(client, "BDAT") == 250
    client.send("BDAT 0 LAST\r\n")
    assert client.getreply()[0] == 451
    client.close()


def test_a_failure_may_be_a_code_alone(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("DATA", 550)
    smtpd.fail_next("DATA", Reply(452, ("Full",)))
    with pytest.raises(smtplib.SMTPDataError) as caught:
        send(client)
    assert (caught.value.smtp_code, caught.value.smtp_error) == (550, b"Refused by the test")
    with pytest.raises(smtplib.SMTPDataError, match="452"):
        send(client)


def test_a_failure_of_one_recipient(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("RCPT", "550 5.1.1 unknown", recipient="b@example.com")
    smtpd.fail_next("RCPT", 450, recipient="Cate@example.com", skip=1)
    smtpd.fail_next("RCPT", 451, skip=5)
    to = ["a@example.com", "b@example.com", "cate@EXAMPLE.com"]
    assert list(send(client, *to)) == ["b@example.com"]
    assert list(send(client, *to)) == ["cate@EXAMPLE.com"]
    assert [envelope.rcpt_tos for envelope in smtpd.envelopes] == [[to[0], to[2]], to[:2]]
    # Those of one recipient take no turn of the others.
    assert list(send(client, *to)) == ["b@example.com"]


def test_a_cut_and_a_delay_of_one_recipient(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.delay_next("RCPT", 0.05, recipient="b@example.com")
    smtpd.cut_next("RCPT", recipient="c@example.com")
    begin = time.monotonic()
    assert send(client, "a@example.com", "b@example.com") == {}
    assert time.monotonic() - begin >= 0.05
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(client, "a@example.com", "c@example.com")


def test_the_reply_is_sent_as_it_is(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("RCPT", "550-5.1.1 No such user\n550 5.1.1 Ask somebody else")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        send(client)
    refusal = (550, b"5.1.1 No such user\n5.1.1 Ask somebody else")
    assert caught.value.recipients == {RECIPIENT: refusal}


def test_a_recipient_in_the_middle(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("RCPT", "550 5.1.1 No such user", skip=1, times=2)
    refused = send(client, "a@example.com", "b@example.com", "c@example.com", "d@example.com")
    assert sorted(refused) == ["b@example.com", "c@example.com"]
    [envelope] = smtpd.envelopes
    assert envelope.rcpt_tos == ["a@example.com", "d@example.com"]


def test_failures_queue_up(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("NOOP", "450 first", times=2)
    smtpd.fail_next("NOOP", "550 second", skip=1)
    assert [client.noop()[0] for _ in range(5)] == [450, 450, 250, 550, 250]


def test_421_ends_the_session(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.fail_next("MAIL", "421 4.3.2 Going down")
    with pytest.raises(smtplib.SMTPSenderRefused, match="421"):
        send(client)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()


@each_step
def test_a_connection_that_is_cut(smtpd: SMTPServer, client: smtplib.SMTP, step: Step) -> None:
    smtpd.cut_next(step)
    with pytest.raises(smtplib.SMTPServerDisconnected, match=r"unexpectedly closed|reset by peer"):
        play(client, step)
    assert smtpd.messages == []
    client.connect(smtpd.host, smtpd.port)
    assert play(client, step) < 400 or step == "EXPN"


def test_a_connection_that_is_cut_at_once(smtpd: SMTPServer) -> None:
    smtpd.cut_next("CONNECT")
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        connect(smtpd)


# Delays.


@each_step
def test_a_step_that_takes_its_time(smtpd: SMTPServer, client: smtplib.SMTP, step: Step) -> None:
    smtpd.delay_next(step, 0.05)
    begin = time.monotonic()
    play(client, step)
    assert time.monotonic() - begin >= 0.05


def test_a_client_that_does_not_wait(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.delay_next("DATA", 600)
    before, message = DIALOGUES["DATA"]
    for line in before:
        assert client.docmd(line)[0] < 400
    client.send(f"{message}\r\n")
    assert client.sock is not None
    client.sock.settimeout(0.05)
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        client.getreply()


def test_a_delay_and_a_failure(smtpd: SMTPServer, client: smtplib.SMTP) -> None:
    smtpd.delay_next("NOOP", 0.05, skip=1)
    smtpd.fail_next("NOOP", "450 try later", skip=1)
    assert client.noop()[0] == 250
    begin = time.monotonic()
    assert client.noop()[0] == 450
    assert time.monotonic() - begin >= 0.05


# What is not possible.


@pytest.mark.parametrize(
    ("step", "reply", "times", "skip", "error"),
    [
        ("RPCT", "450 try later", 1, 0, "'RPCT' is none of CONNECT, HELO"),
        ("rcpt", "450 try later", 1, 0, "'rcpt' is none of"),
        ("RCPT", "250 OK", 1, 0, "a reply of 400 to 599, not '250 OK'"),
        ("RCPT", "try later", 1, 0, "no line of a reply"),
        ("RCPT", "450 try later", 0, 0, "times is at least 1"),
        ("RCPT", "450 try later", 1, -1, "skip at least 0"),
    ],
)
def test_bad_failures(
    smtpd: SMTPServer, step: str, reply: str, times: int, skip: int, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        smtpd.fail_next(cast(Step, step), reply, times=times, skip=skip)


@pytest.mark.parametrize(
    ("step", "reply", "error"),
    [
        ("DATA", 250, "a reply of 400 to 599, not '250 Refused by the test'"),
        ("DATA", 1, "1"),
        ("MAIL", 550, "a recipient goes with the step RCPT, not with MAIL"),
    ],
)
def test_bad_failures_of_one_recipient(
    smtpd: SMTPServer, step: Step, reply: int, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        smtpd.fail_next(step, reply, recipient="a@example.com")


def test_a_bad_delay(smtpd: SMTPServer) -> None:
    with pytest.raises(ValueError, match="seconds from 0, not -1"):
        smtpd.delay_next("RCPT", -1)


# TLS.


each_tls = pytest.mark.parametrize("tls", get_args(TLSMode))


@each_tls
def test_tls(tls: TLSMode) -> None:
    with SMTPServer(tls=tls) as server, connect(server) as client:
        send(client)
        [envelope], [session] = server.envelopes, server.sessions
    assert envelope.content == MAIL.encode()
    assert session.tls is not None
    assert session.tls.version.startswith("TLSv1.")


@each_tls
async def test_a_client_in_an_event_loop(tls: TLSMode) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, RECIPIENT, "Grüße"
    message.set_content("Hi Bart!\n")
    with SMTPServer(tls=tls, auth=ACCOUNTS) as server:
        sending = aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            use_tls=tls == "implicit",
            start_tls=tls == "starttls",
            tls_context=server.client_context,
            username="anne",
            password="secret",
            timeout=LIMIT,
        )
        [kept], _ = await asyncio.gather(server.wait_for_async(1), sending)
    assert kept["Subject"] == "Grüße"
    assert kept.get_content() == "Hi Bart!\n"


def test_starttls_must_be_used() -> None:
    with SMTPServer(tls="starttls") as server:
        with smtplib.SMTP(server.host, server.port, timeout=LIMIT) as client:
            with pytest.raises(smtplib.SMTPSenderRefused) as caught:
                send(client)
            assert caught.value.smtp_code == 530
        assert server.messages == []


def test_starttls_may_be_used() -> None:
    with SMTPServer(tls="starttls", require_starttls=False) as server:
        with smtplib.SMTP(server.host, server.port, timeout=LIMIT) as client:
            send(client)
        with connect(server) as client:
            send(client)
        assert [session.tls is not None for session in server.sessions] == [False, True]


@each_tls
@each_step
def test_a_connection_that_is_cut_inside_tls(tls: TLSMode, step: Step) -> None:
    with SMTPServer(tls=tls) as server:
        client = connect(server)
        server.cut_next(step)
        with pytest.raises((smtplib.SMTPServerDisconnected, ssl.SSLError)):
            play(client, step)
        client.close()


def test_a_wrong_tls() -> None:
    with pytest.raises(ValueError, match="not 'ssl'"):
        SMTPServer(tls="ssl")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_is_for(host: str) -> None:
    context = SMTPServer().client_context
    # What Python 3.13 adds to a default context.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with (
        SMTPServer(tls="implicit", host=host) as server,
        smtplib.SMTP_SSL(host, server.port, context=context, timeout=LIMIT) as client,
    ):
        assert client.noop()[0] == 250


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_other_clients_do_not_trust_it() -> None:
    with (
        SMTPServer(tls="implicit") as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        smtplib.SMTP_SSL(
            server.host, server.port, context=ssl.create_default_context(), timeout=LIMIT
        )


def test_the_certificate_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with SMTPServer(tls="implicit") as server:
        monkeypatch.setenv("SSL_CERT_FILE", server.ca_file)
        context = ssl.create_default_context()
        with smtplib.SMTP_SSL(server.host, server.port, context=context, timeout=LIMIT) as client:
            assert client.noop()[0] == 250


# AUTH.

MECHANISMS = ["PLAIN", "LOGIN", "CRAM-MD5"]


@pytest.mark.parametrize("tls", [None, *get_args(TLSMode)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_auth(tls: TLSMode | None, mechanism: str) -> None:
    with (
        SMTPServer(tls=tls, auth=ACCOUNTS, auth_mechanisms=[mechanism]) as server,
        connect(server) as client,
    ):
        client.login("anne", "secret")
        send(client)
        [session] = server.sessions
    assert session.authenticated
    assert isinstance(session.auth_data, LoginPassword | CramMD5Response)
    assert session.auth_data.login == b"anne"


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("user", "password"), [("anne", "wrong"), ("cate", "secret")])
def test_auth_that_fails(mechanism: str, user: str, password: str) -> None:
    with (
        SMTPServer(auth=ACCOUNTS, auth_mechanisms=[mechanism]) as server,
        connect(server) as client,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.login(user, password)
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            send(client)
        assert server.messages == []


def test_auth_with_a_token() -> None:
    def response(token: str) -> str:
        message = f"user=bärt\x01auth=Bearer {token}\x01\x01"
        return base64.b64encode(message.encode()).decode()

    with (
        SMTPServer(auth=ACCOUNTS, auth_mechanisms=["XOAUTH2"]) as server,
        connect(server) as client,
    ):
        client.ehlo()
        assert client.docmd("AUTH XOAUTH2", response("wrong"))[0] == 334
        assert client.docmd("")[0] == 535
        assert client.docmd("AUTH XOAUTH2", response("pässword"))[0] == 235


@pytest.mark.parametrize(("user", "success"), [(b"anne", True), (b"cate", False)])
def test_auth_with_scram(user: bytes, success: bool) -> None:
    # smtplib does not know it; the exchange itself is smtp_protocol's.
    accounts = Accounts(ACCOUNTS)
    server = SMTP(Recorder())
    shown = ScramLogin(user, b"", "sha256")
    result = accounts(server, server.session, server.envelope, "SCRAM-SHA-256", shown)
    assert result.success == success
    assert isinstance(result.auth_data, ScramKeys) == success


def test_auth_that_is_not_required() -> None:
    with (
        SMTPServer(auth=ACCOUNTS, auth_required=False) as server,
        connect(server) as client,
    ):
        send(client)
        assert [session.authenticated for session in server.sessions] == [False]


def test_auth_fails_when_it_is_told_to() -> None:
    with SMTPServer(auth=ACCOUNTS) as server, connect(server) as client:
        server.fail_next("AUTH", "454 4.7.0 Temporary authentication failure", times=2)
        # smtplib tries PLAIN and then LOGIN.
        with pytest.raises(smtplib.SMTPAuthenticationError, match="454"):
            client.login("anne", "secret")
        client.login("anne", "secret")


def test_auth_with_an_authenticator_of_ones_own() -> None:
    def decide(mechanism: str, login: bytes, password: bytes) -> bool:
        return password == login[::-1]

    with (
        SMTPServer(auth_callback=decide, auth_required=True, auth_require_tls=False) as server,
        connect(server) as client,
    ):
        server.delay_next("AUTH", 0.05)
        begin = time.monotonic()
        client.login("anne", "enna")
        assert time.monotonic() - begin >= 0.05
        send(client)


def test_accounts_in_a_list() -> None:
    with SMTPServer(auth=["anne:sec:ret", "bart:"]) as server, connect(server) as client:
        client.login("anne", "sec:ret")
        send(client)


@pytest.mark.parametrize(
    ("auth", "kind", "error"),
    [
        (["a:b", "secret"], ValueError, r"auth\[1\] is not \"user:password\""),
        ([("anne", "secret")], ValueError, r"auth\[0\]"),
        ("anne:secret", TypeError, "a list of"),
    ],
)
def test_accounts_in_another_form(auth: Any, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=error) as caught:
        SMTPServer(auth=auth)
    assert "secret" not in str(caught.value)


def test_there_is_no_auth_unless_it_is_asked_for(client: smtplib.SMTP) -> None:
    client.ehlo()
    assert not client.has_extn("auth")
