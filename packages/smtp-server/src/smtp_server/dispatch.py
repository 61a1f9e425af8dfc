"""Dispatch: calls the hook of one event, within its time, and makes replies of whatever it does."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from smtp_protocol import (
    BodyEnd,
    Expn,
    Help,
    Noop,
    ProtocolError,
    Reply,
    Vrfy,
    parse_command,
    replies,
)
from smtp_protocol.answers import replies_from, reply_from
from smtp_protocol.calls import CALLS, Request, call_hook
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
        hook = CALLS[type(event)].begin(event, exchange)
        if exchange.setup.settings.handler_timeout is None:
            result = await hook
        else:
            result = await timed(hook, exchange)
        if result is None and not exchange.replies_owed:
            return ()  # the hook has pushed its answer
        if not isinstance(event, BodyEnd):
            return (reply_from(result),)
        lmtp = exchange.setup.config.lmtp
        return replies_from(result, exchange.replies_owed, exchange.envelope if lmtp else None)
    except Exception as error:
        return await _answer_failure(event, error, exchange)
    except BaseException as error:
        return await _answer_failure(event, failure_of(error, ending=exchange.ending), exchange)


async def answer_built_in(verb: str, arg: str | None, exchange: Exchange) -> Reply:
    """Answer a command as if no method of the connection's class had taken it over.

    Raises:
        ValueError: Its answer would change the session, which the method's own answer does.
    """
    line = f"{verb} {arg}" if arg else verb
    try:
        config = replace(exchange.setup.config, own_verbs=frozenset())
        command = parse_command(line.encode(), config)
    except ProtocolError as error:
        return error.reply
    if not isinstance(command, Vrfy | Expn | Noop | Help):
        raise ValueError(f"built_in answers VRFY, EXPN, NOOP and HELP, not {verb}")
    return reply_from(await call_hook(command, exchange))


async def timed(hook: Awaitable[ResultT], exchange: Exchange) -> ResultT:
    """Await what a hook does, for as long as a hook may take.

    Raises:
        TimeoutError: It took longer.
    """
    limit = exchange.setup.settings.handler_timeout
    if limit is None:
        return await hook
    outer = exchange.clock
    async with asyncio.timeout(limit) as clock:
        exchange.clock = clock
        try:
            return await hook
        finally:
            exchange.clock = outer


async def untimed(wait: Awaitable[ResultT], exchange: Exchange) -> ResultT:
    """Wait for the client inside a hook: the hook's time limit is paused meanwhile.

    Afterwards the whole limit begins anew.
    """
    clock, limit = exchange.clock, exchange.setup.settings.handler_timeout
    if clock is None or limit is None:
        return await wait
    clock.reschedule(None)
    try:
        return await wait
    finally:
        clock.reschedule(asyncio.get_running_loop().time() + limit)


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
    if isinstance(error, KeyboardInterrupt) or (cancelled and ending):
        raise error
    task = current_task()
    if task is None:  # the event loop is gone, and its coroutines are thrown away
        raise error
    closing = cancelled and task.cancelling() > 0
    while task.cancelling():
        task.uncancel()
    return _hook_failed(error, closing=closing)


def failure_in_future(error: BaseException) -> Exception:
    """Make what a future can hand on of what a hook ended with.

    It takes no StopIteration, and what awaits it is closed by a GeneratorExit; SystemExit ends
    the event loop.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return _hook_failed(error)


def _hook_failed(error: BaseException, *, closing: bool = False) -> HookFailed:
    try:
        text = str(error)
    except BaseException:  # it is the user's, too
        text = "it has no text"
    failure = HookFailed(f"{type(error).__name__}: {text}", closing=closing)
    failure.__cause__ = error
    return failure


def current_task() -> asyncio.Task[object] | None:
    """The task that runs now, if the event loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


async def contained(result: Awaitable[ResultT]) -> ResultT:
    """Await what a hook does in a task of its own, which must not end the event loop.

    Raises:
        Exception: The hook failed.
    """
    try:
        return await result
    except (SystemExit, GeneratorExit) as error:
        if current_task() is None:
            raise
        raise failure_in_future(error) from error


async def _answer_failure(event: Request, error: Exception, exchange: Exchange) -> Sequence[Reply]:
    exchange.log_failure(event, error)
    try:
        reply = reply_from(await timed(exchange.hooks.handle_exception(error), exchange))
    except BaseException as second:
        exchange.log_failure(event, failure_of(second, ending=exchange.ending))
        reply = replies.LOCAL_ERROR
    if isinstance(error, HookFailed) and error.closing:
        reply = replies.CLOSING_FAILURE
    return [reply] * exchange.replies_owed
