"""Handler: what each hook does when nobody overrides it."""

import inspect
from types import UnionType
from typing import get_args

import pytest
from tests.conformance.engine import Defaults, finish

from smtp_protocol import (
    MISSING,
    AnyHandler,
    Handler,
    HandlerConnection,
    MailOptions,
    ProtocolConfig,
    ProxyData,
    RcptOptions,
    Reply,
    Session,
    handler,
    replies,
)
from smtp_protocol.parser import syntaxes

HOOKS = [name for name in dir(Handler) if name.startswith("handle_")]


@pytest.fixture
def server() -> HandlerConnection:
    return HandlerConnection(Defaults(), hostname="mx.example", ident="ESMTP")


def test_the_greetings(server: HandlerConnection) -> None:
    hooks, context = Defaults(), (server, server.session, server.envelope)
    assert finish(hooks.handle_CONNECT(*context)) == "220 mx.example ESMTP"
    assert finish(hooks.handle_HELO(*context, "one")) == "250 mx.example"
    assert server.session.host_name == "one"
    lines = ["250-mx.example", "250 HELP"]
    assert finish(hooks.handle_EHLO(*context, "two", lines)) is lines
    assert server.session.host_name == "two"


def test_the_transaction(server: HandlerConnection) -> None:
    hooks, envelope = Defaults(), server.envelope
    context = (server, server.session, envelope)
    options = MailOptions(["SIZE=1"])
    options.size = 1
    assert str(finish(hooks.handle_MAIL(*context, "a@b", options))) == "250 2.1.0 OK"
    assert (envelope.mail_from, envelope.mail_options) == ("a@b", ["SIZE=1"])
    assert envelope.mail_options.size == 1
    assert envelope.mail_options is not options
    for address in ("c@d", "e@f"):
        answer = finish(hooks.handle_RCPT(*context, address, RcptOptions(["X=1"])))
        assert str(answer) == "250 2.1.5 OK"
    assert (envelope.rcpt_tos, envelope.rcpt_options) == (["c@d", "e@f"], ["X=1", "X=1"])
    assert str(finish(hooks.handle_DATA(*context))) == "250 2.0.0 OK"


def test_the_others(server: HandlerConnection) -> None:
    hooks, context = Defaults(), (server, server.session, server.envelope)
    assert str(finish(hooks.handle_RSET(*context))) == "250 2.0.0 OK"
    assert str(finish(hooks.handle_NOOP(*context, ""))) == "250 2.0.0 OK"
    assert str(finish(hooks.handle_QUIT(*context))) == "221 2.0.0 Bye"
    assert str(finish(hooks.handle_VRFY(*context, "a@b"))).startswith("252 2.1.5 ")
    assert str(finish(hooks.handle_EXPN(*context, "x"))).startswith("502 5.5.1 ")
    assert finish(hooks.handle_AUTH(*context, ["PLAIN"])) is MISSING
    assert hooks.handle_STARTTLS(*context) is True
    assert finish(hooks.handle_PROXY(*context, ProxyData(version=1))) is True
    finish(hooks.handle_DISCONNECT(server, Session()))


def test_the_text_of_an_exception_is_kept() -> None:
    answer = finish(Defaults().handle_exception(ValueError("secret")))
    assert answer is replies.LOCAL_ERROR
    assert "secret" not in str(answer)


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        ("", f"214 2.0.0 Commands: {' '.join(syntaxes(ProtocolConfig()))}"),
        ("MAIL", "214 2.0.0 Syntax: MAIL FROM:<address> [parameters]"),
        ("mail", "214 2.0.0 Syntax: MAIL FROM:<address> [parameters]"),
        ("nonsense", "504 5.5.4 No help on that"),
    ],
)
def test_help(server: HandlerConnection, topic: str, answer: str) -> None:
    context = (server, server.session, server.envelope)
    reply = finish(Defaults().handle_HELP(*context, topic))
    assert isinstance(reply, Reply)
    assert str(reply) == answer


def test_each_hook_has_a_protocol_of_its_own() -> None:
    assert isinstance(AnyHandler, UnionType)
    names = set()
    for protocol in get_args(AnyHandler):
        if protocol is Handler:
            continue
        (name,) = (name for name in vars(protocol) if name.startswith("handle_"))
        assert protocol.__name__.upper() == f"Handles{name.removeprefix('handle_')}".upper()
        assert protocol.__name__ in handler.__all__
        names.add(name)
        if name != "handle_STREAM":
            assert signature(protocol, name) == signature(Handler, name)
    assert names == {*HOOKS, "handle_STREAM"}


def signature(kind: type, name: str) -> inspect.Signature:
    return inspect.signature(getattr(kind, name))
