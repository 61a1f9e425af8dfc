"""Configuration: which values there are, and that the wrong ones are told at once."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from smtp_protocol import ProtocolConfig


def test_defaults() -> None:
    config = ProtocolConfig()
    assert config.data_size_limit == 32 * 1024 * 1024
    assert config.extensions == frozenset()
    assert config.address_syntax == "lenient"
    assert config.bare_newline == "normalize"
    assert config.line_length_limit is None
    assert config.own_verbs == frozenset()
    assert set(config.mail_parameters) >= {"SIZE", "BODY", "SMTPUTF8"}


@pytest.mark.parametrize(
    "settings",
    [
        {"data_size_limit": None},
        {"data_size_limit": 0},
        {"address_syntax": "strict"},
        {"address_syntax": "local"},
        {"bare_newline": "reject"},
        {"bare_newline": "keep"},
        {"line_length_limit": 2},
    ],
)
def test_right_values(settings: dict[str, Any]) -> None:
    config = ProtocolConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_size_limit": -1}, "data_size_limit is a number of octets, not -1"),
        (
            {"address_syntax": "Strict"},
            "address_syntax is 'lenient', 'strict' or 'local', not 'Strict'",
        ),
        ({"bare_newline": "no"}, "bare_newline is 'normalize', 'reject' or 'keep', not 'no'"),
        ({"rcpt_max": 0}, "rcpt_max is at least 1, not 0"),
        ({"mail_max": -1}, "mail_max is at least 1, not -1"),
        ({"rcpt_domain_max": 0}, "rcpt_domain_max is at least 1, not 0"),
        ({"hold_max": 0}, "hold_max is at least 1, not 0"),
        ({"line_length_limit": 1}, "line_length_limit is a number of octets, at least 2"),
    ],
)
def test_wrong_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProtocolConfig(**settings)


def test_it_cannot_change() -> None:
    config = ProtocolConfig()
    with pytest.raises(FrozenInstanceError):
        config.bare_newline = "keep"  # type: ignore[misc]
