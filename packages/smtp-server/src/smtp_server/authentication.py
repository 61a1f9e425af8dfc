"""Authentication: AUTH from its first word to its reply, whoever decides it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from smtp_protocol import (
    MECHANISMS,
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
from smtp_server.log import log

if TYPE_CHECKING:
    from smtp_server.conversation import Conversation

__all__: list[str] = []

#: A mechanism that somebody wrote as a method.
AuthMethod = Callable[[Server, list[str]], Awaitable[AuthResult]]


def _own_method(name: str, smtp: Conversation) -> AuthMethod | None:
    setup = smtp.setup
    for owner, methods in (
        (setup.handler, setup.handler_mechanisms),
        (smtp, setup.smtp_mechanisms),
    ):
        if name in methods:
            method: AuthMethod = getattr(owner, methods[name])
            return method
    return None


async def authenticate(event: Auth, smtp: Conversation) -> Reply:
    """Go through the exchange that ``event`` begins.

    Returns:
        The reply that ends it; the session has what it needs to know.
    """
    name = event.mechanism
    if name not in smtp.setup.mechanisms:
        return replies.UNKNOWN_MECHANISM
    try:
        method = _own_method(name, smtp)
        if method is not None:
            result: object = await method(smtp, list(event.args))
        else:
            result = await _run(name, MECHANISMS[name](), event.initial_response, smtp)
        if smtp.replies_owed and not isinstance(result, AuthResult):
            kind = type(result).__name__
            raise TypeError(f"who decides on AUTH answers with an AuthResult, not with {kind}")
    except ProtocolError as error:
        return error.reply
    except Exception as error:
        smtp.log_failure(event, error)
        return replies.TEMPORARY_AUTH_FAILURE
    if isinstance(result, AuthResult):
        return await _judge(name, result, smtp)
    return replies.AUTH_CANCELLED  # the client gave up, and has had its answer


async def _run(
    name: str, mechanism: Mechanism, response: bytes | None, smtp: Conversation
) -> AuthResult | None:
    step = mechanism.start(response)
    shown: object = None
    while True:
        match step:
            case Challenge(data):
                answer = await smtp.challenge_auth(data)
                if answer is MISSING:
                    return None
                step = mechanism.respond(answer)
            case Ask(auth_data):
                shown = auth_data
                async with asyncio.timeout(smtp.setup.settings.handler_timeout):
                    verdict = await _ask(name, auth_data, smtp)
                step = mechanism.resolve(verdict)
            case Finished(result):
                if result.success and result.auth_data is None:
                    return AuthResult(success=True, message=result.message, auth_data=shown)
                return result


async def _ask(name: str, auth_data: object, smtp: Conversation) -> AuthResult:
    settings = smtp.setup.settings
    authenticator, callback = settings.authenticator, settings.auth_callback
    arguments = (smtp, smtp.session, smtp.envelope, name, auth_data)
    if authenticator is not None:
        if settings.auth_in_thread:
            result = await asyncio.to_thread(authenticator, *arguments)
        else:
            result = authenticator(*arguments)
        return await result if inspect.isawaitable(result) else result
    if callback is not None and isinstance(auth_data, LoginPassword):
        values = (name, auth_data.login, auth_data.password)
        if settings.auth_in_thread:
            verdict = await asyncio.to_thread(callback, *values)
        else:
            verdict = callback(*values)
        # A coroutine is true, whatever it would come to.
        return AuthResult(success=bool(await verdict if inspect.isawaitable(verdict) else verdict))
    return AuthResult(success=False)


async def _judge(name: str, result: AuthResult, smtp: Conversation) -> Reply:
    reply = replies.AUTH_OK if result.success else replies.AUTH_FAILED
    if result.message is not None:
        message = Reply.parse(result.message)
        if message.positive is result.success:
            reply = message
    if result.success and (smtp.replies_owed or smtp.session.authenticated):
        smtp.session.auth_data = result.auth_data
    return await conclude(name, reply, smtp)


async def conclude(name: str, reply: Reply, smtp: Conversation) -> Reply:
    """End an exchange with ``reply``; or with another, after too many failures.

    Args:
        name: The mechanism.
        reply: The verdict.
        smtp: The connection.

    Raises:
        ValueError: The verdict is none.
    """
    if reply.code // 100 == 3:
        raise ValueError(f"{reply} is no verdict; `challenge_auth` sends a challenge")
    if smtp.replies_owed and reply.code // 100 == 5:
        log(logging.WARNING, smtp.session, "Authentication by %s failed", name)
        closing = smtp.budget.auth_failure()
        await asyncio.sleep(smtp.setup.settings.auth_failure_delay)
        return closing or reply
    return reply
