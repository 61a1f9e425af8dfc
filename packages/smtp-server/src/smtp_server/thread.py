"""Thread: one run of a service in a thread; whatever ends it, everything is closed in one place."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import TypeVar

from smtp_server.log import logger
from smtp_server.service import Service

__all__: list[str] = []

T = TypeVar("T")

#: What sets the time limit of `ServerThread.start`. The second name is what programs that come
#: from the older library set.
TIMEOUT_VARIABLES = ("SMTP_SERVER_CONTROLLER_TIMEOUT", "AIOSMTPD_CONTROLLER_TIMEOUT")

# The time that `start` waits is cut into so many turns. Where other threads keep the process busy,
# each turn of the caller takes longer, as each of the new thread does: it gets as many turns.
_TURNS = 50

# What stops a loop once may do so in each turn of it, and to close takes a few of them.
_STOPS = 100

# Seconds that tasks have to end when they are cancelled, before their loop is closed.
_CLEANING = 5.0


class ServerThread:
    """A service in a thread with an event loop, from `start` to its end, once.

    The thread is a daemon: the end of the program does not wait for it.

    Args:
        service: The service, not started yet.
        sockets: What it listens on. They are closed when the thread ends.
        loop: The event loop to run, which stays open; by default a new one, which is closed.
        check: Called in the loop before the service starts; what it raises comes from `start`.
        grace: Seconds that transactions have when something else than `stop` ends the thread.
    """

    def __init__(
        self,
        service: Service,
        sockets: Sequence[socket.socket],
        *,
        loop: asyncio.AbstractEventLoop | None,
        check: Callable[[], None],
        grace: float,
    ) -> None:
        self._service = service
        self._sockets = sockets
        self._check = check
        self._grace = grace
        #: The event loop, as soon as there is one.
        self.loop = loop
        # What `start` waits for.
        self._step = "its thread has not begun"
        # What ended the thread, if that was not `stop`.
        self._error: BaseException | None = None
        # Set when nobody waits in `start` any more: what fails from then on goes into the log.
        self._settled = threading.Event()
        # Taken by who answers for the sockets: the thread before it listens, or a `start` that
        # gives up.
        self._claim = threading.Lock()
        self._stop: Future[float] = Future()
        self._thread = threading.Thread(target=self._main, name="smtp-server", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self, timeout: float) -> None:
        """Start the thread, and return when the service listens.

        Args:
            timeout: Seconds.

        Raises:
            TimeoutError: It does not listen in time; the text says what took so long.
            BaseException: Whatever keeps it from listening.
        """
        try:
            self._thread.start()
            self._wait(timeout)
        except BaseException:
            self._give_up()
            raise
        if self._error is not None:
            self._thread.join()
            raise self._error

    def _wait(self, timeout: float) -> None:
        for _ in range(_TURNS):
            if self._settled.wait(timeout / _TURNS):
                return
        raise TimeoutError(
            f"the server was not ready within {timeout:g} seconds: {self._step}; "
            f"raise ready_timeout or {TIMEOUT_VARIABLES[0]}"
        )

    def _give_up(self) -> None:
        self._settled.set()
        self._request_stop(0.0)
        if self._claim.acquire(blocking=False):
            # The thread has not come to the sockets, and it is not known whether it ever will.
            self._close_sockets()

    def stop(self, grace: float) -> None:
        """End the service, and return when the thread has ended.

        A hook that calls it cannot wait for that: there it returns at once.

        Args:
            grace: Seconds that running transactions have to finish.
        """
        if self.alive:
            self._request_stop(grace)
        else:
            self._close_sockets()  # those of a forked process, in which the thread never ran
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _request_stop(self, grace: float) -> None:
        with contextlib.suppress(InvalidStateError):  # it was requested before
            self._stop.set_result(grace)

    # What the thread does.

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._ended_by(error)
        if self._error is not None and self._settled.is_set():
            logger.error("The server's thread has ended: %r", self._error, exc_info=self._error)
        self._settled.set()

    def _run(self) -> None:
        """Serve. The one way out: each step is taken, whatever the others raise."""
        with contextlib.ExitStack() as leaving:
            leaving.callback(self._close_sockets)
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                leaving.callback(self.loop.close)
                for clean in (self.loop.shutdown_asyncgens, _cancel_tasks):
                    leaving.callback(_complete, self.loop, clean)
            leaving.callback(self._close_service, self.loop)
            self._grace = _complete(self.loop, self._serve, self._ended_by)

    async def _serve(self) -> float:
        """Listen until somebody says how many seconds there are."""
        self._step = "its factory has not returned"
        self._check()
        if not self._claim.acquire(blocking=False):
            return 0.0
        self._step = "its handler has not been entered, or it has not begun to listen"
        stop = asyncio.wrap_future(self._stop)
        starting = asyncio.create_task(self._service.start())
        # A handler may take for ever to be entered, when nobody waits in `start` any more.
        stop.add_done_callback(lambda _: starting.cancel())
        try:
            await starting
        except asyncio.CancelledError:
            return await stop
        if self._error is None:
            self._settled.set()
        return await stop

    def _ended_by(self, error: BaseException) -> None:
        """Note the reason why the thread ends, and end the service as `stop` does."""
        self._error = self._error or error
        self._request_stop(self._grace)

    def _close_service(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            _complete(loop, partial(self._service.close, self._grace))
        except BaseException:
            _complete(loop, partial(self._service.close, 0.0))
            raise

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()


def _complete(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[], Coroutine[object, object, T]],
    stopped: Callable[[BaseException], object] = repr,
) -> T:
    """Run the loop until a coroutine function has returned, though something stops the loop.

    Args:
        loop: The loop.
        function: The function.
        stopped: Called with what has stopped the loop, such as ``loop.stop`` or an exit in a
            callback, before the loop is run again.

    Raises:
        BaseException: What the function raised, or what has stopped the loop once too often.
    """
    if loop.is_closed() or loop.is_running():
        state = "closed" if loop.is_closed() else "running already"
        raise RuntimeError(f"the event loop is {state}")
    task = loop.create_task(function())
    for _ in range(_STOPS):
        try:
            return loop.run_until_complete(task)
        except BaseException as error:
            if task.done():
                raise
            stopped(error)
    task.cancel()
    raise RuntimeError("the event loop does not run")


async def _cancel_tasks() -> None:
    """Cancel what hooks have left behind."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLEANING)
