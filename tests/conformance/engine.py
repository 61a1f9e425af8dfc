"""The engine as a server without I/O: `ServerConnection`, the default hooks, and a short loop."""

import base64
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

from tests.conformance.site import Recorder, authenticate
from tests.conformance.transcript import Transcript

from smtp_protocol import (
    MECHANISMS,
    NEED_DATA,
    PAUSED,
    Answer,
    Ask,
    Auth,
    AuthResponse,
    Bdat,
    BodyChunk,
    BodyEnd,
    Challenge,
    Command,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    Envelope,
    Expn,
    Finished,
    Handler,
    Helo,
    Help,
    Lhlo,
    Mail,
    Mechanism,
    Noop,
    ProtocolConfig,
    ProtocolError,
    Quit,
    Rcpt,
    Refused,
    Reply,
    Rset,
    ServerConnection,
    Session,
    StartTls,
    State,
    Step,
    Unknown,
    Vrfy,
    Xclient,
    Xforward,
    replies,
)
from smtp_protocol.auth import Missing
from smtp_protocol.extensions import ehlo_keywords
from smtp_protocol.parser import syntaxes

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
        requests: How many replies the events asked for.
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
        *,
        mechanisms: Sequence[str] = (),
        tls: bool = False,
        trusted: bool = False,
    ) -> None:
        self.config = config
        self.hostname = hostname
        self.ident = ident
        self.session = Session()
        self.envelope = Envelope()
        self.hooks = handler or Defaults()
        self.mechanisms = mechanisms
        self.tls = tls
        self.trusted = trusted
        self.connection = ServerConnection(config, tls=tls, trusted=trusted)
        self.wire = bytearray()
        self.requests = 0
        self.answered = 0
        self.delivered: list[bytes] = []
        self.closed = False
        self._content = bytearray()
        self._exchange: tuple[str, Mechanism] | None = None
        self._run()

    @property
    def data_size_limit(self) -> int | None:
        return self.config.data_size_limit

    @property
    def enable_SMTPUTF8(self) -> bool:
        return "SMTPUTF8" in self.config.extensions

    @property
    def syntaxes(self) -> Mapping[str, str]:
        return syntaxes(self.config)

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

    def start_tls(self, *, refused: bool) -> None:
        """Do as if the handshake was done."""
        self.connection.tls_started()
        if refused:
            self.connection.tls_refused()
        self.tls = True
        self._run()

    def _run(self) -> None:
        while not isinstance(event := self.connection.next_event(), ConnectionClosed):
            if event is NEED_DATA or self.connection.state is State.TLS:
                return
            assert event is not PAUSED, "each reply is sent at once"
            if isinstance(event, BodyChunk):
                assert event.data, "no empty chunks"
                self._content += event.data
                continue
            self.requests += self.connection.replies_owed
            answers = self._answers(event)
            for reply in answers:
                assert self.connection.next_event() is PAUSED
                self.wire += self.connection.send(reply)
                self.answered += 1
            self._replied(event, answers)
        self.closed = True

    def _answers(self, event: Request) -> list[Reply]:
        owed = self.connection.replies_owed
        if not isinstance(event, BodyEnd):
            return [self._answer(event)] * owed
        self.envelope.content = bytes(self._content)
        result = finish(self.hooks.handle_DATA(self, self.session, self.envelope))
        if isinstance(result, str | Reply):
            return [_reply(result)] * owed
        if self.config.lmtp:
            return [_reply(answer) for answer in result]
        return [max(map(_reply, result), key=lambda reply: reply.code)]

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
                raise AssertionError("answered for each recipient")
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
            case StartTls():
                answer = replies.READY_FOR_TLS
            case Auth() | AuthResponse():
                answer = self._auth(event)
            case Xclient():
                answer = Reply(220, (f"{self.hostname} {self.ident}",))
            case Xforward():
                answer = replies.OK
        return _reply(answer)

    def _ehlo(self, hostname: str) -> Answer:
        keywords = ehlo_keywords(
            self.config, tls=self.tls, trusted=self.trusted, mechanisms=self.mechanisms
        )
        first, *middle, last = [self.hostname, *keywords]
        lines = [*(f"250-{line}" for line in (first, *middle)), f"250 {last}"]
        answer = finish(self.hooks.handle_EHLO(self, self.session, self.envelope, hostname, lines))
        return "\r\n".join(answer) if isinstance(answer, list) else answer

    def _auth(self, event: Auth | AuthResponse) -> Reply:
        try:
            if isinstance(event, Auth):
                if event.mechanism not in self.mechanisms:
                    return replies.UNKNOWN_MECHANISM
                self._exchange = event.mechanism, MECHANISMS[event.mechanism]()
                return self._step(self._exchange[1].start(event.initial_response))
            assert self._exchange is not None
            return self._step(self._exchange[1].respond(event.data))
        except ProtocolError as error:
            return error.reply
        except RuntimeError:
            return replies.TEMPORARY_AUTH_FAILURE

    def _step(self, step: Step) -> Reply:
        assert self._exchange is not None
        name, mechanism = self._exchange
        match step:
            case Challenge(data):
                return Reply(334, (base64.b64encode(data).decode(),))
            case Ask(auth_data):
                verdict = authenticate(self, self.session, self.envelope, name, auth_data)
                return self._step(mechanism.resolve(verdict))
            case Finished(result):
                return replies.AUTH_OK if result.success else replies.AUTH_FAILED

    def _replied(self, event: Request, answers: list[Reply]) -> None:
        if isinstance(event, BodyEnd) and any(reply.positive for reply in answers):
            self.delivered.append(self.envelope.content)
        if self.connection.state in (State.GREETED, State.READY):
            # There is no transaction, any more or yet.
            self.envelope = Envelope()
            self._content.clear()


def _reply(answer: Answer) -> Reply:
    return answer if isinstance(answer, Reply) else Reply.parse(answer)


# The keywords of a server, and what the engine calls them.
_NAMES = {
    "max_recipients": "rcpt_max",
    "max_messages": "mail_max",
    "max_recipient_domains": "rcpt_domain_max",
}


class EngineBackend:
    """The engine, played to as if it was at the other end of a connection."""

    def __init__(self, transcript: Transcript) -> None:
        settings: dict[str, Any] = {
            _NAMES.get(name, name): value for name, value in transcript.settings.items()
        }
        hostname, ident = settings.pop("hostname"), settings.pop("ident")
        mechanisms = sorted(settings.pop("auth_mechanisms", ()))
        tls, trusted = settings.pop("tls", False), settings.pop("trusted", False)
        config = ProtocolConfig(auth=bool(mechanisms), **settings)
        self._server = EngineServer(
            config, hostname, ident, Recorder(), mechanisms=mechanisms, tls=tls, trusted=trusted
        )
        self._read = 0
        self.delivered = self._server.delivered

    async def send(self, segment: bytes) -> None:
        self._server.receive(segment)

    async def send_eof(self) -> None:
        self._server.receive_eof()

    async def start_tls(self, *, refused: bool) -> None:
        self._server.start_tls(refused=refused)

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
