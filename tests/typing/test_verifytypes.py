"""Types: every name of smtp_protocol has one that no type checker has to guess.

pyright runs on node, which it finds or fetches; where it cannot, there is nothing to see.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_smtp_protocol_is_typed_completely(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--ignoreexternal"]
    # pyright asks the `python` on the path where packages are.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        run = subprocess.run(
            [*command, "--verifytypes", "smtp_protocol"],
            cwd=tmp_path,
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
    report = json.loads(run.stdout)["typeCompleteness"]
    unclear = {
        symbol["name"]: [diagnostic["message"] for diagnostic in symbol["diagnostics"]]
        for symbol in report["symbols"]
        if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]
    }
    assert unclear == {}
    assert report["completenessScore"] == 1
