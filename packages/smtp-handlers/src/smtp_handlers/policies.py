"""Policies: each stands in front of any handler, and refuses what that is not to see."""

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass

from smtp_handlers.front import Front
from smtp_protocol import (
    Answer,
    AnyHandler,
    Envelope,
    MailOptions,
    RcptOptions,
    Reply,
    Server,
    Session,
)

__all__ = ["RateLimit", "RequireAuth", "RestrictRecipients"]

_NOT_HERE = Reply.parse("550 5.7.1 No mail for this recipient here")
_NEEDS_AUTH = Reply.parse("530 5.7.0 Authentication required")
_TOO_MANY = Reply.parse("450 4.7.1 Too many messages, try again later")

# Clients that are remembered before those are forgotten that may send at full rate again.
_MANY = 10_000

_now = time.monotonic

#: Tells of an address whether it is meant.
AddressTest = Callable[[str], bool | Awaitable[bool]]


class RestrictRecipients(Front):
    """Accepts some recipients, and answers ``550 5.7.1`` to the others.

    Args:
        handler: What takes the mail for the accepted ones.
        allow: The domains, or a function, plain or async, that is called with each address. A
            domain is matched without regard to case; ``".example.com"`` means all domains below
            it. With domains, ``postmaster`` without one is accepted too (RFC 5321 §4.5.1).

    Raises:
        TypeError: ``allow`` is a single string, or the handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler, allow: Collection[str] | AddressTest) -> None:
        super().__init__(handler)
        self._allows = _address_test(allow)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Refuse the recipient, or leave it to the handler behind."""
        if not await _ask(self._allows, address):
            return _NOT_HERE
        return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)


class RequireAuth(Front):
    """Relays for authenticated clients only: the others get ``530 5.7.0`` (RFC 4954 §6).

    Args:
        handler: What takes the mail.
        local: The recipients that need no authentication, as in `RestrictRecipients`: usually
            your own domains, for which others have mail. By default all need it.

    Raises:
        TypeError: ``local`` is a single string, or the handler has a wrong hook.
    """

    def __init__(self, handler: AnyHandler, local: Collection[str] | AddressTest | None = None):
        super().__init__(handler)
        self._is_local = _no_address if local is None else _address_test(local)

    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> Answer:
        """Refuse the recipient, or leave it to the handler behind."""
        if not session.authenticated and not await _ask(self._is_local, address):
            return _NEEDS_AUTH
        return await self.inner.handle_RCPT(server, session, envelope, address, rcpt_options)


@dataclass(slots=True)
class _Bucket:
    """What one client may still send, and when that was so."""

    left: float
    at: float


class RateLimit(Front):
    """Takes so many messages in so much time from each client, and answers ``450 4.7.1`` to more.

    What a client does not use it may send later, up to ``messages`` at once.

    Args:
        handler: What takes the mail.
        messages: How many.
        per: In how many seconds.
        key: What makes sessions the same client's; by default the address they come from.

    Raises:
        ValueError: A number is not above 0.
        TypeError: The handler has a wrong hook.
    """

    def __init__(
        self,
        handler: AnyHandler,
        messages: int,
        per: float = 60.0,
        *,
        key: Callable[[Session], Hashable] = lambda session: session.peer_host,
    ) -> None:
        super().__init__(handler)
        if messages < 1 or not 0 < per < math.inf:
            raise ValueError(f"a rate is at least 1 message in a time above 0: {messages} in {per}")
        self._messages = messages
        self._rate = messages / per
        self._key = key
        self._buckets: dict[Hashable, _Bucket] = {}

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
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MANY:
                self._forget_idle(now)
            bucket = self._buckets[key] = _Bucket(self._messages, now)
        bucket.left = min(self._messages, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def _forget_idle(self, now: float) -> None:
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.left + (now - bucket.at) * self._rate < self._messages
        }


def _address_test(rule: Collection[str] | AddressTest) -> AddressTest:
    if callable(rule):
        return rule
    if isinstance(rule, str):
        raise TypeError(f"domains come as a list, such as [{rule!r}], not as one string")
    exact = frozenset(domain.lower() for domain in rule)
    below = tuple(domain for domain in exact if domain.startswith("."))

    def has_such_a_domain(address: str) -> bool:
        _, at, domain = address.lower().rpartition("@")
        if not at:
            return domain == "postmaster"
        return domain in exact or domain.endswith(below)

    return has_such_a_domain


def _no_address(address: str) -> bool:
    return False


async def _ask(test: AddressTest, address: str) -> bool:
    answer = test(address)
    return await answer if inspect.isawaitable(answer) else answer
