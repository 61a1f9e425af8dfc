"""SMTP: one connection's life from its greeting on: conversing, closing, gone."""

import inspect
import logging
from time import monotonic
from typing import Unpack

from smtp_protocol import AnyHandler, Envelope, Reply, State, replies
from smtp_protocol.auth import decided
from smtp_protocol.bookkeeping import forget_clear_text
from smtp_protocol.commands import StartTls
from smtp_server.dispatch import failure_of, timed
from smtp_server.entrance import Entrance
from smtp_server.log import log, refused
from smtp_server.opening import NoSession
from smtp_server.settings import SMTPKeywords
from smtp_server.setup import Setup, prepare
from smtp_server.tls import Certificates

__all__ = ["SMTP"]


class SMTP(Entrance):
    """One connection of an SMTP server, and what a hook sees as ``server``.

    A subclass adds a command, or takes over a built-in one, with a method
    ``async def smtp_VERB(self, arg: str | None)`` that returns the answer or pushes it.

    Args:
        handler: The object with the hooks.
        setup: What the connections of one server share, as another one's ``setup``; it saves
            looking at handler and keywords again.
        **keywords: See `Settings`.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value is invalid.
    """

    __slots__ = ("__weakref__", "_greeted", "_over", "_received_inside_tls")

    def __init__(
        self,
        handler: AnyHandler,
        *,
        setup: Setup | None = None,
        **keywords: Unpack[SMTPKeywords],
    ) -> None:
        if setup is None:
            setup = prepare(type(self), handler, keywords)
        elif keywords or handler is not setup.handler:
            raise TypeError("a setup has its handler and its keywords already")
        super().__init__(setup)
        # What came inside TLS before the engine knew of that.
        self._received_inside_tls = b""
        self._greeted = False
        self._over = False

    # Greeted.

    def _greet(self, refusal: Reply | None = None) -> None:
        self._opening = False
        self._note_tls()
        if self.setup.look_every is not None:
            self._watch_time(self.setup.look_every)
        if refusal is not None:
            refused(self.session, None, refusal)
            self.end_session(refusal, linger=True)
            return
        self._greeted = True
        self._advance()

    # Conversing.

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._active = monotonic()
        if self._connection.state is State.TLS:
            self._received_inside_tls += data
            return
        busy = self._task is not None
        self._connection.receive_data(data)
        self._advance()
        if busy:
            self._regulate_reading()

    def eof_received(self) -> bool:
        """Take that the peer sends no more; it still gets its answers."""
        self._eof = True
        self._connection.receive_eof()
        self._cut_pause()
        if self._opening and not self._connection.buffered:
            return False  # it says nothing, so there is nothing to greet it for
        if self._connection.state is State.TLS:
            return False  # TLS itself was closed, which the handshake's task has yet to notice
        self._advance()
        # Inside TLS nothing can be sent behind the peer's end: asyncio closes it in any case.
        return not self._hung_up and self._transport.can_write_eof()

    def _start_tls(self) -> None:
        if self.setup.certificates is not None:
            self._transport.pause_reading()
            self._start(self._switch_to_tls(self.setup.certificates))

    async def _switch_to_tls(self, certificates: Certificates) -> None:
        """Go on inside TLS, after the reply to STARTTLS (RFC 3207 §4)."""
        try:
            try:
                await self._secure(certificates)
            except NoSession as error:
                self._give_up(error)
            else:
                await self._begin_inside_tls()
        except BaseException as error:
            self._fail(StartTls(), error)
        finally:
            self._errand_done()
        if self._connection.state is not State.CLOSED:
            self._go_on_inside_tls()

    async def _begin_inside_tls(self) -> None:
        if self._connected:
            self._transport.pause_reading()
        forget_clear_text(self.session)
        self.envelope = Envelope()
        self._note_tls()
        accepted = self.hooks.handle_STARTTLS(self, self.session, self.envelope)
        good = decided(await timed(accepted, self) if inspect.isawaitable(accepted) else accepted)
        if self._connection.state is State.TLS:
            self._connection.tls_started()
            if not good:
                self._connection.tls_refused()

    def _go_on_inside_tls(self) -> None:
        self._heard()
        early, self._received_inside_tls = self._received_inside_tls, b""
        self._connection.receive_data(early)
        if self._connected:
            self._transport.resume_reading()
        if self._stopping:
            self._stop_if_idle()
        self._advance()

    def _idle_limit(self) -> float | None:
        """How many seconds the client may be idle now; ``None`` for any number."""
        settings = self.setup.settings
        at_work = self._busy and self._response is None
        if at_work or (self._writing and not self._reading):
            # It is the client that waits: for a hook, whose time is limited elsewhere, or for a
            # handle_STREAM that does not read on.
            return None if at_work else settings.handler_timeout
        if self._connection.reading_body and settings.data_timeout is not None:
            return settings.data_timeout
        return settings.timeout

    def _timed_out(self, seconds: float) -> None:
        if self._writing and not self._reading:
            log(logging.ERROR, self.session, "handle_STREAM read nothing for %g seconds", seconds)
            reply = replies.CLOSING_FAILURE
        else:
            log(logging.INFO, self.session, "Idle for %g seconds", seconds)
            reply = replies.CLOSING_IDLE
        self._cancel_streams()
        self.end_session(reply)

    # Closing.

    def shut_down(self) -> None:
        """End the session with 421 as soon as no transaction is going on (RFC 5321 §3.8)."""
        self._stopping = True
        if self._opening:
            self._cancel_errand()
            self._drop()
        elif not self._advancing and not self._busy:
            self._stop_if_idle()
            self._advance()

    def abort(self) -> None:
        """End the session now, with 421, whatever is going on."""
        self._cancel_errand()
        self._cancel_streams()
        self.end_session(replies.CLOSING_SHUTDOWN)
        if not self._connected and not self._opening:
            self._connection.close()  # what the client sent before its end is left undone
            self._see_whether_over()

    def end_session(self, reply: Reply, *, linger: bool = False) -> None:
        """End the session with a 421, whatever is going on.

        Args:
            reply: The 421.
            linger: Whether the client may be sending, as one that has just come.
        """
        if not self._connected:
            return
        if self._opening or self._connection.state is State.TLS:
            self._drop()  # in the middle of a handshake there is no way to say it
            return
        if self._connection.state is not State.CLOSED:
            self._reply(None, reply)
        self._hang_up(linger=linger)

    def hang_up(self) -> None:
        """Close the connection at once, without a word.

        The transaction is gone, and so is what the client has sent and nobody has answered yet.
        What the hook returns is not sent; ``handle_DISCONNECT`` is called after it. Call it in the
        session's event loop. To end a session with a reply, answer with a 421 instead.
        """
        if self._opening or self._connection.state is State.TLS:
            self._drop()  # the hook is a part of what comes before anything can be said
            return
        self._connection.close()
        self._discard_body()
        self._cut()

    # Gone.

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session, after the hook that may still be at work.

        Commands that came before are still worked through, without replies: TLS has no half-close,
        so this is how a client ends that sends all and closes.
        """
        if not self._connected:
            return
        # uvloop may tell in this way, without an end of file, that a client has closed its TLS.
        ended = self._eof or (error is None and not self._hung_up)
        if ended and not self._opening and self._connection.state is not State.TLS:
            self._connection.receive_eof()
        else:
            self._connection.close()
            self._discard_body()
        if self._response is not None and not self._response.done():
            self._response.set_result(None)
        if self._opening:
            # In the next turn: a handshake that failed raises its own error first, which is logged.
            self._loop.call_soon(self._cancel_errand)
        self._detach()
        if self._busy:
            self._cut_pause()
        if not self._over and not self._busy:
            self._advance()

    def _see_whether_over(self) -> None:
        """End the session when the connection is gone and nothing is left to do: the one way out.

        A client that was greeted gets its ``handle_DISCONNECT``; then the session is counted out.
        """
        left = self._busy or self._streams
        if left or self._over or not (self._opening or self._connection.state is State.CLOSED):
            return
        self._over = True
        if self._greeted and "handle_DISCONNECT" in self.hooks.own:
            self._start(self._say_goodbye())
        else:
            self._leave()

    async def _say_goodbye(self) -> None:
        try:
            await timed(self.hooks.handle_DISCONNECT(self, self.session), self)
        except BaseException as error:
            failure = failure_of(error, ending=self._ending)
            log(logging.ERROR, self.session, "handle_DISCONNECT failed", error=failure)
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._telling:
            log(logging.DEBUG, self.session, "Gone")
        if self.sessions is not None:
            self.sessions.remove(self)
