"""The engine as a server without I/O: `ServerConnection`, the default hooks, and a short loop."""

from collections.abc import Coroutine, Mapping
from typing import Any, Literal, TypeVar

from tests.conformance.transcript import Transcript

from smtp_protocol import (
    NEED_DATA,
    PAUSED,
    Answer,
    Auth,
    AuthResponse,
    Bdat,
    BodyChunk,
    BodyEnd,
    Command,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    Envelope,
    Expn,
    Handler,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    ProtocolConfig,
    Quit,
    Rcpt,
    Refused,
    Reply,
    Rset,
    ServerConnection,
    Session,
    StartTls,
    Unknown,
    Vrfy,
    Xclient,
    Xforward,
    replies,
)
from smtp_protocol.auth import Missing
from smtp_protocol.extensions import ehlo_keywords
from smtp_protocol.parser import SYNTAX

ResultT = TypeVar("ResultT")
Request = Command | Connected | BodyEnd | AuthResponse | Refused


class Defaults(Handler):
    """A handler without a hook of its own."""


def finish(hook: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine that waits for nothing."""
    try:
        hook.send(None)
    except StopIteration as stop:
        result: ResultT = stop.value
        return result
    hook.close()
    raise AssertionError("the hook waits for something")


class EngineServer:
    """A `Server` for the hooks, and the loop event → hook → reply around a `ServerConnection`.

    Attributes:
        wire: What was sent.
        requests: How many events asked for a reply.
        answered: How many replies were sent.
        delivered: The contents of the accepted messages.
        closed: Whether the session is over.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        hostname: str = "mx.example",
        ident: str = "ESMTP",
        handler: Handler | None = None,
    ) -> None:
        self.config = config
        self.hostname = hostname
        self.ident = ident
        self.session = Session()
        self.envelope = Envelope()
        self.hooks = handler or Defaults()
        self.connection = ServerConnection(config)
        self.wire = bytearray()
        self.requests = 0
        self.answered = 0
        self.delivered: list[bytes] = []
        self.closed = False
        self._content = bytearray()
        self._run()

    @property
    def data_size_limit(self) -> int | None:
        return self.config.data_size_limit

    @property
    def enable_SMTPUTF8(self) -> bool:
        return "SMTPUTF8" in self.config.extensions

    @property
    def syntaxes(self) -> Mapping[str, str]:
        return SYNTAX

    async def push(self, answer: Answer) -> None:
        raise NotImplementedError

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        raise NotImplementedError

    def receive(self, segment: bytes) -> None:
        """Take one segment from the client."""
        self.connection.receive_data(segment)
        self._run()

    def receive_eof(self) -> None:
        """Take the end of what the client sends."""
        self.connection.receive_eof()
        self._run()

    def _run(self) -> None:
        while not isinstance(event := self.connection.next_event(), ConnectionClosed):
            if event is NEED_DATA:
                return
            assert event is not PAUSED, "each reply is sent at once"
            if isinstance(event, BodyChunk):
                assert event.data, "no empty chunks"
                self._content += event.data
                continue
            self.requests += 1
            assert self.connection.next_event() is PAUSED
            reply = self._answer(event)
            self.wire += self.connection.send(reply)
            self.answered += 1
            self._replied(event, reply)
        self.closed = True

    def _answer(self, event: Request) -> Reply:
        hooks, context = self.hooks, (self, self.session, self.envelope)
        answer: Answer
        match event:
            case Refused(reply):
                answer = reply
            case Connected():
                answer = finish(hooks.handle_CONNECT(*context))
            case Helo(hostname):
                answer = finish(hooks.handle_HELO(*context, hostname))
            case Ehlo(hostname) | Lhlo(hostname):
                answer = self._ehlo(hostname)
            case Mail(address, mail_options):
                answer = finish(hooks.handle_MAIL(*context, address, mail_options))
            case Rcpt(address, rcpt_options):
                answer = finish(hooks.handle_RCPT(*context, address, rcpt_options))
            case Data():
                answer = replies.START_MAIL_INPUT
            case Bdat():
                answer = replies.CHUNK_OK
            case BodyEnd():
                answer = self._data()
            case Rset():
                answer = finish(hooks.handle_RSET(*context))
            case Noop(arg):
                answer = finish(hooks.handle_NOOP(*context, arg))
            case Quit():
                answer = finish(hooks.handle_QUIT(*context))
            case Vrfy(address):
                answer = finish(hooks.handle_VRFY(*context, address))
            case Expn(address):
                answer = finish(hooks.handle_EXPN(*context, address))
            case Help(topic):
                answer = finish(hooks.handle_HELP(*context, topic))
            case Unknown():
                answer = replies.UNKNOWN_COMMAND
            case StartTls() | Auth() | AuthResponse() | Xclient() | Xforward():
                raise NotImplementedError("this server has no TLS, users or proxies")
        return answer if isinstance(answer, Reply) else Reply.parse(answer)

    def _ehlo(self, hostname: str) -> Answer:
        first, *middle, last = [self.hostname, *ehlo_keywords(self.config)]
        lines = [*(f"250-{line}" for line in (first, *middle)), f"250 {last}"]
        answer = finish(self.hooks.handle_EHLO(self, self.session, self.envelope, hostname, lines))
        return "\r\n".join(answer) if isinstance(answer, list) else answer

    def _data(self) -> Answer:
        self.envelope.content = bytes(self._content)
        answer = finish(self.hooks.handle_DATA(self, self.session, self.envelope))
        assert isinstance(answer, str | Reply)
        return answer

    def _replied(self, event: Request, reply: Reply) -> None:
        if isinstance(event, BodyEnd) and reply.positive:
            self.delivered.append(self.envelope.content)
        if isinstance(event, Ehlo | Helo | Lhlo | Rset | BodyEnd):
            self.envelope = Envelope()
        if isinstance(event, Mail):
            self._content.clear()


class EngineBackend:
    """The engine, played to as if it was at the other end of a connection."""

    def __init__(self, transcript: Transcript) -> None:
        settings: dict[str, Any] = dict(transcript.settings)
        hostname, ident = settings.pop("hostname"), settings.pop("ident")
        self._server = EngineServer(ProtocolConfig(**settings), hostname, ident)
        self._read = 0
        self.delivered = self._server.delivered

    async def send(self, segment: bytes) -> None:
        self._server.receive(segment)

    async def send_eof(self) -> None:
        self._server.receive_eof()

    async def read_line(self) -> bytes:
        end = self._server.wire.find(b"\n", self._read) + 1
        line = bytes(self._server.wire[self._read : end])
        self._read += len(line)
        return line

    async def until_close(self) -> bytes:
        if not self._server.closed:
            raise TimeoutError
        assert self._server.answered == self._server.requests
        assert self._server.wire.count(b"\r\n") == self._server.wire.count(b"\n")
        return bytes(self._server.wire[self._read :])
