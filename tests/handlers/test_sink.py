"""Sink: takes everything and keeps nothing."""

from argparse import ArgumentParser

import pytest
from tests.server.support import dialogue

from smtp_handlers import Sink


async def test_it_takes_everything() -> None:
    async with dialogue(Sink()) as client:
        assert await client.deliver() == "250 OK"
        assert await client.deliver("") == "250 OK"
        assert await client.ask("VRFY anne") == (
            "252 Cannot VRFY user, but will accept message and try to deliver"
        )
        assert await client.ask("QUIT") == "221 Bye"


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
