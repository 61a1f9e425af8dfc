"""Onward: what of a message the next server gets, and what it cannot be asked to take."""

from collections.abc import AsyncIterator, Mapping

from smtp_handlers.trace import HeaderWatch
from smtp_handlers.upstream import Upstream
from smtp_protocol import MailOptions, RcptOptions, Reply

__all__: list[str] = []

_UTF8_ADDRESS = Reply.parse("553 5.6.7 The next server takes no addresses in UTF-8")
_UTF8_HEADER = Reply.parse("554 5.6.9 The next server takes no headers in UTF-8")
_EIGHT_BIT = Reply.parse("554 5.6.3 The next server takes no 8-bit messages")
_LOOP = Reply.parse("554 5.4.6 Too many hops, the message goes round in circles")
_BINARY = Reply.parse("554 5.6.3 The next server takes no binary messages")
_REQUIRETLS = Reply.parse("550 5.7.30 The next server does not support REQUIRETLS")

# Each parameter and the extension that it belongs to. Where the next server does not offer that,
# the parameter is left out: of BODY and SMTPUTF8 because the message itself is looked at, of DSN
# and MT-PRIORITY because they may be (RFC 3461 §5.2.2, RFC 6710 §5.2). What must not be left out
# is looked at one by one.
_EXTENSIONS: Mapping[str, str] = {
    "SIZE": "SIZE",
    "BODY": "8BITMIME",
    "SMTPUTF8": "SMTPUTF8",
    "AUTH": "AUTH",
    "RET": "DSN",
    "ENVID": "DSN",
    "NOTIFY": "DSN",
    "ORCPT": "DSN",
    "REQUIRETLS": "REQUIRETLS",
    "BY": "DELIVERBY",
    "HOLDFOR": "FUTURERELEASE",
    "HOLDUNTIL": "FUTURERELEASE",
}


class Refusal(Exception):
    """The message cannot be passed on as it should be.

    Attributes:
        reply: What to tell the client.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def mail_command(
    address: str, options: MailOptions, upstream: Upstream, *, authenticated: bool
) -> str:
    """Make the MAIL command for the next server.

    Args:
        address: The reverse-path.
        options: What our client gave with it.
        upstream: The next server.
        authenticated: Whether our client is, so that its AUTH parameter can be believed.

    Raises:
        Refusal: What the client asks for cannot be had there.
    """
    offered = upstream.extensions
    if options.body == "BINARYMIME" and not offered.keys() >= {"BINARYMIME", "CHUNKING"}:
        raise Refusal(_BINARY)
    if options.requiretls and not (upstream.verified and "REQUIRETLS" in offered):
        raise Refusal(_REQUIRETLS)
    if options.by is not None and options.by.mode == "R" and "DELIVERBY" not in offered:
        raise Refusal(_cannot("BY"))
    for name, value in (("HOLDFOR", options.holdfor), ("HOLDUNTIL", options.holduntil)):
        if value is not None and "FUTURERELEASE" not in offered:
            raise Refusal(_cannot(name))
    words = _offered(options, offered)
    if not authenticated:
        # RFC 4954 §5: what a client says that nobody vouches for is not passed on.
        words = ["AUTH=<>" if word.startswith("AUTH=") else word for word in words]
    return _command("MAIL FROM", address, words, offered)


def rcpt_command(address: str, options: RcptOptions, upstream: Upstream) -> str:
    """Make the RCPT command for the next server; otherwise as `mail_command`."""
    offered = upstream.extensions
    if options.rrvs is not None and options.rrvs.action == "R" and "RRVS" not in offered:
        raise Refusal(_cannot("RRVS"))
    return _command("RCPT TO", address, _offered(options, offered), offered)


def _offered(options: MailOptions | RcptOptions, offered: Mapping[str, str]) -> list[str]:
    """The parameters that the next server knows."""
    words = []
    for option in options:
        keyword = option.partition("=")[0]
        if _EXTENSIONS.get(keyword, keyword) in offered and (
            "SMTPUTF8" in offered or option.isascii()
        ):
            words.append(option)
    return words


def _command(verb: str, address: str, words: list[str], offered: Mapping[str, str]) -> str:
    if not address.isascii() and "SMTPUTF8" not in offered:
        raise Refusal(_UTF8_ADDRESS)
    return " ".join([f"{verb}:<{address}>", *words])


def _cannot(keyword: str) -> Reply:
    return Reply.parse(f"554 5.3.3 The next server cannot do what {keyword} asks")


class Inspected(AsyncIterator[bytes]):
    """A message on its way, which ends with a `Refusal` when the next server cannot take it.

    Args:
        field: What goes in front of it.
        chunks: The message, as it comes.
        options: The parameters of its MAIL.
        offered: The extensions of the next server.
        max_hops: How many ``Received`` fields it may have.
    """

    def __init__(
        self,
        field: bytes,
        chunks: AsyncIterator[bytes],
        options: MailOptions,
        offered: Mapping[str, str],
        max_hops: int,
    ) -> None:
        if "SMTPUTF8" not in offered:
            field = field.decode().encode("ascii", "replace")
        self._field = field
        self._chunks = chunks
        self._max_hops = max_hops
        self._ascii_header = options.smtputf8 and "SMTPUTF8" not in offered
        self._ascii = "8BITMIME" not in offered and options.body != "BINARYMIME"
        self._watch = HeaderWatch()

    async def __anext__(self) -> bytes:
        field, self._field = self._field, b""
        if field:
            return field
        chunk = await anext(self._chunks)
        watch = self._watch
        watch.feed(chunk)
        if watch.received > self._max_hops:
            raise Refusal(_LOOP)
        if self._ascii_header and not watch.ascii_header:
            raise Refusal(_UTF8_HEADER)
        if self._ascii and not watch.ascii:
            raise Refusal(_EIGHT_BIT)
        return chunk
