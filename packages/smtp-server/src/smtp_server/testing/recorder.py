"""Recorder: keeps what comes, in memory; a test in whatever thread or loop may look and wait."""

import email
import email.policy
import threading
from concurrent.futures import Future
from email.errors import MessageDefect
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from functools import cached_property

from smtp_protocol import Answer, Envelope, Handler, Server, Session, replies
from smtp_server.testing.waiting import in_event_loop, wait_for_future

__all__ = ["Recorder"]


class _Mail:
    """One message that was taken."""

    def __init__(self, session: Session, envelope: Envelope) -> None:
        self.session = session
        self.envelope = envelope

    @cached_property
    def message(self) -> EmailMessage:
        """Parsed when it is first asked for, and so not in the server's event loop."""
        content = self.envelope.content
        if self.envelope.mail_options.body != "BINARYMIME":
            content = content.replace(b"\r\n", b"\n")  # as in a message that Python made
        return _parse(content)


class Recorder(Handler):
    """A handler that keeps every message in memory.

    A message is there before its sender gets the 250. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mail: list[_Mail] = []
        self._waiting: list[tuple[int, Future[None]]] = []

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> Answer:
        """Keep the message."""
        with self._lock:
            self._mail.append(_Mail(session, envelope))
            count = len(self._mail)
            enough = [future for wanted, future in self._waiting if wanted <= count]
            self._waiting = [waiter for waiter in self._waiting if waiter[0] > count]
        for future in enough:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        return replies.OK

    @property
    def messages(self) -> list[EmailMessage]:
        """The messages, parsed, in the order in which they came. Their lines end with LF.

        One that the email package cannot parse has its header and, as text, all the rest; its
        ``defects`` tell why.
        """
        return [mail.message for mail in self._kept()]

    @property
    def envelopes(self) -> list[Envelope]:
        """Their envelopes: sender and recipients as SMTP had them, and the content in octets."""
        return [mail.envelope for mail in self._kept()]

    @property
    def sessions(self) -> list[Session]:
        """For each message the session that it came in: its TLS, its AUTH, its peer."""
        return [mail.session for mail in self._kept()]

    def wait_for(self, count: int, *, timeout: float = 10.0) -> list[EmailMessage]:
        """Wait until there are ``count`` messages.

        Args:
            count: How many, those that came before included.
            timeout: Seconds.

        Returns:
            All messages, which may be more than ``count``.

        Raises:
            TimeoutError: There are fewer; the text says how many.
            RuntimeError: An event loop runs in this thread, and the wait would stop it; use
                `wait_for_async`.
        """
        future = self._arrival(count)
        if not future.done() and in_event_loop():
            future.cancel()
            raise RuntimeError("wait_for would block the event loop: await wait_for_async")
        try:
            future.result(timeout)
        except TimeoutError:
            raise self._too_few(count, timeout) from None
        finally:
            future.cancel()
        return self.messages

    async def wait_for_async(
        self,
        count: int,
        *,
        timeout: float = 10.0,  # noqa: ASYNC109 the error tells it
    ) -> list[EmailMessage]:
        """Wait as `wait_for` does, without blocking the event loop, asyncio's or trio's."""
        future = self._arrival(count)
        try:
            await wait_for_future(future, timeout)
        except TimeoutError:
            raise self._too_few(count, timeout) from None
        finally:
            future.cancel()
        return self.messages

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            self._mail.clear()

    def _kept(self) -> list[_Mail]:
        with self._lock:
            return list(self._mail)

    def _arrival(self, count: int) -> Future[None]:
        """A future that is done when there are ``count`` messages."""
        future: Future[None] = Future()
        with self._lock:
            if len(self._mail) >= count:
                future.set_result(None)
            else:
                self._waiting.append((count, future))
        return future

    def _too_few(self, count: int, timeout: float) -> TimeoutError:
        subjects = [_subject(message) for message in self.messages]
        return TimeoutError(
            f"{len(subjects)} of {count} messages within {timeout:g} seconds; subjects: {subjects}"
        )


def _parse(content: bytes) -> EmailMessage:
    """Parse a message, or as much of it as can be parsed: one must not hide the others."""
    try:
        return email.message_from_bytes(content, policy=email.policy.default)
    except Exception as error:
        message = _header_alone(content)
        message.defects.append(MessageDefect(f"the message cannot be parsed: {error!r}"))
        return message


def _header_alone(content: bytes) -> EmailMessage:
    try:
        return BytesHeaderParser(policy=email.policy.default).parsebytes(content)
    except Exception:
        message = EmailMessage()
        message.set_payload(content.decode("ascii", "surrogateescape"))
        return message


def _subject(message: EmailMessage) -> str:
    try:
        return str(message["Subject"])
    except Exception:
        return "(not to be read)"
