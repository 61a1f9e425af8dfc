"""Authentication: AUTH from its first word to its reply, whoever decides it."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from smtp_protocol import (
    MISSING,
    Ask,
    Auth,
    AuthResult,
    Challenge,
    Finished,
    LoginPassword,
    Mechanism,
    ProtocolError,
    Reply,
    Server,
    replies,
)
from smtp_protocol.answers import auth_reply
from smtp_protocol.auth import decided
from smtp_server.dispatch import HookFailed, failure_in_future, failure_of, timed
from smtp_server.exchange import Exchange
from smtp_server.log import log
from smtp_server.setup import Offer

__all__: list[str] = []

ResultT = TypeVar("ResultT")

#: A mechanism that somebody wrote as a method.
AuthMethod = Callable[[Server, list[str]], Awaitable[AuthResult]]

# Authenticators that block have threads of their own: logins must not wait for disks.
_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="smtp-server-auth")


def offered(exchange: Exchange) -> Sequence[str]:
    """The mechanisms that AUTH takes in this session, which are those that EHLO offers."""
    tls = exchange.session.tls
    certified = tls is not None and tls.peer_certificate is not None
    # RFC 4422, appendix A: EXTERNAL is about what TLS has shown of the client.
    return [name for name in exchange.setup.mechanisms if name != "EXTERNAL" or certified]


async def authenticate(event: Auth, exchange: Exchange) -> Reply:
    """Go through the exchange of messages that ``event`` begins.

    Returns:
        The reply that ends it; the session has what it needs to know.
    """
    name = event.mechanism
    if name not in offered(exchange):
        return replies.UNKNOWN_MECHANISM
    try:
        result = await _result(event, exchange.setup.mechanisms[name], exchange)
        if exchange.replies_owed and not isinstance(result, AuthResult):
            kind = type(result).__name__
            raise TypeError(f"who decides on AUTH answers with an AuthResult, not with {kind}")
    except ProtocolError as error:
        return error.reply
    except BaseException as error:
        failure = failure_of(error, ending=exchange.ending)
        exchange.log_failure(event, failure)
        if isinstance(failure, HookFailed) and failure.closing:
            return replies.CLOSING_FAILURE
        return replies.TEMPORARY_AUTH_FAILURE
    if isinstance(result, AuthResult):
        return await _judge(name, result, exchange)
    return replies.AUTH_CANCELLED  # the client gave up, and has had its answer


async def _result(event: Auth, offer: Offer, exchange: Exchange) -> object:
    if offer.make is not None:
        return await _run(event.mechanism, offer.make(), event.initial_response, exchange)
    owner = exchange.setup.handler if offer.of_handler else exchange
    method: AuthMethod = getattr(owner, offer.method)
    return await timed(method(exchange, list(event.args)), exchange)


async def _run(
    name: str, mechanism: Mechanism, response: bytes | None, exchange: Exchange
) -> AuthResult | None:
    step = mechanism.start(response)
    shown: object = None
    while True:
        match step:
            case Challenge(data, failed):
                answer = await exchange.challenge_auth(data)
                if answer is MISSING:
                    closing = await _note_failure(name, exchange) if failed else None
                    if closing is not None:
                        exchange.end_session(closing)
                    return None
                step = mechanism.respond(answer)
            case Ask(auth_data):
                shown = auth_data
                verdict = await timed(_ask(name, auth_data, exchange), exchange)
                step = mechanism.resolve(verdict)
            case Finished(result):
                if result.success and result.auth_data is None:
                    return AuthResult(success=True, message=result.message, auth_data=shown)
                return result


async def _ask(name: str, auth_data: object, exchange: Exchange) -> AuthResult:
    settings = exchange.setup.settings
    authenticator, callback = settings.authenticator, settings.auth_callback
    if authenticator is not None:
        arguments = (exchange, exchange.session, exchange.envelope, name, auth_data)
        result = await _call(partial(authenticator, *arguments), threaded=settings.auth_in_thread)
        return await result if inspect.isawaitable(result) else result
    if callback is not None and isinstance(auth_data, LoginPassword):
        ask = partial(callback, name, auth_data.login, auth_data.password)
        verdict = await _call(ask, threaded=settings.auth_in_thread)
        # A coroutine is true, whatever it would come to; so is a text that says no.
        good = decided(await verdict if inspect.isawaitable(verdict) else verdict)
        return AuthResult(success=good)
    return AuthResult(success=False)


async def _call(function: Callable[[], ResultT], *, threaded: bool) -> ResultT:
    if not threaded:
        return function()
    context = contextvars.copy_context()

    def run() -> ResultT:
        try:
            return context.run(function)
        except BaseException as error:
            raise failure_in_future(error) from error

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


async def _judge(name: str, result: AuthResult, exchange: Exchange) -> Reply:
    reply = auth_reply(result)
    if result.success and (exchange.replies_owed or exchange.session.authenticated):
        exchange.session.auth_data = result.auth_data
    return await conclude(name, reply, exchange)


async def conclude(name: str, reply: Reply, exchange: Exchange) -> Reply:
    """End an exchange with ``reply``; or with another, after too many failures.

    Args:
        name: The mechanism.
        reply: The verdict.
        exchange: The connection.

    Raises:
        ValueError: The verdict is none.
    """
    if reply.code // 100 == 3:
        raise ValueError(f"{reply} is no verdict; `challenge_auth` sends a challenge")
    if exchange.replies_owed and reply.code // 100 == 5:
        return await _note_failure(name, exchange) or reply
    return reply


async def _note_failure(name: str, exchange: Exchange) -> Reply | None:
    """Count a failure, and make the client wait; the reply is the end of its session."""
    log(logging.INFO, exchange.session, "Authentication by %s failed", name)
    closing = exchange.budget.auth_failure(name)
    delay = exchange.setup.settings.auth_failure_delay
    if delay:
        await exchange.pause(delay)
    return closing
