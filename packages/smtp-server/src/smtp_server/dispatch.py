"""Dispatch: one event is answered, in time, whatever its hook does."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from smtp_protocol import BodyEnd, Reply, replies
from smtp_protocol.answers import replies_from, reply_from
from smtp_protocol.calls import CALLS, Request
from smtp_protocol.commands import Auth
from smtp_server.exchange import Exchange

__all__: list[str] = []

ResultT = TypeVar("ResultT")


class HookFailed(Exception):
    """A hook ended with something that is no `Exception`, or was cancelled by somebody else.

    Attributes:
        closing: Whether the session ends with it, for the task itself was cancelled: whoever did
            that may be ending the program.
    """

    def __init__(self, text: str, *, closing: bool = False) -> None:
        super().__init__(text)
        self.closing = closing


async def answer(event: Request, exchange: Exchange) -> Sequence[Reply]:
    """Let the handler answer ``event``.

    Returns:
        The replies, as many as are owed. A hook that fails gets its client the answer of
        ``handle_exception``; one that sent the reply itself gets it none.

    Raises:
        asyncio.CancelledError: The session is ended.
        KeyboardInterrupt: Somebody wants the program to end.
    """
    try:
        limit = exchange.setup.settings.handler_timeout
        if limit is None or isinstance(event, Auth):  # AUTH waits for the client as well
            result = await CALLS[type(event)].begin(event, exchange)
        else:
            async with asyncio.timeout(limit):
                result = await CALLS[type(event)].begin(event, exchange)
        if not isinstance(event, BodyEnd):
            return (reply_from(result),)
        if not exchange.setup.config.lmtp:
            return replies_from(result, exchange.replies_owed)
        envelope = exchange.envelope
        places, number = envelope.places(), len(envelope.rcpt_tos)
        return replies_from(result, exchange.replies_owed, places=places, number=number)
    except Exception as error:
        return await _answer_failure(event, error, exchange)
    except BaseException as error:
        return await _answer_failure(event, failure_of(error, ending=exchange.ending), exchange)


def failure_of(error: BaseException, *, ending: bool) -> Exception:
    """Make an ordinary failure of what a hook ended with.

    Args:
        error: That; ``pytest.fail`` and ``sys.exit`` raise what is no `Exception`.
        ending: Whether the session is being ended, and a hook cancelled for that.

    Raises:
        BaseException: ``error`` itself, where it is not the hook's: the session is ended, the
            program is to end, or the coroutine is closed.
    """
    if isinstance(error, Exception):
        return error
    cancelled = isinstance(error, asyncio.CancelledError)
    if isinstance(error, KeyboardInterrupt | GeneratorExit) or (cancelled and ending):
        raise error
    task = asyncio.current_task()
    closing = cancelled and task is not None and task.cancelling() > 0
    while task is not None and task.cancelling():
        task.uncancel()
    failure = HookFailed(f"{type(error).__name__}: {error}", closing=closing)
    failure.__cause__ = error
    return failure


async def contained(result: Awaitable[ResultT]) -> ResultT:
    """Await what a hook does in a task of its own, which must not end the event loop.

    Raises:
        Exception: The hook failed.
    """
    try:
        return await result
    except SystemExit as error:
        raise failure_of(error, ending=False) from error


async def _answer_failure(event: Request, error: Exception, exchange: Exchange) -> Sequence[Reply]:
    exchange.log_failure(event, error)
    try:
        reply = reply_from(await exchange.hooks.handle_exception(error))
    except BaseException as second:
        exchange.log_failure(event, failure_of(second, ending=exchange.ending))
        reply = replies.LOCAL_ERROR
    if isinstance(error, HookFailed) and error.closing:
        reply = replies.CLOSING_FAILURE
    return [reply] * exchange.replies_owed
