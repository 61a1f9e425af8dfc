"""Configuration: what one server takes and offers, decided once and shared by its connections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from smtp_protocol.addresses import ADDRESS_SYNTAXES, AddressSyntax
from smtp_protocol.options import MailOptions, RcptOptions
from smtp_protocol.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, Parameter

__all__ = ["BareNewline", "ProtocolConfig"]

BareNewline = Literal["normalize", "reject", "keep"]

# RFC 4954 §4: the responses of AUTH may be 12,288 octets long, line end apart.
MAX_AUTH_LINE = 12288 + 2

# RFC 5321 §4.5.3.1.4 asks for 512 octets, and extensions add to that (RFC 6531 §3.4, RFC 3461 §5.4,
# RFC 4954 §4, ...); this is more than all of them together.
MAX_COMMAND_LINE = 4096


_LMTP_EXTENSIONS = frozenset({"PIPELINING", "ENHANCEDSTATUSCODES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolConfig:
    """What a `ServerConnection` has to know.

    Args:
        data_size_limit: The largest message, in octets as the handler gets them; ``None`` or 0
            means no limit (RFC 1870).
        extensions: EHLO keywords of the extensions that are on beyond SIZE and 8BITMIME.
        address_syntax: See `smtp_protocol.addresses`.
        bare_newline: What a CR or LF without the other is: ``"normalize"`` makes CR LF of it,
            ``"reject"`` refuses it, ``"keep"`` leaves it in the body.
        line_length_limit: The longest line of a body in octets, CR LF included (RFC 5321
            §4.5.3.1.6 knows 1,000); ``None`` means any.
        lmtp: Whether this is LMTP and not SMTP (RFC 2033).
        starttls: Whether STARTTLS can be used (RFC 3207).
        require_starttls: Whether little else can be used before it.
        auth: Whether AUTH can be used (RFC 4954).
        auth_require_tls: Whether AUTH needs TLS.
        auth_required: Whether mail can only be sent after AUTH.
        rcpt_max: The most recipients of one message; ``None`` for any number. With `mail_max`
            and `rcpt_domain_max` it is what LIMITS tells (RFC 9422).
        mail_max: The most messages of one session.
        rcpt_domain_max: The most domains among the recipients of one message.
        hold_max: The longest time in seconds that FUTURERELEASE can ask for (RFC 4865).
        own_verbs: Verbs, upper-cased, that come as `Unknown` though the parser knows them.
        mail_parameters: How each parameter of MAIL is read.
        rcpt_parameters: How each parameter of RCPT is read.

    Raises:
        ValueError: A value is not one of those above.
    """

    data_size_limit: int | None = 33554432
    extensions: frozenset[str] = frozenset()
    address_syntax: AddressSyntax = "lenient"
    bare_newline: BareNewline = "normalize"
    line_length_limit: int | None = None
    lmtp: bool = False
    starttls: bool = False
    require_starttls: bool = False
    auth: bool = False
    auth_require_tls: bool = True
    auth_required: bool = False
    rcpt_max: int | None = None
    mail_max: int | None = None
    rcpt_domain_max: int | None = None
    hold_max: int = 30 * 86400
    own_verbs: frozenset[str] = frozenset()
    mail_parameters: Mapping[str, Parameter[MailOptions]] = field(
        default_factory=lambda: MAIL_PARAMETERS
    )
    rcpt_parameters: Mapping[str, Parameter[RcptOptions]] = field(
        default_factory=lambda: RCPT_PARAMETERS
    )

    @property
    def offered(self) -> frozenset[str]:
        """The extensions that are on, with those that LMTP must have (RFC 2033 §5)."""
        return self.extensions | _LMTP_EXTENSIONS if self.lmtp else self.extensions

    def __post_init__(self) -> None:
        if self.data_size_limit is not None and self.data_size_limit < 0:
            raise ValueError(f"data_size_limit is a number of octets, not {self.data_size_limit}")
        if self.address_syntax not in ADDRESS_SYNTAXES:
            raise ValueError(
                f"address_syntax is 'lenient', 'strict' or 'local', not {self.address_syntax!r}"
            )
        if self.bare_newline not in ("normalize", "reject", "keep"):
            raise ValueError(
                f"bare_newline is 'normalize', 'reject' or 'keep', not {self.bare_newline!r}"
            )
        for name in ("rcpt_max", "mail_max", "rcpt_domain_max", "hold_max"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1, not {number}")
        if self.line_length_limit is not None and self.line_length_limit < 2:
            raise ValueError("line_length_limit is a number of octets, at least 2, for CR LF")
