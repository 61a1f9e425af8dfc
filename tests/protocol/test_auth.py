"""Authentication: the values, the names of mechanisms, and that no password is shown."""

import pytest

from smtp_protocol import MISSING, AuthResult, LoginPassword, auth_mechanism
from smtp_protocol.auth import Missing


def test_the_password_is_not_shown() -> None:
    login = LoginPassword(b"anne", b"S3cret")
    assert (login.login, login.password) == (b"anne", b"S3cret")
    for text in (str(login), repr(login), f"{login}", f"{[login]}"):
        assert "anne" in text
        assert "S3cret" not in text
    result = AuthResult(success=True, auth_data=b"S3cret")
    assert "S3cret" not in repr(result)


def test_result() -> None:
    result = AuthResult(success=False)
    assert (result.handled, result.message, result.auth_data) == (True, None, None)


def test_missing_is_one_value() -> None:
    assert repr(MISSING) == "<Missing.MISSING: 'MISSING'>"
    assert Missing("MISSING") is MISSING


@pytest.mark.parametrize("name", ["X", "PLAIN", "X-TOKEN", "CRAM-MD5", "9798-M-DSA-SHA1", "X" * 20])
def test_names_of_mechanisms(name: str) -> None:
    @auth_mechanism(name)
    def method() -> None: ...

    assert vars(method) == {"auth_mechanism": name}


@pytest.mark.parametrize("name", ["", "plain", "X TOKEN", "X.TOKEN", "ÄUTH", "X" * 21, "X\n"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="SASL mechanism"):
        auth_mechanism(name)
