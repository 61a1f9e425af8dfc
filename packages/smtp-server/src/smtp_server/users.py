"""Users: a file of names with hashes or keys decides on AUTH, and can be read anew.

A line is ``name:hash``, where the hash is one of two: ``$scrypt$ln=14,r=8,p=5$salt$key`` (the PHC
string format, of `hashlib.scrypt`), or ``SCRAM-SHA-256$iterations:salt$stored:server`` (RFC 5803).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from smtp_protocol import (
    AuthResult,
    Envelope,
    LoginPassword,
    ScramKeys,
    ScramLogin,
    Server,
    Session,
)

__all__: list[str] = []

_SCRYPT = re.compile(
    r"\$scrypt\$ln=(?P<ln>\d{1,2}),r=(?P<r>\d{1,2}),p=(?P<p>\d{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]{8,128})\$(?P<key>[A-Za-z0-9+/]{20,128})"
)
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>\d{1,7}):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$(?P<stored>[A-Za-z0-9+/=]+):(?P<server>[A-Za-z0-9+/=]+)"
)

# As OWASP advises: 16 MiB, and some tenths of a second. More than 128 MiB is not computed.
_LN, _R, _P = 14, 8, 5
_MOST_OCTETS = 128 << 20

_ITERATIONS = 10_000

_REFUSED = AuthResult(success=False)


@dataclass(frozen=True, slots=True)
class ScryptHash:
    """A password as `hashlib.scrypt` keeps it; its ``repr`` hides it."""

    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    def verify(self, password: bytes) -> bool:
        """Whether it is this password; each answer takes the same time."""
        return hmac.compare_digest(self._derive(password), self.key)

    def _derive(self, password: bytes) -> bytes:
        n = 1 << self.ln
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=n,
            r=self.r,
            p=self.p,
            maxmem=2 * _MOST_OCTETS,
            dklen=len(self.key),
        )

    @classmethod
    def of(cls, password: bytes) -> ScryptHash:
        """Hash a password with a fresh salt."""
        empty = cls(_LN, _R, _P, secrets.token_bytes(16), bytes(32))
        return cls(_LN, _R, _P, empty.salt, empty._derive(password))

    def __str__(self) -> str:
        """The form in the file."""
        salt, key = (base64.b64encode(each).decode().rstrip("=") for each in (self.salt, self.key))
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${salt}${key}"


#: What a file has for one user.
Secret = ScryptHash | ScramKeys


def make_entry(name: str, password: str, *, scram: bool = False) -> str:
    """Make the line of a user.

    Raises:
        ValueError: No line can have that name, or the password is empty.
    """
    if not name or ":" in name or name.startswith("#") or not name.isprintable():
        raise ValueError(f"a name is a text without colons, not {name!r}")
    if not password:
        raise ValueError("the password is empty")
    if not scram:
        return f"{name}:{ScryptHash.of(password.encode())}"
    keys = ScramKeys.from_password(password, iterations=_ITERATIONS)
    salt, stored, server = (
        base64.b64encode(each).decode() for each in (keys.salt, keys.stored_key, keys.server_key)
    )
    return f"{name}:SCRAM-SHA-256${keys.iterations}:{salt}${stored}:{server}"


def read_entries(text: str) -> Mapping[bytes, Secret]:
    """Read the lines of a file; empty ones, and those with ``#`` in front, say nothing.

    Raises:
        ValueError: A line is no entry, or a name is there twice. The text has the line's number,
            and nothing of a hash.
    """
    secrets_: dict[bytes, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, form = line.strip().partition(":")
        secret = _read_secret(form)
        if not name or secret is None:
            raise ValueError(f"line {number} is not name:hash; smtp-server hash-password makes one")
        if name.encode() in secrets_:
            raise ValueError(f"line {number} has {name!r} once more")
        secrets_[name.encode()] = secret
    return secrets_


def _read_secret(form: str) -> Secret | None:
    try:
        if match := _SCRYPT.fullmatch(form):
            ln, r, p = (int(match[name]) for name in ("ln", "r", "p"))
            if not (1 <= ln <= 20 and r and p and (128 * r << ln) <= _MOST_OCTETS):
                return None
            return ScryptHash(ln, r, p, _decode(match["salt"]), _decode(match["key"]))
        if match := _SCRAM.fullmatch(form):
            return ScramKeys(
                salt=_decode(match["salt"]),
                iterations=int(match["iterations"]),
                stored_key=_decode(match["stored"]),
                server_key=_decode(match["server"]),
            )
    except ValueError:
        pass
    return None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


class Users:
    """An authenticator that knows the users of a file. It blocks: call it in a thread.

    After PLAIN and LOGIN ``session.auth_data`` is the user's name, as text. A password is compared
    in constant time, and that of a stranger takes as long as that of somebody who is in the file.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: A line of it is no entry.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._entries: Mapping[bytes, Secret] = {}
        self._nobody: Secret = ScryptHash.of(secrets.token_bytes(16))
        self.reload()

    def reload(self) -> None:
        """Read the file again. What cannot be read leaves the users as they were.

        Raises:
            OSError: It cannot be read.
            ValueError: A line of it is no entry.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                entries = read_entries(file.read())
        except UnicodeDecodeError:
            raise ValueError(f"{self.path} is not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        self._entries = entries
        # A stranger's password takes as long as that of somebody who is there.
        self._nobody = next(iter(entries.values()), self._nobody)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The mechanisms that the entries are good for."""
        scram = any(isinstance(entry, ScramKeys) for entry in self._entries.values())
        return ("LOGIN", "PLAIN", *(["SCRAM-SHA-256"] if scram else []))

    def __call__(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: object,
    ) -> AuthResult:
        """Decide on PLAIN, LOGIN and SCRAM-SHA-256. Nobody may act for somebody else."""
        match auth_data:
            case LoginPassword(login, password, authzid):
                entry = self._entries.get(login)
                right = (entry or self._nobody).verify(password) and entry is not None
                if right and authzid in (b"", login):
                    return AuthResult(success=True, auth_data=login.decode("utf-8", "replace"))
            case ScramLogin(login, authzid, "sha256"):
                keys = self._entries.get(login)
                if isinstance(keys, ScramKeys) and authzid in (b"", login):
                    return AuthResult(success=True, auth_data=keys)
                return AuthResult(success=False, auth_data=self._decoy(auth_data))
        return _REFUSED

    def _decoy(self, login: ScramLogin) -> ScramKeys:
        """Keys that look like those of the file."""
        for entry in self._entries.values():
            if isinstance(entry, ScramKeys):
                salt = min(len(entry.salt), 64)
                return ScramKeys.decoy(login, iterations=entry.iterations, salt_length=salt)
        return ScramKeys.decoy(login)
