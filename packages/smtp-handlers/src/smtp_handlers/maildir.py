"""Maildir: a message is in ``new/`` only when it is whole and on the disk.

Everything here blocks, and is called in threads.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

__all__: list[str] = []

# "tmp" comes last: where it is, the others are.
_FOLDERS = ("cur", "new", "tmp")
# What the Maildir convention gives a writer before its file in tmp/ counts as left behind.
_ABANDONED = 36 * 3600
_LONGEST_NAME = 200

_numbers = count(1)


def make(folder: Path) -> None:
    """Make ``folder`` a Maildir, one that is still there after a crash.

    Raises:
        OSError: That cannot be done.
    """
    for name in _FOLDERS:
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_folder(folder)
    with contextlib.suppress(PermissionError):  # it may be one that we must not read
        sync_folder(folder.parent)


def remove_abandoned(folder: Path) -> None:
    """Remove what crashes left behind in ``tmp/`` long ago.

    Raises:
        OSError: The folder cannot be read.
    """
    oldest = time.time() - _ABANDONED
    for path in (folder / "tmp").iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def clear(folder: Path) -> None:
    """Remove every message of a Maildir.

    Raises:
        OSError: That cannot be done.
    """
    for name in _FOLDERS:
        for path in (folder / name).iterdir():
            path.unlink(missing_ok=True)


def folder_name(address: str) -> str:
    """Make the name of a recipient's folder: one path component, whatever the address is.

    Args:
        address: Upper and lower case are not told apart.

    Returns:
        The address with ``%`` forms for what is neither a letter, a digit nor one of ``@+=_-.~``,
        and for a dot in front. A very long one is shortened, with a hash that tells it from others.
    """
    name = quote(address.lower(), safe="@+=")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        name = f"{name[: _LONGEST_NAME - 33]}-{digest}"
    return name


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk.

    Raises:
        OSError: That cannot be done.
    """
    if sys.platform == "win32":
        return  # there, a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique_name() -> str:
    """A file name that no other delivery has, on any machine (the Maildir convention)."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    unique = f"M{microseconds:06}P{os.getpid()}Q{next(_numbers)}R{secrets.token_hex(4)}"
    return f"{seconds}.{unique}.{host}"


class Delivery:
    """One message on its way into one or more Maildirs.

    Its methods may be called from several threads: a `discard` waits for what is going on.

    Args:
        targets: Each Maildir, made if it is not there, with what goes in front of the message.
    """

    def __init__(self, targets: Sequence[tuple[Path, bytes]]) -> None:
        self._targets = targets
        self._name = _unique_name()
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._made: list[Path] = []
        self._ended = False

    def write(self, chunks: Iterable[bytes]) -> None:
        """Write the next part of the message.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            self._write(chunks)

    def commit(self, chunks: Iterable[bytes]) -> None:
        """Write the last part, and return when the message is in every ``new/`` for good.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            first = self._write(chunks)
            _flush(first)
            for number in range(1, len(self._targets)):
                self._copy(first, number)
            first.close()
            for folder, _ in self._targets:
                # Unlike a renaming, a link never takes the place of another file.
                self._made.append(folder / "new" / self._name)
                os.link(folder / "tmp" / self._name, self._made[-1])
            for folder, _ in self._targets:
                sync_folder(folder / "new")
            self._ended = True
            for folder, _ in self._targets:
                with contextlib.suppress(OSError):
                    (folder / "tmp" / self._name).unlink()

    def discard(self) -> None:
        """Remove what was written, unless the message was committed."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._file is not None:
                with contextlib.suppress(OSError):  # a full disk may show only now
                    self._file.close()
            for path in reversed(self._made):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write(self, chunks: Iterable[bytes]) -> BinaryIO:
        if self._file is None:
            self._file = self._create(0)
        self._file.writelines(chunks)
        return self._file

    def _create(self, number: int) -> BinaryIO:
        """Make the file in the ``tmp/`` of one target, with what goes in front."""
        folder, front = self._targets[number]
        path = folder / "tmp" / self._name
        try:
            descriptor = _create_file(path)
        except FileNotFoundError:
            make(folder)
            descriptor = _create_file(path)
        self._made.append(path)
        file = os.fdopen(descriptor, "w+b")
        file.write(front)
        return file

    def _copy(self, first: BinaryIO, number: int) -> None:
        with self._create(number) as file:
            first.seek(len(self._targets[0][1]))
            shutil.copyfileobj(first, file, 1024 * 1024)
            _flush(file)


def _create_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
