"""CONTRIBUTING.rst and SECURITY.rst: each file and each command that they name is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.rst", ROOT / "SECURITY.rst"]
SECURITY = PAGES[1].read_text("utf-8")

# What a page says in double backquotes and is a path: from the top folder, or a name with one of
# these endings that some file must have. A star stands for any characters.
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)+/?|\.?[\w*-]+\.(?:py|rst|md|toml|yaml)|[\w-]+/")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def paths(text: str) -> list[str]:
    """The paths that a page names, but not those that a build makes."""
    quoted = re.findall(r"``([^`]+)``", text)
    return [name for name in quoted if PATH.fullmatch(name) and name != "dist/"]


def exists(name: str) -> bool:
    """Whether there is such a file: at this path or, for a name alone, in one of the packages."""
    places = [name] if "/" in name else [name, f"packages/*/{name}", f"packages/*/src/*/{name}"]
    return any(True for place in places for _ in ROOT.glob(place))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tests/protocol", True),
        ("packages/", True),
        ("version.py", True),
        ("tests/conformance/transcripts/starttls*.txt", True),
        ("tests/protocol/test_nothing.py", False),
        ("transcripts/starttls*.txt", False),
        ("nothing.py", False),
    ],
)
def test_a_file_that_is_missing_is_seen(name: str, expected: bool) -> None:
    assert paths(f"The file ``{name}``.") == [name]
    assert exists(name) is expected


@each_page
def test_files_exist(page: Path) -> None:
    named = paths(page.read_text("utf-8"))
    assert len(named) > 10
    assert [name for name in named if not exists(name)] == []


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"`[^`<]*<(?!https?:)([^`>]*)>`_", page.read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@each_page
def test_the_readme_links_to_it(page: Path) -> None:
    assert f"]({page.name})" in (ROOT / "README.md").read_text("utf-8")


def test_commands_of_hatch_are_scripts() -> None:
    told = re.findall(r"\bhatch run (?:(\w+):)?([\w-]+)", PAGES[0].read_text("utf-8"))
    environments = tomllib.loads((ROOT / "hatch.toml").read_text("utf-8"))["envs"]
    assert ("", "gate") in told
    assert [
        (environment, script)
        for environment, script in told
        if script not in environments[environment or "default"]["scripts"]
    ] == []


def test_the_gate_is_told_as_in_the_readme() -> None:
    [command] = re.findall(r"^(.*) && \S*hatch run gate$", (ROOT / "README.md").read_text(), re.M)
    page = PAGES[0].read_text("utf-8")
    assert f"\n    {command}\n" in page
    assert "\n    .venv-hatch/bin/hatch run gate\n" in page


def promises() -> dict[str, str]:
    """What SECURITY.rst promises, each with the text up to the next."""
    [section] = re.findall(r"^What is promised\n=+\n(.*?)^What is not", SECURITY, re.M | re.S)
    return dict(re.findall(r"^\*\*(.*?)\*\*(.*?)(?=^\*\*|\Z)", section, re.M | re.S))


@pytest.mark.parametrize("promise", promises())
def test_each_promise_names_its_tests(promise: str) -> None:
    named = re.findall(r"^\* ``(tests/[^`]+)``$", promises()[promise], re.M)
    assert named
    for name in named:
        assert re.fullmatch(r"test_.*\.py|.*\.txt", Path(name).name)
        assert list(ROOT.glob(name))


def test_there_are_promises_about_each_threat() -> None:
    told = " ".join(promises())
    threats = ("smuggled", "relay", "injection", "passwords", "memory", "TLS", "Guessing", "who")
    assert [threat for threat in threats if threat.lower() not in told.lower()] == []
