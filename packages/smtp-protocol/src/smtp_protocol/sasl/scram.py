"""SCRAM: both sides know the password, neither sends it, and the server need not store it.

RFC 5802, with SHA-256 as of RFC 7677.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from smtp_protocol import replies
from smtp_protocol.auth import Ask, AuthResult, Challenge, Finished, Mechanism, Step
from smtp_protocol.encodings import decode_base64
from smtp_protocol.replies import ProtocolError
from smtp_protocol.sasl.names import decode_saslname
from smtp_protocol.sasl.saslprep import saslprep

__all__: list[str] = []

Hash = Literal["sha1", "sha256"]

# RFC 7677 §4 asks for at least 4,096.
_ITERATIONS = 4096

# What the salts of decoys are made with, where nobody gives a secret of their own.
_SECRET = secrets.token_bytes(32)

# RFC 5802 §7: client-first-message = gs2-header client-first-message-bare
_CLIENT_FIRST = re.compile(
    rb"(?P<header>[ny],(?:a=(?P<authzid>[^,]+))?,)"
    rb"(?P<bare>n=(?P<login>[^,]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,]*)*)"
)
# RFC 5802 §7: client-final-message = client-final-message-without-proof "," proof
#   client-final-message-without-proof = channel-binding "," nonce ["," extensions]
_CLIENT_FINAL = re.compile(
    rb"c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+),(?:[A-Za-oq-z]=[^,]*,)*"
    rb"p=(?P<proof>[A-Za-z0-9+/=]+)"
)


@dataclass(frozen=True, slots=True)
class ScramLogin:
    """What SCRAM hands to an authenticator, whose result has `ScramKeys` as its ``auth_data``.

    Args:
        login: Whose keys are wanted.
        authzid: Who the client wants to be, ``b""`` for the same.
        hash_name: The hash that the keys are for.
    """

    login: bytes
    authzid: bytes
    hash_name: Hash


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server stores of a password (RFC 5802 §2.2). The password cannot be had from it.

    Args:
        salt: The salt, at least one octet.
        iterations: The iteration count.
        stored_key: H(ClientKey).
        server_key: ServerKey.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def from_password(
        cls,
        password: str,
        *,
        hash_name: Hash = "sha256",
        salt: bytes | None = None,
        iterations: int = _ITERATIONS,
    ) -> Self:
        """Make the keys of a password.

        Args:
            password: The password.
            hash_name: The hash of the mechanism that the keys are for.
            salt: A salt; 16 random octets by default.
            iterations: The iteration count, at least 4,096 in earnest.

        Raises:
            ValueError: The password is none that RFC 4013 allows.
        """
        salt = secrets.token_bytes(16) if salt is None else salt
        prepared = saslprep(password, stored=True).encode()
        return cls(salt, iterations, *_keys(prepared, hash_name, salt, iterations))

    def verify(self, password: bytes, *, hash_name: Hash = "sha256") -> bool:
        """Whether ``password``, which a client has shown by PLAIN or LOGIN, is the one of the keys.

        Args:
            password: The password as it came, whatever octets it has.
            hash_name: The hash of the mechanism that the keys are for.
        """
        try:
            prepared = saslprep(password.decode()).encode()
        except ValueError:
            return False
        stored_key, _ = _keys(prepared, hash_name, self.salt, self.iterations)
        return hmac.compare_digest(stored_key, self.stored_key)

    @classmethod
    def decoy(
        cls,
        login: ScramLogin,
        *,
        iterations: int = _ITERATIONS,
        salt_length: int = 16,
        secret: bytes | None = None,
    ) -> Self:
        """Make keys for a name that nobody has, which no password fits.

        Return them as the ``auth_data`` of an `AuthResult` with ``success=False``. The client then
        sees a salt and an iteration count, always the same ones for a name. If they look like those
        of the stored keys, it cannot find out which names exist.

        Args:
            login: What the mechanism asked with.
            iterations: The iteration count of the stored keys.
            salt_length: How many octets their salts have, at most 64.
            secret: Octets that nobody else knows. With one that is kept, a name has the same salt
                after a restart, too; the default lasts as long as the process.

        Raises:
            ValueError: There is no such salt.
        """
        if not 1 <= salt_length <= 64:
            raise ValueError(f"a decoy's salt has 1 to 64 octets, not {salt_length}")
        name = login.hash_name.encode() + b"\0" + login.login
        salt = hmac.digest(secret or _SECRET, name, "sha512")[:salt_length]
        return cls(salt, iterations, b"", b"")


class _Scram(Mechanism):
    """One exchange: two messages of each side, and an empty response at the end."""

    hash_name: ClassVar[Hash]

    def __init__(self) -> None:
        self._header = b""
        self._bare = b""
        self._nonce = b""
        self._server_first = b""
        self._login = ScramLogin(b"", b"", self.hash_name)
        self._keys: ScramKeys | None = None
        self._known = False
        self._verified = False

    def respond(self, response: bytes) -> Step:
        """Take the next message of the client."""
        if self._verified:
            return Finished(AuthResult(success=True, auth_data=self._login))
        if self._keys is None:
            return self._client_first(response)
        return self._client_final(response, self._keys)

    def resolve(self, result: AuthResult) -> Step:
        """Take the keys, if there are any, and challenge."""
        keys = result.auth_data
        self._known = result.success and isinstance(keys, ScramKeys)
        self._keys = keys if isinstance(keys, ScramKeys) else ScramKeys.decoy(self._login)
        self._server_first = b"r=%s,s=%s,i=%d" % (
            self._nonce,
            base64.b64encode(self._keys.salt),
            self._keys.iterations,
        )
        return Challenge(self._server_first)

    def _client_first(self, response: bytes) -> Step:
        match = _CLIENT_FIRST.fullmatch(response)
        if match is None:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        self._header, self._bare = match["header"], match["bare"]
        self._nonce = match["nonce"] + secrets.token_urlsafe(18).encode()
        self._login = ScramLogin(
            _prepared(match["login"]), decode_saslname(match["authzid"] or b""), self.hash_name
        )
        return Ask(self._login)

    def _client_final(self, response: bytes, keys: ScramKeys) -> Step:
        match = _CLIENT_FINAL.fullmatch(response)
        if match is None:
            raise ProtocolError(replies.BAD_AUTH_RESPONSE)
        binding, proof = decode_base64(match["binding"]), decode_base64(match["proof"])
        without_proof = response[: match.start("proof") - len(b",p=")]
        message = b",".join((self._bare, self._server_first, without_proof))
        signature = hmac.digest(keys.stored_key, message, self.hash_name)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        proven = hmac.compare_digest(
            hashlib.new(self.hash_name, client_key).digest(), keys.stored_key
        )
        same = binding == self._header and match["nonce"] == self._nonce
        if not (proven and same and self._known and len(proof) == len(signature)):
            return Finished(AuthResult(success=False))
        self._verified = True
        verifier = hmac.digest(keys.server_key, message, self.hash_name)
        return Challenge(b"v=" + base64.b64encode(verifier))


class ScramSHA256(_Scram):
    """SCRAM-SHA-256 (RFC 7677)."""

    hash_name: ClassVar[Hash] = "sha256"


class ScramSHA1(_Scram):
    """SCRAM-SHA-1 (RFC 5802)."""

    hash_name: ClassVar[Hash] = "sha1"


def _keys(password: bytes, hash_name: Hash, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Make StoredKey and ServerKey (RFC 5802 §3)."""
    salted = hashlib.pbkdf2_hmac(hash_name, password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return stored_key, hmac.digest(salted, b"Server Key", hash_name)


def _prepared(name: bytes) -> bytes:
    """Prepare the user's name; RFC 5802 §5.1 makes it the server's duty."""
    try:
        prepared = saslprep(decode_saslname(name).decode()).encode()
    except ValueError:
        raise ProtocolError(replies.BAD_AUTH_RESPONSE) from None
    if not prepared:
        raise ProtocolError(replies.BAD_AUTH_RESPONSE)
    return prepared
