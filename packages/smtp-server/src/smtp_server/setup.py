"""Setup: everything that the connections of one server share, prepared once."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

from smtp_protocol import AnyHandler, BodyEnd, Connected, Event, Hooks, Mechanism, ProtocolConfig
from smtp_protocol.calls import CALLS, AnswersCommands, Begin, quick_calls
from smtp_protocol.commands import Unknown
from smtp_server.moved import KEYWORDS, SMTP_NAMES, refuse_names, refuse_process_message
from smtp_server.networks import Networks
from smtp_server.settings import Settings, SMTPKeywords
from smtp_server.tls import Certificates
from smtp_server.verbs import Condition, conditions, own_mechanisms, own_verbs
from smtp_server.version import __version__

__all__: list[str] = []

ConnectionT = TypeVar("ConnectionT")


class ServerClass(AnswersCommands):
    """What a class of connections says of itself: `SMTP`, `LMTP`, or one of the user's own.

    Attributes:
        setup: What all connections of one server share.
    """

    __slots__ = ()

    #: Whether it speaks LMTP.
    lmtp: ClassVar[bool] = False

    setup: Setup

    @property
    def hostname(self) -> str:
        """The name that the server calls itself."""
        return self.setup.hostname

    @property
    def ident(self) -> str:
        """What follows the name in the greeting."""
        return self.setup.ident

    @property
    def data_size_limit(self) -> int | None:
        """The largest message in octets; ``None`` or 0 for no limit."""
        return self.setup.settings.data_size_limit

    @property
    def enable_SMTPUTF8(self) -> bool:
        """Whether SMTPUTF8 is offered."""
        return self.setup.settings.enable_SMTPUTF8


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How an AUTH mechanism is carried out: by a built-in class, or by somebody's method.

    Args:
        make: Makes the exchange of a built-in mechanism.
        method: The name of a method.
        of_handler: Whether that is the handler's; otherwise it is the connection's.
    """

    make: Callable[[], Mechanism] | None = None
    method: str = ""
    of_handler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Whatever a connection needs that does not change: settings, hooks, protocol.

    Attributes:
        smtp_class: The class of the connections.
        handler: The object with the hooks.
        keywords: What the user set.
        settings: The same with what the user did not set.
        hooks: The handler's hooks.
        config: The engine's part of the settings.
        hostname: What the server calls itself.
        ident: What follows it in the greeting.
        verbs: The commands that the class adds, each with its form.
        conditions: Who may use those of them that are not for everybody.
        at_once: How events are answered whose hook is the default: it answers at once.
        may_refuse: The events that are looked at before a hook is asked.
        look_every: After how many seconds it is looked whether a client is idle, if it is.
        mechanisms: What AUTH can offer.
        certificates: The TLS context for STARTTLS.
        proxies: The peers whose PROXY header is taken.
        relays: The peers whose XCLIENT and XFORWARD are taken.
    """

    smtp_class: type
    handler: AnyHandler
    keywords: SMTPKeywords
    settings: Settings
    hooks: Hooks
    config: ProtocolConfig
    hostname: str
    ident: str
    verbs: Mapping[str, str]
    conditions: Mapping[str, Condition]
    at_once: Mapping[type[Event], Begin]
    may_refuse: frozenset[type[Event]]
    look_every: float | None
    mechanisms: Mapping[str, Offer]
    certificates: Certificates | None
    proxies: Networks
    relays: Networks


class Setups:
    """What one service has prepared, for the connections that its factory makes.

    A factory that makes each connection anew, from handler and keywords, need not pay for looking
    at them each time. Another service looks for itself: a handler may have changed.
    """

    def __init__(self) -> None:
        # A factory may make connections of several kinds, and may make a new handler for each.
        self._setups: deque[Setup] = deque(maxlen=8)

    def __iter__(self) -> Iterator[Setup]:
        return iter(self._setups)

    @property
    def first(self) -> Setup | None:
        """What was prepared first, if anything was."""
        return self._setups[0] if self._setups else None

    def clear(self) -> None:
        """Forget what was prepared: the service has ended."""
        self._setups.clear()

    def add(self, setup: Setup) -> None:
        """Remember what was prepared for this service."""
        self._setups.append(setup)

    def make(self, factory: Callable[[], ConnectionT]) -> ConnectionT:
        """Have the factory make a connection; `prepare` finds meanwhile what is here."""
        token = _in_force.set(self)
        try:
            return factory()
        finally:
            _in_force.reset(token)

    def find(self, smtp_class: type, handler: AnyHandler, keywords: SMTPKeywords) -> Setup | None:
        """What was prepared for the same handler and keywords, if it was."""
        for setup in self._setups:
            if (
                setup.smtp_class is smtp_class
                and setup.handler is handler
                and setup.keywords == keywords
            ):
                return setup
        return None


_in_force: ContextVar[Setups | None] = ContextVar("_in_force", default=None)


def prepare(smtp_class: type[ServerClass], handler: AnyHandler, keywords: SMTPKeywords) -> Setup:
    """Check everything that the connections of one server share.

    Args:
        smtp_class: Their class. Its ``smtp_…`` methods are the server's own verbs, and its
            ``auth_…`` methods own mechanisms.
        handler: The object with the hooks.
        keywords: What the user set.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value is invalid.
    """
    setups = _in_force.get()
    known = setups.find(smtp_class, handler, keywords) if setups is not None else None
    if known is not None:
        return known
    refuse_names(smtp_class.__name__, dir(smtp_class), SMTP_NAMES)
    settings = _settings(keywords)
    verbs = own_verbs(smtp_class)
    hooks = Hooks(handler, verbs)
    refuse_process_message(handler, hooks.own)
    lmtp = smtp_class.lmtp
    restricted = conditions(smtp_class, verbs)
    counted = settings.command_call_limit is not None
    mechanisms = _offers(settings, hooks, smtp_class, handler)
    if settings.auth_required and not mechanisms:
        raise ValueError("auth_required needs an authenticator, an auth_callback or a mechanism")
    setup = Setup(
        smtp_class=smtp_class,
        handler=handler,
        keywords=keywords,
        settings=settings,
        hooks=hooks,
        config=_config(settings, lmtp, bool(mechanisms), frozenset(verbs)),
        hostname=ascii_name(settings.hostname or machine_name()),
        ident=settings.ident or f"Python {'LMTP' if lmtp else 'SMTP'} {__version__}",
        verbs=verbs,
        conditions=restricted,
        # Where commands are counted, each is looked at first.
        at_once={} if counted else quick_calls(_own(smtp_class, hooks, restricted)),
        may_refuse=frozenset(CALLS) - {Connected} if counted else frozenset({BodyEnd, Unknown}),
        look_every=_shortest_limit(settings, hooks),
        mechanisms=mechanisms,
        certificates=Certificates(settings.tls_context) if settings.tls_context else None,
        proxies=Networks(settings.proxy_trusted),
        relays=Networks(settings.xclient_trusted),
    )
    if setups is not None:
        setups.add(setup)
    return setup


def _own(smtp_class: type[ServerClass], hooks: Hooks, restricted: Collection[str]) -> set[str]:
    """What is the user's, and may wait or fail; all else answers at once."""
    own = set(hooks.own)
    if smtp_class.answer_command is not AnswersCommands.answer_command:
        own.add("answer_command")
    if restricted:
        own.add("handle_HELP")  # it asks the conditions
    return own


def _shortest_limit(settings: Settings, hooks: Hooks) -> float | None:
    """The shortest of the times for which a client may be silent, or a stream unread."""
    streaming = settings.handler_timeout if hooks.stream is not None else None
    limits = (settings.timeout, settings.data_timeout, streaming)
    return min((limit for limit in limits if limit is not None), default=None)


def _settings(keywords: SMTPKeywords) -> Settings:
    known = [field.name for field in fields(Settings)]
    for name in keywords:
        if name not in known:
            import difflib  # noqa: PLC0415 only what is wrong needs it

            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            hint = f"; {KEYWORDS[name]}" if name in KEYWORDS else hint
            raise TypeError(f"there is no keyword {name!r}{hint}")
    return Settings(**keywords)


def _offers(
    settings: Settings, hooks: Hooks, smtp_class: type, handler: AnyHandler
) -> Mapping[str, Offer]:
    """The mechanisms that somebody can decide on; a method goes before a built-in one."""
    offers: dict[str, Offer] = {}
    if settings.authenticator or settings.auth_callback or "handle_AUTH" in hooks.own:
        # They bring in cryptography, which a server without AUTH never needs. It is imported
        # now, and not when a client waits for it.
        from smtp_protocol import MECHANISMS  # noqa: PLC0415

        offers = {name: Offer(make=MECHANISMS[name]) for name in settings.auth_mechanisms}
    for name, method in own_mechanisms(smtp_class).items():
        offers[name] = Offer(method=method)
    for name, method in own_mechanisms(handler).items():
        offers[name] = Offer(method=method, of_handler=True)
    excluded = {name.upper() for name in settings.auth_exclude_mechanism or ()}
    return {name: offers[name] for name in sorted(offers.keys() - excluded)}


def _config(settings: Settings, lmtp: bool, auth: bool, verbs: frozenset[str]) -> ProtocolConfig:
    utf8 = {"SMTPUTF8"} if settings.enable_SMTPUTF8 else set()
    return ProtocolConfig(
        data_size_limit=settings.data_size_limit,
        extensions=frozenset(utf8.union(settings.extensions)),
        address_syntax=settings.address_syntax,
        bare_newline=settings.bare_newline,
        line_length_limit=settings.line_length_limit,
        lmtp=lmtp,
        starttls=settings.tls_context is not None,
        require_starttls=settings.require_starttls,
        auth=auth,
        auth_require_tls=settings.auth_require_tls,
        auth_required=settings.auth_required,
        rcpt_max=settings.max_recipients,
        mail_max=settings.max_messages,
        rcpt_domain_max=settings.max_recipient_domains,
        own_verbs=verbs,
    )


def machine_name() -> str:
    """The name of this machine, without a question to the DNS, which may take many seconds."""
    return socket.gethostname() or "localhost"


def ascii_name(name: str) -> str:
    """A host's name as it can stand in SMTP: labels beyond ASCII as A-labels (RFC 5890 §2.3.2.1).

    What cannot be written so becomes ``?``: a machine's name may be anything.
    """
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            name = name.encode("ascii", "replace").decode()
    return "".join(character if "!" <= character <= "~" else "?" for character in name)
