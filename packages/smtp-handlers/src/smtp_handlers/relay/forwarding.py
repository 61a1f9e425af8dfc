"""Forwarding: what of a message the next server gets, and what it cannot be asked to take."""

from collections.abc import AsyncIterator, Mapping

from smtp_handlers.relay.client import Upstream
from smtp_handlers.relay.offers import Offers
from smtp_handlers.trace import HeaderWatch, guard
from smtp_protocol import MailOptions, RcptOptions, Reply

__all__: list[str] = []

_UTF8_ADDRESS = Reply.parse("553 5.6.7 The next server takes no addresses in UTF-8")
_UTF8_HEADER = Reply.parse("554 5.6.9 The next server takes no headers in UTF-8")
_EIGHT_BIT = Reply.parse("554 5.6.3 The next server takes no 8-bit messages")
_LOOP = Reply.parse("554 5.4.6 Too many hops, the message goes round in circles")
_BINARY = Reply.parse("554 5.6.3 The next server takes no binary messages")
_TOO_LARGE = Reply.parse("552 5.3.4 The message is larger than the next server takes")
_REQUIRETLS = Reply.parse("550 5.7.30 The next server does not support REQUIRETLS")

# Octets that may stand between our field and the message.
_GUARD = 2
# Octets of the line of a Received field that names the recipient (RFC 5321 §4.5.3.1.3).
_FOR = len("\r\n\tfor ") + 256

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


def room_for_field(options: MailOptions, offers: Offers, least: int) -> int | None:
    """Tell how many octets our field may have, so that the message is as large as was announced.

    What is announced is what will be sent, not what our client has announced (RFC 1870 §5); but
    who the recipients are, whom the field names where there is but one, is not known by then.

    Args:
        options: The parameters of our client's MAIL.
        offers: What the next server offers.
        least: Octets of the field without a recipient.

    Returns:
        The octets, or ``None`` when no size is announced.

    Raises:
        Refusal: The message is larger than the next server takes.
    """
    if options.size is None or "SIZE" not in offers:
        return None
    if offers.size is None:
        return least + _FOR
    room = offers.size - options.size - _GUARD
    if room < least:
        raise Refusal(_TOO_LARGE)
    return min(room, least + _FOR)


def mail_command(
    address: str, options: MailOptions, upstream: Upstream, *, field: int, authenticated: bool
) -> str:
    """Make the MAIL command for the next server.

    Args:
        address: The reverse-path.
        options: What our client gave with it.
        upstream: The next server.
        field: Octets of our own field, without a recipient in it.
        authenticated: Whether our client is, so that its AUTH parameter can be believed.

    Raises:
        Refusal: What the client asks for cannot be had there.
    """
    offered = upstream.offers
    if options.body == "BINARYMIME" and not ("BINARYMIME" in offered and "CHUNKING" in offered):
        raise Refusal(_BINARY)
    if options.requiretls and not (upstream.verified and "REQUIRETLS" in offered):
        raise Refusal(_REQUIRETLS)
    if options.by is not None and options.by.mode == "R" and "DELIVERBY" not in offered:
        raise Refusal(_cannot("BY"))
    for name, value in (("HOLDFOR", options.holdfor), ("HOLDUNTIL", options.holduntil)):
        if value is not None and "FUTURERELEASE" not in offered:
            raise Refusal(_cannot(name))
    room = room_for_field(options, offered, field)
    words = _offered(options, offered)
    if room is not None and options.size is not None:
        size = f"SIZE={options.size + _GUARD + room}"
        words = [size if word.startswith("SIZE=") else word for word in words]
    if not authenticated:
        # RFC 4954 §5: what a client says that nobody vouches for is not passed on.
        words = ["AUTH=<>" if word.startswith("AUTH=") else word for word in words]
    return _command("MAIL FROM", address, words, offered)


def rcpt_command(address: str, options: RcptOptions, upstream: Upstream) -> str:
    """Make the RCPT command for the next server; otherwise as `mail_command`."""
    offered = upstream.offers
    if options.rrvs is not None and options.rrvs.action == "R" and "RRVS" not in offered:
        raise Refusal(_cannot("RRVS"))
    return _command("RCPT TO", address, _offered(options, offered), offered)


def _offered(options: MailOptions | RcptOptions, offered: Offers) -> list[str]:
    """The parameters that the next server knows."""
    words = []
    for option in options:
        keyword = option.partition("=")[0]
        if _EXTENSIONS.get(keyword, keyword) in offered and (
            "SMTPUTF8" in offered or option.isascii()
        ):
            words.append(option)
    return words


def _command(verb: str, address: str, words: list[str], offered: Offers) -> str:
    if not address.isascii() and "SMTPUTF8" not in offered:
        raise Refusal(_UTF8_ADDRESS)
    return " ".join([f"{verb}:<{address}>", *words])


def _cannot(keyword: str) -> Reply:
    return Reply.parse(f"554 5.3.3 The next server cannot do what {keyword} asks")


class Inspected(AsyncIterator[bytes]):
    """A message on its way, which ends with a `Refusal` when the next server cannot take it.

    Args:
        field: What goes in front of it, and stays apart from it.
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
        offered: Offers,
        max_hops: int,
    ) -> None:
        if "SMTPUTF8" not in offered:
            field = field.decode().encode("ascii", "replace")
        self._field = field
        self._first = b""
        self._chunks = chunks
        self._max_hops = max_hops
        self._ascii_header = options.smtputf8 and "SMTPUTF8" not in offered
        self._ascii = "8BITMIME" not in offered and options.body != "BINARYMIME"
        self._watch = HeaderWatch()

    async def __anext__(self) -> bytes:
        if self._field:
            return await self._begin()
        chunk, self._first = self._first, b""
        chunk = chunk or await anext(self._chunks)
        watch = self._watch
        watch.feed(chunk)
        if watch.received > self._max_hops:
            raise Refusal(_LOOP)
        if self._ascii_header and not watch.ascii_header:
            raise Refusal(_UTF8_HEADER)
        if self._ascii and not watch.ascii:
            raise Refusal(_EIGHT_BIT)
        return chunk

    async def _begin(self) -> bytes:
        """Our own field, and what keeps it apart from the message."""
        field, self._field = self._field, b""
        while not self._first:
            try:
                self._first = await anext(self._chunks)
            except StopAsyncIteration:
                break
        return field + guard(self._first)
