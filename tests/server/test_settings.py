"""Settings: every keyword is checked when the server is made, and a wrong one is named."""

import socket
from typing import Any

import pytest

from smtp_handlers import Sink
from smtp_server import SMTP, Controller, serve
from smtp_server.settings import Settings
from smtp_server.setup import ascii_name


def make(**keywords: Any) -> SMTP:
    return SMTP(Sink(), **keywords)


def test_defaults() -> None:
    settings = Settings()
    assert settings.data_size_limit == 33554432
    assert settings.enable_SMTPUTF8 is False
    assert settings.decode_data is False
    assert settings.hostname is None
    assert settings.ident is None
    assert settings.timeout == 300
    assert settings.command_call_limit is None
    assert settings.loop is None
    assert list(settings.extensions) == []


def test_what_a_server_is_called() -> None:
    smtp = make()
    assert smtp.hostname == ascii_name(socket.gethostname())
    assert smtp.ident.startswith("Python SMTP ")
    smtp = make(hostname="mx.test", ident="Hello there")
    assert (smtp.hostname, smtp.ident) == ("mx.test", "Hello there")


def test_a_machine_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert make().hostname == "localhost"


def test_the_dns_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the DNS was asked")

    for name in ("getfqdn", "gethostbyaddr", "getaddrinfo"):
        monkeypatch.setattr(f"socket.{name}", refuse)
    make()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("hostname", ""),
        ("hostname", "mx\r\n250 test"),
        ("ident", ""),
        ("ident", "two\nlines"),
        ("timeout", 0),
        ("timeout", -1),
        ("max_recipients", 0),
        ("max_errors", 0),
        ("max_connections", 0),
        ("max_connections_per_host", -1),
        ("data_size_limit", -1),
        ("address_syntax", "loose"),
        ("bare_newline", "ignore"),
        ("line_length_limit", 1),
        ("extensions", "PIPELINING"),
        ("extensions", ["PIPELINGIN"]),
        ("greeting_delay", -0.1),
        ("command_call_limit", 0),
        ("command_call_limit", {"NOOP": 0}),
        ("command_call_limit", {"noop": 1}),
        ("auth_failure_delay", -1),
        ("ipv6_prefix", 0),
        ("ipv6_prefix", 129),
        ("proxy_trusted", "10.0.0.0/8"),
        ("auth_mechanisms", "PLAIN"),
        ("auth_mechanisms", ["PLANE"]),
        ("require_starttls", True),
    ],
)
def test_a_value_that_cannot_be_meant(keyword: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"\bis\b|PIPELINING|needs|capitals"):
        make(**{keyword: value})


@pytest.mark.parametrize(
    "keywords",
    [
        {"timeout": None},
        {"timeout": 0.5},
        {"data_size_limit": None},
        {"data_size_limit": 0},
        {"max_recipients": None, "max_errors": None},
        {"max_connections": 1, "max_connections_per_host": 1},
        {"command_call_limit": {"NOOP": 1, "*": 20}},
    ],
)
def test_values_that_are_right(keywords: dict[str, object]) -> None:
    make(**keywords)


def test_an_unknown_keyword_is_named_with_the_nearest_right_one() -> None:
    wrong: dict[str, Any] = {"data_size_limits": 5}
    expected = "no keyword 'data_size_limits'; did you mean 'data_size_limit'"
    with pytest.raises(TypeError, match=expected):
        SMTP(Sink(), **wrong)
    with pytest.raises(TypeError, match=expected):
        serve(Sink(), **wrong)
    with pytest.raises(TypeError, match=expected):
        Controller(Sink(), **wrong)


def test_a_misspelt_hook_is_named_with_the_nearest_right_one() -> None:
    class Misspelt:
        async def handle_DATA(self, *args: object) -> str:
            return "250 OK"

        async def handle_RCTP(self, *args: object) -> str:
            return "250 OK"

    for make_one in (SMTP, serve, Controller):
        with pytest.raises(TypeError, match=r"Misspelt\.handle_RCTP .* did you mean handle_RCPT"):
            make_one(Misspelt())


def test_a_hook_that_cannot_take_its_arguments() -> None:
    class Short:
        async def handle_DATA(self, server: object, envelope: object) -> str:
            return "250 OK"

    wrong: Any = Short()
    with pytest.raises(TypeError, match=r"handle_DATA\(self, server, session, envelope\)"):
        SMTP(wrong)


def test_a_class_in_the_place_of_a_handler() -> None:
    wrong: Any = Sink
    with pytest.raises(TypeError, match=r"pass an instance, Sink\(\.\.\.\)"):
        SMTP(wrong)


def test_a_setup_is_shared() -> None:
    first = make(hostname="mx.test", data_size_limit=10, enable_SMTPUTF8=True)
    second = SMTP(first.setup.handler, setup=first.setup)
    assert second.setup is first.setup
    assert (second.hostname, second.data_size_limit, second.enable_SMTPUTF8) == (
        "mx.test",
        10,
        True,
    )
    assert second.session is not first.session
    assert second.session.id != first.session.id
