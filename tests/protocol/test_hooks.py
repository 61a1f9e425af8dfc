"""Hooks: a handler's own are found, the others filled in, and a wrong one is never ignored."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from tests.conformance.engine import Defaults, finish

from smtp_protocol import (
    Answer,
    Envelope,
    Handler,
    Hooks,
    RcptOptions,
    Server,
    Session,
    replies,
)


class Plain:
    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        return "550 no"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        return "250 kept"


class Derived(Handler):
    async def handle_exception(self, error: Exception) -> Answer:
        return f"451 {len(str(error))}"


class Streaming:
    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer:
        return "250 OK"


# Nobody looks at these.
NOTHING: tuple[Any, Any, Any] = (None, None, None)


def handler_with(**attributes: object) -> Any:
    """An object whose class has these attributes."""
    return type("Mine", (), attributes)()


def test_a_plain_class() -> None:
    hooks = Hooks(Plain())
    assert hooks.own == {"handle_RCPT", "handle_DATA"}
    assert hooks.stream is None
    assert finish(hooks.handle_DATA(*NOTHING)) == "250 kept"
    assert finish(hooks.handle_RCPT(*NOTHING, "a@b", RcptOptions())) == "550 no"
    assert finish(hooks.handle_RSET(*NOTHING)) is replies.OK


def test_a_subclass_of_handler() -> None:
    hooks = Hooks(Derived())
    assert hooks.own == {"handle_exception"}
    assert finish(hooks.handle_exception(ValueError("four"))) == "451 4"
    assert finish(hooks.handle_NOOP(*NOTHING, "")) is replies.OK


def test_no_hook_at_all() -> None:
    assert Hooks(Defaults()).own == frozenset()
    # Mechanisms are a handler's work, too.
    assert Hooks(handler_with(auth_X=finish)).own == frozenset()
    with pytest.raises(TypeError, match="Mine has no hook; write one, such as handle_DATA"):
        Hooks(handler_with())


def test_stream() -> None:
    handler = Streaming()
    hooks = Hooks(handler)
    stream: object = hooks.stream
    assert stream is hooks
    assert hooks.own == {"handle_STREAM"}


def test_hooks_of_the_instance() -> None:
    async def rset(server: Server, session: Session, envelope: Envelope) -> Answer:
        return "250 mine"

    for handler in (handler_with(), Defaults()):
        setattr(handler, "handle_RSET", rset)  # noqa: B010
        hooks = Hooks(handler)
        assert hooks.own == {"handle_RSET"}
        assert finish(hooks.handle_RSET(*NOTHING)) == "250 mine"


async def later() -> str:
    return "250 OK"


@pytest.mark.parametrize(
    "hook",
    [
        lambda self, server, session, envelope: later(),
        lambda self, server, session, envelope: "250 OK",
        lambda self, *arguments: "250 OK",
        lambda self, server, session, envelope, more=1: "250 OK",
        staticmethod(lambda server, session, envelope: "250 OK"),
        staticmethod(partial(lambda *arguments: "250 OK")),
    ],
)
def test_ways_to_write_a_hook(hook: object) -> None:
    hooks = Hooks(handler_with(handle_RSET=hook))
    assert hooks.own == {"handle_RSET"}
    assert finish(hooks.handle_RSET(*NOTHING)) == "250 OK"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("handle_RCTP", "handle_RCPT"),
        ("handle_Rcpt", "handle_RCPT"),
        ("handle_rcpt", "handle_RCPT"),
        ("handle_EXCEPTION", "handle_exception"),
        ("handle_STREAMS", "handle_STREAM"),
        ("handle_", "handle_"),
        ("handle_something_else", "handle_"),
    ],
)
def test_a_misspelt_hook(name: str, right: str) -> None:
    message = rf"^Mine\.{name} is not a hook; did you mean {right}"
    with pytest.raises(TypeError, match=message):
        Hooks(handler_with(**{name: lambda self: None}))


@pytest.mark.parametrize(
    ("name", "hook", "right"),
    [
        ("handle_RSET", lambda self, server: None, "server, session, envelope"),
        ("handle_RSET", lambda self, a, b, c, d: None, "server, session, envelope"),
        ("handle_RSET", lambda self, a, b, c, *, d: None, "server, session, envelope"),
        ("handle_RSET", None, "server, session, envelope"),
        ("handle_RSET", "250 OK", "server, session, envelope"),
        ("handle_EHLO", lambda self, a, b, c, d: None, "hostname, responses"),
        ("handle_STREAM", lambda self, a, b, c: None, "envelope, chunks"),
        ("handle_exception", lambda self: None, "self, error"),
        ("handle_DISCONNECT", lambda self: None, "self, server, session"),
    ],
)
def test_a_hook_with_other_arguments(name: str, hook: object, right: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{name} cannot be called as {name}\(.*{right}\)"):
        Hooks(handler_with(**{name: hook}))


def test_a_hook_that_does_not_tell_its_arguments() -> None:
    class Untold:
        __signature__ = "nothing that can be read"

        def __call__(self, *args: object) -> str:
            return "250 taken"

    assert Hooks(handler_with(handle_RSET=Untold())).own == {"handle_RSET"}


def test_a_class_is_no_handler() -> None:
    handler: Any = Plain
    with pytest.raises(TypeError, match=r"the class Plain; pass an instance, Plain\(\.\.\.\)"):
        Hooks(handler)


def test_own_hooks() -> None:
    handler = handler_with(own_hooks={"handle_MINE"}, handle_MINE=1, handle_RSET=lambda *_: "250")
    assert Hooks(handler).own == {"handle_RSET"}


def test_hooks_of_own_verbs() -> None:
    handler = handler_with(handle_PING=lambda *_: "250", handle_RSET=lambda *_: "250")
    assert Hooks(handler, {"PING", "RSET"}).own == {"handle_RSET"}
    with pytest.raises(TypeError, match="handle_PING is not a hook; did you mean handle_"):
        Hooks(handler)


def test_the_handler_is_not_changed() -> None:
    handler = Plain()
    Hooks(handler)
    assert vars(handler) == {}
