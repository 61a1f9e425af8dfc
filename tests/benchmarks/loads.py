"""Loads: whoever sends the messages does so in a process that is not measured."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from smtp_server import testing

__all__ = [
    "CERTIFICATE",
    "KEY",
    "Load",
    "LoadFailed",
    "Missing",
    "pipelining",
    "program",
    "smtp_source",
    "starttls",
]

CERTIFICATE = Path(testing.__file__).with_name("localhost.pem")
KEY = Path(testing.__file__).with_name("localhost-key.pem")

#: Sends so many messages to a port of this machine, and tells how many seconds that took.
Load = Callable[[int, int], float]

_CLIENTS = Path(__file__).with_name("clients.py")
_SECONDS = 120.0


class Missing(Exception):
    """Something is not installed, or cannot be run."""


class LoadFailed(Exception):
    """The messages were not all taken."""


def program(name: str) -> str:
    """Where a program is: smtp-source and its like are often where only root looks.

    Raises:
        Missing: It is not here.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=_SECONDS
        ).stdout
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or [f"status {error.returncode}"]
        raise LoadFailed(f"{Path(words[0]).name}: {reason[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{Path(words[0]).name}: not done in {_SECONDS:.0f} s") from error


def smtp_source(*options: str) -> Load:
    """A load from Postfix's smtp-source."""

    def load(port: int, count: int) -> float:
        start = time.perf_counter()
        _run(program("smtp-source"), *options, "-m", count, f"inet:127.0.0.1:{port}")
        return time.perf_counter() - start

    return load


def _client(dialogue: str, *arguments: object) -> Load:
    def load(port: int, count: int) -> float:
        return float(_run(sys.executable, _CLIENTS, dialogue, port, count, *arguments))

    return load


pipelining = _client("pipelining")
starttls = _client("starttls", CERTIFICATE)
