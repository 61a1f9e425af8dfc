"""The package: every public name is there, and what few programs need is imported for those."""

import subprocess
import sys

import pytest

import smtp_protocol

AUTH = {"smtp_protocol.sasl", "smtp_protocol.sasl.scram"}
LATE = [*AUTH, "smtp_protocol.serving"]


def test_every_public_name_is_there() -> None:
    for name in smtp_protocol.__all__:
        assert getattr(smtp_protocol, name) is not None


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sasl'"):
        getattr(smtp_protocol, "Sasl")  # noqa: B009 mypy knows it, too


def modules_after(statement: str) -> set[str]:
    """What a new interpreter has imported of `LATE` after a statement."""
    program = f"import sys; {statement}; print(*(name for name in {LATE} if name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_what_few_need_is_imported_when_it_is_asked_for() -> None:
    assert modules_after("import smtp_protocol") == set()
    assert modules_after("from smtp_protocol import MECHANISMS") >= AUTH
    assert modules_after("from smtp_protocol import HandlerConnection") == {"smtp_protocol.serving"}
    assert modules_after("from smtp_protocol import LoginPassword, Ask, Mechanism") == set()


def test_what_sasl_has_is_what_the_package_has() -> None:
    from smtp_protocol import sasl

    assert {*sasl.__all__} <= {*smtp_protocol.__all__}
    for name in sasl.__all__:
        assert getattr(sasl, name) is getattr(smtp_protocol, name)
