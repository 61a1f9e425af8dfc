"""Proxy: what the client is told is what the next server did."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Unpack

import pytest
from tests.handlers.clients import HELLO, Client, connected, running
from tests.handlers.relay.driver import Options, idle_connections
from tests.handlers.test_mailbox import files, leftovers, until
from tests.handlers.upstreams import Upstream

from smtp_handlers import FanOut, Mailbox, Proxy, Sink
from smtp_handlers.relay.target import TLSMode
from smtp_server import serve

LINE = b"x" * 98 + b"\r\n"
EXTENSIONS = ["DSN"]
ALL = (
    "8BITMIME",
    "SIZE 1000000",
    "SMTPUTF8",
    "DSN",
    "AUTH PLAIN",
    "DELIVERBY",
    "MT-PRIORITY",
    "FUTURERELEASE",
    "RRVS",
    "CHUNKING",
    "BINARYMIME",
)


@asynccontextmanager
async def relay(
    upstream: Upstream, *, count: int = 1, **options: Unpack[Options]
) -> AsyncIterator[tuple[Client, ...]]:
    """A server with a Proxy to ``upstream``, and clients of it."""
    async with relay_by(upstream, count=count, **options) as (_, clients):
        yield clients


@asynccontextmanager
async def relay_by(
    upstream: Upstream, *, count: int = 1, **options: Unpack[Options]
) -> AsyncIterator[tuple[Proxy, tuple[Client, ...]]]:
    """The same, with the Proxy."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream.listening())
        proxy = Proxy("localhost", port, **options)
        stack.push_async_callback(proxy.close)
        here = await stack.enter_async_context(
            running(proxy, extensions=EXTENSIONS, enable_SMTPUTF8=True, data_size_limit=0)
        )
        clients = [await stack.enter_async_context(connected(here)) for _ in range(count)]
        yield proxy, tuple(clients)


pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


async def test_passed_on_step_by_step() -> None:
    upstream = Upstream()
    async with relay(upstream) as (client,):
        assert str(await client("MAIL FROM:<anne@example.com>")) == "250 2.0.0 MAIL done"
        assert upstream.commands == ["EHLO mx.example", "MAIL FROM:<anne@example.com>"]
        assert str(await client("RCPT TO:<bart@example.com>")) == "250 2.0.0 RCPT done"
        assert upstream.commands[2:] == ["RCPT TO:<bart@example.com>"]
        assert (await client("DATA")).code == 354
        assert str(await client.body(HELLO + b"..\r\n.x\r\n")) == "250 2.0.0 taken"
        [message] = upstream.messages
        received, subject, rest = message.partition(b"Subject")
        assert subject + rest == HELLO + b"...\r\n..x\r\n"
        assert received.startswith(b"Received: from client.example ([127.0.0.1])\r\n\tby mx.")
        assert b"\tfor <bart@example.com>;" in received


@pytest.mark.parametrize(
    ("verb", "answer", "told"),
    [
        ("MAIL", "550 5.7.1 not you", "550 5.7.1 not you"),
        ("MAIL", "452 4.3.1 no room", "452 4.3.1 no room"),
        ("MAIL", "421 4.3.2 going down", "451 4.3.2 going down"),
        (
            "RCPT",
            "550-5.1.1 not here\r\n550 5.1.1 at all",
            "550-5.1.1 not here\r\n550 5.1.1 at all",
        ),
        ("RCPT", "450 grey", "450 grey"),
        ("RCPT", "421 4.3.2 going down", "451 4.3.2 going down"),
        ("DATA", "554 5.5.1 no valid recipients", "554 5.5.1 no valid recipients"),
        ("DATA", "421 4.3.2 going down", "451 4.3.2 going down"),
        ("end", "552 5.2.2 full", "552 5.2.2 full"),
        ("end", "451 4.7.1 grey", "451 4.7.1 grey"),
        ("end", "421 4.3.2 going down", "451 4.3.2 going down"),
        # What is out of step is no yes.
        ("MAIL", "354 go on", "451 4.4.1 "),
        ("RCPT", "354 go on", "451 4.4.1 "),
        ("DATA", "250 fine", "451 4.4.1 "),
        ("end", "354 go on", "451 4.4.1 "),
        ("MAIL", "nonsense", "451 4.4.1 "),
        ("end", "25", "451 4.4.1 "),
    ],
)
async def test_refusals(verb: str, answer: str, told: str) -> None:
    upstream = Upstream(answers={verb: answer})
    async with relay(upstream) as (client,):
        assert str(await client.send()).startswith(told)
        assert (await client("NOOP")).code == 250
        # The next message goes through, over whichever connection.
        del upstream.answers[verb]
        assert str(await client.send()) == "250 2.0.0 taken"


async def test_some_recipients() -> None:
    upstream = Upstream(answers={"RCPT": ["250 2.1.5 one", "550 5.1.1 two", "251 2.1.5 three"]})
    async with relay(upstream) as (client,):
        await client("MAIL FROM:<a@x.example>")
        answers = [str(await client(f"RCPT TO:<{name}@x.example>")) for name in "bcd"]
        assert answers == ["250 2.1.5 one", "550 5.1.1 two", "251 2.1.5 three"]
        await client("DATA")
        assert (await client.body(HELLO)).code == 250


STEPS = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "end"]


@pytest.mark.parametrize("verb", STEPS)
async def test_dies(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    upstream = Upstream(die_at=verb)
    async with relay(upstream) as (client,):
        assert str(await client.send(HELLO + LINE * 50_000)).startswith("451 4.4.1 ")
        assert (await client("NOOP")).code == 250
        await until(lambda: upstream.open == 0)
        upstream.die_at = ""
        assert str(await client.send()) == "250 2.0.0 taken"
    # At "end" it had the message, and we cannot know: the client is to try again.
    assert len(upstream.messages) == (2 if verb == "end" else 1)
    assert "The next server failed" in caplog.text


@pytest.mark.parametrize("verb", STEPS)
async def test_stalls(verb: str) -> None:
    upstream = Upstream(stall_at=verb)
    connecting = verb in ("greeting", "EHLO")
    async with relay(
        upstream, timeout=20 if connecting else 0.3, connect_timeout=0.3 if connecting else 20
    ) as (client,):
        assert str(await client.send(HELLO + LINE * 50_000)).startswith("451 4.4.1 ")
        assert (await client("NOOP")).code == 250


async def test_away(caplog: pytest.LogCaptureFixture) -> None:
    async with Upstream().listening() as port:
        pass
    async with running(Proxy("127.0.0.1", port)) as here, connected(here) as client:
        assert str(await client.send()).startswith("451 4.4.1 ")
        # A client that pipelines is told the same for the rest.
        assert (await client("RCPT TO:<b@x.example>")).code == 503


@pytest.mark.parametrize("greeting", ["554 no", "421 busy", "hello"])
async def test_no_service(greeting: str) -> None:
    async with relay(Upstream(answers={"greeting": greeting})) as (client,):
        assert str(await client.send()).startswith("451 4.4.1 ")


async def test_refused_in_mid_message() -> None:
    upstream = Upstream(answers={"body": "552 5.3.4 far too much"})
    async with relay(upstream) as (client,):
        assert str(await client.send(LINE * 100_000)) == "552 5.3.4 far too much"
        await until(lambda: upstream.open == 0)
        assert (await client("NOOP")).code == 250


async def test_server_without_ehlo() -> None:
    upstream = Upstream(answers={"EHLO": "502 5.5.1 what?"})
    async with relay(upstream) as (client,):
        assert (await client("MAIL FROM:<a@x.example> SIZE=100")).code == 250
        assert upstream.commands[1:] == ["HELO mx.example", "MAIL FROM:<a@x.example>"]


# The client goes away, gives up, or asks for too much.


@pytest.mark.parametrize("after", ["MAIL", "RCPT"])
async def test_rset(after: str) -> None:
    upstream = Upstream()
    async with relay_by(upstream) as (proxy, (client,)):
        await client("MAIL FROM:<a@x.example>")
        if after == "RCPT":
            await client("RCPT TO:<b@x.example>")
        assert (await client("RSET")).code == 250
        await until(lambda: idle_connections(proxy) == 1)
        assert upstream.commands[-1] == "RSET"
        assert (await client.send()).code == 250
    assert len(upstream.messages) == upstream.connections == 1


@pytest.mark.parametrize("farewell", ["QUIT", "EHLO again", ""])
async def test_gone_in_mid_transaction(farewell: str) -> None:
    upstream = Upstream()
    async with relay_by(upstream, count=2) as (proxy, (client, other)):
        await client("MAIL FROM:<a@x.example>")
        await client("RCPT TO:<b@x.example>")
        if farewell:
            await client(farewell)
        await client.close()
        await until(lambda: idle_connections(proxy) == 1)
        assert upstream.commands[-1] == "RSET"
        assert (await other.send()).code == 250
    assert len(upstream.messages) == upstream.connections == 1


async def test_gone_in_mid_message() -> None:
    upstream = Upstream()
    async with relay(upstream) as (client,):
        for line in ("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"):
            await client(line)
        client.writer.write(LINE * 5000)
        await client.writer.drain()
        await client.close()
        await until(lambda: upstream.connections == 1 and upstream.open == 0)
    assert upstream.messages == []


async def test_too_large_for_our_own_server() -> None:
    upstream = Upstream()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream.listening())
        here = await stack.enter_async_context(
            running(Proxy("127.0.0.1", port), data_size_limit=100_000)
        )
        client = await stack.enter_async_context(connected(here))
        assert (await client.send(LINE * 2000)).code == 552
        await until(lambda: upstream.open == 0)
        assert (await client.send()).code == 250
    assert len(upstream.messages) == 1


# Connections are kept and shared.


async def test_connections_are_kept() -> None:
    upstream = Upstream()
    async with relay(upstream, count=3) as clients:
        for client in clients * 2:
            assert (await client.send()).code == 250
        assert upstream.connections == 1
        assert (await asyncio.gather(*(client.send() for client in clients)))[0].code == 250
        assert upstream.connections <= 3


async def test_a_kept_connection_that_is_gone_loses_nothing() -> None:
    upstream = Upstream()
    async with relay(upstream) as (client,):
        assert (await client.send()).code == 250
        for task in upstream.tasks:
            task.cancel()
        assert (await client.send()).code == 250
        assert upstream.connections == 2
        # It may also say so only when it is asked.
        upstream.answers["MAIL"] = ["421 4.4.2 idle", "250 OK"]
        assert (await client.send()).code == 250
    assert len(upstream.messages) == upstream.connections == 3


async def test_kept_connections_are_few_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream()
    monkeypatch.setattr("smtp_handlers.relay.proxy._KEPT", 0.05)
    async with relay(upstream, count=4, pool_size=2) as clients:
        for client in clients:
            await client("MAIL FROM:<a@x.example>")
        assert upstream.open == 4
        for client in clients:
            await client("RSET")
        await until(lambda: upstream.open == 0)
    assert upstream.commands.count("QUIT") == 4


async def test_most_connections() -> None:
    async with relay(Upstream(), count=3, max_connections=2) as (one, two, three):
        assert (await one("MAIL FROM:<a@x.example>")).code == 250
        assert (await two("MAIL FROM:<a@x.example>")).code == 250
        assert str(await three("MAIL FROM:<a@x.example>")).startswith("451 4.4.5 ")
        await one("RSET")
        assert (await one.send()).code == 250
        assert (await three.send()).code == 250


async def test_a_slow_transaction_stalls_nobody_else() -> None:
    upstream = Upstream(stall_at="end")
    async with relay(upstream, count=2) as (slow, other):
        sending = asyncio.create_task(slow.send())
        await until(lambda: upstream.stalled == 1)
        upstream.stall_at = ""
        assert (await other.send()).code == 250
        assert not sending.done()
        for task in upstream.tasks:
            task.cancel()
        assert (await sending).code == 451


async def test_leaves_nothing_open_at_the_end_of_the_loop() -> None:
    upstream = Upstream()
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port)
        service = await serve(proxy, "127.0.0.1", 0).start()
        async with connected(service.port) as client:
            assert (await client.send()).code == 250
        service.stop_listening()
        assert upstream.open == 1
    # The end of the test's loop closes it; a socket left open would be a warning, thus an error.


async def test_the_end_of_the_server_closes_what_is_idle() -> None:
    upstream = Upstream()
    async with upstream.listening() as port:
        proxy = Proxy("127.0.0.1", port)
        for number in (1, 2):
            async with running(FanOut(Sink(), proxy)) as here, connected(here) as client:
                assert (await client.send()).code == 250
                assert upstream.open == 1
            await until(lambda: upstream.open == 0)
            assert upstream.connections == number


# Parameters.


@pytest.mark.parametrize(
    ("mail", "rcpt"),
    [
        ("", ""),
        (" BODY=8BITMIME", ""),
        (" BODY=7BIT", ""),
        (" SMTPUTF8 BODY=8BITMIME", ""),
        (" RET=HDRS ENVID=hi+20there", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d"),
    ],
)
async def test_parameters_are_passed_on(mail: str, rcpt: str) -> None:
    upstream = Upstream(extensions=ALL)
    async with relay(upstream) as (client,):
        assert (await client(f"MAIL FROM:<a@x.example>{mail}")).code == 250
        assert (await client(f"RCPT TO:<b@x.example>{rcpt}")).code == 250
    assert f"MAIL FROM:<a@x.example>{mail}" in upstream.commands
    assert f"RCPT TO:<b@x.example>{rcpt}" in upstream.commands


async def test_parameters_that_may_be_left_out() -> None:
    upstream = Upstream(extensions=["PIPELINING"])
    async with relay(upstream) as (client,):
        mail = "SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x"
        assert (await client(f"MAIL FROM:<a@x.example> {mail}")).code == 250
        rcpt = "NOTIFY=FAILURE ORCPT=rfc822;c@d"
        assert (await client(f"RCPT TO:<b@x.example> {rcpt}")).code == 250
        assert upstream.commands[1:] == ["MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>"]
        await client("DATA")
        assert (await client.body(HELLO)).code == 250


async def test_utf8_addresses() -> None:
    upstream = Upstream(extensions=["SMTPUTF8", "8BITMIME"])
    async with relay(upstream) as (client,):
        assert (await client("MAIL FROM:<é@x.example> SMTPUTF8")).code == 250
        assert (await client("RCPT TO:<ö@x.example>")).code == 250
        await client("DATA")
        assert (await client.body("Subject: é\r\n\r\n".encode())).code == 250
    assert "RCPT TO:<ö@x.example>" in upstream.commands
    assert "for <ö@x.example>" in upstream.messages[0].decode()


async def test_utf8_is_refused_where_it_is_needed_and_not_to_be_had() -> None:
    upstream = Upstream()
    async with relay(upstream) as (client,):
        reply = await client("MAIL FROM:<é@x.example> SMTPUTF8")
        assert str(reply).startswith("553 5.6.7 ")
        assert (await client("MAIL FROM:<a@x.example> SMTPUTF8")).code == 250
        assert str(await client("RCPT TO:<ö@x.example>")).startswith("553 5.6.7 ")
        assert (await client("RCPT TO:<o@x.example>")).code == 250
        await client("DATA")
        assert str(await client.body("Subject: é\r\n\r\n".encode())).startswith("554 5.6.9 ")
        # In the body it is 8-bit text like any other.
        await client("MAIL FROM:<a@x.example> SMTPUTF8 BODY=8BITMIME")
        await client("RCPT TO:<o@x.example>")
        await client("DATA")
        assert (await client.body("Subject: e\r\n\r\né\r\n".encode())).code == 250
    assert len(upstream.messages) == 1


async def test_eight_bit_text() -> None:
    upstream = Upstream(extensions=["SIZE 1000000"])
    async with relay(upstream) as (client,):
        for body, answer in ((b"\r\n\xe9\r\n", "554 5.6.3 "), (b"\r\ne\r\n", "250 ")):
            await client("MAIL FROM:<a@x.example> BODY=8BITMIME")
            await client("RCPT TO:<b@x.example>")
            await client("DATA")
            assert str(await client.body(body)).startswith(answer)
    assert len(upstream.messages) == 1


@asynccontextmanager
async def binary_relay(upstream: Upstream) -> AsyncIterator[Client]:
    """A server that takes binary messages, with a Proxy to ``upstream``, and a client of it."""
    async with AsyncExitStack() as stack:
        proxy = Proxy("127.0.0.1", await stack.enter_async_context(upstream.listening()))
        stack.push_async_callback(proxy.close)
        here = await stack.enter_async_context(
            running(proxy, extensions=["CHUNKING", "BINARYMIME"])
        )
        yield await stack.enter_async_context(connected(here))


async def bdat(client: Client, *chunks: bytes) -> str:
    """Send a binary message in chunks; the result is the last answer."""
    answer = await client("MAIL FROM:<a@x.example> BODY=BINARYMIME")
    if answer.positive:
        await client("RCPT TO:<b@x.example>")
        for number, chunk in enumerate(chunks, 1):
            last = " LAST" if number == len(chunks) else ""
            client.writer.write(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
            answer = await client.reply()
    return str(answer)


async def test_binary_messages() -> None:
    upstream = Upstream(extensions=ALL)
    async with binary_relay(upstream) as client:
        chunks = [b"\r\n.\r\n\0\n\r", b".\xff" * 50_000, b""]
        assert await bdat(client, *chunks) == "250 2.0.0 taken"
        assert b"".join(upstream.messages).endswith(b"\r\n" + b"".join(chunks))
        assert "MAIL FROM:<a@x.example> BODY=BINARYMIME" in upstream.commands
        assert "DATA" not in upstream.verbs()
        upstream.answers["BDAT"] = "552 5.3.4 too much"
        assert await bdat(client, *chunks) == "552 5.3.4 too much"
        upstream.answers.clear()
        assert await bdat(client, *chunks) == "250 2.0.0 taken"


async def test_binary_messages_are_refused_where_they_are_not_taken() -> None:
    upstream = Upstream(extensions=["CHUNKING", "8BITMIME"])
    async with binary_relay(upstream) as client:
        assert (await bdat(client, b"")).startswith("554 5.6.3 ")
        assert (await client.send()).code == 250
        # Chunks that are text go on with DATA.
        await client("MAIL FROM:<a@x.example> BODY=8BITMIME")
        await client("RCPT TO:<b@x.example>")
        client.writer.write(b"BDAT 10\r\n\r\n.\r\na\nb\r\nBDAT 3 LAST\r\n\xe9\r\n")
        assert [(await client.reply()).code for _ in range(2)] == [250, 250]
    assert upstream.messages[1].endswith(b"\r\n\r\n..\r\na\r\nb\r\n\xe9\r\n")


async def test_chunks_that_break_off() -> None:
    upstream = Upstream(extensions=ALL)
    async with binary_relay(upstream) as client:
        await client("MAIL FROM:<a@x.example> BODY=BINARYMIME")
        await client("RCPT TO:<b@x.example>")
        client.writer.write(b"BDAT 3\r\nabc")
        assert (await client.reply()).code == 250
        assert (await client("RSET")).code == 250
        await until(lambda: upstream.open == 0)
        assert not any(command.endswith("LAST") for command in upstream.commands)
        assert (await client.send()).code == 250


async def test_loops() -> None:
    upstream = Upstream()
    async with relay(upstream, max_hops=3) as (client,):
        hop = b"Received: from a by b;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        assert (await client.send(hop * 3 + b"\r\n" + hop * 10)).code == 250
        assert str(await client.send(hop * 4 + b"\r\n")).startswith("554 5.4.6 ")
    assert len(upstream.messages) == 1


async def test_bare_newlines_are_not_passed_on() -> None:
    upstream = Upstream()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream.listening())
        proxy = Proxy("127.0.0.1", port)
        here = await stack.enter_async_context(running(proxy, bare_newline="keep"))
        client = await stack.enter_async_context(connected(here))
        for line in ("MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"):
            await client(line)
        client.writer.write(b"a\n.\nMAIL FROM:<evil@x.example>\r.\r\nb\r\n.\r\n")
        assert (await client.reply()).code == 250
        await proxy.close()
    end = b"a\r\n..\r\nMAIL FROM:<evil@x.example>\r\n..\r\nb\r\n"
    assert upstream.messages[0].endswith(b"\r\n" + end)


# Kinds of connections.


TLS = ("STARTTLS", "AUTH PLAIN LOGIN", "8BITMIME")


@pytest.mark.parametrize("tls", ["required", "opportunistic"])
async def test_starttls(
    tls: TLSMode, server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    upstream = Upstream(extensions=TLS, context=server_context)
    context = trusting if tls == "required" else None
    async with relay(upstream, tls=tls, tls_context=context) as (client,):
        assert (await client.send(LINE * 10_000)).code == 250
    assert upstream.verbs() == "STARTTLS MAIL RCPT DATA QUIT"


async def test_implicit_tls(server_context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    upstream = Upstream(context=server_context)
    async with upstream.listening(implicit=True) as port:
        proxy = Proxy("localhost", port, tls="implicit", tls_context=trusting)
        async with running(proxy) as here, connected(here) as client:
            assert (await client.send(LINE * 10_000)).code == 250
        await proxy.close()
    assert upstream.verbs() == "MAIL RCPT DATA QUIT"


@pytest.mark.parametrize("implicit", [True, False])
async def test_certificate_that_nobody_trusts(
    implicit: bool, server_context: ssl.SSLContext
) -> None:
    upstream = Upstream(extensions=TLS, context=server_context)
    async with upstream.listening(implicit=implicit) as port:
        proxy = Proxy("localhost", port, tls="implicit" if implicit else "required")
        async with running(proxy) as here, connected(here) as client:
            assert str(await client.send()).startswith("451 4.7.5 ")
    assert "MAIL" not in upstream.verbs()


async def test_required_tls_that_is_not_offered() -> None:
    upstream = Upstream()
    async with relay(upstream, tls="required") as (client,):
        assert str(await client.send()).startswith("451 4.7.4 ")
    assert upstream.verbs() == ""


@pytest.mark.parametrize("answer", ["220 go on", "454 4.7.0 not now"])
async def test_opportunistic_tls_that_fails(answer: str) -> None:
    # Behind the 220 there is no TLS, only more SMTP.
    upstream = Upstream(extensions=TLS, answers={"STARTTLS": answer})
    upstream.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with relay(upstream) as (client,):
        assert (await client.send()).code == 250
    assert upstream.verbs().endswith("MAIL RCPT DATA QUIT")


async def test_tls_that_is_off(server_context: ssl.SSLContext) -> None:
    upstream = Upstream(extensions=TLS, context=server_context)
    async with relay(upstream, tls="off") as (client,):
        assert (await client.send()).code == 250
    assert upstream.verbs() == "MAIL RCPT DATA QUIT"


async def test_plaintext_behind_starttls_is_dropped(
    server_context: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    injected = "220 go on\r\n250-injected\r\n250 AUTH PLAIN"
    upstream = Upstream(
        extensions=["STARTTLS"], context=server_context, answers={"STARTTLS": injected}
    )
    async with relay(upstream, tls="required", tls_context=trusting) as (client,):
        assert str(await client.send()) == "250 2.0.0 taken"


LOGIN: Options = {"tls": "off", "username": "anne", "password": "se cret"}


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ("AUTH PLAIN LOGIN", ["AUTH PLAIN AGFubmUAc2UgY3JldA=="]),
        ("AUTH CRAM-MD5 LOGIN", ["AUTH LOGIN", "YW5uZQ==", "c2UgY3JldA=="]),
    ],
)
async def test_credentials(offered: str, words: list[str]) -> None:
    upstream = Upstream(
        extensions=[offered],
        answers={
            "AUTH": "334 more" if len(words) == 3 else "235 2.7.0 welcome",
            "YW5UZQ==": "334 more",
            "C2UGY3JLDA==": "235 2.7.0 welcome",
        },
    )
    async with relay(upstream, **LOGIN) as (client,):
        assert (await client.send()).code == 250
    assert upstream.commands[1 : len(words) + 1] == words


@pytest.mark.parametrize(
    ("offered", "answer"),
    [("AUTH PLAIN", "535 5.7.8 no"), ("AUTH CRAM-MD5", ""), ("SIZE", ""), ("AUTH PLAIN", "250 hm")],
)
async def test_credentials_that_are_not_taken(
    offered: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream = Upstream(extensions=[offered], answers={"AUTH": answer})
    async with relay(upstream, **LOGIN) as (client,):
        assert str(await client.send()).startswith("451 4.7.0 ")
    assert "MAIL" not in upstream.verbs()
    assert "se cret" not in caplog.text
    assert "AGFubmUAc2UgY3JldA==" not in caplog.text


async def test_unix_socket_and_lmtp(tmp_path: Path) -> None:
    upstream = Upstream(lmtp=True, answers={"end": ["250 2.1.5 one", "452 4.2.2 two full"]})
    async with upstream.listening(unix_socket=tmp_path / "socket"):
        proxy = Proxy(unix_socket=tmp_path / "socket", lmtp=True)
        async with running(proxy) as here, connected(here) as client:
            # Over SMTP there is but one answer: the worst.
            answer = await client.send(to=["a@x.example", "b@x.example"])
            assert str(answer) == "452 4.2.2 two full"
        await proxy.close()
    assert upstream.commands[0] == "LHLO mx.example"


async def test_lmtp_that_dies_between_its_answers() -> None:
    upstream = Upstream(lmtp=True, answers={"end": ["250 2.1.5 one", "rubbish"]})
    async with relay(upstream, lmtp=True) as (client,):
        answer = await client.send(to=["a@x.example", "b@x.example", "c@x.example"])
        assert str(answer).startswith("451 4.4.1 ")


async def test_our_own_server_behind(tmp_path: Path) -> None:
    content = HELLO + LINE * 20_000
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(running(Mailbox(tmp_path)))
        proxy = Proxy("127.0.0.1", behind)
        stack.push_async_callback(proxy.close)
        here = await stack.enter_async_context(running(proxy))
        client = await stack.enter_async_context(connected(here))
        assert (await client.send(content)).code == 250
        assert (await client.send(b"")).code == 250
    assert [path.read_bytes().endswith(content) for path in files(tmp_path)] == [True, False]


async def test_with_fan_out(tmp_path: Path) -> None:
    upstream = Upstream(answers={"end": "451 4.2.0 later"})
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream.listening())
        proxy = Proxy("127.0.0.1", port)
        stack.push_async_callback(proxy.close)
        handler = FanOut(Mailbox(tmp_path), proxy)
        here = await stack.enter_async_context(running(handler))
        client = await stack.enter_async_context(connected(here))
        assert str(await client.send(LINE * 10_000)) == "451 4.2.0 later"
        assert files(tmp_path) == leftovers(tmp_path) == []
        del upstream.answers["end"]
        assert (await client.send()).code == 250
    assert len(files(tmp_path)) == 1
