"""Dispatch: one event in, one hook called, its replies out, whatever the hook does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING

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
    Event,
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

if TYPE_CHECKING:
    from smtp_server.conversation import Conversation

__all__: list[str] = []

#: What is answered with the help of a hook.
Question = Command | Connected | BodyEnd


async def answer(event: Question, smtp: Conversation) -> Sequence[Reply]:
    """Let the handler answer ``event``.

    Returns:
        The replies, as many as are owed. A hook that fails gets its client the answer of
        ``handle_exception``; one that sent the reply itself gets it none.
    """
    try:
        limit = smtp.setup.settings.handler_timeout
        if limit is None or isinstance(event, Auth):
            result = await CALLS[type(event)](event, smtp)
        else:
            async with asyncio.timeout(limit):
                result = await CALLS[type(event)](event, smtp)
        if isinstance(event, BodyEnd):
            return replies_from(result, smtp.replies_owed) if smtp.lmtp else (worst_reply(result),)
        return (reply_from(result),)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # it is the session that is ended
        # A hook that waits for what somebody cancelled must not leave its client without reply.
        return await _answer_failure(event, RuntimeError(f"cancelled: {error}"), smtp)
    except Exception as error:
        return await _answer_failure(event, error, smtp)


async def _answer_failure(event: Question, error: Exception, smtp: Conversation) -> Sequence[Reply]:
    smtp.log_failure(event, error)
    try:
        reply = reply_from(await smtp.hooks.handle_exception(error))
    except Exception as second:
        smtp.log_failure(event, second)
        reply = replies.LOCAL_ERROR
    return [reply] * smtp.replies_owed


def answer_at_once(event: Question, smtp: Conversation) -> Reply:
    """Answer an ``event`` whose hook is the default one, which never waits."""
    try:
        CALLS[type(event)](event, smtp).send(None)
    except StopIteration as done:
        return reply_from(done.value)
    raise RuntimeError("a default hook waits")


# What is called for each event: a hook, or what stands for one.

_Call = Coroutine[object, None, object]


def _connected(event: Connected, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_CONNECT(smtp, smtp.session, smtp.envelope)


def _helo(event: Helo, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_HELO(smtp, smtp.session, smtp.envelope, event.hostname)


async def _ehlo(event: Ehlo | Lhlo, smtp: Conversation) -> Reply:
    ask, session, envelope = smtp.hooks.handle_EHLO, smtp.session, smtp.envelope
    return ehlo_reply(await ask(smtp, session, envelope, event.hostname, _responses(smtp)))


def _mail(event: Mail, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_MAIL(smtp, smtp.session, smtp.envelope, event.address, event.options)


def _rcpt(event: Rcpt, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_RCPT(smtp, smtp.session, smtp.envelope, event.address, event.options)


async def _data(event: Data, smtp: Conversation) -> Reply:
    return replies.START_MAIL_INPUT


async def _bdat(event: Bdat, smtp: Conversation) -> Reply:
    return replies.CHUNK_OK


def _body_end(event: BodyEnd, smtp: Conversation) -> _Call:
    return smtp.body_result()


def _rset(event: Rset, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_RSET(smtp, smtp.session, smtp.envelope)


def _noop(event: Noop, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_NOOP(smtp, smtp.session, smtp.envelope, event.arg)


def _quit(event: Quit, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_QUIT(smtp, smtp.session, smtp.envelope)


def _vrfy(event: Vrfy, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_VRFY(smtp, smtp.session, smtp.envelope, event.address)


def _expn(event: Expn, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_EXPN(smtp, smtp.session, smtp.envelope, event.address)


def _help(event: Help, smtp: Conversation) -> _Call:
    return smtp.hooks.handle_HELP(smtp, smtp.session, smtp.envelope, event.topic)


async def _starttls(event: StartTls, smtp: Conversation) -> Reply:
    return replies.READY_FOR_TLS


async def _auth(event: Auth, smtp: Conversation) -> Reply:
    # It brings in cryptography, which a server without AUTH never needs.
    from smtp_server.authentication import authenticate, conclude  # noqa: PLC0415

    ask, session, envelope = smtp.hooks.handle_AUTH, smtp.session, smtp.envelope
    verdict = await ask(smtp, session, envelope, list(event.args))
    if verdict is MISSING:
        return await authenticate(event, smtp)
    return await conclude(event.mechanism, reply_from(verdict), smtp)


async def _xclient(event: Xclient, smtp: Conversation) -> Reply:
    return Reply(220, (f"{smtp.hostname} {smtp.ident}",))


async def _xforward(event: Xforward, smtp: Conversation) -> Reply:
    return replies.OK


async def _unknown(event: Unknown, smtp: Conversation) -> Reply:
    result = await smtp.own_command(event.verb, event.arg)
    # None is good from a method that has pushed its reply.
    return reply_from(result) if smtp.replies_owed or result else replies.OK


#: Each event that is answered with the help of a hook, and how that is called.
CALLS: Mapping[type[Event], Callable[..., _Call]] = {
    Connected: _connected,
    Helo: _helo,
    Ehlo: _ehlo,
    Lhlo: _ehlo,
    Mail: _mail,
    Rcpt: _rcpt,
    Data: _data,
    Bdat: _bdat,
    BodyEnd: _body_end,
    Rset: _rset,
    Noop: _noop,
    Quit: _quit,
    Vrfy: _vrfy,
    Expn: _expn,
    Help: _help,
    StartTls: _starttls,
    Auth: _auth,
    Xclient: _xclient,
    Xforward: _xforward,
    Unknown: _unknown,
}


def _responses(smtp: Conversation) -> list[str]:
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
    if isinstance(result, Reply):
        return result
    if isinstance(result, str):
        return Reply.parse(result)
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
    if isinstance(result, (Reply, str)):
        return reply_from(result)
    if not isinstance(result, Sequence) or not result:
        raise TypeError(f"handle_DATA answers with a reply, not with {type(result).__name__}")
    return max(map(reply_from, result), key=lambda reply: reply.code // 100)


def replies_from(result: object, number: int) -> Sequence[Reply]:
    """Make the replies of LMTP, one for each recipient (RFC 2033 §4.2)."""
    if isinstance(result, (Reply, str)):
        return [reply_from(result)] * number
    if not isinstance(result, Sequence) or len(result) != number:
        raise TypeError(f"handle_DATA answers once, or for each of the {number} recipients")
    return list(map(reply_from, result))
