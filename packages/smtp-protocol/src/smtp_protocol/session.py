"""Session and envelope: what a server knows of one client, and of one message, for its handler."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from smtp_protocol.options import MailOptions, RcptOptions

if TYPE_CHECKING:
    import asyncio
    import ssl

    from smtp_protocol.proxy_header import ProxyData
    from smtp_protocol.xclient import ClientAttributes

__all__ = ["Envelope", "Peer", "Recipient", "Session", "TLSInfo"]

#: Host and port, the path of a Unix socket, or ``None`` when nobody knows.
Peer = tuple[str, int] | str | None

_numbers = count(1)

# How many recipients an envelope's repr has.
_SHOWN = 10

StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What TLS was agreed upon.

    Args:
        version: Such as ``"TLSv1.3"``.
        cipher: The name of the cipher suite.
        peer_certificate: The client's certificate in DER, if it was asked for and gave one.
        sni: The server name that the client asked for (RFC 6066 §3).
    """

    version: str
    cipher: str
    peer_certificate: bytes | None = field(default=None, repr=False)
    sni: str | None = None


class _Stateful:
    """What keeps state for handlers, each kind apart."""

    _states: dict[Callable[[], object], object] | None = None

    def state(self, kind: Callable[[], StateT]) -> StateT:
        """A handler's own state: the one object of a class that belongs to this.

        Args:
            kind: The class, which is the key too. It is called without arguments when its object
                is asked for the first time.
        """
        states = self._states
        if states is None:
            states = self._states = {}
        if kind not in states:
            states[kind] = kind()
        return cast(StateT, states[kind])


class Session(_Stateful):
    """One client's connection. Handlers may keep state of their own here (`state`).

    Attributes:
        peer: The client: host and port, a path, or ``None``; behind a PROXY header the client
            that it names.
        extended_smtp: Whether it said EHLO.
        tls: What TLS was agreed upon, by STARTTLS or from the beginning; ``None`` in the clear.
        ssl: The TLS object behind ``tls``, for what that does not tell.
        proxy_data: The PROXY header that came before the greeting.
        authenticated: Whether AUTH succeeded.
        auth_data: What the authenticator said of who it is.
        xclient: What a trusted proxy said of the client (XCLIENT).
        forwarded: What a trusted filter said of the client before it (XFORWARD).
        loop: The event loop that the session runs in, if it runs in one.
    """

    def __init__(self, peer: Peer = None, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._number = next(_numbers)
        self.peer = peer
        self._host_name: str | None = None
        self._named = False
        self.extended_smtp = False
        self.tls: TLSInfo | None = None
        self.ssl: ssl.SSLObject | None = None
        self.proxy_data: ProxyData | None = None
        self.authenticated = False
        self.auth_data: object = None
        self.xclient: ClientAttributes | None = None
        self.forwarded: ClientAttributes | None = None
        self.loop = loop

    @property
    def host_name(self) -> str | None:
        """What the client called itself in HELO or EHLO; ``None`` before. Hooks may set it."""
        return self._host_name

    @host_name.setter
    def host_name(self, name: str | None) -> None:
        self._host_name = name
        self._named = True

    def __repr__(self) -> str:
        facts = [f"Session {self.id}", f"peer={self.peer!r}", f"host_name={self.host_name!r}"]
        if self.tls is not None:
            facts.append(f"tls={self.tls.version!r}")
        if self.authenticated:
            facts.append("authenticated")
        return f"<{' '.join(facts)}>"

    @property
    def id(self) -> str:
        """Short, unique in the process, and in each log record of the session."""
        return f"{self._number:06x}"

    @property
    def peer_host(self) -> str:
        """The client's address or path, for policies and logs; ``"local"`` when not known."""
        peer = self.peer
        return (peer[0] if isinstance(peer, tuple) else peer) or "local"

    # For the server, which knows what it answered.

    def introduce(self, name: str) -> None:
        """Note how an accepted HELO or EHLO called the client, unless its hook has set a name.

        Args:
            name: What the command said.
        """
        if not self._named:
            self._host_name = name
        self._named = False

    def rename(self, name: str | None) -> None:
        """Call the client so, whatever a hook has set, until it says HELO or EHLO again.

        Args:
            name: What XCLIENT said, or ``None``, for a client that has not said anything yet.
        """
        self._host_name = name
        self._named = False


@dataclass(frozen=True, slots=True)
class Recipient:
    """One accepted recipient: its address, and the parameters that RCPT gave for it."""

    address: str
    options: RcptOptions

    def __repr__(self) -> str:
        options = f", {self.options!r}" if self.options else ""
        return f"Recipient({self.address!r}{options})"


class _Accepted:
    """The RCPT commands that were accepted, and what each of them has brought.

    Attributes:
        commands: Their addresses and parameters.
        known: ``rcpt_tos`` as the last of them has left it.
        brought_by: For each address there, the number of the command that brought it.
        options: How many there are in ``rcpt_options``.
    """

    __slots__ = ("brought_by", "commands", "known", "options")

    def __init__(self) -> None:
        self.commands: list[tuple[str, RcptOptions]] = []
        self.known: list[str] = []
        self.brought_by: list[int | None] = []
        self.options = 0

    def origins(self, now: Iterable[str], newcomer: int | None) -> list[int | None]:
        """For each address in ``now`` who brought it: ``newcomer`` those that were not there."""
        left = defaultdict[str, deque[int | None]](deque)
        for address, origin in zip(self.known, self.brought_by, strict=True):
            left[address].append(origin)
        origins = []
        for address in now:
            known = left[address]
            origins.append(known.popleft() if known else newcomer)
        return origins


_NONE_ACCEPTED = _Accepted()


class Envelope(_Stateful):
    """One message and where it goes. Handlers may keep state of their own here (`state`).

    Two envelopes are equal when sender, recipients, their parameters, and content are. As the key
    of a mapping an envelope is only itself, for all that can change.

    Attributes:
        mail_from: The reverse-path; ``""`` is the null sender, ``None`` is before MAIL.
        mail_options: The parameters of MAIL.
        smtp_utf8: Whether MAIL had SMTPUTF8.
        rcpt_options: The parameters of all recipients in one list, as sent.
        content: The message in octets, with its final CR LF; ``b""`` until it has come.
        encoding: What ``text`` is decoded from, ``"utf-8"`` or ``"ascii"``; ``None`` where the
            server was not told to decode.
    """

    encoding: Literal["utf-8", "ascii"] | None = None
    _accepted = _NONE_ACCEPTED

    def __init__(self) -> None:
        self.mail_from: str | None = None
        self.mail_options: MailOptions = MailOptions()
        self.smtp_utf8 = False
        self._rcpt_tos: list[str] = []
        self.rcpt_options: list[str] = []
        self.content = b""

    def __repr__(self) -> str:
        options = f" {self.mail_options!r}" if self.mail_options else ""
        recipients = ", ".join(map(repr, self.recipients[:_SHOWN]))
        more = f", and {len(self.rcpt_tos) - _SHOWN} more" if len(self.rcpt_tos) > _SHOWN else ""
        content = f"{len(self.content)} octets"
        return f"<Envelope from {self.mail_from!r}{options} to [{recipients}{more}]: {content}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Envelope):
            return NotImplemented
        return (
            self.mail_from == other.mail_from
            and self.mail_options == other.mail_options
            and self.recipients == other.recipients
            and self.content == other.content
        )

    def __hash__(self) -> int:
        return object.__hash__(self)

    @property
    def rcpt_tos(self) -> list[str]:
        """The accepted recipients, as the handler wrote them down: it may put another list here.

        Raises:
            TypeError: What is put here is no list of texts.
        """
        return self._rcpt_tos

    @rcpt_tos.setter
    def rcpt_tos(self, addresses: list[str]) -> None:
        # What is wrong is the hook's error, at once, and not the server's when it counts.
        if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
            raise TypeError(f"rcpt_tos is a list of addresses, not {type(addresses).__name__}")
        self._rcpt_tos = addresses

    @property
    def original_content(self) -> bytes:
        """The same as ``content``, which is never anything but the octets that came."""
        return self.content

    @property
    def text(self) -> str | None:
        """The message as text, decoded from ``content``.

        ``None`` where the server was not told to decode, and of a message that cannot be. Octets
        that are no UTF-8 are kept as surrogates (PEP 383).
        """
        if self.encoding == "utf-8":
            return self.content.decode("utf-8", "surrogateescape")
        return self.content.decode() if self.encoding and self.content.isascii() else None

    @property
    def recipients(self) -> list[Recipient]:
        """What is in ``rcpt_tos`` now, each with the parameters that its RCPT had."""
        commands = self._accepted.commands
        by_address = dict(commands)
        recipients = []
        origins = self._accepted.origins(self._rcpt_tos, None)
        for address, number in zip(self._rcpt_tos, origins, strict=True):
            known = by_address.get(address) if number is None else commands[number][1]
            recipients.append(Recipient(address, RcptOptions() if known is None else known))
        return recipients

    # For the server, which knows what it answered.

    def accept(self, address: str, options: RcptOptions) -> None:
        """Note an accepted RCPT: what its hook has added to ``rcpt_tos`` is there because of it.

        Args:
            address: What RCPT said.
            options: Its parameters.
        """
        accepted, now = self._accepted, self._rcpt_tos
        if accepted is _NONE_ACCEPTED:
            accepted = self._accepted = _Accepted()
        number, before = len(accepted.commands), len(accepted.known)
        if len(now) == before + 1 and (not before or now[:before] == accepted.known):
            # Nearly always: the default hook appends, and so do most others.
            accepted.known.append(now[before])
            accepted.brought_by.append(number)
        elif now[:before] == accepted.known:
            added = now[before:]
            accepted.known += added
            accepted.brought_by += [number] * len(added)
        else:
            accepted.brought_by = accepted.origins(now, number)
            accepted.known = list(now)
        if options and len(self.rcpt_options) == accepted.options:  # for a hook that forgot to
            self.rcpt_options.extend(options)
        accepted.options = len(self.rcpt_options)
        accepted.commands.append((address, options))

    def refuse(self) -> None:
        """Take back what the hook of a refused RCPT has done to the lists of recipients."""
        accepted = self._accepted
        if self._rcpt_tos != accepted.known:
            self._rcpt_tos = accepted.known.copy()
        del self.rcpt_options[accepted.options :]

    def places(self) -> list[list[int]]:
        """For each accepted RCPT, where in ``rcpt_tos`` the addresses are that it brought.

        That is how the answers of a handler, one for each address, become LMTP's, one for each
        RCPT (RFC 2033 §4.2). A RCPT that brought none has the place of its own address, if that is
        there, and otherwise no place.
        """
        commands = self._accepted.commands
        places: list[list[int]] = [[] for _ in commands]
        first: dict[str, int] = {}
        origins = self._accepted.origins(self._rcpt_tos, None)
        for place, (address, number) in enumerate(zip(self._rcpt_tos, origins, strict=True)):
            first.setdefault(address, place)
            if number is not None:
                places[number].append(place)
        for found, (address, _) in zip(places, commands, strict=True):
            if not found and address in first:
                found.append(first[address])
        return places
