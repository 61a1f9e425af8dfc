"""SMTPServer: what a test sees of a server; it answers, records, and fails when it is told to."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack, get_args

from smtp_protocol import Envelope, Reply, Session
from smtp_server.controller import Controller
from smtp_server.faults import CUT, Faulty, Step
from smtp_server.settings import SharedKeywords
from smtp_server.smtp import SMTP
from smtp_server.testing.accounts import Accounts
from smtp_server.testing.faults import Connection, FaultyRecorder
from smtp_server.testing.waiting import in_thread

__all__ = ["SMTPServer", "TLSMode"]

#: After a command of the client, or from the beginning.
TLSMode = Literal["starttls", "implicit"]

_CERTIFICATE = Path(__file__).with_name("localhost.pem")
_KEY = Path(__file__).with_name("localhost-key.pem")

# Seconds. A machine that runs many tests at a time may be slow to start a thread.
_READY = 30.0


class _Controller(Controller):
    def factory(self) -> SMTP:
        return Connection(self.handler, **self.SMTP_kwargs)


class SMTPServer:
    """A server for tests, in a thread of its own.

    Use it as a context manager, with ``async with`` in an event loop, or `start` it.

    Args:
        tls: ``"starttls"``, which clients then have to use; ``"implicit"`` for TLS from the
            beginning; ``None`` for none.
        auth: Passwords by user, or a list of ``"user:password"``. Clients then have to use AUTH,
            inside TLS if there is any.
        host: Where it listens.
        port: 0 takes a free one.
        **smtp_keywords: Those of `Controller`, such as ``data_size_limit=1000``. They have the
            last word about what ``tls`` and ``auth`` mean: ``auth_required=False``.

    Attributes:
        host: Where it listens.
        port: The port. It stays the same when the server is stopped and started again.
        tls: As given.

    Raises:
        ValueError: ``tls`` is something else, or an account has no colon.
        TypeError: ``auth`` is a single text.
    """

    def __init__(
        self,
        *,
        tls: TLSMode | None = None,
        auth: Mapping[str, str] | Iterable[str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        **smtp_keywords: Unpack[SharedKeywords],
    ) -> None:
        if tls is not None and tls not in get_args(TLSMode):
            raise ValueError(f"tls is 'starttls', 'implicit' or None, not {tls!r}")
        self.host = host
        self.port = port
        self.tls = tls
        self._keywords: SharedKeywords = {**_meaning(tls, auth), **smtp_keywords}
        with_auth = self._keywords.keys() & {"authenticator", "auth_callback"}
        self._recorder = FaultyRecorder()
        self._handler = Faulty(self._recorder, self._recorder, auth=bool(with_auth))
        self._controller: Controller | None = None

    def __repr__(self) -> str:
        count = len(self.envelopes)
        return f"<SMTPServer {self.host}:{self.port} tls={self.tls!r}: {count} messages>"

    # Life.

    def start(self) -> None:
        """Start the server, and return when it listens.

        Raises:
            OSError: The address is not to be had.
            RuntimeError: It runs already.
            TypeError: A keyword is unknown.
        """
        if self._controller is not None:
            raise RuntimeError("the server runs already")
        controller = _Controller(
            self._handler,
            self.host,
            self.port,
            ready_timeout=_READY,
            ssl_context=_server_context if self.tls == "implicit" else None,
            server_hostname="localhost",
            **self._keywords,
        )
        controller.start()
        self._controller = controller
        self.port = controller.port

    def stop(self, grace: float = 0.1) -> None:
        """Stop the server, and cut the connections. Does nothing when it does not run.

        Args:
            grace: Seconds that a client has to say QUIT which has just had the answer to its
                message. Nobody else is waited for.
        """
        if self._controller is not None:
            self._controller.stop(grace)
            self._controller = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await in_thread(self.start)
        except BaseException:
            self.stop()  # it was cancelled when the server had begun
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await in_thread(self.stop)

    # What has come.

    @property
    def messages(self) -> list[EmailMessage]:
        """The messages, parsed, in the order in which they came."""
        return self._recorder.messages

    @property
    def envelopes(self) -> list[Envelope]:
        """Their envelopes: sender and recipients as SMTP had them, and the content in octets."""
        return self._recorder.envelopes

    @property
    def sessions(self) -> list[Session]:
        """For each message the session that it came in: its TLS, its AUTH, its peer."""
        return self._recorder.sessions

    def wait_for(self, count: int, *, timeout: float = 10.0) -> list[EmailMessage]:
        """Wait until there are ``count`` messages; see `Recorder.wait_for`."""
        return self._recorder.wait_for(count, timeout=timeout)

    async def wait_for_async(
        self,
        count: int,
        *,
        timeout: float = 10.0,  # noqa: ASYNC109 as the recorder's
    ) -> list[EmailMessage]:
        """Wait as `wait_for` does, without blocking the event loop."""
        return await self._recorder.wait_for_async(count, timeout=timeout)

    def clear(self) -> None:
        """Forget all messages, and all failures and delays that are still to come."""
        self._recorder.clear()
        self._recorder.failures.clear()
        self._recorder.delays.clear()

    # What is to go wrong.

    def fail_next(
        self,
        step: Step,
        reply: str | int | Reply,
        *,
        times: int = 1,
        skip: int = 0,
        recipient: str | None = None,
    ) -> None:
        """Have a step refused.

        Failures of the same step queue up: the next call is about the time after this one's.

        Args:
            step: Which step. DATA is the answer to the whole message, which is then not kept, and
                DATA_COMMAND the one to the command before it.
            reply: The answer, such as ``"450 4.2.0 try later"``, or its code alone. A 421 also
                ends the session.
            times: How often.
            skip: How often the step is to go well before.
            recipient: With RCPT, the only one that is meant; its times are counted apart. In any
                case of letters.

        Raises:
            ValueError: There is no such step, or this is no negative reply.
        """
        if isinstance(reply, int):
            reply = Reply(reply, ("Refused by the test",))
        parsed = Reply.parse(reply) if isinstance(reply, str) else reply
        if parsed.positive:
            raise ValueError(f"a failure is a reply of 400 to 599, not {str(reply)!r}")
        self._recorder.failures.add(step, parsed, times=times, skip=skip, recipient=recipient)

    def cut_next(
        self, step: Step, *, times: int = 1, skip: int = 0, recipient: str | None = None
    ) -> None:
        """Have the connection closed at a step, without a reply. Arguments as for `fail_next`."""
        self._recorder.failures.add(step, CUT, times=times, skip=skip, recipient=recipient)

    def delay_next(
        self,
        step: Step,
        seconds: float,
        *,
        times: int = 1,
        skip: int = 0,
        recipient: str | None = None,
    ) -> None:
        """Have a step answered late; it may fail as well. Other arguments as for `fail_next`."""
        if seconds < 0:
            raise ValueError(f"a delay is a number of seconds from 0, not {seconds}")
        self._recorder.delays.add(step, seconds, times=times, skip=skip, recipient=recipient)

    # What a client needs for TLS.

    @property
    def ca_file(self) -> str:
        """The path of the certificate, in PEM, for clients that are to trust it."""
        return str(_CERTIFICATE)

    @cached_property
    def client_context(self) -> ssl.SSLContext:
        """A context for a client, which trusts this server and no other."""
        return ssl.create_default_context(cafile=_CERTIFICATE)


def _meaning(tls: TLSMode | None, auth: Mapping[str, str] | Iterable[str] | None) -> SharedKeywords:
    """What the two say in the keywords of the server."""
    keywords: SharedKeywords = {}
    if tls == "starttls":
        keywords.update({"tls_context": _server_context, "require_starttls": True})
    if auth is not None:
        keywords.update(
            {
                "authenticator": Accounts(_passwords(auth)),
                "auth_required": True,
                "auth_require_tls": tls is not None,
                "auth_failure_delay": 0.0,
            }
        )
    return keywords


def _passwords(auth: Mapping[str, str] | Iterable[str]) -> Mapping[str, str]:
    if isinstance(auth, str):
        raise TypeError('auth is a list of "user:password", or a mapping, and no single text')
    if isinstance(auth, Mapping):
        return auth
    passwords = {}
    for number, account in enumerate(auth):
        user, colon, password = str(account).partition(":")
        if not colon:  # the text may be a password, and is not told
            raise ValueError(f'auth[{number}] is not "user:password": it has no colon')
        passwords[user] = password
    return passwords


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_CERTIFICATE, _KEY)
    return context
