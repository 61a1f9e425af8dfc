"""The examples: pyright's strict mode has no remark about any of them, as mypy has none.

pyright runs on node, which it finds or fetches; where it cannot, there is nothing to see.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import smtp_handlers
import smtp_protocol
import smtp_server

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_examples_in_strict_mode(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    packages = [smtp_protocol, smtp_server, smtp_handlers]
    config = {
        "include": ["examples"],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        # Editable ones may be installed in a way that only an import follows.
        "extraPaths": [str(Path(str(package.__file__)).parents[1]) for package in packages],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    try:
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pyright cannot be fetched here, or not in time")
    if not run.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright cannot run here: {run.stderr.strip()[-200:]}")
    report = json.loads(run.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(EXAMPLES.glob("*.py")))
    assert [remark["message"] for remark in report["generalDiagnostics"]] == []
