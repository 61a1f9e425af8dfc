"""Setup: whatever the connections of one server share, looked at once."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from smtp_protocol import (
    AnyHandler,
    Bdat,
    Connected,
    Data,
    Ehlo,
    Event,
    Expn,
    Helo,
    Help,
    Hooks,
    Lhlo,
    Mail,
    Noop,
    ProtocolConfig,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    Xforward,
)
from smtp_server.networks import Networks
from smtp_server.settings import Settings, SMTPKeywords
from smtp_server.tls import Certificates
from smtp_server.verbs import own_mechanisms, own_verbs
from smtp_server.version import __version__

if TYPE_CHECKING:
    from smtp_server.smtp import SMTP

__all__: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Whatever a connection needs that does not change: settings, hooks, protocol.

    Attributes:
        handler: The object with the hooks.
        keywords: What the user set.
        settings: The same with what the user did not set.
        hooks: The handler's hooks.
        config: The engine's part of the settings.
        hostname: What the server calls itself.
        ident: What follows it in the greeting.
        quick: The events whose hook is the default: it answers at once.
        mechanisms: What AUTH offers.
        handler_mechanisms: Those of them that are methods of the handler, and their names.
        smtp_mechanisms: The same for the methods of the server.
        certificates: The TLS context for STARTTLS.
        proxies: The peers whose PROXY header is taken.
        relays: The peers whose XCLIENT and XFORWARD are taken.
    """

    handler: AnyHandler
    keywords: SMTPKeywords
    settings: Settings
    hooks: Hooks
    config: ProtocolConfig
    hostname: str
    ident: str
    quick: frozenset[type[Event]]
    mechanisms: tuple[str, ...]
    handler_mechanisms: Mapping[str, str]
    smtp_mechanisms: Mapping[str, str]
    certificates: Certificates | None
    proxies: Networks
    relays: Networks


#: Which hook answers which event.
HOOKS: Mapping[type[Event], str] = {
    Connected: "handle_CONNECT",
    Helo: "handle_HELO",
    Ehlo: "handle_EHLO",
    Lhlo: "handle_EHLO",
    Mail: "handle_MAIL",
    Rcpt: "handle_RCPT",
    Rset: "handle_RSET",
    Noop: "handle_NOOP",
    Quit: "handle_QUIT",
    Vrfy: "handle_VRFY",
    Expn: "handle_EXPN",
    Help: "handle_HELP",
}

_NO_HOOK: frozenset[type[Event]] = frozenset({Data, Bdat, StartTls, Xclient, Xforward})

# A factory that makes each connection anew, from the same handler and keywords, need not pay for
# looking at them each time.
_latest: WeakKeyDictionary[type, Setup] = WeakKeyDictionary()


def prepare(smtp: SMTP, handler: AnyHandler, keywords: SMTPKeywords) -> Setup:
    """Check everything that the connections of one server share.

    Args:
        smtp: One of the connections. Its ``smtp_…`` methods are the server's own verbs, and its
            ``auth_…`` methods own mechanisms.
        handler: The object with the hooks.
        keywords: What the user set.

    Raises:
        TypeError: The handler has a wrong hook, or a keyword is unknown.
        ValueError: A keyword's value cannot be meant.
    """
    kind: type = type(smtp)
    last = _latest.get(kind)
    if last is not None and last.handler is handler and last.keywords == keywords:
        return last
    settings = _settings(keywords)
    verbs = own_verbs(kind)
    hooks = Hooks(handler, verbs)
    methods, smtp_methods = own_mechanisms(handler), own_mechanisms(smtp)
    own = {*methods, *smtp_methods}
    mechanisms = _offered(settings, hooks, own)
    if settings.auth_required and not mechanisms:
        raise ValueError("auth_required needs an authenticator, an auth_callback or a mechanism")
    if mechanisms:
        import_module("smtp_server.authentication")  # now, and not when a client waits for it
    _latest[kind] = setup = Setup(
        handler=handler,
        keywords=keywords,
        settings=settings,
        hooks=hooks,
        config=_config(settings, smtp.lmtp, bool(mechanisms), frozenset(verbs)),
        hostname=settings.hostname or machine_name(),
        ident=settings.ident or f"Python {'LMTP' if smtp.lmtp else 'SMTP'} {__version__}",
        quick=_quick(settings, hooks),
        mechanisms=mechanisms,
        handler_mechanisms=methods,
        smtp_mechanisms=smtp_methods,
        certificates=Certificates(settings.tls_context) if settings.tls_context else None,
        proxies=Networks(settings.proxy_trusted),
        relays=Networks(settings.xclient_trusted),
    )
    return setup


def _settings(keywords: SMTPKeywords) -> Settings:
    known = [field.name for field in fields(Settings)]
    for name in keywords:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"there is no keyword {name!r}{hint}")
    return Settings(**keywords)


def _quick(settings: Settings, hooks: Hooks) -> frozenset[type[Event]]:
    if settings.command_call_limit is not None:
        return frozenset()  # each command is counted first
    return _NO_HOOK.union(event for event, name in HOOKS.items() if name not in hooks.own)


def _offered(settings: Settings, hooks: Hooks, own: Collection[str]) -> tuple[str, ...]:
    decided = settings.authenticator or settings.auth_callback or "handle_AUTH" in hooks.own
    built_in = set(settings.auth_mechanisms) if decided else set()
    excluded = {name.upper() for name in settings.auth_exclude_mechanism or ()}
    return tuple(sorted(built_in.union(own) - excluded))


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


@lru_cache(maxsize=1)
def machine_name() -> str:
    """The name of this machine, without a question to the DNS, which may take many seconds."""
    return socket.gethostname() or "localhost"
