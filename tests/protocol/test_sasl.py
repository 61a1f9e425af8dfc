"""SASL mechanisms: each dialogue step by step, and what is malformed."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import (
    MECHANISMS,
    Anonymous,
    Ask,
    AuthResult,
    Challenge,
    CramMD5Response,
    ExternalIdentity,
    Finished,
    LoginPassword,
    Mechanism,
    OAuthToken,
    ProtocolError,
    Reply,
    ScramLogin,
    Step,
    replies,
)
from smtp_protocol.auth import BUILT_IN, MECHANISM_NAME

YES, NO = AuthResult(success=True, auth_data="tim"), AuthResult(success=False)


def asked(step: Step) -> object:
    """What the authenticator is asked with."""
    assert isinstance(step, Ask)
    return step.auth_data


def challenge(step: Step) -> bytes:
    assert isinstance(step, Challenge)
    return step.data


def refusal(mechanism: str, response: bytes, *, first: bool = True) -> Reply:
    """The answer to a malformed response, be it an initial one or not."""
    exchange = MECHANISMS[mechanism]()
    if not first:
        exchange.start(None)
    with pytest.raises(ProtocolError) as caught:
        exchange.start(response) if first else exchange.respond(response)
    return caught.value.reply


def test_names() -> None:
    assert all(MECHANISM_NAME.fullmatch(name) for name in MECHANISMS)
    assert tuple(MECHANISMS) == BUILT_IN
    assert list(MECHANISMS)[-1] == "ANONYMOUS"
    # Each exchange has an object of its own.
    assert all(make() is not make() for make in MECHANISMS.values())


@pytest.mark.parametrize("name", [name for name in MECHANISMS if name != "CRAM-MD5"])
def test_without_an_initial_response(name: str) -> None:
    step = MECHANISMS[name]().start(None)
    assert challenge(step) == (b"Username:" if name == "LOGIN" else b"")


@pytest.mark.parametrize(
    ("response", "authzid"), [(b"\0tim\0tanstaaf", b""), (b"admin\0tim\0tanstaaf", b"admin")]
)
@pytest.mark.parametrize("first", [True, False])
def test_plain(response: bytes, authzid: bytes, first: bool) -> None:
    exchange = MECHANISMS["PLAIN"]()
    if first:
        step = exchange.start(response)
    else:
        assert challenge(exchange.start(None)) == b""
        step = exchange.respond(response)
    assert asked(step) == LoginPassword(b"tim", b"tanstaaf", authzid)
    assert exchange.resolve(YES) == Finished(YES)


@pytest.mark.parametrize(
    "response",
    [b"", b"tim", b"tim\0tanstaaf", b"\0tim\0", b"\0\0tanstaaf", b"\0\0", b"\0a\0b\0", b"\0" * 9],
)
def test_plain_has_two_nuls(response: bytes) -> None:
    assert refusal("PLAIN", response) is replies.BAD_AUTH_RESPONSE
    assert refusal("PLAIN", response, first=False) is replies.BAD_AUTH_RESPONSE


@pytest.mark.parametrize("initial", [None, b"tim"])
def test_login(initial: bytes | None) -> None:
    exchange = MECHANISMS["LOGIN"]()
    step = exchange.start(initial)
    if initial is None:
        assert challenge(step) == b"Username:"
        step = exchange.respond(b"tim")
    assert challenge(step) == b"Password:"
    assert asked(exchange.respond(b"tanstaaf")) == LoginPassword(b"tim", b"tanstaaf")
    assert exchange.resolve(NO) == Finished(NO)


def test_login_with_nothing_in_it() -> None:
    exchange = MECHANISMS["LOGIN"]()
    assert challenge(exchange.start(b"")) == b"Password:"
    assert asked(exchange.respond(b"")) == LoginPassword(b"", b"")


def test_cram_md5_of_the_rfc() -> None:
    # RFC 2195 §2.
    response = CramMD5Response(
        b"tim",
        b"<1896.697170952@postoffice.reston.mci.net>",
        b"b913a602c7eda7a495b4e6e7334d3890",
    )
    assert response.verify(b"tanstaaftanstaaf")
    assert not response.verify(b"tanstaaf")
    assert CramMD5Response(b"tim", response.challenge, response.digest.upper()).verify(
        b"tanstaaftanstaaf"
    )


def test_cram_md5() -> None:
    exchange = MECHANISMS["CRAM-MD5"]()
    sent = challenge(exchange.start(None))
    assert sent.startswith(b"<")
    assert challenge(MECHANISMS["CRAM-MD5"]().start(None)) != sent
    # A name may have spaces.
    response = asked(exchange.respond(b"tim o'reilly 00ff"))
    assert response == CramMD5Response(b"tim o'reilly", sent, b"00ff")
    assert isinstance(response, CramMD5Response)
    assert not response.verify(b"tanstaaf")
    assert not CramMD5Response(b"tim", sent, b"\xff\0").verify(b"tanstaaf")


def test_cram_md5_begins_with_the_server() -> None:
    assert refusal("CRAM-MD5", b"tim 00") is replies.BAD_AUTH_RESPONSE
    assert refusal("CRAM-MD5", b"") is replies.BAD_AUTH_RESPONSE
    assert refusal("CRAM-MD5", b"nospace", first=False) is replies.BAD_AUTH_RESPONSE


def test_external() -> None:
    assert asked(MECHANISMS["EXTERNAL"]().start(b"")) == ExternalIdentity(b"")
    assert asked(MECHANISMS["EXTERNAL"]().start(b"tim")) == ExternalIdentity(b"tim")


def test_anonymous() -> None:
    assert asked(MECHANISMS["ANONYMOUS"]().start(b"sirhc")) == Anonymous(b"sirhc")


OAUTH = [
    ("XOAUTH2", b"user=tim\x01auth=Bearer abc==\x01\x01", b"tim"),
    ("XOAUTH2", b"USER=tim@x\x01AUTH=bearer abc==\x01\x01", b"tim@x"),
    ("XOAUTH2", b"user=\x01auth=Bearer abc==\x01\x01", b""),
    ("OAUTHBEARER", b"n,a=tim,\x01auth=Bearer abc==\x01\x01", b"tim"),
    ("OAUTHBEARER", b"n,,\x01auth=Bearer abc==\x01\x01", b""),
    (
        "OAUTHBEARER",
        b"y,a=t=2Ci=3Dm,\x01host=mx\x01port=587\x01auth=Bearer abc==\x01\x01",
        b"t,i=m",
    ),
    ("OAUTHBEARER", b"n,a=tim,\x01AUTH=BEARER  abc== \x01x=y\x01\x01", b"tim"),
]


@pytest.mark.parametrize(("name", "message", "login"), OAUTH)
def test_tokens(name: str, message: bytes, login: bytes) -> None:
    exchange = MECHANISMS[name]()
    assert asked(exchange.start(message)) == OAuthToken(login, b"abc==")
    assert exchange.resolve(YES) == Finished(YES)


@pytest.mark.parametrize(
    ("name", "message", "answer"),
    [("XOAUTH2", OAUTH[0][1], b""), ("OAUTHBEARER", OAUTH[3][1], b"\x01")],
)
def test_a_wrong_token_is_explained_first(name: str, message: bytes, answer: bytes) -> None:
    exchange = MECHANISMS[name]()
    asked(exchange.start(message))
    step = exchange.resolve(NO)
    assert isinstance(step, Challenge)
    assert step.failed  # whatever the client responds, if it responds at all
    error = json.loads(step.data)
    assert error["status"] == {"XOAUTH2": "400", "OAUTHBEARER": "invalid_token"}[name]
    assert exchange.respond(answer) == Finished(NO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("XOAUTH2", b""),
        ("XOAUTH2", b"user=tim"),
        ("XOAUTH2", b"user=tim\x01\x01"),
        ("XOAUTH2", b"user=tim\x01auth=Bearer abc\x01"),
        ("XOAUTH2", b"tim\x01auth=Bearer abc\x01\x01"),
        ("XOAUTH2", b"user=tim\x01auth=Basic abc\x01\x01"),
        ("XOAUTH2", b"user=tim\x01auth=Bearer abc\x01x\x01\x01"),
        ("OAUTHBEARER", b""),
        ("OAUTHBEARER", b"\x01"),
        ("OAUTHBEARER", b"n,a=tim,"),
        ("OAUTHBEARER", b"n,a=tim\x01auth=Bearer abc\x01\x01"),
        ("OAUTHBEARER", b"p=tls-unique,a=tim,\x01auth=Bearer abc\x01\x01"),
        ("OAUTHBEARER", b"n,a=tim,\x01\x01"),
        ("OAUTHBEARER", b"n,a=tim,\x01auth=Bearer abc\x01"),
        ("OAUTHBEARER", b"n,a=tim,\x01auth=Bearer abc"),
        ("OAUTHBEARER", b"n,a=tim,\x01auth=Basic abc\x01\x01"),
        ("OAUTHBEARER", b"n,a=tim,\x01auth=Bearer a\x01auth=Bearer b\x01\x01"),
    ],
)
def test_malformed_tokens(name: str, message: bytes) -> None:
    assert refusal(name, message) is replies.BAD_AUTH_RESPONSE
    assert refusal(name, message, first=False) is replies.BAD_AUTH_RESPONSE


# A message of each mechanism around a name, and whether its names are UTF-8 by its specification.
NAMES = [
    ("PLAIN", b"\0%b\0secret", True),
    ("PLAIN", b"%b\0tim\0secret", True),
    ("LOGIN", b"%b", False),
    ("CRAM-MD5", b"%b 00", False),
    ("SCRAM-SHA-256", b"n,,n=%b,r=abc", True),
    ("SCRAM-SHA-256", b"n,a=%b,n=tim,r=abc", True),
    ("SCRAM-SHA-1", b"n,,n=%b,r=abc", True),
    ("OAUTHBEARER", b"n,a=%b,\x01auth=Bearer abc\x01\x01", True),
    ("XOAUTH2", b"user=%b\x01auth=Bearer abc\x01\x01", False),
    ("EXTERNAL", b"%b", True),
    ("ANONYMOUS", b"%b", True),
]
CONTROLS = [*map(chr, [*range(32), *range(127, 160)]), "\u2028", "\u2029"]


def said(mechanism: str, message: bytes) -> Step:
    """What comes of a message that is no initial response."""
    exchange = MECHANISMS[mechanism]()
    exchange.start(None)
    return exchange.respond(message)


def test_every_mechanism_has_a_name() -> None:
    assert {mechanism for mechanism, _, _ in NAMES} == {*MECHANISMS}


@pytest.mark.parametrize(("mechanism", "message", "utf8"), NAMES)
def test_names_have_no_control_characters(mechanism: str, message: bytes, utf8: bool) -> None:
    for name in ("tim", "a b", "ü", "孫子", "x" * 255, "ü" * 255):
        assert isinstance(said(mechanism, message % name.encode()), Ask | Challenge)
    for character in CONTROLS:
        for place in ("{}", "a{}", "{}a", "a{}b", "ü{}"):
            with pytest.raises(ProtocolError) as caught:
                said(mechanism, message % place.format(character).encode())
            assert caught.value.reply is replies.BAD_AUTH_RESPONSE


@pytest.mark.parametrize(("mechanism", "message", "utf8"), NAMES)
def test_names_are_utf8_where_the_mechanism_says_so(
    mechanism: str, message: bytes, utf8: bool
) -> None:
    for name in (b"\xfc", b"B\xfcro", b"\xed\xa0\x80"):
        if utf8:
            with pytest.raises(ProtocolError):
                said(mechanism, message % name)
        else:
            assert isinstance(said(mechanism, message % name), Ask | Challenge)


@pytest.mark.parametrize(("mechanism", "message", "utf8"), NAMES)
def test_names_are_bounded(mechanism: str, message: bytes, utf8: bool) -> None:
    with pytest.raises(ProtocolError):
        said(mechanism, message % (b"x" * 1021))


@pytest.mark.parametrize("password", [b"\xfc", b"p w", b"\x1b", b"x" * 9000, "ü\u2028".encode()])
def test_passwords_may_be_any_octets(password: bytes) -> None:
    assert asked(said("PLAIN", b"\0tim\0" + password)) == LoginPassword(b"tim", password)
    exchange = MECHANISMS["LOGIN"]()
    exchange.start(b"tim")
    assert asked(exchange.respond(password)) == LoginPassword(b"tim", password)


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"])
@pytest.mark.parametrize("place", [b"%b", b"a%b", b"%ba", b"a%bb"])
def test_passwords_do_not_break_lines(octet: bytes, place: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        said("PLAIN", b"\0tim\0" + place % octet)
    assert caught.value.reply is replies.BAD_AUTH_RESPONSE
    exchange = MECHANISMS["LOGIN"]()
    exchange.start(b"tim")
    with pytest.raises(ProtocolError) as caught:
        exchange.respond(place % octet)
    assert caught.value.reply is replies.BAD_AUTH_RESPONSE


TOKENS = [
    ("XOAUTH2", b"user=tim\x01auth=Bearer a%cb\x01\x01"),
    ("OAUTHBEARER", b"n,,\x01auth=Bearer a%cb\x01\x01"),
]


@pytest.mark.parametrize("octet", [0, *range(2, 33), 127])
def test_tokens_have_no_control_characters(octet: int) -> None:
    for mechanism, message in TOKENS:
        for good in (b"!", b"~", b"\xe4"):
            assert isinstance(said(mechanism, message % good), Ask)
        with pytest.raises(ProtocolError):
            said(mechanism, message % octet)


def test_no_token_at_all() -> None:
    assert asked(said("XOAUTH2", b"user=t\x01auth=Bearer \x01\x01")) == OAuthToken(b"t", b"")


@pytest.mark.parametrize(
    "header", [b"n,tim,", b"n,b=tim,", b"n,a=,", b"n,a=t=im,", b"n,a=tim,x,", b"n", b",,", b"x,,"]
)
def test_malformed_headers_of_tokens(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        said("OAUTHBEARER", header + b"\x01auth=Bearer abc\x01\x01")


def test_no_secret_is_shown() -> None:
    for value in (
        Ask(LoginPassword(b"tim", b"S3cret")),
        OAuthToken(b"tim", b"S3cret"),
        CramMD5Response(b"tim", b"S3cret", b"S3cret"),
    ):
        assert "S3cret" not in f"{value} {value!r}"


PIECES = [b"\0", b"tim", b" ", b"n,,", b"n,a=", b",", b"\x01", b"auth=Bearer ", b"user=", b"c=biws"]
RESPONSES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=9)).map(b"".join)


@given(
    st.sampled_from([*MECHANISMS]),
    st.none() | RESPONSES,
    st.lists(RESPONSES, max_size=5),
    st.lists(st.sampled_from([YES, NO]), min_size=6, max_size=6),
)
def test_any_responses_end(
    name: str, initial: bytes | None, responses: list[bytes], results: list[AuthResult]
) -> None:
    exchange: Mechanism = MECHANISMS[name]()
    said = iter(responses)
    reply = replies.BAD_AUTH_RESPONSE
    try:
        step = exchange.start(initial)
        for result in results:
            match step:
                case Ask(auth_data):
                    assert not isinstance(auth_data, str | bytes)
                    step = exchange.resolve(result)
                case Challenge():
                    step = exchange.respond(next(said))
                case Finished(verdict):
                    assert verdict is YES or not verdict.success or name.startswith("SCRAM")
                    return
    except ProtocolError as error:
        reply = error.reply
    except StopIteration:
        pass
    assert reply in (replies.BAD_AUTH_RESPONSE, replies.BAD_BASE64)


def test_scram_needs_keys_not_a_mere_yes() -> None:
    exchange = MECHANISMS["SCRAM-SHA-256"]()
    assert asked(exchange.start(b"n,,n=tim,r=abc")) == ScramLogin(b"tim", b"", "sha256")
    first = challenge(exchange.resolve(YES))
    nonce = first.split(b",")[0][2:]
    proof = base64.b64encode(bytes(32))
    assert exchange.respond(b"c=biws,r=" + nonce + b",p=" + proof) == Finished(NO)
