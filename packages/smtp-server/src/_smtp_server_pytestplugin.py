"""The pytest plugin of smtp-server: as long as no test uses its fixture, it imports nothing.

It is no module of the package for that reason: pytest imports it in every run, and `smtp_server`
would come with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from smtp_server.testing import SMTPServer


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the settings of a project may say of all its tests."""
    parser.addini("smtp_tls", "smtpd: TLS of the server, starttls or implicit; without it none")
    parser.addini("smtp_auth", "smtpd: lines user:password; without them no AUTH", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "smtp(tls=None, auth=None, **keywords): smtpd: the arguments of its SMTPServer",
    )


@pytest.fixture
def smtpd(request: pytest.FixtureRequest) -> Iterator[SMTPServer]:
    """A mail server on a free port, which keeps what it gets; see `smtp_server.testing`."""
    from smtp_server.testing import SMTPServer  # noqa: PLC0415 not before it is needed

    arguments: dict[str, Any] = {
        "tls": request.config.getini("smtp_tls") or None,
        "auth": request.config.getini("smtp_auth") or None,
    }
    for marker in reversed(list(request.node.iter_markers("smtp"))):  # the nearest one last
        if marker.args:
            raise TypeError(f"the smtp marker takes keywords alone, not {marker.args}")
        arguments.update(marker.kwargs)
    with SMTPServer(**arguments) as server:
        yield server
