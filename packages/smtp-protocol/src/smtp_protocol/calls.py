"""Calls: the one table of which hook answers which event, and what it is called with.

A command that is not in the table is answered by the hook of its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from smtp_protocol import commands, replies
from smtp_protocol.answers import Answer, ehlo_reply, reply_from
from smtp_protocol.auth import MISSING
from smtp_protocol.events import BodyEnd, Connected, Event
from smtp_protocol.handler import Handler, Server
from smtp_protocol.hooks import Hooks
from smtp_protocol.replies import Reply

__all__ = ["Answering", "AnswersCommands", "Request", "answer_at_once", "call_hook", "quick_calls"]

#: What is answered with the help of a hook.
Request = commands.Command | Connected | BodyEnd

#: A command that no hook of a handler answers.
PlainCommand = commands.Data | commands.Bdat | commands.StartTls

# Their positive replies.
_GO_ON: Mapping[type[PlainCommand], Reply] = {
    commands.Data: replies.START_MAIL_INPUT,
    commands.Bdat: replies.CHUNK_OK,
    commands.StartTls: replies.READY_FOR_TLS,
}

# What answers them.
_METHOD = "answer_command"

_Call = Coroutine[object, None, object]

#: Takes an event and the server that answers it, and begins to.
Begin = Callable[..., _Call]


class AnswersCommands:
    """What a server's class may decide itself of commands that have no hook."""

    __slots__ = ()

    async def answer_command(self, command: PlainCommand) -> Answer:
        """Answer DATA, BDAT or STARTTLS, before anything comes of it.

        A subclass may refuse it, and calls this method to go on. The last BDAT of a message is not
        asked about: it is answered as the message is.

        Args:
            command: The command.

        Returns:
            The answer. A positive one is this method's alone.
        """
        return _GO_ON[type(command)]


class Answering(Server, Protocol):
    """A server, as those see it who have an event answered: hooks, and what only it can do."""

    @property
    def hooks(self) -> Hooks:
        """The handler's hooks."""

    @property
    def replies_owed(self) -> int:
        """How many replies the event that is being answered still needs."""

    def answer_command(self, command: PlainCommand) -> Coroutine[object, None, Answer]:
        """Answer a command that has no hook."""

    def ehlo_lines(self) -> Sequence[str]:
        """The lines of the reply to EHLO: the server's name, then the keywords."""

    def body_result(self) -> _Call:
        """Have the complete message handled; the result is an answer, or a sequence of them."""

    def authenticate(self, event: commands.Auth) -> Coroutine[object, None, Reply]:
        """Go through the exchange that AUTH begins, to its last reply."""

    def conclude(self, event: commands.Auth, reply: Reply) -> Coroutine[object, None, Reply]:
        """Take a verdict that ``handle_AUTH`` has given itself."""

    def own_command(self, verb: str, arg: str | None) -> Coroutine[object, None, Answer | None]:
        """Answer a command that this server's class has added."""


@dataclass(frozen=True, slots=True)
class Call:
    """How one kind of event is answered.

    Args:
        hook: The hook that is asked, if there is one, or the method of the server's class.
        begin: Takes the event and the server; gives the coroutine whose result is the answer.
        waits: Whether that may wait even where the hook is the default one.
    """

    hook: str | None
    begin: Begin
    waits: bool = False


def call_hook(event: Request, server: Answering) -> _Call:
    """Begin to answer ``event``.

    Args:
        event: What the client wants.
        server: Who answers.

    Returns:
        A coroutine. Its result is what the hook returned, for `smtp_protocol.answers` to read.
    """
    return CALLS[type(event)].begin(event, server)


def answer_at_once(call: _Call) -> Reply:
    """Answer an event of `quick_calls`, without a task.

    Args:
        call: What was begun for the event.

    Raises:
        RuntimeError: The hook waits for something, so that this was not such an event.
    """
    try:
        call.send(None)
    except StopIteration as done:
        return reply_from(done.value)
    raise RuntimeError("a default hook waits")


def quick_calls(own: Collection[str]) -> Mapping[type[Event], Begin]:
    """How those events are answered whose hook is the default one, which never waits.

    Args:
        own: The hooks that the handler has (`Hooks.own`), and ``answer_command`` where the server's
            class has its own.
    """
    return {
        event: call.begin
        for event, call in CALLS.items()
        if not call.waits and call.hook not in own
    }


def _connected(event: Connected, server: Answering) -> _Call:
    return server.hooks.handle_CONNECT(server, server.session, server.envelope)


async def _ehlo(event: commands.Ehlo | commands.Lhlo, server: Answering) -> Reply:
    *first, last = server.ehlo_lines()
    lines = [*(f"250-{line}" for line in first), f"250 {last}"]
    ask, session, envelope = server.hooks.handle_EHLO, server.session, server.envelope
    return ehlo_reply(await ask(server, session, envelope, event.hostname, lines))


def _mail(event: commands.Mail, server: Answering) -> _Call:
    return server.hooks.handle_MAIL(
        server, server.session, server.envelope, event.address, event.options
    )


def _rcpt(event: commands.Rcpt, server: Answering) -> _Call:
    return server.hooks.handle_RCPT(
        server, server.session, server.envelope, event.address, event.options
    )


def _command(event: PlainCommand, server: Answering) -> _Call:
    return server.answer_command(event)


def _body_end(event: BodyEnd, server: Answering) -> _Call:
    return server.body_result()


async def _auth(event: commands.Auth, server: Answering) -> Reply:
    ask, session, envelope = server.hooks.handle_AUTH, server.session, server.envelope
    verdict = await ask(server, session, envelope, list(event.args))
    if verdict is MISSING:
        return await server.authenticate(event)
    return await server.conclude(event, reply_from(verdict))


async def _xclient(event: commands.Xclient, server: Answering) -> Reply:
    return Reply(220, (f"{server.hostname} {server.ident}",))


async def _xforward(event: commands.Xforward, server: Answering) -> Reply:
    return replies.OK


async def _unknown(event: commands.Unknown, server: Answering) -> Reply:
    result = await server.own_command(event.verb, event.arg)
    # None is good from a method that has pushed its reply.
    return reply_from(result) if server.replies_owed or result else replies.OK


def _plain(verb: str) -> Call:
    """How a command is answered by the hook of its name, with its attributes as arguments."""
    hook = f"handle_{verb}"
    _, _, _, _, *arguments = inspect.signature(getattr(Handler, hook)).parameters

    def begin_without_arguments(event: Event, server: Answering) -> _Call:
        call: _Call = getattr(server.hooks, hook)(server, server.session, server.envelope)
        return call

    def begin(event: Event, server: Answering) -> _Call:
        call: _Call = getattr(server.hooks, hook)(
            server, server.session, server.envelope, *[getattr(event, name) for name in arguments]
        )
        return call

    return Call(hook, begin if arguments else begin_without_arguments)


# All for which there is more to do than to ask the hook of their name.
_OTHERS: Mapping[type[Event], Call] = {
    Connected: Call("handle_CONNECT", _connected),
    commands.Ehlo: Call("handle_EHLO", _ehlo),
    commands.Lhlo: Call("handle_EHLO", _ehlo),
    commands.Mail: Call("handle_MAIL", _mail),
    commands.Rcpt: Call("handle_RCPT", _rcpt),
    commands.Data: Call(_METHOD, _command),
    commands.Bdat: Call(_METHOD, _command),
    BodyEnd: Call("handle_DATA", _body_end, waits=True),
    commands.StartTls: Call(_METHOD, _command),
    commands.Auth: Call("handle_AUTH", _auth, waits=True),
    commands.Xclient: Call(None, _xclient),
    commands.Xforward: Call(None, _xforward),
    commands.Unknown: Call(None, _unknown, waits=True),
}

#: How each event is answered that is owed a reply by a handler.
CALLS: Mapping[type[Event], Call] = {
    **{
        command: _plain(verb)
        for verb, command in commands.BY_VERB.items()
        if command not in _OTHERS
    },
    **_OTHERS,
}
