"""The pages: their examples run and are well typed, and what they tell of the command is so.

`>>>` examples run as doctests, which pyproject.toml asks pytest for.
"""

import doctest
import pkgutil
import re
import socket
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from logging import Logger
from pathlib import Path
from xml.etree import ElementTree

import pytest
from docs import state_diagram
from mypy import api as mypy

from smtp_protocol import State
from smtp_protocol.state import (
    INTERMEDIATE_TRANSITIONS,
    REFUSED_TRANSITIONS,
    TRANSITIONS,
)
from smtp_server.cli import parseargs
from smtp_server.settings import Settings

DOCS = Path(__file__).parent
PAGES = sorted(DOCS.rglob("*.rst"))
GETTING_STARTED = (DOCS / "getting-started.rst").read_text("utf-8")

ARCHITECTURE = (DOCS / "architecture.rst").read_text("utf-8")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def statements(page: Path) -> list[str]:
    """The `>>>` examples of a page."""
    return [example.source for example in doctest.DocTestParser().get_examples(page.read_text())]


def test_examples_are_well_typed(tmp_path: Path) -> None:
    """All at once, for mypy needs most of its time for what they import."""
    for page in PAGES:
        program = tmp_path / f"{re.sub(r'[-.]', '_', page.stem)}_page.py"
        program.write_text("\n".join(statements(page)), "utf-8")
    programs = map(str, sorted(tmp_path.glob("*.py")))
    output, errors, status = mypy.run(
        ["--config-file", str(DOCS.parent / "pyproject.toml"), "--no-incremental", *programs]
    )
    assert (status, errors) == (0, ""), output


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"`[^`<]*<(?!https?:)([^`>]*)>`_", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_options_are_those_of_the_command() -> None:
    parser, _ = parseargs([])
    told = re.findall(r"^``(-\w)[^`]*``, ``(--[a-z]+)[^`]*``$", GETTING_STARTED, re.MULTILINE)
    usage = re.findall(r"^  (-\w)[^,\n]*, (--[a-z]+)", parser.format_help(), re.MULTILINE)
    assert sorted(told) == sorted(usage)


@pytest.mark.parametrize("command", ["smtp-server", "python -m smtp_server"])
def test_first_dialogue(command: str) -> None:
    assert f"\n    $ {command} -n\n" in GETTING_STARTED
    program = {
        "smtp-server": [str(Path(sys.executable).with_name("smtp-server"))],
        "python -m smtp_server": [sys.executable, "-m", "smtp_server"],
    }[command]
    [dialogue] = re.findall(
        r"\^\]'\.\n    220 \S+ (Python SMTP) .*\n    (QUIT)\n    (221 Bye)\n", GETTING_STARTED
    )
    with subprocess.Popen(
        [*program, "-n", "-l", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            match = re.fullmatch(r"smtp-server \S+ listens on 127\.0\.0\.1:(\d+)\n", line)
            assert match, line
            with (
                socket.create_connection(("127.0.0.1", int(match[1])), timeout=10) as client,
                client.makefile("rwb", buffering=0) as stream,
            ):
                ident, quit_, bye = dialogue
                greeting = stream.readline().decode()
                assert re.fullmatch(rf"220 \S+ {ident} \S+\r\n", greeting)
                stream.write(f"{quit_}\r\n".encode())
                assert stream.read() == f"{bye}\r\n".encode()
            process.terminate()
            assert (process.wait(10), process.stderr.read()) == (0, "")
        finally:
            process.kill()


def transitions() -> list[str]:
    """The lines of the table of states, made from the tables in the code."""
    tables = {"2yz": TRANSITIONS, "3yz": INTERMEDIATE_TRANSITIONS, "45yz": REFUSED_TRANSITIONS}
    lines = []
    for state in State:
        name = state.name
        for reply, table in tables.items():
            row = table.get(state, {})
            for after in dict.fromkeys(row.values()):
                requests = " ".join(kind.__name__ for kind in row if row[kind] is after)
                lines.append(f"{name:11}{requests:63}{reply:7}{after.name}")
                name = ""
    return lines


def test_table_of_states() -> None:
    table = "\n".join(f"    {line}" for line in transitions())
    assert f"\n{table}\n\n" in ARCHITECTURE, f"the table is\n{table}"


def test_diagram_of_states() -> None:
    assert state_diagram.FILE.read_text("utf-8") == state_diagram.draw(), (
        "python docs/state_diagram.py draws it anew"
    )
    root = ElementTree.fromstring(state_diagram.draw())
    texts = " ".join(root.itertext())
    requests = {kind.__name__ for row in TRANSITIONS.values() for kind in row}
    names = {*requests, *(state.name for state in State)}
    assert {name for name in names if name not in texts} == set()


@each_page
def test_names_with_their_package_exist(page: Path) -> None:
    found = re.findall(r"``(smtp_(?:server|protocol|handlers))\.([\w.]+)", page.read_text("utf-8"))
    assert [name for name in found if not exists(*name)] == []


def exists(package: str, path: str) -> bool:
    """Whether ``path`` leads somewhere from the package, through modules and attributes."""
    try:
        pkgutil.resolve_name(f"{package}.{path}")
    except (AttributeError, ImportError):
        # Loggers and entry-point groups have the form of a name.
        name = f"{package}.{path}"
        return name in Logger.manager.loggerDict or bool(entry_points(group=name))
    return True


def test_keywords_of_smtp_with_their_defaults() -> None:
    page = (DOCS / "api" / "smtp_server.rst").read_text("utf-8")
    [section] = re.findall(r"^``SMTP``\n-+\n(.*?)^``\w+``\n-+$", page, re.M | re.S)
    told = re.findall(r"``(\w+)=([^`]+)``", "\n".join(re.findall(r"^\* .*", section, re.M)))
    told += re.findall(r"^  .*?``(\w+)=([^`]+)``", section, re.M)
    defaults = {field.name: str(field.default) for field in fields(Settings)}
    assert {name: value.strip('"') for name, value in told} == defaults


# What the README calls a row of the benchmarks, and where its figures stand in that row.
FIGURES = {
    "a message of 1 KiB on a session that is kept": ("A 1 KiB, 10 kept sessions", (0, 2)),
    "the same with a connection for each message": ("B 1 KiB, a connection each", (0, 2)),
    "messages of 10 MB": ("C 10 MB bodies", (0, 2)),
    "peak of memory for a message of 50 MB": ("F 50 MB, peak of memory", (0, 2)),
    "memory of an idle connection": ("E idle connection", (0, 2)),
    "import": ("G import", (0, 2)),
    "from the start of the process to listening": ("G start to listening", (0, 2)),
}


def cells(line: str) -> list[str]:
    """What stands in a line of a table, behind the row's name."""
    return [cell.strip() for cell in re.split(r"\s*\|\s*|\s{2,}", line.strip(" |"))][1:]


def test_figures_of_the_readme_are_measured() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    # The first table of figures is that of CPU time, memory and time to start.
    benchmarks = (DOCS / "benchmarks.rst").read_text("utf-8").partition("\nFigures\n")[2]
    for name, (row, places) in FIGURES.items():
        [told] = re.findall(rf"^\| {re.escape(name)} \|.*$", readme, re.MULTILINE)
        measured = re.findall(rf"^{re.escape(row)}  .*$", benchmarks, re.MULTILINE)[0]
        figures = cells(measured)[1:]  # the first is the unit
        expected = [figures[place].split()[0] for place in places]
        assert [cell.split()[0] for cell in cells(told)] == expected, name
    first = re.findall(r"^A 1 KiB, 10 kept sessions  .*$", benchmarks, re.MULTILINE)[0]
    assert cells(first)[-2:] == re.findall(r"at\s+([\d.]+) µs", readme)
    streamed = re.findall(r"^F 50 MB streamed, peak .*$", benchmarks, re.MULTILINE)[0]
    assert re.findall(r"as a stream ([\d.]+) times", readme) == [cells(streamed)[1].split()[0]]
