"""Extensions: their names, and the lines of the reply to EHLO."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smtp_protocol import ProtocolConfig
from smtp_protocol.extensions import ALL_EXTENSIONS, check_extensions, ehlo_keywords


def test_the_usual_lines() -> None:
    assert ehlo_keywords(ProtocolConfig()) == ["SIZE 33554432", "8BITMIME", "HELP"]


@pytest.mark.parametrize("limit", [None, 0])
def test_no_limit_is_size_0(limit: int | None) -> None:
    # RFC 1870 §4: 0 says that there is no fixed maximum.
    assert ehlo_keywords(ProtocolConfig(data_size_limit=limit))[0] == "SIZE 0"


def test_extensions_are_in_order() -> None:
    config = ProtocolConfig(extensions=frozenset({*ALL_EXTENSIONS, "SMTPUTF8"}), rcpt_max=1000)
    lines = ehlo_keywords(config, tls=True)
    assert lines[:3] == ["SIZE 33554432", "8BITMIME", "SMTPUTF8"]
    assert [line.split()[0] for line in lines[3:-1]] == list(ALL_EXTENSIONS)
    assert lines[-1] == "HELP"


def test_names() -> None:
    check_extensions(())
    check_extensions(ALL_EXTENSIONS)
    with pytest.raises(ValueError, match=r"there is no extension 'pipelining'.*'PIPELINING'"):
        check_extensions(["pipelining"])
    with pytest.raises(ValueError, match=r"write \('PIPELINING',\)"):
        check_extensions("PIPELINING")
    with pytest.raises(ValueError, match="BINARYMIME needs CHUNKING"):
        check_extensions(("BINARYMIME",))


@pytest.mark.parametrize(
    ("settings", "tls", "line"),
    [
        ({"starttls": True}, False, "STARTTLS"),
        ({"starttls": True}, True, None),
        ({}, False, None),
        ({"auth": True, "auth_require_tls": False}, False, "AUTH PLAIN LOGIN"),
        ({"auth": True}, False, None),
        ({"auth": True}, True, "AUTH PLAIN LOGIN"),
    ],
)
def test_starttls_and_auth(settings: dict[str, Any], tls: bool, line: str | None) -> None:
    lines = ehlo_keywords(ProtocolConfig(**settings), tls=tls, mechanisms=("PLAIN", "LOGIN"))
    assert lines[2:-1] == ([line] if line else [])


def test_auth_without_a_mechanism() -> None:
    assert "AUTH" not in " ".join(ehlo_keywords(ProtocolConfig(auth=True), tls=True))


def test_trusted_peers_are_told_what_they_can_say() -> None:
    lines = ehlo_keywords(ProtocolConfig(), trusted=True)
    assert lines[2:-1] == [
        "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    ]


def test_requiretls_is_for_tls() -> None:
    config = ProtocolConfig(extensions=frozenset({"REQUIRETLS"}))
    assert "REQUIRETLS" not in ehlo_keywords(config)
    assert "REQUIRETLS" in ehlo_keywords(config, tls=True)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, []),
        ({"rcpt_max": 20}, ["LIMITS RCPTMAX=20"]),
        ({"mail_max": 5, "rcpt_domain_max": 1}, ["LIMITS MAILMAX=5 RCPTDOMAINMAX=1"]),
        (
            {"rcpt_max": 20, "mail_max": 5, "rcpt_domain_max": 1},
            ["LIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1"],
        ),
    ],
)
def test_limits(settings: dict[str, Any], lines: list[str]) -> None:
    config = ProtocolConfig(extensions=frozenset({"LIMITS"}), **settings)
    assert ehlo_keywords(config)[2:-1] == lines
    assert ehlo_keywords(ProtocolConfig(**settings))[2:-1] == []


def test_futurerelease_tells_how_far() -> None:
    config = ProtocolConfig(extensions=frozenset({"FUTURERELEASE"}), hold_max=3600)
    now = datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
    assert ehlo_keywords(config, now=now)[2:-1] == ["FUTURERELEASE 3600 2026-01-01T00:30:00Z"]
    before = datetime.now(UTC)
    latest = datetime.fromisoformat(ehlo_keywords(config)[2].split()[2])
    after = datetime.now(UTC) + timedelta(seconds=1)
    assert before - timedelta(seconds=1) <= latest - timedelta(hours=1) <= after
