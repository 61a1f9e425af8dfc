"""Corpus: what the clients of all transcripts say, as inputs for the fuzz target.

python -m tests.fuzz.corpus DIRECTORY
"""

import hashlib
import sys
from pathlib import Path

from tests.conformance.transcript import Say, read

__all__ = ["PREFIX", "seeds", "write"]

TRANSCRIPTS = Path(__file__).parents[1] / "conformance" / "transcripts"

#: How many octets of an input are not text: kind, settings, seed, flags.
PREFIX = 6
_LONGEST = 6000  # longer than a command line may be

# Inputs of the other kinds.
_HEADERS = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\nEHLO c\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN a b\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14" + bytes(12) + b"\x02\0\x05hello",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(36),
    b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + bytes(216),
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0NOOP\r\n",
]
_REPLIES = [b"250-mx.example\r\n250-SIZE 1\r\n250 HELP\r\n", b"550 5.7.1 no\n", b"354\r\n"]
_RESPONSES = [
    b"\n\0tim\0tanstaaf",
    b"\nn,,n=user,r=fyko+d2lbbFgONRv9qkxdawL\nc=biws,r=x,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=\n",
    b"\nuser=tim\x01auth=Bearer abc\x01\x01\n",
    b"\nn,a=tim,\x01auth=Bearer abc\x01\x01\n\x01",
    b"\ntim b913a602c7eda7a495b4e6e7334d3890",
]
_LINES = [
    b'MAIL FROM:<@a,@b:"q s"@[IPv6:::1]> SIZE=1 BODY=8BITMIME AUTH=e+3Dmc2@d RET=FULL ENVID=a+20b',
    b"MAIL FROM:<a@b> BY=120;RT MT-PRIORITY=-9 HOLDUNTIL=2014-04-03T23:01:00Z REQUIRETLS SMTPUTF8",
    b"RCPT TO:<d@e> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{FC}@b RRVS=2014-04-03T23:01:00.5+01:00;C",
    b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:::1 PORT=25 PROTO=ESMTP HELO=c+20d LOGIN=tim",
]
_PATHS = [
    b'<@a.b,@c:much."more\\ unusual"@d-e.example> SIZE=1',
    b"< anne..arthur@[IPv6:::1] >",
    b"<a@b.c-> ",
    b"<root>",
    b"postmaster X",
    b"a@b <c",
    "<孫子@áéíóú.org>".encode(),
    b"<a@" + b"x" * 63 + b"." + b"y" * 64 + b">",
]


def seeds() -> list[bytes]:
    """One input for each transcript and setting, and some of the other kinds."""
    found = []
    for number, path in enumerate(sorted(TRANSCRIPTS.glob("*.txt"))):
        steps = read(path).steps
        text = b"".join(step.octets for step in steps if isinstance(step, Say))
        for variant in range(3):
            start = bytes([0, number % 256, variant, number % 7, 0, 0])
            found.append(start + text[:_LONGEST])
    for kind, texts in enumerate((_HEADERS, _REPLIES, _RESPONSES, _LINES, _PATHS), 1):
        for text in texts:
            found += [bytes([kind, number, 0, 0, 0, 0]) + text for number in range(10)]
    return found


def write(directory: Path) -> int:
    """Write the inputs into a directory, and tell how many."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        name = hashlib.sha1(seed, usedforsecurity=False).hexdigest()
        (directory / name).write_bytes(seed)
    return len(seeds())


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} inputs in {sys.argv[1]}")
