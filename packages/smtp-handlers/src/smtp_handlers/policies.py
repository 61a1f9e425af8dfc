"""Policies: each stands in front of any handler, and refuses what that is not to see."""

import inspect
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable

from smtp_handlers.front import Front, Gate
from smtp_protocol import (
    Answer,
    AnyHandler,
    Envelope,
    MailOptions,
    Reply,
    Server,
    Session,
    canonical_mailbox,
    client_network,
)
from smtp_protocol.auth import decided

__all__ = ["RateLimit", "RequireAuth", "RestrictRecipients"]

_NOT_HERE = Reply.parse("550 5.7.1 No mail for this recipient here")
_NEEDS_AUTH = Reply.parse("530 5.7.0 Authentication required")
_TOO_MANY = Reply.parse("450 4.7.1 Too many messages, try again later")

# How a local part can name another host that the mail is to go on to: user%host, host!user, and
# "user@host" in quotes (RFC 5321 §F.2, RFC 1123 §5.2.16).
_ROUTING = frozenset("%!@")

_now = time.monotonic

#: Tells of an address, in its canonical form, whether it is meant.
AddressTest = Callable[[str], bool | Awaitable[bool]]


class RestrictRecipients(Gate):
    """Accepts some recipients, and answers ``550 5.7.1`` to the others.

    The handler behind hears nothing of a message before there is a recipient that is accepted.

    Args:
        handler: What takes the mail for the accepted ones.
        allow: The domains, or a function, plain or async, that is called with each address in its
            canonical form (`canonical_mailbox`). All spellings of a domain are the same;
            ``".example.com"`` means all domains below it. With domains, ``postmaster`` without one
            is accepted too (RFC 5321 §4.5.1).
        allow_routing: Whether to accept a local part that names another host, as in
            ``user%other.example@example.com``, with which a server behind could be made to relay.

    Raises:
        TypeError: ``allow`` is a single string, or the handler has a wrong hook.
    """

    def __init__(
        self,
        handler: AnyHandler,
        allow: Collection[str] | AddressTest,
        *,
        allow_routing: bool = False,
    ) -> None:
        super().__init__(handler)
        self._allows = _address_test(allow, allow_routing)

    async def refusal(self, session: Session, address: str) -> Answer | None:
        """Refuse what is not allowed."""
        return None if await self._allows(address) else _NOT_HERE


class RequireAuth(Gate):
    """Relays for authenticated clients only: the others get ``530 5.7.0`` (RFC 4954 §6).

    They get it for MAIL when there is no recipient that they may send to, and otherwise for RCPT.
    The handler behind hears nothing of what is refused.

    Args:
        handler: What takes the mail.
        local: The recipients that need no authentication, as in `RestrictRecipients`: usually
            your own domains, for which others have mail. By default all need it.
        allow_routing: As in `RestrictRecipients`, for ``local``.

    Raises:
        TypeError: ``local`` is a single string, or the handler has a wrong hook.
    """

    def __init__(
        self,
        handler: AnyHandler,
        local: Collection[str] | AddressTest | None = None,
        *,
        allow_routing: bool = False,
    ) -> None:
        super().__init__(handler)
        self._is_local = None if local is None else _address_test(local, allow_routing)

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """Refuse the sender, or leave it to the handler behind, at once or later."""
        if session.authenticated:
            return await self.inner.handle_MAIL(server, session, envelope, address, mail_options)
        if self._is_local is None:
            return _NEEDS_AUTH
        return await super().handle_MAIL(server, session, envelope, address, mail_options)

    async def refusal(self, session: Session, address: str) -> Answer | None:
        """Refuse what needs authentication."""
        if session.authenticated or (self._is_local and await self._is_local(address)):
            return None
        return _NEEDS_AUTH


class RateLimit(Front):
    """Takes so many messages in so much time from each client, and answers ``450 4.7.1`` to more.

    What a client does not use it may send later, up to ``messages`` at once.

    Args:
        handler: What takes the mail.
        messages: How many.
        per: In how many seconds.
        key: What makes sessions the same client's; by default the address they come from, or with
            IPv6 its network.
        ipv6_prefix: How many bits of an IPv6 address are its network's, for one client usually has
            all addresses of a /64.
        max_clients: How many clients are remembered. Of more, the one that has not been seen for
            the longest time is forgotten.

    Raises:
        ValueError: A number is not above 0, or is no prefix.
        TypeError: The handler has a wrong hook.
    """

    def __init__(
        self,
        handler: AnyHandler,
        messages: int,
        per: float = 60.0,
        *,
        key: Callable[[Session], Hashable] | None = None,
        ipv6_prefix: int = 64,
        max_clients: int = 50_000,
    ) -> None:
        super().__init__(handler)
        if messages < 1 or not 0 < per < math.inf:
            raise ValueError(f"a rate is at least 1 message in a time above 0: {messages} in {per}")
        if max_clients < 1:
            raise ValueError(f"max_clients is at least 1, not {max_clients}")
        client_network("::", ipv6_prefix)  # raises for what is no prefix
        self._per = per
        self._interval = per / messages
        self._key = key or (lambda session: client_network(session.peer_host, ipv6_prefix))
        self._max_clients = max_clients
        # When each client will have its full rate again; the one seen last is the last.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        """Refuse the message, or leave it to the handler behind."""
        if not self._take(self._key(session), _now()):
            return _TOO_MANY
        return await self.inner.handle_MAIL(server, session, envelope, address, mail_options)

    def _take(self, key: Hashable, now: float) -> bool:
        full_at = max(now, self._full_at.pop(key, now))
        # A thousandth of an interval is more than what sums of floating-point numbers lose.
        taken = full_at + 0.999 * self._interval <= now + self._per
        self._full_at[key] = full_at + self._interval if taken else full_at
        self._forget(now)
        return taken

    def _forget(self, now: float) -> None:
        """Forget who is one too many, and who has not been seen since the rate was full again."""
        while len(self._full_at) > self._max_clients or next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)


def _address_test(
    rule: Collection[str] | AddressTest, allow_routing: bool
) -> Callable[[str], Awaitable[bool]]:
    """Make a test of all spellings of an address."""
    if isinstance(rule, str):
        raise TypeError(f"domains come as a list, such as [{rule!r}], not as one string")
    test = rule if callable(rule) else _domain_test(rule)

    async def passes(address: str) -> bool:
        mailbox = canonical_mailbox(address)
        if not allow_routing and not _ROUTING.isdisjoint(mailbox.rpartition("@")[0]):
            return False
        answer = test(mailbox)
        return decided(await answer if inspect.isawaitable(answer) else answer)

    return passes


def _domain_test(domains: Collection[str]) -> AddressTest:
    exact = frozenset(_canonical_domain(domain) for domain in domains)
    below = tuple(domain for domain in exact if domain.startswith("."))

    def has_such_a_domain(mailbox: str) -> bool:
        _, at, domain = mailbox.rpartition("@")
        if not at:
            return mailbox == "postmaster"
        return domain in exact or domain.endswith(below)

    return has_such_a_domain


def _canonical_domain(domain: str) -> str:
    return canonical_mailbox(f"x@{domain}").removeprefix("x@")
