"""pyright, which editors ask: good programs without a remark, and of bad ones the hook that is bad.

It runs on node, which it finds or fetches; where it cannot, there is nothing to see.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What pyright says of each file, in its strictest mode."""
    folder = tmp_path_factory.mktemp("pyright")
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(source) for source in ROOT.glob("packages/*/src")],
    }
    for file in (*HERE.glob("good_*.py"), *(HERE / "bad").glob("bad_*.py")):
        shutil.copy(file, folder)
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    # pyright asks the `python` on the path where packages are.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pyright", "--outputjson", "--project", str(folder)],
            cwd=folder,
            env={**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pyright cannot be fetched here, or not in time")
    if not run.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright cannot run here: {run.stderr.strip()[-200:]}")
    found: dict[str, list[str]] = {}
    for diagnostic in json.loads(run.stdout)["generalDiagnostics"]:
        found.setdefault(Path(diagnostic["file"]).stem, []).append(diagnostic["message"])
    return found


def test_good_programs(errors: dict[str, list[str]]) -> None:
    assert {name: found for name, found in errors.items() if name.startswith("good_")} == {}


def test_bad_programs(errors: dict[str, list[str]]) -> None:
    bad = {path.stem for path in (HERE / "bad").glob("bad_*.py")}
    assert bad, "there are bad programs"
    assert bad <= set(errors)


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("bad_return_type", "handle_DATA"),
        ("bad_argument_type", "handle_RCPT"),
        ("bad_signature", "handle_MAIL"),
    ],
)
def test_the_bad_hook_of_a_handler_without_a_base_class_is_named(
    name: str, hook: str, errors: dict[str, list[str]]
) -> None:
    """Not a hook that it has no need of: there are eighteen, and few lines are shown."""
    texts = [text for text in errors[name] if "AnyHandler" in text]
    assert texts
    assert all(f'"{hook}" is an incompatible type' in text for text in texts), texts
