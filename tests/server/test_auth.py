"""AUTH: every mechanism, whoever decides, on each way; failures; no password in the log."""

import asyncio
import base64
import hashlib
import hmac
import inspect
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypedDict

import pytest
from tests.server.secure import (
    Wire,
    client_context,
    connect_tls,
    server_context,
    start_tls,
)
from tests.server.support import (
    SHORT,
    Dialogue,
    Keeper,
    dialogue,
    service_of,
    talking,
    tcp_address,
)

from smtp_handlers import Sink
from smtp_protocol import (
    MECHANISMS,
    MISSING,
    Answer,
    AuthResult,
    CramMD5Response,
    Envelope,
    LoginPassword,
    Reply,
    Server,
    Session,
    auth_mechanism,
)
from smtp_protocol.auth import Missing
from smtp_protocol.sasl import Anonymous, ExternalIdentity, OAuthToken, ScramKeys, ScramLogin
from smtp_server import SMTP, serve

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

USER = b"anne"
SECRET = b"correct-horse-battery"
HELLO = "EHLO client.test"
WELCOME = "235 2.7.0 Authentication successful"
WRONG = "535 5.7.8 Authentication credentials invalid"
CANCELLED = "501 5.7.0 Authentication cancelled"
LATER = "454 4.7.0 Temporary authentication failure"
TOO_MANY = "421 4.7.0 Too many failed authentications"


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode() or "="


def challenge_in(reply: str) -> bytes:
    assert reply.startswith("334 "), reply
    return base64.b64decode(reply[4:])


def plain(password: bytes = SECRET) -> str:
    return b64(b"\0" + USER + b"\0" + password)


class Clerk:
    """An authenticator that knows one user, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.threads: list[int] = []

    def __call__(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: object,
    ) -> AuthResult:
        """Decide."""
        assert server.session is session
        assert server.envelope is envelope
        self.asked.append((mechanism, auth_data))
        self.threads.append(threading.get_ident())
        match auth_data:
            case LoginPassword(login, password):
                return AuthResult(success=(login, password) == (USER, SECRET))
            case CramMD5Response(login):
                return AuthResult(success=login == USER and auth_data.verify(SECRET))
            case ScramLogin(login, _, hash_name) if login == USER:
                keys = ScramKeys.from_password(SECRET.decode(), hash_name=hash_name)
                return AuthResult(success=True, auth_data=keys)
            case OAuthToken(login, token):
                return AuthResult(success=(login, token) == (USER, SECRET))
            case ExternalIdentity():
                assert session.tls is not None
                return AuthResult(success=b"anne" in (session.tls.peer_certificate or b""))
            case Anonymous():
                return AuthResult(success=True)
        return AuthResult(success=False)


class Keywords(TypedDict):
    """What most of these servers have in common."""

    auth_mechanisms: tuple[str, ...]
    auth_require_tls: bool
    auth_failure_delay: float


KEYWORDS: Keywords = {
    "auth_mechanisms": tuple(MECHANISMS),
    "auth_require_tls": False,
    "auth_failure_delay": 0,
}


# Each mechanism.

Login = Callable[[Dialogue, bytes], Awaitable[str]]


async def by_plain(client: Dialogue, password: bytes) -> str:
    return await client.ask(f"AUTH PLAIN {plain(password)}")


async def by_plain_in_two_steps(client: Dialogue, password: bytes) -> str:
    assert challenge_in(await client.ask("auth plain")) == b""
    return await client.ask(plain(password))


async def by_login(client: Dialogue, password: bytes) -> str:
    assert challenge_in(await client.ask("AUTH LOGIN")) == b"Username:"
    assert challenge_in(await client.ask(b64(USER))) == b"Password:"
    return await client.ask(b64(password))


async def by_login_with_a_name(client: Dialogue, password: bytes) -> str:
    assert challenge_in(await client.ask(f"AUTH Login {b64(USER)}")) == b"Password:"
    return await client.ask(b64(password))


async def by_cram_md5(client: Dialogue, password: bytes) -> str:
    challenge = challenge_in(await client.ask("AUTH CRAM-MD5"))
    digest = hmac.new(password, challenge, "md5").hexdigest().encode()
    return await client.ask(b64(USER + b" " + digest))


async def _by_scram(
    client: Dialogue, password: bytes, hash_name: Literal["sha1", "sha256"], name: str
) -> str:
    first = b"n=" + USER + b",r=abcdefgh"
    reply = await client.ask(f"AUTH {name} {b64(b'n,,' + first)}")
    if not reply.startswith("334"):
        return reply
    server_first = challenge_in(reply)
    parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salt, times = base64.b64decode(parts[b"s"]), int(parts[b"i"])
    salted = hashlib.pbkdf2_hmac(hash_name, password, salt, times)
    final = b"c=biws,r=" + parts[b"r"]
    message = b",".join((first, server_first, final))
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    signature = hmac.digest(hashlib.new(hash_name, client_key).digest(), message, hash_name)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    reply = await client.ask(b64(final + b",p=" + base64.b64encode(proof)))
    if not reply.startswith("334"):
        return reply
    server_key = hmac.digest(salted, b"Server Key", hash_name)
    verifier = base64.b64encode(hmac.digest(server_key, message, hash_name))
    assert challenge_in(reply) == b"v=" + verifier
    return await client.ask("")


async def by_scram_sha_256(client: Dialogue, password: bytes) -> str:
    return await _by_scram(client, password, "sha256", "SCRAM-SHA-256")


async def by_scram_sha_1(client: Dialogue, password: bytes) -> str:
    return await _by_scram(client, password, "sha1", "SCRAM-SHA-1")


async def by_xoauth2(client: Dialogue, password: bytes) -> str:
    message = b"user=" + USER + b"\x01auth=Bearer " + password + b"\x01\x01"
    return await _after_the_error(client, await client.ask(f"AUTH XOAUTH2 {b64(message)}"))


async def by_oauthbearer(client: Dialogue, password: bytes) -> str:
    message = b"n,a=" + USER + b",\x01host=x\x01auth=Bearer " + password + b"\x01\x01"
    return await _after_the_error(client, await client.ask(f"AUTH OAUTHBEARER {b64(message)}"))


async def _after_the_error(client: Dialogue, reply: str) -> str:
    if not reply.startswith("334"):
        return reply
    assert json.loads(challenge_in(reply))["status"]
    return await client.ask("AQ==")


LOGINS = [
    by_plain,
    by_plain_in_two_steps,
    by_login,
    by_login_with_a_name,
    by_cram_md5,
    by_scram_sha_256,
    by_scram_sha_1,
    by_xoauth2,
    by_oauthbearer,
]


@pytest.mark.parametrize("login", LOGINS)
async def test_each_mechanism(login: Login, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    handler, clerk = Keeper(), Clerk()
    async with dialogue(handler, authenticator=clerk, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await login(client, b"wrong-horse-battery") == WRONG
        (session,) = handler.sessions
        assert (session.authenticated, session.auth_data) == (False, None)
        assert await login(client, SECRET) == WELCOME
        assert (session.authenticated, session.auth_data is None) == (True, False)
        assert session.auth_data == clerk.asked[-1][1]
        assert await client.ask(f"AUTH PLAIN {plain()}") == "503 Already authenticated"
        assert await client.deliver() == "250 Kept"
    no_password_in(caplog)


def no_password_in(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the right one nor the wrong one, as it is or as it was sent."""
    assert caplog.records
    for password in (SECRET, b"wrong-horse-battery"):
        shapes = [password, base64.b64encode(password), base64.b64encode(b"\0anne\0" + password)]
        for shape in shapes:
            text = shape.decode().rstrip("=")[:-1].lower()
            assert text not in caplog.text.lower(), text
    assert "horse" not in caplog.text


@pytest.mark.parametrize("certificate", [True, False])
async def test_external(certificate: bool) -> None:
    clerk = Clerk()
    async with dialogue(
        Sink(),
        authenticator=clerk,
        auth_mechanisms=("EXTERNAL", "PLAIN"),
        tls_context=server_context(ask=True),
        auth_failure_delay=0,
    ) as client:
        await start_tls(client, client_context("anne@example.com" if certificate else None))
        offer = await client.ask(HELLO)
        if certificate:
            assert "250-AUTH EXTERNAL PLAIN" in offer
            assert await client.ask("AUTH EXTERNAL =") == WELCOME
        else:
            assert "250-AUTH PLAIN" in offer
            assert not (await client.ask("AUTH EXTERNAL =")).startswith("235")


async def test_anonymous() -> None:
    handler, clerk = Keeper(), Clerk()
    async with dialogue(
        handler, authenticator=clerk, auth_mechanisms=("ANONYMOUS",), auth_require_tls=False
    ) as client:
        assert "250-AUTH ANONYMOUS" in await client.ask(HELLO)
        assert challenge_in(await client.ask("AUTH ANONYMOUS")) == b""
        assert await client.ask(b64(b"anne@example.com")) == WELCOME
        assert handler.sessions[0].auth_data == Anonymous(b"anne@example.com")


# Where it can be used.


async def test_on_each_way(wire: Wire) -> None:
    handler = Keeper()
    async with wire.talking(handler, authenticator=Clerk(), auth_required=True) as client:
        offer = await client.ask(HELLO)
        assert ("250-AUTH LOGIN PLAIN" in offer) is wire.encrypted
        if not wire.encrypted:
            assert (await client.ask(f"AUTH PLAIN {plain()}")).startswith("538 5.7.11")
            return
        for line in (
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA",
            "VRFY x",
            "EXPN x",
            "HELP",
        ):
            assert await client.ask(line) == "530 5.7.0 Authentication required", line
        for line in ("NOOP", "RSET"):
            assert await client.ask(line) == "250 OK"
        assert await by_login(client, SECRET) == WELCOME
        assert (await client.ask("HELP")).startswith("214")
        assert await client.deliver() == "250 Kept"
        assert handler.sessions[0].tls is not None


async def test_a_chunk_before_authentication() -> None:
    async with dialogue(
        Sink(), authenticator=Clerk(), auth_required=True, extensions=("CHUNKING",), **KEYWORDS
    ) as client:
        await client.ask(HELLO)
        await client.send("BDAT 6\r\nNOOP\r\n")
        assert await client.reply() == "530 5.7.0 Authentication required"
        assert await client.ask("NOOP") == "250 OK"


async def test_where_it_cannot_be_used() -> None:
    async with dialogue(Sink(), auth_callback=lambda *_: True, **KEYWORDS) as client:
        command = f"AUTH PLAIN {plain()}"
        assert (await client.ask(command)).startswith("503")
        await client.ask("HELO client.test")
        assert (await client.ask(command)).startswith("503")
        assert "\n250-AUTH " in await client.ask(HELLO)
        assert (await client.ask("AUTH")).startswith("501")
        assert (await client.ask(f"{command} three")).startswith("501")
        assert (await client.ask("AUTH X-NONE")).startswith("504 5.5.4")
        await client.ask("MAIL FROM:<a@example.com>")
        assert (await client.ask(command)).startswith("503")
        await client.ask("RCPT TO:<a@example.com>")
        assert (await client.ask(command)).startswith("503")
        await client.ask("RSET")
        assert await client.ask(command) == WELCOME
    async with dialogue(Sink()) as client:
        assert "AUTH" not in await client.ask(HELLO)
        assert (await client.ask(command)).startswith("502")


async def test_mechanisms_that_are_excluded() -> None:
    async with dialogue(
        Sink(), auth_callback=lambda *_: True, auth_exclude_mechanism=["login"], **KEYWORDS
    ) as client:
        offer = await client.ask(HELLO)
        assert "PLAIN" in offer
        assert "LOGIN" not in offer
        assert (await client.ask("AUTH LOGIN")).startswith("504")


# What goes wrong.


async def test_malformed_responses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with dialogue(Sink(), authenticator=Clerk(), max_errors=None, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert (await client.ask(f"AUTH PLAIN {plain()[:-2]}!")).startswith("501 5.5.2")
        assert (await client.ask(f"AUTH PLAIN {b64(SECRET)}")).startswith("501")
        assert (await client.ask(f"AUTH PLAIN {b64(b'a' + bytes(1) + SECRET)}")).startswith("501")
        assert (await client.ask("AUTH PLAIN *")).startswith("501")
        for commands in (["AUTH PLAIN"], ["AUTH LOGIN"], ["AUTH LOGIN", b64(USER)]):
            assert (await client.tell(*commands)).startswith("334")
            assert await client.ask("*") == CANCELLED
            assert (await client.tell(*commands)).startswith("334")
            assert (await client.ask("@@@")).startswith("501 5.5.2")
            assert await client.ask("NOOP") == "250 OK"
        # An empty response is one.
        assert (await client.ask("AUTH LOGIN =")).startswith("334")
        assert await client.ask("") == WRONG
        assert (await client.ask("AUTH CRAM-MD5")).startswith("334")
        assert (await client.ask(b64(b"anne"))).startswith("501")
        assert (await client.ask(f"AUTH CRAM-MD5 {b64(b'anne')}")).startswith("501")
        assert (await client.ask(f"AUTH SCRAM-SHA-256 {b64(b'n=anne')}")).startswith("501")
        assert (await client.ask(f"AUTH XOAUTH2 {b64(b'user=anne')}")).startswith("501")
        assert (await client.ask(f"AUTH OAUTHBEARER {b64(b'anne')}")).startswith("501")
        assert await by_plain(client, SECRET) == WELCOME
    no_password_in(caplog)


async def test_a_response_of_any_length() -> None:
    clerk = Clerk()
    async with dialogue(Sink(), authenticator=clerk, **KEYWORDS) as client:
        await client.ask(HELLO)
        long = b64(b"\0" + USER + b"\0" + b"x" * 9000)
        assert 12000 < len(long) <= 12288
        await client.ask("AUTH PLAIN")
        assert await client.ask(long) == WRONG
        assert await client.tell("AUTH PLAIN", "x" * 20_000) != WRONG
        assert await client.ask("NOOP") == "250 OK"
        assert len(clerk.asked) == 1


@pytest.mark.parametrize("login", LOGINS)
async def test_the_authenticator_fails(login: Login, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> AuthResult:
        raise LookupError("the database is gone")

    async with dialogue(Sink(), authenticator=fail, **KEYWORDS) as client:
        await client.ask(HELLO)
        for _ in range(4):
            assert await login(client, SECRET) == LATER
        assert await client.ask("NOOP") == "250 OK"
    assert "the database is gone" in caplog.text
    no_password_in(caplog)


@pytest.mark.parametrize("answer", [None, True, "235 2.7.0 Come in"])
async def test_the_authenticator_answers_with_rubbish(answer: object) -> None:
    handler = Keeper()

    def rubbish(*_: object) -> Any:
        return answer

    async with dialogue(handler, authenticator=rubbish, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert (await by_plain(client, SECRET))[0] == "4"
        assert not handler.sessions[0].authenticated
        assert (await by_plain(client, SECRET))[0] == "4"


@pytest.mark.parametrize("login", LOGINS)
async def test_too_many_failures(login: Login, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handler = Keeper()
    async with dialogue(handler, authenticator=Clerk(), **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await login(client, b"1") == WRONG
        assert await client.tell(HELLO, "NOOP") == "250 OK"
        assert await login(client, b"2") == WRONG
        assert await login(client, b"3") == TOO_MANY
        assert await client.rest() == ""
    assert handler.gone == handler.sessions
    assert caplog.text.count(" failed") == 3


async def test_failures_that_starttls_does_not_make_forgotten() -> None:
    async with dialogue(
        Sink(), authenticator=Clerk(), tls_context=server_context(), **KEYWORDS
    ) as client:
        await client.ask(HELLO)
        assert await by_plain(client, b"1") == WRONG
        assert await by_plain(client, b"2") == WRONG
        await start_tls(client)
        await client.ask(HELLO)
        assert await by_plain(client, b"3") == TOO_MANY


async def test_any_number_of_failures() -> None:
    async with dialogue(
        Sink(), authenticator=Clerk(), max_auth_failures=None, **KEYWORDS
    ) as client:
        await client.ask(HELLO)
        for _ in range(30):
            assert await by_plain(client, b"1") == WRONG
        assert await by_plain(client, SECRET) == WELCOME


async def test_a_failure_is_answered_later() -> None:
    loop = asyncio.get_running_loop()
    keywords: Keywords = {**KEYWORDS, "auth_failure_delay": SHORT}
    async with dialogue(Sink(), authenticator=Clerk(), **keywords) as client:
        await client.ask(HELLO)
        began = loop.time()
        await client.send(f"AUTH PLAIN {plain(b'1')}\r\nAUTH PLAIN {plain()}\r\n")
        assert await client.reply() == WRONG
        assert loop.time() - began >= SHORT * 0.9
        assert await client.reply() == WELCOME


async def test_a_client_that_goes_in_the_middle() -> None:
    handler = Keeper()
    clerk = Clerk()
    service = serve(handler, "127.0.0.1", 0, authenticator=clerk, **KEYWORDS)
    async with service:
        for way in ("close", "reset", "eof"):
            async with talking(service) as client:
                await client.ask(HELLO)
                await client.ask("AUTH LOGIN")
                if way == "reset":
                    client.reset()
                elif way == "eof":
                    client.writer.write_eof()
                    assert await client.rest() == ""
    assert len(handler.gone) == 3
    assert clerk.asked == []


async def test_what_is_pipelined_behind_a_cancelled_exchange() -> None:
    async with dialogue(Sink(), authenticator=Clerk(), **KEYWORDS) as client:
        await client.ask(HELLO)
        await client.send(f"AUTH LOGIN\r\n*\r\nNOOP\r\nAUTH LOGIN\r\n{b64(USER)}\r\n")
        await client.send(f"{b64(SECRET)}\r\nNOOP\r\nQUIT\r\n")
        answers = (await client.rest()).splitlines()
    assert [line[:3] for line in answers] == [
        "334",
        "501",
        "250",
        "334",
        "334",
        "235",
        "250",
        "221",
    ]


async def test_a_password_that_is_sent_where_no_password_is_wanted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Clients that do not wait for the answer to AUTH."""
    caplog.set_level(logging.DEBUG)
    async with dialogue(Sink(), auth_callback=lambda *_: True) as client:
        await client.ask(HELLO)
        lines = ["AUTH LOGIN", b64(USER), b64(SECRET), plain(), "AUTHPLAIN " + plain()]
        await client.send("".join(f"{line}\r\n" for line in lines))
        for _ in lines:
            assert (await client.reply())[0] == "5"
        assert (await client.ask(f"AUTH PLAIN {plain()}")).startswith("538")
        assert (await client.ask(f"AUTH PLAIN {plain()} x")).startswith("501")
        assert await client.ask("NOOP") == "250 OK"
    no_password_in(caplog)


# Who decides.


async def test_a_callback() -> None:
    asked: list[tuple[str, bytes, bytes]] = []

    def callback(mechanism: str, login: bytes, password: bytes) -> bool:
        asked.append((mechanism, login, password))
        return password == SECRET

    handler = Keeper()
    async with dialogue(handler, auth_callback=callback, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await by_plain(client, b"no") == WRONG
        assert await by_login(client, SECRET) == WELCOME
        assert handler.sessions[0].auth_data == LoginPassword(USER, SECRET)
    assert asked == [("PLAIN", USER, b"no"), ("LOGIN", USER, SECRET)]


async def test_a_callback_decides_on_passwords_alone() -> None:
    async with dialogue(
        Sink(), auth_callback=lambda *_: True, max_auth_failures=None, **KEYWORDS
    ) as client:
        await client.ask(HELLO)
        for login in (by_cram_md5, by_scram_sha_256, by_xoauth2):
            assert await login(client, SECRET) == WRONG


async def test_an_authenticator_that_waits() -> None:
    clerk = Clerk()

    async def ask(
        server: Server,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: object,
    ) -> AuthResult:
        await asyncio.sleep(0)
        return clerk(server, session, envelope, mechanism, auth_data)

    async with dialogue(Sink(), authenticator=ask, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await by_plain(client, b"no") == WRONG
        assert await by_scram_sha_256(client, SECRET) == WELCOME


async def test_an_authenticator_that_blocks_is_called_in_a_thread() -> None:
    clerk, entered, opened = Clerk(), threading.Event(), threading.Event()

    def ask(
        server: Server,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: object,
    ) -> AuthResult:
        entered.set()
        assert opened.wait(30)
        return clerk(server, session, envelope, mechanism, auth_data)

    service = serve(Sink(), "127.0.0.1", 0, authenticator=ask, auth_in_thread=True, **KEYWORDS)
    async with service, talking(service) as first, talking(service) as second:
        await first.ask(HELLO)
        await first.send(f"AUTH PLAIN {plain()}\r\n")
        assert await asyncio.to_thread(entered.wait, 30)
        assert await second.ask("NOOP") == "250 OK"
        opened.set()
        assert await first.reply() == WELCOME
    assert threading.get_ident() not in clerk.threads


async def test_a_callback_in_a_thread() -> None:
    threads: list[int] = []

    def callback(mechanism: str, login: bytes, password: bytes) -> bool:
        threads.append(threading.get_ident())
        return password == SECRET

    async with dialogue(Sink(), auth_callback=callback, auth_in_thread=True, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await by_plain(client, b"no") == WRONG
        assert await by_plain(client, SECRET) == WELCOME
    assert threading.get_ident() not in threads


async def test_what_an_authenticator_says() -> None:
    handler = Keeper()

    def ask(
        server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
    ) -> AuthResult:
        assert isinstance(auth_data, LoginPassword)
        if auth_data.password == SECRET:
            return AuthResult(success=True, message="235 Hello Anne", auth_data={"id": 7})
        if auth_data.password == b"positive":
            return AuthResult(success=False, message="235 Come in all the same")
        if auth_data.password == b"split":
            return AuthResult(success=False, message="535 a\r\n250 b")
        return AuthResult(success=False, message="535 5.7.8 Not you", auth_data="nothing")

    async with dialogue(handler, authenticator=ask, max_auth_failures=None, **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await by_plain(client, b"no") == "535 5.7.8 Not you"
        assert (handler.sessions[0].authenticated, handler.sessions[0].auth_data) == (False, None)
        assert await by_plain(client, b"positive") == WRONG
        assert (await by_plain(client, b"split"))[0] == "4"
        assert not handler.sessions[0].authenticated
        assert await by_plain(client, SECRET) == "235 Hello Anne"
        assert handler.sessions[0].auth_data == {"id": 7}


async def test_a_success_is_235_for_session_and_wire() -> None:
    handler = Keeper()

    def ask(*_: object) -> AuthResult:
        return AuthResult(success=True, message="250 Not what the RFC says")

    async with dialogue(handler, authenticator=ask, auth_required=True, **KEYWORDS) as client:
        await client.ask(HELLO)
        await by_plain(client, SECRET)
        mail = await client.ask("MAIL FROM:<a@example.com>")
        assert mail.startswith("250") is handler.sessions[0].authenticated


# Hooks.


class Own(Keeper):
    """Has mechanisms of its own."""

    async def auth_PLAIN(self, server: Server, args: list[str]) -> AuthResult:
        """Take the built-in one's place."""
        return AuthResult(success=args[1:] == ["b3Blbg=="], auth_data="sesame")

    async def auth_X__ECHO(self, server: Server, args: list[str]) -> AuthResult:
        """Challenge with a text, with octets, and with what is base64 already."""
        first = await server.challenge_auth("one")
        if first is MISSING:
            return AuthResult(success=False)
        second = await server.challenge_auth(first)
        third = await server.challenge_auth("dGhyZWU=", encode_to_b64=False)
        return AuthResult(success=(first, second, third) == (b"1", b"2", b""))

    async def auth_X__SELF(self, server: Server, args: list[str]) -> AuthResult:
        """Answer for itself, yes."""
        await server.push("235 2.7.0 Take a seat")
        return AuthResult(success=True, auth_data="seated")

    @auth_mechanism("X-TOKEN")
    async def auth_with_a_token(self, server: Server, args: list[str]) -> AuthResult:
        """Answer for itself."""
        await server.push("535 5.7.8 No tokens today")
        return AuthResult(success=False)

    async def auth_X__FAILS(self, server: Server, args: list[str]) -> AuthResult:
        """Fail."""
        raise LookupError("gone")


async def test_mechanisms_of_the_handler() -> None:
    handler = Own()
    async with dialogue(handler, auth_require_tls=False, auth_failure_delay=0) as client:
        assert "250-AUTH PLAIN X-ECHO X-FAILS X-SELF X-TOKEN\n" in await client.ask(HELLO)
        assert await client.ask("AUTH X-TOKEN") == "535 5.7.8 No tokens today"
        assert await client.ask("AUTH X-FAILS") == LATER
        assert await client.ask("AUTH PLAIN c2h1dA==") == WRONG
        assert challenge_in(await client.ask("AUTH x-echo")) == b"one"
        assert challenge_in(await client.ask("MQ==")) == b"1"
        assert challenge_in(await client.ask("Mg==")) == b"three"
        assert await client.ask("") == WELCOME
        assert handler.sessions[0].authenticated


async def test_a_mechanism_that_answers_for_itself() -> None:
    handler = Own()
    async with dialogue(handler, auth_require_tls=False, auth_required=True) as client:
        await client.ask(HELLO)
        assert await client.ask("AUTH X-SELF") == "235 2.7.0 Take a seat"
        assert await client.ask("MAIL FROM:<a@example.com>") == "250 OK"
        (session,) = handler.sessions
        assert (session.authenticated, session.auth_data) == (True, "seated")


async def test_a_mechanism_of_the_handler_is_cancelled() -> None:
    async with dialogue(Own(), auth_require_tls=False, auth_failure_delay=0) as client:
        await client.ask(HELLO)
        await client.ask("AUTH X-ECHO")
        assert await client.ask("*") == CANCELLED
        assert await client.ask("NOOP") == "250 OK"


async def test_mechanisms_of_the_server() -> None:
    class Server2(SMTP):
        async def auth_X__SERVER(self, server: Server, args: list[str]) -> AuthResult:
            assert server is self
            return AuthResult(success=True)

    service = service_of(Server2, Sink(), auth_require_tls=False)
    async with service:
        for _ in range(2):
            async with talking(service) as client:
                assert "250-AUTH X-SERVER" in await client.ask(HELLO)
                assert await client.ask("AUTH X-SERVER") == WELCOME


class Hook(Keeper):
    """Decides in ``handle_AUTH``."""

    async def handle_AUTH(
        self, server: Server, session: Session, envelope: Envelope, args: list[str]
    ) -> Answer | Literal[Missing.MISSING]:
        """Decide by the mechanism."""
        match args:
            case ["LOGIN"]:
                return "535 5.7.8 No LOGIN"
            case ["PLAIN", _]:
                return MISSING
            case ["CRAM-MD5"]:
                response = await server.challenge_auth(b"hi")
                if response is MISSING:
                    return MISSING
                session.auth_data = response
                return "235 2.7.0 As you say"
            case ["XOAUTH2"]:
                return "334 QQ=="
        raise LookupError("what is this?")


async def test_the_hook() -> None:
    handler = Hook()
    async with dialogue(handler, authenticator=Clerk(), **KEYWORDS) as client:
        await client.ask(HELLO)
        assert await client.ask("AUTH LOGIN") == "535 5.7.8 No LOGIN"
        assert await by_plain(client, b"no") == WRONG
        assert (await client.ask("AUTH XOAUTH2"))[0] == "4"
        assert (await client.ask("AUTH OAUTHBEARER"))[0] == "4"
        assert challenge_in(await client.ask("AUTH CRAM-MD5")) == b"hi"
        assert await client.ask("*") == CANCELLED
        assert challenge_in(await client.ask("AUTH CRAM-MD5")) == b"hi"
        assert await client.ask(b64(b"me")) == "235 2.7.0 As you say"
        assert handler.sessions[0].authenticated
        assert handler.sessions[0].auth_data == b"me"


async def test_the_hooks_failures_count() -> None:
    class No(Keeper):
        async def handle_AUTH(
            self, server: Server, session: Session, envelope: Envelope, args: list[str]
        ) -> Answer | Literal[Missing.MISSING]:
            return "535 5.7.8 No"

    async with dialogue(No(), **KEYWORDS) as client:
        await client.ask(HELLO)
        answers = [await by_plain(client, SECRET) for _ in range(3)]
        assert answers == ["535 5.7.8 No", "535 5.7.8 No", TOO_MANY]


async def test_a_challenge_outside_of_auth() -> None:
    class Asks(Keeper):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            await server.challenge_auth("who are you?")
            return "250 OK"

    async with dialogue(Asks(), authenticator=Clerk(), **KEYWORDS) as client:
        await client.ask(HELLO)
        assert (await client.ask("NOOP"))[0] == "4"
        assert await by_plain(client, SECRET) == WELCOME


async def test_implicit_tls_and_auth() -> None:
    service = serve(
        Sink(),
        "127.0.0.1",
        0,
        ssl_context=server_context(),
        authenticator=Clerk(),
        auth_required=True,
    )
    async with service, await connect_tls(tcp_address(service)) as client:
        await client.reply()
        assert "250-AUTH LOGIN PLAIN\n" in await client.ask(HELLO)
        assert await by_plain(client, SECRET) == WELCOME
        assert await client.deliver() == "250 OK"


# Answers that may say no, and would count as yes.


async def says_no() -> bool:
    return False


NO: dict[str, Callable[[], object]] = {
    "a text": lambda: "535 5.7.8 no",
    "octets": lambda: b"no",
    "a reply": lambda: Reply(535, ("no",)),
    "an AuthResult": lambda: AuthResult(success=False),
    "a coroutine": says_no,
    "a future": lambda: asyncio.get_running_loop().create_future(),
}


@pytest.mark.parametrize("what", NO)
async def test_a_no_lets_nobody_in(what: str, caplog: pytest.LogCaptureFixture) -> None:
    made: list[object] = []

    async def callback(*args: object) -> Any:
        made.append(NO[what]())
        return made[-1]

    def authenticator(*args: object) -> AuthResult:
        made.append(NO[what]())
        success: Any = made[-1]
        return AuthResult(success=success)

    ways: list[dict[str, Any]] = [{"auth_callback": callback}, {"authenticator": authenticator}]
    for way in ways:
        handler, keywords = Keeper(), {**KEYWORDS, **way}
        async with dialogue(handler, **keywords) as client:
            await client.ask(HELLO)
            assert (await client.ask(f"AUTH PLAIN {plain()}")).startswith("454 ")
            assert not handler.sessions[0].authenticated
    for each in made:
        if inspect.iscoroutine(each):
            each.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
