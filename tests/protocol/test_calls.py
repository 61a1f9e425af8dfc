"""Calls: each event has its hook, which is called with what the event says."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, get_args

import pytest
from tests.conformance.engine import Defaults, finish

from smtp_protocol import (
    Answer,
    Auth,
    Bdat,
    BodyEnd,
    ClientAttributes,
    Connected,
    Data,
    Ehlo,
    Envelope,
    Event,
    Expn,
    Handler,
    Helo,
    Help,
    Hooks,
    Lhlo,
    Mail,
    MailOptions,
    Noop,
    Quit,
    Rcpt,
    RcptOptions,
    Reply,
    Rset,
    Server,
    Session,
    StartTls,
    Unknown,
    Vrfy,
    Xclient,
    Xforward,
    replies,
)
from smtp_protocol.calls import (
    CALLS,
    AnswersCommands,
    Request,
    answer_at_once,
    call_hook,
    quick_calls,
)

MAIL_OPTIONS, RCPT_OPTIONS = MailOptions(["SIZE=1"]), RcptOptions(["NOTIFY=NEVER"])
LINES = ["250-mx.example", "250-SIZE 1000", "250 HELP"]

# An event of each kind, its hook and what that gets beside server, session and envelope.
EVENTS: list[tuple[Request, str | None, tuple[object, ...]]] = [
    (Connected(), "handle_CONNECT", ()),
    (Helo("one"), "handle_HELO", ("one",)),
    (Ehlo("two"), "handle_EHLO", ("two", LINES)),
    (Lhlo("three"), "handle_EHLO", ("three", LINES)),
    (Mail("a@x", MAIL_OPTIONS), "handle_MAIL", ("a@x", MAIL_OPTIONS)),
    (Rcpt("b@x", RCPT_OPTIONS), "handle_RCPT", ("b@x", RCPT_OPTIONS)),
    (Data(), "answer_command", ()),
    (Bdat(5), "answer_command", ()),
    (BodyEnd(), "handle_DATA", ()),
    (Rset(), "handle_RSET", ()),
    (Noop("text"), "handle_NOOP", ("text",)),
    (Quit(), "handle_QUIT", ()),
    (Vrfy("anne"), "handle_VRFY", ("anne",)),
    (Expn("list"), "handle_EXPN", ("list",)),
    (Help("MAIL"), "handle_HELP", ("MAIL",)),
    (StartTls(), "answer_command", ()),
    (Auth("PLAIN", b"x", ("plain", "eA==")), "handle_AUTH", (["plain", "eA=="],)),
    (Xclient(ClientAttributes()), None, ()),
    (Xforward(ClientAttributes()), None, ()),
    (Unknown("PING", "x"), None, ()),
]

# What is answered where no hook is asked.
WITHOUT_HOOK: dict[type[Event], str] = {
    Data: "354 Start mail input; end with <CRLF>.<CRLF>",
    Bdat: "250 2.0.0 Chunk received",
    StartTls: "220 2.0.0 Ready to start TLS",
    Xclient: "220 mx.example test",
    Xforward: "250 2.0.0 OK",
    Unknown: "250 PING x",
}


class Fake(AnswersCommands):
    """The server of one event; hooks are noted down as they are called."""

    hostname = "mx.example"
    ident = "test"
    data_size_limit: int | None = None
    enable_SMTPUTF8 = False
    syntaxes: Mapping[str, str] = {"NOOP": "NOOP [text]"}
    replies_owed = 1

    def __init__(self, handler: Handler) -> None:
        self.hooks = Hooks(handler)
        self.session = Session()
        self.envelope = Envelope()
        self.own: Answer | None = None

    async def push(self, answer: Answer) -> None:
        self.replies_owed = 0

    def hang_up(self) -> None:
        raise NotImplementedError

    async def challenge_auth(self, challenge: str | bytes, *, encode_to_b64: bool = True) -> bytes:
        raise NotImplementedError

    def ehlo_lines(self) -> Sequence[str]:
        return [line[4:] for line in LINES]

    def body_result(self) -> Coroutine[object, None, object]:
        return self.hooks.handle_DATA(self, self.session, self.envelope)

    async def authenticate(self, event: Auth) -> Reply:
        return replies.AUTH_OK

    async def conclude(self, event: Auth, reply: Reply) -> Reply:
        return Reply(reply.code, (f"concluded: {reply.text}",))

    async def own_command(self, verb: str, arg: str | None) -> Answer | None:
        return self.own


def handler_of(hook: str, result: object, calls: list[tuple[object, ...]]) -> Handler:
    """A handler with one hook of its own."""

    async def call(self: object, *arguments: object) -> object:
        calls.append(arguments)
        return result

    made: Handler = type("Own", (Handler,), {hook: call})()
    return made


def test_each_request_has_its_call() -> None:
    assert {type(event) for event, *_ in EVENTS} == set(get_args(Request)) == set(CALLS)


@pytest.mark.parametrize(("event", "hook", "arguments"), EVENTS)
def test_each_hook_is_called_with_what_its_event_says(
    event: Request, hook: str | None, arguments: tuple[object, ...]
) -> None:
    assert CALLS[type(event)].hook == hook
    if hook is None or type(event) in WITHOUT_HOOK:
        server = Fake(Defaults())
        server.own = "250 PING x"
        reply = finish(call_hook(event, server))
        assert str(reply) == WITHOUT_HOOK[type(event)]
        return
    calls: list[tuple[object, ...]] = []
    result = ["250-mine", "250 HELP"] if hook == "handle_EHLO" else "250 mine"
    server = Fake(handler_of(hook, result, calls))
    answer = finish(call_hook(event, server))
    assert calls == [(server, server.session, server.envelope, *arguments)]
    match event:
        case Ehlo() | Lhlo():
            assert answer == Reply(250, ("mine", "HELP"))
        case Auth():
            assert answer == Reply(250, ("concluded: mine",))
        case _:
            assert answer == "250 mine"


def test_auth_that_the_hook_leaves_to_the_mechanisms() -> None:
    assert finish(call_hook(Auth("PLAIN"), Fake(Defaults()))) is replies.AUTH_OK


@pytest.mark.parametrize("event", [Data(), Bdat(5), StartTls()], ids=repr)
def test_commands_without_hook_that_the_servers_class_answers(event: Request) -> None:
    class Busy(Fake):
        async def answer_command(self, command: Data | Bdat | StartTls) -> Answer:
            return f"452 no {type(command).__name__}"

    assert finish(call_hook(event, Busy(Defaults()))) == f"452 no {type(event).__name__}"
    own = {"answer_command"}
    assert set(quick_calls(own)) == set(CALLS) - WAITS - {Data, Bdat, StartTls}


# What a command of one's own may return.


@pytest.mark.parametrize("result", ["250 PONG", Reply(250, ("PONG",))])
def test_an_own_command_that_answers(result: Answer) -> None:
    server = Fake(Defaults())
    server.own = result
    assert str(finish(call_hook(Unknown("PING", None), server))) == "250 PONG"


def test_an_own_command_that_has_pushed_its_answer() -> None:
    server = Fake(Defaults())
    server.replies_owed = 0
    assert finish(call_hook(Unknown("PING", None), server)) is replies.OK  # which is not sent
    server.own = "nonsense"
    with pytest.raises(ValueError, match="reply"):
        finish(call_hook(Unknown("PING", None), server))


@pytest.mark.parametrize("result", [None, 250, ["250 OK"]])
def test_an_own_command_that_does_not_answer(result: Any) -> None:
    server = Fake(Defaults())
    server.own = result
    with pytest.raises(TypeError, match="a hook answers with"):
        finish(call_hook(Unknown("PING", None), server))


# What needs no task.

WAITS = {BodyEnd, Auth, Unknown}


def test_default_hooks_answer_at_once() -> None:
    quick = quick_calls(Hooks(Defaults()).own)
    assert set(quick) == set(CALLS) - WAITS
    for event, *_ in EVENTS:
        if type(event) in quick:
            reply = answer_at_once(quick[type(event)](event, Fake(Defaults())))
            assert isinstance(reply, Reply)


HOOKS_OF_EVENTS = sorted({call.hook for call in CALLS.values() if call.hook} - {"answer_command"})


@pytest.mark.parametrize("hook", HOOKS_OF_EVENTS)
def test_only_the_event_of_an_own_hook_needs_a_task(hook: str) -> None:
    hooks = Hooks(handler_of(hook, "250 OK", []))
    events = {event for event, call in CALLS.items() if call.hook == hook}
    assert set(quick_calls(hooks.own)) == set(CALLS) - WAITS - events


def test_a_hook_of_no_event_needs_none() -> None:
    class Others(Handler):
        async def handle_DISCONNECT(self, server: Server, session: Session) -> None: ...

        async def handle_exception(self, error: Exception) -> Answer:
            return "451 no"

        def handle_STARTTLS(
            self, server: Server, session: Session, envelope: Envelope
        ) -> bool | Awaitable[bool]:
            return True

    assert set(quick_calls(Hooks(Others()).own)) == set(CALLS) - WAITS


def test_each_hook_that_has_an_event_has_its_call() -> None:
    # The others answer no event: they are told of what happens, or asked about it elsewhere.
    elsewhere = {"STARTTLS", "PROXY", "exception", "DISCONNECT"}
    hooks = {name for name in dir(Handler) if name.startswith("handle_")}
    assert hooks - {*HOOKS_OF_EVENTS} == {f"handle_{name}" for name in elsewhere}


def test_a_hook_that_waits_does_not_answer_at_once() -> None:
    class Waits:
        def __await__(self) -> Any:
            yield

    async def wait() -> str:
        await Waits()
        return "250 late"

    made: Callable[..., Awaitable[str]] = lambda *arguments: wait()  # noqa: E731
    server = Fake(type("Own", (Handler,), {"handle_NOOP": made})())
    with pytest.raises(RuntimeError, match="waits"):
        answer_at_once(call_hook(Noop(""), server))
