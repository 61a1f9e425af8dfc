"""Target: one input: a session, a header, a reply, an exchange, a line or a path.

The first octet says which, the next five what settings and choices there are; the rest is what
the peer says. Whatever is not a documented error is a finding.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from random import Random

from tests.fuzz.corpus import PREFIX
from tests.fuzz.session import check, check_mailbox, check_values, config_from, segments_of

from smtp_protocol import (
    MECHANISMS,
    AddressSyntax,
    Ask,
    AuthResult,
    Challenge,
    Finished,
    Mail,
    ProtocolError,
    ProxyHeaderError,
    ProxyHeaderReader,
    Rcpt,
    RcptOptions,
    ReplyReader,
    ScramKeys,
    parse_command,
    parse_forward_path,
    parse_reverse_path,
)

__all__ = ["one_input"]

# Between what is said before TLS and what is said inside.
_PHASE = b"\xfe\xfd"


def one_input(data: bytes) -> None:
    """Try one input.

    Raises:
        Exception: A finding.
    """
    if len(data) < PREFIX:
        return
    kind, number, seed, flags = data[0], data[1] + 256 * data[2], data[3], data[4]
    _KINDS[kind % len(_KINDS)](data[PREFIX:], number, seed + 256 * data[5], flags)


def _session(text: bytes, number: int, seed: int, flags: int) -> None:
    def sizes() -> Iterator[int]:
        random = Random(seed)
        while True:
            yield random.choice([0, 1, 1, 2, 3, 7, 50])

    check(
        text.split(_PHASE),
        config_from(number),
        seed,
        sizes,
        tls=bool(flags & 1),
        trusted=bool(flags & 2),
    )


def _same(text: bytes, seed: int, read: Callable[[Iterator[bytes]], object]) -> None:
    random = Random(seed)
    sizes = iter(lambda: random.randint(0, 9), -1)
    assert read(iter([text])) == read(segments_of(text, sizes))


def _header(text: bytes, number: int, seed: int, flags: int) -> None:
    def read(segments: Iterator[bytes]) -> object:
        reader = ProxyHeaderReader()
        try:
            for segment in segments:
                assert reader.wanted > 0
                data = reader.receive_data(segment)
                if data is not None:
                    return data, reader.rest + b"".join(segments)
        except ProxyHeaderError:
            return "refused"
        return None

    _same(text, seed, read)


def _reply(text: bytes, number: int, seed: int, flags: int) -> None:
    def read(segments: Iterator[bytes]) -> object:
        reader = ReplyReader()
        found: list[object] = []
        try:
            for segment in segments:
                reader.receive_data(segment)
                while (reply := reader.next_reply()) is not None:
                    found.append(reply)
                    assert type(reply).parse(str(reply)) is not None
                    reply.encode(enhanced=True).decode("ascii")
                    reply.encode(utf8=True).decode()
        except ValueError:
            found.append("refused")
        return found

    _same(text, seed, read)


_KEYS = ScramKeys.from_password("tanstaaf", salt=b"salt", iterations=1)


def _exchange(text: bytes, number: int, seed: int, flags: int) -> None:
    mechanism = MECHANISMS[[*MECHANISMS][number % len(MECHANISMS)]]()
    first, *responses = text.split(b"\n")
    result = AuthResult(success=bool(flags & 1), auth_data=_KEYS)
    with suppress(ProtocolError):
        step = mechanism.start(first or None)
        while responses or not isinstance(step, Challenge):
            match step:
                case Ask(auth_data):
                    _check_names(auth_data)
                    step = mechanism.resolve(result)
                case Challenge():
                    step = mechanism.respond(responses.pop(0))
                case Finished():
                    return


def _check_names(auth_data: object) -> None:
    assert is_dataclass(auth_data)
    assert not isinstance(auth_data, type)
    values = asdict(auth_data)
    for name in ("login", "authzid", "trace", "token"):
        assert not any(octet < 32 or octet == 127 for octet in values.get(name, b"")), values
        assert len(values.get(name, b"")) <= 1020 or name == "token"
    assert not {*b"\r\n\0"} & {*values.get("password", b"")}


_SYNTAXES: tuple[AddressSyntax, ...] = ("strict", "lenient", "local")


def _path(text: bytes, number: int, seed: int, flags: int) -> None:
    path = text.decode("utf-8", "replace")
    for parse in (parse_reverse_path, parse_forward_path):
        taken: tuple[str, str] | None = None
        for syntax in _SYNTAXES:
            try:
                mailbox, rest = parse(path, syntax)
            except ValueError:
                assert taken is None, "what is strict is lenient, and what is lenient local"
                continue
            assert taken is None or taken == (mailbox, rest)
            taken = mailbox, rest
            assert path.endswith(rest)
            assert mailbox in path
            check_values(Rcpt(mailbox, RcptOptions()))
            check_mailbox(mailbox)
            if 0 < len(mailbox) < 250:  # with brackets it may be too long
                assert parse(f"<{mailbox}>", syntax) == (mailbox, "")


def _line(text: bytes, number: int, seed: int, flags: int) -> None:
    config = config_from(number)
    try:
        command = parse_command(text, config)
    except ProtocolError as error:
        error.reply.encode(enhanced=True).decode("ascii")
        return
    check_values(command)
    if isinstance(command, Mail | Rcpt) and command.options:
        # What the options say, says the same again.
        verb = b"MAIL FROM:<a@b> " if isinstance(command, Mail) else b"RCPT TO:<a@b> "
        again = parse_command(verb + " ".join(command.options).encode(), config)
        assert isinstance(again, Mail | Rcpt)
        assert (list(again.options), vars(again.options)) == (
            list(command.options),
            vars(command.options),
        )


_KINDS = (_session, _header, _reply, _exchange, _line, _path)
