"""Dispatch: one event in, one hook called, one reply out, whatever the hook does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from smtp_protocol import (
    Answer,
    BodyEnd,
    Connected,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reply,
    Rset,
    Unknown,
    Vrfy,
    replies,
)
from smtp_protocol.extensions import ehlo_keywords

if TYPE_CHECKING:
    from smtp_protocol import Command
    from smtp_server.smtp import SMTP

__all__ = ["answer"]


async def answer(event: Command | Connected | BodyEnd, smtp: SMTP) -> Reply | None:
    """Let the handler answer ``event``.

    Returns:
        The reply; ``None`` when the hook has sent one itself. A hook that fails gets its client
        the answer of ``handle_exception``.
    """
    try:
        return await _call_uncancelled(event, smtp)
    except Exception as error:
        smtp.log_failure(event, error)
        if not smtp.reply_owed:
            return None
        try:
            return reply_from(await smtp.hooks.handle_exception(error))
        except Exception as second:
            smtp.log_failure(event, second)
            return replies.LOCAL_ERROR


async def _call_uncancelled(event: Command | Connected | BodyEnd, smtp: SMTP) -> Reply | None:
    try:
        return await _call(event, smtp)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # it is the session that is ended
        raise RuntimeError("the hook waited for what was cancelled") from error


async def _call(event: Command | Connected | BodyEnd, smtp: SMTP) -> Reply | None:
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
        case BodyEnd():
            return worst_reply(await smtp.body_result())
        case Connected():
            return reply_from(await hooks.handle_CONNECT(smtp, session, envelope))
        case Ehlo(hostname):
            lines = [smtp.hostname, *ehlo_keywords(smtp.config)]
            responses = [*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]
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
        case Unknown(verb, text):
            result = await smtp.own_command(verb, text)
            return None if result is None and not smtp.reply_owed else reply_from(result)
        case _:
            assert_never(event)


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
