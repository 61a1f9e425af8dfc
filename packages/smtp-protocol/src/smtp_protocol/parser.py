"""Parser: the octets of one command line in, one command out, or the error that answers it."""

import re
from collections.abc import Callable, Mapping

from smtp_protocol import grammar, replies
from smtp_protocol.addresses import (
    is_null_path,
    parse_forward_path,
    parse_reverse_path,
    plain_path,
)
from smtp_protocol.auth import decode_base64
from smtp_protocol.commands import (
    Auth,
    Bdat,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Unknown,
    Vrfy,
    Xclient,
    Xforward,
)
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.options import MailOptions, RcptOptions
from smtp_protocol.parameters import parse_options
from smtp_protocol.replies import ParameterError, ProtocolError, syntax_error
from smtp_protocol.xclient import XCLIENT_NAMES, XFORWARD_NAMES, parse_attributes

__all__ = ["parse_command"]

_DEFAULT = ProtocolConfig()
_FROM = re.compile(r"FROM:", re.IGNORECASE)
_TO = re.compile(r"TO:", re.IGNORECASE)

# What clients of other protocols say first. Answering them as SMTP would let a web page make a
# browser talk to a mail server, so the connection ends (as Postfix's smtpd_forbidden_commands).
_OTHER_PROTOCOLS = frozenset({"GET", "POST", "CONNECT", "PUT", "HEAD", "OPTIONS"})


def parse_command(line: bytes, config: ProtocolConfig = _DEFAULT) -> Command:
    """Read one command line.

    Args:
        line: The line without its line end.
        config: Which extensions and limits hold.

    Returns:
        The command. A verb that is not known, or is in ``config.own_verbs``, gives `Unknown`.

    Raises:
        ProtocolError: The line is no command, or its arguments are wrong; the error has the
            reply.
    """
    word, _, octets = line.partition(b" ")
    verb = word.upper()
    parse = (_LMTP_VERBS if config.lmtp else _VERBS).get(verb)
    if parse is None and not grammar.VERB.fullmatch(verb):
        raise ProtocolError(replies.BAD_COMMAND)
    try:
        arg = octets.strip(b" \t").decode()
    except UnicodeDecodeError:
        raise ProtocolError(replies.INVALID_UTF8) from None
    if parse is not None and not config.own_verbs:
        return parse(arg, config)
    name = verb.decode()
    if name in config.own_verbs:
        return Unknown(name, arg or None)
    if parse is not None:
        return parse(arg, config)
    if name in _OTHER_PROTOCOLS:
        raise ProtocolError(replies.CLOSING_NOT_SMTP)
    return Unknown(name, arg or None)


def _helo(arg: str, config: ProtocolConfig) -> Helo:
    return Helo(_hostname(arg, "HELO"))


def _ehlo(arg: str, config: ProtocolConfig) -> Ehlo:
    return Ehlo(_hostname(arg, "EHLO"))


def _lhlo(arg: str, config: ProtocolConfig) -> Lhlo:
    return Lhlo(_hostname(arg, "LHLO"))


def _hostname(arg: str, verb: str) -> str:
    # RFC 5321 §4.1.4: a server must not refuse a name for not being valid. Controls are no name.
    if not arg or not arg.isprintable():
        raise syntax_error(f"{verb} hostname")
    return arg


def _mail(arg: str, config: ProtocolConfig) -> Mail:
    address, rest = plain_path(grammar.PLAIN_FROM, arg) or _reverse_path(arg, config)
    options = MailOptions()
    if rest:
        parse_options(rest, config.mail_parameters, options, config.extensions)
        _check_mail_options(options, config)
    if not (address.isascii() or options.smtputf8):
        raise ProtocolError(replies.NEEDS_SMTPUTF8)
    return Mail(address, options)


def _reverse_path(arg: str, config: ProtocolConfig) -> tuple[str, str | None]:
    match = _FROM.match(arg)
    if match is None or match.end() == len(arg):
        raise syntax_error(SYNTAX["MAIL"])
    try:
        return parse_reverse_path(arg[match.end() :], config.address_syntax)
    except ValueError:
        raise ProtocolError(replies.BAD_REVERSE_PATH) from None


def _check_mail_options(options: MailOptions, config: ProtocolConfig) -> None:
    # RFC 1870 §6.1: a declared size over the limit is refused before the message is sent.
    limit = config.data_size_limit
    if limit and options.size is not None and options.size > limit:
        raise ParameterError(replies.TOO_MUCH_DATA)
    # RFC 3030 §3: BINARYMIME is a value of BODY only where the server has offered it.
    if options.body == "BINARYMIME" and "BINARYMIME" not in config.extensions:
        raise ParameterError(replies.BAD_PARAMETER)
    # RFC 4865 §4.1: only one of the two, and not beyond what EHLO said.
    if options.holdfor is not None and (
        options.holduntil is not None or options.holdfor > config.hold_max
    ):
        raise ParameterError(replies.BAD_PARAMETER)


def _rcpt(arg: str, config: ProtocolConfig) -> Rcpt:
    address, rest = plain_path(grammar.PLAIN_TO, arg) or _forward_path(arg, config)
    options = RcptOptions()
    if rest:
        parse_options(rest, config.rcpt_parameters, options, config.extensions)
    return Rcpt(address, options)


def _forward_path(arg: str, config: ProtocolConfig) -> tuple[str, str | None]:
    match = _TO.match(arg)
    if match is None or match.end() == len(arg):
        raise syntax_error(SYNTAX["RCPT"])
    path = arg[match.end() :]
    try:
        return parse_forward_path(path, config.address_syntax)
    except ValueError:
        if is_null_path(path):
            raise ProtocolError(replies.EMPTY_RECIPIENT) from None
        raise ProtocolError(replies.BAD_FORWARD_PATH) from None


def _data(arg: str, config: ProtocolConfig) -> Data:
    _refuse_argument(arg, "DATA")
    return Data()


def _bdat(arg: str, config: ProtocolConfig) -> Bdat:
    match = grammar.BDAT_ARGUMENT.fullmatch(arg)
    if match is None:
        # How many octets follow is not known, so nothing behind this line can be understood.
        raise ProtocolError(syntax_error(SYNTAX["BDAT"]).reply, closing=True)
    return Bdat(int(match["size"]), match["last"] is not None)


def _starttls(arg: str, config: ProtocolConfig) -> StartTls:
    if not config.starttls:
        raise ProtocolError(replies.NOT_IMPLEMENTED)
    _refuse_argument(arg, "STARTTLS")
    return StartTls()


def _auth(arg: str, config: ProtocolConfig) -> Auth:
    if not config.auth:
        raise ProtocolError(replies.NOT_IMPLEMENTED)
    match arg.split(" "):
        case [mechanism] if mechanism:
            return Auth(mechanism.upper(), None, (mechanism,))
        case [mechanism, "="]:
            # RFC 4954 §4: a single "=" is the empty response, as opposed to none.
            return Auth(mechanism.upper(), b"", (mechanism, "="))
        case [mechanism, response]:
            return Auth(mechanism.upper(), decode_base64(response), (mechanism, response))
    raise syntax_error(SYNTAX["AUTH"])


def _xclient(arg: str, config: ProtocolConfig) -> Xclient:
    try:
        return Xclient(parse_attributes(arg, XCLIENT_NAMES))
    except ValueError:
        raise syntax_error("XCLIENT attribute=value ...") from None


def _xforward(arg: str, config: ProtocolConfig) -> Xforward:
    try:
        return Xforward(parse_attributes(arg, XFORWARD_NAMES))
    except ValueError:
        raise syntax_error("XFORWARD attribute=value ...") from None


def _rset(arg: str, config: ProtocolConfig) -> Rset:
    _refuse_argument(arg, "RSET")
    return Rset()


def _quit(arg: str, config: ProtocolConfig) -> Quit:
    _refuse_argument(arg, "QUIT")
    return Quit()


def _refuse_argument(arg: str, verb: str) -> None:
    if arg:
        raise syntax_error(SYNTAX[verb])


def _noop(arg: str, config: ProtocolConfig) -> Noop:
    return Noop(arg)


def _vrfy(arg: str, config: ProtocolConfig) -> Vrfy:
    return Vrfy(_name(arg, "VRFY", config))


def _expn(arg: str, config: ProtocolConfig) -> Expn:
    return Expn(_name(arg, "EXPN", config))


def _name(arg: str, verb: str, config: ProtocolConfig) -> str:
    if "SMTPUTF8" in config.extensions and arg.upper().endswith(" SMTPUTF8"):
        # RFC 6531 §3.7.4.2: the parameter says that the client can read a reply in UTF-8.
        arg = arg[: -len(" SMTPUTF8")].rstrip(" ")
    if not arg or not arg.isprintable():
        raise syntax_error(SYNTAX[verb])
    try:
        mailbox, rest = parse_forward_path(arg)
    except ValueError:
        return arg  # a user's or a list's name (RFC 5321 §3.5.1)
    return arg if rest else mailbox


def _help(arg: str, config: ProtocolConfig) -> Help:
    return Help(arg)


_PARSERS: Mapping[str, Callable[[str, ProtocolConfig], Command]] = {
    "HELO": _helo,
    "EHLO": _ehlo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "RSET": _rset,
    "NOOP": _noop,
    "QUIT": _quit,
    "VRFY": _vrfy,
    "EXPN": _expn,
    "HELP": _help,
    "BDAT": _bdat,
    "STARTTLS": _starttls,
    "AUTH": _auth,
    "XCLIENT": _xclient,
    "XFORWARD": _xforward,
}

_VERBS = {verb.encode(): parse for verb, parse in _PARSERS.items()}

# RFC 2033 §4.1: HELO and EHLO are no commands of LMTP.
_LMTP_VERBS = {
    **{verb: parse for verb, parse in _VERBS.items() if verb not in (b"HELO", b"EHLO")},
    b"LHLO": _lhlo,
}

#: The form of each command, as 501 shows it.
SYNTAX: Mapping[str, str] = {
    "HELO": "HELO hostname",
    "EHLO": "EHLO hostname",
    "MAIL": "MAIL FROM:<address> [parameters]",
    "RCPT": "RCPT TO:<address> [parameters]",
    "DATA": "DATA",
    "RSET": "RSET",
    "NOOP": "NOOP [text]",
    "QUIT": "QUIT",
    "VRFY": "VRFY address",
    "EXPN": "EXPN list",
    "HELP": "HELP [command]",
    "LHLO": "LHLO hostname",
    "BDAT": "BDAT size [LAST]",
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH mechanism [initial-response]",
}


def syntaxes(config: ProtocolConfig) -> dict[str, str]:
    """The form of each command that a server with ``config`` takes, by its verb, for HELP."""
    absent = {"HELO", "EHLO"} if config.lmtp else {"LHLO"}
    if "CHUNKING" not in config.extensions:
        absent.add("BDAT")
    if not config.starttls:
        absent.add("STARTTLS")
    if not config.auth:
        absent.add("AUTH")
    return {verb: form for verb, form in SYNTAX.items() if verb not in absent}
