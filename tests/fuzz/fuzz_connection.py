"""Fuzzing the engine and its readers with atheris, which has an environment of its own.

    hatch run fuzz:run -max_total_time=1200

Arguments are libFuzzer's. The corpus begins with the transcripts and is kept in .fuzz, which is
not part of the repository; a finding is written there, too, as crash-….
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["smtp_protocol"]):
    from tests.fuzz.corpus import write
    from tests.fuzz.target import one_input

_WORK = Path(__file__).parents[2] / ".fuzz"


def main() -> None:
    """Fuzz until somebody stops it, or a limit among the arguments does."""
    write(_WORK / "seeds")
    (_WORK / "corpus").mkdir(exist_ok=True)
    options = [f"-artifact_prefix={_WORK}/", "-max_len=6200", "-timeout=10", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *options, str(_WORK / "corpus"), str(_WORK / "seeds")], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
