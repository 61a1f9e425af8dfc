"""What the examples of the pages find around them."""

import shutil
from pathlib import Path

import pytest

from smtp_server import testing


@pytest.fixture(autouse=True)
def _certificate(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the page on servers, a certificate for localhost in the current folder."""
    if request.node.name == "server.rst":
        kit = Path(testing.__file__).parent
        shutil.copy(kit / "localhost.pem", tmp_path / "fullchain.pem")
        shutil.copy(kit / "localhost-key.pem", tmp_path / "privkey.pem")
        monkeypatch.chdir(tmp_path)
