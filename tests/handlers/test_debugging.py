"""Debugging: prints each message, whole, and nothing in it that could act on a terminal."""

import io
import sys
import unicodedata
from argparse import ArgumentParser

import pytest
from tests.handlers.clients import session
from tests.server.support import dialogue

from smtp_handlers import Debugging
from smtp_protocol import Envelope, RcptOptions, Session
from smtp_server import SMTP

FIRST = "---------- MESSAGE FOLLOWS ----------"
LAST = "------------ END MESSAGE ------------"
PEER = ("192.0.2.1", 4000)
X_PEER = "X-Peer: ('192.0.2.1', 4000)"


async def printed(content: bytes, stream: io.TextIOBase | None = None) -> str:
    """What is printed of a message without options."""
    envelope = Envelope()
    envelope.content = content
    return await printed_envelope(envelope)


async def printed_envelope(envelope: Envelope) -> str:
    stream = io.StringIO()
    handler = Debugging(stream)
    reply = await handler.handle_DATA(SMTP(handler), Session(PEER), envelope)
    assert str(reply) == "250 2.0.0 OK"
    return stream.getvalue()


async def test_a_message() -> None:
    assert await printed(b"From: a\r\nSubject: b\r\n\r\nHi\r\n\r\nBye\r\n") == (
        f"{FIRST}\nFrom: a\nSubject: b\n{X_PEER}\n\nHi\n\nBye\n{LAST}\n"
    )


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", [X_PEER]),
        (b"\r\n", [X_PEER, ""]),
        (b"Only: headers\r\n", ["Only: headers", X_PEER]),
        (b"No line end", ["No line end", X_PEER]),
        (b"\r\nOnly a body\r\n", [X_PEER, "", "Only a body"]),
        ("Sub: grüße\r\n".encode(), ["Sub: grüße", X_PEER]),
        (b"Latin: gr\xfc\xdfe\r\n", ["Latin: gr\\xfc\\xdfe", X_PEER]),
        (b"\tTab\r\n", ["\tTab", X_PEER]),
        (b"\x1b[31mred\x07\r\n", ["\\x1b[31mred\\x07", X_PEER]),
        ("\x9b31m\x7f\0".encode(), ["\\x9b31m\\x7f\\x00", X_PEER]),
        (b"bare\rreturn\r\n", ["bare\\x0dreturn", X_PEER]),
        (b"A: b\n\nbody\n", ["A: b", X_PEER, "", "body"]),
        (b"A: b\r\n\nbody", ["A: b", X_PEER, "", "body"]),
        (
            "A: \u202egnp.exe\n\nx\u2066y\u2028".encode(),
            [
                "A: \\u202egnp.exe",
                X_PEER,
                "",
                "x\\u2066y\\u2028",
            ],
        ),
        ("\U000e0041\u00ad\ufe0f\u3164".encode(), ["\\U000e0041\\xad\\ufe0f\\u3164", X_PEER]),
    ],
)
async def test_what_is_in_a_message(content: bytes, lines: list[str]) -> None:
    assert (await printed(content)).split("\n") == [FIRST, *lines, LAST, ""]


# What Unicode's algorithm for both directions knows beside letters, digits and punctuation.
CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN", "B", "S"}


async def test_nothing_that_acts_or_hides_gets_through() -> None:
    everything = "".join(chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000)
    text = await printed(everything.replace("\r", "").replace("\n", "").encode())
    through = set(text) - {"\n", "\t"}
    assert {each for each in through if unicodedata.bidirectional(each) in CONTROLS} == set()
    assert {unicodedata.category(each) for each in through} == {
        *("Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No"),
        *("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zs"),
    }


@pytest.mark.parametrize("line", ["grüße", "孫子\u3000兵法", "می\xa0شود", "שלום", "na\u0308", "🎉"])
async def test_whatever_can_be_seen_is_printed(line: str) -> None:
    assert (await printed(line.encode())).split("\n")[1] == line


async def test_the_peer_and_the_options_hide_nothing() -> None:
    envelope = Envelope()
    envelope.mail_options.append("X=\u202e\u3164")
    stream = io.StringIO()
    handler = Debugging(stream)
    await handler.handle_DATA(SMTP(handler), Session("/run/\u202e\u3164\x1b"), envelope)
    text = stream.getvalue()
    assert "X-Peer: '/run/\\u202e\\u3164\\x1b'\n" in text
    assert "mail options: ['X=\\u202e\\u3164']\n" in text


class Breaks(io.StringIO):
    """A stream that can be broken and mended."""

    error: Exception | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [ValueError("I/O operation on closed file"), BrokenPipeError(32, "Broken pipe")]
)
async def test_a_stream_that_broke_is_told_of_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Breaks()
    async with session(Debugging(stream)) as client:
        stream.error = error
        assert {str(await client.send()) for _ in range(5)} == {
            "451 4.3.0 Cannot print the message, try again later"
        }
        [record] = caplog.records
        assert (record.levelname, record.exc_info) == ("ERROR", None)
        assert vars(record)["peer"] == "127.0.0.1"
        stream.error = None
        assert (await client.send()).code == 250
        stream.error = error
        assert (await client.send()).code == 451
    assert len(caplog.records) == 2


async def test_a_closed_stream(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    stream.close()
    async with session(Debugging(stream)) as client:
        assert [(await client.send()).code for _ in range(3)] == [451] * 3
    assert len(caplog.records) == 1


async def test_no_standard_output(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    async with session(Debugging()) as client:
        assert (await client.send()).code == 451
    assert "there is no standard output" in caplog.text


async def test_the_options() -> None:
    envelope = Envelope()
    envelope.content = b"x\r\n"
    envelope.mail_options.extend(["SIZE=5", "X=\x1b"])
    assert await printed_envelope(envelope) == (
        f"{FIRST}\nmail options: ['SIZE=5', 'X=\\x1b']\n\nx\n{X_PEER}\n{LAST}\n"
    )
    envelope.rcpt_options.extend(RcptOptions(["NOTIFY=NEVER"]))
    assert "rcpt options: ['NOTIFY=NEVER']\n\nx\n" in await printed_envelope(envelope)
    envelope.mail_options.clear()
    assert (await printed_envelope(envelope)).startswith(f"{FIRST}\nrcpt options: ")


async def test_a_stream_that_cannot_write_everything() -> None:
    octets = io.BytesIO()
    handler = Debugging(io.TextIOWrapper(octets, encoding="ascii"))
    envelope = Envelope()
    envelope.content = "grüße €\r\n".encode()
    await handler.handle_DATA(SMTP(handler), Session(), envelope)
    assert octets.getvalue() == f"{FIRST}\ngr\\xfc\\xdfe \\u20ac\nX-Peer: None\n{LAST}\n".encode()


async def test_the_standard_output_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    async with dialogue(Debugging()) as client:
        assert await client.deliver("Subject: x\r\n\r\nHi\r\n") == "250 OK"
        assert await client.deliver("second\r\n") == "250 OK"
    out = capsys.readouterr().out
    assert out.count(FIRST) == 2
    assert "Subject: x\nX-Peer: ('127.0.0.1', " in out


def test_from_cli(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="smtp-server")
    assert Debugging.from_cli(parser).stream is None
    assert Debugging.from_cli(parser, "stdout").stream is None
    assert Debugging.from_cli(parser, "stderr").stream is sys.stderr
    for args in (["file"], ["stdout", "stderr"]):
        with pytest.raises(SystemExit):
            Debugging.from_cli(parser, *args)
        assert "one argument: stdout or stderr" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
async def test_colour_on_a_terminal(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    envelope = Envelope()
    envelope.content = b"Subject: a: b\r\n folded: c\r\nno field\r\n\r\nBody: d\x1b[31m\r\n"
    handler = Debugging(stream)
    await handler.handle_DATA(SMTP(handler), Session(PEER), envelope)
    name, end = ("", "") if no_color else ("\x1b[36m", "\x1b[0m")
    assert stream.getvalue().split("\n")[1:-2] == [
        f"{name}Subject:{end} a: b",
        " folded: c",
        "no field",
        f"{name}X-Peer:{end} {X_PEER.removeprefix('X-Peer: ')}",
        "",
        "Body: d\\x1b[31m",
    ]
