"""Save the attachments of each mail as files in a folder.

Run it as ``python attachment_saver.py FOLDER``. The sender chose the names of the files, so only
the last part and the harmless characters of a name are used, and no file is ever overwritten. A
thread writes the files, because a disk may be slow, and the client gets 250 when they are there.
Ctrl-C stops it.
"""

import asyncio
import contextlib
import itertools
import os
import re
import sys
from email.message import EmailMessage
from pathlib import Path

from smtp_handlers import AsyncMessage
from smtp_protocol import Answer, Envelope
from smtp_server import serve


def harmless(name: str) -> str:
    """A name for a file, out of one that anybody may have chosen."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.-]+", "_", last).lstrip(".")[-50:] or "attachment"


def save(folder: Path, name: str, content: bytes) -> Path:
    """Write a new file, with a number in its name if it needs one, all of it or nothing."""
    wanted = Path(harmless(name))
    for number in itertools.count():
        path = folder / (f"{wanted.stem}-{number}{wanted.suffix}" if number else wanted.name)
        try:
            file = path.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a 250 is a promise
        except BaseException:
            path.unlink()
            raise
        return path
    raise AssertionError("numbers do not end")


def save_all(folder: Path, message: EmailMessage) -> list[Path]:
    """Write the attachments of a mail; if one cannot be written, none of them stays."""
    paths: list[Path] = []
    try:
        for part in message.iter_attachments():
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):  # and not a mail in the mail
                paths.append(save(folder, part.get_filename() or "", content))
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


class Saver(AsyncMessage):
    """Saves the attachments of each mail.

    Args:
        folder: Where to; it must be there.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    async def handle_message(self, message: EmailMessage, envelope: Envelope) -> Answer:
        """Save those of one mail."""
        try:
            paths = await asyncio.to_thread(save_all, self.folder, message)
        except OSError as error:
            print(f"failed: {error}", file=sys.stderr)
            return "452 4.3.1 No room for it, try again later"
        for path in paths:
            print(f"{envelope.mail_from} sends {path.name}", flush=True)
        return f"250 2.0.0 {len(paths)} attachments"


async def main(folder: Path, port: int = 0) -> None:
    """Take mail until somebody presses Ctrl-C."""
    async with serve(Saver(folder), "localhost", port) as service:
        print(f"Listening on port {service.port}", flush=True)
        await service.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1])))
