"""Extensions: which there are, and what EHLO says of those that are on (RFC 5321 §2.2)."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from smtp_protocol import grammar
from smtp_protocol.config import ProtocolConfig
from smtp_protocol.xclient import XCLIENT_NAMES, XFORWARD_NAMES

__all__ = ["ALL_EXTENSIONS", "check_extensions", "ehlo_keywords"]

#: Every extension that a server can switch on by name, in the order in which EHLO shows them.
ALL_EXTENSIONS = (
    "PIPELINING",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "REQUIRETLS",
    "LIMITS",
    "DELIVERBY",
    "MT-PRIORITY",
    "RRVS",
    "FUTURERELEASE",
)


def check_extensions(names: Collection[str]) -> None:
    """See that every name is one of `ALL_EXTENSIONS`.

    Raises:
        ValueError: One is not, and the error names the nearest; or one needs another.
    """
    if isinstance(names, str):
        raise ValueError(f"extensions is a collection of names; write ({names!r},)")
    for name in names:
        if name not in ALL_EXTENSIONS:
            import difflib  # noqa: PLC0415 only what is wrong needs it

            nearest = difflib.get_close_matches(grammar.upper(name), ALL_EXTENSIONS, 1, 0.0)[0]
            raise ValueError(f"there is no extension {name!r}; did you mean {nearest!r}?")
    if "BINARYMIME" in names and "CHUNKING" not in names:
        # RFC 3030 §3: DATA cannot carry such a message.
        raise ValueError("the extension BINARYMIME needs CHUNKING")


def ehlo_keywords(
    config: ProtocolConfig,
    *,
    tls: bool = False,
    trusted: bool = False,
    mechanisms: Sequence[str] = (),
    now: datetime | None = None,
) -> list[str]:
    """The lines of the reply to EHLO behind the greeting, HELP being the last.

    Args:
        config: What is on.
        tls: Whether the session is inside TLS.
        trusted: Whether the peer may use XCLIENT and XFORWARD.
        mechanisms: What AUTH offers; they are not shown where AUTH cannot be used yet.
        now: The time, which FUTURERELEASE counts from.
    """
    lines = [f"SIZE {config.data_size_limit or 0}", "8BITMIME"]
    if "SMTPUTF8" in config.extensions:
        lines.append("SMTPUTF8")
    if config.starttls and not tls:
        lines.append("STARTTLS")
    if config.auth and mechanisms and (tls or not config.auth_require_tls):
        lines.append(f"AUTH {' '.join(mechanisms)}")
    lines += [
        line
        for name in ALL_EXTENSIONS
        if name in config.offered and (line := _line(name, config, tls, now))
    ]
    if trusted:
        lines += [f"XCLIENT {' '.join(XCLIENT_NAMES)}", f"XFORWARD {' '.join(XFORWARD_NAMES)}"]
    return [*lines, "HELP"]


def _line(name: str, config: ProtocolConfig, tls: bool, now: datetime | None) -> str | None:
    match name:
        case "REQUIRETLS":
            # RFC 8689 §2: only inside TLS.
            return name if tls else None
        case "LIMITS":
            # RFC 9422 §3: without a limit there is nothing to tell.
            limits = (
                ("RCPTMAX", config.rcpt_max),
                ("MAILMAX", config.mail_max),
                ("RCPTDOMAINMAX", config.rcpt_domain_max),
            )
            told = [f"{limit}={number}" for limit, number in limits if number is not None]
            return " ".join([name, *told]) if told else None
        case "FUTURERELEASE":
            # RFC 4865 §3: the longest interval in seconds, and the latest time.
            latest = (now or datetime.now(UTC)) + timedelta(seconds=config.hold_max)
            return f"{name} {config.hold_max} {latest:%Y-%m-%dT%H:%M:%SZ}"
    return name
