"""Target: what cannot be meant is told at once, in one line, and no line has a password."""

import traceback
from argparse import ArgumentParser
from typing import Any

import pytest
from tests.handlers.relay.driver import Options

from smtp_handlers import Proxy
from smtp_handlers.relay.target import own_name

LOGIN: Options = {"tls": "off", "username": "anne", "password": "se cret"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a host or a Unix socket"),
        ({"remote_hostname": "a", "unix_socket": "/b"}, "a host or a Unix socket"),
        ({"remote_hostname": "a", "remote_port": 0}, "a port is 1 to 65535, not 0"),
        ({"remote_hostname": "a", "tls": "yes"}, "tls is one of required, opportunistic, off"),
        ({"unix_socket": "/b", "tls": "required"}, "no TLS on a Unix socket"),
        ({"remote_hostname": "a", "timeout": 0}, "above 0"),
        ({"remote_hostname": "a", "max_hops": 0}, "above 0"),
        ({"remote_hostname": "a", "username": "b"}, "a username needs a password"),
        ({"remote_hostname": "a", **LOGIN, "tls": None}, "a password needs tls="),
        ({"remote_hostname": "a", **LOGIN, "password": "a\0b"}, "no NUL"),
        ({"remote_hostname": "smtp://a:se cret@b"}, "the host is a URL: Proxy.from_url takes one"),
        ({"remote_hostname": "smtps://a"}, "the host is a URL: Proxy.from_url takes one"),
        ({"remote_hostname": "mail.example:25"}, "the port is an argument of its own"),
        ({"remote_hostname": "[::1]"}, "neither the name of a host nor an IP address"),
        ({"remote_hostname": "anne@mail.example"}, "neither the name of a host"),
        ({"remote_hostname": "mail example"}, "neither the name of a host"),
        ({"remote_hostname": "mail.example\n"}, "neither the name of a host"),
        ({"remote_hostname": ""}, "neither the name of a host"),
        ({"remote_hostname": "a..b"}, "no name of a host"),
        ({"remote_hostname": "a" * 64}, "no name of a host"),
        ({"remote_hostname": "a." * 200}, "no name of a host"),
        ({"remote_hostname": "a", "local_hostname": "mx example"}, "is not called 'mx example'"),
        ({"remote_hostname": "a", "local_hostname": "a\r\nQUIT"}, "is not called"),
        ({"remote_hostname": "a", "local_hostname": ""}, "is not called ''"),
        ({"remote_hostname": "a", "local_hostname": "ü" * 64}, "no name of a host"),
        ({"remote_hostname": "a", "local_hostname": "[1.2.3.4"}, "is not called"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Proxy(**arguments)
    assert "\n" not in str(caught.value)
    assert "se cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mail.example"], (("mail.example", 25), "opportunistic", False, None)),
        (["mail.example:26"], (("mail.example", 26), "opportunistic", False, None)),
        (["mail.example", "587"], (("mail.example", 587), "opportunistic", False, None)),
        (["smtp://mail.example"], (("mail.example", 25), "opportunistic", False, None)),
        (["smtp://[::1]:26?tls=off"], (("::1", 26), "off", False, None)),
        (["smtp://mail.example/"], (("mail.example", 25), "opportunistic", False, None)),
        (["smtps://mail.example"], (("mail.example", 465), "implicit", False, None)),
        (["lmtp://mail.example"], (("mail.example", 24), "opportunistic", True, None)),
        (["lmtp:///run/a%20b"], ("/run/a b", "off", True, None)),
        (
            ["smtp://an%40ne@mail.example:587?tls=required"],
            (("mail.example", 587), "required", False, b"an@ne"),
        ),
    ],
)
def test_from_cli(
    arguments: list[str], expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_PROXY_PASSWORD", "secret")
    target = Proxy.from_cli(ArgumentParser(), *arguments)._target
    login = target.login.login if target.login else None
    assert (target.address, target.tls, target.lmtp, login) == expected
    assert "secret" not in repr(target)


URLS = [
    ("http://mail.example", "begins with smtp, smtps, lmtp"),
    ("mail.example", "begins with smtp, smtps, lmtp"),
    ("", "begins with smtp, smtps, lmtp"),
    ("smtp://mail.example?tls=yes", r"tls=required\|opportunistic"),
    ("smtp://mail.example?tls=", r"tls=required\|opportunistic"),
    ("smtp://mail.example?x", r"tls=required\|opportunistic"),
    ("smtp://mail.example?off", r"tls=required\|opportunistic"),
    ("smtp://a@mail.example?tls=required", "a username needs a password"),
    ("smtp://", "a host or a Unix socket"),
    ("smtp://mail.example:0", "a port is 1 to 65535"),
    ("smtp://mail.example:99999", "its host or its port"),
    ("smtp://mail.example:x", "its host or its port"),
    ("smtp://[::1", "its host or its port"),
    ("smtp://mail.example/inbox", "behind the host and the port"),
    ("smtp://mail.example#tls=off", "behind the host and the port"),
    ("lmtp:///run/lmtp?tls=required", "no TLS on a Unix socket"),
]
WITH_PASSWORDS = [
    ("smtp://a:secret@mail.example", "a password needs tls="),
    ("smtp://a:secret@mail.example:x", "its host or its port"),
    ("smtp://a:secret/x@mail.example", "its host or its port"),
    ("smtp://a:secret#x@mail.example", "its host or its port"),
    ("smtp://a:secret@mail.example\u2100.b", "its host or its port"),
    ("http://a:secret@mail.example", "begins with smtp, smtps, lmtp"),
    ("smtps://a:secret@mail.example?tls=no", r"tls=required\|opportunistic"),
    ("smtps://:secret@a..b", "no name of a host"),
]


@pytest.mark.parametrize(("url", "message"), URLS)
def test_urls_that_cannot_be_meant(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTP_PROXY_PASSWORD", raising=False)
    with pytest.raises(ValueError, match=message):
        Proxy.from_url(url)
    if "://" in url:
        with pytest.raises(ValueError, match=message):
            Proxy.from_cli(ArgumentParser(), url)


@pytest.mark.parametrize(("url", "message"), WITH_PASSWORDS)
def test_no_error_has_the_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Proxy.from_url(url)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_from_url() -> None:
    target = Proxy.from_url("smtps://an%40ne:s%2Fe:cret@mail.example?tls=required")._target
    assert target.address == ("mail.example", 465)
    assert target.tls == "required"
    assert target.login is not None
    assert (target.login.login, target.login.password) == (b"an@ne", b"s/e:cret")
    assert "cret" not in repr(target)


def test_a_password_is_not_taken_from_the_command_line() -> None:
    with pytest.raises(ValueError, match="the password is taken from the environment"):
        Proxy.from_cli(ArgumentParser(), "smtps://a:b@mail.example")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mx.example", "mx.example"),
        ("müller-pc", "xn--mller-pc-65a"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("MX_1.example.", "MX_1.example."),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_own_name(name: str, said: str) -> None:
    assert own_name(name) == said


def test_a_host_beyond_ascii() -> None:
    assert Proxy("bücher.example")._target.address == ("xn--bcher-kva.example", 25)
    assert Proxy("fe80::1%lo")._target.address == ("fe80::1%lo", 25)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "1", "2"]])
def test_wrong_number_of_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        Proxy.from_cli(ArgumentParser(), *arguments)
    assert "the handler proxy takes a URL" in capsys.readouterr().err
