"""Options: the ESMTP parameters of MAIL and RCPT, each one entry of a table (RFC 5321 §4.1.2)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, cast

from smtp_protocol import grammar, replies
from smtp_protocol.replies import ProtocolError

__all__ = ["MailOptions", "Parameter", "RcptOptions"]

Body = Literal["7BIT", "8BITMIME", "BINARYMIME"]


class _Options(list[str]):
    """The option strings as sent, with what they say as typed attributes."""

    #: The values of parameters that were registered by the user, by keyword.
    extra: Mapping[str, object] = {}

    def extend(self, options: Iterable[str]) -> None:
        """Add the strings and, where ``options`` carries them, the typed values too."""
        super().extend(options)
        if isinstance(options, type(self)):
            self.__dict__.update(options.__dict__)


class MailOptions(_Options):
    """The parameters of a MAIL command.

    The list holds them as they were sent (``"SIZE=1000"``), keywords upper-cased.
    """

    #: SIZE: the message's size as the client estimates it, in octets (RFC 1870 §6).
    size: int | None = None
    #: BODY: how the body is encoded (RFC 6152 §2, RFC 3030 §3).
    body: Body | None = None
    #: SMTPUTF8: addresses and headers may be UTF-8 (RFC 6531 §3.4).
    smtputf8: bool = False


class RcptOptions(_Options):
    """The parameters of a RCPT command.

    The list holds them as they were sent, keywords upper-cased.
    """


OptionsT = TypeVar("OptionsT", bound=_Options)


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
        ProtocolError: 501 for a malformed or repeated parameter, 555 for an unknown one.
    """
    seen = set()
    for word in text.split(" "):
        if not word:
            continue
        match = grammar.ESMTP_PARAMETER.fullmatch(word)
        if match is None:
            raise ProtocolError(replies.BAD_PARAMETER)
        keyword, value = match["keyword"].upper(), match["value"]
        parameter = parameters.get(keyword)
        if parameter is None or not (
            parameter.extension is None or parameter.extension in extensions
        ):
            raise ProtocolError(replies.UNKNOWN_PARAMETER)
        if keyword in seen:
            raise ProtocolError(replies.REPEATED_PARAMETER)
        seen.add(keyword)
        try:
            parsed = parameter.parse(value)
        except ValueError:
            raise ProtocolError(replies.BAD_PARAMETER) from None
        if parameter.attribute is None:
            options.extra = {**options.extra, keyword: parsed}
        else:
            setattr(options, parameter.attribute, parsed)
        options.append(keyword if value is None else f"{keyword}={value}")
    return options


def parse_size(value: str | None) -> int:
    """SIZE (RFC 1870 §4)."""
    if not (value and grammar.SIZE_VALUE.fullmatch(value)):
        raise ValueError("not a size")
    return int(value)


def parse_body(value: str | None) -> Body:
    """BODY (RFC 6152 §2, RFC 3030 §3)."""
    if not value or value.upper() not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise ValueError("not a body type")
    return cast(Body, value.upper())


def parse_flag(value: str | None) -> Literal[True]:
    """A parameter that is its own meaning, such as SMTPUTF8 (RFC 6531 §3.4)."""
    if value is not None:
        raise ValueError("takes no value")
    return True


MAIL_PARAMETERS: Mapping[str, Parameter[MailOptions]] = {
    "SIZE": Parameter(parse_size, "size"),
    "BODY": Parameter(parse_body, "body"),
    "SMTPUTF8": Parameter(parse_flag, "smtputf8", "SMTPUTF8"),
}

RCPT_PARAMETERS: Mapping[str, Parameter[RcptOptions]] = {}
