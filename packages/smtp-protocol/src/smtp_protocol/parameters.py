"""Parameters: one small parser for each ESMTP parameter, and the two tables of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar, cast

from smtp_protocol import grammar, replies
from smtp_protocol.addresses import parse_mailbox
from smtp_protocol.encodings import decode_utf8_xtext, decode_xtext
from smtp_protocol.options import (
    Body,
    DeliverBy,
    MailOptions,
    Notify,
    Options,
    OriginalRecipient,
    RcptOptions,
    RequireRecipientValidSince,
)
from smtp_protocol.replies import ParameterError

__all__ = ["Parameter"]

OptionsT = TypeVar("OptionsT", bound=Options)

# RFC 3461 §4.4 and §4.2 with its erratum: at most 100 and 500 characters.
_MAX_ENVID = 100
_MAX_ORCPT = 500

# RFC 2852 §4: by-time = ["-" / "+"] 1*9DIGIT;  by-mode = "N" / "R";  by-trace = "T"
_BY = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt])?")
# RFC 6710 §6: priority-value = (["-"] NZDIGIT) / "0"
_PRIORITY = re.compile(r"-?[1-9]|0")
# RFC 3339 §5.6: date-time = full-date "T" full-time;  full-time = partial-time time-offset
#   time-offset = "Z" / ("+" / "-") time-hour ":" time-minute
_HOUR_MINUTE = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_DATE_TIME = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt]{_HOUR_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,6}})?"
    rf"(?:[Zz]|[+-]{_HOUR_MINUTE})"
)
# RFC 4865 §6: future-release-interval = 1*9DIGIT, above 0
_INTERVAL = re.compile(r"[0-9]{1,9}")
# RFC 3461 §4.2: addr-type = atom
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]+")
_NOTIFICATIONS = frozenset({"SUCCESS", "FAILURE", "DELAY"})


# Not slotted: Python 3.11 cannot make such a generic one as `Parameter[MailOptions](...)`.
@dataclass(frozen=True)
class Parameter(Generic[OptionsT]):
    """How one ESMTP parameter is read.

    Args:
        parse: Takes the value (``None``: the keyword stood alone) and gives what is stored;
            raises ValueError for one that is malformed (the client gets 501).
        attribute: Where it is stored on the options; ``None`` stores it in ``extra``.
        extension: The EHLO keyword of the extension that must be on for it; ``None`` means that
            it is always understood.
    """

    parse: Callable[[str | None], object]
    attribute: str | None = None
    extension: str | None = None


def _given(value: str | None) -> str:
    if value is None:
        raise ValueError("needs a value")
    return value


def _is_printable_ascii(text: str) -> bool:
    # RFC 3461 §4.2, §4.4: more than that a delivery status notification cannot repeat.
    return text.isascii() and text.isprintable()


def parse_flag(value: str | None) -> Literal[True]:
    """A parameter that is its own meaning: SMTPUTF8 (RFC 6531 §3.4), REQUIRETLS (RFC 8689 §2)."""
    if value is not None:
        raise ValueError("takes no value")
    return True


def parse_size(value: str | None) -> int:
    """SIZE (RFC 1870 §4)."""
    text = _given(value)
    if not grammar.SIZE_VALUE.fullmatch(text):
        raise ValueError("not a size")
    return int(text)


def parse_body(value: str | None) -> Body:
    """BODY (RFC 6152 §2, RFC 3030 §3)."""
    body = grammar.upper(_given(value))
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise ValueError("not a body type")
    return cast(Body, body)


def parse_auth(value: str | None) -> str:
    """AUTH (RFC 4954 §5): a mailbox in xtext; ``<>``, nobody known, is ``""``."""
    mailbox = decode_xtext(_given(value))
    return "" if mailbox == "<>" else parse_mailbox(mailbox)


def parse_ret(value: str | None) -> Literal["FULL", "HDRS"]:
    """RET (RFC 3461 §4.3)."""
    match grammar.upper(_given(value)):
        case "FULL":
            return "FULL"
        case "HDRS":
            return "HDRS"
    raise ValueError("neither FULL nor HDRS")


def parse_envid(value: str | None) -> str:
    """ENVID (RFC 3461 §4.4)."""
    text = _given(value)
    envid = decode_xtext(text)
    if len(text) > _MAX_ENVID or not _is_printable_ascii(envid):
        raise ValueError("no envelope identifier")
    return envid


def parse_notify(value: str | None) -> frozenset[Notify]:
    """NOTIFY (RFC 3461 §4.1)."""
    words = grammar.upper(_given(value)).split(",")
    if words != ["NEVER"] and not _NOTIFICATIONS.issuperset(words):
        raise ValueError("neither NEVER nor a list of SUCCESS, FAILURE, DELAY")
    return cast(frozenset[Notify], frozenset(words))


def parse_orcpt(value: str | None) -> OriginalRecipient:
    """ORCPT (RFC 3461 §4.2, RFC 6533 §3)."""
    kind, _, text = _given(value).partition(";")
    if len(_given(value)) > _MAX_ORCPT or not _ADDRESS_TYPE.fullmatch(kind):
        raise ValueError("no address type")
    if grammar.lower(kind) == "utf-8":
        address = decode_utf8_xtext(text)
        good = address.isprintable()
    else:
        address = decode_xtext(text)
        good = _is_printable_ascii(address)
    if not address or not good:
        raise ValueError("no address")
    return OriginalRecipient(kind, address)


def parse_by(value: str | None) -> DeliverBy:
    """BY (RFC 2852 §4)."""
    match = _BY.fullmatch(_given(value))
    if match is None:
        raise ValueError("not a by-value")
    seconds, mode, trace = int(match[1]), grammar.upper(match[2]), bool(match[3])
    if mode == "R" and seconds <= 0:
        # RFC 2852 §4: what is late already cannot be asked to be returned when it is late.
        raise ValueError("a deadline in the past with R")
    return DeliverBy(seconds, "R" if mode == "R" else "N", trace)


def parse_priority(value: str | None) -> int:
    """MT-PRIORITY (RFC 6710 §4)."""
    text = _given(value)
    if not _PRIORITY.fullmatch(text):
        raise ValueError("not -9 to 9")
    return int(text)


def parse_date_time(value: str | None) -> datetime:
    """A date-time with its offset (RFC 3339 §5.6): HOLDUNTIL (RFC 4865 §6)."""
    text = _given(value)
    if not _DATE_TIME.fullmatch(text):
        raise ValueError("not a date-time")
    when = datetime.fromisoformat(grammar.upper(text))
    try:
        when.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the times that there are") from None
    return when


def parse_rrvs(value: str | None) -> RequireRecipientValidSince:
    """RRVS (RFC 7293 §3.1)."""
    since, separator, action = _given(value).partition(";")
    when = parse_date_time(since)
    match separator + grammar.upper(action):
        case "":
            return RequireRecipientValidSince(when)
        case ";C":
            return RequireRecipientValidSince(when, "C")
        case ";R":
            return RequireRecipientValidSince(when, "R")
    raise ValueError("neither C nor R")


def parse_interval(value: str | None) -> int:
    """HOLDFOR (RFC 4865 §6)."""
    text = _given(value)
    seconds = int(text) if _INTERVAL.fullmatch(text) else 0
    if not seconds:
        raise ValueError("not a number of seconds")
    return seconds


#: The parameters of MAIL. Large senders give those of DSN and AUTH= unasked, so they are
#: understood whether or not the extension is on.
MAIL_PARAMETERS: Mapping[str, Parameter[MailOptions]] = {
    "SIZE": Parameter(parse_size, "size"),
    "BODY": Parameter(parse_body, "body"),
    "AUTH": Parameter(parse_auth, "auth"),
    "RET": Parameter(parse_ret, "ret"),
    "ENVID": Parameter(parse_envid, "envid"),
    "SMTPUTF8": Parameter(parse_flag, "smtputf8", "SMTPUTF8"),
    "REQUIRETLS": Parameter(parse_flag, "requiretls", "REQUIRETLS"),
    "BY": Parameter(parse_by, "by", "DELIVERBY"),
    "MT-PRIORITY": Parameter(parse_priority, "mt_priority", "MT-PRIORITY"),
    "HOLDFOR": Parameter(parse_interval, "holdfor", "FUTURERELEASE"),
    "HOLDUNTIL": Parameter(parse_date_time, "holduntil", "FUTURERELEASE"),
}

#: The parameters of RCPT.
RCPT_PARAMETERS: Mapping[str, Parameter[RcptOptions]] = {
    "NOTIFY": Parameter(parse_notify, "notify"),
    "ORCPT": Parameter(parse_orcpt, "orcpt"),
    "RRVS": Parameter(parse_rrvs, "rrvs", "RRVS"),
}


def parse_options(
    text: str,
    parameters: Mapping[str, Parameter[OptionsT]],
    options: OptionsT,
    extensions: frozenset[str],
) -> OptionsT:
    """Read ESMTP parameters, separated by spaces, into ``options``.

    Args:
        text: The parameters.
        parameters: How each is read, by its keyword.
        options: The empty list that they go into.
        extensions: The EHLO keywords of the extensions that are on.

    Raises:
        ParameterError: 501 for a malformed or repeated parameter, 555 for an unknown one.
    """
    for word in filter(None, text.split(" ")):
        match = grammar.ESMTP_PARAMETER.fullmatch(word)
        if match is None or not word.isprintable():
            raise ParameterError(replies.BAD_PARAMETER)
        keyword, value = match.groups()
        keyword = keyword.upper()
        parameter = parameters.get(keyword)
        if parameter is None or not (
            parameter.extension is None or parameter.extension in extensions
        ):
            raise ParameterError(replies.UNKNOWN_PARAMETER)
        if any(option.partition("=")[0] == keyword for option in options):
            raise ParameterError(replies.REPEATED_PARAMETER)
        try:
            parsed = parameter.parse(value)
        except ValueError:
            raise ParameterError(replies.BAD_PARAMETER) from None
        if parameter.attribute is None:
            options.extra = {**options.extra, keyword: parsed}
        else:
            setattr(options, parameter.attribute, parsed)
        options.append(keyword if value is None else f"{keyword}={value}")
    return options
