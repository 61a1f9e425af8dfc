"""Mailbox: keeps each message in a Maildir, and answers 250 only when it is on the disk."""

import asyncio
import errno
import logging
import os
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from smtp_handlers.log import log
from smtp_handlers.maildir import Delivery, Spool, clear, folder_name, make, remove_abandoned
from smtp_handlers.return_paths import ReturnPathFilter
from smtp_handlers.trace import (
    delivered_to,
    guard,
    new_identifier,
    received,
    return_path,
    speaks_lmtp,
)
from smtp_handlers.workers import Workers
from smtp_protocol import Answer, Envelope, Handler, Reply, Server, Session, replies

__all__ = ["Mailbox"]

_FULL = Reply.parse("452 4.3.1 No room for the message, try again later")
_FAILED = Reply.parse("451 4.3.0 Cannot store the message, try again later")

# Octets that are gathered before a thread is asked to write them. A shorter message needs one.
_AT_ONCE = 512 * 1024

# Threads of one Mailbox, and how many of them a recipient's folder may have.
_THREADS = 32
_THREADS_OF_A_FOLDER = 8

#: What became of one delivery.
Outcome = OSError | None


class Mailbox(Handler):
    """Files each message in a Maildir, which mail programs and `mailbox.Maildir` read.

    A message is written to ``tmp/``, flushed to the disk, linked into ``new/``, and the folder
    flushed; only then the client gets its 250. It gets ``452 4.3.1`` when the disk is full and
    ``451 4.3.0`` after any other error of the disk, and then nothing is in ``new/``. Memory does
    not grow with the message, and no session waits for another one's disk.

    The octets are kept as they came, CR LF included. In front of them stand ``Return-Path``, one
    ``Delivered-To`` for each recipient, and ``Received``; ``Return-Path`` fields of others are
    taken out (RFC 5321 §4.4).

    Args:
        mail_dir: The Maildir; it is made if it is not there.
        per_recipient: Whether each recipient has a Maildir of its own, a folder of ``mail_dir``
            that is made with its first message. ``Delivered-To`` then names that recipient
            alone. In SMTP a message gets into all of their folders or into none; in LMTP each
            recipient has an answer of its own. Put something in front that accepts only recipients
            you know.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(self, mail_dir: str | os.PathLike[str], *, per_recipient: bool = False) -> None:
        self.mail_dir = Path(mail_dir)
        self.per_recipient = per_recipient
        if per_recipient:
            self.mail_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            make(self.mail_dir)
        for folder in self._folders():
            remove_abandoned(folder)
        each = _THREADS_OF_A_FOLDER if per_recipient else _THREADS
        self._workers = Workers("Mailbox", threads=_THREADS, each=each)

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str, per_recipient: bool = False) -> Self:
        """Make one for the command line: the folder, and ``per-recipient`` if that is wanted."""
        match args:
            case (mail_dir,):
                return cls(mail_dir, per_recipient=per_recipient)
            case (mail_dir, "per-recipient"):
                return cls(mail_dir, per_recipient=True)
            case _:
                parser.error("the handler mailbox takes a folder, and maybe: per-recipient")

    def reset(self) -> None:
        """Remove every message. It blocks, and is meant for tests.

        Raises:
            OSError: That cannot be done.
        """
        for folder in self._folders():
            clear(folder)

    async def handle_STREAM(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        chunks: AsyncIterator[bytes],
    ) -> Answer | Sequence[Answer]:
        """Store the message."""
        fronts = self._fronts(server, session, envelope)
        if not fronts:
            log(logging.ERROR, session, "No recipient was written down")
            return _FAILED
        lmtp = speaks_lmtp(server)
        deliveries = [Delivery(folder, front) for folder, front in fronts.items()]
        outcomes = await self._store(deliveries, _Content(chunks), together=not lmtp)
        errors = dict(zip(fronts, outcomes, strict=True))
        for folder, error in errors.items():
            if error is not None:
                log(logging.ERROR, session, "Cannot store a message in %r: %s", folder.name, error)
        if lmtp and self.per_recipient:
            return [_answer(errors[self._folder(address)]) for address in envelope.rcpt_tos]
        return _answer(outcomes[0])

    def _folders(self) -> list[Path]:
        if not self.per_recipient:
            return [self.mail_dir]
        return [path for path in self.mail_dir.iterdir() if (path / "tmp").is_dir()]

    def _folder(self, address: str) -> Path:
        return self.mail_dir / folder_name(address) if self.per_recipient else self.mail_dir

    def _fronts(self, server: Server, session: Session, envelope: Envelope) -> dict[Path, bytes]:
        """What goes in front of the message in each folder that gets it."""
        path = return_path(envelope)
        trace = received(server, session, envelope, new_identifier(session))
        recipients = envelope.rcpt_tos
        if not self.per_recipient:
            return {self.mail_dir: path + delivered_to(recipients) + trace}
        return {
            self._folder(address): path + delivered_to([address]) + trace for address in recipients
        }

    async def _store(
        self, deliveries: Sequence[Delivery], content: "_Content", *, together: bool
    ) -> list[Outcome]:
        """Get the message into all folders: into all or none of them, if that is wanted."""
        outcomes: list[Outcome] = [OSError(errno.ECANCELED, "not complete")] * len(deliveries)
        spool = Spool(self.mail_dir)
        try:
            if len(deliveries) == 1:
                last = await self._receive(content, deliveries[0])
                outcomes = await self._each(deliveries, lambda delivery: delivery.commit(last))
            else:
                spool.end(await self._receive(content, spool))
                finish = self._finish_together if together else self._finish_each
                outcomes = await finish(deliveries, spool)
        except OSError as error:
            outcomes = [error] * len(deliveries)
        finally:
            # A thread may still be writing when this task is cancelled; `discard` waits for it.
            failed = [each for each, error in zip(deliveries, outcomes, strict=True) if error]
            await self._each(failed, Delivery.discard)
            if len(deliveries) > 1:
                await self._attempt(spool.folder, spool.close)
        return outcomes

    async def _receive(self, content: "_Content", sink: Delivery | Spool) -> list[bytes]:
        """Write the message as it comes, but for its last part, which may be all of it."""
        part = await content.part()
        while not content.ended:
            await self._workers.run(sink.folder, partial(sink.write, part))
            part = await content.part()
        return part

    async def _finish_each(
        self, deliveries: Sequence[Delivery], content: Iterable[bytes]
    ) -> list[Outcome]:
        return await self._each(deliveries, lambda delivery: delivery.commit(content))

    async def _finish_together(
        self, deliveries: Sequence[Delivery], content: Iterable[bytes]
    ) -> list[Outcome]:
        outcomes = await self._each(deliveries, lambda delivery: delivery.prepare(content))
        if not any(outcomes):
            outcomes = await self._each(deliveries, Delivery.publish)
        first = next(filter(None, outcomes), None)
        return [first] * len(deliveries)

    async def _each(
        self, deliveries: Sequence[Delivery], step: Callable[[Delivery], None]
    ) -> list[Outcome]:
        """Take a step of each delivery, at the same time."""
        attempts = [self._attempt(each.folder, partial(step, each)) for each in deliveries]
        if len(attempts) == 1:
            return [await attempts[0]]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt) for attempt in attempts]
        return [task.result() for task in tasks]

    async def _attempt(self, folder: Path, work: Callable[[], None]) -> Outcome:
        try:
            await self._workers.run(folder, work)
        except OSError as error:
            return error
        return None


class _Content:
    """A message on its way, in parts that are worth a thread's while, as it is to be filed."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._filter = ReturnPathFilter()
        self._begun = False
        #: Whether the last part was given out.
        self.ended = False

    async def part(self) -> list[bytes]:
        """Wait for the next part."""
        gathered: list[bytes] = []
        size = 0
        async for chunk in self._chunks:
            self._gather(self._filter.feed(chunk), gathered)
            size += len(chunk)
            if size >= _AT_ONCE:
                return gathered
        self._gather(self._filter.close(), gathered)
        self.ended = True
        return gathered

    def _gather(self, octets: bytes, gathered: list[bytes]) -> None:
        if octets and not self._begun:
            self._begun = True
            gathered.append(guard(octets))
        gathered.append(octets)


def _answer(outcome: Outcome) -> Reply:
    if outcome is None:
        return replies.OK
    return _FULL if outcome.errno in (errno.ENOSPC, errno.EDQUOT) else _FAILED
