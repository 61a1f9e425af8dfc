"""Transactions: a whole one with a handler, in SMTP or LMTP, by DATA or BDAT, without a server."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from tests.handlers.clients import HELLO

from smtp_protocol import AnyHandler, HandlerConnection, ProtocolConfig, Reply, ReplyReader

__all__ = ["MODES", "Mode", "Transaction", "transaction"]


@dataclass(frozen=True)
class Mode:
    """How a message comes."""

    lmtp: bool = False
    chunked: bool = False

    def __str__(self) -> str:
        return f"{'LMTP' if self.lmtp else 'SMTP'}-{'BDAT' if self.chunked else 'DATA'}"


#: SMTP and LMTP, each with a message that comes by DATA and in chunks by BDAT.
MODES = [Mode(lmtp, chunked) for lmtp in (False, True) for chunked in (False, True)]


@dataclass
class Transaction:
    """The replies of one transaction.

    Attributes:
        mail: To MAIL.
        rcpt: To each RCPT, by address.
        final: To the message; there are none where it could not be sent.
        mode: How the message came.
    """

    mail: Reply
    rcpt: dict[str, Reply]
    final: list[Reply]
    mode: Mode

    def accepted(self) -> list[str]:
        """Those whose RCPT was answered 250."""
        return [address for address, reply in self.rcpt.items() if reply.code == 250]

    def taken(self) -> list[str]:
        """Those who were told 250 at the end."""
        final = self.final if self.mode.lmtp else self.final * len(self.accepted())
        pairs = zip(self.accepted(), final, strict=bool(self.final))
        return [address for address, reply in pairs if reply.code == 250]


async def transaction(
    handler: AnyHandler,
    to: Sequence[str],
    mode: Mode = MODES[0],
    content: bytes = HELLO,
    *,
    on_failure: Callable[[Exception], object] = lambda error: None,
) -> Transaction:
    """Send one message and quit, whatever the replies are."""
    config = ProtocolConfig(lmtp=mode.lmtp, extensions=frozenset({"CHUNKING"}))
    connection = HandlerConnection(
        handler, config, hostname="mx.example", ident="test", on_failure=on_failure
    )
    reader = ReplyReader()

    async def ask(octets: bytes) -> list[Reply]:
        connection.receive_data(octets)
        reader.receive_data(await connection.answers())
        return list(iter(reader.next_reply, None))

    async with aclosing(connection):
        _, hello = await ask(
            b"LHLO client.example\r\n" if mode.lmtp else b"EHLO client.example\r\n"
        )
        assert hello.code == 250
        [mail] = await ask(b"MAIL FROM:<anne@example.com>\r\n")
        rcpt = {}
        for address in to:
            [rcpt[address]] = await ask(b"RCPT TO:<%s>\r\n" % address.encode())
        final: list[Reply] = []
        if any(reply.code == 250 for reply in rcpt.values()):
            if mode.chunked:
                half = len(content) // 2
                first, last = content[:half], content[half:]
                chunks = b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (half, first, len(last), last)
                [chunk_ok, *final] = await ask(chunks)
                assert chunk_ok.code == 250
            else:
                [go_on] = await ask(b"DATA\r\n")
                assert go_on.code == 354
                final = await ask(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert [reply.code for reply in await ask(b"QUIT\r\n")] == [221]
    return Transaction(mail, rcpt, final, mode)
