"""Parser: the octets of one command line in, one command out, or the error that answers it."""

from collections.abc import Callable, Mapping

from smtp_protocol import commands, grammar, replies
from smtp_protocol.addresses import (
    AddressSyntax,
    is_null_path,
    parse_forward_path,
    parse_reverse_path,
    plain_path,
)
from smtp_protocol.auth import MECHANISM_NAME
from smtp_protocol.commands import Command
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.encodings import decode_base64
from smtp_protocol.options import MailOptions, RcptOptions
from smtp_protocol.parameters import parse_options
from smtp_protocol.replies import ParameterError, ProtocolError, syntax_error
from smtp_protocol.xclient import XCLIENT_NAMES, XFORWARD_NAMES, parse_attributes

__all__ = ["parse_command"]

_DEFAULT = ProtocolConfig()

# What clients of other protocols say first. Answering them as SMTP would let a web page make a
# browser talk to a mail server, so the connection ends (as Postfix's smtpd_forbidden_commands).
_OTHER_PROTOCOLS = frozenset({"GET", "POST", "CONNECT", "PUT", "HEAD", "OPTIONS"})

_GREETINGS = frozenset({b"HELO", b"EHLO", b"LHLO"})


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
        if grammar.BDAT_LINE.match(verb):
            raise _unknown_chunk()
        raise ProtocolError(replies.BAD_COMMAND)
    octets = octets.strip(b" \t")
    try:
        arg = octets.decode()
    except UnicodeDecodeError:
        arg = _decode_other(verb, octets, config)
    if parse is not None and not config.own_verbs:
        return parse(arg, config)
    name = verb.decode()
    if name in config.own_verbs:
        return commands.Unknown(name, arg or None)
    if parse is not None:
        return parse(arg, config)
    if name in _OTHER_PROTOCOLS:
        raise ProtocolError(replies.CLOSING_NOT_SMTP)
    return commands.Unknown(name, arg or None)


def verb_of(line: bytes) -> str:
    """The verb of a line, whatever is wrong with its arguments; ``""`` if it has none."""
    verb = line.partition(b" ")[0].upper()
    return verb.decode() if grammar.VERB.fullmatch(verb) else ""


def _decode_other(verb: bytes, octets: bytes, config: ProtocolConfig) -> str:
    """Decode an argument that is not UTF-8, of a command for which it need not be.

    Raises:
        ProtocolError: It is another command.
    """
    if verb in _GREETINGS and config.address_syntax != "strict":
        # There are devices that give their name in Latin-1, and must not be refused for it
        # (RFC 5321 §4.1.4).
        return octets.decode("utf-8", "backslashreplace")
    if verb == b"BDAT":
        raise _unknown_chunk()
    raise ProtocolError(replies.INVALID_UTF8)


def _helo(arg: str, config: ProtocolConfig) -> commands.Helo:
    return commands.Helo(_hostname(arg, "HELO"))


def _ehlo(arg: str, config: ProtocolConfig) -> commands.Ehlo:
    return commands.Ehlo(_hostname(arg, "EHLO"))


def _lhlo(arg: str, config: ProtocolConfig) -> commands.Lhlo:
    return commands.Lhlo(_hostname(arg, "LHLO"))


def _hostname(arg: str, verb: str) -> str:
    # RFC 5321 §4.1.4: a server must not refuse a name for not being valid. Controls are no name.
    if not arg:
        raise syntax_error(SYNTAX[verb])
    _refuse_controls(arg, verb)
    return arg


def _mail(arg: str, config: ProtocolConfig) -> commands.Mail:
    address, rest = plain_path(grammar.PLAIN_FROM, arg) or _reverse_path(arg, config)
    options = MailOptions()
    if rest:
        parse_options(rest, config.mail_parameters, options, config.extensions)
        _check_mail_options(options, config)
    if not (address.isascii() or options.smtputf8):
        raise ProtocolError(replies.NEEDS_SMTPUTF8)
    return commands.Mail(address, options)


def _reverse_path(arg: str, config: ProtocolConfig) -> tuple[str, str | None]:
    match = grammar.FROM.match(arg)
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


def _rcpt(arg: str, config: ProtocolConfig) -> commands.Rcpt:
    address, rest = plain_path(grammar.PLAIN_TO, arg) or _forward_path(arg, config)
    options = RcptOptions()
    if rest:
        parse_options(rest, config.rcpt_parameters, options, config.extensions)
    return commands.Rcpt(address, options)


def _forward_path(arg: str, config: ProtocolConfig) -> tuple[str, str | None]:
    match = grammar.TO.match(arg)
    if match is None or match.end() == len(arg):
        raise syntax_error(SYNTAX["RCPT"])
    path = arg[match.end() :]
    try:
        return parse_forward_path(path, config.address_syntax)
    except ValueError:
        if is_null_path(path):
            raise ProtocolError(replies.EMPTY_RECIPIENT) from None
        raise ProtocolError(replies.BAD_FORWARD_PATH) from None


def _data(arg: str, config: ProtocolConfig) -> commands.Data:
    _refuse_argument(arg, "DATA")
    return commands.Data()


def _bdat(arg: str, config: ProtocolConfig) -> commands.Bdat:
    match = grammar.BDAT_ARGUMENT.fullmatch(arg)
    if match is None:
        raise _unknown_chunk()
    return commands.Bdat(int(match["size"]), match["last"] is not None)


def _unknown_chunk() -> ProtocolError:
    # How many octets follow is not known, so nothing behind this line can be understood.
    return ProtocolError(syntax_error(SYNTAX["BDAT"]).reply, closing=True)


def _starttls(arg: str, config: ProtocolConfig) -> commands.StartTls:
    if not config.starttls:
        raise ProtocolError(replies.NOT_IMPLEMENTED)
    _refuse_argument(arg, "STARTTLS")
    return commands.StartTls()


def _auth(arg: str, config: ProtocolConfig) -> commands.Auth:
    if not config.auth:
        raise ProtocolError(replies.NOT_IMPLEMENTED)
    name, *rest = arg.split(" ")
    if not name or len(rest) > 1:
        raise syntax_error(SYNTAX["AUTH"])
    mechanism = grammar.upper(name)
    if not MECHANISM_NAME.fullmatch(mechanism):
        raise ProtocolError(replies.UNKNOWN_MECHANISM)
    match rest:
        case []:
            return commands.Auth(mechanism, None, (name,))
        case ["="]:
            # RFC 4954 §4: a single "=" is the empty response, as opposed to none.
            return commands.Auth(mechanism, b"", (name, "="))
    return commands.Auth(mechanism, decode_base64(rest[0]), (name, rest[0]))


def _xclient(arg: str, config: ProtocolConfig) -> commands.Xclient:
    try:
        return commands.Xclient(parse_attributes(arg, XCLIENT_NAMES))
    except ValueError:
        raise syntax_error("XCLIENT attribute=value ...") from None


def _xforward(arg: str, config: ProtocolConfig) -> commands.Xforward:
    try:
        return commands.Xforward(parse_attributes(arg, XFORWARD_NAMES))
    except ValueError:
        raise syntax_error("XFORWARD attribute=value ...") from None


def _rset(arg: str, config: ProtocolConfig) -> commands.Rset:
    _refuse_argument(arg, "RSET")
    return commands.Rset()


def _quit(arg: str, config: ProtocolConfig) -> commands.Quit:
    _refuse_argument(arg, "QUIT")
    return commands.Quit()


def _refuse_argument(arg: str, verb: str) -> None:
    if arg:
        raise syntax_error(SYNTAX[verb])


def _refuse_controls(arg: str, verb: str) -> None:
    if not arg.isprintable():
        raise syntax_error(SYNTAX[verb])


def _noop(arg: str, config: ProtocolConfig) -> commands.Noop:
    return commands.Noop(arg)


def _vrfy(arg: str, config: ProtocolConfig) -> commands.Vrfy:
    return commands.Vrfy(*_name(arg, "VRFY", config))


def _expn(arg: str, config: ProtocolConfig) -> commands.Expn:
    return commands.Expn(*_name(arg, "EXPN", config))


def _name(arg: str, verb: str, config: ProtocolConfig) -> tuple[str, bool]:
    # RFC 6531 §3.7.4.2: the parameter says that the client can read a reply in UTF-8.
    parameter = " SMTPUTF8"
    utf8 = "SMTPUTF8" in config.extensions and grammar.upper(arg[-len(parameter) :]) == parameter
    if utf8:
        arg = arg[: -len(parameter)].rstrip(" ")
    if not arg:
        raise syntax_error(SYNTAX[verb])
    _refuse_controls(arg, verb)
    syntax: AddressSyntax = "local" if config.address_syntax == "local" else "lenient"
    try:
        mailbox, rest = parse_forward_path(arg, syntax)
    except ValueError:
        return arg, utf8  # a user's or a list's name (RFC 5321 §3.5.1)
    return arg if rest else mailbox, utf8


def _help(arg: str, config: ProtocolConfig) -> commands.Help:
    _refuse_controls(arg, "HELP")
    return commands.Help(arg)


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
