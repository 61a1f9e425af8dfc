"""Authentication: AUTH from its first word to its reply, with nobody at the other end."""

import asyncio
import logging
import threading
from typing import Any, Unpack

import pytest
from tests.server.fakes import FakeExchange, FakeLoop

from smtp_protocol import (
    MISSING,
    Auth,
    AuthResult,
    Handler,
    LoginPassword,
    Reply,
    Server,
    TLSInfo,
    auth_mechanism,
    replies,
)
from smtp_server.authentication import authenticate, conclude, offered
from smtp_server.settings import SMTPKeywords

PLAIN = Auth("PLAIN", b"\0anne\0secret")
DELAY = 0.5


class NoHooks(Handler):
    """Has none of its own."""


def yes(*_: object) -> bool:
    return True


def exchange(
    *responses: bytes, handler: Handler | None = None, **keywords: Unpack[SMTPKeywords]
) -> FakeExchange:
    """A session whose client responds so, one after the other, and then gives up."""
    keywords = {"auth_failure_delay": DELAY, **keywords}
    return FakeExchange(handler or NoHooks(), responses=responses, **keywords)


def answer(loop: FakeLoop, fake: FakeExchange, event: Auth = PLAIN) -> Reply:
    return loop.complete(authenticate(event, fake))


# What is offered.


def test_what_is_offered_is_what_can_be_decided_on() -> None:
    assert offered(exchange()) == []
    assert offered(exchange(auth_callback=yes)) == ["LOGIN", "PLAIN"]


def test_external_is_for_clients_with_a_certificate() -> None:
    fake = exchange(auth_callback=yes, auth_mechanisms=("EXTERNAL", "PLAIN"))
    assert offered(fake) == ["PLAIN"]
    fake.session.tls = TLSInfo("TLSv1.3", "AES")
    assert offered(fake) == ["PLAIN"]
    fake.session.tls = TLSInfo("TLSv1.3", "AES", peer_certificate=b"DER")
    assert offered(fake) == ["EXTERNAL", "PLAIN"]


def test_what_is_not_offered_is_not_taken(loop: FakeLoop) -> None:
    fake = exchange(auth_callback=yes)
    assert answer(loop, fake, Auth("EXTERNAL", b"")) is replies.UNKNOWN_MECHANISM


# Who decides.


@pytest.mark.parametrize("success", [True, False])
def test_a_callback_decides(loop: FakeLoop, success: bool) -> None:
    asked: list[object] = []

    def decide(*question: object) -> bool:
        asked.append(question)
        return success

    fake = exchange(auth_callback=decide)
    assert answer(loop, fake) is (replies.AUTH_OK if success else replies.AUTH_FAILED)
    assert asked == [("PLAIN", b"anne", b"secret")]
    shown = LoginPassword(b"anne", b"secret") if success else None
    assert fake.session.auth_data == shown
    assert loop.time() == (0 if success else DELAY)


def test_a_callback_may_be_async(loop: FakeLoop) -> None:
    async def decide(*_: object) -> bool:
        await asyncio.sleep(1)
        return False

    assert answer(loop, exchange(auth_callback=decide)) is replies.AUTH_FAILED


def test_a_callback_is_asked_for_passwords_alone(loop: FakeLoop) -> None:
    fake = exchange(auth_callback=yes, auth_mechanisms=("XOAUTH2",))
    event = Auth("XOAUTH2", b"user=anne\1auth=Bearer token\1\1")
    assert answer(loop, fake, event) is replies.AUTH_CANCELLED
    assert len(fake.challenges) == 1, "which tells why"


@pytest.mark.parametrize("threaded", [True, False])
def test_an_authenticator_decides(loop: FakeLoop, threaded: bool) -> None:
    asked: list[tuple[object, ...]] = []
    threads: list[str] = []

    def decide(*question: object) -> AuthResult:
        asked.append(question)
        threads.append(threading.current_thread().name)
        return AuthResult(success=True, auth_data="anne")

    fake = exchange(authenticator=decide, auth_in_thread=threaded)
    assert answer(loop, fake) is replies.AUTH_OK
    password = LoginPassword(b"anne", b"secret")
    assert asked == [(fake, fake.session, fake.envelope, "PLAIN", password)]
    assert threads[0].startswith("smtp-server-auth") is threaded
    assert fake.session.auth_data == "anne"


def test_an_authenticator_may_be_async(loop: FakeLoop) -> None:
    async def decide(*_: object) -> AuthResult:
        await asyncio.sleep(1)
        return AuthResult(success=True)

    assert answer(loop, exchange(authenticator=decide)) is replies.AUTH_OK
    assert loop.time() == 1


def test_an_authenticator_goes_before_a_callback(loop: FakeLoop) -> None:
    def no(*_: object) -> AuthResult:
        return AuthResult(success=False)

    assert answer(loop, exchange(authenticator=no, auth_callback=yes)) is replies.AUTH_FAILED


def test_nobody_decides(loop: FakeLoop) -> None:
    """A handler that has handle_AUTH may leave it to mechanisms that nobody decides on."""

    class Looks(Handler):
        async def handle_AUTH(self, *_: object) -> str:
            raise AssertionError

    assert answer(loop, exchange(handler=Looks())) is replies.AUTH_FAILED


# What comes of it.


@pytest.mark.parametrize(
    ("success", "message", "code"),
    [
        (True, "235 2.7.0 Welcome back", 235),
        (True, "535 No", 235),
        (False, "535 5.7.8 Never heard of you", 535),
        (False, "454 Later", 454),
        (False, "235 Welcome", 535),
        (True, None, 235),
    ],
)
def test_a_message_is_sent_if_it_says_the_same(
    loop: FakeLoop, success: bool, message: str | None, code: int
) -> None:
    def decide(*_: object) -> AuthResult:
        return AuthResult(success=success, message=message)

    reply = answer(loop, exchange(authenticator=decide))
    assert reply.code == code
    assert (str(reply) == message) is (message is not None and message.startswith(str(code)))


@pytest.mark.parametrize("result", [None, True, "235 OK", MISSING, object()])
def test_rubbish_is_no_verdict(loop: FakeLoop, result: object) -> None:
    def decide(*_: object) -> Any:
        return result

    fake = exchange(authenticator=decide)
    assert answer(loop, fake) is replies.TEMPORARY_AUTH_FAILURE
    ((event, _),) = fake.failures
    assert event is PLAIN


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret")])
def test_a_decision_that_fails(loop: FakeLoop, error: BaseException) -> None:
    def decide(*_: object) -> bool:
        raise error

    fake = exchange(auth_callback=decide)
    assert answer(loop, fake) is replies.TEMPORARY_AUTH_FAILURE
    assert len(fake.failures) == 1
    assert not fake.session.authenticated


def test_a_decision_that_takes_too_long(loop: FakeLoop) -> None:
    async def decide(*_: object) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    fake = exchange(auth_callback=decide, handler_timeout=7)
    assert answer(loop, fake) is replies.TEMPORARY_AUTH_FAILURE
    assert isinstance(fake.failures[0][1], TimeoutError)
    assert loop.time() == 7


def test_the_end_of_a_session_ends_a_decision(loop: FakeLoop) -> None:
    async def decide(*_: object) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    fake = exchange(auth_callback=decide)
    task = loop.create_task(authenticate(PLAIN, fake))
    loop.turn()
    fake.ending = True
    task.cancel()
    loop.turn()
    assert task.cancelled()
    assert fake.failures == []


def test_somebody_else_cancels_a_decision(loop: FakeLoop) -> None:
    """Its client is told that the session ends, for the program may be ending."""

    async def decide(*_: object) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    fake = exchange(auth_callback=decide)
    task = loop.create_task(authenticate(PLAIN, fake))
    loop.turn()
    task.cancel()
    loop.turn()
    assert task.result() is replies.CLOSING_FAILURE
    assert len(fake.failures) == 1


@pytest.mark.parametrize("error", [ValueError(), StopIteration(), SystemExit(1)], ids=repr)
def test_a_decision_that_fails_in_its_thread(loop: FakeLoop, error: BaseException) -> None:
    def decide(*_: object) -> bool:
        raise error

    fake = exchange(auth_callback=decide, auth_in_thread=True)
    assert answer(loop, fake) is replies.TEMPORARY_AUTH_FAILURE
    assert len(fake.failures) == 1


# Challenges and responses.


def test_a_mechanism_asks_step_by_step(loop: FakeLoop) -> None:
    fake = exchange(b"anne", b"secret", auth_callback=yes)
    assert answer(loop, fake, Auth("LOGIN", None)) is replies.AUTH_OK
    assert fake.challenges == [b"Username:", b"Password:"]
    assert fake.session.auth_data == LoginPassword(b"anne", b"secret")


def test_a_client_that_gives_up(loop: FakeLoop) -> None:
    fake = exchange(b"anne", auth_callback=yes, max_auth_failures=1)
    assert answer(loop, fake, Auth("LOGIN", None)) is replies.AUTH_CANCELLED
    assert fake.ended is None, "which is no failure"
    assert loop.time() == 0


def test_a_malformed_response_has_its_own_reply(loop: FakeLoop) -> None:
    reply = answer(loop, exchange(auth_callback=yes), Auth("PLAIN", b"anne"))
    assert reply is replies.BAD_AUTH_RESPONSE


def test_a_client_that_is_told_why_it_failed_has_failed(loop: FakeLoop) -> None:
    """Even if it gives up instead of taking notice."""

    def no(*_: object) -> AuthResult:
        return AuthResult(success=False)

    fake = exchange(authenticator=no, auth_mechanisms=("XOAUTH2",), max_auth_failures=1)
    answer(loop, fake, Auth("XOAUTH2", b"user=anne\1auth=Bearer token\1\1"))
    assert fake.ended is replies.CLOSING_AUTH
    assert loop.time() == DELAY


# Mechanisms that are methods.


class Tokens(Handler):
    """Has mechanisms of its own."""

    @auth_mechanism("X-TOKEN")
    async def auth_token(self, server: Server, args: list[str]) -> AuthResult:
        response = await server.challenge_auth("Token?")
        return AuthResult(success=response == b"42", auth_data=args)

    async def auth_X__PUSH(self, server: Server, args: list[str]) -> None:
        await server.push("235 By myself")

    async def auth_X__NOTHING(self, server: Server, args: list[str]) -> None:
        """Forget to answer."""


def test_a_method_of_the_handler(loop: FakeLoop) -> None:
    fake = exchange(b"42", handler=Tokens())
    assert offered(fake) == ["X-NOTHING", "X-PUSH", "X-TOKEN"]
    assert answer(loop, fake, Auth("X-TOKEN", None, ("X-TOKEN",))) is replies.AUTH_OK
    assert fake.challenges == [b"Token?"]
    assert fake.session.auth_data == ["X-TOKEN"]


def test_a_method_that_answers_for_itself(loop: FakeLoop) -> None:
    fake = exchange(handler=Tokens())
    answer(loop, fake, Auth("X-PUSH", None))
    assert fake.replies_owed == 0
    assert fake.failures == []


def test_a_method_that_forgets_to_answer(loop: FakeLoop) -> None:
    fake = exchange(handler=Tokens())
    assert answer(loop, fake, Auth("X-NOTHING", None)) is replies.TEMPORARY_AUTH_FAILURE


def test_a_method_of_the_connection(loop: FakeLoop) -> None:
    class Connection(FakeExchange):
        async def auth_X__MINE(self, server: Server, args: list[str]) -> AuthResult:
            assert server is self
            return AuthResult(success=True)

    fake = Connection(NoHooks())
    assert answer(loop, fake, Auth("X-MINE", None)) is replies.AUTH_OK


# Failures.


def test_failures_are_counted_and_answered_late(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake = exchange(auth_callback=lambda *_: False, max_auth_failures=2)
    assert answer(loop, fake) is replies.AUTH_FAILED
    assert loop.time() == DELAY
    assert answer(loop, fake) is replies.CLOSING_AUTH
    assert loop.time() == 2 * DELAY
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("reply", "failed"),
    [(Reply(235, ("Good",)), 0), (Reply(454, ("Later",)), 0), (Reply(535, ("No",)), 1)],
)
def test_a_verdict_of_a_hook(loop: FakeLoop, reply: Reply, failed: int) -> None:
    fake = exchange(max_auth_failures=2)
    assert loop.complete(conclude("PLAIN", reply, fake)) is reply
    assert loop.time() == failed * DELAY


def test_a_challenge_is_no_verdict(loop: FakeLoop) -> None:
    with pytest.raises(ValueError, match="no verdict"):
        loop.complete(conclude("PLAIN", Reply(334, ("",)), exchange()))


def test_a_verdict_that_the_client_has_already(loop: FakeLoop) -> None:
    fake = exchange()
    fake.replies_owed = 0
    loop.complete(conclude("PLAIN", replies.AUTH_FAILED, fake))
    assert loop.time() == 0, "it was counted when it was sent"
