"""SMTP as values: parsing, replies, and the protocol engine, without I/O.

Everything public is named here; the modules are where it lives.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from smtp_protocol.addresses import AddressSyntax, parse_forward_path, parse_reverse_path
from smtp_protocol.answers import Answer, replies_from, reply_from, worst_reply
from smtp_protocol.auth import (
    MISSING,
    Ask,
    AuthResult,
    Challenge,
    Finished,
    LoginPassword,
    Mechanism,
    Missing,
    Step,
    auth_mechanism,
)
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
from smtp_protocol.config import BareNewline, ProtocolConfig
from smtp_protocol.connection import ServerConnection
from smtp_protocol.events import (
    NEED_DATA,
    PAUSED,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    Connected,
    ConnectionClosed,
    Event,
    Refused,
    Signal,
)
from smtp_protocol.extensions import ALL_EXTENSIONS, ehlo_keywords
from smtp_protocol.handler import (
    AnyHandler,
    BodyAborted,
    Handler,
    HandlesAUTH,
    HandlesCONNECT,
    HandlesDATA,
    HandlesDISCONNECT,
    HandlesEHLO,
    HandlesException,
    HandlesEXPN,
    HandlesHELO,
    HandlesHELP,
    HandlesMAIL,
    HandlesNOOP,
    HandlesPROXY,
    HandlesQUIT,
    HandlesRCPT,
    HandlesRSET,
    HandlesSTARTTLS,
    HandlesSTREAM,
    HandlesVRFY,
    Server,
)
from smtp_protocol.hooks import Hooks
from smtp_protocol.life import HasLife
from smtp_protocol.mailboxes import canonical_mailbox
from smtp_protocol.networks import client_network, unmapped
from smtp_protocol.options import (
    Body,
    DeliverBy,
    MailOptions,
    Notify,
    OriginalRecipient,
    RcptOptions,
    RequireRecipientValidSince,
)
from smtp_protocol.parameters import Parameter
from smtp_protocol.parser import parse_command
from smtp_protocol.proxy_header import ProxyData, ProxyHeaderError, ProxyHeaderReader
from smtp_protocol.replies import EnhancedStatus, ProtocolError, Reply
from smtp_protocol.reply_reader import ReplyReader
from smtp_protocol.session import Envelope, Peer, Recipient, Session, TLSInfo
from smtp_protocol.state import State
from smtp_protocol.stuffing import DotStuffer
from smtp_protocol.version import __version__
from smtp_protocol.xclient import ClientAttributes

if TYPE_CHECKING:
    from smtp_protocol.sasl import (
        MECHANISMS,
        Anonymous,
        CramMD5Response,
        ExternalIdentity,
        OAuthToken,
        ScramKeys,
        ScramLogin,
        ScramSHA1,
        ScramSHA256,
    )
    from smtp_protocol.serving import HandlerConnection

__all__ = [
    "ALL_EXTENSIONS",
    "MECHANISMS",
    "MISSING",
    "NEED_DATA",
    "PAUSED",
    "AddressSyntax",
    "Anonymous",
    "Answer",
    "AnyHandler",
    "Ask",
    "Auth",
    "AuthResponse",
    "AuthResult",
    "BareNewline",
    "Bdat",
    "Body",
    "BodyAborted",
    "BodyChunk",
    "BodyEnd",
    "Challenge",
    "ClientAttributes",
    "Command",
    "Connected",
    "ConnectionClosed",
    "CramMD5Response",
    "Data",
    "DeliverBy",
    "DotStuffer",
    "Ehlo",
    "EnhancedStatus",
    "Envelope",
    "Event",
    "Expn",
    "ExternalIdentity",
    "Finished",
    "Handler",
    "HandlerConnection",
    "HandlesAUTH",
    "HandlesCONNECT",
    "HandlesDATA",
    "HandlesDISCONNECT",
    "HandlesEHLO",
    "HandlesEXPN",
    "HandlesException",
    "HandlesHELO",
    "HandlesHELP",
    "HandlesMAIL",
    "HandlesNOOP",
    "HandlesPROXY",
    "HandlesQUIT",
    "HandlesRCPT",
    "HandlesRSET",
    "HandlesSTARTTLS",
    "HandlesSTREAM",
    "HandlesVRFY",
    "HasLife",
    "Helo",
    "Help",
    "Hooks",
    "Lhlo",
    "LoginPassword",
    "Mail",
    "MailOptions",
    "Mechanism",
    "Missing",
    "Noop",
    "Notify",
    "OAuthToken",
    "OriginalRecipient",
    "Parameter",
    "Peer",
    "ProtocolConfig",
    "ProtocolError",
    "ProxyData",
    "ProxyHeaderError",
    "ProxyHeaderReader",
    "Quit",
    "Rcpt",
    "RcptOptions",
    "Recipient",
    "Refused",
    "Reply",
    "ReplyReader",
    "RequireRecipientValidSince",
    "Rset",
    "ScramKeys",
    "ScramLogin",
    "ScramSHA1",
    "ScramSHA256",
    "Server",
    "ServerConnection",
    "Session",
    "Signal",
    "StartTls",
    "State",
    "Step",
    "TLSInfo",
    "Unknown",
    "Vrfy",
    "Xclient",
    "Xforward",
    "__version__",
    "auth_mechanism",
    "canonical_mailbox",
    "client_network",
    "ehlo_keywords",
    "parse_command",
    "parse_forward_path",
    "parse_reverse_path",
    "replies_from",
    "reply_from",
    "unmapped",
    "worst_reply",
]

# What few programs need, and takes long to import: `HandlerConnection`, for those who serve without
# smtp_server, and the mechanisms of AUTH, for cryptography. All public names that are not here yet
# are in one of these.
_LATER = (f"{__name__}.serving", f"{__name__}.sasl")

if not TYPE_CHECKING:  # to which every name would then seem to be here

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = next(module for module in map(import_module, _LATER) if name in module.__all__)
        value = globals()[name] = getattr(home, name)
        return value
