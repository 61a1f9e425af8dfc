"""The page on testing: its programs are good, for pytest and for mypy, and its steps are all."""

import re
from pathlib import Path
from textwrap import dedent
from typing import get_args

import pytest
from mypy import api as mypy
from tests.testing_kit.test_plugin import OPTIONS

from smtp_server.testing import Step

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.rst").read_text("utf-8")
BLOCK = re.compile(r"^\.\. code-block:: \w+\n\n((?:    .*\n|\n)+)", re.MULTILINE)


def programs() -> dict[str, str]:
    """The blocks of the page, by the name of the file that each begins with."""
    blocks = [dedent(block) for block in BLOCK.findall(PAGE)]
    return {block.partition("\n")[0].removeprefix("# "): block for block in blocks}


def write(folder: Path) -> None:
    """Write the files of the page."""
    for name, text in programs().items():
        (folder / name).write_text(text, "utf-8")


def test_the_tests_pass(pytester: pytest.Pytester) -> None:
    write(pytester.path)
    (pytester.path / "pyproject.toml").unlink()
    written = sum(text.count("\ndef test_") for text in programs().values())
    assert written >= 7
    written += sum(text.count("\nasync def test_") for text in programs().values())
    options = [option for option in OPTIONS if option != "no:asyncio"]
    options.remove("-p")  # the one before it
    loop = "asyncio_default_fixture_loop_scope=function"  # it warns unless this is set
    pytester.runpytest_subprocess(*options, "-o", loop).assert_outcomes(passed=written)


def test_the_settings_are_good(pytester: pytest.Pytester) -> None:
    write(pytester.path)
    for unset in pytester.path.glob("test_*.py"):
        unset.unlink()
    pytester.makepyfile(
        """
        import smtplib

        import pytest

        def test_it_is_as_the_settings_say(smtpd):
            with smtplib.SMTP(smtpd.host, smtpd.port, timeout=30) as client:
                client.starttls(context=smtpd.client_context)
                client.login("reports", "secret")

        @pytest.mark.smtp(tls=None, auth=None)
        def test_an_exception(smtpd):
            with smtplib.SMTP(smtpd.host, smtpd.port, timeout=30) as client:
                client.sendmail("anne@example.com", ["bart@example.com"], "Subject: Hi")

        def test_the_fixtures(mail):
            with smtplib.SMTP(mail.host, mail.port, timeout=30) as client:
                client.ehlo()
                assert client.esmtp_features["size"] == "1000"
        """
    )
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=3)


def test_they_are_well_typed(tmp_path: Path) -> None:
    # Not with pytester, which makes Python forget what was imported meanwhile.
    write(tmp_path)
    output, errors, status = mypy.run(
        [
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--no-incremental",
            *map(str, sorted(tmp_path.glob("*.py"))),
        ]
    )
    assert (status, errors) == (0, ""), output


def test_all_steps_are_told() -> None:
    paragraph = PAGE[PAGE.index("A step is one of") :].partition("\n\n")[0]
    assert list(get_args(Step)) == list(dict.fromkeys(re.findall("``([A-Z_]+)``", paragraph)))
