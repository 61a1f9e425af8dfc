"""Sink: takes everything and keeps nothing."""

from argparse import ArgumentParser
from importlib.metadata import version

import pytest
from tests.handlers.clients import HELLO, session
from tests.server.support import dialogue

from smtp_handlers import Sink
from smtp_handlers.version import __version__


def test_the_version() -> None:
    assert version("smtp-handlers") == __version__


async def test_it_takes_everything() -> None:
    async with dialogue(Sink()) as client:
        assert await client.deliver() == "250 OK"
        assert await client.deliver("") == "250 OK"
        assert await client.ask("VRFY anne") == (
            "252 Cannot VRFY user, but will accept message and try to deliver"
        )
        assert await client.ask("QUIT") == "221 Bye"


async def test_it_counts() -> None:
    sink = Sink()
    async with dialogue(sink) as client:
        await client.deliver()
        octets = sink.octets
        assert (sink.messages, sink.recipients) == (1, 1)
        await client.deliver("")
    assert (sink.messages, sink.octets, sink.recipients) == (2, octets, 2)
    assert octets > 0


async def test_it_does_not_count_what_is_not_complete() -> None:
    sink = Sink()
    async with session(sink, data_size_limit=1000) as client:
        assert (await client.send(b"x" * 2000 + b"\r\n")).code == 552
        assert (await client.send(HELLO, to=["a@x.example", "b@x.example"])).code == 250
    assert (sink.messages, sink.octets, sink.recipients) == (1, len(HELLO), 2)


def test_from_cli(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="smtp-server")
    assert isinstance(Sink.from_cli(parser), Sink)
    with pytest.raises(SystemExit):
        Sink.from_cli(parser, "anything")
    assert "the handler sink takes no arguments" in capsys.readouterr().err


def test_from_cli_of_a_subclass() -> None:
    class Mine(Sink):
        pass

    assert type(Mine.from_cli(ArgumentParser())) is Mine
