"""Maildir: a message is in ``new/`` only when it is whole and on the disk.

Everything here blocks, and is called in threads.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, BinaryIO
from unicodedata import normalize
from urllib.parse import quote

from smtp_protocol import canonical_mailbox

__all__: list[str] = []

# "tmp" comes last: where it is, the others are.
_FOLDERS = ("cur", "new", "tmp")
# What the Maildir convention gives a writer before its file in tmp/ counts as left behind.
_ABANDONED = 36 * 3600
_LONGEST_NAME = 200
_NOT_IN_A_HOST_NAME = re.compile(rb"[^A-Za-z0-9.-]")
# Octets that are copied at once.
_PIECE = 1024 * 1024

# What a system says that does not make a second name for a file: FAT, and many file systems of
# networks and of users' own.
_NO_LINKS = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.EINVAL,
        errno.EMLINK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
    }
)
# What one says that does not flush folders, and whose folders need it therefore not.
_NO_SYNC_OF_FOLDERS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)

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
        address: All spellings of a mailbox have the same folder. Upper and lower case are not told
            apart.

    Returns:
        The canonical form of the mailbox with ``%`` forms for what is neither a letter of ASCII, a
        digit nor one of ``@+=_-.~``, and for a dot in front. A very long one is shortened, with a
        hash that tells it from others.
    """
    name = quote(normalize("NFC", canonical_mailbox(address).lower()), safe="@+=")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        name = f"{name[: _LONGEST_NAME - 33]}-{digest}"
    return name


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can do that.

    Raises:
        OSError: That cannot be done.
    """
    if sys.platform == "win32":
        return  # there, a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def _unique_name() -> str:
    """A file name that no other delivery has, on any machine (the Maildir convention)."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    octets = os.fsencode(socket.gethostname())[:64]
    host = _NOT_IN_A_HOST_NAME.sub(lambda match: b"\\%03o" % match[0][0], octets).decode()
    unique = f"M{microseconds:06}P{os.getpid()}Q{next(_numbers)}R{secrets.token_hex(4)}"
    return f"{seconds}.{unique}.{host}"


class Delivery:
    """One message on its way into one Maildir.

    Its methods may be called from several threads: a `discard` waits for what is going on.

    Args:
        folder: The Maildir, which is made if it is not there.
        front: What goes in front of the message.
    """

    def __init__(self, folder: Path, front: bytes) -> None:
        self.folder = folder
        self._front = front
        name = _unique_name()
        self._temporary = folder / "tmp" / name
        self._final = folder / "new" / name
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._published = False
        self._ended = False

    def write(self, chunks: Iterable[bytes]) -> None:
        """Write the next part of the message.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            self._open().writelines(chunks)

    def commit(self, chunks: Iterable[bytes]) -> None:
        """Write the last part, and return when the message is in ``new/`` for good.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            self._prepare(chunks)
            self._publish()
            self._ended = True

    def prepare(self, chunks: Iterable[bytes]) -> None:
        """Write the last part, and return when all of the message is in ``tmp/``, on the disk.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            self._prepare(chunks)

    def publish(self) -> None:
        """Bring what was prepared into ``new/``; it can still be discarded.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            self._publish()

    def discard(self) -> None:
        """Remove what was written, unless the message was committed."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._file is None:
                return
            with contextlib.suppress(OSError):  # a full disk may show only now
                self._file.close()
            for path in (self._final, self._temporary) if self._published else (self._temporary,):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _open(self) -> BinaryIO:
        if self._file is None:
            try:
                descriptor = _create_file(self._temporary)
            except FileNotFoundError:
                make(self.folder)
                descriptor = _create_file(self._temporary)
            self._file = os.fdopen(descriptor, "wb")
            self._file.write(self._front)
        return self._file

    def _prepare(self, chunks: Iterable[bytes]) -> None:
        with self._open() as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())

    def _publish(self) -> None:
        _place(self._temporary, self._final)
        self._published = True
        sync_folder(self._final.parent)
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class Spool:
    """A message that several Maildirs get: what came so far, in a file without a name.

    It can be read by several threads at once.

    Args:
        folder: Where there is room for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._last: Iterable[bytes] = ()

    def write(self, chunks: Iterable[bytes]) -> None:
        """Write the next part of the message.

        Raises:
            OSError: That cannot be done.
        """
        with self._lock:
            if self._file is None:
                self._file = TemporaryFile(dir=self.folder)  # noqa: SIM115 closed by `close`
            self._file.writelines(chunks)

    def end(self, chunks: list[bytes]) -> None:
        """Take the last part, which stays in memory."""
        self._last = chunks

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        while piece := self._read(position):
            yield piece
            position += len(piece)
        yield from self._last

    def close(self) -> None:
        """Remove the file."""
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _read(self, position: int) -> bytes:
        with self._lock:
            if self._file is None:
                return b""
            self._file.seek(position)
            return self._file.read(_PIECE)


def _create_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def _place(source: Path, target: Path) -> None:
    """Give a file another name, and never take the place of another file."""
    try:
        os.link(source, target)
    except FileExistsError:
        # Over a network, what was done may be reported as not done, and tried again.
        if not source.samefile(target):
            raise
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)
