"""Version: the wheel's own and the code's are the same."""

from importlib.metadata import version

from smtp_protocol.version import __version__


def test_version() -> None:
    assert version("smtp-protocol") == __version__
