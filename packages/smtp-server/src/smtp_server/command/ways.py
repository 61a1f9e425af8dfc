"""Ways: what the options say of one way in becomes the class, keywords and TLS of its server."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from smtp_protocol import AnyHandler
from smtp_protocol.extensions import ALL_EXTENSIONS
from smtp_server.command.certificates import tls_source
from smtp_server.command.errors import USAGE, CannotStartError
from smtp_server.command.handlers import load
from smtp_server.command.options import KEYWORDS, Values
from smtp_server.command.places import Place
from smtp_server.command.plan import Plan, Way
from smtp_server.command.table import (
    AUTH_FILE,
    CHAOS,
    CHAOS_SEED,
    LMTP,
    SMTPSCERT,
    SMTPSKEY,
    TLSCERT,
    TLSKEY,
)
from smtp_server.lmtp import LMTP as LMTPConnection
from smtp_server.settings import Settings, SMTPKeywords
from smtp_server.smtp import SMTP
from smtp_server.tls import TLSSource

if TYPE_CHECKING:
    from smtp_server.users import Users

__all__: list[str] = []


# The keywords that are objects, which options name by their place.
_LOADED = ("authenticator", "auth_callback", "observer")


class Rules(NamedTuple):
    """One kind of server, and the places that it is at."""

    places: list[Place]
    smtp_class: type[SMTP]
    keywords: SMTPKeywords
    ssl_context: TLSSource | None
    users: Users | None


def rules_of(plan: Plan) -> list[Rules]:
    """Make the rules of each way in; ways that differ only in their place are one.

    Raises:
        CannotStartError: An option has a value that it cannot have, or a file cannot be used.
    """
    made: list[tuple[Way, Rules]] = []
    for way in plan.ways:
        for other, rules in made:
            if way.same_rules(other):
                rules.places.append(way.place)
                break
        else:
            made.append((way, _rules(way)))
    return [rules for _, rules in made]


def _rules(way: Way) -> Rules:
    place, values = way.place, way.values
    starttls = tls_source(values.of(TLSCERT), values.of(TLSKEY))
    smtps = tls_source(values.of(SMTPSCERT), values.of(SMTPSKEY))
    implicit = smtps if place.scheme in ("", "smtps") else None
    if place.scheme == "smtps" and implicit is None:
        implicit, starttls = starttls, None
        if implicit is None:
            raise CannotStartError(f"smtps:// at {place} needs --smtpscert or --tlscert", USAGE)
    lmtp = place.scheme == "lmtp" or values.of(LMTP)
    users = _users(values)
    keywords = _keywords(values, starttls, users)
    return Rules([place], LMTPConnection if lmtp else SMTP, keywords, implicit, users)


def _users(values: Values) -> Users | None:
    path = values.of(AUTH_FILE)
    if path is None:
        return None
    from smtp_server.users import Users  # noqa: PLC0415 it brings in cryptography

    try:
        return Users(path)
    except OSError as error:
        raise CannotStartError(f"cannot read the users in {path}: {error.strerror}") from None
    except ValueError as error:
        raise CannotStartError(str(error)) from None


def _keywords(values: Values, starttls: TLSSource | None, users: Users | None) -> SMTPKeywords:
    given: dict[str, object] = {
        option.keyword: values[option.name]
        for option in KEYWORDS
        if option.keyword is not None and option.name in values
    }
    given["tls_context"] = starttls
    if starttls is None and given.get("require_starttls"):
        raise CannotStartError("--requiretls needs --tlscert", USAGE)
    given.setdefault("require_starttls", starttls is not None)
    if given.get("extensions") == ("all",):
        given["extensions"] = ALL_EXTENSIONS
    for keyword in _LOADED:
        if keyword in given:
            given[keyword] = load(str(given[keyword]), f"the {keyword}")
    if users is not None:
        if not given.keys().isdisjoint(("authenticator", "auth_callback")):
            raise CannotStartError("--auth-file is an authenticator; give one of them", USAGE)
        given |= {"authenticator": users, "auth_in_thread": True}
        given.setdefault("auth_mechanisms", users.mechanisms)
    return _checked(given)


def _checked(given: Mapping[str, object]) -> SMTPKeywords:
    keywords = cast(SMTPKeywords, given)
    try:
        Settings(**keywords)
    except ValueError as error:
        raise CannotStartError(in_options(str(error)), USAGE) from None
    return keywords


def with_chaos(
    handler: AnyHandler, rules: Sequence[Rules], values: Values
) -> tuple[AnyHandler, list[Rules]]:
    """Put faults in front of a handler, if there are to be any.

    Returns:
        What is to be served in its place, and the rules, whose connections can be cut.
    """
    faults = values.of(CHAOS)
    if not faults:
        return handler, list(rules)
    import secrets  # noqa: PLC0415 for tests alone

    from smtp_server.chaos import Chaos  # noqa: PLC0415
    from smtp_server.faults import Faulty, FaultyConnection, FaultyLMTP  # noqa: PLC0415

    seed = values.of(CHAOS_SEED)
    if seed is None:
        seed = secrets.randbelow(1_000_000)
        print(f"smtp-server: the same again with --chaos-seed {seed}", file=sys.stderr)
    auth = any(each.keywords.keys() & {"authenticator", "auth_callback"} for each in rules)
    faulty = [
        each._replace(smtp_class=FaultyLMTP if each.smtp_class.lmtp else FaultyConnection)
        for each in rules
    ]
    return Faulty(handler, Chaos(faults, seed), auth=auth), faulty


def in_options(text: str) -> str:
    """What is said of a keyword, as it is called on the command line."""
    keyword, space, rest = text.partition(" ")
    for option in KEYWORDS:
        if option.keyword == keyword:
            return f"--{option.name}{space}{rest}".replace(" None ", " none ")
    return text
