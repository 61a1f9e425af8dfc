"""Fakes: a transport without a socket, an event loop whose clock is put forward, an exchange.

With them a connection is run in the test's own thread, and nothing is waited for: an hour of idle
time is over at once.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context, copy_context
from itertools import count
from typing import Any, ClassVar, Literal, TypeVar, TypeVarTuple, Unpack

from smtp_protocol import MISSING, Answer, AnyHandler, Auth, Envelope, Event, Reply, Session
from smtp_protocol import replies as canned
from smtp_protocol.answers import reply_from
from smtp_protocol.auth import Missing
from smtp_server import SMTP
from smtp_server.exchange import Exchange
from smtp_server.limits import Budget
from smtp_server.settings import SharedKeywords, SMTPKeywords
from smtp_server.setup import ServerClass, prepare

ArgsT = TypeVarTuple("ArgsT")
ResultT = TypeVar("ResultT")

HOSTNAME = "mx.test"

#: Where the client of a `FakeTransport` is.
PEER = ("192.0.2.1", 1025)


class FakeTransport(asyncio.Transport):
    """A connection without a socket, which remembers what is done to it.

    Whoever uses it after the connection was lost fails, and whoever writes behind the end.

    Args:
        peer: The address of the client.
        half_closes: Whether it can be closed in one direction alone, which TLS cannot.

    Attributes:
        extra: What `get_extra_info` tells.
        ends: In which ways it was ended, in their order: ``"eof"``, ``"close"``, ``"abort"``.
        waiting: How many octets the peer has not taken yet.
        lost: Whether the connection is gone.
    """

    def __init__(self, peer: object = PEER, *, half_closes: bool = True) -> None:
        super().__init__()
        self.extra: dict[str, object] = {"peername": peer}
        self.ends: list[str] = []
        self.waiting = 0
        self.lost = False
        self._half_closes = half_closes
        self._reading = True
        self._written: list[bytes] = []
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()

    def take(self) -> str:
        """What was sent since the last time."""
        text = b"".join(self._written).decode()
        self._written.clear()
        return text

    def writes(self) -> int:
        """In how many calls that came which `take` would give."""
        return len(self._written)

    def _use(self) -> None:
        assert not self.lost, "the connection is gone"

    # What the server does with it.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take what is for the peer."""
        self._use()
        assert not self.ends, "it was closed"
        self._written.append(bytes(data))

    def write_eof(self) -> None:
        """Tell the peer that no more is sent."""
        self._use()
        assert self._half_closes
        self.ends.append("eof")

    def can_write_eof(self) -> bool:
        """Whether it can be closed in one direction alone."""
        return self._half_closes

    def get_write_buffer_size(self) -> int:
        """How many octets the peer has not taken yet."""
        self._use()
        return self.waiting

    def pause_reading(self) -> None:
        """Have the peer's octets wait."""
        self._use()
        self._reading = False

    def resume_reading(self) -> None:
        """Have the peer's octets come."""
        self._use()
        self._reading = True

    def is_reading(self) -> bool:
        """Whether the peer's octets come."""
        return self._reading

    def is_closing(self) -> bool:
        """Whether it is being closed."""
        return "close" in self.ends or "abort" in self.ends

    def close(self) -> None:
        """Close it behind what was sent."""
        self._use()
        self.ends.append("close")

    def abort(self) -> None:
        """Close it at once."""
        self._use()
        self.ends.append("abort")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self.extra.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol told what comes."""
        self._use()
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told what comes."""
        return self._protocol


class FakeLoop(asyncio.BaseEventLoop):
    """An event loop that a test turns by hand, with a clock of its own.

    Attributes:
        encrypted: What `start_tls` and `connect_accepted_socket` make, or the error they raise.
        readers: The sockets that are watched, each with who is told.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[tuple[asyncio.Handle, Callable[[], object]]] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Callable[[], object]]] = []
        self._numbers = count()
        self.encrypted: asyncio.Transport | BaseException | None = None
        self.readers: dict[object, Callable[[], object]] = {}

    # What a test does.

    def turn(self) -> None:
        """Do what can be done without waiting."""
        with self.running():
            while self._soon:
                handle, run = self._soon.popleft()
                if not handle.cancelled():
                    run()

    def call(self, function: Callable[[Unpack[ArgsT]], ResultT], *args: *ArgsT) -> ResultT:
        """Have the loop call something, as it does when octets come, and do what follows."""
        with self.running():
            result = function(*args)
        self.turn()
        return result

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and do what it brings."""
        end = self._now + seconds
        self.turn()
        while (due := self._due()) is not None and due <= end:
            self._wake()
        self._now = end

    def complete(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine to its end, however long it takes.

        Raises:
            AssertionError: It waits for what never comes.
        """
        task = asyncio.Task(coroutine, loop=self)
        self.turn()
        while not task.done():
            assert self._due() is not None, "it waits for what never comes"
            self._wake()
        return task.result()

    def close(self) -> None:
        """Cancel what still waits, as the end of a program does."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.turn()
        super().close()

    @property
    def timers(self) -> int:
        """How many timers are running."""
        return sum(not handle.cancelled() for _, _, handle, _ in self._timers)

    def _due(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _wake(self) -> None:
        self._now, _, handle, run = heapq.heappop(self._timers)
        self._soon.append((handle, run))
        self.turn()

    @contextmanager
    def running(self) -> Iterator[None]:
        """It is this loop's turn."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    # What asyncio does.

    def call_soon(
        self,
        callback: Callable[[Unpack[ArgsT]], object],
        *args: *ArgsT,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call something in the next turn."""
        context = context or copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append((handle, lambda: context.run(callback, *args)))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[ArgsT]], object],
        *args: *ArgsT,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call something at ``when``."""
        context = context or copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        run = lambda: context.run(callback, *args)  # noqa: E731
        heapq.heappush(self._timers, (when, next(self._numbers), handle, run))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: `_due` looks for itself."""

    def time(self) -> float:
        """The seconds that have passed."""
        return self._now

    def is_running(self) -> bool:
        """Whether it is this loop's turn."""
        return asyncio._get_running_loop() is self

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody took notice of an error: the test fails, unless the error ends the program."""
        if not isinstance(context.get("exception"), KeyboardInterrupt | SystemExit):
            raise AssertionError(context)

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[ArgsT]], ResultT],
        *args: *ArgsT,
    ) -> asyncio.Future[ResultT]:
        """Wait for what a thread does."""
        assert executor is not None
        future = self.create_future()
        try:
            future.set_result(executor.submit(func, *args).result())
        except Exception as error:
            future.set_exception(error)
        return future

    async def start_tls(
        self, transport: Any, *args: Any, **options: Any
    ) -> asyncio.Transport | None:
        """Do the handshake of a transport."""
        await asyncio.sleep(0)
        if isinstance(self.encrypted, BaseException):
            raise self.encrypted
        return self.encrypted

    async def connect_accepted_socket(
        self, protocol_factory: Callable[[], Any], sock: Any, **options: Any
    ) -> tuple[asyncio.Transport, Any]:
        """Make a connection of a socket."""
        transport = await self.start_tls(None)
        assert transport is not None
        protocol = protocol_factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def add_reader(self, fd: Any, callback: Callable[[Unpack[ArgsT]], Any], *args: *ArgsT) -> None:
        """Watch a socket."""
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        """Watch a socket no more."""
        return self.readers.pop(fd, None) is not None


class FakePeer:
    """The other end of a connection: what a client does, without a client.

    Args:
        protocol: The protocol of the connection, which is told that it is there; ``None`` where
            it knows already.
        loop: Its event loop.
        transport: The connection.
    """

    def __init__(
        self,
        protocol: asyncio.BufferedProtocol | None,
        loop: FakeLoop,
        transport: FakeTransport | None = None,
    ) -> None:
        self.loop = loop
        self.transport = transport or FakeTransport()
        if protocol is not None:
            self.transport.set_protocol(protocol)
            loop.call(protocol.connection_made, self.transport)

    @property
    def _protocol(self) -> asyncio.BufferedProtocol:
        protocol = self.transport.get_protocol()
        assert isinstance(protocol, asyncio.BufferedProtocol)
        return protocol

    def send(self, data: str | bytes) -> str:
        """Send octets, and give what is answered at once."""
        self.write(data)
        return self.transport.take()

    def write(self, data: str | bytes) -> None:
        """Send octets, and leave what is answered in the transport."""
        left = data.encode() if isinstance(data, str) else data
        while left:
            assert self.transport.is_reading(), "nobody reads"
            room = memoryview(self._protocol.get_buffer(-1))
            size = min(len(room), len(left))
            room[:size], left = left[:size], left[size:]
            self.loop.call(self._protocol.buffer_updated, size)

    def tell(self, *lines: str) -> str:
        """Send lines, to each of which CR LF is added, and give what the last is answered."""
        answer = ""
        for line in lines:
            answer = self.send(f"{line}\r\n")
        return answer

    def end(self) -> bool:
        """Send no more; what comes back is whether the connection stays open."""
        return bool(self.loop.call(self._protocol.eof_received))

    def lose(self, error: Exception | None = None) -> None:
        """Be gone."""
        self.transport.lost = True
        self.loop.call(self._protocol.connection_lost, error)

    def stop_taking(self) -> None:
        """Take none of what is sent."""
        self.loop.call(self._protocol.pause_writing)

    def take_again(self) -> str:
        """Take what is sent, and give it."""
        self.loop.call(self._protocol.resume_writing)
        return self.transport.take()


def talk(
    loop: FakeLoop,
    handler: AnyHandler,
    smtp_class: type[SMTP] = SMTP,
    **keywords: Unpack[SharedKeywords],
) -> FakePeer:
    """Make a connection of a server, with its greeting taken."""
    peer = FakePeer(smtp_class(handler, hostname=HOSTNAME, loop=loop, **keywords), loop)
    assert peer.transport.take().startswith("220 ")
    return peer


class FakeExchange(ServerClass):
    """A connection as dispatch and authentication see it, with nobody at its other end.

    Args:
        handler: The object with the hooks.
        responses: What the client responds to one challenge after the other; then it gives up.
        owed: How many replies the event still needs.
        **keywords: Those of a server.

    Attributes:
        challenges: What was sent as challenges.
        failures: What was to be logged: of which event, and the error.
        ended: The reply that the session was ended with.
        result: What `body_result` comes to, or raises.
    """

    def __init__(
        self,
        handler: AnyHandler,
        *,
        responses: Sequence[bytes] = (),
        owed: int = 1,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        self.setup = prepare(type(self), handler, {"hostname": HOSTNAME, **keywords})
        self.hooks = self.setup.hooks
        self.session = Session(PEER)
        self.envelope = Envelope()
        self.budget = Budget(self.setup.settings)
        self.replies_owed = owed
        self.ending = False
        self.clock: asyncio.Timeout | None = None
        self.challenges: list[bytes] = []
        self.failures: list[tuple[Event, BaseException]] = []
        self.ended: Reply | None = None
        self.result: object = "250 OK"
        self._responses = deque(responses)

    lmtp: ClassVar[bool] = False
    hostname = HOSTNAME
    ident = "Fake"
    data_size_limit = None
    enable_SMTPUTF8 = False

    @property
    def syntaxes(self) -> Mapping[str, str]:
        """The form of each command."""
        return {}

    def ehlo_lines(self) -> Sequence[str]:
        """The lines of the reply to EHLO."""
        return [HOSTNAME, "HELP"]

    async def pause(self, seconds: float) -> None:
        """Wait so long."""
        await asyncio.sleep(seconds)

    async def push(self, answer: Answer) -> None:
        """Send the reply now."""
        reply_from(answer)
        self.replies_owed -= 1

    def hang_up(self) -> None:
        raise NotImplementedError

    async def challenge_auth(
        self, challenge: str | bytes, *, encode_to_b64: bool = True
    ) -> bytes | Literal[Missing.MISSING]:
        """Send a challenge; the response is the next of those that are known."""
        self.challenges.append(challenge.encode() if isinstance(challenge, str) else challenge)
        if self._responses:
            return self._responses.popleft()
        self.replies_owed = 0
        return MISSING

    async def body_result(self) -> object:
        """Have the message handled."""
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    async def authenticate(self, event: Auth) -> Reply:
        """Go through the exchange of AUTH."""
        return canned.AUTH_OK

    async def conclude(self, event: Auth, reply: Reply) -> Reply:
        """Take a verdict of the hook."""
        return reply

    async def own_command(self, verb: str, arg: str | None) -> Answer | None:
        """Answer a command of one's own."""
        return None

    def end_session(self, reply: Reply) -> None:
        """End the session."""
        self.ended = reply

    def log_failure(self, event: Event, error: BaseException) -> None:
        """Note that a hook failed."""
        self.failures.append((event, error))


class FakeLMTPExchange(FakeExchange):
    """The same in LMTP."""

    lmtp: ClassVar[bool] = True


def as_exchange(fake: FakeExchange) -> Exchange:
    """A type checker sees here that the fake is as good as a connection."""
    return fake
