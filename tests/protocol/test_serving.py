"""Serving: a handler runs for one client, whatever moves the octets, and whatever hooks do."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
import trio
from tests.conformance.engine import Defaults, finish

from smtp_protocol import (
    MISSING,
    Answer,
    AnyHandler,
    AuthResult,
    Envelope,
    Handler,
    HandlerConnection,
    LoginPassword,
    MailOptions,
    ProtocolConfig,
    RcptOptions,
    ScramKeys,
    ScramLogin,
    Server,
    Session,
    replies,
)

TRANSACTION = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\n"
MESSAGE = b"Subject: x\r\n\r\nx\r\n"
LMTP = ProtocolConfig(lmtp=True, extensions=frozenset({"CHUNKING"}))


def served(handler: AnyHandler, config: ProtocolConfig | None = None, **keywords: Any) -> "Talk":
    return Talk(HandlerConnection(handler, config or ProtocolConfig(), **keywords))


def is_over(server: HandlerConnection) -> bool:
    return server.closed


class Talk:
    """A client of a `HandlerConnection`, where nothing is waited for."""

    def __init__(self, server: HandlerConnection) -> None:
        self.server = server
        assert finish(server.answers()).startswith(b"220 ")

    def __call__(self, octets: bytes) -> str:
        """Send octets; the lines of what comes back, joined with ``|``."""
        self.server.receive_data(octets)
        return "|".join(finish(self.server.answers()).decode().split("\r\n")[:-1])

    def codes(self, octets: bytes) -> list[int]:
        return [int(line[:3]) for line in self(octets).split("|") if line[3:4] == " "]


def test_a_session_from_its_beginning_to_its_end() -> None:
    server = HandlerConnection(Defaults(), hostname="mx.example", ident="test", peer="/run/peer")
    assert finish(server.answers()) == b"220 mx.example test\r\n"
    assert finish(server.answers()) == b""
    assert server.session.peer == "/run/peer"
    server.receive_data(b"HELO c\r\nMA")
    assert finish(server.answers()) == b"250 mx.example\r\n"
    server.receive_data(b"IL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n")
    assert finish(server.answers()).count(b"\r\n") == 3
    server.receive_data(MESSAGE + b".\r\nQUIT\r\nNOOP\r\n")
    assert not is_over(server)
    assert finish(server.answers()) == b"250 OK\r\n221 Bye\r\n"
    assert is_over(server)
    assert finish(server.answers()) == b""


def test_the_end_of_what_a_client_sends() -> None:
    talk = served(Defaults())
    talk.server.receive_data(b"NOOP\r\nNOO")
    talk.server.receive_eof()
    assert finish(talk.server.answers()) == b"250 OK\r\n"
    assert talk.server.closed


def test_what_a_hook_sees_of_it() -> None:
    class Looks(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> Answer:
            assert (server.session, server.envelope) == (session, envelope)
            utf8 = "UTF-8" if server.enable_SMTPUTF8 else "ASCII"
            bdat = "BDAT" if "BDAT" in server.syntaxes else ""
            return f"250 {server.hostname} {server.data_size_limit} {utf8} {bdat}"

    config = ProtocolConfig(data_size_limit=9, extensions=frozenset({"SMTPUTF8", "CHUNKING"}))
    assert served(Looks(), hostname="mx")(b"NOOP\r\n") == "250 mx 33554432 ASCII "
    assert served(Looks(), config, hostname="mx")(b"NOOP\r\n") == "250 mx 9 UTF-8 BDAT"


def test_a_command_of_ones_own_is_not_known() -> None:
    assert served(Defaults(), ProtocolConfig(own_verbs=frozenset({"NOOP"}))).codes(
        b"PING\r\nNOOP\r\n"
    ) == [500, 500]


# Messages.


class Whole(Handler):
    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.got: list[bytes] = []

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        self.got.append(envelope.content)
        return self.answers or "250 OK"


class Stream(Whole):
    reads = 1000

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        content = b""
        for _ in range(self.reads):
            content += await anext(chunks, b"")
        assert envelope.content == b""
        self.got.append(content)
        return self.answers or "250 OK"


@pytest.mark.parametrize("kind", [Whole, Stream])
@pytest.mark.parametrize(
    ("text", "content"),
    [
        (b"DATA\r\n" + MESSAGE + b".\r\n", MESSAGE),
        (b"DATA\r\n..\r\n.\r\n", b".\r\n"),
        (b"DATA\r\n.\r\n", b""),
        (b"BDAT 3\r\na\nbBDAT 0\r\nBDAT 2 LAST\r\n\r\n", b"a\nb\r\n"),
        (b"BDAT 0 LAST\r\n", b""),
    ],
)
def test_a_message_gets_to_the_handler(kind: type[Whole], text: bytes, content: bytes) -> None:
    config = ProtocolConfig(extensions=frozenset({"CHUNKING"}))
    for size in (1, len(text)):
        handler = kind()
        talk = served(handler, config)
        talk(b"EHLO c\r\n" + TRANSACTION)
        for start in range(0, len(text), size):
            last = talk(text[start : start + size])
        assert last.endswith("250 OK")
        # Nothing of it is left for the next one.
        talk(TRANSACTION)
        assert talk(text).endswith("250 OK")
        assert handler.got == [content, content]


def test_a_handler_that_reads_no_further() -> None:
    handler = Stream("552 enough")
    handler.reads = 1
    talk = served(handler)
    talk(b"HELO c\r\n" + TRANSACTION + b"DATA\r\n")
    assert talk(MESSAGE + b".\r\nNOOP\r\n") == "552 enough|250 OK"


@pytest.mark.parametrize(
    "text", [b"DATA\r\nx", b"DATA\r\nx\r\n.", b"BDAT 5\r\nabcdefg", b"BDAT 1\r\nx"]
)
@pytest.mark.parametrize("end", ["eof", "close", "rset"])
def test_nothing_is_delivered_without_its_end(text: bytes, end: str) -> None:
    handler = Whole()
    talk = served(handler, ProtocolConfig(extensions=frozenset({"CHUNKING"})))
    talk(b"EHLO c\r\n" + TRANSACTION + text)
    if end == "eof":
        talk.server.receive_eof()
    elif end == "rset":
        talk(b"RSET\r\n")
    else:
        finish(talk.server.aclose())
    finish(talk.server.answers())
    assert handler.got == []


def test_a_message_over_the_limit_is_refused_once() -> None:
    handler = Whole()
    talk = served(handler, ProtocolConfig(data_size_limit=5))
    talk(b"HELO c\r\n" + TRANSACTION + b"DATA\r\n")
    assert talk.codes(b"123456\r\n.\r\nNOOP\r\n") == [552, 250]
    assert handler.got == []


@pytest.mark.parametrize("kind", [Whole, Stream])
@pytest.mark.parametrize(
    ("answers", "smtp", "lmtp"),
    [
        ((), [250], [250, 250]),
        (("250 one", "452 two"), [452], [250, 452]),
        (("550 one", "250 two"), [550], [550, 250]),
        (("250 one",), [250], [451, 451]),
        (("250 one", "nonsense"), [451], [451, 451]),
    ],
)
def test_each_recipient_of_lmtp_has_an_answer(
    kind: type[Whole], answers: Sequence[Answer], smtp: list[int], lmtp: list[int]
) -> None:
    for config, hello, codes in (
        (ProtocolConfig(), b"EHLO c\r\n", smtp),
        (LMTP, b"LHLO c\r\n", lmtp),
    ):
        talk = served(kind(*answers), config)
        talk(hello + TRANSACTION + b"DATA\r\n")
        assert talk.codes(b"x\r\n.\r\nNOOP\r\n") == [*codes, 250]


def test_a_refused_message_of_lmtp_has_as_many_replies() -> None:
    talk = served(Whole(), ProtocolConfig(lmtp=True, data_size_limit=5))
    talk(b"LHLO c\r\n" + TRANSACTION + b"DATA\r\n")
    assert talk.codes(b"123456\r\n.\r\nNOOP\r\n") == [552, 552, 250]


# The envelope is the transaction's.


class Marks(Handler):
    """Tells what was left on the envelope before, and leaves a mark."""

    def mark(self, envelope: Envelope, mark: str) -> str:
        found = vars(envelope).get("mark", "nothing")
        setattr(envelope, "mark", mark)  # noqa: B010
        return f"250 {found}"

    async def handle_EHLO(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> str:
        return self.mark(envelope, "EHLO")

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> str:
        answer = self.mark(envelope, address)
        return answer if address != "bad@x" else answer.replace("250", "550")

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> str:
        return self.mark(envelope, address)


@pytest.mark.parametrize(
    ("between", "found"),
    [
        (b"", "a@x"),
        (b"NOOP\r\n", "a@x"),
        (b"RSET\r\nMAIL FROM:<c@x>\r\n", "c@x"),
        (b"EHLO d\r\nMAIL FROM:<c@x>\r\n", "c@x"),
        (b"RSET\r\nMAIL FROM:<bad@x>\r\nMAIL FROM:<c@x>\r\n", "c@x"),
    ],
)
def test_a_transaction_has_an_envelope(between: bytes, found: str) -> None:
    talk = served(Marks())
    # What was left before the first transaction is there in it, as with smtp_server.
    assert talk(b"EHLO c\r\n") == "250 nothing"
    assert talk(b"MAIL FROM:<a@x>\r\n") == "250 EHLO"
    replies = talk(between)
    assert "bad" not in replies
    assert "550 nothing" in replies or b"bad" not in between
    assert talk(b"RCPT TO:<b@x>\r\n") == f"250 {found}"


# Hooks that fail.


class Fails(Handler):
    def __init__(self, error: BaseException, second: object = None) -> None:
        self.error = error
        self.second = second
        self.gone = 0

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        raise self.error

    async def handle_exception(self, error: Exception) -> Answer:
        if self.second is None:
            return replies.LOCAL_ERROR
        if isinstance(self.second, Exception):
            raise self.second
        return self.second  # type: ignore[return-value]

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.gone += 1
        raise RuntimeError("gone")


@pytest.mark.parametrize(
    ("second", "answer", "failures"),
    [
        (None, "451 Local error in processing", 1),
        ("459 mine", "459 mine", 1),
        (RuntimeError("too"), "451 Local error in processing", 2),
        ("nonsense", "451 Local error in processing", 2),
        (b"451 x", "451 Local error in processing", 2),
    ],
)
def test_a_hook_that_raises(second: object, answer: str, failures: int) -> None:
    errors: list[Exception] = []
    error = RuntimeError("secret")
    talk = served(Fails(error, second), on_failure=errors.append)
    assert talk(b"NOOP\r\nRSET\r\n") == f"{answer}|250 OK"
    assert errors[0] is error
    assert len(errors) == failures


@pytest.mark.parametrize("result", [None, 250, b"250 OK", "", "250 OK\r\n250 OK", []])
def test_a_hook_that_answers_rubbish(result: Any) -> None:
    class Rubbish(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> Answer:
            answer: Answer = result
            return answer

    assert served(Rubbish())(b"NOOP\r\nRSET\r\n") == "451 Local error in processing|250 OK"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_what_is_no_exception_is_the_callers(error: BaseException) -> None:
    talk = served(Fails(error))
    with pytest.raises(type(error)):
        talk(b"RSET\r\nNOOP\r\nRSET\r\n")
    # What was answered before is not lost, and nothing behind it is answered.
    assert talk(b"") == "250 OK"


def test_the_handler_is_told_of_the_end_once() -> None:
    errors: list[Exception] = []
    handler = Fails(RuntimeError())
    server = HandlerConnection(handler, on_failure=errors.append)
    finish(server.aclose())
    assert handler.gone == 0  # nor was it told of the beginning
    talk = served(handler, on_failure=errors.append)
    for _ in range(2):
        finish(talk.server.aclose())
    assert handler.gone == 1
    assert [str(error) for error in errors] == ["gone"]
    assert talk.server.closed


def test_a_session_that_the_greeting_refuses() -> None:
    class Busy(Fails):
        async def handle_CONNECT(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Answer:
            return "554 no"

    handler = Busy(RuntimeError())
    server = HandlerConnection(handler)
    assert finish(server.answers()) == b"554 no\r\n"
    assert server.closed
    finish(server.aclose())
    assert handler.gone == 1


def test_a_421_of_the_callers() -> None:
    talk = served(Defaults())
    assert talk.server.connection.send(replies.CLOSING_IDLE).startswith(b"421 ")
    assert talk.server.closed
    assert talk(b"NOOP\r\n") == ""


@pytest.mark.parametrize("name", ["mail_options", "rcpt_options"])
def test_a_hook_that_breaks_its_envelope_ends_the_session(name: str) -> None:
    class Breaks(Handler):
        async def handle_MAIL(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            mail_options: MailOptions,
        ) -> Answer:
            setattr(envelope, name, None)
            return "250 OK"

        async def handle_RCPT(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            rcpt_options: RcptOptions,
        ) -> Answer:
            envelope.rcpt_tos.append(address)
            return "250 OK"

    errors: list[Exception] = []
    talk = served(Breaks(), on_failure=errors.append)
    talk(b"EHLO c\r\n")
    codes = talk.codes(b"MAIL FROM:<a@x> SIZE=1\r\nRCPT TO:<b@x>\r\nDATA\r\n")
    assert codes[-1] == 421
    assert 354 not in codes
    assert talk.server.closed
    assert len(errors) == 1


# Pushed replies.


def test_a_reply_that_is_pushed_is_the_only_one() -> None:
    class Pushes(Handler):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> Answer:
            await server.push("250 pushed")
            if arg:
                await server.push(arg)
            return "250 returned"

        async def handle_RCPT(
            self,
            server: Server,
            session: Session,
            envelope: Envelope,
            address: str,
            rcpt_options: RcptOptions,
        ) -> Answer:
            envelope.rcpt_tos.append(address)
            await server.push("250 pushed")
            return "550 returned"

        async def handle_DATA(
            self, server: Server, session: Session, envelope: Envelope
        ) -> Sequence[Answer]:
            await server.push("250 for b")
            return ["550 no", "452 for c"]

    errors: list[Exception] = []
    talk = served(Pushes(), LMTP, on_failure=errors.append)
    assert talk(b"NOOP\r\nNOOP 250 again\r\nNOOP nonsense\r\n") == "|".join(
        ["250 2.0.0 pushed"] * 3
    )
    assert [type(error) for error in errors] == [RuntimeError, ValueError]
    talk(b"LHLO c\r\n" + TRANSACTION + b"DATA\r\n")
    assert talk(b"x\r\n.\r\n") == "250 2.0.0 for b|452 4.0.0 for c"


# TLS.


@pytest.mark.parametrize("outcome", [True, False, None, RuntimeError("no")])
@pytest.mark.parametrize("plain", [True, False])
def test_starttls(outcome: object, plain: bool) -> None:
    class Secure(Handler):
        def handle_STARTTLS(
            self, server: Server, session: Session, envelope: Envelope
        ) -> bool | Awaitable[bool]:
            assert session.host_name is None
            return self.answer() if plain else self.later()

        def answer(self) -> bool:
            if isinstance(outcome, Exception):
                raise outcome
            return bool(outcome)

        async def later(self) -> bool:
            return self.answer()

    errors: list[Exception] = []
    talk = served(Secure(), ProtocolConfig(starttls=True), on_failure=errors.append)
    assert "STARTTLS" in talk(b"EHLO c\r\n")
    envelope, needs_tls = talk.server.envelope, [talk.server.needs_tls]
    # What is pipelined behind it is not answered.
    assert talk.codes(b"STARTTLS\r\nNOOP\r\n") == [220]
    needs_tls.append(talk.server.needs_tls)
    finish(talk.server.tls_started())
    assert [*needs_tls, talk.server.needs_tls] == [False, True, False]
    assert talk.server.envelope is not envelope
    assert talk(b"") == ""
    if outcome is True:
        assert talk.codes(b"MAIL FROM:<a@x>\r\n") == [503]
        assert "STARTTLS" not in talk(b"EHLO c\r\n")
        assert talk.codes(b"STARTTLS\r\n") == [503]
    else:
        assert talk.codes(b"EHLO c\r\nQUIT\r\n") == [554, 221]
    assert errors == ([outcome] if isinstance(outcome, Exception) else [])


def test_tls_that_was_not_asked_for() -> None:
    talk = served(Defaults())
    talk(b"EHLO c\r\n")
    with pytest.raises(RuntimeError, match="STARTTLS"):
        finish(talk.server.tls_started())
    assert talk.server.session.host_name == "c"


def test_tls_from_the_beginning() -> None:
    talk = served(Defaults(), ProtocolConfig(starttls=True), tls=True)
    assert "STARTTLS" not in talk(b"EHLO c\r\n")


def test_a_trusted_peer_speaks_for_others() -> None:
    talk = served(Defaults(), trusted=True)
    assert "XCLIENT" in talk(b"EHLO c\r\n")
    assert talk.codes(b"XCLIENT ADDR=192.0.2.1\r\n") == [220]
    assert talk.server.session.peer_host == "192.0.2.1"
    assert served(Defaults()).codes(b"XCLIENT ADDR=192.0.2.1\r\n") == [550]


# AUTH.

AUTH = ProtocolConfig(auth=True, auth_require_tls=False)
MECHANISMS = ["PLAIN", "LOGIN", "SCRAM-SHA-256"]


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


PLAIN = b"AUTH PLAIN " + b64("\0anne\0secret") + b"\r\n"
LOGIN = b"AUTH LOGIN " + b64("anne") + b"\r\n" + b64("secret") + b"\r\n"


def decide(
    server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
) -> AuthResult:
    assert mechanism in MECHANISMS
    match auth_data:
        case LoginPassword(b"anne", b"secret"):
            return AuthResult(success=True)
        case LoginPassword(b"oops"):
            raise RuntimeError("the directory is away")
        case LoginPassword(b"token"):
            return AuthResult(success=True, auth_data="the token", message="235 Welcome")
        case ScramLogin(b"anne"):
            return AuthResult(success=True, auth_data=ScramKeys.from_password("secret"))
    return AuthResult(success=False)


async def decide_later(
    server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
) -> AuthResult:
    return decide(server, session, envelope, mechanism, auth_data)


@pytest.mark.parametrize("authenticator", [decide, decide_later])
@pytest.mark.parametrize(
    ("text", "codes", "shown"),
    [
        (PLAIN, [235], LoginPassword(b"anne", b"secret")),
        (LOGIN, [334, 235], LoginPassword(b"anne", b"secret")),
        (b"AUTH PLAIN " + b64("\0token\0x") + b"\r\n", [235], "the token"),
        (b"AUTH PLAIN\r\n" + b64("\0anne\0wrong") + b"\r\n", [334, 535], None),
        (b"AUTH PLAIN " + b64("\0oops\0x") + b"\r\n", [454], None),
        (b"AUTH PLAIN " + b64("nonsense") + b"\r\n", [501], None),
        (b"AUTH PLAIN\r\n*\r\n", [334, 501], None),
        (b"AUTH LOGIN\r\n*\r\nNOOP\r\n", [334, 501, 250], None),
        (b"AUTH CRAM-MD5\r\n", [504], None),
        (b"AUTH NONSENSE\r\n", [504], None),
        (b"AUTH SCRAM-SHA-256 " + b64("n,,n=anne,r=x") + b"\r\n*\r\n", [334, 501], None),
    ],
)
def test_auth(
    authenticator: Callable[..., Any], text: bytes, codes: list[int], shown: object
) -> None:
    errors: list[Exception] = []
    talk = served(
        Defaults(),
        AUTH,
        mechanisms=MECHANISMS,
        authenticator=authenticator,
        on_failure=errors.append,
    )
    assert f"AUTH {' '.join(MECHANISMS)}" in talk(b"EHLO c\r\n")
    assert talk.codes(text) == codes
    assert talk.server.session.authenticated == (235 in codes)
    assert talk.server.session.auth_data == shown
    assert bool(errors) == (454 in codes)
    assert talk.codes(PLAIN) == ([503] if 235 in codes else [235])


def test_nobody_is_let_in_without_an_authenticator() -> None:
    talk = served(Defaults(), AUTH, mechanisms=["PLAIN"])
    talk(b"EHLO c\r\n")
    assert talk.codes(PLAIN) == [535]


@pytest.mark.parametrize(
    ("verdict", "codes"),
    [
        (MISSING, [235]),
        ("235 mine", [235]),
        ("535 no", [535]),
        ("334 ", [451]),
        (None, [451]),
    ],
)
def test_a_hook_that_decides(verdict: Any, codes: list[int]) -> None:
    class Decides(Handler):
        async def handle_AUTH(
            self, server: Server, session: Session, envelope: Envelope, args: list[str]
        ) -> Any:
            return verdict

    talk = served(Decides(), AUTH, mechanisms=MECHANISMS, authenticator=decide)
    talk(b"EHLO c\r\n")
    assert talk.codes(PLAIN + b"NOOP\r\n") == [*codes, 250]
    assert talk.server.session.authenticated == (codes == [235])


def test_a_hook_cannot_challenge() -> None:
    class Challenges(Handler):
        async def handle_AUTH(
            self, server: Server, session: Session, envelope: Envelope, args: list[str]
        ) -> Answer:
            await server.challenge_auth("who")
            return "235 in"

    errors: list[Exception] = []
    talk = served(Challenges(), AUTH, on_failure=errors.append)
    talk(b"EHLO c\r\n")
    assert talk.codes(PLAIN) == [451]
    assert [type(error) for error in errors] == [NotImplementedError]


@pytest.mark.parametrize(
    ("config", "mechanisms", "error"),
    [
        (ProtocolConfig(), ["PLAIN"], "auth=True"),
        (AUTH, ["plain"], "'plain' is none of the mechanisms"),
        (AUTH, ["PLAIN", "NTLM"], "'NTLM' is none of the mechanisms SCRAM-SHA-256"),
    ],
)
def test_mechanisms_that_cannot_be_offered(
    config: ProtocolConfig, mechanisms: list[str], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        HandlerConnection(Defaults(), config, mechanisms=mechanisms)


def test_a_misspelt_hook_is_refused() -> None:
    class Misspelt(Handler):
        async def handle_DATTA(self) -> None: ...

    with pytest.raises(TypeError, match="handle_DATA"):
        HandlerConnection(Misspelt())


# Any event loop.


class Slow(Handler):
    """Waits in a hook for what the caller's loop gives."""

    def __init__(self, sleep: Callable[[], Awaitable[object]]) -> None:
        self.sleep = sleep

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> Answer:
        await self.sleep()
        return "250 slept"


async def sleepy(sleep: Callable[[], Awaitable[object]]) -> bytes:
    server = HandlerConnection(Slow(sleep))
    server.receive_data(b"NOOP\r\nQUIT\r\n")
    return await server.answers()


def test_hooks_wait_in_whatever_loop_there_is() -> None:
    expected = b"220 localhost SMTP\r\n250 slept\r\n221 Bye\r\n"
    assert asyncio.run(sleepy(partial(asyncio.sleep, 0))) == expected
    assert trio.run(sleepy, partial(trio.sleep, 0)) == expected


# Hanging up.


class HangsUp(Handler):
    """Hangs up on NOOP, and inside TLS."""

    def __init__(self, *, good: bool = True) -> None:
        self.good = good
        self.gone = 0

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        server.hang_up()
        await server.push("250 Nobody reads this")
        return "250 Nor this"

    def handle_STARTTLS(self, server: Server, session: Session, envelope: Envelope) -> bool:
        server.hang_up()
        return self.good

    async def handle_DISCONNECT(self, server: Server, session: Session) -> None:
        self.gone += 1


def test_a_hook_that_hangs_up() -> None:
    handler = HangsUp()
    talk = served(handler)
    said = talk(b"EHLO me\r\nMAIL FROM:<a@b>\r\nNOOP\r\nRCPT TO:<c@d>\r\n")
    assert said.endswith("HELP|250 OK")
    assert talk.server.closed
    assert talk.server.envelope.mail_from is None
    assert talk(b"QUIT\r\n") == ""
    finish(talk.server.aclose())
    assert handler.gone == 1


@pytest.mark.parametrize("good", [True, False])
def test_a_hook_that_hangs_up_after_the_handshake(good: bool) -> None:
    talk = served(HangsUp(good=good), ProtocolConfig(starttls=True))
    talk(b"EHLO me\r\nSTARTTLS\r\n")
    finish(talk.server.tls_started())
    assert talk.server.closed
    assert talk(b"EHLO me\r\n") == ""
