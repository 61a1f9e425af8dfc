"""The pytest plugin of smtp-server: as long as no test uses a fixture of it, it imports nothing.

It is no module of the package for that reason: pytest imports it in every run, and `smtp_server`
would come with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from smtp_server.testing import SMTPServer, SMTPServerFactory


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
def smtp_test_server_factory(request: pytest.FixtureRequest) -> Iterator[SMTPServerFactory]:
    """Start mail servers: ``smtpd_factory(tls="starttls")``; see `smtp_server.testing`."""
    from smtp_server.testing import SMTPServerFactory  # noqa: PLC0415 not before it is needed

    arguments: dict[str, Any] = {
        "tls": request.config.getini("smtp_tls") or None,
        "auth": request.config.getini("smtp_auth") or None,
    }
    for marker in reversed(list(request.node.iter_markers("smtp"))):  # the nearest one last
        if marker.args:
            raise TypeError(f"the smtp marker takes keywords alone, not {marker.args}")
        arguments.update(marker.kwargs)
    with SMTPServerFactory(**arguments) as factory:
        yield factory


@pytest.fixture
def smtp_test_server(smtp_test_server_factory: SMTPServerFactory) -> SMTPServer:
    """A mail server on a free port, which keeps what it gets; see `smtp_server.testing`."""
    return smtp_test_server_factory()


# The short names. pytest takes the fixture of the plugin that it has loaded last, which may be
# ours or another one; so each of ours is there only where no other plugin has one of its name.


class _Smtpd:
    @pytest.fixture
    def smtpd(self, smtp_test_server: SMTPServer) -> SMTPServer:
        """A mail server on a free port, which keeps what it gets; see `smtp_server.testing`."""
        return smtp_test_server


class _SmtpdFactory:
    @pytest.fixture
    def smtpd_factory(self, smtp_test_server_factory: SMTPServerFactory) -> SMTPServerFactory:
        """Start mail servers: ``smtpd_factory(tls="starttls")``; see `smtp_server.testing`."""
        return smtp_test_server_factory


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Add the short names that are free, before pytest collects the fixtures of the plugins."""
    manager = session.config.pluginmanager
    # The fixtures of a conftest go before those of all plugins, and may be made from ours.
    others = [plugin for name, plugin in manager.list_name_plugin() if "conftest.py" not in name]
    for name, plugin in (("smtpd", _Smtpd()), ("smtpd_factory", _SmtpdFactory())):
        if not any(_has_fixture(other, name) for other in others):
            manager.register(plugin, f"smtp_server_{name}")


def _has_fixture(plugin: object, name: str) -> bool:
    """Whether a plugin has a fixture of this name."""
    fixture = type(smtp_test_server)
    for attribute in dir(plugin):
        value = inspect.getattr_static(plugin, attribute, None)
        if isinstance(value, fixture) and name in (attribute, getattr(value, "name", None)):
            return True
    return False
