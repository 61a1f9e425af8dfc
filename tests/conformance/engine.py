"""The engine as a server without I/O: `HandlerConnection`, watched at each of its steps."""

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from tests.conformance.site import Recorder, authenticate
from tests.conformance.transcript import Transcript

from smtp_protocol import (
    PAUSED,
    BodyChunk,
    Event,
    Handler,
    HandlerConnection,
    ProtocolConfig,
    Reply,
    ServerConnection,
    Signal,
    State,
)

ResultT = TypeVar("ResultT")


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


class Watched:
    """A `ServerConnection` that sees to it that each event is answered at once, and only once.

    Attributes:
        requests: How many replies the events asked for.
        answered: How many replies were sent.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self.requests = 0
        self.answered = 0
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def next_event(self) -> Event | Signal:
        event = self._connection.next_event()
        if self._connection.state is not State.TLS:
            assert event is not PAUSED, "each reply is sent at once"
        assert event != BodyChunk(b""), "no empty chunks"
        if not isinstance(event, Signal):
            self.requests += self._connection.replies_owed
        return event

    def send(self, reply: Reply) -> bytes:
        assert self._connection.next_event() is PAUSED
        self.answered += 1
        return self._connection.send(reply)


class EngineServer:
    """A handler's connection, with what a client sends and gets.

    Attributes:
        connection: Its protocol engine.
        wire: What was sent.
        delivered: The contents of the accepted messages.
    """

    def __init__(
        self,
        config: ProtocolConfig,
        hostname: str = "localhost",
        ident: str = "SMTP",
        *,
        mechanisms: list[str] | None = None,
        tls: bool = False,
        trusted: bool = False,
    ) -> None:
        recorder = Recorder()
        self.delivered = recorder.delivered
        self.wire = bytearray()
        self._server = HandlerConnection(
            recorder,
            config,
            hostname=hostname,
            ident=ident,
            mechanisms=mechanisms or [],
            authenticator=authenticate,
            tls=tls,
            trusted=trusted,
        )
        self.connection = Watched(self._server.connection)
        self._server.connection = cast(ServerConnection, self.connection)
        self._run()

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._server.closed

    def receive(self, segment: bytes) -> None:
        """Take one segment from the client."""
        self._server.receive_data(segment)
        self._run()

    def receive_eof(self) -> None:
        """Take the end of what the client sends."""
        self._server.receive_eof()
        self._run()

    def start_tls(self, *, refused: bool) -> None:
        """Do as if the handshake was done."""
        assert self._server.needs_tls
        hooks = self._server.hooks
        hooks.handle_STARTTLS = lambda *context: not refused  # type: ignore[method-assign]
        finish(self._server.tls_started())
        self._run()

    def _run(self) -> None:
        self.wire += finish(self._server.answers())
        assert self.connection.answered == self.connection.requests


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
            config, hostname, ident, mechanisms=mechanisms, tls=tls, trusted=trusted
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
        assert self._server.wire.count(b"\r\n") == self._server.wire.count(b"\n")
        return bytes(self._server.wire[self._read :])
