"""SCRAM: the vectors of the RFCs, a client of its own making, and what a liar would send."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import (
    MECHANISMS,
    Ask,
    AuthResult,
    Challenge,
    Finished,
    Mechanism,
    ProtocolError,
    ScramKeys,
    ScramLogin,
    replies,
)
from smtp_protocol.sasl.saslprep import saslprep
from smtp_protocol.sasl.scram import Hash

NAMES: dict[Hash, str] = {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}


@dataclass
class Client:
    """The other side, after RFC 5802 §3, without a line in common with the server's.

    ``first`` and ``final`` say what its messages become on the way, ``proof`` what its proof does.
    """

    login: str
    password: str
    hash_name: Hash = "sha256"
    nonce: str = "fyko+d2lbbFgONRv9qkxdawL"
    gs2: str = "n,,"
    first: Callable[[bytes], bytes] = bytes
    final: Callable[[bytes], bytes] = bytes
    proof: Callable[[bytes], bytes] = bytes

    def begin(self) -> bytes:
        name = self.login.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r={self.nonce}"
        return self.first((self.gs2 + self.bare).encode())

    def prove(self, server_first: bytes) -> bytes:
        fields = dict(field.split("=", 1) for field in server_first.decode().split(","))
        assert fields["r"].startswith(self.nonce)
        assert len(fields["r"]) >= len(self.nonce) + 18
        salted = hashlib.pbkdf2_hmac(
            self.hash_name,
            self.password.encode(),
            base64.b64decode(fields["s"]),
            int(fields["i"]),
        )
        binding = base64.b64encode(self.gs2.encode()).decode()
        without_proof = f"c={binding},r={fields['r']}"
        message = ",".join([self.bare, server_first.decode(), without_proof]).encode()
        client_key = hmac.new(salted, b"Client Key", self.hash_name).digest()
        stored_key = hashlib.new(self.hash_name, client_key).digest()
        signature = hmac.new(stored_key, message, self.hash_name).digest()
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.new(salted, b"Server Key", self.hash_name).digest()
        self.verifier = hmac.new(server_key, message, self.hash_name).digest()
        encoded = base64.b64encode(self.proof(proof))
        return self.final(without_proof.encode() + b",p=" + encoded)


def keys_for(password: str, hash_name: Hash = "sha256") -> AuthResult:
    # Few iterations, for the tests' sake.
    keys = ScramKeys.from_password(password, hash_name=hash_name, iterations=3)
    return AuthResult(success=True, auth_data=keys)


def converse(client: Client, answer: AuthResult) -> tuple[bool, Mechanism]:
    """Play it to the end; the client sees to the server's proof."""
    exchange = MECHANISMS[NAMES[client.hash_name]]()
    assert exchange.start(None) == Challenge(b"")
    step = exchange.respond(client.begin())
    assert isinstance(step, Ask)
    assert isinstance(step.auth_data, ScramLogin)
    assert step.auth_data.hash_name == client.hash_name
    assert step.auth_data.login == client.login.encode()
    step = exchange.resolve(answer)
    assert isinstance(step, Challenge)
    step = exchange.respond(client.prove(step.data))
    if isinstance(step, Challenge):
        assert step.data == b"v=" + base64.b64encode(client.verifier)
        step = exchange.respond(b"")
        assert isinstance(step, Finished)
        assert step.result.success
        assert isinstance(step.result.auth_data, ScramLogin)
        assert step.result.auth_data.login == client.login.encode()
    assert isinstance(step, Finished)
    return step.result.success, exchange


@pytest.mark.parametrize(
    ("name", "nonces", "salt", "proof", "verifier"),
    [
        # RFC 5802 §5.
        (
            "SCRAM-SHA-1",
            ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"),
            "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        # RFC 7677 §3.
        (
            "SCRAM-SHA-256",
            ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ],
)
def test_vectors(
    name: str,
    nonces: tuple[str, str],
    salt: str,
    proof: str,
    verifier: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtp_protocol.sasl.scram.secrets.token_urlsafe", lambda size: nonces[1])
    hash_name: Hash = "sha1" if name == "SCRAM-SHA-1" else "sha256"
    keys = ScramKeys.from_password("pencil", hash_name=hash_name, salt=base64.b64decode(salt))
    exchange = MECHANISMS[name]()
    step = exchange.start(f"n,,n=user,r={nonces[0]}".encode())
    assert step == Ask(ScramLogin(b"user", b"", hash_name))
    step = exchange.resolve(AuthResult(success=True, auth_data=keys))
    both = "".join(nonces)
    assert step == Challenge(f"r={both},s={salt},i=4096".encode())
    step = exchange.respond(f"c=biws,r={both},p={proof}".encode())
    assert step == Challenge(f"v={verifier}".encode())
    assert exchange.respond(b"") == Finished(
        AuthResult(success=True, auth_data=ScramLogin(b"user", b"", hash_name))
    )


@pytest.mark.parametrize("hash_name", list(NAMES))
@pytest.mark.parametrize("login", ["tim", "a,b=c", "孫子", "=2C"])
@pytest.mark.parametrize("gs2", ["n,,", "y,,", "n,a=other,"])
def test_a_client(hash_name: Hash, login: str, gs2: str) -> None:
    client = Client(login, "tanstaaf", hash_name, gs2=gs2)
    assert converse(client, keys_for("tanstaaf", hash_name))[0]
    assert not converse(replace(client, password="wrong"), keys_for("tanstaaf", hash_name))[0]


def test_authzid() -> None:
    exchange = MECHANISMS["SCRAM-SHA-256"]()
    step = exchange.start(b"n,a=a=2Cb,n=tim,r=abc")
    assert step == Ask(ScramLogin(b"tim", b"a,b", "sha256"))


@pytest.mark.parametrize(
    "client",
    [
        Client("tim", "tanstaaf", proof=lambda proof: proof[:-1]),
        Client("tim", "tanstaaf", proof=lambda proof: proof + b"\0"),
        Client("tim", "tanstaaf", proof=lambda proof: bytes(len(proof))),
        Client("tim", "tanstaaf", proof=lambda proof: b"\0"),
        # Another channel binding than was said at first, and a nonce that is not the server's.
        Client("tim", "tanstaaf", final=lambda text: text.replace(b"c=biws", b"c=eSws")),
        Client("tim", "tanstaaf", final=lambda text: text.replace(b"r=f", b"r=g")),
        Client("tim", "tanstaaf", final=lambda text: text.replace(b",p=", b",x=y,p=")),
    ],
)
def test_lies(client: Client) -> None:
    success, exchange = converse(client, keys_for("tanstaaf"))
    assert not success
    assert isinstance(exchange, Mechanism)


@pytest.mark.parametrize(
    "answer",
    [
        AuthResult(success=False),
        AuthResult(success=True),
        AuthResult(success=True, auth_data=b"keys"),
        replace(keys_for("tanstaaf"), success=False),
    ],
)
def test_who_has_no_keys(answer: AuthResult) -> None:
    assert not converse(Client("tim", "tanstaaf"), answer)[0]


def salt_and_number(login: bytes, name: str = "SCRAM-SHA-256", **decoy: Any) -> tuple[bytes, int]:
    """What the server's first message has for somebody whom nobody knows."""
    exchange = MECHANISMS[name]()
    step = exchange.start(b"n,,n=" + login + b",r=abc")
    assert isinstance(step, Ask)
    assert isinstance(step.auth_data, ScramLogin)
    keys = ScramKeys.decoy(step.auth_data, **decoy) if decoy else None
    step = exchange.resolve(AuthResult(success=False, auth_data=keys))
    assert isinstance(step, Challenge)
    _, salt, number = step.data.split(b",")
    return base64.b64decode(salt[2:]), int(number[2:])


@pytest.mark.parametrize("decoy", [{}, {"iterations": 15_000}, {"secret": b"kept"}])
def test_nobody_can_tell_which_names_there_are(decoy: dict[str, Any]) -> None:
    stored = ScramKeys.from_password("x", iterations=decoy.get("iterations", 4096))
    salt, number = salt_and_number(b"nobody", **decoy)
    assert (len(salt), number) == (len(stored.salt), stored.iterations)
    # The same one again and again, as real ones are; and each has one of their own.
    assert salt_and_number(b"nobody", **decoy) == (salt, number)
    others = {
        salt_and_number(b"someone", **decoy)[0],
        salt_and_number(b"nobody", "SCRAM-SHA-1", **decoy)[0],
        salt_and_number(b"nobody", **{**decoy, "secret": b"another"})[0],
    }
    assert len(others - {salt}) == 3


@pytest.mark.parametrize("hash_name", list(NAMES))
def test_keys_can_check_a_password_that_was_shown(hash_name: Hash) -> None:
    keys = ScramKeys.from_password("grüß", hash_name=hash_name, iterations=3)
    assert keys.verify("grüß".encode(), hash_name=hash_name)
    assert keys.verify("gru\u0308ß".encode(), hash_name=hash_name)
    # Whatever a client shows is right or wrong, and never an error.
    for wrong in (b"", b"gr\xfc\xdf", b"gruss", b"\x07", "\U0001f600".encode(), b"\xff" * 9000):
        assert not keys.verify(wrong, hash_name=hash_name)
    assert not keys.verify("grüß".encode(), hash_name="sha1" if hash_name == "sha256" else "sha256")


@pytest.mark.parametrize("length", [1, 12, 24, 64])
def test_a_decoy_has_a_salt_of_the_usual_length(length: int) -> None:
    salt, _ = salt_and_number(b"nobody", salt_length=length)
    assert len(salt) == length


@pytest.mark.parametrize("length", [0, -1, 65])
def test_no_decoy_has_such_a_salt(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 64 octets"):
        ScramKeys.decoy(ScramLogin(b"nobody", b"", "sha256"), salt_length=length)


@pytest.mark.parametrize("success", [True, False])
def test_no_password_fits_a_decoy(success: bool) -> None:
    keys = ScramKeys.decoy(ScramLogin(b"tim", b"", "sha256"), iterations=3)
    answer = AuthResult(success=success, auth_data=keys)
    assert not converse(Client("tim", "tanstaaf"), answer)[0]
    assert not converse(Client("tim", ""), answer)[0]
    assert not keys.verify(b"tanstaaf")
    assert not keys.verify(b"")


def test_an_empty_proof_does_not_fit_the_keys_of_nobody() -> None:
    # The keys of who has none are empty; hash and proof of nothing must not agree with that.
    client = Client("nobody", "", final=lambda text: text.partition(b",p=")[0] + b",p====="[:6])
    with pytest.raises(ProtocolError):
        converse(client, AuthResult(success=False))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=tim",
        b"n,,n=,r=abc",
        b"n,,n=tim,r=",
        b"n,,r=abc,n=tim",
        b"n,n=tim,r=abc",
        b"n,a=,n=tim,r=abc",
        b"n,b=x,n=tim,r=abc",
        b"p=tls-unique,,n=tim,r=abc",
        b"x,,n=tim,r=abc",
        b"n,,m=x,n=tim,r=abc",
        b"n,,n=t=im,r=abc",
        b"n,,n=tim=,r=abc",
        b"n,a=t=2c,n=tim,r=abc",
        b"n,,n=tim,r=a\x7fb",
        b"n,,n=tim,r=a b",
        b"n,,n=tim,r=abc,",
    ],
)
def test_malformed_first_messages(message: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        MECHANISMS["SCRAM-SHA-256"]().start(message)
    assert caught.value.reply is replies.BAD_AUTH_RESPONSE


def test_an_optional_extension_is_passed_over() -> None:
    step = MECHANISMS["SCRAM-SHA-1"]().start(b"n,,n=tim,r=abc,x=y,Z=")
    assert step == Ask(ScramLogin(b"tim", b"", "sha1"))


@pytest.mark.parametrize(
    "final",
    [
        lambda text: b"",
        lambda text: text.partition(b",p=")[0],
        lambda text: text.replace(b"c=", b"d="),
        lambda text: text.replace(b",p=", b",p=!"),
        lambda text: text + b"=",
        lambda text: text.replace(b",p=", b",p=A"),
        lambda text: text.replace(b"c=biws", b"c=A"),
        lambda text: text + b",x=y",
    ],
)
def test_malformed_final_messages(final: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        converse(Client("tim", "tanstaaf", final=final), keys_for("tanstaaf"))
    assert caught.value.reply in (replies.BAD_AUTH_RESPONSE, replies.BAD_BASE64)


def test_keys_do_not_show() -> None:
    keys = ScramKeys.from_password("S3cret", salt=b"salt", iterations=3)
    assert repr(keys) == "ScramKeys(salt=b'salt', iterations=3)"
    assert keys == ScramKeys.from_password("S3cret", salt=b"salt", iterations=3)
    assert keys != ScramKeys.from_password("S3cret", salt=b"salt", iterations=3, hash_name="sha1")
    assert ScramKeys.from_password("x", iterations=3).salt != keys.salt


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 §3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("", ""),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        *("\u0007", "a\x7f", "\ue000", "\ufdd0", "\ufffd", "\u2ff0", "\u200e"),
        # RFC 4013 §3, and RFC 3454 §6: the directions of writing.
        *("\u06271", "1\u0627", "\u0627a\u0628", "a\u0627", "\u05d0 a", "\u05d0b\u05d0", "\ufb1d-"),
    ],
)
def test_prohibited(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 4013"):
        ScramKeys.from_password(text)
    with pytest.raises(ValueError, match="RFC 4013"):
        saslprep(text)
    with pytest.raises(ProtocolError) as caught:
        MECHANISMS["SCRAM-SHA-256"]().start(b"n,,n=" + text.encode() + b",r=abc")
    assert caught.value.reply is replies.BAD_AUTH_RESPONSE


@pytest.mark.parametrize(
    "text", ["\u06271\u0628", "\u0627", "\u05d0 1 \u05d1", "1-2", "é ü", "\u0661"]
)
def test_directions_that_do_not_mix(text: str) -> None:
    assert saslprep(text) == saslprep(text, stored=True) == text


# Of Unicode later than 3.2: RFC 4013 §2.5 has them in what is asked, not in what is stored.
@pytest.mark.parametrize("text", ["\u0221", "\U0001f600", "\u1e9e", "a\u20bf"])
def test_characters_that_saslprep_does_not_know(text: str) -> None:
    assert saslprep(text) == text
    with pytest.raises(ValueError, match="does not know"):
        ScramKeys.from_password(text)


@given(st.text())
def test_what_is_prepared_is_prepared(text: str) -> None:
    with suppress(ValueError):
        prepared = saslprep(text)
        assert saslprep(prepared) == prepared


@pytest.mark.parametrize(
    ("login", "asked"),
    [
        ("\u2168", "IX"),
        ("u\u00adser", "user"),
        ("u\u0308", "ü"),
        ("a\u00a0b", "a b"),
        ("a=2Cb", "a,b"),
    ],
)
def test_names_are_prepared(login: str, asked: str) -> None:
    step = MECHANISMS["SCRAM-SHA-256"]().start(f"n,,n={login},r=abc".encode())
    assert step == Ask(ScramLogin(asked.encode(), b"", "sha256"))


def test_a_name_of_which_nothing_is_left() -> None:
    with pytest.raises(ProtocolError) as caught:
        MECHANISMS["SCRAM-SHA-256"]().start("n,,n=\u00ad,r=abc".encode())
    assert caught.value.reply is replies.BAD_AUTH_RESPONSE


PASSWORDS = st.text(st.characters(categories=["L", "N", "S"], codec="ascii"), min_size=1)


@given(st.text("aZ9 ,=ü孫", min_size=1), PASSWORDS, PASSWORDS)
def test_only_the_right_password(login: str, password: str, other: str) -> None:
    assert converse(Client(login, password), keys_for(password))[0]
    assert converse(Client(login, other), keys_for(password))[0] == (other == password)
