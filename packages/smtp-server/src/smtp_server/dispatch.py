"""Dispatch: one event in, one hook called, its replies out, whatever the hook does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from smtp_protocol import (
    MISSING,
    Answer,
    Auth,
    Bdat,
    BodyEnd,
    Command,
    Connected,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Unknown,
    Vrfy,
    Xclient,
    Xforward,
    ehlo_keywords,
    replies,
)
from smtp_server.authentication import authenticate, conclude

if TYPE_CHECKING:
    from smtp_server.smtp import SMTP

__all__: list[str] = []

#: What is answered with the help of a hook.
Question = Command | Connected | BodyEnd


async def answer(event: Question, smtp: SMTP) -> Sequence[Reply]:
    """Let the handler answer ``event``.

    Returns:
        The replies, as many as are owed. A hook that fails gets its client the answer of
        ``handle_exception``; one that sent the reply itself gets it none.
    """
    try:
        limit = smtp.setup.settings.handler_timeout
        if limit is None or isinstance(event, Auth):
            return await _answers(event, smtp)
        async with asyncio.timeout(limit):
            return await _answers(event, smtp)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # it is the session that is ended
        # A hook that waits for what somebody cancelled must not leave its client without reply.
        return await _answer_failure(event, RuntimeError(f"cancelled: {error}"), smtp)
    except Exception as error:
        return await _answer_failure(event, error, smtp)


async def _answer_failure(event: Question, error: Exception, smtp: SMTP) -> Sequence[Reply]:
    smtp.log_failure(event, error)
    try:
        reply = reply_from(await smtp.hooks.handle_exception(error))
    except Exception as second:
        smtp.log_failure(event, second)
        reply = replies.LOCAL_ERROR
    return [reply] * smtp.replies_owed


async def _answers(event: Question, smtp: SMTP) -> Sequence[Reply]:
    if isinstance(event, BodyEnd) and smtp.lmtp:
        return replies_from(await smtp.body_result(), smtp.replies_owed)
    return (await reply_to(event, smtp),)


async def reply_to(event: Question, smtp: SMTP) -> Reply:
    """Call the hook of ``event``, and make a reply of what it returns."""
    hooks, session, envelope = smtp.hooks, smtp.session, smtp.envelope
    match event:
        case Mail(address, mail_options):
            return reply_from(
                await hooks.handle_MAIL(smtp, session, envelope, address, mail_options)
            )
        case Rcpt(address, rcpt_options):
            return reply_from(
                await hooks.handle_RCPT(smtp, session, envelope, address, rcpt_options)
            )
        case Data():
            return replies.START_MAIL_INPUT
        case Bdat():
            return replies.CHUNK_OK
        case BodyEnd():
            return worst_reply(await smtp.body_result())
        case Connected():
            return reply_from(await hooks.handle_CONNECT(smtp, session, envelope))
        case Ehlo(hostname) | Lhlo(hostname):
            responses = _responses(smtp)
            return ehlo_reply(await hooks.handle_EHLO(smtp, session, envelope, hostname, responses))
        case Helo(hostname):
            return reply_from(await hooks.handle_HELO(smtp, session, envelope, hostname))
        case Rset():
            return reply_from(await hooks.handle_RSET(smtp, session, envelope))
        case Noop(arg):
            return reply_from(await hooks.handle_NOOP(smtp, session, envelope, arg))
        case Quit():
            return reply_from(await hooks.handle_QUIT(smtp, session, envelope))
        case Vrfy(address):
            return reply_from(await hooks.handle_VRFY(smtp, session, envelope, address))
        case Expn(address):
            return reply_from(await hooks.handle_EXPN(smtp, session, envelope, address))
        case Help(topic):
            return reply_from(await hooks.handle_HELP(smtp, session, envelope, topic))
        case StartTls():
            return replies.READY_FOR_TLS
        case Auth():
            verdict = await hooks.handle_AUTH(smtp, session, envelope, list(event.args))
            if verdict is MISSING:
                return await authenticate(event, smtp)
            return await conclude(event.mechanism, reply_from(verdict), smtp)
        case Xclient():
            return Reply(220, (f"{smtp.hostname} {smtp.ident}",))
        case Xforward():
            return replies.OK
        case Unknown(verb, text):
            result = await smtp.own_command(verb, text)
            # None is good from a method that has pushed its reply.
            return reply_from(result) if smtp.replies_owed or result else replies.OK
        case _:
            assert_never(event)


def _responses(smtp: SMTP) -> list[str]:
    setup, session = smtp.setup, smtp.session
    mechanisms = [
        name
        for name in setup.mechanisms
        if name != "EXTERNAL" or (session.tls and session.tls.peer_certificate)
    ]
    lines = [
        setup.hostname,
        *ehlo_keywords(
            setup.config,
            tls=session.tls is not None,
            trusted=smtp.trusted,
            mechanisms=mechanisms,
        ),
    ]
    return [*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]


def reply_from(result: object) -> Reply:
    """Make a reply of what a hook returned.

    Raises:
        ValueError: It is a text, but not of one reply.
        TypeError: It is something else.
    """
    if isinstance(result, str):
        return Reply.parse(result)
    if isinstance(result, Reply):
        return result
    raise TypeError(f"a hook answers with a str or a Reply, not with {type(result).__name__}")


def ehlo_reply(result: list[str] | Answer) -> Reply:
    """Make a reply of the lines that ``handle_EHLO`` returned, wherever it put its own."""
    if not isinstance(result, list):
        return reply_from(result)
    lines = [Reply.parse(f"{line[:3]} {line[4:]}") for line in result]
    if len({line.code for line in lines}) != 1:
        raise ValueError(f"the lines of a reply have one code: {result}")
    return Reply(lines[0].code, tuple(str(line)[4:] for line in lines))


def worst_reply(result: object) -> Reply:
    """Make one reply of those for each recipient: the worst, for the client has but one."""
    if isinstance(result, str | Reply):
        return reply_from(result)
    if not isinstance(result, Sequence) or not result:
        raise TypeError(f"handle_DATA answers with a reply, not with {type(result).__name__}")
    return max(map(reply_from, result), key=lambda reply: reply.code // 100)


def replies_from(result: object, number: int) -> Sequence[Reply]:
    """Make the replies of LMTP, one for each recipient (RFC 2033 §4.2)."""
    if isinstance(result, str | Reply):
        return [reply_from(result)] * number
    if not isinstance(result, Sequence) or len(result) != number:
        raise TypeError(f"handle_DATA answers once, or for each of the {number} recipients")
    return list(map(reply_from, result))
