"""Mailbox: keeps each message in a Maildir, and answers 250 only when it is on the disk."""

import asyncio
import errno
import logging
import os
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from smtp_handlers.maildir import Delivery, clear, folder_name, make, remove_abandoned
from smtp_handlers.trace import delivered_to, new_identifier, received, return_path
from smtp_protocol import Answer, Envelope, Handler, Reply, Server, Session, replies

__all__ = ["Mailbox"]

_log = logging.getLogger("smtp_handlers")

_FULL = Reply.parse("452 4.3.1 No room for the message, try again later")
_FAILED = Reply.parse("451 4.3.0 Cannot store the message, try again later")

# Octets that are gathered before a thread is asked to write them. A shorter message needs one.
_AT_ONCE = 512 * 1024


class Mailbox(Handler):
    """Files each message in a Maildir, which mail programs and `mailbox.Maildir` read.

    A message is written to ``tmp/``, flushed to the disk, linked into ``new/``, and the folder
    flushed; only then the client gets its 250. It gets ``452 4.3.1`` when the disk is full and
    ``451 4.3.0`` after any other error of the disk, and then nothing is in ``new/``. Memory does
    not grow with the message, and no session waits for another one's disk.

    The octets are kept as they came, CR LF included. In front of them stand ``Return-Path``, one
    ``Delivered-To`` for each recipient, and ``Received`` (RFC 5321 §4.4).

    Args:
        mail_dir: The Maildir; it is made if it is not there.
        per_recipient: Whether each recipient has a Maildir of its own, a folder of ``mail_dir``
            that is made with its first message. ``Delivered-To`` then names that recipient
            alone. Put something in front that accepts only recipients you know.

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

    @classmethod
    def from_cli(cls, parser: ArgumentParser, *args: str) -> Self:
        """Make one for the command line: the folder, and ``per-recipient`` if that is wanted."""
        match args:
            case (mail_dir,):
                return cls(mail_dir)
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
    ) -> Answer:
        """Store the message."""
        delivery = Delivery(self._targets(server, session, envelope))
        try:
            await self._store(delivery, chunks)
        except OSError as error:
            _log.error("[%s] Cannot store a message: %s", session.id, error)
            return _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _FAILED
        return replies.OK

    def _folders(self) -> list[Path]:
        if not self.per_recipient:
            return [self.mail_dir]
        return [path for path in self.mail_dir.iterdir() if (path / "tmp").is_dir()]

    def _targets(
        self, server: Server, session: Session, envelope: Envelope
    ) -> list[tuple[Path, bytes]]:
        path = return_path(envelope)
        trace = received(server, session, envelope, new_identifier(session))
        if not self.per_recipient:
            return [(self.mail_dir, path + delivered_to(envelope.rcpt_tos) + trace)]
        by_folder = {
            self.mail_dir / folder_name(address): path + delivered_to([address]) + trace
            for address in envelope.rcpt_tos
        }
        return list(by_folder.items())

    async def _store(self, delivery: Delivery, chunks: AsyncIterator[bytes]) -> None:
        gathered: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                gathered.append(chunk)
                size += len(chunk)
                if size >= _AT_ONCE:
                    await asyncio.to_thread(delivery.write, gathered)
                    gathered = []
                    size = 0
            await asyncio.to_thread(delivery.commit, gathered)
        except BaseException:
            # A thread may still be writing when this task is cancelled; `discard` waits for it.
            await asyncio.to_thread(delivery.discard)
            raise
